//! Where a node is found, which a file tells also when it is not right as a whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{ConfigError, defaults, load, names};

/// Where a node is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its name.
    pub name: String,
    /// Path of its admin socket.
    pub socket: PathBuf,
    /// Mount point of the BPF file system with its maps.
    pub bpffs: PathBuf,
}

/// Where the node of a file is found. A file that somebody edits must not keep others from a daemon that runs well.
///
/// # Errors
///
/// What is wrong with the file, when it does not even tell that.
pub fn whereabouts(path: &Path) -> Result<Whereabouts, ConfigError> {
    match load(path) {
        Ok(config) => Ok(Whereabouts {
            name: config.node.name,
            socket: config.node.socket,
            bpffs: config.node.bpffs,
        }),
        Err(error) => {
            let bytes = fs::read(path).unwrap_or_default();
            told(&String::from_utf8_lossy(&bytes)).ok_or(error)
        }
    }
}

/// What a file tells whose node is right, whatever else there is.
fn told(text: &str) -> Option<Whereabouts> {
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
    Some(Whereabouts {
        socket: place("socket", defaults::socket(&name))?,
        bpffs: place("bpffs", PathBuf::from(defaults::BPFFS))?,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_wrong_elsewhere_still_tells_where_its_node_is() {
        let found = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("lbd.toml");
            fs::write(&path, text).unwrap();
            whereabouts(&path).map(|found| (found.name, found.socket.display().to_string()))
        };
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
            // What cannot be read at all is left out.
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
            assert_eq!(found(text).ok(), then, "{text}");
        }
        assert!(whereabouts(Path::new("/nonexistent/lbd.toml")).is_err());
    }
}
