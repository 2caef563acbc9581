import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** The job in Kafka Streams' two ways. */
final class Topologies {
  private static final List<String> INPUTS = List.of(System.getenv("BENCH_INPUTS").split(","));
  private static final String OUTPUT = System.getenv("BENCH_OUTPUT");
  private static final Serde<String> TEXT = Serdes.String();
  private static final Serde<Records.Prediction> PREDICTION = Records.json(Records.Prediction.class);
  private static final Serde<Records.Fused> FUSED = Records.json(Records.Fused.class);
  private static final Serde<double[][]> OUTPUTS = Records.json(double[][].class);
  private static final JoinWindows WINDOW =
      JoinWindows.ofTimeDifferenceWithNoGrace(Duration.ofSeconds(60));

  /** A processor with a store in memory; with {@code logged} it can be restored from its changelog. */
  static Topology processor(boolean logged) {
    StoreBuilder<KeyValueStore<String, Pending>> store =
        Stores.keyValueStoreBuilder(
            Stores.inMemoryKeyValueStore(Join.STORE), TEXT, Pending.serde());
    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(logged ? store.withLoggingEnabled(Map.of()) : store.withLoggingDisabled());
    builder
        .stream(INPUTS, Consumed.with(TEXT, PREDICTION))
        .process(Join::new, Join.STORE)
        .to(OUTPUT, Produced.with(TEXT, FUSED));
    return builder.build();
  }

  /** Three pairwise joins of streams within a minute, windows in RocksDB: what the guide leads to. */
  static Topology dsl() {
    StreamsBuilder builder = new StreamsBuilder();
    List<KStream<String, Records.Prediction>> streams =
        INPUTS.stream().map(topic -> builder.stream(topic, Consumed.with(TEXT, PREDICTION))).toList();
    KStream<String, double[][]> joined =
        streams.get(0).mapValues(prediction -> new double[][] {prediction.output});
    for (int k = 1; k < INPUTS.size(); k++) {
      joined = joined.join(streams.get(k), Topologies::with, WINDOW, stores("join-" + k));
    }
    joined.mapValues(Records::fuse).to(OUTPUT, Produced.with(TEXT, FUSED));
    return builder.build();
  }

  private static double[][] with(double[][] outputs, Records.Prediction prediction) {
    return Stream.concat(Arrays.stream(outputs), Stream.of(prediction.output)).toArray(double[][]::new);
  }

  private static StreamJoined<String, double[][], Records.Prediction> stores(String name) {
    return StreamJoined.with(TEXT, OUTPUTS, PREDICTION).withName(name).withStoreName(name);
  }
}
