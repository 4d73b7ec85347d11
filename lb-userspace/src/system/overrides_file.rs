//! Loads and saves the overrides file. A save replaces the whole file, so that it is never half
//! written.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use lb_core::overrides::{Overrides, from_json, to_json};

const NAME: &str = "overrides.json";
/// Most unreadable files that are kept.
const MOST_ASIDE: usize = 100;

/// Why overrides could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// The file is unreadable or malformed.
    #[error("cannot read the overrides in {} ({cause}); the file is kept as {}; no override is in force", path.display(), aside.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
        /// The new path of the file.
        aside: PathBuf,
    },
}

/// Loads the overrides from the state folder. Without a file there are none.
///
/// # Errors
///
/// If the file cannot be read or is malformed. Then it is renamed, so that the next save does not
/// overwrite it.
pub fn load(state_dir: &Path) -> Result<Overrides, FileError> {
    let path = state_dir.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overrides::default()),
        Err(error) => return Err(put_aside(path, error.to_string())),
    };
    from_json(&bytes).map_err(|cause| put_aside(path, cause))
}

/// Renames an unreadable file, so that the next save does not overwrite it.
fn put_aside(path: PathBuf, cause: String) -> FileError {
    let aside = unused(path.parent().unwrap_or(Path::new("/")));
    // If that fails, only the new path in the error is wrong.
    let _ = fs::rename(&path, &aside);
    FileError::Content { path, cause, aside }
}

/// An unused path for an unreadable file. Earlier ones are kept.
fn unused(state_dir: &Path) -> PathBuf {
    let first = state_dir.join(format!("{NAME}.unreadable"));
    let others = (1_u32..).map(|number| state_dir.join(format!("{NAME}.unreadable-{number}")));
    // With too many, the first one is overwritten.
    let mut names = std::iter::once(first.clone()).chain(others).take(MOST_ASIDE);
    names.find(|path| !path.exists()).unwrap_or(first)
}

/// Saves overrides in the state folder.
///
/// # Errors
///
/// If the system refuses. The former file is unchanged then.
pub fn save(state_dir: &Path, overrides: &Overrides) -> Result<(), FileError> {
    let path = state_dir.join(NAME);
    let new = state_dir.join(format!("{NAME}.new"));
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(&to_json(overrides))?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, &path))
        // The rename is durable only after the folder is synced.
        .and_then(|()| File::open(state_dir)?.sync_all());
    written.map_err(|cause| {
        // A half-written file is useless.
        let _ = fs::remove_file(&new);
        FileError::Io { path, cause }
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lb_core::{config::BackendId, overrides::Verb};

    use super::*;

    fn disabled(backend: &str) -> Overrides {
        let id = BackendId {
            service: "web".to_owned(),
            backend: backend.to_owned(),
        };
        let mut overrides = Overrides::default();
        overrides.change(&id, Verb::Disable, Timestamp::UNIX_EPOCH).unwrap();
        overrides
    }

    #[test]
    fn overrides_survive_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()).unwrap(), Overrides::default(), "no file yet");
        save(folder.path(), &disabled("w1")).unwrap();
        assert_eq!(load(folder.path()).unwrap(), disabled("w1"));
        save(folder.path(), &Overrides::default()).unwrap();
        assert_eq!(load(folder.path()).unwrap(), Overrides::default());
    }

    #[test]
    fn a_malformed_file_or_one_of_another_version_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("overrides.json");
        let cases: [(&[u8], &str); 7] = [
            (b"", "EOF"),
            (b"{\"version\": 1, \"overrides\": [", "EOF"),
            (b"\xff\xfe", "expected value"),
            (b"{\"version\": 2, \"later\": true}", "version 2, expected 1"),
            (b"{\"version\": 1, \"overrides\": [{\"service\": \"web\"}]}", "backend"),
            (
                b"{\"version\": 1, \"overrides\": [{\"service\": \"w\", \"backend\": \"b\", \"weight\": -1}]}",
                "-1",
            ),
            (
                b"{\"version\": 1, \"overrides\": [{\"service\": \"w\", \"backend\": \"b\", \"weight\": 4294967295}]}",
                "weight 4294967295, expected 0 to 1000",
            ),
        ];
        for (number, (bytes, words)) in cases.into_iter().enumerate() {
            fs::write(&file, bytes).unwrap();
            let error = load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("unreadable"), "{error}");
            assert!(!file.exists());
            // Each has its own name, so that none is lost.
            let aside = match number {
                0 => "overrides.json.unreadable".to_owned(),
                more => format!("overrides.json.unreadable-{more}"),
            };
            assert_eq!(fs::read(folder.path().join(aside)).unwrap(), bytes);
            assert_eq!(load(folder.path()).unwrap(), Overrides::default());
        }
    }

    #[test]
    fn a_failed_save_keeps_the_former_file() {
        let folder = tempfile::tempdir().unwrap();
        let overrides = disabled("w1");
        save(folder.path(), &overrides).unwrap();
        // A folder has the path of the new file.
        fs::create_dir(folder.path().join("overrides.json.new")).unwrap();
        assert!(save(folder.path(), &Overrides::default()).is_err());
        assert_eq!(load(folder.path()).unwrap(), overrides);
    }
}
