//! The known kernels, and how one is unpacked from its package without being installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::packages::{self, Archive};
use crate::process::announce;

/// A kernel by the beginning of its version.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) version: &'static str,
    /// The release of Debian, or part of one, that has it.
    pub(super) suite: &'static str,
    /// Why the program is refused, for a kernel that is too old.
    pub(super) refuses: Option<&'static str>,
}

/// From old to new.
pub(super) const KNOWN: &[Known] = &[
    Known {
        version: "5.10",
        suite: "bullseye",
        refuses: Some("no callbacks for bpf_loop, no atomic instructions of the third version"),
    },
    supported("6.1", "bookworm"),
    supported("6.12", "trixie"),
    supported("6.18", NEWEST_SUITE),
    supported(NEWEST, NEWEST_SUITE),
];

/// Means the highest version that exists.
pub(super) const NEWEST: &str = "newest";
/// Has the newest, and other versions that are not in the list.
const NEWEST_SUITE: &str = "trixie-backports";
/// The kernels that are tested by default.
pub(super) const DEFAULT: [&str; 2] = ["6.1", NEWEST];

const fn supported(version: &'static str, suite: &'static str) -> Known {
    Known {
        version,
        suite,
        refuses: None,
    }
}

/// The entry of the list for a version.
pub(super) fn known(version: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|kernel| kernel.version == version)
}

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its full release, such as `6.1.0-56-cloud-amd64`.
    pub(super) release: String,
    folder: PathBuf,
}

impl Kernel {
    /// The one that was unpacked before for this version, if any.
    pub(super) fn unpacked(machines: &Path, version: &str) -> Option<Self> {
        let release = fs::read_to_string(stamp(machines, version)).ok()?;
        let kernel = Self::at(machines, release.trim());
        kernel.image().is_file().then_some(kernel)
    }

    /// Downloads and unpacks the newest package of this version, unless it is there.
    pub(super) fn obtain(machines: &Path, version: &str, mirror: Option<&str>) -> Result<Self> {
        let suite = known(version).map_or(NEWEST_SUITE, |known| known.suite);
        let archive = Archive::of_suite(machines, suite, mirror)?;
        archive.update()?;
        let package = newest(version, &archive.search(&pattern(version))?).with_context(|| {
            format!("{suite} of Debian has no kernel {version} for virtual machines; `--list` shows known ones")
        })?;
        let release = package.trim_start_matches(PACKAGE).to_owned();
        let kernel = Self::at(machines, &release);
        if !kernel.image().is_file() {
            let parts = archive.search(&parts(&release))?;
            announce(format_args!("unpacking {}", parts.join(", ")));
            for file in archive.download(&parts)? {
                packages::unpack(&file, &kernel.folder)?;
            }
        }
        fs::write(stamp(machines, version), &kernel.release).context("cannot note which kernel was unpacked")?;
        Ok(kernel)
    }

    fn at(machines: &Path, release: &str) -> Self {
        Self {
            release: release.to_owned(),
            folder: machines.join("kernels").join(release),
        }
    }

    /// The file to boot. Newer packages have it beside the modules.
    pub(super) fn image(&self) -> PathBuf {
        let own = self.folder.join("boot").join(format!("vmlinuz-{}", self.release));
        if own.is_file() {
            own
        } else {
            self.modules().join("vmlinuz")
        }
    }

    /// The folder of its modules. Newer packages have it below /usr.
    pub(super) fn modules(&self) -> PathBuf {
        let modules = Path::new("lib/modules").join(&self.release);
        let newer = self.folder.join("usr").join(&modules);
        if newer.is_dir() {
            newer
        } else {
            self.folder.join(modules)
        }
    }
}

const PACKAGE: &str = "linux-image-";
const FLAVOUR: &str = "-cloud-amd64";

fn stamp(machines: &Path, version: &str) -> PathBuf {
    machines.join("kernels").join(format!("{version}.release"))
}

/// A regular expression for the names of packages.
fn pattern(version: &str) -> String {
    let number = if version == NEWEST {
        "[0-9]".to_owned()
    } else {
        version.replace('.', r"\.") + "[.+-]"
    };
    format!("^{PACKAGE}{number}.*{FLAVOUR}$")
}

/// The packages that a kernel consists of: one, or in newer releases several.
fn parts(release: &str) -> String {
    let release = release.replace('.', r"\.").replace('+', r"\+");
    format!("^linux-(image|binary|modules)-{release}$")
}

/// The highest of the packages, by the numbers in their names; those of other versions and flavours
/// do not count.
fn newest(version: &str, packages: &[String]) -> Option<String> {
    let fits = |package: &&String| {
        let rest = package
            .strip_prefix(PACKAGE)
            .and_then(|rest| rest.strip_suffix(FLAVOUR));
        // A name without a dot is one that only leads to others, and candidates for a release are
        // not releases.
        rest.is_some_and(|rest| {
            rest.matches('.').count() >= 2
                && !rest.contains("rc")
                && (version == NEWEST
                    || rest
                        .strip_prefix(version)
                        .is_some_and(|rest| !rest.starts_with(char::is_numeric)))
        })
    };
    packages
        .iter()
        .filter(fits)
        .max_by_key(|package| numbers(package))
        .cloned()
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_of_a_version_is_chosen_by_its_numbers() {
        let packages = [
            "linux-image-6.1.0-47-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.13~rc7-cloud-amd64",
            "linux-image-6.1.0-57-amd64",
        ]
        .map(str::to_owned);
        for (version, package) in [
            ("6.1", Some(&packages[1])),
            ("6.12", Some(&packages[3])),
            (NEWEST, Some(&packages[3])),
            ("6", Some(&packages[3])),
            ("6.13", None),
            ("7.0", None),
        ] {
            assert_eq!(newest(version, &packages).as_ref(), package, "{version}");
        }
    }

    #[test]
    fn what_is_tested_by_default_is_known_and_supported() {
        for version in DEFAULT {
            assert!(known(version).is_some_and(|known| known.refuses.is_none()), "{version}");
        }
    }
}
