//! Tokens and certificate of the TCP listener. They are read from files at the start and at every
//! reload.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use subtle::ConstantTimeEq;

use super::access::Access;
use lb_core::config::{self, Table, UnusableReference};

/// Shortest token, in bytes: 96 bits in hexadecimal.
const SHORTEST: usize = 24;
/// Longest token, in bytes: it must fit a header.
const LONGEST: usize = 1024;

/// An error in a key of `[api]`.
fn reference(key: &'static str, message: String, expected: &str) -> UnusableReference {
    UnusableReference {
        table: Table::Api,
        key,
        message,
        expected: expected.to_owned(),
    }
}

/// The tokens of callers, and the certificate of the listener.
pub(super) struct Credentials {
    read: Option<Vec<u8>>,
    admin: Option<Vec<u8>>,
    tls: Option<Arc<ServerConfig>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tokens must not get into logs.
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the files.
    pub(super) fn read(files: &config::Listen) -> Result<Self, UnusableReference> {
        let token = |key, path: &Option<PathBuf>| path.as_deref().map(|path| token(key, path)).transpose();
        let read = token("read_token_file", &files.read_token)?;
        let admin = token("admin_token_file", &files.admin_token)?;
        if let (Some(path), true) = (&files.admin_token, read.is_some() && read == admin) {
            let problem = format!("the token in {} is the same as the read token", path.display());
            return Err(reference("admin_token_file", problem, "another token"));
        }
        let tls = files.tls.as_ref().map(tls).transpose()?;
        Ok(Self { read, admin, tls })
    }

    /// What the bearer of a token may do. The comparison takes the same time for all tokens of a
    /// length.
    pub(super) fn access(&self, token: &[u8]) -> Access {
        let same = |known: &Option<Vec<u8>>| known.as_ref().is_some_and(|known| known.ct_eq(token).into());
        let (read, admin) = (same(&self.read), same(&self.admin));
        match (admin, read) {
            (true, _) => Access::Admin,
            (false, true) => Access::Read,
            (false, false) => Access::None,
        }
    }

    /// The TLS configuration; `None` for plain HTTP.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }
}

/// The token in a file. Others must not be able to read the file.
fn token(key: &'static str, path: &Path) -> Result<Vec<u8>, UnusableReference> {
    let unreadable = |cause: io::Error| {
        let problem = format!("cannot read {}: {cause}", path.display());
        reference(key, problem, "a file with a token")
    };
    let mode = fs::metadata(path).map_err(unreadable)?.mode();
    if mode & 0o007 != 0 {
        let mode = mode & 0o777;
        let problem = format!("everybody can read the token in {} (mode {mode:03o})", path.display());
        return Err(reference(key, problem, "mode 600 or 640"));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let token = bytes.trim_ascii();
    if !(SHORTEST..=LONGEST).contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
        let expected = format!(
            "{SHORTEST} to {LONGEST} printable ASCII characters on one line, such as from `openssl rand -hex 32`"
        );
        return Err(reference(key, format!("{} has no token", path.display()), &expected));
    }
    Ok(token.to_owned())
}

fn tls(files: &config::Tls) -> Result<Arc<ServerConfig>, UnusableReference> {
    const CHAIN: &str = "a file with the certificate chain of the server, in PEM";
    const KEY: &str = "a file with the private key of the certificate, in PEM";
    let read = |key, path: &Path, expected| {
        let unreadable = |cause| reference(key, format!("cannot read {}: {cause}", path.display()), expected);
        fs::read(path).map_err(unreadable)
    };
    let no_chain = |wrong: String| reference("certificate", format!("{} {wrong}", files.certificate.display()), CHAIN);
    let no_key = |wrong: String| reference("key", format!("{} {wrong}", files.key.display()), KEY);
    let chain = CertificateDer::pem_slice_iter(&read("certificate", &files.certificate, CHAIN)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| no_chain(format!("is not in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(no_chain("has no certificate in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&read("key", &files.key, KEY)?)
        .map_err(|error| no_key(format!("has no private key in PEM: {error}")))?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map(Arc::new)
        .map_err(|error| {
            no_key(match error {
                rustls::Error::InconsistentKeys(_) => "does not match the certificate".to_owned(),
                error => format!("does not match the certificate: {error}"),
            })
        })
}
