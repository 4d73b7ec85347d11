//! The file system of the virtual machine: busybox, init, the project's programs with the tools and
//! libraries that they use, and modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::archive::Cpio;
use super::kernels::Kernel;
use super::modules;
use super::packages::{self, Archive};
use super::steps::{self, Plan};
use crate::cargo;
use crate::process;
use crate::project::Project;
use crate::setup::linker;

const INIT: &str = include_str!("init.sh");
/// Programs of this machine that the harness uses. Without its own shell, busybox would run its
/// `ip`.
const TOOLS: [&str; 3] = ["ip", "ethtool", "sh"];
/// Folders that init mounts on or fills.
const FOLDERS: [&str; 12] = [
    "bin", "sbin", "usr/bin", "usr/sbin", "dev", "etc", "proc", "run", "sys", "tmp", "var", "root",
];

/// A program, and what it is called in the machine.
pub(super) struct Program {
    name: String,
    path: PathBuf,
}

/// Builds the programs that run in the machine: the loader, and with `tests` those and what they
/// start.
pub(super) fn build(project: &Project, tests: bool) -> Result<Vec<Program>> {
    let mut programs = vec![Program {
        name: steps::LOADER.to_owned(),
        path: executable(
            &cargo_messages(project, "build", &["--bin", steps::LOADER])?,
            steps::LOADER,
            "bin",
        )?,
    }];
    if !tests {
        return Ok(programs);
    }
    process::run(cargo::host(project, "build").args(["-p", "lb-userspace", "--bins"]))?;
    programs.extend(["lbd", "lbctl"].map(|name| Program {
        name: name.to_owned(),
        path: project.debug().join(name),
    }));
    let wanted: Vec<&str> = steps::TESTS
        .iter()
        .flat_map(|tests| ["--test", tests.program])
        .collect();
    let built = cargo_messages(project, "test", &[&["--no-run"], &wanted[..]].concat())?;
    for tests in steps::TESTS {
        programs.push(Program {
            name: tests.program.to_owned(),
            path: executable(&built, tests.program, "test")?,
        });
    }
    Ok(programs)
}

/// What cargo says, in JSON, when it builds parts of the crate of tests.
fn cargo_messages(project: &Project, subcommand: &str, parts: &[&str]) -> Result<String> {
    let mut command = cargo::host(project, subcommand);
    command
        .args(["-p", "tests", "--message-format", "json-render-diagnostics"])
        .args(parts)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the programs for the machine do not compile");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The path of a program in the messages of cargo. Unit tests of a binary do not count.
fn executable(messages: &str, name: &str, kind: &str) -> Result<PathBuf> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let wanted = messages.filter(|message| {
        let target = &message["target"];
        target["name"] == name
            && target["kind"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|found| found == kind))
            && message["profile"]["test"] == (kind == "test")
    });
    let mut paths = wanted.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    paths.next().with_context(|| format!("cargo built no {kind} {name}"))
}

/// A static busybox, downloaded when it is missing.
pub(super) fn busybox(machines: &Path, mirror: Option<&str>) -> Result<PathBuf> {
    let folder = machines.join("busybox");
    let find = || {
        let places = ["bin/busybox", "usr/bin/busybox"].map(|place| folder.join(place));
        places.into_iter().find(|path| path.is_file())
    };
    if find().is_none() {
        let archive = Archive::of_machine(machines, mirror)?;
        archive.update()?;
        for package in archive.download(&["busybox-static".to_owned()])? {
            packages::unpack(&package, &folder)?;
        }
    }
    find().context("the package busybox-static has no busybox")
}

/// The part of the file system that is the same for all kernels: programs without their debugging
/// information, and the libraries they want.
pub(super) struct Userland {
    files: Vec<(String, Vec<u8>)>,
}

impl Userland {
    pub(super) fn collect(machines: &Path, busybox: &Path, programs: &[Program]) -> Result<Self> {
        let mut files = vec![("bin/busybox".to_owned(), read(busybox)?)];
        let mut libraries = BTreeSet::new();
        for tool in TOOLS {
            let path = process::which(tool).with_context(|| format!("this machine has no {tool}"))?;
            libraries.extend(libraries_of(&path)?);
            files.push((format!("tools/{tool}"), read(&path)?));
        }
        let stripped = machines.join("programs");
        fs::create_dir_all(&stripped).with_context(|| format!("cannot make {}", stripped.display()))?;
        for program in programs {
            libraries.extend(libraries_of(&program.path)?);
            let target = stripped.join(&program.name);
            let mut strip = Command::new(linker::llvm_prefix().join("bin/llvm-strip"));
            process::run(strip.arg("-o").arg(&target).arg(&program.path))?;
            files.push((format!("{}/{}", steps::FOLDER, program.name), read(&target)?));
        }
        for library in libraries {
            files.push((library.to_string_lossy().into_owned(), read(&library)?));
        }
        Ok(Self { files })
    }

    /// Writes the whole file system for a kernel.
    pub(super) fn write(&self, kernel: &Kernel, plan: Plan, target: &Path) -> Result<()> {
        let mut archive = Cpio::new();
        FOLDERS.iter().for_each(|folder| archive.folder(folder));
        archive.device("dev/console", 5, 1);
        archive.device("dev/null", 1, 3);
        archive.file("init", INIT.as_bytes());
        archive.file("steps", plan.script().as_bytes());
        for (path, content) in &self.files {
            archive.file(path, content);
        }
        for module in modules::collect(&kernel.modules(), modules::WANTED)? {
            archive.file(
                &format!("lib/modules/{}/{}", kernel.release, module.path),
                &module.bytes,
            );
        }
        fs::write(target, archive.finish()).with_context(|| format!("cannot write {}", target.display()))
    }
}

/// The libraries that the loader would load, itself included.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = process::output_of(Command::new("ldd").arg(program)).context("cannot start ldd")?;
    if let Some(line) = output.lines().find(|line| line.contains("not found")) {
        bail!("{} lacks a library: {}", program.display(), line.trim());
    }
    let words = output
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(words.map(PathBuf::from).collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
