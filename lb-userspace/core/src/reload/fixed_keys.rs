//! Keys that cannot change while the daemon runs, and what to do instead.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Source, difference};
use crate::config::Node;

/// A key whose new value cannot be applied by a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FixedKey {
    /// The key, with dots between tables.
    pub key: String,
    /// Old value as in the file. Absent: the default.
    #[schema(required)]
    pub before: Option<String>,
    /// New value as in the file. Absent: the default.
    #[schema(required)]
    pub after: Option<String>,
    /// What to do instead, one sentence.
    pub remedy: String,
}

impl fmt::Display for FixedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "its default".to_owned());
        write!(
            f,
            "`{}` cannot change from {} to {} while lbd runs: {}",
            self.key,
            value(&self.before),
            value(&self.after),
            self.remedy
        )
    }
}

/// Keys and tables of `[node]` that a reload can change.
const CHANGEABLE: [&str; 2] = ["interfaces", "tunnel"];

/// Keys and tables of `[node]`, and what to do to change them. All others need [`RESTART`].
const REMEDIES: [(&str, &str); 5] = [
    (
        "name",
        "run `lbd detach` with the old file (this ends all flows), then start lbd with the new file",
    ),
    (
        "bpffs",
        "run `lbd detach` with the old file (this ends all flows), then start lbd with the new file",
    ),
    (
        "capacity",
        "restart lbd with `lbd run --replace-maps`; this creates new maps and ends connections of nat and dnat",
    ),
    ("xdp_mode", "run `lbd detach` (this ends all flows), then start lbd"),
    (
        "nat_ports",
        "restart lbd; flows that use source ports outside the new range end",
    ),
];
const RESTART: &str = "restart lbd; no connection is lost";

/// The keys in which `after` differs and which cannot change while the daemon runs.
pub fn fixed_keys(before: &Source, after: &Source) -> Vec<FixedKey> {
    node(before, after)
}

fn node(before: &Source, after: &Source) -> Vec<FixedKey> {
    let wanted = &after.config.node;
    let with_changeable_keys = Node {
        interfaces: wanted.interfaces.clone(),
        tunnel: wanted.tunnel,
        ..before.config.node.clone()
    };
    if with_changeable_keys == *wanted {
        return Vec::new();
    }
    let keys = difference::keys(before.document.get("node"), after.document.get("node"), &[]);
    let fixed = keys.into_iter().filter(|(key, _, _)| !is_at(key, &CHANGEABLE));
    fixed
        .map(|(key, before, after)| {
            let known = REMEDIES.iter().find(|(beginning, _)| is_at(&key, &[beginning]));
            FixedKey {
                remedy: known.map_or(RESTART, |(_, remedy)| remedy).to_owned(),
                key: format!("node.{key}"),
                before,
                after,
            }
        })
        .collect()
}

/// Whether a key is one of `places` or in one of these tables.
fn is_at(key: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        key.strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}
