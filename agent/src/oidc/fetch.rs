//! Discovery and keys, over HTTPS.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, StatusCode, redirect::Policy};
use serde_json::Value;
use thiserror::Error;

use super::keys::Keys;

const PATIENCE: Duration = Duration::from_secs(5);
/// An answer's size at most: a set of some keys has a few KiB.
const LARGEST: usize = 256 << 10;

/// Why an issuer's keys are not known.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Its certificate cannot be checked.
    #[error(transparent)]
    Trust(#[from] weir_tls::TrustError),
    /// It does not answer.
    #[error("{url} does not answer")]
    Away {
        /// What was asked.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// It answers with an error.
    #[error("{url} answers {status}")]
    Refused {
        /// What was asked.
        url: String,
        /// With what.
        status: StatusCode,
    },
    /// It answers something else.
    #[error("{url} answers no {what}")]
    Other {
        /// What was asked.
        url: String,
        /// What was expected.
        what: &'static str,
    },
    /// It is somebody else.
    #[error("{url} is the document of another issuer; write --oidc-issuer exactly as it calls itself")]
    OtherIssuer {
        /// What was asked.
        url: String,
    },
}

/// Asks for the keys, by way of the discovery document (OpenID Connect Discovery 1.0, 4).
pub(super) async fn keys(issuer: &str, ca: Option<&Path>) -> Result<Keys, FetchError> {
    // Made anew each time, which is rarely: the authorities may have changed.
    let unset = |source| FetchError::Away { url: issuer.to_owned(), source };
    let client = Client::builder()
        .tls_backend_preconfigured(weir_tls::trusting(ca)?)
        .https_only(true)
        .redirect(Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(unset)?;
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let document = ask(&client, &url).await?;
    if document["issuer"].as_str() != Some(issuer) {
        return Err(FetchError::OtherIssuer { url });
    }
    let other = || FetchError::Other { url, what: "jwks_uri" };
    let keys = document["jwks_uri"].as_str().ok_or_else(other)?;
    let set = ask(&client, keys).await?;
    Keys::read(&set).ok_or_else(|| FetchError::Other { url: keys.to_owned(), what: "keys that sign" })
}

async fn ask(client: &Client, url: &str) -> Result<Value, FetchError> {
    let away =
        |source: reqwest::Error| FetchError::Away { url: url.to_owned(), source: source.without_url() };
    let mut response = client.get(url).send().await.map_err(away)?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(FetchError::Refused { url: url.to_owned(), status });
    }
    let mut text = Vec::new();
    while let Some(part) = response.chunk().await.map_err(away)? {
        text.extend_from_slice(&part);
        if text.len() > LARGEST {
            return Err(FetchError::Other { url: url.to_owned(), what: "document of a sensible size" });
        }
    }
    serde_json::from_slice(&text).map_err(|_| FetchError::Other { url: url.to_owned(), what: "JSON" })
}
