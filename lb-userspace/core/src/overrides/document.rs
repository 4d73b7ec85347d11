//! The JSON document that stores overrides on disk.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Intent, Leaving, Override, Overrides};
use crate::config::{BackendId, MOST_WEIGHT};

/// Version of the document. No other version is read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    overrides: Vec<Entry>,
    #[serde(default)]
    leaving: Vec<Leaving>,
    #[serde(default)]
    vrrp_maintained: BTreeSet<String>,
}

/// Only the version, which decides whether the rest can be read.
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
    /// Whether it is a drain that has ended.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    ended: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Drain,
    Disable,
}

/// Reads what [`to_json`] wrote.
///
/// # Errors
///
/// If it has another version or is malformed.
pub fn from_json(bytes: &[u8]) -> Result<Overrides, String> {
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
        let id = BackendId {
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

/// Checks the range of a weight.
fn weight(weight: u32) -> Result<u32, String> {
    if weight > MOST_WEIGHT {
        return Err(format!("weight {weight}, expected 0 to {MOST_WEIGHT}"));
    }
    Ok(weight)
}

/// Writes all overrides.
pub fn to_json(overrides: &Overrides) -> Vec<u8> {
    let entry = |(id, own): (&BackendId, &Override)| {
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
    // Strings, numbers and lists of them always serialize.
    let mut text = serde_json::to_vec_pretty(&document).unwrap_or_default();
    text.push(b'\n');
    text
}
