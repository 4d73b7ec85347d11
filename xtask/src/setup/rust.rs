//! The compiler and its components.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::linker::LLVM_MAJOR;
use crate::process;

/// The version of the active compiler, or why it cannot build the kernel's side.
pub(super) fn compiler() -> Result<String, String> {
    let output = process::output_of(Command::new("rustc").arg("-vV")).ok_or("no rustc in the search path")?;
    let field = |name: &str| output.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let release = field("release:").ok_or_else(|| format!("`rustc -vV` printed no release: {}", output.trim()))?;
    let llvm = field("LLVM version:").unwrap_or("unknown");
    if llvm.split('.').next() == Some(LLVM_MAJOR) {
        return Ok(format!("{release} (LLVM {llvm})"));
    }
    Err(format!(
        "rustc {release} emits code of LLVM {llvm}, but the pinned bpf-linker reads LLVM {LLVM_MAJOR}: use Rust 1.95 to \
         1.98, for example `rustup override set 1.95`"
    ))
}

pub(super) fn check_compiler() -> Result<()> {
    compiler().map(drop).map_err(anyhow::Error::msg)
}

/// The version of an installed component, or why it cannot be used.
pub(super) fn component(name: &str) -> Result<String, String> {
    let missing = || format!("no component {name}");
    if name == "rust-src" {
        let sysroot = process::output_of(Command::new("rustc").args(["--print", "sysroot"])).ok_or_else(missing)?;
        let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
        return if core.is_file() {
            Ok("present".to_owned())
        } else {
            Err(missing())
        };
    }
    let program = if name == "clippy" { "cargo-clippy" } else { name };
    // The proxies of rustup exist without the component and then fail.
    if !process::succeeds(Command::new(program).arg("--version")) {
        return Err(missing());
    }
    let output = process::output_of(Command::new(program).arg("--version")).ok_or_else(missing)?;
    Ok(output
        .split_whitespace()
        .nth(1)
        .unwrap_or("of unknown version")
        .to_owned())
}

/// Adds a component to the active toolchain, which `RUSTUP_TOOLCHAIN` names below a `cargo run`.
pub(super) fn install(component: &str) -> Result<()> {
    if process::which("rustup").is_none() {
        bail!(
            "the compiler lacks {component} and there is no rustup to add it: install it as this compiler was installed"
        );
    }
    process::announce(format_args!("adding {component} to the toolchain"));
    process::run(Command::new("rustup").args(["component", "add", component]))
}
