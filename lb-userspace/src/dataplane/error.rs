//! What can go wrong between the controller and the kernel's maps, programs and links.

use std::{error::Error, io, path::PathBuf};

use lb_common::abi::MAP_ABI_VERSION;

/// An error of the dataplane.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// A path below the BPF file system could not be prepared.
    #[error("cannot prepare {}: {cause}", path.display())]
    Folder {
        /// The path.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The path is on no BPF file system and none could be mounted.
    #[error("{} is not on a BPF file system, and mounting one there failed: {cause}; mount it with `mount -t bpf bpf {}`", path.display(), path.display())]
    NoBpffs {
        /// The path.
        path: PathBuf,
        /// Why mounting failed.
        cause: io::Error,
    },
    /// A pinned map is not there.
    #[error("no pinned map {name} in {}; is lbd running, or was it ever?", folder.display())]
    NotPinned {
        /// Name of the map.
        name: String,
        /// The folder of pinned maps.
        folder: PathBuf,
    },
    /// A pinned map has another layout than this program.
    #[error(
        "the pinned map {name} has {found}, this version needs {expected}; `lbd run --replace-maps` makes new ones and takes the interfaces over in one step, but forgets all flows"
    )]
    Layout {
        /// Name of the map.
        name: String,
        /// Its sizes.
        found: String,
        /// The sizes that this program needs.
        expected: String,
    },
    /// Interfaces run a program over maps that this version cannot use.
    #[error(
        "the program on {} was loaded over other maps than those of layout {}, which this version needs ({others}), so that its flows \
         cannot be taken over. Nothing was changed and packets go on as before. Either start the lbd again that loaded it; or \
         drain this node, so that another one takes its clients; or `lbd run --replace-maps`, which begins with empty maps and \
         takes the interfaces over in one step: connections of the modes nat and dnat end, others go on where the scheduler \
         is maglev or source-hash. `lbd detach` ends forwarding, and all connections", interfaces.join(", "), MAP_ABI_VERSION)]
    Foreign {
        /// The interfaces.
        interfaces: Vec<String>,
        /// The other maps, and why their flows are lost, as text.
        others: String,
    },
    /// An operation on a map failed.
    #[error("map {name}: {}", chain(&**cause))]
    Map {
        /// Name of the map.
        name: String,
        /// Why.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The object could not be loaded.
    #[error("cannot load the XDP program: {0}")]
    Load(#[source] Box<dyn Error + Send + Sync>),
    /// An interface is not there.
    #[error("no interface {0} in this network namespace")]
    NoInterface(String),
    /// The program could not be attached.
    #[error("cannot attach to {interface} in {mode} mode: {cause}")]
    Attach {
        /// The interface.
        interface: String,
        /// The mode that was tried.
        mode: &'static str,
        /// Why.
        cause: String,
    },
}

impl DataplaneError {
    pub(super) fn map(name: &str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Map {
            name: name.to_owned(),
            cause: cause.into(),
        }
    }

    /// Whether the kernel refused for want of a right.
    pub fn is_for_want_of_rights(&self) -> bool {
        let Self::Map { cause, .. } = self else { return false };
        let first: &(dyn Error + 'static) = &**cause;
        let errors = std::iter::successors(Some(first), |error| (*error).source());
        errors
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// An error with its causes: those of aya say what was tried, and only their cause says why it failed.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    for cause in causes.map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
