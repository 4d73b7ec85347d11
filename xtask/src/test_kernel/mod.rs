//! `cargo xtask test-kernel`: does the program load on another kernel, and does it forward there?

mod archive;
mod kernels;
mod machine;
mod modules;
mod packages;
mod payload;
mod steps;
mod transcript;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::kernels::{DEFAULT, KNOWN, Kernel};
use self::machine::{Ended, Machine, Qemu};
use self::payload::Userland;
use self::steps::Plan;
use self::transcript::{Transcript, Verdict};
use crate::build_ebpf;
use crate::process::announce;
use crate::project::Project;
use crate::setup::{self, Group};
use crate::test::tally::Tally;

/// Load the program and run tests on other kernels, in virtual machines
///
/// Boots kernels of Debian in QEMU. Needs neither root nor virtualisation. Downloads kernels, QEMU
/// and busybox from the package sources of this machine and unpacks them into target/vm; installs
/// nothing. Prints for each kernel the number of verified instructions and the results of the
/// tests. The last line is `N passed, N failed`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Beginnings of versions, such as `6.12`, or `newest` [default: the oldest supported and the
    /// newest]
    #[arg(value_name = "VERSION")]
    versions: Vec<String>,
    /// Only print the known kernels, and which of them are downloaded
    #[arg(long)]
    list: bool,
    /// Download newer packages of kernels
    #[arg(long)]
    update: bool,
    /// Another source of Debian's packages than that of this machine
    #[arg(long, value_name = "URI")]
    mirror: Option<String>,
    /// Only load the program, without tests: takes seconds
    #[arg(long)]
    only_load: bool,
    /// Kill a virtual machine after this many seconds
    #[arg(long, value_name = "N", default_value_t = 1800)]
    timeout: u64,
}

/// A headline about a kernel, and the results of its steps.
type Report = (String, Vec<Verdict>);

pub(crate) fn run(project: &Project, args: Args) -> Result<ExitCode> {
    let machines = project.target().join("vm");
    if args.list {
        list(&machines);
        return Ok(ExitCode::SUCCESS);
    }
    setup::ensure(project, &[Group::Build, Group::Test, Group::Kernels])?;
    let bench = Bench::prepare(project, machines, &args)?;
    let versions = if args.versions.is_empty() {
        DEFAULT.map(str::to_owned).to_vec()
    } else {
        args.versions.clone()
    };
    let mut sum = Tally::default();
    let mut report = String::new();
    for version in &versions {
        let (headline, verdicts) = bench.run_steps(version, &args).unwrap_or_else(|error| {
            let verdict = Verdict::failed("machine", &format!("{error:#}"));
            (format!("kernel {version}"), vec![verdict])
        });
        report += &headline;
        report.push('\n');
        for verdict in verdicts {
            let word = if verdict.has_passed() { "pass" } else { "FAIL" };
            report += &format!("  {word}  {:<13} {}\n", verdict.name, verdict.remark);
            sum.add(&verdict.tally);
        }
    }
    println!("{report}{sum}");
    Ok(if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the kernels of the list.
fn list(machines: &Path) {
    println!("{:<8} {:<18} {:<28} EXPECTED", "VERSION", "SUITE", "HERE");
    for known in KNOWN {
        let here = Kernel::unpacked(machines, known.version).map_or_else(|| "-".to_owned(), |kernel| kernel.release);
        let expected = known
            .refuses
            .map_or("passes".to_owned(), |reason| format!("refuses: {reason}"));
        let default = if DEFAULT.contains(&known.version) {
            " (default)"
        } else {
            ""
        };
        println!(
            "{:<8} {:<18} {here:<28} {expected}{default}",
            known.version, known.suite
        );
    }
}

/// What all machines share.
struct Bench {
    machines: PathBuf,
    qemu: Qemu,
    userland: Userland,
}

impl Bench {
    fn prepare(project: &Project, machines: PathBuf, args: &Args) -> Result<Self> {
        for folder in ["kernels", "runs"] {
            let folder = machines.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mirror = args.mirror.as_deref();
        let qemu = Qemu::obtain(&machines, mirror)?;
        let busybox = payload::busybox(&machines, mirror)?;
        build_ebpf::build(project)?;
        announce("building what runs in the machines");
        let programs = payload::build(project, !args.only_load)?;
        let userland = Userland::collect(&machines, &busybox, &programs)?;
        Ok(Self {
            machines,
            qemu,
            userland,
        })
    }

    /// Runs the steps on one kernel.
    fn run_steps(&self, version: &str, args: &Args) -> Result<Report> {
        let kernel = match Kernel::unpacked(&self.machines, version).filter(|_| !args.update) {
            Some(kernel) => kernel,
            None => Kernel::obtain(&self.machines, version, args.mirror.as_deref())?,
        };
        let refuses = kernels::known(version).is_some_and(|known| known.refuses.is_some());
        let plan = Plan {
            tests: !refuses && !args.only_load,
            refuses,
        };
        let run = |end: &str| self.machines.join("runs").join(format!("{}.{end}", kernel.release));
        let (files, log) = (run("initrd"), run("log"));
        self.userland.write(&kernel, plan, &files)?;

        announce(format_args!(
            "booting {}; its output goes to {}",
            kernel.release,
            log.display()
        ));
        let mut transcript = Transcript::default();
        let mut file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let begin = Instant::now();
        let machine = Machine {
            qemu: &self.qemu,
            kernel: &kernel.image(),
            files: &files,
            console: &run("console"),
        };
        let ended = machine.run(Duration::from_secs(args.timeout), |line| {
            // The report does not depend on the log.
            let _ = writeln!(file, "{line}");
            eprintln!("  {version} | {line}");
            transcript.read(line);
        })?;
        let took = begin.elapsed().as_secs();
        let how = match ended {
            Ended::Late => format!("killed after {took} s"),
            Ended::ByItself if transcript.is_done() => format!("{took} s"),
            Ended::ByItself => format!("ended early after {took} s, see {}", machine.console.display()),
        };
        let release = transcript.kernel.as_deref().unwrap_or("did not boot");
        Ok((format!("kernel {version}: {release}, {how}"), transcript.verdicts(plan)))
    }
}
