//! Reads the configuration file. [`lb_core::config`] parses and validates its text.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use lb_core::{
    config::{self, Config, ConfigError, NodeLocation},
    reload::Source,
};

/// Reads and validates the file at `path`.
///
/// # Errors
///
/// [`ConfigError::Unreadable`] if the file cannot be read, [`ConfigError::Invalid`] with every
/// problem if it is invalid.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    parse_file(path, fs::read(path)).map(|(config, _)| config)
}

/// As [`load`], with the text. Accepts only a regular file: reading a pipe could block the daemon.
///
/// # Errors
///
/// See [`load`].
pub fn load_with_text(path: &Path) -> Result<(Config, String), ConfigError> {
    parse_file(path, read_regular(path))
}

/// As [`load_with_text`], as a [`Source`], which can be compared with another one.
///
/// # Errors
///
/// See [`load`].
pub fn load_source(path: &Path) -> Result<Source, ConfigError> {
    let (config, text) = load_with_text(path)?;
    Ok(Source::new(&path.display().to_string(), config, text))
}

/// Finds the node of a file, even if the rest of the file is invalid, so that `lbctl` works with
/// it.
///
/// # Errors
///
/// The problems of the file, if `[node]` is invalid too.
pub fn locate(path: &Path) -> Result<NodeLocation, ConfigError> {
    let bytes = fs::read(path);
    let found = bytes
        .as_ref()
        .ok()
        .and_then(|bytes| config::locate(&String::from_utf8_lossy(bytes)));
    match found {
        Some(location) => Ok(location),
        None => parse_file(path, bytes).map(|(config, _)| NodeLocation {
            name: config.node.name,
            socket: config.node.socket,
            bpffs: config.node.bpffs,
        }),
    }
}

fn parse_file(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<(Config, String), ConfigError> {
    let bytes = bytes.map_err(|cause| ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    config::parse_bytes(&path.display().to_string(), bytes)
}

/// Reads a regular file. Refuses anything else.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = fs::File::options();
    // Without this, opening a pipe without a writer blocks.
    let mut file = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() {
            "a folder"
        } else {
            "not a regular file"
        };
        return Err(io::Error::other(format!("it is {what}")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../examples/lbd.toml");

    #[test]
    fn an_unreadable_file_is_named_with_the_cause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent.toml");
        let error = load(&path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.to_string().contains("No such file"), "{error}");
        assert_eq!(error.diagnostics(), []);
        assert!(matches!(load(folder.path()), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn a_file_is_read_and_named_in_diagnostics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lbd.toml");
        fs::write(&path, EXAMPLE).unwrap();
        assert_eq!(load(&path).unwrap(), config::parse("lbd.toml", EXAMPLE).unwrap());
        fs::write(&path, "[node]\n").unwrap();
        assert_eq!(load(&path).unwrap_err().diagnostics()[0].file, path.to_str().unwrap());
    }

    #[test]
    fn a_node_is_located_in_a_file_that_is_invalid_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lbd.toml");
        fs::write(
            &path,
            "[node]\nname = \"a\"\nsocket = \"/s\"\n[[service]]\nport = 99999\n",
        )
        .unwrap();
        assert_eq!(locate(&path).unwrap().socket, Path::new("/s"));
        fs::write(&path, "[node]\nname = \"a/b\"\n").unwrap();
        assert!(!locate(&path).unwrap_err().diagnostics().is_empty());
        assert!(locate(Path::new("/nonexistent/lbd.toml")).is_err());
    }
}
