//! `cargo xtask demo`, `cargo xtask bench` and `cargo xtask fuzz`: build everything, then become
//! the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::build_ebpf;
use crate::cargo;
use crate::process::{self, announce};
use crate::project::Project;
use crate::setup::{self, Group};

/// Show the balancer at work in network namespaces of this machine
///
/// Installs what is missing, builds, and runs the program `demo` with the arguments given here. For
/// example: `--seconds 10`, `--failover`, `--json`. Needs root. Standard output has only the output
/// of that program.
#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Arguments of the program; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Measure the balancer: cost per packet, scale, failover, HTTP
///
/// Installs what is missing, builds with optimisation, and runs the program `bench` with the
/// arguments given here. For example: `packets --json`. `-- --help` lists what can be measured.
/// Needs root. Standard output has only the output of that program.
#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure, such as `packets` or `http`, and further arguments; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<OsString>,
}

/// Compare the XDP program with a model of it, packet by packet
///
/// Installs what is missing, builds with optimisation, and runs the program `fuzz` with the
/// arguments given here. For example: `--seconds 60`, `--seed 1`. Needs root. When program and
/// model differ, it prints the packets that show the difference.
#[derive(clap::Args)]
pub(crate) struct FuzzArgs {
    /// Arguments of the program; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn demo(project: &Project, args: DemoArgs) -> Result<ExitCode> {
    let groups = [Group::Build, Group::Test];
    become_program(project, "demo", Profile::Dev, &groups, &args.arguments)
}

pub(crate) fn bench(project: &Project, args: BenchArgs) -> Result<ExitCode> {
    let groups = [Group::Build, Group::Test, Group::Bench];
    become_program(project, "bench", Profile::Release, &groups, &args.arguments)
}

pub(crate) fn fuzz(project: &Project, args: FuzzArgs) -> Result<ExitCode> {
    let groups = [Group::Build, Group::Test];
    become_program(project, "fuzz", Profile::Release, &groups, &args.arguments)
}

/// How a program is built.
#[derive(Clone, Copy)]
enum Profile {
    /// As tests are built: without link-time optimisation, and both share the result.
    Dev,
    /// With optimisation, for measurements.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }

    fn usually(self) -> &'static str {
        match self {
            Self::Dev => "about two minutes the first time",
            Self::Release => "about five minutes the first time",
        }
    }

    /// Where cargo puts the programs.
    fn folder(self, project: &Project) -> PathBuf {
        match self {
            Self::Dev => project.debug(),
            Self::Release => project.release(),
        }
    }
}

/// Replaces this process, so that signals and the exit code are the program's own. Returns only an
/// error.
fn become_program(
    project: &Project,
    program: &str,
    profile: Profile,
    groups: &[Group],
    arguments: &[OsString],
) -> Result<ExitCode> {
    setup::ensure(project, groups)?;
    build_ebpf::build(project)?;
    let mut build = cargo::host(project, "build");
    build.args([
        "--profile",
        profile.name(),
        "-p",
        "lb-userspace",
        "-p",
        "tests",
        "--bin",
        "lbd",
        "--bin",
        "lbctl",
        "--bin",
        program,
    ]);
    let what = format!("building lbd, lbctl and {program}");
    process::step(&what, profile.usually(), || process::run(&mut build))?;

    let folder = profile.folder(project);
    let path = folder.join(program);
    announce(format_args!("running {}", path.display()));
    let mut command = process::as_root("env")?;
    for (name, value) in [
        ("LBD_BIN_DIR", folder.into_os_string()),
        ("LBD_BPF_DIR", project.objects().into_os_string()),
        ("PATH", process::search_path(&[])),
    ] {
        let mut setting = OsString::from(name);
        setting.push("=");
        setting.push(value);
        command.arg(setting);
    }
    command.arg(&path).args(arguments);
    Err(command.exec()).with_context(|| format!("cannot start {}", path.display()))
}
