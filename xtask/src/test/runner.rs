//! Runs tests, each in a process of its own, several at a time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::programs::Test;
use super::tally::SKIPPED;
use crate::process;
use crate::project::Project;

/// Set for tests that take longer at night.
const NIGHTLY: &str = "LBD_NIGHTLY";

/// What became of a test.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    /// The test says that this machine cannot run it, and why.
    Skipped(String),
    Failed,
}

/// A test that has run.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) id: String,
    pub(super) verdict: Verdict,
    pub(super) time: Duration,
    /// What it printed, on both streams.
    pub(super) output: String,
    /// Where that is kept after a failure.
    pub(super) log: PathBuf,
}

/// How tests are started.
#[derive(Debug)]
pub(super) struct Runner {
    /// The words before the test program: sudo where it is needed, and the time limit.
    prefix: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    /// Further arguments of the test program.
    arguments: Vec<String>,
    logs: PathBuf,
    limit: Duration,
}

impl Runner {
    /// Tests run as root, through sudo for another user. A test that takes longer than `limit` is
    /// killed.
    ///
    /// # Errors
    ///
    /// When root cannot be had, or the folder of the logs cannot be made.
    pub(super) fn new(project: &Project, folder: &Path, limit: Duration, args: &super::Args) -> Result<Self> {
        let mut prefix: Vec<OsString> = Vec::new();
        if !process::is_root() {
            prefix.push("sudo".into());
            prefix.extend(process::sudo_flags()?.iter().map(OsString::from));
            prefix.push("-E".into());
        }
        prefix.extend(["timeout", "--foreground", "--signal=KILL"].map(OsString::from));
        prefix.push(limit.as_secs().to_string().into());
        let logs = folder.join("logs");
        if logs.exists() {
            fs::remove_dir_all(&logs).with_context(|| format!("cannot empty {}", logs.display()))?;
        }
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let mut environment = vec![
            ("LBD_BIN_DIR", project.debug().into()),
            ("LBD_BPF_DIR", project.objects().into()),
            ("PATH", process::search_path(&[])),
        ];
        if args.all {
            environment.push((NIGHTLY, "1".into()));
        }
        Ok(Self {
            prefix,
            environment,
            arguments: args.arguments.clone(),
            logs,
            limit,
        })
    }

    /// Runs the tests, `width` at a time, in the given order. Calls `report` for each as soon as it
    /// ends.
    ///
    /// # Errors
    ///
    /// When a test cannot be started.
    pub(super) fn run(&self, tests: Vec<Test<'_>>, width: usize, mut report: impl FnMut(Finished)) -> Result<()> {
        let queue = Mutex::new(VecDeque::from(tests));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        thread::scope(|scope| {
            let (sender, results) = mpsc::channel();
            for _ in 0..width {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    // After a failure to start a test, the receiver is gone and the workers end.
                    while let Some(test) = next()
                        && sender.send(self.run_one(&test)).is_ok()
                    {}
                });
            }
            drop(sender);
            results.into_iter().try_for_each(|result| result.map(&mut report))
        })
    }

    fn run_one(&self, test: &Test<'_>) -> Result<Finished> {
        let id = test.id();
        let log = self
            .logs
            .join(format!("{}.log", id.replace("::", ".").replace(' ', ".")));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.prefix[0]);
        command
            .args(&self.prefix[1..])
            .arg(&test.program.path)
            .args(["--exact", &test.name])
            .args(&self.arguments)
            .current_dir(&test.program.folder)
            .env("CARGO_MANIFEST_DIR", &test.program.folder)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let begin = Instant::now();
        let status = command.status().with_context(|| format!("cannot start {id}"))?;
        let time = begin.elapsed();
        let mut output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let verdict = verdict(status, &output);
        if verdict == Verdict::Failed {
            output += &self.ending(status, time);
        } else {
            // A log that stays is only litter.
            let _ = fs::remove_file(&log);
        }
        Ok(Finished {
            id,
            verdict,
            time,
            output,
            log,
        })
    }

    fn ending(&self, status: ExitStatus, time: Duration) -> String {
        if time >= self.limit {
            format!("\nkilled: it took longer than {} s\n", self.limit.as_secs())
        } else {
            format!("\nended with {status}\n")
        }
    }
}

/// A test counts as passed only if its program says that it ran and passed: a process may also end
/// with status 0 before that.
fn verdict(status: ExitStatus, output: &str) -> Verdict {
    if !status.success() {
        return Verdict::Failed;
    }
    if let Some(reason) = output.lines().find_map(|line| line.strip_prefix(SKIPPED)) {
        return Verdict::Skipped(reason.to_owned());
    }
    let result = output
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("test result: ok. "));
    match result {
        Some(result) if result.starts_with("1 passed; 0 failed") => Verdict::Passed,
        Some(result) if result.starts_with("0 passed; 0 failed; 1 ignored") => {
            Verdict::Skipped("marked with #[ignore]".to_owned())
        }
        Some(result) if result.starts_with("0 passed; 0 failed; 0 ignored") => {
            Verdict::Skipped("left out by the arguments".to_owned())
        }
        Some(_) | None => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_test_passes_fails_or_says_why_it_cannot_run() {
        for (code, output, expected) in [
            (0, "test result: ok. 1 passed; 0 failed; 0 ignored", Verdict::Passed),
            // It ended before its result.
            (0, "test a ... ok", Verdict::Failed),
            (0, "", Verdict::Failed),
            (
                0,
                "test result: ok. 0 passed; 0 failed; 1 ignored",
                Verdict::Skipped("marked with #[ignore]".to_owned()),
            ),
            (
                0,
                "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out",
                Verdict::Skipped("left out by the arguments".to_owned()),
            ),
            (
                0,
                "\nskipped: a: no module",
                Verdict::Skipped("a: no module".to_owned()),
            ),
            (101, "skipped: a: no module", Verdict::Failed),
        ] {
            assert_eq!(verdict(ExitStatus::from_raw(code << 8), output), expected, "{output}");
        }
    }
}
