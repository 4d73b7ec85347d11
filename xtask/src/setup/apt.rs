//! Installs Debian packages without questions, without recommended packages, and without starting
//! their services.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, announce};

/// Packages that contain a service, and its unit.
const SERVICES: [(&str, &str); 4] = [
    ("frr", "frr.service"),
    ("haproxy", "haproxy.service"),
    ("keepalived", "keepalived.service"),
    ("nginx", "nginx.service"),
];

/// Installs "$@" under a policy that lets no service start (`policy-rc.d` of Debian). One shell
/// does both, so that the policy is removed however the installation ends. A policy that the
/// machine already has is kept.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || exit 1
fi
apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
"#;

pub(super) fn is_there() -> bool {
    process::which("apt-get").is_some()
}

/// Installs the packages that are not installed.
///
/// # Errors
///
/// When there is no apt-get, no root, no such package, or the installation fails; the message names
/// the packages.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !is_there() {
        bail!("this machine has no apt-get: install by hand what Debian calls {names}, then run this again");
    }
    let absent: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    let what = format!("installing packages: {}", absent.join(" "));
    process::step(&what, "one to two minutes for all of them", || {
        let known = absent.iter().all(|package| has_candidate(package));
        if !(known && try_install(&absent).is_ok()) {
            update();
            refuse_unknown(&absent)?;
            try_install(&absent).with_context(|| format!("cannot install the packages {names}"))?;
        }
        Ok(())
    })?;
    disable_services(&absent)
}

fn try_install(packages: &[&str]) -> Result<()> {
    let mut command = as_root("sh")?;
    process::run(command.args(["-c", INSTALL, "apt-get install"]).args(packages))
}

/// An unreachable package source is only a warning: the installation that follows may not need it.
fn update() {
    announce("updating the list of packages");
    let options = [
        "-o",
        "Acquire::Retries=2",
        "-o",
        "Acquire::http::Timeout=30",
        "-o",
        "Acquire::https::Timeout=30",
    ];
    let updated = as_root("apt-get").and_then(|mut command| process::run(command.arg("update").args(options)));
    if let Err(error) = updated {
        announce(format_args!("warning: {error:#}"));
    }
}

fn refuse_unknown(packages: &[&str]) -> Result<()> {
    let unknown: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !has_candidate(package))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let hint = if unknown.iter().any(|package| package.contains("-22")) {
        "; Debian 12 has LLVM 22 in its security updates, elsewhere add the source that apt.llvm.org describes"
    } else {
        ""
    };
    bail!(
        "the package sources of this machine do not have: {}{hint}",
        unknown.join(" ")
    )
}

/// Disables services of new packages, so that they do not start at the next boot.
fn disable_services(installed: &[&str]) -> Result<()> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    for (_, unit) in SERVICES.iter().filter(|(package, _)| installed.contains(package)) {
        process::run(as_root("systemctl")?.args(["disable", unit]))?;
    }
    Ok(())
}

fn is_installed(package: &str) -> bool {
    let query = process::output_of(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]));
    query.as_deref() == Some("installed")
}

fn has_candidate(package: &str) -> bool {
    let policy = process::output_of(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package]));
    policy.is_some_and(|policy| policy.contains("Candidate: ") && !policy.contains("Candidate: (none)"))
}

/// Debconf must not ask questions. `env` sets that below sudo, which drops the environment.
fn as_root(program: &str) -> Result<Command> {
    let mut command = process::as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", program]);
    Ok(command)
}
