//! OpenBAO's answers. Pure: bytes in, what they mean out.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::token::Token;
use crate::inputs::{Secret, SecretBytes};

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody has unsealed it.
    #[error("it is sealed; unseal it")]
    Sealed,
    /// It cannot be reached.
    #[error("it does not answer ({0}); see its address, certificate and network policies")]
    Away(String),
    /// The role or the policy does not allow it.
    #[error("it denies {0}; see the role's service account and its policy")]
    Denied(String),
    /// It has another complaint.
    #[error("it answers {0}")]
    Refused(String),
    /// What to log in with cannot be read.
    #[error("{0}")]
    NoLogin(String),
}

impl Trouble {
    /// The word for a request that went well, and those for the others.
    pub const WORDS: [&str; 6] = ["ok", "sealed", "away", "denied", "refused", "no_login"];

    /// The word in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Away(_) => "away",
            Self::Denied(_) => "denied",
            Self::Refused(_) => "refused",
            Self::NoLogin(_) => "no_login",
        }
    }

    /// The reason in a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Sealed => "Sealed",
            Self::Away(_) => "Unreachable",
            Self::Denied(_) => "Denied",
            Self::Refused(_) => "Refused",
            Self::NoLogin(_) => "NoLogin",
        }
    }

    /// Whether other entries will fare no better.
    pub(super) fn concerns_all(&self) -> bool {
        matches!(self, Self::Sealed | Self::Away(_) | Self::NoLogin(_))
    }
}

/// An answer as it came.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The document of a success, or what is the matter.
    fn document(&self, asked: &str) -> Result<Value, Trouble> {
        let document: Option<Value> = serde_json::from_slice(&self.body).ok();
        match (self.status, document) {
            (200, Some(document)) => Ok(document),
            (200, None) => Err(Trouble::Refused(format!("no JSON to {asked}"))),
            (403, _) => Err(Trouble::Denied(asked.to_owned())),
            (503, document) if says(document.as_ref(), "sealed") => Err(Trouble::Sealed),
            (status, document) => {
                Err(Trouble::Refused(format!("{status} to {asked}{}", errors(document.as_ref()))))
            }
        }
    }
}

/// A token as a login or a renewal gives it.
pub(super) struct Lease {
    value: String,
    seconds: u64,
    renewable: bool,
}

impl Lease {
    /// Of `auth.client_token, lease_duration, renewable`.
    pub(super) fn read(answer: &Answer, asked: &str) -> Result<Self, Trouble> {
        let document = answer.document(asked)?;
        let auth = &document["auth"];
        let none = || Trouble::Refused(format!("no token to {asked}"));
        Ok(Self {
            value: auth["client_token"]
                .as_str()
                .filter(|token| !token.is_empty())
                .ok_or_else(none)?
                .to_owned(),
            seconds: auth["lease_duration"].as_u64().unwrap_or(0),
            renewable: auth["renewable"].as_bool().unwrap_or(false),
        })
    }

    /// Of a token that was there already (`auth/token/lookup-self`): what is left of it.
    pub(super) fn of(value: String, answer: &Answer, asked: &str) -> Result<Self, Trouble> {
        let document = answer.document(asked)?;
        let data = &document["data"];
        let renewable = data["renewable"].as_bool().unwrap_or(false);
        Ok(Self { value, seconds: data["ttl"].as_u64().unwrap_or(0), renewable })
    }

    pub(super) fn into_token(self, now: Instant) -> Token {
        Token::new(self.value, now, Duration::from_secs(self.seconds), self.renewable)
    }
}

/// Reads an answer to the question for an entry, given its status and body.
///
/// # Errors
/// It is no entry of KV version 2.
pub fn read_entry(status: u16, body: &[u8]) -> Result<Option<Secret>, Trouble> {
    entry(&Answer { status, body: body.to_vec() }, "an entry")
}

