//! `cargo xtask test`: the tests of the workspace, and one line that sums them up.

mod programs;
mod runner;
mod schedule;
mod selection;
pub(crate) mod tally;
mod timings;

use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::programs::{Program, Test};
use self::runner::{Finished, Runner, Verdict};
use self::schedule::Group;
use self::selection::{KERNEL_CRATE, Selection, Workspace};
use self::tally::{Reader, Tally};
use self::timings::Timings;
use crate::build_ebpf;
use crate::cargo;
use crate::process::{self, announce};
use crate::project::Project;
use crate::setup;

/// How many tests `--timings` prints.
const SLOWEST: usize = 20;

/// Run tests; the last line says `N passed, N failed`
///
/// Installs what is missing, builds what the chosen tests need, and runs each test in a process of
/// its own. Tests that compute run one per CPU, tests that wait two per CPU, and a few run alone.
/// Tests run as root: for another user they are started through sudo. The output of a failed test
/// stays in target/tests/logs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An area (`packets`, `traffic`, `vrrp`, `cli`), a crate, or a part of a test's name; several
    /// are possible
    ///
    /// An area or a crate builds only what it needs. Without one, all tests run whose name has one
    /// of the parts.
    filter: Vec<String>,
    /// Also run the long tests that are kept for the night
    #[arg(long)]
    all: bool,
    /// Print the 20 slowest tests at the end
    #[arg(long)]
    timings: bool,
    /// How many tests that wait run at the same time (default: two per CPU)
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// After how many seconds a test is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    limit: u64,
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

/// All tests of the gate.
pub(crate) fn gate(project: &Project) -> Result<Tally> {
    let args = Args {
        filter: Vec::new(),
        all: false,
        timings: false,
        jobs: None,
        limit: 300,
        arguments: Vec::new(),
    };
    test(project, &args)
}

fn test(project: &Project, args: &Args) -> Result<Tally> {
    let workspace = Workspace::read(project)?;
    let selection = Selection::new(&workspace, &args.filter);
    let begin = Instant::now();
    if programs::need_objects(&workspace, &selection) {
        setup::ensure(project, &[setup::Group::Build, setup::Group::Test])?;
        build_ebpf::build(project)?;
    }
    let building = process::step("building the tests", "about three minutes the first time", || {
        programs::build(project, &workspace, &selection)
    });
    let programs = match building {
        Ok(programs) => programs,
        Err(error) => {
            announce(format_args!("counted as one failure: {error:#}"));
            return Ok(Tally::one(false));
        }
    };
    let built = begin.elapsed();
    let mut run = Run::new(project, args, &workspace, &selection)?;
    let mut tests = Vec::new();
    for program in &programs {
        tests.extend(programs::tests(program)?);
    }
    if let Some(stale) = schedule::stale(&programs, &tests).next() {
        bail!("xtask/src/test/schedule.rs has a rule for {stale:?}, but no test has that name");
    }
    let outcome = run.tests(tests);
    if selection.everything && selection.names.is_empty() {
        run.tally.add(&examples(project)?);
    }
    run.finish(args.timings);
    outcome?;
    if run.tally == Tally::default() {
        announce("counted as one failure: no test fits; areas are packets, traffic, vrrp and cli");
        return Ok(Tally::one(false));
    }
    announce(format_args!(
        "built in {} s, tested in {} s",
        built.as_secs(),
        (begin.elapsed() - built).as_secs()
    ));
    Ok(run.tally)
}

