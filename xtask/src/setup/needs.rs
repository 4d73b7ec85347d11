//! The list of what the project needs from a machine, and how to find out whether it has it.

use std::process::Command;

use super::{Group, linker, rust};
use crate::process;
use crate::project::Project;

/// Capabilities that tests need in this process, with their bits in `CapEff`: namespaces, raw
/// sockets, BPF.
const CAPABILITIES: [(&str, u32); 5] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// One thing the project needs.
pub(super) struct Need {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) used_for: &'static str,
    pub(super) source: Source,
}

/// The source of a tool. It decides how the tool is found.
#[derive(PartialEq, Eq)]
pub(super) enum Source {
    /// The compiler itself. Its version may be wrong.
    Compiler,
    /// A component of the active toolchain.
    Component(&'static str),
    /// A program of the pinned LLVM.
    Llvm(&'static str),
    /// bpf-linker, built by the project.
    Linker,
    /// A Debian package with the program `name`, which prints its version when given this argument.
    Package {
        package: &'static str,
        version: &'static str,
    },
    /// Not installable.
    Rights,
}

const fn package(name: &'static str, version: &'static str, package: &'static str) -> (&'static str, Source) {
    (name, Source::Package { package, version })
}

const fn need(group: Group, (name, source): (&'static str, Source), used_for: &'static str) -> Need {
    Need {
        name,
        group,
        used_for,
        source,
    }
}

/// Everything, in the order of the table that `setup --check` prints.
pub(super) const NEEDS: &[Need] = &[
    need(Group::Build, ("rustc", Source::Compiler), "all crates"),
    need(
        Group::Build,
        ("rust-src", Source::Component("rust-src")),
        "`core` for the kernel's target",
    ),
    need(
        Group::Build,
        ("llvm-strip", Source::Llvm("llvm-strip")),
        "small objects that keep their BTF",
    ),
    need(Group::Build, ("bpf-linker", Source::Linker), "linking the XDP program"),
    need(Group::Lint, ("rustfmt", Source::Component("rustfmt")), "formatting"),
    need(Group::Lint, ("clippy", Source::Component("clippy")), "warnings"),
    need(Group::Test, ("privileges", Source::Rights), "namespaces and XDP"),
    need(
        Group::Test,
        package("ip", "-V", "iproute2"),
        "namespaces, links and addresses",
    ),
    need(
        Group::Test,
        package("ethtool", "--version", "ethtool"),
        "offloads of veth",
    ),
    need(Group::Test, package("curl", "--version", "curl"), "clients"),
    need(
        Group::Test,
        package("keepalived", "--version", "keepalived"),
        "the other side of VRRP",
    ),
    need(
        Group::Test,
        package("bpftool", "version", "bpftool"),
        "looking into maps and programs",
    ),
    need(
        Group::Test,
        package("/usr/lib/frr/vrrpd", "--version", "frr"),
        "another side of VRRP: FRR",
    ),
    need(Group::Test, package("wrk", "--version", "wrk"), "HTTP load"),
    need(Group::Test, package("iperf3", "--version", "iperf3"), "bulk load"),
    need(
        Group::Test,
        package("nft", "--version", "nftables"),
        "a stand-in balancer, and a comparison",
    ),
    need(Group::Test, package("zsh", "--version", "zsh"), "completion"),
    need(Group::Test, package("fish", "--version", "fish"), "completion"),
    need(Group::Bench, package("haproxy", "-v", "haproxy"), "comparison: HAProxy"),
    need(Group::Bench, package("nginx", "-v", "nginx"), "workers"),
    need(
        Group::Kernels,
        package("xz", "--version", "xz-utils"),
        "modules of other kernels",
    ),
];

impl Need {
    /// The installed version, or why it cannot be used.
    pub(super) fn found(&self, project: &Project) -> Result<String, String> {
        match self.source {
            Source::Compiler => rust::compiler(),
            Source::Component(component) => rust::component(component),
            Source::Llvm(program) => {
                let path = linker::llvm_prefix().join("bin").join(program);
                program_version(&path.to_string_lossy(), "--version")
            }
            Source::Linker => linker::find(project).map(|path| format!("{} in {}", linker::VERSION, path.display())),
            Source::Package { version, .. } => program_version(self.name, version),
            Source::Rights => rights(),
        }
    }

    /// The Debian packages to install for it.
    pub(super) fn packages(&self) -> Vec<&'static str> {
        match self.source {
            Source::Package { package, .. } => vec![package],
            Source::Llvm(_) => vec![linker::LLVM_PACKAGE],
            Source::Linker => linker::packages().to_vec(),
            Source::Compiler | Source::Component(_) | Source::Rights => Vec::new(),
        }
    }
}

/// Some programs fail after printing their version, so that only what they print counts.
fn program_version(program: &str, argument: &str) -> Result<String, String> {
    let path = process::which(program).ok_or_else(|| format!("no {program}"))?;
    let output = process::output_of(Command::new(&path).arg(argument));
    let output = output.ok_or_else(|| format!("{} cannot be started", path.display()))?;
    Ok(version_in(&output).unwrap_or("of unknown version").to_owned())
}

/// The first version in the text: digits, a dot, digits, and letters or marks that follow.
fn version_in(text: &str) -> Option<&str> {
    let starts = text
        .char_indices()
        .filter(|(_, c)| c.is_ascii_digit())
        .map(|(at, _)| at);
    starts.map(|at| &text[at..]).find_map(|rest| {
        let rest = &rest[..rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || ".+~-".contains(c)))
            .unwrap_or(rest.len())];
        let (major, minor) = rest.split_once('.')?;
        let fits = major.bytes().all(|b| b.is_ascii_digit()) && minor.starts_with(|c: char| c.is_ascii_digit());
        fits.then_some(rest)
    })
}

fn rights() -> Result<String, String> {
    if !process::is_root() {
        return process::sudo_flags()
            .map(|_| "sudo".to_owned())
            .map_err(|error| error.to_string());
    }
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let lacking = lacking_capabilities(&status);
    if lacking.is_empty() {
        Ok("root".to_owned())
    } else {
        Err(format!("root without {}", lacking.join(", ")))
    }
}

fn lacking_capabilities(status: &str) -> Vec<&'static str> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap_or_default();
    let effective = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
    CAPABILITIES
        .iter()
        .filter(|(_, bit)| effective & (1 << bit) == 0)
        .map(|(name, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_really_print() {
        for (printed, version) in [
            ("ip utility, iproute2-6.1.0, libbpf 1.1.2", "6.1.0"),
            ("ethtool version 6.1", "6.1"),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012", "4.1.0-3+b2"),
            ("bpftool v7.1.0\nusing libbpf v1.1", "7.1.0"),
            ("nftables v1.0.6 (Lester Gooch #5)", "1.0.6"),
            ("HAProxy version 2.6.12-1+deb12u2 2025/04/16", "2.6.12-1+deb12u2"),
            (
                "llvm-strip, compatible with GNU strip\nDebian LLVM version 22.1.8",
                "22.1.8",
            ),
        ] {
            assert_eq!(version_in(printed), Some(version), "{printed}");
        }
        assert_eq!(version_in("command 2 not found."), None);
    }

    #[test]
    fn lacking_capabilities_are_named() {
        assert_eq!(
            lacking_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            Vec::<&str>::new()
        );
        assert_eq!(
            lacking_capabilities("CapEff:\t0000003fffffffff\n"),
            ["CAP_PERFMON", "CAP_BPF"]
        );
        assert_eq!(lacking_capabilities("").len(), CAPABILITIES.len());
    }
}
