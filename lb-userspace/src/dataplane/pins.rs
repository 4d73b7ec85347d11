//! Paths of pinned maps and links, and the BPF file system that holds them.

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

/// Name of the pin of the program that was loaded last, in the folder of the layout version.
const PROGRAM: &str = "program";

/// The folders of one node on a BPF file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    bpffs: PathBuf,
    node: PathBuf,
    version: PathBuf,
}

impl Pins {
    /// The folders of node `name` below the mount point `bpffs`. Creates nothing.
    pub fn new(bpffs: &Path, name: &str) -> Self {
        let node = bpffs.join("lbd").join(name);
        Self {
            bpffs: bpffs.to_owned(),
            version: node.join(format!("v{MAP_ABI_VERSION}")),
            node,
        }
    }

    /// The folders of the same node for another map layout.
    pub(super) fn of_version(&self, version: u32) -> Self {
        Self {
            version: self.node.join(format!("v{version}")),
            ..self.clone()
        }
    }

    /// The versions of other map layouts that are pinned for the node.
    pub(super) fn other_layouts(&self) -> Vec<u32> {
        let layout = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix('v')?.parse().ok();
        self.other_versions().iter().filter_map(layout).collect()
    }

    /// The folder of pinned maps.
    pub fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The folder of pinned links. It has no version: a link survives a change of the map layout.
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
    /// When the folder cannot be read. A folder that does not exist is empty.
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

    /// The pin of the program that was loaded last. It identifies the program that a link runs.
    pub(super) fn program(&self) -> PathBuf {
        self.version.join(PROGRAM)
    }

    /// The folder of what former programs need while links may run them. The kernel empties a
    /// program array when nobody holds it.
    pub(super) fn former(&self) -> PathBuf {
        self.version.join("former")
    }

    /// The pins of programs over this version's maps: the last one and former ones.
    pub(super) fn own_programs(&self) -> Vec<PathBuf> {
        let is_program = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(PROGRAM))
        };
        entries(&self.former())
            .into_iter()
            .filter(is_program)
            .chain([self.program()])
            .filter(|path| path.exists())
            .collect()
    }

    /// Moves the last program and its program array to the folder of former ones. The next program
    /// gets its own array, so that no packet is handled by halves of two programs.
    pub(super) fn set_aside(&self, programs: &str) -> Result<(), DataplaneError> {
        let former = self.former();
        create(&former)?;
        for (from, name) in [(self.program(), PROGRAM), (self.map(programs), programs)] {
            if from.exists() {
                rename(&from, &unused(&former, name))?;
            }
        }
        Ok(())
    }

    /// Removes what only former programs needed. To be called when every link runs the last
    /// program.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub fn release_former(&self) -> Result<(), DataplaneError> {
        let folders = self.other_versions().into_iter().chain([self.former()]);
        let folders: Vec<_> = folders.filter(|folder| folder.exists()).collect();
        if !folders.is_empty() {
            // A packet may be between the fast path and the slow path of a former program.
            super::wait_for_packets_in_flight();
        }
        folders.iter().try_for_each(|folder| remove_all(folder))
    }

    /// Folders of maps that this program does not use: of another layout, or replaced.
    pub fn other_versions(&self) -> Vec<PathBuf> {
        let links = self.links();
        entries(&self.node)
            .into_iter()
            .filter(|path| *path != links && *path != self.version)
            .collect()
    }

    /// Moves this version's maps to another folder, where the running program still finds them, so
    /// that new ones can be created in their place.
    ///
    /// # Errors
    ///
    /// When they cannot be moved.
    pub fn replace_maps(&self) -> Result<(), DataplaneError> {
        if !self.version.exists() {
            return Ok(());
        }
        let name = format!("v{MAP_ABI_VERSION}-replaced");
        rename(&self.version, &unused(&self.node, &name))
    }

    /// Removes this version's maps. No link may use them.
    pub(super) fn remove_maps(&self) -> Result<(), DataplaneError> {
        if self.version.exists() {
            remove_all(&self.version)?;
        }
        create(&self.maps())
    }

    /// Whether anything is pinned for the node.
    pub fn exist(&self) -> bool {
        self.node.exists()
    }

    /// Creates the folder that the controller of the node locks, and mounts a BPF file system if
    /// there is none.
    ///
    /// # Errors
    ///
    /// See [`Pins::prepare`].
    pub fn claim(&self) -> Result<PathBuf, DataplaneError> {
        self.mount()?;
        create(&self.node)?;
        Ok(self.node.clone())
    }

    /// Creates the folders, and mounts a BPF file system if there is none.
    ///
    /// # Errors
    ///
    /// When a folder cannot be created, or when there is no BPF file system and none can be
    /// mounted.
    pub fn prepare(&self) -> Result<(), DataplaneError> {
        self.mount()?;
        create(&self.maps())?;
        create(&self.links())
    }

    fn mount(&self) -> Result<(), DataplaneError> {
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
        Ok(())
    }

    /// Removes everything that is pinned for the node. Links go first: a packet never finds a part
    /// of the maps missing. Returns whether anything was pinned.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub fn remove(&self) -> Result<bool, DataplaneError> {
        if !self.exist() {
            return Ok(false);
        }
        for folder in [self.links(), self.node.clone()] {
            if folder.exists() {
                remove_all(&folder)?;
            }
        }
        Ok(true)
    }
}

fn create(folder: &Path) -> Result<(), DataplaneError> {
    fs::create_dir_all(folder).map_err(failed(folder))
}

fn remove_all(folder: &Path) -> Result<(), DataplaneError> {
    fs::remove_dir_all(folder).map_err(failed(folder))
}

fn rename(from: &Path, to: &Path) -> Result<(), DataplaneError> {
    fs::rename(from, to).map_err(failed(from))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DataplaneError {
    let path = path.to_owned();
    move |cause| DataplaneError::Folder { path, cause }
}

/// The paths in a folder; empty if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// An unused path in the folder: the name, a dash and a number.
fn unused(folder: &Path, name: &str) -> PathBuf {
    let mut number = 0_u32;
    loop {
        let path = folder.join(format!("{name}-{number}"));
        if !path.exists() {
            return path;
        }
        number += 1;
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}
