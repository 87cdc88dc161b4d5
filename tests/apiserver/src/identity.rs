//! A certificate authority of the test's own, and who may come in.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate in PEM.
    pub pem: String,
}

/// Somebody with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The bearer token.
    pub token: String,
    /// The user's name.
    pub name: String,
    /// The user's groups.
    pub groups: Vec<String>,
}

impl User {
    /// May do everything.
    pub fn admin() -> Self {
        Self::new("admin-token", "admin", &["system:masters"])
    }

    /// A user of that name and with these groups.
    pub fn new(token: &str, name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { token: token.to_owned(), name: name.to_owned(), groups }
    }

    /// A line of `--token-auth-file`.
    pub(crate) fn line(&self) -> String {
        format!("{},{},{},\"{}\"\n", self.token, self.name, self.name, self.groups.join(","))
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// The certificate library's.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Writes a server's certificate and key.
    ///
    /// # Errors
    /// The certificate library's, or the disk's.
    pub(crate) fn server(&self, certificate: &Path, key_file: &Path) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        fs::write(certificate, params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(key_file, key.serialize_pem())?;
        Ok(())
    }

    /// A kubeconfig with a client certificate that is good for so long from now on.
    ///
    /// # Errors
    /// The certificate library's.
    pub fn kubeconfig(&self, url: &str, user: &str, group: &str, good_for: Duration) -> Result<String> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = (SystemTime::now() + good_for).into();
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let who = format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            STANDARD.encode(certificate),
            STANDARD.encode(key.serialize_pem())
        );
        Ok(kubeconfig(url, &self.pem, &who))
    }
}

/// A kubeconfig's text.
pub(crate) fn kubeconfig(url: &str, ca: &str, who: &str) -> String {
    let ca = STANDARD.encode(ca);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: {url}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: test\n  user:\n    {who}\ncontexts:\n- name: test\n  context:\n    \
         cluster: test\n    user: test\n"
    )
}
