//! Whom a client of ours trusts.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The authorities cannot be read.
    #[error("cannot read the authorities in {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is none.
    #[error("{0} holds no PEM certificate of an authority")]
    Nobody(String),
    /// The TLS library refuses.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// TLS for a client that trusts the authorities of this file, or those of the system.
///
/// # Errors
/// There is nobody to trust.
pub fn trusting(ca: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    let place = match ca {
        Some(path) => {
            let read = |source| TrustError::Read { path: path.to_owned(), source };
            let text = fs::read(path).map_err(read)?;
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
            path.display().to_string()
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "the system".to_owned()
        }
    };
    if roots.is_empty() {
        return Err(TrustError::Nobody(place));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}
