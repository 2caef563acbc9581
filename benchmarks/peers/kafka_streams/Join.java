import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Joins by request id in a state store. */
final class Join implements Processor<String, Records.Prediction, String, Records.Fused> {
  static final String STORE = "pending";

  private ProcessorContext<String, Records.Fused> context;
  private KeyValueStore<String, Pending> store;

  @Override
  public void init(ProcessorContext<String, Records.Fused> context) {
    this.context = context;
    store = context.getStateStore(STORE);
  }

  @Override
  public void process(Record<String, Records.Prediction> record) {
    Pending pending = store.get(record.key());
    if (pending == null) {
      pending = new Pending();
    }
    int k = record.value().index();
    if (pending.outputs[k] != null) {
      return;
    }
    pending.outputs[k] = record.value().output;
    pending.answered++;
    if (pending.answered < Records.MEMBERS) {
      store.put(record.key(), pending);
      return;
    }
    store.delete(record.key());
    context.forward(record.withValue(Records.fuse(record.key(), pending.outputs)));
  }
}
