//! A certificate with its key, as TLS serves it. Pure: texts and the time come as arguments.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    CertificateError, RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};

use crate::{
    files::{FileError, Files, Texts},
    identity::Clients,
};

/// The end of the calendar of certificates, 9999-12-31 (RFC 5280, 4.1.2.5).
const LAST_DAY: Duration = Duration::from_secs(253_402_300_799);

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// Clients are to be certified, on listeners without TLS.
    #[error("clients cannot be certified without TLS; name the folder of a certificate with --tls-dir")]
    NoTls,
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no certificate in the file.
    #[error("{0} holds no PEM certificate")]
    NoCertificate(PathBuf),
    /// There is no key in the file.
    #[error("{0} holds no PEM private key")]
    NoKey(PathBuf),
    /// The time is not between its two dates.
    #[error("the certificate in {path} is not valid now")]
    Dates {
        /// Of the certificate.
        path: PathBuf,
        /// What is wrong with the dates.
        #[source]
        source: rustls::Error,
    },
    /// Certificate and key are of no use together.
    #[error("certificate and key in {folder} do not go together")]
    Together {
        /// Where both are.
        folder: PathBuf,
        /// What TLS says.
        #[source]
        source: rustls::Error,
    },
    /// Clients are to be certified, by nobody.
    #[error(
        "{0} holds no PEM certificate, and clients are to have one of that authority; leave that out to let anybody in"
    )]
    NoAuthority(PathBuf),
    /// The authority is of no use.
    #[error("the authority in {path} cannot be used")]
    Authority {
        /// Of the authority.
        path: PathBuf,
        /// What TLS says.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
}

/// A usable pair.
#[derive(Clone)]
pub(crate) struct Pair {
    /// For HTTP/1.1. Strangers are let in and known as such, for pages of health that the kubelet asks without a certificate.
    pub(crate) pages: Arc<ServerConfig>,
    /// For gRPC. Strangers are refused.
    pub(crate) calls: Arc<ServerConfig>,
    /// When it ends, since 1970.
    pub(crate) not_after: Duration,
}

impl Pair {
    /// Makes a pair of what the files hold.
    ///
    /// # Errors
    /// They hold no usable pair at this time.
    pub(crate) fn new(
        files: &Files,
        texts: &Texts,
        clients: Clients,
        now: UnixTime,
    ) -> Result<Self, PairError> {
        let provider = Arc::new(ring::default_provider());
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&texts.certificate).collect::<Result<_, _>>().unwrap_or_default();
        let none = || PairError::NoCertificate(files.certificate().to_owned());
        let leaf = chain.first().ok_or_else(none)?;
        let dates = |source| PairError::Dates { path: files.certificate().to_owned(), source };
        let not_after = ends(leaf, now, &provider).map_err(dates)?;
        let key = PrivateKeyDer::from_pem_slice(&texts.key)
            .map_err(|_| PairError::NoKey(files.key().to_owned()))?;
        let folder = files.certificate().parent().unwrap_or(files.certificate()).to_owned();
        let together = |source| PairError::Together { folder: folder.clone(), source };
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider).map_err(together)?);
        let server = |clients, protocol: &[u8]| serve(&key, clients, protocol, &provider).map_err(together);
        let [strict, lenient] = match clients {
            Clients::Anybody => {
                [WebPkiClientVerifier::no_client_auth(), WebPkiClientVerifier::no_client_auth()]
            }
            Clients::Certified => authorities(files, texts, &provider)?,
        };
        Ok(Self { pages: server(lenient, b"http/1.1")?, calls: server(strict, b"h2")?, not_after })
    }
}

fn serve(
    key: &Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
    protocol: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key.clone()));
    let mut config = builder.with_client_cert_verifier(clients).with_cert_resolver(resolver);
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// Verifiers of the clients: one that refuses strangers, one that lets them in without a certificate.
fn authorities(
    files: &Files,
    texts: &Texts,
    provider: &Arc<CryptoProvider>,
) -> Result<[Arc<dyn ClientCertVerifier>; 2], PairError> {
    let path = || files.authority().to_owned();
    let mut roots = RootCertStore::empty();
    let text = texts.authority.as_deref().unwrap_or_default();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).flatten());
    if roots.is_empty() {
        return Err(PairError::NoAuthority(path()));
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let wrong = |source| PairError::Authority { path: path(), source };
    Ok([builder.clone().build().map_err(wrong)?, builder.allow_unauthenticated().build().map_err(wrong)?])
}

/// When the certificate ends. Asks rustls, which names the date when it refuses a certificate for it; whose certificate it is
/// does not matter here, so no authority is trusted.
fn ends(
    leaf: &CertificateDer<'_>,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<Duration, rustls::Error> {
    let certificate = ParsedCertificate::try_from(leaf)?;
    let at = |time| {
        let known = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &RootCertStore::empty(), &[], time, known)
    };
    if let Err(
        wrong @ rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::BadEncoding,
        ),
    ) = at(now)
    {
        return Err(wrong);
    }
    match at(UnixTime::since_unix_epoch(LAST_DAY)) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Ok(Duration::from_secs(not_after.as_secs()))
        }
        _ => Ok(LAST_DAY),
    }
}
