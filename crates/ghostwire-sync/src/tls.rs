//! TLS 1.3 for the peers' port: a certificate that can be changed while the server runs, and one to begin with.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::SyncError;

/// A certificate chain and its private key, both PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The server's own certificate first.
    pub chain: String,
    /// PKCS #8, PKCS #1 or SEC 1.
    pub key: String,
}

/// Without the key.
impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl Certificate {
    /// A certificate for `names` (DNS names and addresses) that nobody has signed but itself, with a new P-256 key, good for
    /// ten years: who pins its key has no use for an earlier end.
    ///
    /// # Errors
    /// [`SyncError::Certificate`] for a name that cannot stand in one.
    pub fn self_signed(names: Vec<String>) -> Result<Self, SyncError> {
        let invalid = |error: rcgen::Error| SyncError::Certificate { reason: error.to_string() };
        let key = rcgen::KeyPair::generate().map_err(invalid)?;
        let mut params = rcgen::CertificateParams::new(names).map_err(invalid)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ghostwire");
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(1);
        params.not_after = now + time::Duration::days(3650);
        let certificate = params.self_signed(&key).map_err(invalid)?;
        Ok(Self { chain: certificate.pem(), key: key.serialize_pem() })
    }
}

/// What connections are accepted with; [`Tls::change`] counts for those that come after it.
#[derive(Debug)]
pub(crate) struct Tls {
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    pub(crate) fn new(certificate: &Certificate) -> Result<Self, SyncError> {
        Ok(Self { config: RwLock::new(config(certificate)?) })
    }

    pub(crate) fn change(&self, certificate: &Certificate) -> Result<(), SyncError> {
        *self.config.write() = config(certificate)?;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read()).into()
    }
}

fn config(certificate: &Certificate) -> Result<Arc<ServerConfig>, SyncError> {
    let invalid = |reason: String| SyncError::Certificate { reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).collect();
    let chain = chain.map_err(|error| invalid(format!("the chain: {error}")))?;
    if chain.is_empty() {
        return Err(invalid("the chain holds no certificate".into()));
    }
    // Without the reason, which might quote it.
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes());
    let key = key.map_err(|_| invalid("the key is no private key in PEM".into()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(|error| invalid(error.to_string()))?;
    let mut config =
        builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| invalid(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A peer connects seldom and with another token each time: a ticket would only be memory.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_checked_before_it_counts() {
        let first = Certificate::self_signed(vec!["mesh.example.com".into(), "192.0.2.1".into()]).unwrap();
        let second = Certificate::self_signed(vec!["localhost".into()]).unwrap();
        let tls = Tls::new(&first).unwrap();
        tls.change(&second).unwrap();
        let mixed = Certificate { chain: first.chain.clone(), key: second.key.clone() };
        for bad in [
            mixed,
            Certificate { chain: String::new(), ..first.clone() },
            Certificate {
                key: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into(),
                ..first.clone()
            },
            Certificate { chain: first.key.clone(), key: first.chain.clone() },
        ] {
            let error = tls.change(&bad).unwrap_err();
            assert_eq!(error.code().name, "ERR_CERTIFICATE");
        }
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }
}
