//! Who may call what: what a token must say, and which role each call needs.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

/// How far two clocks may be apart, in seconds.
const LEEWAY: u64 = 30;

/// Calls that change nothing.
pub const READING: &[&str] = &[
    "Bfd",
    "Bgp",
    "Drops",
    "Explain",
    "Flows",
    "Links",
    "Policy",
    "PolicyDiff",
    "PolicyEvents",
    "PolicyTrace",
    "Status",
    "Top",
    "Vips",
];

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It tells.
    Reads,
    /// It changes something.
    Changes,
}

impl Call {
    /// What the call of this path (`/package.Service/Method`) does. One that is not known might change anything.
    pub fn of(path: &str) -> Self {
        let method = path.rsplit('/').next().unwrap_or_default();
        if READING.contains(&method) { Self::Reads } else { Self::Changes }
    }
}

/// Which roles are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For calls that change something.
    pub change: String,
    /// For calls that tell; without one they are open.
    pub read: Option<String>,
}

impl Rules {
    /// The roles of which a caller needs one; none where anybody may call. Who may change may read.
    pub fn needed(&self, call: Call) -> Vec<&str> {
        match (call, &self.read) {
            (Call::Changes, _) => vec![&self.change],
            (Call::Reads, Some(read)) => vec![read, &self.change],
            (Call::Reads, None) => Vec::new(),
        }
    }
}

/// What a token must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who gave it.
    pub issuer: String,
    /// For whom it is; Zitadel's is the identifier of a project.
    pub audience: String,
    /// The claim with the roles.
    pub roles_claim: String,
}

impl Terms {
    /// Zitadel's claim with a project's own roles. The claim without a project in its name holds roles of the project that the
    /// caller's program belongs to, which may be anybody's.
    pub fn zitadel_claim(project: &str) -> String {
        format!("urn:zitadel:iam:org:project:{project}:roles")
    }
}

/// Why a call is refused, and the way out. No text has the token, or a part of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    #[error(
        "this call needs a token of {issuer} with the role {role}; weirctl takes one with --token-file or from WEIR_TOKEN"
    )]
    NoToken {
        /// Who gives tokens.
        issuer: String,
        /// Which role it must have.
        role: String,
    },
    /// It is not what it should be.
    #[error("the token is no signed JSON Web Token: {0}; ask for an access token of type JWT")]
    Malformed(&'static str),
    /// Its key is none of the issuer's.
    #[error("the token's key is not among those that {0} publishes; get a new token")]
    UnknownKey(String),
    /// Its signature is wrong.
    #[error("the token's signature is wrong; get a new token")]
    Signature,
    /// Somebody else gave it.
    #[error("the token is not from {0}; get one there")]
    Issuer(String),
    /// It is for somebody else.
    #[error(
        "the token is not for {0}; ask for one with that audience (Zitadel: scope urn:zitadel:iam:org:project:id:{0}:aud)"
    )]
    Audience(String),
    /// It has ended.
    #[error("the token expired {0} s ago; get a new one")]
    Expired(u64),
    /// It has not begun.
    #[error("the token is not valid for another {0} s; compare the clocks of the node and of the issuer")]
    Early(u64),
    /// The caller may not do this.
    #[error(
        "this call needs the role {role} in the token's claim {claim}; grant it, and ask for it in the token's scopes"
    )]
    NoRole {
        /// Which role is needed.
        role: String,
        /// Where it is looked for.
        claim: String,
    },
    /// Nobody can be checked.
    #[error("no token can be checked: {0}; until then use the Unix socket on the node")]
    NoKeys(String),
}

impl Refusal {
    /// The word in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoToken { .. } => "no_token",
            Self::Malformed(_) => "malformed",
            Self::UnknownKey(_) => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer(_) => "issuer",
            Self::Audience(_) => "audience",
            Self::Expired(_) => "expired",
            Self::Early(_) => "early",
            Self::NoRole { .. } => "no_role",
            Self::NoKeys(_) => "no_keys",
        }
    }

    /// All words, for a metric's bound.
    pub const WORDS: [&str; 10] = [
        "no_token",
        "malformed",
        "unknown_key",
        "signature",
        "issuer",
        "audience",
        "expired",
        "early",
        "no_role",
        "no_keys",
    ];
}

/// What a token gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The roles.
    pub roles: BTreeSet<String>,
    /// Until when, in seconds since 1970; what two clocks may be apart is in it.
    pub until: u64,
}

impl Grant {
    /// How long it lasts from this time on, as time since 1970; a century or so at most, so that it can be added to any time.
    pub fn left(&self, now: Duration) -> Duration {
        let longest = Duration::from_secs(u32::MAX.into());
        Duration::from_secs(self.until).saturating_sub(now).min(longest)
    }
}

/// What signed claims give at this time, in seconds since 1970.
///
/// # Errors
/// They are of another issuer, for another audience, or of another time.
pub fn grant(claims: &Value, terms: &Terms, now: u64) -> Result<Grant, Refusal> {
    if claims["iss"].as_str() != Some(&terms.issuer) {
        return Err(Refusal::Issuer(terms.issuer.clone()));
    }
    if !names(&claims["aud"]).any(|audience| audience == terms.audience) {
        return Err(Refusal::Audience(terms.audience.clone()));
    }
    let ends = seconds(&claims["exp"]).ok_or(Refusal::Malformed("it has no end (exp)"))?;
    let until = ends.saturating_add(LEEWAY);
    if now >= until {
        return Err(Refusal::Expired(now - ends));
    }
    let begins = seconds(&claims["nbf"]).unwrap_or(0);
    if now.saturating_add(LEEWAY) < begins {
        return Err(Refusal::Early(begins - now));
    }
    let roles = names(&claims[&terms.roles_claim]).map(str::to_owned).collect();
    Ok(Grant { roles, until })
}

