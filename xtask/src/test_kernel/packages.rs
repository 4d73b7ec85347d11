//! Debian packages for virtual machines: found and downloaded by apt with settings of its own, and
//! unpacked below `target/`. Nothing is installed, and the machine's own lists and packages stay as
//! they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, announce};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What the addresses of the two archives end with, wherever they are mirrored.
const ARCHIVE: &str = "/debian";
const SECURITY: &str = "/debian-security";

/// Lists of packages in a folder of their own.
pub(super) struct Archive {
    folder: PathBuf,
    /// Preferred among versions of a package.
    target: Option<String>,
}

impl Archive {
    /// One release of Debian, or part of one, from where this machine gets its packages or from
    /// `mirror`.
    ///
    /// # Errors
    ///
    /// When this machine gets no packages of Debian.
    pub(super) fn of_suite(machines: &Path, suite: &str, mirror: Option<&str>) -> Result<Self> {
        let Mirror { main, security } = Mirror::of_machine(mirror)?;
        let mut sources = vec![source(&main, suite)];
        if let Some(security) = security.filter(|_| !suite.contains('-')) {
            sources.push(source(&security, &format!("{suite}-security")));
        }
        Self::new(machines, suite, &sources, None)
    }

    /// This machine's own release, whose packages fit its libraries, with the newer versions from
    /// its backports preferred.
    ///
    /// # Errors
    ///
    /// As [`of_suite`](Self::of_suite).
    pub(super) fn of_machine(machines: &Path, mirror: Option<&str>) -> Result<Self> {
        let Mirror { main, security } = Mirror::of_machine(mirror)?;
        let release = release_of_machine()?;
        let backports = format!("{release}-backports");
        let mut sources = vec![source(&main, &release), source(&main, &backports)];
        sources.extend(security.map(|security| source(&security, &format!("{release}-security"))));
        Self::new(machines, "machine", &sources, Some(backports))
    }

    fn new(machines: &Path, name: &str, sources: &[String], target: Option<String>) -> Result<Self> {
        let folder = machines.join("apt").join(name);
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part)).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(folder.join("sources.list"), sources.concat()).context("cannot write a list of sources")?;
        Ok(Self { folder, target })
    }

    /// Updates the lists. An unreachable source is no error: a package that is missing is one.
    ///
    /// # Errors
    ///
    /// When apt-get cannot be started.
    pub(super) fn update(&self) -> Result<()> {
        announce(format_args!("reading lists of packages into {}", self.folder.display()));
        if let Err(error) = process::run(self.apt("apt-get").args(["-qq", "update"])) {
            announce(format_args!("warning: {error:#}"));
        }
        Ok(())
    }

    /// Names of packages that match a regular expression.
    pub(super) fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let output = process::output_of(self.apt("apt-cache").args(["search", "--names-only", pattern]))
            .context("this machine has no apt-cache to look for kernels")?;
        let names = output
            .lines()
            .filter_map(|line| Some(line.split_once(" - ")?.0.to_owned()));
        Ok(names.collect())
    }

    /// Downloads packages without what they depend on.
    pub(super) fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        self.fetch("download", |command| {
            command.args(["-q", "download"]).args(packages);
        })
    }

    /// Downloads packages and what they depend on and this machine does not have installed.
    pub(super) fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let install = |target: Option<&str>| {
            self.fetch("cache/archives", |command| {
                command.args(["-q", "-y", "--download-only", "--no-install-recommends"]);
                command.args(target.iter().flat_map(|target| ["-t", target]));
                command.arg("install").args(packages);
            })
        };
        match &self.target {
            Some(target) => install(Some(target)).or_else(|_| install(None)),
            None => install(None),
        }
    }

    /// Runs apt-get, which leaves packages in that folder.
    fn fetch(&self, folder: &str, arguments: impl FnOnce(&mut Command)) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join(folder);
        if folder.is_dir() {
            for stale in packages_in(&folder)? {
                fs::remove_file(&stale).with_context(|| format!("cannot remove {}", stale.display()))?;
            }
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut command = self.apt("apt-get");
        arguments(command.current_dir(&folder));
        process::run(&mut command)?;
        packages_in(&folder)
    }

    /// A program of apt that reads this archive's sources and lists instead of the machine's, and
    /// writes only there.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        let state = self.folder.join("state");
        let cache = self.folder.join("cache");
        let sources = self.folder.join("sources.list");
        for (key, value) in [
            ("Dir::State", state.as_path()),
            ("Dir::State::status", Path::new("/var/lib/dpkg/status")),
            ("Dir::Cache", &cache),
            ("Dir::Etc::sourcelist", &sources),
            ("Dir::Etc::sourceparts", Path::new("-")),
            ("APT::Architecture", Path::new("amd64")),
            ("APT::Sandbox::User", Path::new("root")),
            ("Acquire::Languages", Path::new("none")),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", Path::new("false")),
            ("Acquire::Retries", Path::new("2")),
            ("Acquire::http::Timeout", Path::new("30")),
            ("Acquire::https::Timeout", Path::new("30")),
            // Nothing is locked that an installation on this machine might want.
            ("Debug::NoLocking", Path::new("true")),
        ] {
            command.arg("-o").arg(format!("{key}={}", value.display()));
        }
        command
    }
}

/// Unpacks a package into a folder.
pub(super) fn unpack(package: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    process::run(Command::new("dpkg").arg("-x").arg(package).arg(folder))
}

fn packages_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths
        .filter(|path| path.extension().is_some_and(|end| end == "deb"))
        .collect())
}

fn source(archive: &str, suite: &str) -> String {
    let signed = if Path::new(KEYRING).is_file() {
        format!("[signed-by={KEYRING}] ")
    } else {
        String::new()
    };
    format!("deb {signed}{archive} {suite} main\n")
}

/// Where Debian's two archives are to be had.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    main: String,
    security: Option<String>,
}

impl Mirror {
    fn of_machine(named: Option<&str>) -> Result<Self> {
        if let Some(mirror) = named {
            return Ok(Self {
                main: mirror.to_owned(),
                security: None,
            });
        }
        let mut command = Command::new("apt-get");
        command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
        let printed = process::output_of(&mut command).unwrap_or_default();
        Self::among(&printed).context(
            "this machine gets no packages of Debian: name a mirror of its archive, with packages of old releases, too, by \
             `--mirror URI`",
        )
    }

    /// The first of each kind in what `apt-get indextargets` prints.
    fn among(printed: &str) -> Option<Self> {
        let ending = |end: &str| {
            let addresses = printed.lines().map(|line| line.trim_end_matches('/'));
            addresses
                .into_iter()
                .find(|line| line.ends_with(end))
                .map(str::to_owned)
        };
        Some(Self {
            main: ending(ARCHIVE)?,
            security: ending(SECURITY),
        })
    }
}

fn release_of_machine() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    match name.map(|name| name.trim_matches('"')) {
        Some(name) if text.lines().any(|line| line == "ID=debian") => Ok(name.to_owned()),
        _ => bail!("this machine does not run Debian, whose packages would fit it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archives_of_debian_are_known_by_their_addresses() {
        let printed = "http://a.example/other\nhttp://b.example/debian/\nhttp://c.example/debian-security/\nhttp://b.example/debian/\n";
        assert_eq!(
            Mirror::among(printed),
            Some(Mirror {
                main: "http://b.example/debian".to_owned(),
                security: Some("http://c.example/debian-security".to_owned()),
            })
        );
        assert_eq!(Mirror::among("http://a.example/ubuntu/\n"), None);
    }
}
