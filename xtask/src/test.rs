//! `cargo xtask test`: every test of the workspace, and one line that sums them up.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::build_ebpf;
use crate::cargo;
use crate::process::{self, announce};
use crate::project::Project;
use crate::setup::{self, Group};

/// Run all tests; the last line says `N passed, N failed`
///
/// Sets up what is missing, builds the programs for the kernel, lbd and lbctl, and runs the tests of all crates. Tests
/// in network namespaces need root: for another user, test programs are started through sudo, builds are not.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only the tests whose name contains this
    filter: Option<String>,
    /// Further arguments of the test programs, such as `--nocapture` or `--ignored`
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(project: &Project, args: Args) -> Result<ExitCode> {
    let tally = test(project, &args)?;
    println!("{tally}");
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything, without a filter.
pub(crate) fn test_all(project: &Project) -> Result<Tally> {
    test(
        project,
        &Args {
            filter: None,
            arguments: Vec::new(),
        },
    )
}

fn test(project: &Project, args: &Args) -> Result<Tally> {
    setup::ensure(project, &[Group::Build, Group::Test])?;
    build_ebpf::build(project)?;
    announce("building lbd and lbctl");
    process::run(cargo::host(project, "build").args(["-p", "lb-userspace", "--bins"]))?;

    announce("running the tests");
    let mut command = cargo::host(project, "test");
    command
        .args(["--workspace", "--exclude", "lb-ebpf", "--no-fail-fast"])
        .args(&args.filter);
    if !args.arguments.is_empty() {
        command.arg("--").args(&args.arguments);
    }
    command
        .env("LBD_BIN_DIR", project.target().join("debug"))
        .env("LBD_BPF_DIR", project.objects());
    if !process::is_root() {
        let sudo = ["sudo"]
            .iter()
            .chain(process::sudo_flags()?)
            .chain(&["-E"])
            .copied()
            .collect::<Vec<_>>();
        command.env(runner_variable()?, sudo.join(" "));
    }
    let mut tests = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = tests.stdout.take().context("cargo test has no output")?;

    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what cargo test prints")?;
        let line = String::from_utf8_lossy(&line);
        tally.read(&line);
        println!("{line}");
    }
    let status = tests.wait().context("cannot wait for cargo test")?;
    if tally.finish(status.success()) {
        announce("counted as failed: a crate that does not compile, or a test program that died (see above)");
    }
    Ok(tally)
}

/// The variable that makes cargo start programs of this machine's target through another.
fn runner_variable() -> Result<String> {
    let version = process::output_of(Command::new("rustc").arg("-vV")).context("cannot start rustc")?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names no host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")))
}

/// The sum over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    skipped: u64,
    /// Tests that found out by themselves that they cannot run here, and that their program counts as passed.
    excused: u64,
    /// A test program has begun and not yet given its result.
    open: bool,
    /// Test programs that ended without a result.
    died: u64,
}

impl Tally {
    /// One thing that passed or failed.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
            ..Self::default()
        }
    }

    /// Adds another sum.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Takes one line of what the test programs print.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.skipped += count(result, "ignored");
            self.open = false;
        } else if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.died += u64::from(self.open);
            self.open = true;
        } else if line.starts_with("skipped: ") {
            self.excused += 1;
        }
    }

    /// Counts what failed without a result; returns whether there was such a thing.
    pub(crate) fn finish(&mut self, succeeded: bool) -> bool {
        let excused = std::mem::take(&mut self.excused).min(self.passed);
        self.passed -= excused;
        self.skipped += excused;
        self.died += u64::from(std::mem::take(&mut self.open));
        if self.died == 0 && self.failed == 0 && !succeeded {
            self.died = 1;
        }
        self.failed += self.died;
        self.died > 0
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
    fn the_sum_counts_every_way_to_fail() {
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
                "one says that it cannot run",
                &["running 4 tests", "skipped: a: no module", OK],
                true,
                "2 passed, 0 failed, 2 skipped",
            ),
            ("nothing compiles", &[], false, "0 passed, 1 failed"),
            ("nothing is there", &[], true, "0 passed, 0 failed"),
        ] {
            let mut tally = Tally::default();
            lines.iter().for_each(|line| tally.read(line));
            tally.finish(succeeded);
            assert_eq!(tally.to_string(), sum, "{case}");
        }
    }
}
