//! Which positions may be committed without looking after single records: see `peers/epochs.py`.

use std::collections::VecDeque;

struct Epoch<P> {
    begun_at: P,
    pending: usize,
}

/// Requests by the second of reading they were first seen in.
pub struct Epochs<P> {
    epochs: VecDeque<Epoch<P>>,
    /// Number of the oldest.
    first: u64,
}

impl<P> Epochs<P> {
    pub fn new(positions: P) -> Self {
        Self { epochs: VecDeque::from([Epoch { begun_at: positions, pending: 0 }]), first: 0 }
    }

    /// A request was seen for the first time; returns its epoch.
    pub fn open(&mut self) -> u64 {
        self.epochs.back_mut().expect("an epoch").pending += 1;
        self.first + self.epochs.len() as u64 - 1
    }

    /// A request of `epoch` is answered.
    pub fn close(&mut self, epoch: u64) {
        self.epochs[(epoch - self.first) as usize].pending -= 1;
    }

    /// Begin an epoch at `positions`; returns those that are safe.
    pub fn turn(&mut self, positions: P) -> &P {
        self.epochs.push_back(Epoch { begun_at: positions, pending: 0 });
        while self.epochs.len() > 1 && self.epochs[0].pending == 0 {
            self.epochs.pop_front();
            self.first += 1;
        }
        &self.epochs[0].begun_at
    }
}
