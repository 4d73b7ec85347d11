//! Modules of a kernel, with those they need, read from the files themselves: an unpacked package
//! has no list of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What the tests and the set-up of workers use. One that a kernel has built in has no file.
pub(super) const WANTED: &[&str] = &[
    "veth",
    "bridge",
    "dummy",
    "macvlan",
    "8021q",
    "ipip",
    "sit",
    "ip6_tunnel",
    "fou",
    "fou6",
];

/// A module, ready to be loaded.
pub(super) struct Module {
    /// Its path below the folder of modules, without a mark of compression.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
}

/// The wanted modules and all that they depend on.
pub(super) fn collect(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    list(folder, &mut files).with_context(|| format!("cannot read the modules in {}", folder.display()))?;
    let mut modules = Vec::new();
    let mut open: Vec<String> = wanted.iter().map(|name| canonical(name)).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        let Some(file) = files.get(&name).filter(|_| seen.insert(name.clone())) else {
            continue;
        };
        let bytes = read(file)?;
        open.extend(dependencies(&bytes).iter().map(|name| canonical(name)));
        let path = file.strip_prefix(folder).unwrap_or(file).to_string_lossy();
        modules.push(Module {
            path: path.trim_end_matches(".xz").to_owned(),
            bytes,
        });
    }
    Ok(modules)
}

/// In names of modules, dash and underscore are the same.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn list(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, _)) = name.split_once(".ko")
        {
            files.insert(canonical(name), path);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    match file.extension().and_then(|end| end.to_str()) {
        Some("ko") => fs::read(file).with_context(|| format!("cannot read {}", file.display())),
        Some("xz") => {
            let mut command = Command::new("xz");
            let output = command.arg("-dc").arg(file).stderr(Stdio::inherit()).output();
            let output = output.context("cannot start xz")?;
            if !output.status.success() {
                bail!("xz cannot read {}", file.display());
            }
            Ok(output.stdout)
        }
        _ => bail!("{} is compressed in an unknown way", file.display()),
    }
}

/// The modules that a module names in its section `.modinfo`, which is a row of texts with zero
/// bytes between them.
fn dependencies(bytes: &[u8]) -> Vec<String> {
    let mark = b"\0depends=";
    let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) else {
        return Vec::new();
    };
    let rest = &bytes[at + mark.len()..];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let names = String::from_utf8_lossy(&rest[..end]).into_owned();
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_what_they_depend_on() {
        let folder = tempfile::tempdir().unwrap();
        let net = folder.path().join("kernel/net");
        fs::create_dir_all(&net).unwrap();
        for (name, content) in [
            ("ipip.ko", &b"x\0license=GPL\0depends=tunnel4,ip-tunnel\0y"[..]),
            ("ip_tunnel.ko", b"x\0depends=\0"),
            ("tunnel4.ko", b"x\0depends=\0"),
            ("other.ko", b""),
        ] {
            fs::write(net.join(name), content).unwrap();
        }
        let mut paths: Vec<_> = collect(folder.path(), &["ipip", "built-in"])
            .unwrap()
            .into_iter()
            .map(|module| module.path)
            .collect();
        paths.sort();
        assert_eq!(
            paths,
            ["kernel/net/ip_tunnel.ko", "kernel/net/ipip.ko", "kernel/net/tunnel4.ko"]
        );
    }
}
