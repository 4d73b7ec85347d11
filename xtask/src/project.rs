//! The folders of the working tree.

use std::path::{Path, PathBuf};

/// The working tree that the commands act on.
pub(crate) struct Project {
    root: PathBuf,
}

impl Project {
    /// The tree this program was started in by cargo, or else the one it was compiled in.
    pub(crate) fn find() -> Self {
        let xtask =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = xtask
            .parent()
            .expect("xtask lies in the root of the project")
            .to_path_buf();
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Everything built, also when `CARGO_TARGET_DIR` says otherwise: other programs look for the
    /// objects here.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Where tools are installed that the project builds for itself.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target().join("tools")
    }

    /// Where the finished objects for the kernel lie.
    pub(crate) fn objects(&self) -> PathBuf {
        self.target().join("bpf")
    }

    /// Where `lbd`, `lbctl`, tests and the demo are built.
    pub(crate) fn debug(&self) -> PathBuf {
        self.target().join("debug")
    }

    /// Where the programs of benches and the fuzz are built.
    pub(crate) fn release(&self) -> PathBuf {
        self.target().join("release")
    }
}
