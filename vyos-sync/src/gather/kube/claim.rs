//! Other clusters, as Secrets tell of them: Cluster API's `<cluster>-kubeconfig`, and Argo CD's cluster Secrets.
//!
//! Whoever may write such a Secret must not gain more than the cluster that it leads to. So nothing of it is run, no file of
//! ours is read for it, and no certificate is left unchecked.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::inputs::ClusterName;

/// Labels by which both are told.
const CAPI: &str = "cluster.x-k8s.io/cluster-name";
const ARGO: &str = "argocd.argoproj.io/secret-type";

/// What a Secret says of a cluster.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The cluster.
    pub cluster: ClusterName,
    /// Who says so: namespace and name of the Secret.
    pub by: (String, String),
    /// How to reach it, or why that cannot be done.
    pub access: Result<Kubeconfig, String>,
    /// A fingerprint: when it differs, the access was rotated.
    pub print: String,
    /// Which of the two systems it is of.
    pub of: Claimed,
}

/// Which system's Secret it is. Where both speak of a cluster, Cluster API's word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claimed {
    /// Cluster API's.
    ClusterApi,
    /// Argo CD's.
    Argo,
}

impl Claim {
    /// Reads a Secret; `None` for one that speaks of no other cluster.
    pub fn read(secret: &Secret) -> Option<Self> {
        let labels = secret.metadata.labels.as_ref()?;
        let name = secret.metadata.name.clone()?;
        let by = (secret.metadata.namespace.clone()?, name.clone());
        let data = |key: &str| secret.data.as_ref()?.get(key).map(|bytes| bytes.0.as_slice());
        if labels.get(ARGO).is_some_and(|kind| kind == "cluster") {
            let text = |key: &str| std::str::from_utf8(data(key)?).ok().map(str::trim);
            let server = text("server")?;
            if server.starts_with("https://kubernetes.default.svc") {
                return None;
            }
            let cluster = ClusterName::from(text("name").unwrap_or(server));
            let access = argo(server, text("config").unwrap_or("{}"));
            let print = print(&[server.as_bytes(), data("config").unwrap_or_default()]);
            return Some(Self { cluster, by, access, print, of: Claimed::Argo }.judged());
        }
        let cluster = labels.get(CAPI)?;
        if name != format!("{cluster}-kubeconfig") {
            return None;
        }
        let value = data("value").unwrap_or_default();
        let access = std::str::from_utf8(value)
            .map_err(|_| "its kubeconfig is no text".to_owned())
            .and_then(kubeconfig);
        let cluster = ClusterName::from(cluster.as_str());
        Some(Self { cluster, by, access, print: print(&[value]), of: Claimed::ClusterApi }.judged())
    }

    /// The name `local` is that of the cluster which holds the Router objects, whatever others say.
    fn judged(mut self) -> Self {
        if self.cluster.is_local() {
            self.access =
                Err("`local` is the name of the cluster that holds the Router; give it another".to_owned());
        }
        self
    }
}

