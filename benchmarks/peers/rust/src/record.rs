//! Predictions and fused records.

use serde::{Deserialize, Serialize};

pub const MEMBERS: usize = 4;
pub const CLASSES: usize = 3;
const WEIGHTS: [f64; MEMBERS] = [0.1, 0.2, 0.3, 0.4];
const NAMES: [&str; CLASSES] = ["a", "b", "c"];

#[derive(Deserialize)]
pub struct Prediction<'a> {
    pub request_id: &'a str,
    pub member: &'a str,
    pub output: [f64; CLASSES],
}

impl<'a> Prediction<'a> {
    pub fn read(value: &'a [u8]) -> Self {
        serde_json::from_slice(value).expect("a prediction")
    }

    /// `m2` is 2.
    pub fn member_index(&self) -> usize {
        usize::from(self.member.as_bytes()[1] - b'0')
    }
}

#[derive(Serialize)]
struct Components {
    m0: [f64; CLASSES],
    m1: [f64; CLASSES],
    m2: [f64; CLASSES],
    m3: [f64; CLASSES],
}

#[derive(Serialize)]
pub struct Fused<'a> {
    request_id: &'a str,
    status: &'a str,
    output: [f64; CLASSES],
    label: &'a str,
    components: Components,
    weights_version: u32,
}

impl<'a> Fused<'a> {
    /// The weighted mean of one request's outputs.
    pub fn of(request_id: &'a str, outputs: &[[f64; CLASSES]; MEMBERS]) -> Self {
        let mut output = [0.0; CLASSES];
        for (weight, member) in WEIGHTS.iter().zip(outputs) {
            for (sum, value) in output.iter_mut().zip(member) {
                *sum += weight * value;
            }
        }
        let mut best = 0;
        for class in 1..CLASSES {
            if output[class] > output[best] {
                best = class;
            }
        }
        let [m0, m1, m2, m3] = *outputs;
        let components = Components { m0, m1, m2, m3 };
        Fused { request_id, status: "complete", output, label: NAMES[best], components, weights_version: 1 }
    }

    pub fn write(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        serde_json::to_writer(buffer, self).expect("JSON");
    }
}
