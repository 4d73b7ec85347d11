//! `cargo xtask setup`: installs what building, testing and measuring need, or lists what is
//! missing.

mod apt;
pub(crate) mod linker;
mod needs;
mod rust;

use std::process::ExitCode;
use std::thread;

use anyhow::{Result, bail};

use self::needs::{NEEDS, Need, Source};
use crate::cargo;
use crate::process::{self, announce};
use crate::project::Project;

/// Install what building, testing and measuring need
///
/// Installs LLVM and the programs that tests and benches use, with apt-get, as root or through
/// sudo. Starts and enables no service. Adds components of the active toolchain with rustup. Builds
/// bpf-linker into target/tools. Changes nothing that is installed. The other commands call this
/// for what they need. Each step prints how long it usually takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing: print a table, and fail when something is missing
    #[arg(long)]
    check: bool,
}

/// What a tool is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Build,
    Lint,
    Test,
    Bench,
    Kernels,
}

impl Group {
    const ALL: [Self; 5] = [Self::Build, Self::Lint, Self::Test, Self::Bench, Self::Kernels];

    fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Lint => "lint",
            Self::Test => "test",
            Self::Bench => "bench",
            Self::Kernels => "kernels",
        }
    }
}

pub(crate) fn run(project: &Project, args: Args) -> Result<ExitCode> {
    if !args.check {
        ensure(project, &Group::ALL)?;
    }
    Ok(if report(project) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Installs what is missing for these groups. Privileges cannot be installed: commands that need
/// them use sudo.
///
/// # Errors
///
/// When something could not be installed; the message says what is missing and where it comes from.
pub(crate) fn ensure(project: &Project, groups: &[Group]) -> Result<()> {
    rust::check_compiler()?;
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| groups.contains(&need.group) && need.source != Source::Rights && need.found(project).is_err())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    announce(format_args!(
        "missing: {}",
        missing.iter().map(|need| need.name).collect::<Vec<_>>().join(", ")
    ));

    download(project, &missing)?;
    if missing.iter().any(|need| need.source == Source::Linker) {
        linker::install(project)?;
    }
    match missing.iter().find_map(|need| Some((need, need.found(project).err()?))) {
        Some((need, problem)) => bail!("{} is still not usable after its installation: {problem}", need.name),
        None => Ok(()),
    }
}

/// Installs packages. At the same time, adds components of the compiler and downloads the sources
/// of all crates.
fn download(project: &Project, missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages()).collect();
    thread::scope(|scope| {
        let rust = scope.spawn(|| -> Result<()> {
            for need in missing {
                if let Source::Component(component) = need.source {
                    rust::install(component)?;
                }
            }
            // What cannot be fetched now is fetched by the build, which says what is wrong.
            process::succeeds(cargo::host(project, "fetch").arg("--locked"));
            Ok(())
        });
        let installed = if packages.is_empty() {
            Ok(())
        } else {
            apt::install(&packages)
        };
        rust.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        installed
    })
}

/// Prints the table of all tools. Returns whether all are installed.
fn report(project: &Project) -> bool {
    let rows: Vec<_> = NEEDS.iter().map(|need| (need, need.found(project))).collect();
    let complete = rows.iter().all(|(_, found)| found.is_ok());
    let cells: Vec<String> = rows
        .iter()
        .map(|(_, found)| found.clone().unwrap_or_else(|problem| format!("MISSING: {problem}")))
        .collect();
    let width = cells.iter().map(String::len).max().unwrap_or(0);
    println!("{:<12} {:<width$}  NEEDED FOR", "TOOL", "FOUND");
    for ((need, _), found) in rows.iter().zip(cells) {
        println!(
            "{:<12} {found:<width$}  {}: {}",
            need.name,
            need.group.name(),
            need.used_for
        );
    }
    if !complete {
        println!("\nSomething is missing; `cargo xtask setup` installs what can be installed.");
    }
    complete
}
