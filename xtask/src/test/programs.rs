//! Builds the test programs that a selection needs, and lists their tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::selection::{EMBEDDING_CRATE, KERNEL_CRATE, Selection, Workspace};
use crate::cargo;
use crate::process;
use crate::project::Project;

/// An executable with tests.
#[derive(Debug)]
pub(super) struct Program {
    /// What it is called in the output: the area, or the crate for unit tests.
    pub(super) label: String,
    pub(super) path: PathBuf,
    /// The folder of its crate, where tests expect to be started.
    pub(super) folder: PathBuf,
}

/// One test of a program.
#[derive(Clone, Debug)]
pub(super) struct Test<'a> {
    pub(super) program: &'a Program,
    pub(super) name: String,
    /// Whether it is marked `#[ignore]`.
    pub(super) ignored: bool,
}

impl Test<'_> {
    /// The name that is unique in the workspace.
    pub(super) fn id(&self) -> String {
        format!("{} {}", self.program.label, self.name)
    }
}

/// Builds the programs, and `lbd` and `lbctl` when areas are chosen.
pub(super) fn build(project: &Project, workspace: &Workspace, selection: &Selection) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for arguments in invocations(workspace, selection) {
        let mut command = cargo::host(project, &arguments[0]);
        command
            .args(["--message-format", "json-render-diagnostics"])
            .args(&arguments[1..])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = command.output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("the tests do not compile (see above)");
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        programs.extend(messages.lines().filter_map(|line| program(line, workspace)));
    }
    Ok(programs)
}

/// Each call of cargo: the subcommand and its arguments. Whatever needs `lbd` is built for the whole workspace, so that all calls agree
/// on the features of the dependencies.
fn invocations(workspace: &Workspace, selection: &Selection) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let whole = [
        "build",
        "--workspace",
        "--exclude",
        KERNEL_CRATE,
        "--bin",
        "lbd",
        "--bin",
        "lbctl",
    ];
    if selection.everything {
        return vec![words(&[&whole[..], &["--tests"]].concat())];
    }
    let mut calls = Vec::new();
    if !selection.areas.is_empty() {
        let areas = selection.areas.iter().flat_map(|area| ["--test", area]);
        calls.push(words(&whole.into_iter().chain(areas).collect::<Vec<_>>()));
    }
    let chosen = workspace
        .packages
        .iter()
        .filter(|package| selection.packages.contains(&package.name));
    let (with_areas, without): (Vec<_>, Vec<_>) = chosen.partition(|package| !package.areas.is_empty());
    for package in with_areas.iter().filter(|package| package.library) {
        calls.push(words(&["test", "--no-run", "-p", &package.name, "--lib"]));
    }
    if !without.is_empty() {
        let packages = without.iter().flat_map(|package| ["-p", &package.name]);
        calls.push(words(
            &["build", "--tests"].into_iter().chain(packages).collect::<Vec<_>>(),
        ));
    }
    calls
}

/// The test program that a message of cargo reports.
fn program(message: &str, workspace: &Workspace) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let folder = manifest.parent()?.to_path_buf();
    let package = workspace.packages.iter().find(|package| package.folder == folder)?;
    let target = message["target"]["name"].as_str()?;
    let label = if package.areas.iter().any(|area| area == target) {
        target.to_owned()
    } else {
        package.name.clone()
    };
    Some(Program { label, path, folder })
}

/// All tests of a program.
pub(super) fn tests(program: &Program) -> Result<Vec<Test<'_>>> {
    let names = |arguments: &[&str]| -> Result<Vec<String>> {
        let mut command = Command::new(&program.path);
        command
            .args(["--list", "--format", "terse"])
            .args(arguments)
            .current_dir(&program.folder);
        let text =
            process::output_of(&mut command).with_context(|| format!("cannot start {}", program.path.display()))?;
        Ok(text
            .lines()
            .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
            .collect())
    };
    let ignored = names(&["--ignored"])?;
    let tests = names(&[])?.into_iter().map(|name| Test {
        program,
        ignored: ignored.contains(&name),
        name,
    });
    Ok(tests.collect())
}

/// Whether anything chosen embeds the objects for the kernel.
pub(super) fn need_objects(workspace: &Workspace, selection: &Selection) -> bool {
    let packages = selection.packages.iter().any(|name| workspace.embeds_objects(name));
    packages || !selection.areas.is_empty() || selection.packages.iter().any(|name| name == EMBEDDING_CRATE)
}
