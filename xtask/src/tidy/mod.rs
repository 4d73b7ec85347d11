//! `cargo xtask tidy`: checks rules of the layout in the text of all files.

mod columns;
mod cycles;
mod markdown;
mod names;
mod rules;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::process::ExitCode;

use anyhow::{Result, bail};

use self::rules::RULES;
use self::tree::Tree;
use crate::project::Project;

/// Check layout and boundaries of the crates
#[derive(clap::Args)]
#[command(after_help = rules_help())]
pub(crate) struct Args {}

pub(crate) fn run(project: &Project, Args {}: Args) -> Result<ExitCode> {
    check(project)?;
    Ok(ExitCode::SUCCESS)
}

/// Checks the tree against every rule and prints each finding on standard error.
///
/// # Errors
///
/// When the tree cannot be read, or a rule is broken.
pub(crate) fn check(project: &Project) -> Result<()> {
    let tree = Tree::read(project.root())?;
    let mut broken = 0;
    for rule in RULES {
        for finding in (rule.check)(&tree) {
            eprintln!(
                "{}: {} [{}: {}]",
                finding.place, finding.problem, rule.name, rule.demand
            );
            broken += 1;
        }
    }
    if broken > 0 {
        bail!("the tree breaks the rules of its layout in {broken} places");
    }
    eprintln!(
        "{} files follow all {} rules of the layout",
        tree.files().count(),
        RULES.len()
    );
    Ok(())
}

fn rules_help() -> String {
    let rules = RULES
        .iter()
        .map(|rule| format!("  {:<16} {}\n", rule.name, rule.demand));
    std::iter::once("Rules:\n".to_owned()).chain(rules).collect()
}
