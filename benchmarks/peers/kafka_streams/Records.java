import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** Predictions, fused records, and their JSON. */
final class Records {
  static final int MEMBERS = 4;
  static final int CLASSES = 3;
  private static final double[] WEIGHTS = {.1, .2, .3, .4};
  private static final String[] NAMES = {"a", "b", "c"};
  private static final ObjectMapper JSON = new ObjectMapper();

  @JsonIgnoreProperties(ignoreUnknown = true)
  static final class Prediction {
    public String member;
    public double[] output;

    /** {@code m2} is 2. */
    int index() {
      return member.charAt(1) - '0';
    }
  }

  static final class Fused {
    public String request_id;
    public String status = "complete";
    public double[] output = new double[CLASSES];
    public String label;
    public Map<String, double[]> components = new LinkedHashMap<>();
    public int weights_version = 1;
  }

  /** The weighted mean of one request's outputs. */
  static Fused fuse(String requestId, double[][] outputs) {
    Fused fused = new Fused();
    fused.request_id = requestId;
    for (int k = 0; k < MEMBERS; k++) {
      fused.components.put("m" + k, outputs[k]);
      for (int c = 0; c < CLASSES; c++) {
        fused.output[c] += WEIGHTS[k] * outputs[k][c];
      }
    }
    int best = 0;
    for (int c = 1; c < CLASSES; c++) {
      if (fused.output[c] > fused.output[best]) {
        best = c;
      }
    }
    fused.label = NAMES[best];
    return fused;
  }

  static <T> Serde<T> json(Class<T> type) {
    ObjectReader reader = JSON.readerFor(type);
    ObjectWriter writer = JSON.writerFor(type);
    return Serdes.serdeFrom((topic, value) -> write(writer, value), (topic, bytes) -> read(reader, bytes));
  }

  private static byte[] write(ObjectWriter writer, Object value) {
    try {
      return value == null ? null : writer.writeValueAsBytes(value);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static <T> T read(ObjectReader reader, byte[] bytes) {
    try {
      return bytes == null ? null : reader.readValue(bytes);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