fn print(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A kubeconfig of somebody else, as far as it may be used.
fn kubeconfig(text: &str) -> Result<Kubeconfig, String> {
    // The text may hold keys, and errors of the parser quote it.
    let whole = Kubeconfig::from_yaml(text).map_err(|_| "its kubeconfig cannot be read".to_owned())?;
    let current = whole.current_context.as_deref().unwrap_or_default();
    let context =
        whole.contexts.iter().find(|each| each.name == current).and_then(|each| each.context.clone());
    let context = context.ok_or("its kubeconfig has no current context")?;
    let cluster =
        whole.clusters.iter().find(|each| each.name == context.cluster).and_then(|each| each.cluster.clone());
    let user = whole.auth_infos.iter().find(|each| Some(&each.name) == context.user.as_ref());
    let user = user.and_then(|each| each.auth_info.clone()).unwrap_or_default();
    plain(&cluster.ok_or("its kubeconfig has no cluster for the current context")?, user)
}

/// Only what says where and who: everything else is refused by name.
fn plain(cluster: &Cluster, user: AuthInfo) -> Result<Kubeconfig, String> {
    let forbidden = [
        ("exec", user.exec.is_some()),
        ("auth-provider", user.auth_provider.is_some()),
        ("tokenFile", user.token_file.is_some()),
        ("client-certificate", user.client_certificate.is_some()),
        ("client-key", user.client_key.is_some()),
        ("certificate-authority", cluster.certificate_authority.is_some()),
        ("as", user.impersonate.is_some() || user.impersonate_groups.is_some()),
        ("proxy-url", cluster.proxy_url.is_some()),
        ("insecure-skip-tls-verify", cluster.insecure_skip_tls_verify == Some(true)),
    ];
    if let Some((field, _)) = forbidden.iter().find(|(_, there)| *there) {
        return Err(format!(
            "its `{field}` is not followed: give certificates, keys and tokens as data, and let the server be checked"
        ));
    }
    let server = cluster.server.clone().unwrap_or_default();
    if !server.starts_with("https://") {
        return Err(format!("its server `{server}` is not https"));
    }
    let cluster = Cluster {
        server: Some(server),
        certificate_authority_data: cluster.certificate_authority_data.clone(),
        tls_server_name: cluster.tls_server_name.clone(),
        ..Cluster::default()
    };
    let user = AuthInfo {
        username: user.username,
        password: user.password,
        token: user.token,
        client_certificate_data: user.client_certificate_data,
        client_key_data: user.client_key_data,
        ..AuthInfo::default()
    };
    let name = || "cluster".to_owned();
    let context = Context { cluster: name(), user: Some(name()), ..Context::default() };
    Ok(Kubeconfig {
        current_context: Some(name()),
        clusters: vec![NamedCluster { name: name(), cluster: Some(cluster), other: Default::default() }],
        auth_infos: vec![NamedAuthInfo { name: name(), auth_info: Some(user), other: Default::default() }],
        contexts: vec![NamedContext { name: name(), context: Some(context), other: Default::default() }],
        ..Kubeconfig::default()
    })
}

/// Argo CD's `config` of a cluster Secret.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArgoConfig {
    username: Option<String>,
    password: Option<String>,
    bearer_token: Option<String>,
    tls_client_config: ArgoTls,
    aws_auth_config: Option<serde_json::Value>,
    exec_provider_config: Option<serde_json::Value>,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArgoTls {
    insecure: bool,
    server_name: Option<String>,
    ca_data: Option<String>,
    cert_data: Option<String>,
    key_data: Option<String>,
}

fn argo(server: &str, config: &str) -> Result<Kubeconfig, String> {
    let config: ArgoConfig = serde_json::from_str(config)
        .map_err(|_| "its config is not the JSON that Argo CD writes".to_owned())?;
    for (field, there) in [
        ("awsAuthConfig", config.aws_auth_config.is_some()),
        ("execProviderConfig", config.exec_provider_config.is_some()),
    ] {
        if there {
            return Err(format!("its `{field}` is not followed: give a bearerToken or a certificate"));
        }
    }
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let tls = config.tls_client_config;
    let checked = |what: &str, text: Option<String>| match filled(text) {
        Some(data) if STANDARD.decode(&data).is_err() => {
            Err(format!("its tlsClientConfig.{what} is not base64"))
        }
        other => Ok(other),
    };
    let cluster = Cluster {
        server: Some(server.to_owned()),
        certificate_authority_data: checked("caData", tls.ca_data)?,
        tls_server_name: filled(tls.server_name),
        insecure_skip_tls_verify: Some(tls.insecure),
        proxy_url: filled(config.proxy_url),
        ..Cluster::default()
    };
    let user = AuthInfo {
        username: filled(config.username),
        password: filled(config.password).map(Into::into),
        token: filled(config.bearer_token).map(Into::into),
        client_certificate_data: checked("certData", tls.cert_data)?,
        client_key_data: checked("keyData", tls.key_data)?.map(Into::into),
        ..AuthInfo::default()
    };
    plain(&cluster, user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn secret(labels: Value, name: &str, data: &[(&str, &str)]) -> Secret {
        let data: serde_json::Map<String, Value> =
            data.iter().map(|(key, text)| ((*key).to_owned(), STANDARD.encode(text).into())).collect();
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "ns", "labels": labels}, "data": data}),
        )
        .unwrap()
    }

    fn capi(kubeconfig: &str) -> Claim {
        Claim::read(&secret(json!({CAPI: "media"}), "media-kubeconfig", &[("value", kubeconfig)])).unwrap()
    }

    const GOOD: &str = "
        current-context: c
        clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: QQ==}}]
        users: [{name: u, user: {token: abc}}]
        contexts: [{name: c, context: {cluster: c, user: u}}]";

    #[test]
    fn a_plain_kubeconfig_is_followed_and_a_rotated_one_is_seen() {
        let (one, other) = (capi(GOOD), capi(&GOOD.replace("abc", "xyz")));
        assert_eq!(one.cluster.as_str(), "media");
        let config = one.access.unwrap();
        assert_eq!(
            config.clusters[0].cluster.as_ref().unwrap().server.as_deref(),
            Some("https://10.0.0.1:6443")
        );
        assert_ne!(one.print, other.print);
        assert!(Claim::read(&secret(json!({CAPI: "media"}), "media-ca", &[])).is_none());
        assert!(
            Claim::read(&secret(json!({CAPI: "local"}), "local-kubeconfig", &[("value", GOOD)]))
                .unwrap()
                .access
                .is_err()
        );
    }

    #[test]
    fn what_would_run_or_read_something_here_is_refused_by_name() {
        for (user, field) in [
            ("exec: {command: /bin/sh, apiVersion: client.authentication.k8s.io/v1}", "exec"),
            ("tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token", "tokenFile"),
            ("client-key: /etc/key", "client-key"),
            ("auth-provider: {name: gcp, config: {}}", "auth-provider"),
            ("as: admin", "as"),
        ] {
            let why = capi(&GOOD.replace("token: abc", user)).access.unwrap_err();
            assert!(why.contains(&format!("`{field}`")), "{why}");
        }
        for (cluster, word) in [
            ("insecure-skip-tls-verify: true", "insecure-skip-tls-verify"),
            ("certificate-authority: /etc/passwd", "certificate-authority"),
            ("proxy-url: 'http://x'", "proxy-url"),
        ] {
            let why = capi(&GOOD.replace("certificate-authority-data: QQ==", cluster)).access.unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(capi(&GOOD.replace("https", "http")).access.unwrap_err().contains("not https"));
        assert!(!capi("{ token: hunter2").access.unwrap_err().contains("hunter2"));
    }

    #[test]
    fn argo_names_a_cluster_and_never_itself() {
        let argo = |server: &str, config: &str| {
            let data = [("name", "media"), ("server", server), ("config", config)];
            Claim::read(&secret(json!({ARGO: "cluster"}), "cluster-1", &data))
        };
        let config = r#"{"bearerToken":"abc","tlsClientConfig":{"insecure":false,"caData":"QQ=="}}"#;
        let claim = argo("https://10.0.0.1", config).unwrap();
        assert_eq!((claim.cluster.as_str(), claim.of, claim.access.is_ok()), ("media", Claimed::Argo, true));
        assert!(argo("https://kubernetes.default.svc", config).is_none());
        let insecure = argo("https://10.0.0.1", r#"{"tlsClientConfig":{"insecure":true}}"#).unwrap();
        assert!(insecure.access.unwrap_err().contains("insecure"));
        let run = argo("https://10.0.0.1", r#"{"execProviderConfig":{"command":"sh"}}"#).unwrap();
        assert!(run.access.unwrap_err().contains("execProviderConfig"));
    }
}
