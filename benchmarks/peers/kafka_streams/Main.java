import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/**
 * The job on Kafka Streams, at least once.
 *
 * <p>Arguments: {@code processor} (changelog on), {@code processor-unlogged} or {@code dsl}; then {@code
 * throughput} or {@code latency}.
 */
public final class Main {
  private static final Duration CLOSE_LIMIT = Duration.ofSeconds(8);

  public static void main(String[] arguments) {
    Topology topology =
        switch (arguments[0]) {
          case "processor" -> Topologies.processor(true);
          case "processor-unlogged" -> Topologies.processor(false);
          case "dsl" -> Topologies.dsl();
          default -> throw new IllegalArgumentException(arguments[0]);
        };
    KafkaStreams streams = new KafkaStreams(topology, settings(arguments[1].equals("latency")));
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(CLOSE_LIMIT)));
    streams.start();
  }

  /** What the two goals share; more threads were no faster on two cores. */
  private static Properties settings(boolean latency) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("BENCH_GROUP"));
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BENCH_BOOTSTRAP"));
    settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("BENCH_FOLDER"));
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    consumer(settings, ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    producer(settings, ProducerConfig.ACKS_CONFIG, "all");
    if (latency) {
      forLatency(settings);
    } else {
      forThroughput(settings);
    }
    return settings;
  }

  private static void forThroughput(Properties settings) {
    consumer(settings, ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 5000);
    producer(settings, ProducerConfig.LINGER_MS_CONFIG, 5);
    producer(settings, ProducerConfig.BATCH_SIZE_CONFIG, 1 << 18);
  }

  /** Nothing waits: no lingering, no cache, and no waiting for the partition that has no record yet. */
  private static void forLatency(Properties settings) {
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
    settings.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, -1);
    settings.put(StreamsConfig.POLL_MS_CONFIG, 1);
    consumer(settings, ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, 5);
    producer(settings, ProducerConfig.LINGER_MS_CONFIG, 0);
  }

  private static void consumer(Properties settings, String name, Object value) {
    settings.put(StreamsConfig.consumerPrefix(name), value);
  }

  private static void producer(Properties settings, String name, Object value) {
    settings.put(StreamsConfig.producerPrefix(name), value);
  }
}
