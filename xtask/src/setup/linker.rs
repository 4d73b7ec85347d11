//! bpf-linker, in a version that reads the bitcode of the compiler's LLVM.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::apt;
use crate::cargo;
use crate::process;
use crate::project::Project;

/// The pinned version.
pub(crate) const VERSION: &str = "0.13.0";
/// The LLVM of Rust 1.95 to 1.98.
pub(super) const LLVM_MAJOR: &str = "22";
/// The package with the programs of that LLVM.
pub(super) const LLVM_PACKAGE: &str = "llvm-22";
/// The packages that building bpf-linker needs in addition.
const LLVM_DEVELOPMENT: [&str; 4] = ["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev"];

/// The folder of the pinned LLVM: `LLVM_PREFIX`, or where Debian has it.
pub(crate) fn llvm_prefix() -> PathBuf {
    std::env::var_os("LLVM_PREFIX").map_or_else(|| "/usr/lib/llvm-22".into(), PathBuf::from)
}

/// The linker of the pinned version: the project's own, or one in the search path.
pub(crate) fn find(project: &Project) -> Result<PathBuf, String> {
    let candidates = [
        Some(project.tools().join("bin/bpf-linker")),
        process::which("bpf-linker"),
    ];
    let found = candidates.into_iter().flatten().find(|path| is_pinned(path));
    found.ok_or_else(|| format!("no bpf-linker {VERSION} that starts"))
}

fn is_pinned(linker: &Path) -> bool {
    let output = process::output_of(Command::new(linker).arg("--version"));
    output.is_some_and(|output| output.trim() == format!("bpf-linker {VERSION}"))
}

/// The packages to install before the linker is built. None where there is no apt-get.
pub(super) fn packages() -> &'static [&'static str] {
    if apt::is_there() { &LLVM_DEVELOPMENT } else { &[] }
}

/// Builds the linker into the project's folder for tools, once.
///
/// It is built without optimisation and debug information: the work is done in the libraries of
/// LLVM, which are optimised.
pub(super) fn install(project: &Project) -> Result<()> {
    let prefix = llvm_prefix();
    if !prefix.join("bin/llvm-config").is_file() {
        bail!(
            "building bpf-linker {VERSION} needs the development files of LLVM {LLVM_MAJOR}, zstd and zlib, and this machine \
             has not got them: install them by hand and name the folder of LLVM in LLVM_PREFIX (looked for \
             {}), or put bpf-linker {VERSION} into the search path",
            prefix.join("bin/llvm-config").display()
        );
    }
    let mut command = cargo::tool(project, "install");
    command
        .args([
            "bpf-linker",
            "--version",
            VERSION,
            "--no-default-features",
            "--features",
        ])
        .arg(format!("llvm-{LLVM_MAJOR}"))
        .args(["--locked", "--force", "--debug", "--root"])
        .arg(project.tools())
        .env("PATH", process::search_path(&[prefix.join("bin")]))
        .env("LLVM_PREFIX", prefix)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    let what = format!("building bpf-linker {VERSION} into target/tools");
    process::step(&what, "about half a minute, once", || process::run(&mut command))
}
