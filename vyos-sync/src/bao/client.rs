//! Requests to OpenBAO's HTTP API.

use std::{path::Path, time::Duration};

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{
    settings::{Login, Settings},
    wire::{self, Answer, Lease, Trouble},
};
use crate::inputs::{Entry, Secret};

const PATIENCE: Duration = Duration::from_secs(5);
/// An entry has a few hundred octets.
const LARGEST: usize = 1 << 20;

pub(super) struct Client {
    settings: Settings,
}

impl Client {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings }
    }

    pub(super) fn server(&self) -> &str {
        &self.settings.server
    }

    /// Gets a token, with what the files hold now: a projected token is swapped every hour.
    pub(super) async fn login(&self) -> Result<Lease, Trouble> {
        match &self.settings.login {
            Login::Kubernetes { mount, role, jwt } => {
                let path = format!("v1/auth/{mount}/login");
                let body = json!({"role": role, "jwt": file(jwt)?});
                let answer = self.ask(Method::POST, &path, |request| request.json(&body)).await?;
                Lease::read(&answer, &format!("a login as role {role}"))
            }
            Login::File(path) => {
                let token = file(path)?;
                let with = |request: RequestBuilder| request.header("X-Vault-Token", &token);
                let answer = self.ask(Method::GET, "v1/auth/token/lookup-self", with).await?;
                Lease::of(token, &answer, &format!("the token of {}", path.display()))
            }
        }
    }

    pub(super) async fn renew(&self, token: &str) -> Result<Lease, Trouble> {
        let with = |request: RequestBuilder| request.header("X-Vault-Token", token).json(&json!({}));
        let answer = self.ask(Method::POST, "v1/auth/token/renew-self", with).await?;
        Lease::read(&answer, "a renewal of our token")
    }

    /// The newest version of an entry.
    pub(super) async fn read(&self, token: &str, entry: &Entry) -> Result<Option<Secret>, Trouble> {
        let path = format!("{}/{}", self.settings.place, entry.path());
        let with = |request: RequestBuilder| request.header("X-Vault-Token", token);
        let answer = self.ask(Method::GET, &path, with).await?;
        wire::entry(&answer, path.trim_start_matches("v1/"))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, Trouble> {
        let tls = weir_tls::trusting(self.settings.ca.as_deref()).map_err(|error| away(&error))?;
        // Made anew each time, a few times a minute: the authorities may have changed.
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|error| away(&error))?;
        let url = format!("{}/{path}", self.settings.server);
        let request = fill(client.request(method, url).header("X-Vault-Request", "true"));
        let mut response = request.send().await.map_err(|error| away(&error.without_url()))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| away(&error.without_url()))? {
            body.extend_from_slice(&part);
            if body.len() > LARGEST {
                return Err(Trouble::Refused(format!("more than {LARGEST} octets to {path}")));
            }
        }
        Ok(Answer { status, body })
    }
}

fn file(path: &Path) -> Result<String, Trouble> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Trouble::NoLogin(format!("{} cannot be read: {error}", path.display())))?;
    match text.trim() {
        "" => Err(Trouble::NoLogin(format!("{} holds no token", path.display()))),
        token => Ok(token.to_owned()),
    }
}

fn away(error: &dyn std::error::Error) -> Trouble {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    Trouble::Away(causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
}
