//! Locks that allow only one controller for a node: one in the state folder, one on the folder of
//! its maps.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

/// The lock is held as long as this value. The kernel releases it when the process ends.
#[derive(Debug)]
pub struct NodeLock {
    _file: Flock<File>,
}

/// The lock is not available.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another controller holds the lock.
    #[error("another lbd{} runs for this node and holds {}: stop it, or give one of the two another node.name", holder(pid), path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Process id of the holder; `None`: unknown.
        pid: Option<u32>,
    },
    /// The folder or the lock file cannot be created.
    #[error("cannot use the folder {}: {cause}", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl NodeLock {
    /// Takes the lock in the state folder of a node. Creates the folder.
    ///
    /// # Errors
    ///
    /// When another process holds it, or the folder cannot be used.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        let unusable = |cause| LockError::Unusable {
            path: state_dir.to_owned(),
            cause,
        };
        fs::create_dir_all(state_dir).map_err(unusable)?;
        let path = state_dir.join("lbd.lock");
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(LockError::Held {
                    path,
                    pid: text.trim().parse().ok(),
                });
            }
            Err((_, errno)) => return Err(unusable(errno.into())),
        };
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self { _file: file })
    }

    /// Takes the lock of an existing folder.
    ///
    /// # Errors
    ///
    /// When another process holds it, or the folder cannot be opened.
    pub fn claim(folder: &Path) -> Result<Self, LockError> {
        let path = folder.to_owned();
        let opened = File::open(folder).map_err(|cause| LockError::Unusable {
            path: path.clone(),
            cause,
        })?;
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(LockError::Held { path, pid: None }),
            Err((_, errno)) => Err(LockError::Unusable {
                path,
                cause: errno.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_with_the_holder_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let first = NodeLock::take(&state).unwrap();
        let refusal = NodeLock::take(&state).unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains(&format!("(process {})", std::process::id())),
            "{refusal}"
        );
        drop(first);
        NodeLock::take(&state).unwrap();
        // The same for the lock of a folder.
        let first = NodeLock::claim(&state).unwrap();
        let refusal = NodeLock::claim(&state).unwrap_err().to_string();
        assert!(refusal.contains("another lbd runs for this node"), "{refusal}");
        drop(first);
        NodeLock::claim(&state).unwrap();
    }
}
