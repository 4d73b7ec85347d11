//! The tokens and the certificate of the TCP listener: read from files, at the start and at every reload.

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
use crate::config;

/// Bytes of the shortest token: 96 bits in hexadecimal.
const SHORTEST: usize = 24;
/// Bytes of the longest token: it has to fit a header.
const LONGEST: usize = 1024;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A token cannot be used.
    #[error("the token in {} {wrong}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        wrong: String,
    },
    /// The certificate or the key cannot be used.
    #[error("{} {wrong}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        wrong: String,
    },
}

/// What the listener knows callers by, and is known by.
pub(super) struct Credentials {
    read: Option<Vec<u8>>,
    admin: Option<Vec<u8>>,
    tls: Option<Arc<ServerConfig>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tokens are nobody's business.
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the files.
    pub(super) fn read(files: &config::Listen) -> Result<Self, CredentialsError> {
        let read = files.read_token.as_deref().map(token).transpose()?;
        let admin = files.admin_token.as_deref().map(token).transpose()?;
        if let (Some(path), true) = (&files.admin_token, read.is_some() && read == admin) {
            return Err(CredentialsError::Token {
                path: path.clone(),
                wrong: "is the same as the one that may only read; expected another".to_owned(),
            });
        }
        let tls = files.tls.as_ref().map(tls).transpose()?;
        Ok(Self { read, admin, tls })
    }

    /// What the bearer of a token may do. The time it takes says nothing about the tokens but their length.
    pub(super) fn access(&self, token: &[u8]) -> Access {
        let same = |known: &Option<Vec<u8>>| known.as_ref().is_some_and(|known| known.ct_eq(token).into());
        let (read, admin) = (same(&self.read), same(&self.admin));
        match (admin, read) {
            (true, _) => Access::Admin,
            (false, true) => Access::Read,
            (false, false) => Access::None,
        }
    }

    /// How to speak TLS; `None`: not at all.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }
}

/// The token in a file, which others must not be able to read.
fn token(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let unreadable = |cause| CredentialsError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let wrong = |wrong: String| CredentialsError::Token {
        path: path.to_owned(),
        wrong,
    };
    let mode = fs::metadata(path).map_err(unreadable)?.mode();
    if mode & 0o007 != 0 {
        return Err(wrong(format!(
            "is open to everybody (mode {:03o}); expected mode 600 or 640",
            mode & 0o777
        )));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let token = bytes.trim_ascii();
    if !(SHORTEST..=LONGEST).contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
        return Err(wrong(format!(
            "is not one: expected {SHORTEST} to {LONGEST} printable ASCII characters on one line, as \
             `openssl rand -hex 32` makes them"
        )));
    }
    Ok(token.to_owned())
}

fn tls(files: &config::Tls) -> Result<Arc<ServerConfig>, CredentialsError> {
    let wrong = |path: &Path, wrong: String| CredentialsError::Tls {
        path: path.to_owned(),
        wrong,
    };
    let bytes = |path: &Path| {
        fs::read(path).map_err(|cause| CredentialsError::Unreadable {
            path: path.to_owned(),
            cause,
        })
    };
    let chain = CertificateDer::pem_slice_iter(&bytes(&files.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(&files.certificate, format!("is not in PEM: {error}")))?;
    if chain.is_empty() {
        let problem = "has no certificate in PEM; expected the server's, and those that lead to its root";
        return Err(wrong(&files.certificate, problem.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?)
        .map_err(|error| wrong(&files.key, format!("has no private key in PEM: {error}")))?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map(Arc::new)
        .map_err(|error| wrong(&files.key, format!("does not go with the certificate: {error}")))
}
