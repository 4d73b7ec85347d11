//! What checks need of this machine: certificates, keys, users. Read once, before anything is asked.

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

/// What a check needs besides what the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// How to speak TLS.
    pub(super) tls: Option<ClientTls>,
    /// Whom commands run as.
    pub(super) user: Option<RunAs>,
}

/// How to speak TLS.
#[derive(Clone)]
pub(super) struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    /// What the files said, so that the same files are known to be the same.
    files: Arc<Files>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Files {
    ca: Option<Vec<u8>>,
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
        // The key is nobody's business.
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// Why a check cannot be made on this machine.
#[derive(Debug, thiserror::Error)]
pub enum MeansError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} {wrong}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        wrong: String,
    },
    /// This machine trusts nobody.
    #[error(
        "this system has no certificates that it trusts; `ca_file` names those that are meant, or `verify` = false"
    )]
    NoRoots,
    /// The user is not there, or cannot be one.
    #[error(transparent)]
    User(#[from] UserError),
}

impl Means {
    /// What `probe` needs.
    pub(super) fn of(probe: &Probe) -> Result<Self, MeansError> {
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

fn client(tls: &TlsClient, protocols: &[&[u8]]) -> Result<ClientTls, MeansError> {
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
        let roots = match (&tls.ca_file, &files.ca) {
            (Some(path), Some(bytes)) => roots(path, bytes)?,
            _ => system_roots()?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| wrong(tls.ca_file.as_deref().unwrap_or(Path::new("trust")), error.to_string()))?;
        builder.with_webpki_verifier(verifier)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    };
    let mut config = match (&tls.identity, &files.identity) {
        (Some(names), Some((certificate, key))) => {
            let (chain, key) = identity(names, certificate, key)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => wrong(&names.key, "does not go with the certificate"),
                error => wrong(&names.key, format!("does not go with the certificate: {error}")),
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    // A resumed session would hide that the certificate has expired.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(ClientTls {
        config: Arc::new(config),
        files: Arc::new(files),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, MeansError> {
    fs::read(path).map_err(|cause| MeansError::Unreadable {
        path: path.to_owned(),
        cause,
    })
}

fn wrong(path: &Path, wrong: impl Into<String>) -> MeansError {
    MeansError::Wrong {
        path: path.to_owned(),
        wrong: wrong.into(),
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, MeansError> {
    let found = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(path, format!("is not in PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong(path, "has no certificate in PEM"));
    }
    Ok(found)
}

fn roots(path: &Path, bytes: &[u8]) -> Result<RootCertStore, MeansError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(path, format!("has a certificate that cannot be trusted: {error}")))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, MeansError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(MeansError::NoRoots);
    }
    Ok(roots)
}

fn identity(
    names: &Tls,
    certificate: &[u8],
    key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), MeansError> {
    let chain = certificates(&names.certificate, certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| wrong(&names.key, format!("has no private key in PEM: {error}")))?;
    Ok((chain, key))
}

/// Takes every certificate, as `verify` = false says; the server still has to have its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