/// The examples in documentation comments.
fn examples(project: &Project) -> Result<Tally> {
    announce("running the examples in documentation comments");
    let mut command = cargo::host(project, "test");
    command
        .args(["--doc", "--workspace", "--exclude", KERNEL_CRATE, "--no-fail-fast"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut reader = Reader::default();
    text.lines().for_each(|line| reader.read(line));
    let tally = reader.finish(output.status.success());
    if tally.failed > 0 {
        println!("{text}");
    }
    Ok(tally)
}

/// A run of the chosen tests.
struct Run<'a> {
    args: &'a Args,
    workspace: &'a Workspace,
    selection: &'a Selection,
    runner: Runner,
    timings: Timings,
    tally: Tally,
    finished: Vec<Finished>,
}

impl<'a> Run<'a> {
    fn new(project: &Project, args: &'a Args, workspace: &'a Workspace, selection: &'a Selection) -> Result<Self> {
        let folder = project.target().join("tests");
        Ok(Self {
            args,
            workspace,
            selection,
            runner: Runner::new(project, &folder, Duration::from_secs(args.limit), args)?,
            timings: Timings::read(&folder),
            tally: Tally::default(),
            finished: Vec::new(),
        })
    }

    /// Runs the chosen ones among these tests, group by group.
    fn tests(&mut self, tests: Vec<Test<'_>>) -> Result<()> {
        let mut groups = [Group::Compute, Group::Network, Group::Alone].map(|group| (group, Vec::new()));
        for test in tests {
            if !self.selection.includes(&test.name) {
                continue;
            }
            if self.skips(&test) {
                self.tally.skipped += 1;
                continue;
            }
            let group = schedule::group(&test, self.is_area(test.program));
            let (_, tests) = groups
                .iter_mut()
                .find(|(known, _)| *known == group)
                .expect("all groups are listed");
            tests.push(test);
        }
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        for (group, mut tests) in groups {
            tests.sort_by_key(|test| std::cmp::Reverse(self.timings.expected(&test.id())));
            let width = match (group, self.args.jobs) {
                (Group::Network, Some(jobs)) => jobs.max(1),
                _ => group.width(cpus),
            };
            if !tests.is_empty() {
                announce(format_args!("{} tests, {width} at a time", tests.len()));
                let (args, timings, tally, finished) =
                    (self.args, &mut self.timings, &mut self.tally, &mut self.finished);
                self.runner.run(tests, width, |test| {
                    report(&test, args);
                    tally.add(&sum(&test.verdict));
                    timings.record(test.id.clone(), test.time);
                    finished.push(test);
                })?;
            }
        }
        Ok(())
    }

    /// Whether a chosen test does not run: it is marked `#[ignore]`, or is kept for the night.
    fn skips(&self, test: &Test<'_>) -> bool {
        let has = |flag: &str| self.args.arguments.iter().any(|argument| argument == flag);
        if test.ignored {
            !(has("--ignored") || has("--include-ignored"))
        } else {
            has("--ignored") || (schedule::is_nightly(test) && !self.args.all)
        }
    }

    fn is_area(&self, program: &Program) -> bool {
        let packages = &self.workspace.packages;
        packages.iter().any(|package| package.areas.contains(&program.label))
    }

    /// Keeps the times, and names what failed or was slow.
    fn finish(&mut self, timings: bool) {
        self.timings.write();
        if timings {
            self.finished.sort_by_key(|test| std::cmp::Reverse(test.time));
            println!("\nthe slowest tests:");
            for test in self.finished.iter().take(SLOWEST) {
                println!("{:8.2} s  {}", test.time.as_secs_f64(), test.id);
            }
        }
        for test in self.finished.iter().filter(|test| test.verdict == Verdict::Failed) {
            println!("failed: {} (see {})", test.id, test.log.display());
        }
    }
}

/// Prints what became of a test, and what it printed when that is of interest.
fn report(test: &Finished, args: &Args) {
    let (word, remark) = match &test.verdict {
        Verdict::Passed => ("ok", String::new()),
        Verdict::Skipped(reason) => ("skipped", format!(" ({reason})")),
        Verdict::Failed => ("FAILED", String::new()),
    };
    println!("{word:<7} {:7.2} s  {}{remark}", test.time.as_secs_f64(), test.id);
    if test.verdict == Verdict::Failed || args.arguments.iter().any(|argument| argument == "--nocapture") {
        println!("{}", test.output);
    }
}

fn sum(verdict: &Verdict) -> Tally {
    match verdict {
        Verdict::Passed => Tally::one(true),
        Verdict::Failed => Tally::one(false),
        Verdict::Skipped(_) => Tally {
            skipped: 1,
            ..Tally::default()
        },
    }
}
