//! The file that overrides survive restarts in: replaced as a whole, so that it is never half written.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Intent, Leaving, Override, Overrides};
use crate::{config::MOST_WEIGHT, health::TargetId};

/// The version that this program writes, and the only one that it reads.
const VERSION: u32 = 1;
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

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    overrides: Vec<Entry>,
    #[serde(default)]
    leaving: Vec<Leaving>,
    #[serde(default)]
    vrrp_maintained: BTreeSet<String>,
}

/// Only the version, which says whether the rest makes sense.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    service: String,
    backend: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    intent: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    deadline: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    weight: Option<u32>,
    /// Whether it is a drain that has come to its end.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    ended: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Drain,
    Disable,
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
    parse(&bytes).map_err(|cause| put_aside(path, cause))
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
            file.write_all(&text(overrides))?;
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

fn parse(bytes: &[u8]) -> Result<Overrides, String> {
    let text = |error: serde_json::Error| error.to_string();
    let Versioned { version } = serde_json::from_slice(bytes).map_err(text)?;
    if version != VERSION {
        return Err(format!("version {version}, expected {VERSION}"));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(text)?;
    let mut overrides = Overrides {
        leaving: document.leaving,
        maintained: document.vrrp_maintained,
        ..Overrides::default()
    };
    for entry in document.overrides {
        let since = entry.since.unwrap_or(Timestamp::UNIX_EPOCH);
        let own = Override {
            intent: entry.intent.map(|word| match word {
                Word::Drain => Intent::Drain {
                    since,
                    deadline: entry.deadline,
                },
                Word::Disable => Intent::Disable { since },
            }),
            weight: entry.weight.map(weight).transpose()?,
        };
        let id = TargetId {
            service: entry.service,
            backend: entry.backend,
        };
        if entry.ended && matches!(own.intent, Some(Intent::Drain { .. })) {
            overrides.drained.insert(id.clone());
        }
        if own != Override::default() {
            overrides.of.insert(id, own);
        }
    }
    Ok(overrides)
}

/// A weight that a backend may have: no other is ever written.
fn weight(weight: u32) -> Result<u32, String> {
    if weight > MOST_WEIGHT {
        return Err(format!("weight {weight}, expected 0 to {MOST_WEIGHT}"));
    }
    Ok(weight)
}

fn text(overrides: &Overrides) -> Vec<u8> {
    let entry = |(id, own): (&TargetId, &Override)| {
        let (intent, since, deadline) = match own.intent {
            None => (None, None, None),
            Some(Intent::Drain { since, deadline }) => (Some(Word::Drain), Some(since), deadline),
            Some(Intent::Disable { since }) => (Some(Word::Disable), Some(since), None),
        };
        Entry {
            service: id.service.clone(),
            backend: id.backend.clone(),
            intent,
            since,
            deadline,
            weight: own.weight,
            ended: overrides.drained.contains(id),
        }
    };
    let document = Document {
        version: VERSION,
        overrides: overrides.of.iter().map(entry).collect(),
        leaving: overrides.leaving.clone(),
        vrrp_maintained: overrides.maintained.clone(),
    };
    // Strings, numbers and lists of them can always be written.
    let mut text = serde_json::to_vec_pretty(&document).unwrap_or_default();
    text.push(b'\n');
    text
}
