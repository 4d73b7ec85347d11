//! What checks need from this machine: certificates, keys, users. They are loaded once, before the
//! first check.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::system::command::{self, RunAs, UserError};
use lb_core::config::{Probe, Tls, TlsClient};

/// What a check needs in addition to its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResources {
    /// The TLS client. `None`: the check does not use TLS.
    pub(super) tls: Option<ClientTls>,
    /// The user that a command runs as. `None`: the check is not a command.
    pub(super) user: Option<RunAs>,
}

/// The TLS client of a check.
#[derive(Clone)]
pub(super) struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    /// The contents of its files, to find out whether they have changed.
    files: Arc<Files>,
}

/// Contents of the files that a TLS client is made of, in PEM.
#[derive(Debug, Default, PartialEq, Eq)]
struct Files {
    /// Trusted certificates.
    ca: Option<Vec<u8>>,
    /// Certificate chain and private key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Eq for ClientTls {}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The private key must not be logged.
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// What this machine lacks for a check.
#[derive(Debug, thiserror::Error)]
pub enum ProbeResourcesError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
    /// A file has the wrong contents.
    #[error("{} {wrong}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; follows the name of the file in a sentence.
        wrong: String,
    },
    /// The system has no trusted certificates.
    #[error("this system has no trusted certificates: set `ca_file`, or `verify = false`")]
    NoRoots,
    /// The user does not exist, or must not run commands.
    #[error(transparent)]
    User(#[from] UserError),
}

impl ProbeResources {
    /// Loads what `probe` needs.
    pub(super) fn load(probe: &Probe) -> Result<Self, ProbeResourcesError> {
        let protocols: &[&[u8]] = match probe {
            Probe::Grpc(_) => &[b"h2"],
            _ => &[b"http/1.1"],
        };
        let user = match probe {
            Probe::Command(command) => Some(command::user(&command.user, false)?),
            _ => None,
        };
        Ok(Self {
            tls: probe.tls().map(|tls| client(tls, protocols)).transpose()?,
            user,
        })
    }
}

/// Makes the TLS client of a check. `protocols` are offered by ALPN.
fn client(tls: &TlsClient, protocols: &[&[u8]]) -> Result<ClientTls, ProbeResourcesError> {
    let files = Files {
        ca: tls.ca_file.as_deref().map(read).transpose()?,
        identity: match &tls.identity {
            Some(Tls { certificate, key }) => Some((read(certificate)?, read(key)?)),
            None => None,
        },
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(Path::new("TLS"), error.to_string()))?;
    let builder = if tls.verify {
        builder.with_webpki_verifier(verifier(tls, &files, provider)?)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    };
    let mut config = match (&tls.identity, &files.identity) {
        (Some(names), Some((certificate, key))) => {
            let (chain, key) = identity(names, certificate, key)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => wrong(&names.key, "does not match the certificate"),
                error => wrong(&names.key, format!("does not match the certificate: {error}")),
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    // A resumed session would hide an expired certificate.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(ClientTls {
        config: Arc::new(config),
        files: Arc::new(files),
    })
}

/// Verifies certificates against `ca_file`, or else against those that the system trusts.
fn verifier(
    tls: &TlsClient,
    files: &Files,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, ProbeResourcesError> {
    let roots = match (&tls.ca_file, &files.ca) {
        (Some(path), Some(bytes)) => roots(path, bytes)?,
        _ => system_roots()?,
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| wrong(tls.ca_file.as_deref().unwrap_or(Path::new("trust")), error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, ProbeResourcesError> {
    fs::read(path).map_err(|cause| ProbeResourcesError::Unreadable {
        path: path.to_owned(),
        cause,
    })
}

fn wrong(path: &Path, wrong: impl Into<String>) -> ProbeResourcesError {
    ProbeResourcesError::Wrong {
        path: path.to_owned(),
        wrong: wrong.into(),
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, ProbeResourcesError> {
    let found = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(path, format!("is not a PEM file: {error}")))?;
    if found.is_empty() {
        return Err(wrong(path, "contains no certificate in PEM"));
    }
    Ok(found)
}

fn roots(path: &Path, bytes: &[u8]) -> Result<RootCertStore, ProbeResourcesError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(path, format!("contains a certificate that cannot be trusted: {error}")))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ProbeResourcesError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(ProbeResourcesError::NoRoots);
    }
    Ok(roots)
}

fn identity(
    names: &Tls,
    certificate: &[u8],
    key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ProbeResourcesError> {
    let chain = certificates(&names.certificate, certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| wrong(&names.key, format!("contains no private key in PEM: {error}")))?;
    Ok((chain, key))
}

/// Accepts every certificate (`verify = false`). The server still has to prove that it has the key
/// of the certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