/// An entry of KV version 2. `None` where there is none, or its newest version was deleted.
pub(super) fn entry(answer: &Answer, asked: &str) -> Result<Option<Secret>, Trouble> {
    if answer.status == 404 {
        // A mount that is no KV version 2 answers so too, with a warning in place of nothing.
        let document: Option<Value> = serde_json::from_slice(&answer.body).ok();
        return match document {
            Some(document) if document["errors"].as_array().is_some_and(|it| !it.is_empty()) => {
                Err(Trouble::Refused(format!("404 to {asked}{}", errors(Some(&document)))))
            }
            Some(_) => Ok(None),
            None => Err(Trouble::Refused(format!("404 to {asked}; is this OpenBAO?"))),
        };
    }
    let document = answer.document(asked)?;
    let Some(data) = document["data"]["data"].as_object() else {
        return Err(Trouble::Refused(format!("no entry of KV version 2 to {asked}")));
    };
    let texts =
        data.iter().filter_map(|(key, value)| Some((key.clone(), SecretBytes::from(value.as_str()?))));
    Ok(Some(Secret(texts.collect())))
}

fn says(document: Option<&Value>, word: &str) -> bool {
    let errors = document.and_then(|it| it["errors"].as_array());
    errors.into_iter().flatten().filter_map(Value::as_str).any(|error| error.to_lowercase().contains(word))
}

/// The server's own words, which name paths and roles and no secrets; the first of them, and not endlessly.
fn errors(document: Option<&Value>) -> String {
    let first = document.and_then(|it| it["errors"].as_array()?.first()?.as_str());
    first
        .map(|text| {
            format!(": {}", text.lines().next().unwrap_or_default().chars().take(200).collect::<String>())
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status, body: body.to_string().into_bytes() }
    }

    #[test]
    fn entries_are_read_in_their_real_shape() {
        let good = answer(
            200,
            json!({
                "request_id": "6b2b", "lease_id": "", "renewable": false, "lease_duration": 0, "wrap_info": null, "warnings": null,
                "auth": null, "data": {
                    "data": {"key": "s3cret", "port": 7},
                    "metadata": {"created_time": "2026-11-01T10:00:00.1Z", "custom_metadata": null, "deletion_time": "",
                        "destroyed": false, "version": 3},
                },
            }),
        );
        let secret = entry(&good, "weir/routers/gateway").unwrap().unwrap();
        assert_eq!(secret.0["key"].text(), Some("s3cret"));
        assert_eq!(secret.0.len(), 1, "what is no text is no secret of ours");
        let deleted = json!({"data": {"data": null, "metadata": {"deletion_time": "2026-11-02T10:00:00Z"}}});
        assert_eq!(entry(&answer(404, deleted), "it"), Ok(None));
        assert_eq!(entry(&answer(404, json!({"errors": []})), "it"), Ok(None));
        let older = json!({"data": {"key": "s3cret"}, "lease_duration": 2_764_800});
        let said = entry(&answer(200, older), "it").unwrap_err().to_string();
        assert!(said.contains("KV version 2") && !said.contains("s3cret"), "{said}");
    }

    #[test]
    fn complaints_are_told_apart() {
        let of = |status, body| entry(&answer(status, body), "it").unwrap_err();
        assert_eq!(of(503, json!({"errors": ["Vault is sealed"]})), Trouble::Sealed);
        assert_eq!(
            of(403, json!({"errors": ["1 error occurred:\n\t* permission denied\n\n"]})),
            Trouble::Denied("it".into())
        );
        let unmounted = json!({"errors": ["no handler for route \"secret/data/x\". route entry not found."]});
        assert!(of(404, unmounted).to_string().contains("no handler for route"));
        assert!(matches!(of(503, json!({"errors": []})), Trouble::Refused(_)));
        assert!(of(500, json!({"errors": ["a".repeat(5000)]})).to_string().len() < 300);
        let page = Answer { status: 502, body: b"<html>".to_vec() };
        assert!(matches!(entry(&page, "it"), Err(Trouble::Refused(_))));
        assert!(matches!(
            entry(&Answer { status: 200, body: b"<html>".to_vec() }, "it"),
            Err(Trouble::Refused(_))
        ));
    }

    #[test]
    fn a_login_without_a_token_is_none() {
        for auth in [json!(null), json!({}), json!({"client_token": ""})] {
            assert!(Lease::read(&answer(200, json!({"auth": auth})), "login").is_err());
        }
    }
}
