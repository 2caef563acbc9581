import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** A request that waits for members. */
final class Pending {
  final double[][] outputs = new double[Records.MEMBERS][];
  int answered;

  /** A bit a member, then the numbers of those that answered: a third of the JSON and of the time. */
  static Serde<Pending> serde() {
    return Serdes.serdeFrom((topic, value) -> write(value), (topic, bytes) -> read(bytes));
  }

  private static byte[] write(Pending pending) {
    if (pending == null) {
      return null;
    }
    ByteBuffer buffer =
        ByteBuffer.allocate(1 + pending.answered * Records.CLASSES * Double.BYTES);
    int mask = 0;
    for (int k = 0; k < Records.MEMBERS; k++) {
      mask |= pending.outputs[k] == null ? 0 : 1 << k;
    }
    buffer.put((byte) mask);
    for (double[] output : pending.outputs) {
      if (output != null) {
        for (double value : output) {
          buffer.putDouble(value);
        }
      }
    }
    return buffer.array();
  }

  private static Pending read(byte[] bytes) {
    if (bytes == null) {
      return null;
    }
    ByteBuffer buffer = ByteBuffer.wrap(bytes);
    int mask = buffer.get();
    Pending pending = new Pending();
    for (int k = 0; k < Records.MEMBERS; k++) {
      if ((mask >> k & 1) == 1) {
        double[] output = new double[Records.CLASSES];
        for (int c = 0; c < output.length; c++) {
          output[c] = buffer.getDouble();
        }
        pending.outputs[k] = output;
        pending.answered++;
      }
    }
    return pending;
  }
}
