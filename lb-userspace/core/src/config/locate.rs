//! Finds the name and the paths of a node in its file, even if the rest of the file is invalid.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::{defaults, names, parse};

/// The paths of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLocation {
    /// Name of the node.
    pub name: String,
    /// Path of its admin socket.
    pub socket: PathBuf,
    /// Mount point of the BPF file system with its maps.
    pub bpffs: PathBuf,
}

/// Finds the node in the text of a configuration file. Works even if the rest of the file is
/// invalid, so that `lbctl` does. `None`: `[node]` is invalid too.
pub fn locate(text: &str) -> Option<NodeLocation> {
    match parse("", text) {
        Ok(config) => Some(NodeLocation {
            name: config.node.name,
            socket: config.node.socket,
            bpffs: config.node.bpffs,
        }),
        Err(_) => locate_in_part(text),
    }
}

/// Reads only the table `[node]`.
fn locate_in_part(text: &str) -> Option<NodeLocation> {
    let (document, _) = DeTable::parse_recoverable(text);
    let DeValue::Table(node) = document.get_ref().get("node")?.get_ref() else {
        return None;
    };
    let word = |key: &str| node.get(key).map(|value| value.get_ref().as_str());
    let name = names::NODE.check(word("name")??).ok()?;
    let place = |key: &str, default: PathBuf| match word(key) {
        Some(given) => names::absolute(given?).ok(),
        None => Some(default),
    };
    Some(NodeLocation {
        socket: place("socket", defaults::socket(&name))?,
        bpffs: place("bpffs", PathBuf::from(defaults::BPFFS))?,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_located_in_a_file_that_is_invalid_elsewhere() {
        let found = |text: &str| locate(text).map(|found| (found.name, found.socket.display().to_string()));
        let here = |socket: &str| Some(("a".to_owned(), socket.to_owned()));
        for (text, then) in [
            (
                "[node]\nname = \"a\"\ninterfaces = [\"eth0\"]\n",
                here("/run/lbd/a.sock"),
            ),
            (
                "[node]\nname = \"a\"\nsocket = \"/s\"\n[[service]]\nport = 99999\n",
                here("/s"),
            ),
            ("[node]\nname = \"a\"\n[[servise]]\n", here("/run/lbd/a.sock")),
            ("[node]\nname = \"a/b\"\n", None),
            ("[node]\nname = \"a\"\nsocket = 7\n", None),
            // Lines that are not TOML are skipped.
            (
                "[node]\nname = \"a\"\nsocket = \"/s\"\n[[service]\nname = = 7\n\"",
                here("/s"),
            ),
            (
                "[[service]]\nname = \"b\n[node]\nname = \"a\"\n",
                here("/run/lbd/a.sock"),
            ),
            ("[node\n", None),
            ("", None),
        ] {
            assert_eq!(found(text), then, "{text}");
        }
    }
}
