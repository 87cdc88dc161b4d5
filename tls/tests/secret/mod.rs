//! A Secret of certificates as the kubelet mounts it, and clients that trust its authority.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its part, and may fail"
)]

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The name that all certificates of these tests are for.
pub const NAME: &str = "weir.test";

/// An authority that signs.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, PEM.
#[derive(Clone)]
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub fn sign(&self) -> Signed {
        self.sign_until(2100)
    }

    /// A certificate from 2000 to the first day of this year.
    pub fn sign_until(&self, year: i32) -> Signed {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME, "localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    /// A client that trusts this authority and shows a certificate, or none.
    pub fn client(&self, own: Option<&Signed>, protocol: &str) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(self.pem.as_bytes()).flatten());
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![own.der()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }
}

impl Signed {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// A mounted Secret: its files are links by way of `..data`, which is swapped in one step.
pub struct Mounted {
    folder: tempfile::TempDir,
    version: std::cell::Cell<u32>,
}

impl Mounted {
    pub fn new(signed: &Signed, authority: &Authority) -> Self {
        let mounted = Self { folder: tempfile::tempdir().unwrap(), version: Default::default() };
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(format!("..data/{name}"), mounted.path().join(name)).unwrap();
        }
        mounted.swap(signed, &authority.pem);
        mounted
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What the kubelet does when the Secret has changed.
    pub fn swap(&self, signed: &Signed, authority: &str) {
        let version = self.version.get() + 1;
        self.version.set(version);
        let own = format!("..{version}");
        let folder = self.path().join(&own);
        fs::create_dir(&folder).unwrap();
        for (name, text) in
            [("tls.crt", signed.certificate.as_str()), ("tls.key", &signed.key), ("ca.crt", authority)]
        {
            fs::write(folder.join(name), text).unwrap();
        }
        let link = self.path().join("..data_tmp");
        symlink(&own, &link).unwrap();
        fs::rename(link, self.path().join("..data")).unwrap();
        let _ = fs::remove_dir_all(self.path().join(format!("..{}", version - 1)));
    }
}
