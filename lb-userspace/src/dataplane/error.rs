//! Errors between the controller and the kernel's maps, programs and links.

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
        /// The cause.
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
    /// A map is not pinned.
    #[error("map {name} is not pinned in {}: start lbd first", folder.display())]
    NotPinned {
        /// Name of the map.
        name: String,
        /// The folder of pinned maps.
        folder: PathBuf,
    },
    /// A pinned map has another layout than this program.
    #[error(
        "the pinned map {name} has {found}, this version needs {expected}: run `lbd run --replace-maps` to replace all \
         maps in one step; this ends all flows"
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
        "the running program on {} uses maps that this version cannot adopt; it needs layout {} ({others}). Nothing was \
         changed, forwarding continues. Do one of these: start the lbd version that loaded the program; or drain this \
         node, so that another one takes its clients, and then run `lbd run --replace-maps`. That command replaces the \
         maps in one step: connections in modes nat and dnat end, others continue if the scheduler is maglev or \
         source-hash. `lbd detach` ends all forwarding", interfaces.join(", "), MAP_ABI_VERSION)]
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
        /// The cause.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The object could not be loaded.
    #[error("cannot load the XDP program: {0}")]
    Load(#[source] Box<dyn Error + Send + Sync>),
    /// An interface does not exist.
    #[error("interface {0} does not exist in this network namespace")]
    NoInterface(String),
    /// The program could not be attached.
    #[error("cannot attach to {interface} in {mode} mode: {cause}")]
    Attach {
        /// The interface.
        interface: String,
        /// The mode that was tried.
        mode: &'static str,
        /// The cause.
        cause: String,
    },
}

impl DataplaneError {
    pub(crate) fn map(name: &str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Map {
            name: name.to_owned(),
            cause: cause.into(),
        }
    }

    /// Whether the kernel refused the operation because a capability is missing.
    pub fn is_permission_denied(&self) -> bool {
        let Self::Map { cause, .. } = self else { return false };
        let first: &(dyn Error + 'static) = &**cause;
        let errors = std::iter::successors(Some(first), |error| (*error).source());
        errors
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// An error with its causes. aya's errors say what was tried; only their cause says why it failed.
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
