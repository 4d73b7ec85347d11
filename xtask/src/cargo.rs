//! Calls of cargo, for the host and for the kernel, without what the outer cargo left in the
//! environment.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use crate::process;
use crate::project::Project;

/// The target of the objects for the kernel (little endian; the project's machines are).
pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";
/// The profile in the root manifest that the objects are built with.
pub(crate) const BPF_PROFILE: &str = "bpf";

/// Variables that `cargo run` sets for this program. They would mislead a cargo that this program
/// starts. `RUSTUP_TOOLCHAIN` stays: it is the compiler the user chose.
const OUTER: &[&str] = &["CARGO", "RUST_RECURSION_COUNT", "LD_LIBRARY_PATH", "OUT_DIR"];
const OUTER_PREFIXES: &[&str] = &[
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_PRIMARY_",
    "CARGO_CRATE_",
];

/// Settings of the user for host builds. The build for the kernel ignores them.
const HOST_ONLY: &[&str] = &[
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTDOCFLAGS",
    "CARGO_INCREMENTAL",
];
const HOST_ONLY_PREFIXES: &[&str] = &[
    "RUSTC",
    "CARGO_BUILD_",
    "CARGO_TARGET_",
    "CARGO_PROFILE_",
    "CARGO_UNSTABLE_",
];

/// Cargo for the host. The user's flags apply, except for the target folder.
pub(crate) fn host(project: &Project, subcommand: &str) -> Command {
    let mut command = bare(project, subcommand);
    command
        .env_remove("CARGO_BUILD_TARGET")
        .env("CARGO_TARGET_DIR", project.target());
    command
}

/// Cargo for a tool of the build. The user's flags do not apply.
pub(crate) fn tool(project: &Project, subcommand: &str) -> Command {
    let mut command = bare(project, subcommand);
    remove(&mut command, |name| matches(name, HOST_ONLY, HOST_ONLY_PREFIXES));
    command
}

/// Cargo for the kernel: `subcommand` on the crate `lb-ebpf` with the pinned recipe.
///
/// The stable compiler builds it. `RUSTC_BOOTSTRAP` lets it accept `build-std`, which the target
/// needs, so that one compiler builds all crates.
pub(crate) fn kernel(project: &Project, subcommand: &str, linker: &Path) -> Command {
    let mut command = tool(project, subcommand);
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", project.target().join("ebpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", kernel_flags(linker))
        .args([
            "-p",
            "lb-ebpf",
            "--profile",
            BPF_PROFILE,
            "-Z",
            "build-std=core",
            "--target",
            BPF_TARGET,
        ]);
    command
}

/// Debug information becomes the BTF; `v3` gives 32-bit instructions and atomics.
fn kernel_flags(linker: &Path) -> OsString {
    let mut chosen = OsString::from("-Clinker=");
    chosen.push(linker);
    let flags: [&OsStr; 5] = [
        "-Cdebuginfo=2".as_ref(),
        &chosen,
        "-Clink-arg=--btf".as_ref(),
        "-Cpanic=abort".as_ref(),
        "-Ctarget-cpu=v3".as_ref(),
    ];
    flags.join(OsStr::new("\x1f"))
}

fn bare(project: &Project, subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(project.root())
        .arg(subcommand)
        .env("PATH", process::search_path(&[]));
    remove(&mut command, |name| matches(name, OUTER, OUTER_PREFIXES));
    command
}

fn remove(command: &mut Command, unwanted: impl Fn(&str) -> bool) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(&unwanted) {
            command.env_remove(name);
        }
    }
}

fn matches(name: &str, names: &[&str], prefixes: &[&str]) -> bool {
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_the_user_chose_reaches_both_builds() {
        assert!(!matches("RUSTUP_TOOLCHAIN", OUTER, OUTER_PREFIXES));
        assert!(!matches("RUSTUP_TOOLCHAIN", HOST_ONLY, HOST_ONLY_PREFIXES));
    }

    #[test]
    fn flags_for_the_host_stay_away_from_the_kernel_build() {
        for name in [
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_PROFILE_BPF_LTO",
        ] {
            assert!(matches(name, HOST_ONLY, HOST_ONLY_PREFIXES), "{name}");
        }
        assert!(!matches("CARGO_HOME", HOST_ONLY, HOST_ONLY_PREFIXES));
    }

    #[test]
    fn a_linker_whose_path_has_spaces_stays_one_flag() {
        let flags = kernel_flags(Path::new("/a b/bpf-linker")).into_string().unwrap();
        assert!(
            flags.split('\x1f').any(|flag| flag == "-Clinker=/a b/bpf-linker"),
            "{flags}"
        );
    }
}
