//! Where maps and links are pinned, and the BPF file system below.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lb_common::abi::MAP_ABI_VERSION;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::DataplaneError;

/// The folders of one node on a BPF file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    bpffs: PathBuf,
    node: PathBuf,
    version: PathBuf,
}

impl Pins {
    /// The folders of the node `name` below the mount point `bpffs`. Nothing is created.
    pub fn new(bpffs: &Path, name: &str) -> Self {
        let node = bpffs.join("lbd").join(name);
        Self {
            bpffs: bpffs.to_owned(),
            version: node.join(format!("v{MAP_ABI_VERSION}")),
            node,
        }
    }

    /// The folder of pinned maps.
    pub fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The folder of pinned links. It carries no version: a link survives a change of the map layout.
    pub fn links(&self) -> PathBuf {
        self.node.join("links")
    }

    /// The pin of the link of an interface.
    pub fn link(&self, interface: &str) -> PathBuf {
        // The BPF file system refuses names with a dot, which interfaces of VLANs have.
        self.links().join(interface.replace('%', "%25").replace('.', "%2E"))
    }

    /// The interfaces that have a pinned link.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read; a folder that is not there is empty.
    pub fn linked_interfaces(&self) -> Result<Vec<String>, DataplaneError> {
        let folder = self.links();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(DataplaneError::Folder { path: folder, cause }),
        };
        Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|name| name.replace("%2E", ".").replace("%25", "%"))
            .collect())
    }

    /// Layout versions, other than this program's, whose maps are still pinned.
    pub fn other_versions(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.node) else {
            return Vec::new();
        };
        let links = self.links();
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| *path != links && *path != self.version)
            .collect()
    }

    /// Creates the folders; mounts a BPF file system where none is.
    ///
    /// # Errors
    ///
    /// When a folder cannot be created, or is on no BPF file system and none can be mounted.
    pub fn prepare(&self) -> Result<(), DataplaneError> {
        if !is_bpffs(&self.bpffs) {
            let failed = |cause| DataplaneError::NoBpffs {
                path: self.bpffs.clone(),
                cause,
            };
            fs::create_dir_all(&self.bpffs).map_err(failed)?;
            mount(
                Some("bpf"),
                &self.bpffs,
                Some("bpf"),
                MsFlags::empty(),
                Some("mode=0700"),
            )
            .map_err(|error| failed(error.into()))?;
            tracing::info!(path = %self.bpffs.display(), "mounted a BPF file system");
        }
        for folder in [self.maps(), self.links()] {
            fs::create_dir_all(&folder).map_err(|cause| DataplaneError::Folder {
                path: folder.clone(),
                cause,
            })?;
        }
        Ok(())
    }

    /// Removes everything that is pinned for the node: links first, so that no packet finds half of the maps.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub fn remove(&self) -> Result<bool, DataplaneError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| DataplaneError::Folder { path, cause }
        };
        if !self.node.exists() {
            return Ok(false);
        }
        for folder in [self.links(), self.node.clone()] {
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(failed(&folder))?;
            }
        }
        Ok(true)
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}
