//! Retransmitted SYNs without a reply: the program sends them to another backend
//! after a while.
//!
//! The model's times are not the program's to the microsecond, so that there is a span between "not
//! yet" and "by now".

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Entry, Flow, Key, Model};

/// What comes sooner after the last packet may not go elsewhere.
const NOT_YET: Duration = Duration::from_millis(100);
/// What comes later must, where its backend answered nobody meanwhile.
pub const BY_NOW: Duration = Duration::from_millis(450);

/// When things happened.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// The client's last packet of each flow.
    packets: HashMap<Key, Instant>,
    /// The last SYN that each backend answered.
    answers: HashMap<u32, Instant>,
}

impl Times {
    /// A client's packet came.
    pub(super) fn packet(&mut self, key: Key) {
        self.packets.insert(key, Instant::now());
    }

    /// A backend answered a SYN.
    pub(super) fn answered(&mut self, backend: u32) {
        self.answers.insert(backend, Instant::now());
    }
}

impl Model {
    /// Whether the SYN of an opening flow, which came again, went to another backend.
    ///
    /// # Errors
    ///
    /// Why it should not have, or should.
    pub(super) fn went_elsewhere(&self, key: &Key, flow: &Flow, entry: &Entry) -> Result<bool, String> {
        let Some(backend) = self.backend(flow) else {
            return Err(format!("a backend of {key:?}"));
        };
        let last = self.times.packets.get(key).copied();
        let silence = last.map_or(Duration::ZERO, |last| last.elapsed());
        if entry.worker != backend.address.ip() {
            return if silence < NOT_YET {
                Err(format!("{key:?} to stay with its backend for {silence:?}"))
            } else {
                Ok(true)
            };
        }
        let mut others = self.services[flow.service].up();
        let has_other = others.any(|other| other.id != flow.backend);
        let answer = self.times.answers.get(&flow.backend);
        let answered = answer.is_some_and(|answer| last.is_some_and(|last| *answer + NOT_YET > last));
        if has_other && !answered && silence > BY_NOW {
            return Err(format!("{key:?} to another backend after {silence:?}"));
        }
        Ok(false)
    }
}
