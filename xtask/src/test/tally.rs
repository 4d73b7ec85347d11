//! The sum of tests that the last line prints: passed, failed, skipped.

use std::fmt;

/// What begins the line with which a test says that it cannot run on this machine.
pub(crate) const SKIPPED: &str = "skipped: ";

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    /// One thing that passed or failed.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
            skipped: 0,
        }
    }

    /// Adds another sum.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)
        } else {
            Ok(())
        }
    }
}

/// Sums up what test programs of libtest print, line by line. Counts programs that end without a
/// result.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    tally: Tally,
    /// Tests that cannot run here. They return early, so their program counts them as passed.
    excused: u64,
    /// A test program has begun and has not printed its result yet.
    open: bool,
    /// Test programs that ended without a result.
    died: u64,
}

impl Reader {
    /// Reads one line.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.tally.passed += count(result, "passed");
            self.tally.failed += count(result, "failed");
            self.tally.skipped += count(result, "ignored");
            self.open = false;
        } else if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.died += u64::from(self.open);
            self.open = true;
        } else if line.starts_with(SKIPPED) {
            self.excused += 1;
        }
    }

    /// The sum. A program without a result, or a failure without any result, is one failed test.
    pub(crate) fn finish(mut self, succeeded: bool) -> Tally {
        let excused = self.excused.min(self.tally.passed);
        self.tally.passed -= excused;
        self.tally.skipped += excused;
        self.died += u64::from(self.open);
        if self.died == 0 && self.tally.failed == 0 && !succeeded {
            self.died = 1;
        }
        self.tally.failed += self.died;
        self.tally
    }
}

/// The number before `word` in "ok. 3 passed; 0 failed; 1 ignored; ...".
fn count(result: &str, word: &str) -> u64 {
    let words: Vec<&str> = result.split([' ', ';']).collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s";
    const BAD: &str =
        "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";

    #[test]
    fn the_sum_counts_every_kind_of_failure() {
        for (case, lines, succeeded, sum) in [
            (
                "all pass",
                &["running 4 tests", OK, "running 4 tests", OK][..],
                true,
                "6 passed, 0 failed, 2 skipped",
            ),
            (
                "some fail",
                &["running 3 tests", BAD, "running 4 tests", OK],
                false,
                "4 passed, 2 failed, 1 skipped",
            ),
            (
                "a program dies first",
                &["running 1 test", "running 3 tests", BAD],
                false,
                "1 passed, 3 failed",
            ),
            (
                "a program dies last",
                &["running 4 tests", OK, "running 1 test"],
                false,
                "3 passed, 1 failed, 1 skipped",
            ),
            (
                "one test cannot run here",
                &["running 4 tests", "skipped: a: no module", OK],
                true,
                "2 passed, 0 failed, 2 skipped",
            ),
            ("nothing compiles", &[], false, "0 passed, 1 failed"),
            ("there are no tests", &[], true, "0 passed, 0 failed"),
        ] {
            let mut reader = Reader::default();
            lines.iter().for_each(|line| reader.read(line));
            assert_eq!(reader.finish(succeeded).to_string(), sum, "{case}");
        }
    }
}
