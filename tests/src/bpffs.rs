//! A BPF file system of one's own on a temporary folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::Once,
};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::netns::{PREFIX, is_leftover};

/// A temporary folder with a BPF file system mounted on its subfolder `bpf`; both are gone after
/// drop.
///
/// Programs, maps and links that are pinned in it and nowhere else go with it.
#[derive(Debug)]
pub struct Bpffs {
    mounted: PathBuf,
    directory: TempDir,
}

impl Bpffs {
    /// Mounts one.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or the kernel refuses the mount.
    pub fn mount() -> Result<Self> {
        static REAP: Once = Once::new();
        REAP.call_once(reap_leftovers);
        let prefix = format!("{PREFIX}-{}-", process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let mounted = directory.path().join("bpf");
        fs::create_dir(&mounted)?;
        mount(Some("bpf"), &mounted, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount a BPF file system on {}", mounted.display()))?;
        Ok(Self { mounted, directory })
    }

    /// Where the file system is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// The folder around it, for sockets, configuration and state.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Detached, so that a process that is still ending does not keep it.
        if let Err(error) = umount2(&self.mounted, MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.mounted.display());
        }
    }
}

/// The mount points of BPF file systems that a process made, this one or another.
pub fn mounts_of(process: u32) -> Vec<PathBuf> {
    let prefix = format!("{PREFIX}-{process}-");
    mounts()
        .filter(|(name, _)| name.starts_with(&prefix))
        .map(|(_, path)| path)
        .collect()
}

/// Name of the temporary folder and mount point, for each mount of the harness.
fn mounts() -> impl Iterator<Item = (String, PathBuf)> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let lines: Vec<_> = table.lines().filter_map(mount_of_harness).collect();
    lines.into_iter()
}

fn mount_of_harness(line: &str) -> Option<(String, PathBuf)> {
    let mut fields = line.split(' ').skip(1);
    let path = PathBuf::from(fields.next()?);
    if fields.next()? != "bpf" {
        return None;
    }
    let name = path.parent()?.file_name()?.to_str()?.to_owned();
    name.starts_with(PREFIX).then_some((name, path))
}

fn reap_leftovers() {
    for (name, path) in mounts().filter(|(name, _)| is_leftover(name)) {
        // A concurrent run may have been quicker.
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        let folder = path.with_file_name("");
        debug_assert!(folder.ends_with(&name));
        let _ = fs::remove_dir_all(folder);
    }
}
