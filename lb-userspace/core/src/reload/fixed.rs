//! What cannot change while the daemon runs, and what to do instead.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Source, difference};
use crate::config::Node;

/// A key whose new value cannot be put into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// The key, with dots between tables.
    pub key: String,
    /// Its value so far, as in the file; none: the default.
    pub before: Option<String>,
    /// Its new value; none: the default.
    pub after: Option<String>,
    /// What to do, in a sentence.
    pub remedy: String,
}

impl fmt::Display for Fixed {
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

/// Keys of `[node]` that can change, with what is below them.
const CHANGEABLE: [&str; 2] = ["interfaces", "tunnel"];

/// Beginnings of keys of `[node]`, and what to do where they change.
const REMEDIES: [(&str, &str); 5] = [
    (
        "name",
        "it is another node then; run `lbd detach` with the old file, which ends all flows, and start lbd with the new one",
    ),
    (
        "bpffs",
        "run `lbd detach` with the old file, which ends all flows, and start lbd with the new one",
    ),
    (
        "capacity",
        "maps keep their sizes; start lbd anew as `lbd run --replace-maps`, which fills new ones: connections of nat and dnat end",
    ),
    (
        "xdp_mode",
        "a program stays attached as it is; run `lbd detach`, which ends all flows, and start lbd anew",
    ),
    (
        "nat_ports",
        "restart lbd; flows that are bound to ports outside the new range end",
    ),
];
const RESTART: &str = "restart lbd, which costs no connection";

/// What of the new configuration cannot be put into force.
pub fn fixed(before: &Source, after: &Source) -> Vec<Fixed> {
    node(before, after)
}

fn node(before: &Source, after: &Source) -> Vec<Fixed> {
    let wanted = &after.config.node;
    let same_but_for_what_can_change = Node {
        interfaces: wanted.interfaces.clone(),
        tunnel: wanted.tunnel,
        ..before.config.node.clone()
    };
    if same_but_for_what_can_change == *wanted {
        return Vec::new();
    }
    let keys = difference::keys(before.document.get("node"), after.document.get("node"), &[]);
    let fixed = keys.into_iter().filter(|(key, _, _)| !is_at(key, &CHANGEABLE));
    fixed
        .map(|(key, before, after)| {
            let known = REMEDIES.iter().find(|(beginning, _)| is_at(&key, &[beginning]));
            Fixed {
                remedy: known.map_or(RESTART, |(_, remedy)| remedy).to_owned(),
                key: format!("node.{key}"),
                before,
                after,
            }
        })
        .collect()
}

/// Whether a key is one of these, or below one of them.
fn is_at(key: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        key.strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}
