//! `cargo xtask build-ebpf`: the objects for the kernel, from `lb-ebpf` to `target/bpf/*.o`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::process::{self, announce};
use crate::project::Project;
use crate::setup::{self, Group, linker};

/// The sources of the objects. An object older than the newest of these files is stale, and
/// `lb-userspace/build.rs` refuses it.
const SOURCES: [&str; 2] = ["lb-ebpf/src", "lb-common/src"];

/// Build the programs for the kernel into target/bpf
///
/// Builds every binary of lb-ebpf with the active stable toolchain (RUSTC_BOOTSTRAP, build-std),
/// links it with bpf-linker, and strips everything except BTF. lb-userspace embeds
/// target/bpf/lb-ebpf.o and does not build without it.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(project: &Project, Args {}: Args) -> Result<ExitCode> {
    build(project)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds all objects. Installs first what that needs.
///
/// # Errors
///
/// When something needed cannot be installed, the crate does not compile, or an object cannot be
/// written.
pub(crate) fn build(project: &Project) -> Result<()> {
    setup::ensure(project, &[Group::Build])?;
    let linker = linker::find(project).map_err(anyhow::Error::msg)?;
    // The objects are dated by the start of their build: a source that changes meanwhile makes them
    // stale.
    let started = SystemTime::now();
    let usually = "about a minute the first time";
    let binaries = process::step("building the programs for the kernel", usually, || {
        compile(project, &linker)
    })?;
    if binaries.is_empty() {
        bail!("lb-ebpf built without a binary: its manifest must name at least the binary `lb-ebpf`");
    }
    fs::create_dir_all(project.objects()).with_context(|| format!("cannot create {}", project.objects().display()))?;
    for binary in binaries {
        publish(project, &binary, started).with_context(|| format!("cannot publish {}", binary.display()))?;
    }
    Ok(())
}

/// Builds the crate and returns the linked objects that cargo reports.
fn compile(project: &Project, linker: &Path) -> Result<Vec<PathBuf>> {
    let mut command = cargo::kernel(project, "build", linker);
    command.args(["--bins", "--message-format", "json-render-diagnostics"]);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("lb-ebpf does not build for {} (see above)", cargo::BPF_TARGET);
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(linked_object)
        .collect())
}

/// The executable that a message of cargo reports.
fn linked_object(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message["executable"].as_str().map(PathBuf::from)
}

/// Strips the object into `target/bpf`. An object that is the same and not older than the sources
/// stays untouched, so that cargo does not build again what embeds it.
fn publish(project: &Project, linked: &Path, started: SystemTime) -> Result<()> {
    let name = linked.file_stem().context("a linked object has a name")?;
    let public = project.objects().join(name).with_extension("o");
    let stripped = public.with_extension("o.new");
    let strip = linker::llvm_prefix().join("bin/llvm-strip");
    let mut command = Command::new(strip);
    command
        .arg("-g")
        .arg("-o")
        .arg(&stripped)
        .arg(linked)
        .stdout(io::stderr());
    if !command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?
        .success()
    {
        bail!("llvm-strip failed (see above)");
    }

    let object = fs::read(&stripped)?;
    let newest_source = newest(SOURCES.iter().map(|folder| project.root().join(folder)))?;
    let current = fs::read(&public).is_ok_and(|before| before == object)
        && newest_source.is_none_or(|source| {
            public
                .metadata()
                .and_then(|meta| meta.modified())
                .is_ok_and(|at| at >= source)
        });
    if current {
        fs::remove_file(&stripped)?;
    } else {
        fs::File::options().write(true).open(&stripped)?.set_modified(started)?;
        fs::rename(&stripped, &public)?;
    }
    let shown = public.strip_prefix(project.root()).unwrap_or(&public).display();
    let state = if current { "unchanged" } else { "written" };
    announce(format_args!(
        "{shown}: {} bytes, {} linked ({state})",
        object.len(),
        linked.metadata()?.len()
    ));
    Ok(())
}

/// When the newest file below these folders was written.
fn newest(folders: impl IntoIterator<Item = PathBuf>) -> Result<Option<SystemTime>> {
    let mut newest = None;
    let mut open: Vec<PathBuf> = folders.into_iter().collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                newest = newest.max(Some(meta.modified()?));
            }
        }
    }
    Ok(newest)
}

/// Clippy on the same code with the same flags; it shares the folder of the build.
///
/// # Errors
///
/// When something needed is missing, or clippy has a complaint.
pub(crate) fn clippy(project: &Project) -> Result<()> {
    let linker = linker::find(project).map_err(anyhow::Error::msg)?;
    process::run(cargo::kernel(project, "clippy", &linker).args(["--bins", "--", "-D", "warnings"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_about_executables_name_an_object() {
        let built = r#"{"reason":"compiler-artifact","executable":"/t/bpf/lb-ebpf","fresh":true}"#;
        assert_eq!(linked_object(built), Some(PathBuf::from("/t/bpf/lb-ebpf")));
        for other in [
            r#"{"reason":"compiler-artifact","executable":null}"#,
            r#"{"reason":"build-finished"}"#,
            "text",
        ] {
            assert_eq!(linked_object(other), None, "{other}");
        }
    }

    #[test]
    fn the_newest_source_is_found_in_any_depth() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("a/b")).unwrap();
        assert_eq!(newest([tree.path().to_path_buf()]).unwrap(), None);
        let (old, new) = (
            SystemTime::UNIX_EPOCH,
            SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(9),
        );
        for (name, time) in [("x.rs", old), ("a/b/y.rs", new), ("a/z.rs", old)] {
            fs::File::create(tree.path().join(name))
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
        assert_eq!(newest([tree.path().to_path_buf()]).unwrap(), Some(new));
    }
}
