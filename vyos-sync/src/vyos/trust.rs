//! How the router's certificate is trusted: a CA bundle, or the exact public key. There is no third way.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};

/// What makes a router's certificate acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Certificates of authorities, PEM. Chain, name and dates are checked.
    Ca(String),
    /// As `Ca`, but the certificate is for this name and not for the endpoint's host.
    CaNamed(String, String),
    /// SHA-256 of the SubjectPublicKeyInfo, as RFC 7469 makes it; one match is enough. The key is the identity: names
    /// and dates are not.
    Pins(Vec<[u8; 32]>),
}

/// Why trust could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// No certificate in the bundle.
    #[error("the CA bundle holds no PEM certificate")]
    NoCertificate,
    /// The bundle has something unusable.
    #[error("the CA bundle cannot be read: {0}")]
    Bundle(String),
    /// Not a pin.
    #[error(
        "`{0}` is no SPKI pin; write the SHA-256 as base64 (44 characters) or hex (64), with or without `sha256//`"
    )]
    Pin(String),
    /// Not a name that a certificate can be for.
    #[error("`{0}` is no server name")]
    Name(String),
    /// The certificates cannot be used.
    #[error("the CA bundle cannot be used")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The TLS library refuses.
    #[error("TLS cannot be set up")]
    Tls(#[from] Error),
}

impl Trust {
    /// Trust in any of these pins, each base64 or hex, with an optional `sha256//` or `sha256:` before it.
    ///
    /// # Errors
    /// [`TrustError::Pin`] when it is neither.
    pub fn pins<T: AsRef<str>>(texts: &[T]) -> Result<Self, TrustError> {
        texts.iter().map(|text| pin(text.as_ref())).collect::<Result<_, _>>().map(Self::Pins)
    }

    /// The TLS configuration that checks this trust.
    ///
    /// # Errors
    /// The bundle is unusable.
    pub fn config(&self) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        Ok(match self {
            Self::Ca(pem) => builder.with_root_certificates(roots(pem)?).with_no_client_auth(),
            Self::CaNamed(pem, name) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Named::new(pem, name, provider)?))
                .with_no_client_auth(),
            Self::Pins(pins) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned::new(pins.clone(), &provider)))
                .with_no_client_auth(),
        })
    }
}

fn pin(text: &str) -> Result<[u8; 32], TrustError> {
    let bare =
        ["sha256//", "sha256:", "sha256/"].iter().fold(text.trim(), |t, p| t.strip_prefix(p).unwrap_or(t));
    let bytes = match bare.len() {
        64 => hex(bare),
        _ => STANDARD.decode(bare).ok(),
    };
    bytes.and_then(|b| b.try_into().ok()).ok_or_else(|| TrustError::Pin(text.to_owned()))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok()).collect()
}

fn roots(pem: &str) -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| TrustError::Bundle(e.to_string()))?;
        store.add(certificate)?;
    }
    match store.is_empty() {
        true => Err(TrustError::NoCertificate),
        false => Ok(store),
    }
}

/// The usual checks, for a fixed name.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl Named {
    fn new(pem: &str, name: &str, provider: Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(pem)?), provider).build()?;
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TrustError::Name(name.to_owned()))?;
        Ok(Self { inner, name })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts exactly these public keys, and proof that the server holds one.
#[derive(Debug)]
struct Pinned {
    pins: Vec<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(pins: Vec<[u8; 32]>, provider: &CryptoProvider) -> Self {
        Self { pins, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let spki = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let pin: [u8; 32] = Sha256::digest(spki.as_ref()).into();
        match self.pins.contains(&pin) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General(format!(
                "the key of its certificate has the pin {}, which is none of spec.tls.spkiPins",
                STANDARD.encode(pin)
            ))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_in_both_spellings() {
        let key = rcgen::KeyPair::generate().unwrap();
        let digest: [u8; 32] = Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)).into();
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        let base64 = STANDARD.encode(digest);
        assert_eq!(Trust::pins(&[hex]).unwrap(), Trust::Pins(vec![digest]));
        assert_eq!(Trust::pins(&[format!("sha256//{base64}")]).unwrap(), Trust::Pins(vec![digest]));
        assert!(matches!(Trust::pins(&["abc"]), Err(TrustError::Pin(_))));
    }

    #[test]
    fn only_the_pinned_key_passes() {
        let one = rcgen::generate_simple_self_signed(["router".into()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["router".into()]).unwrap();
        let digest = |c: &rcgen::CertifiedKey<rcgen::KeyPair>| -> [u8; 32] {
            Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&c.signing_key)).into()
        };
        let verifier = Pinned::new(vec![digest(&one)], &ring::default_provider());
        let name = ServerName::try_from("10.0.0.1").unwrap();
        let check =
            |cert: &CertificateDer<'_>| verifier.verify_server_cert(cert, &[], &name, &[], UnixTime::now());
        assert!(check(one.cert.der()).is_ok());
        assert!(check(other.cert.der()).is_err());
    }

    #[test]
    fn an_empty_bundle_is_refused() {
        assert!(matches!(Trust::Ca("nothing".into()).config(), Err(TrustError::NoCertificate)));
        let own = rcgen::generate_simple_self_signed(["router".into()]).unwrap();
        assert!(Trust::Ca(own.cert.pem()).config().is_ok());
    }
}
