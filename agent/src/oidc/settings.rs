//! What the agent is told of its issuer.

use std::path::PathBuf;

use reqwest::Url;
use serde::Deserialize;
use thiserror::Error;

use crate::model::access::{Rules, Terms};

/// The role that a change needs, unless told otherwise.
const CHANGE: &str = "weir-change";

/// The options, on the command line and in the configuration file.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[group(id = "options-of-oidc")]
pub struct Options {
    /// OpenID Connect issuer whose tokens guard --grpc, such as https://id.example.org [default: nobody is asked for a token]
    #[arg(id = "oidc_issuer", long = "oidc-issuer", value_name = "URL")]
    pub issuer: Option<String>,
    /// Audience that tokens must be for; Zitadel: the identifier of the project.
    #[arg(id = "oidc_audience", long = "oidc-audience", value_name = "ID")]
    pub audience: Option<String>,
    /// Role that a call needs which changes something [default: weir-change]
    #[arg(id = "oidc_change_role", long = "oidc-change-role", value_name = "ROLE")]
    pub change_role: Option<String>,
    /// Role that every other call needs [default: those are open]
    #[arg(id = "oidc_read_role", long = "oidc-read-role", value_name = "ROLE")]
    pub read_role: Option<String>,
    /// Claim with the roles [default: urn:zitadel:iam:org:project:AUDIENCE:roles]
    #[arg(id = "oidc_roles_claim", long = "oidc-roles-claim", value_name = "NAME")]
    pub roles_claim: Option<String>,
    /// Authorities of the issuer's certificate (PEM) [default: the system's]
    #[arg(id = "oidc_ca", long = "oidc-ca", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// What is asked of callers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a token must say.
    pub terms: Terms,
    /// Which roles calls need.
    pub rules: Rules,
    /// Authorities of the issuer's certificate; the system's where there is no file.
    pub ca: Option<PathBuf>,
}

/// The options do not go together.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// One is of no use without another.
    #[error(
        "{0} is missing: --oidc-issuer and --oidc-audience go together, and all other --oidc options need both"
    )]
    Missing(&'static str),
    /// Keys would come from whoever is in the way.
    #[error("{0:?} is no issuer: write https://HOST, without a query")]
    Issuer(String),
    /// Anybody has the empty role.
    #[error("a role has a name")]
    EmptyRole,
}

impl Options {
    /// These, and what they leave open from others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            issuer: self.issuer.or(other.issuer),
            audience: self.audience.or(other.audience),
            change_role: self.change_role.or(other.change_role),
            read_role: self.read_role.or(other.read_role),
            roles_claim: self.roles_claim.or(other.roles_claim),
            ca: self.ca.or(other.ca),
        }
    }

    /// What they ask for; nothing where none is given.
    ///
    /// # Errors
    /// They do not go together.
    pub fn settings(self) -> Result<Option<Settings>, SettingsError> {
        let Self { issuer, audience, change_role, read_role, roles_claim, ca } = self;
        let others = [&change_role, &read_role, &roles_claim].iter().any(|it| it.is_some()) || ca.is_some();
        let (issuer, audience) = match (issuer, audience) {
            (None, None) if !others => return Ok(None),
            (Some(issuer), Some(audience)) if !audience.is_empty() => (issuer, audience),
            (None, _) => return Err(SettingsError::Missing("--oidc-issuer")),
            _ => return Err(SettingsError::Missing("--oidc-audience")),
        };
        let sound = Url::parse(&issuer).is_ok_and(|url| url.scheme() == "https" && url.query().is_none());
        if !sound {
            return Err(SettingsError::Issuer(issuer));
        }
        let rules = Rules { change: change_role.unwrap_or_else(|| CHANGE.to_owned()), read: read_role };
        if rules.change.is_empty() || rules.read.as_deref() == Some("") {
            return Err(SettingsError::EmptyRole);
        }
        let roles_claim = roles_claim.unwrap_or_else(|| Terms::zitadel_claim(&audience));
        Ok(Some(Settings { terms: Terms { issuer, audience, roles_claim }, rules, ca }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(issuer: Option<&str>, audience: Option<&str>) -> Options {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Options { issuer: own(issuer), audience: own(audience), ..Options::default() }
    }

    #[test]
    fn options_go_together_or_are_named() {
        assert!(Options::default().settings().unwrap().is_none());
        let settings = options(Some("https://id.example.org"), Some("7")).settings().unwrap().unwrap();
        assert_eq!(settings.terms.roles_claim, "urn:zitadel:iam:org:project:7:roles");
        assert_eq!(settings.rules, Rules { change: "weir-change".into(), read: None });
        for (given, missing) in [
            (options(Some("https://id.example.org"), None), "--oidc-audience"),
            (options(None, Some("7")), "--oidc-issuer"),
            (Options { read_role: Some("viewer".into()), ..Options::default() }, "--oidc-issuer"),
        ] {
            assert_eq!(given.settings().err(), Some(SettingsError::Missing(missing)));
        }
        for issuer in ["http://id.example.org", "id.example.org", "https://id.example.org?x"] {
            assert!(matches!(options(Some(issuer), Some("7")).settings(), Err(SettingsError::Issuer(_))));
        }
        let nobody = Options {
            change_role: Some(String::new()),
            ..options(Some("https://id.example.org"), Some("7"))
        };
        assert_eq!(nobody.settings().err(), Some(SettingsError::EmptyRole));
    }
}
