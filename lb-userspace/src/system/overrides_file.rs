//! The file that overrides survive restarts in: replaced as a whole, so that it is never half written.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use lb_core::overrides::{Overrides, from_json, to_json};

const NAME: &str = "overrides.json";
/// How many unreadable files are kept at most.
const MOST_ASIDE: usize = 100;

/// Why there are no overrides, or why they could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses to write it.
    #[error("cannot write {}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{} holds no overrides that this lbd can read ({cause}); it is kept as {}, and no override is in force", path.display(), aside.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
        /// Where it was put.
        aside: PathBuf,
    },
}

/// Reads what was saved in the state folder; nothing where nothing was.
///
/// # Errors
///
/// When the file cannot be read, or holds something else: then it is put aside, so that the next save does not destroy it.
pub fn load(state_dir: &Path) -> Result<Overrides, FileError> {
    let path = state_dir.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overrides::default()),
        Err(error) => return Err(put_aside(path, error.to_string())),
    };
    from_json(&bytes).map_err(|cause| put_aside(path, cause))
}

/// Keeps a file that cannot be read from the next save.
fn put_aside(path: PathBuf, cause: String) -> FileError {
    let aside = unused(path.parent().unwrap_or(Path::new("/")));
    // Should that fail, the sentence is wrong about the name and right about all else.
    let _ = fs::rename(&path, &aside);
    FileError::Content { path, cause, aside }
}

/// A name that nothing has: what was put aside earlier stays.
fn unused(state_dir: &Path) -> PathBuf {
    let first = state_dir.join(format!("{NAME}.unreadable"));
    let others = (1_u32..).map(|number| state_dir.join(format!("{NAME}.unreadable-{number}")));
    // Where there are so many, the first one gives way.
    let mut names = std::iter::once(first.clone()).chain(others).take(MOST_ASIDE);
    names.find(|path| !path.exists()).unwrap_or(first)
}

/// Saves overrides in the state folder.
///
/// # Errors
///
/// When the system refuses; what was saved before is still there.
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
        // The new name is on the disk only with its folder.
        .and_then(|()| File::open(state_dir)?.sync_all());
    written.map_err(|cause| {
        // Half of it is of no use to anybody.
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
        assert_eq!(load(folder.path()).unwrap(), Overrides::default(), "there is none yet");
        save(folder.path(), &disabled("w1")).unwrap();
        assert_eq!(load(folder.path()).unwrap(), disabled("w1"));
        save(folder.path(), &Overrides::default()).unwrap();
        assert_eq!(load(folder.path()).unwrap(), Overrides::default());
    }

    #[test]
    fn a_file_that_is_broken_or_of_another_version_is_put_aside() {
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
            // Each by a name of its own, so that none is lost.
            let aside = match number {
                0 => "overrides.json.unreadable".to_owned(),
                more => format!("overrides.json.unreadable-{more}"),
            };
            assert_eq!(fs::read(folder.path().join(aside)).unwrap(), bytes);
            assert_eq!(load(folder.path()).unwrap(), Overrides::default());
        }
    }

    #[test]
    fn a_save_that_fails_leaves_what_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let overrides = disabled("w1");
        save(folder.path(), &overrides).unwrap();
        // A folder in the way of the new file.
        fs::create_dir(folder.path().join("overrides.json.new")).unwrap();
        assert!(save(folder.path(), &Overrides::default()).is_err());
        assert_eq!(load(folder.path()).unwrap(), overrides);
    }
}
