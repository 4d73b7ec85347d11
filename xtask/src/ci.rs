//! `cargo xtask ci`: what every change has to pass.

use std::process::ExitCode;

use anyhow::Result;

use crate::lint;
use crate::project::Project;
use crate::test;

/// Run everything that a change has to pass: lint and test
///
/// The tests also run when lint fails, so that one run shows everything. The last line is `N
/// passed, N failed`.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(project: &Project, Args {}: Args) -> Result<ExitCode> {
    let lint = lint::lint(project);
    let tally = test::gate(project)?;
    if let Err(error) = &lint {
        eprintln!("error: {error:#}");
    }
    println!("{tally}");
    Ok(if lint.is_ok() && tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