/// The names that a claim gives: one, a list, the keys of an object (Zitadel's tokens), or a list of such objects (Zitadel's
/// documents).
fn names(claim: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match claim {
        Value::String(one) => Box::new(std::iter::once(one.as_str())),
        Value::Object(by_name) => Box::new(by_name.keys().map(String::as_str)),
        Value::Array(list) => Box::new(list.iter().filter(|one| !one.is_array()).flat_map(names)),
        _ => Box::new(std::iter::empty()),
    }
}

/// A NumericDate (RFC 7519, 2), which may have a fraction.
fn seconds(claim: &Value) -> Option<u64> {
    claim.as_u64().or_else(|| claim.as_f64().filter(|time| *time >= 0.0).map(|time| time as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn terms() -> Terms {
        let roles_claim = Terms::zitadel_claim("31415");
        Terms { issuer: "https://id.example.org".into(), audience: "31415".into(), roles_claim }
    }

    fn claims(change: impl FnOnce(&mut Value)) -> Value {
        let mut claims = json!({
            "iss": "https://id.example.org", "aud": ["client@weir", "31415"], "exp": 1000, "nbf": 100, "sub": "7",
            "urn:zitadel:iam:org:project:31415:roles": {"weir-change": {"271828": "example.org"}},
            "urn:zitadel:iam:org:project:roles": {"elsewhere": {"271828": "example.org"}},
        });
        change(&mut claims);
        claims
    }

    fn given(change: impl FnOnce(&mut Value)) -> Result<Vec<String>, Refusal> {
        grant(&claims(change), &terms(), 500).map(|grant| grant.roles.into_iter().collect())
    }

    #[test]
    fn roles_are_read_in_each_shape_and_from_one_claim_alone() {
        let claim = "urn:zitadel:iam:org:project:31415:roles";
        assert_eq!(given(|_| {}).unwrap(), ["weir-change"]);
        let shapes =
            [json!([{"a": {"1": "x"}}, {"b": {"1": "x"}}]), json!(["b", "a"]), json!({"a": {}, "b": {}})];
        for shape in shapes {
            assert_eq!(given(|claims| claims[claim] = shape).unwrap(), ["a", "b"]);
        }
        for none in [json!(null), json!(7), json!([[["a"]]]), json!({})] {
            assert_eq!(given(|claims| claims[claim] = none).unwrap(), [""; 0]);
        }
    }

    #[test]
    fn issuer_audience_and_time_are_checked() {
        let project = || "31415".to_owned();
        let issuer = || "https://id.example.org".to_owned();
        assert_eq!(given(|it| it["iss"] = json!("https://id.example.org/")), Err(Refusal::Issuer(issuer())));
        assert_eq!(given(|it| it["iss"] = json!(null)), Err(Refusal::Issuer(issuer())));
        assert_eq!(given(|it| it["aud"] = json!(["3141"])), Err(Refusal::Audience(project())));
        assert_eq!(given(|it| it["aud"] = json!(null)), Err(Refusal::Audience(project())));
        assert!(given(|it| it["aud"] = json!("31415")).is_ok());
        assert_eq!(given(|it| it["exp"] = json!(470)), Err(Refusal::Expired(30)));
        assert!(given(|it| it["exp"] = json!(471.5)).is_ok());
        assert!(matches!(given(|it| it["exp"] = json!(null)), Err(Refusal::Malformed(_))));
        assert!(matches!(given(|it| it["exp"] = json!(-1)), Err(Refusal::Malformed(_))));
        assert_eq!(given(|it| it["nbf"] = json!(531)), Err(Refusal::Early(31)));
        assert!(given(|it| it["nbf"] = json!(530)).is_ok());
        assert!(given(|it| it["exp"] = json!(u64::MAX)).is_ok());
    }

    #[test]
    fn a_grant_lasts_as_long_as_its_token_is_taken() {
        let at = Duration::from_millis;
        let given = |end: Value, now: u64| grant(&claims(|it| it["exp"] = end), &terms(), now);
        let short = given(json!(1000), 500).unwrap();
        assert_eq!(short.until, 1030);
        let left = [500_000, 1_029_250, 1_030_000, 9_000_000].map(|now| short.left(at(now)));
        assert_eq!(left, [at(530_000), at(750), at(0), at(0)]);
        assert!(given(json!(1000), 1029).is_ok() && given(json!(1000), 1030).is_err(), "the same end");
        let endless = given(json!(u64::MAX), 500).unwrap().left(at(500_000));
        assert!(std::time::Instant::now().checked_add(endless).is_some());
    }

    #[test]
    fn every_call_is_known_and_others_count_as_changes() {
        let proto = include_str!("../../proto/weir/v1/weir.proto");
        let calls: BTreeSet<&str> =
            proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()).collect();
        let changing: Vec<_> =
            calls.iter().filter(|call| Call::of(&format!("/weir.v1.Weir/{call}")) == Call::Changes).collect();
        assert_eq!(changing, [&"PolicySettle"], "a new call is listed in READING, or guarded");
        assert!(READING.iter().all(|call| calls.contains(call)));
        assert_eq!(Call::of("/weir.v1.Weir/Unheard"), Call::Changes);
        assert_eq!(Call::of(""), Call::Changes);
    }

    #[test]
    fn who_may_change_may_read() {
        let mut rules = Rules { change: "admin".into(), read: None };
        assert_eq!((rules.needed(Call::Reads), rules.needed(Call::Changes)), (vec![], vec!["admin"]));
        rules.read = Some("viewer".into());
        assert_eq!(rules.needed(Call::Reads), ["viewer", "admin"]);
        assert_eq!(rules.needed(Call::Changes), ["admin"]);
    }
}
