//! The `https` check: certificates of servers and of checks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use lb_core::config::{Tls, TlsClient};

/// A certificate authority with a folder for the files that it signs.
pub(super) struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Signs a certificate for these names; returns its files.
    pub(super) fn signed(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> Tls {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        let certificate = params.signed_by(&key, issuer).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{}{end}", names.join("_")));
        let files = Tls {
            certificate: path(".crt"),
            key: path(".key"),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    pub(super) fn server(&self, own: &Tls, verifies_clients: bool, protocol: &[u8]) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&own.certificate)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if verifies_clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server that responds to any request over TLS.
async fn https_server(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

pub(super) fn trusting(ca: Option<PathBuf>, name: Option<&str>) -> TlsClient {
    TlsClient {
        server_name: name.map(str::to_owned),
        verify: true,
        ca_file: ca,
        identity: None,
    }
}

#[tokio::test]
async fn https_needs_a_trusted_certificate_for_the_right_name() {
    let authority = Authority::new();
    let other = Authority::new();
    let own = authority.signed(&["www.example.org", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let address = https_server(authority.server(&own, false, b"http/1.1")).await;
    let unverified = TlsClient {
        verify: false,
        ..trusting(None, Some("other.example.org"))
    };
    for (tls, then) in [
        (trusting(Some(authority.ca()), Some("www.example.org")), "ok"),
        (trusting(Some(authority.ca()), None), "ok"),
        (unverified, "ok"),
        (
            trusting(Some(authority.ca()), Some("other.example.org")),
            "TLS: invalid peer certificate: certificate not valid for name",
        ),
        (
            trusting(Some(other.ca()), Some("www.example.org")),
            "TLS: invalid peer certificate: ",
        ),
    ] {
        let probe = HttpProbe {
            tls: Some(tls.clone()),
            ..http_probe()
        };
        let found = result(address, Probe::Http(probe)).await;
        assert!(found.starts_with(then), "{tls:?}: {found}");
    }
    let plain = server(Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    let probe = HttpProbe {
        tls: Some(trusting(Some(authority.ca()), None)),
        ..http_probe()
    };
    let found = result(plain, Probe::Http(probe)).await;
    assert!(found.starts_with("TLS: "), "{found}");
}

#[tokio::test]
async fn https_presents_the_client_certificate() {
    let authority = Authority::new();
    let own = authority.signed(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let check = authority.signed(&["lbd"], ExtendedKeyUsagePurpose::ClientAuth);
    let address = https_server(authority.server(&own, true, b"http/1.1")).await;
    let with = |identity| {
        Probe::Http(HttpProbe {
            tls: Some(TlsClient {
                identity,
                ..trusting(Some(authority.ca()), None)
            }),
            ..http_probe()
        })
    };
    assert_eq!(result(address, with(Some(check))).await, "ok");
    assert_ne!(result(address, with(None)).await, "ok");
}

#[test]
fn unusable_files_are_reported_before_the_first_check() {
    let authority = Authority::new();
    let one = authority.signed(&["a"], ExtendedKeyUsagePurpose::ClientAuth);
    let two = authority.signed(&["b"], ExtendedKeyUsagePurpose::ClientAuth);
    let empty = authority.folder.path().join("empty");
    fs::write(&empty, "").unwrap();
    let failure = |tls: TlsClient| {
        let probe = HttpProbe {
            tls: Some(tls),
            ..http_probe()
        };
        ProbeResources::load(&Probe::Http(probe)).unwrap_err().to_string()
    };
    let with = |certificate: &Path, key: &Path| TlsClient {
        identity: Some(Tls {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
        ..trusting(Some(authority.ca()), None)
    };
    for (tls, then) in [
        (
            trusting(Some("/nonexistent".into()), None),
            "cannot read /nonexistent: ",
        ),
        (trusting(Some(empty.clone()), None), "contains no certificate in PEM"),
        (with(&empty, &one.key), "contains no certificate in PEM"),
        (with(&one.certificate, &empty), "contains no private key in PEM"),
        (with(&one.certificate, &two.key), "does not match the certificate"),
    ] {
        let found = failure(tls);
        assert!(found.contains(then), "{found}");
    }
}
