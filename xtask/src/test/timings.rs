//! How long each test took, kept from run to run: slow tests are started first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Milliseconds by the name of the test.
#[derive(Debug, Default)]
pub(super) struct Timings {
    file: PathBuf,
    times: BTreeMap<String, u64>,
}

impl Timings {
    /// Reads what earlier runs took. Without a readable file, nothing is known.
    pub(super) fn read(folder: &Path) -> Self {
        let file = folder.join("timings.json");
        let text = fs::read(&file).unwrap_or_default();
        let times = serde_json::from_slice(&text).unwrap_or_default();
        Self { file, times }
    }

    /// How long the test took the last time. A new test counts as slow, so that it starts early.
    pub(super) fn expected(&self, id: &str) -> Duration {
        self.times
            .get(id)
            .map_or(Duration::MAX, |millis| Duration::from_millis(*millis))
    }

    pub(super) fn record(&mut self, id: String, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.times.insert(id, millis);
    }

    /// Writes the file. The next run only loses the order when this fails.
    pub(super) fn write(&self) {
        if let Ok(text) = serde_json::to_vec_pretty(&self.times) {
            let _ = fs::write(&self.file, text);
        }
    }
}
