//! The limit: the same job by hand in Rust on librdkafka, one process. At least once, commits each second.
//! No deadlines, no check of the input, nothing against duplicates.

mod epochs;
mod record;

use std::env;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use rustc_hash::FxHashMap;

use epochs::Epochs;
use record::{Fused, Prediction, CLASSES, MEMBERS};

/// By member and partition: the next offset to read.
type Positions = FxHashMap<(usize, i32), i64>;

const ALL: u8 = (1 << MEMBERS) - 1;
const COMMIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: u32 = 1024;

/// What is not stored must not be committed.
struct Strict;

impl ClientContext for Strict {}

impl ProducerContext for Strict {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        assert!(result.is_ok(), "a record was not stored");
    }
}

/// A request that waits for members.
struct Pending {
    answered: u8,
    epoch: u64,
    outputs: [[f64; CLASSES]; MEMBERS],
}

struct Loop {
    producer: BaseProducer<Strict>,
    inputs: Vec<String>,
    output: String,
    pending: FxHashMap<Box<[u8]>, Pending>,
    read: Positions,
    epochs: Epochs<Positions>,
    buffer: Vec<u8>,
}

fn given(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn consumer(inputs: &[String]) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", given("BENCH_BOOTSTRAP"))
        .set("group.id", given("BENCH_GROUP"))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.max.bytes", "16777216")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("consumer");
    consumer.subscribe(&inputs.iter().map(String::as_str).collect::<Vec<_>>()).expect("subscription");
    consumer
}

fn producer() -> BaseProducer<Strict> {
    ClientConfig::new()
        .set("bootstrap.servers", given("BENCH_BOOTSTRAP"))
        .set("linger.ms", "5")
        .set("batch.size", "262144")
        .set("acks", "all")
        .set("queue.buffering.max.messages", "1000000")
        .create_with_context(Strict)
        .expect("producer")
}

impl Loop {
    /// Join one prediction; publish the request if it was the last.
    fn take(&mut self, message: &BorrowedMessage) {
        let key = message.key().expect("a key");
        let prediction = Prediction::read(message.payload().expect("a value"));
        let member = prediction.member_index();
        self.read.insert((member, message.partition()), message.offset() + 1);
        if !self.pending.contains_key(key) {
            let epoch = self.epochs.open();
            let waiting = Pending { answered: 0, epoch, outputs: Default::default() };
            self.pending.insert(key.into(), waiting);
        }
        let waiting = self.pending.get_mut(key).expect("just there");
        waiting.outputs[member] = prediction.output;
        waiting.answered |= 1 << member;
        if waiting.answered == ALL {
            let done = self.pending.remove(key).expect("just there");
            Fused::of(prediction.request_id, &done.outputs).write(&mut self.buffer);
            self.publish(key, message.partition());
            self.epochs.close(done.epoch);
        }
    }

    fn publish(&mut self, key: &[u8], partition: i32) {
        let record = || BaseRecord::to(&self.output).key(key).payload(&self.buffer[..]).partition(partition);
        while let Err((error, _)) = self.producer.send(record()) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "a record cannot be published");
            self.producer.poll(Duration::from_millis(5));
        }
    }

    /// Offsets that may be committed now: everything published is acknowledged.
    fn safe(&mut self) -> TopicPartitionList {
        self.producer.flush(Duration::from_secs(10)).expect("the broker acknowledges");
        let mut list = TopicPartitionList::new();
        for ((member, partition), offset) in self.epochs.turn(self.read.clone()) {
            let topic = &self.inputs[*member];
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("an offset");
        }
        list
    }
}

fn main() {
    let inputs: Vec<String> = given("BENCH_INPUTS").split(',').map(str::to_owned).collect();
    let consumer = consumer(&inputs);
    let mut work = Loop {
        inputs,
        producer: producer(),
        output: given("BENCH_OUTPUT"),
        pending: FxHashMap::default(),
        read: Positions::default(),
        epochs: Epochs::new(Positions::default()),
        buffer: Vec::with_capacity(512),
    };
    let mut turned = Instant::now();
    let mut taken = 0_u32;
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            work.take(&message.expect("a message"));
            taken += 1;
            if taken % LOOK_EVERY != 0 {
                continue;
            }
        }
        work.producer.poll(Duration::ZERO);
        if turned.elapsed() > COMMIT {
            turned = Instant::now();
            let safe = work.safe();
            if safe.count() > 0 {
                consumer.commit(&safe, CommitMode::Async).expect("a commit");
            }
        }
    }
}
