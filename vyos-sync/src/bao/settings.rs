//! What is told of the server on the command line.

use std::path::PathBuf;

/// Where a pod finds the token of its service account.
const JWT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The options.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Secrets in OpenBAO")]
#[group(id = "options-of-openbao")]
pub struct Options {
    /// OpenBAO's address, such as https://openbao.openbao.svc:8200. Routers and peerings may then name its entries.
    #[arg(long, value_name = "URL")]
    pub openbao: Option<String>,
    /// Authorities of its certificate (PEM), in place of the system's.
    #[arg(long, requires = "openbao", value_name = "FILE")]
    pub openbao_ca: Option<PathBuf>,
    /// Role of the Kubernetes authentication.
    #[arg(long, requires = "openbao", value_name = "NAME", default_value = "vyos-sync")]
    pub openbao_role: String,
    /// Where the Kubernetes authentication is mounted.
    #[arg(long, requires = "openbao", value_name = "PATH", default_value = "kubernetes")]
    pub openbao_auth: String,
    /// Token of the service account, read again at every login.
    #[arg(long, requires = "openbao", value_name = "FILE", default_value = JWT)]
    pub openbao_jwt: PathBuf,
    /// File with a token of OpenBAO itself, in place of the Kubernetes authentication.
    #[arg(long, requires = "openbao", value_name = "FILE")]
    pub openbao_token: Option<PathBuf>,
    /// Where the KV store (version 2) is mounted.
    #[arg(long, requires = "openbao", value_name = "PATH", default_value = "secret")]
    pub openbao_mount: String,
    /// What our entries' paths begin with: PREFIX/routers/NAME and PREFIX/bgp/NAMESPACE/NAME.
    #[arg(long, requires = "openbao", value_name = "PATH", default_value = "weir")]
    pub openbao_prefix: String,
}

/// How the server is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://host[:port]`.
    pub server: String,
    /// Authorities; the system's where there is no file.
    pub ca: Option<PathBuf>,
    /// How to log in.
    pub login: Login,
    /// The KV store and our place in it, as `v1/MOUNT/data/PREFIX`.
    pub place: String,
}

/// How to log in.
#[derive(Debug, Clone)]
pub enum Login {
    /// As a service account of Kubernetes.
    Kubernetes {
        /// Where it is mounted.
        mount: String,
        /// The role.
        role: String,
        /// The account's token.
        jwt: PathBuf,
    },
    /// With a token that somebody else keeps.
    File(PathBuf),
}

/// The options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Secrets would travel in clear.
    #[error("--openbao is `{0}`; write https://HOST:PORT")]
    Address(String),
    /// It would lead elsewhere.
    #[error("{option} is `{path}`; write names of letters, digits, `-`, `_` and `.`, separated by `/`")]
    Path {
        /// Which option.
        option: &'static str,
        /// What it says.
        path: String,
    },
}

impl Options {
    /// The settings; none where no server is given.
    ///
    /// # Errors
    /// The address or a path makes no sense.
    pub fn settings(self) -> Result<Option<Settings>, OptionsError> {
        let Some(server) = self.openbao else { return Ok(None) };
        let host = server.trim_end_matches('/').strip_prefix("https://").unwrap_or_default();
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(OptionsError::Address(server));
        }
        let server = format!("https://{host}");
        let mount = path("--openbao-mount", self.openbao_mount)?;
        let prefix = path("--openbao-prefix", self.openbao_prefix)?;
        let login = match self.openbao_token {
            Some(file) => Login::File(file),
            None => Login::Kubernetes {
                mount: path("--openbao-auth", self.openbao_auth)?,
                role: self.openbao_role,
                jwt: self.openbao_jwt,
            },
        };
        Ok(Some(Settings { server, ca: self.openbao_ca, login, place: format!("v1/{mount}/data/{prefix}") }))
    }
}

fn path(option: &'static str, path: String) -> Result<String, OptionsError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
    let trimmed = path.trim_matches('/');
    match trimmed.split('/').all(part) {
        true => Ok(trimmed.to_owned()),
        false => Err(OptionsError::Path { option, path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(server: &str, mount: &str) -> Result<Option<Settings>, OptionsError> {
        let options = Options {
            openbao: Some(server.to_owned()),
            openbao_mount: mount.to_owned(),
            openbao_prefix: "/weir/".to_owned(),
            openbao_auth: "kubernetes".to_owned(),
            ..Options::default()
        };
        options.settings()
    }

    #[test]
    fn only_https_and_plain_paths_serve() {
        let good = settings("https://bao.example.org:8200/", "secret").unwrap().unwrap();
        assert_eq!(
            (good.server.as_str(), good.place.as_str()),
            ("https://bao.example.org:8200", "v1/secret/data/weir")
        );
        for server in
            ["http://bao", "bao:8200", "https://", "https://u:p@bao", "https://bao/ui", "https://bao?x"]
        {
            assert!(matches!(settings(server, "secret"), Err(OptionsError::Address(_))), "{server}");
        }
        for mount in ["", "..", "a/../b", "a//b", "a b", "a?b"] {
            assert!(matches!(settings("https://bao", mount), Err(OptionsError::Path { .. })), "{mount}");
        }
        assert!(Options::default().settings().unwrap().is_none());
    }
}
