//! `cargo xtask lint`: format, warnings and layout.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::build_ebpf;
use crate::cargo;
use crate::process::{self, announce};
use crate::project::Project;
use crate::setup::{self, Group};
use crate::tidy;

/// Check format, compiler and clippy warnings, and layout
///
/// Runs `cargo fmt --check`, clippy with `-D warnings` for the host and for the kernel, and `tidy`.
/// All checks run, also when one fails. The objects for the kernel are built first, because
/// lb-userspace embeds them.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(project: &Project, Args {}: Args) -> Result<ExitCode> {
    lint(project)?;
    Ok(ExitCode::SUCCESS)
}

type Check = fn(&Project) -> Result<()>;

/// All checks.
///
/// # Errors
///
/// When a check fails. The message names every failed check.
pub(crate) fn lint(project: &Project) -> Result<()> {
    setup::ensure(project, &[Group::Build, Group::Lint])?;
    let checks: [(&str, Check); 5] = [
        ("format", format),
        ("build-ebpf", build_ebpf::build),
        ("clippy for the kernel", build_ebpf::clippy),
        ("clippy for the host", clippy),
        ("tidy", tidy::check),
    ];
    let mut complaints = Vec::new();
    for (name, check) in checks {
        announce(format_args!("lint: {name}"));
        if let Err(error) = check(project) {
            eprintln!("error: {error:#}");
            complaints.push(name);
        }
    }
    if !complaints.is_empty() {
        bail!("lint failed: {}", complaints.join(", "));
    }
    Ok(())
}

fn format(project: &Project) -> Result<()> {
    process::run(cargo::host(project, "fmt").args(["--all", "--check"])).context("run `cargo fmt` to repair this")
}

fn clippy(project: &Project) -> Result<()> {
    let mut command = cargo::host(project, "clippy");
    process::run(command.args([
        "--workspace",
        "--exclude",
        "lb-ebpf",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}
