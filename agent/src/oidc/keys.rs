//! An issuer's keys, and when to ask for them again. Pure: the time is an argument.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, PublicKeyUse},
};
use serde_json::Value;

use super::signature;
use crate::model::access::Refusal;

/// A token's size at most; real ones have a few KiB.
const LONGEST: usize = 16 << 10;

/// How often the issuer is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two times, whatever tokens come.
    pub between: Duration,
    /// Age from which keys are asked for again.
    pub renew: Duration,
    /// Age from which they are no longer believed.
    pub trust: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let minutes = |number: u64| Duration::from_secs(60 * number);
        Self { between: Duration::from_secs(30), renew: minutes(10), trust: minutes(60) }
    }
}

/// An issuer's keys by their identifiers.
pub(super) struct Keys(BTreeMap<String, Key>);

struct Key {
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

impl Keys {
    /// Reads a JSON Web Key Set (RFC 7517, 5). Keys for other uses, or of kinds that are not known here, are left out.
    pub(super) fn read(set: &Value) -> Option<Self> {
        let keys = set["keys"].as_array()?.iter().filter_map(|key| {
            let key: Jwk = serde_json::from_value(key.clone()).ok()?;
            let signs = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
            let decoding =
                DecodingKey::from_jwk(&key).ok().filter(|key| key.family() != AlgorithmFamily::Hmac);
            let algorithm = key.common.key_algorithm.map(Algorithm::try_from);
            let usable = signs && !matches!(algorithm, Some(Err(_)));
            let found = Key { algorithm: algorithm.and_then(Result::ok), key: decoding? };
            Some((key.common.key_id.filter(|_| usable)?, found))
        });
        let keys: BTreeMap<_, _> = keys.collect();
        (!keys.is_empty()).then_some(Self(keys))
    }
}

/// A token whose signature is still to be checked.
pub(super) struct Token<'a> {
    text: &'a str,
    algorithm: Algorithm,
    pub(super) key: String,
}

impl<'a> Token<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > LONGEST {
            return Err(Refusal::Malformed("it is too long"));
        }
        let header = decode_header(text).map_err(|_| Refusal::Malformed("it has no readable header"))?;
        let key = header.kid.ok_or(Refusal::Malformed("it names no key (kid)"))?;
        Ok(Self { text, algorithm: header.alg, key })
    }

    /// What it claims, where the key signed it.
    pub(super) fn claims(&self, keys: &Keys) -> Result<Value, Refusal> {
        let key = keys.0.get(&self.key).ok_or(Refusal::Signature)?;
        if key.algorithm.is_some_and(|algorithm| algorithm != self.algorithm) {
            return Err(Refusal::Signature);
        }
        signature::install();
        // What is claimed is checked elsewhere, with the time as an argument.
        let mut signed = Validation::new(self.algorithm);
        signed.required_spec_claims.clear();
        (signed.validate_exp, signed.validate_aud) = (false, false);
        decode(self.text, &key.key, &signed).map(|token| token.claims).map_err(|_| Refusal::Signature)
    }
}

/// What a token claims, where a key of this set signed it. Nothing of it is checked but the signature.
///
/// # Errors
/// It is no token, or none of these keys signed it.
pub fn claims(token: &str, set: &Value) -> Result<Value, Refusal> {
    let token = Token::read(token)?;
    let keys = Keys::read(set).ok_or_else(|| Refusal::NoKeys("the set has none".to_owned()))?;
    token.claims(&keys)
}

/// The keys that are known, and how asking went.
#[derive(Default)]
pub(super) struct Shelf {
    keys: Option<(Arc<Keys>, Instant)>,
    asked: Option<Instant>,
    failure: Option<String>,
}

/// What to do about a token's key.
pub(super) enum Found {
    /// Check the token with these.
    Keys(Arc<Keys>),
    /// Ask the issuer.
    Ask,
    /// There is no such key.
    Unknown,
    /// There are no keys, for this reason.
    Absent(String),
}

impl Shelf {
    pub(super) fn find(&self, kid: &str, pace: &Pace, now: Instant) -> Found {
        let age = |at: Instant| now.saturating_duration_since(at);
        let may_ask = self.asked.is_none_or(|at| age(at) >= pace.between);
        let believed = self.keys.as_ref().filter(|(_, at)| age(*at) < pace.trust);
        match believed {
            Some((keys, at)) if keys.0.contains_key(kid) && !(may_ask && age(*at) >= pace.renew) => {
                Found::Keys(Arc::clone(keys))
            }
            _ if may_ask => Found::Ask,
            Some(_) => Found::Unknown,
            None => Found::Absent(self.failure.clone().unwrap_or_else(|| "its keys are too old".to_owned())),
        }
    }

    /// Keeps what the issuer answered; a failure leaves what is known.
    pub(super) fn keep(&mut self, answer: Result<Keys, String>, now: Instant) {
        self.asked = Some(now);
        match answer {
            Ok(keys) => (self.keys, self.failure) = (Some((Arc::new(keys), now)), None),
            Err(failure) => self.failure = Some(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The modulus of RFC 7515, A.2, which signed [`TOKEN`].
    const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

    fn set(kids: &[&str]) -> Keys {
        let key =
            |kid| json!({"use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256", "n": MODULUS, "e": "AQAB"});
        Keys::read(&json!({"keys": kids.iter().map(key).collect::<Vec<_>>()})).unwrap()
    }

    #[test]
    fn sets_are_read_and_what_cannot_sign_is_left_out() {
        let keys = json!({"keys": [
            {"use": "sig", "kty": "RSA", "kid": "good", "alg": "RS256", "n": MODULUS, "e": "AQAB"},
            {"use": "enc", "kty": "RSA", "kid": "enc", "alg": "RSA-OAEP", "n": MODULUS, "e": "AQAB"},
            {"use": "sig", "kty": "RSA", "alg": "RS256", "n": MODULUS, "e": "AQAB"},
            {"kty": "oct", "kid": "secret", "k": "AAAA"},
            {"kty": "OKP", "kid": "odd", "crv": "X448", "x": "AAAA"},
            {"kty": "RSA", "kid": "broken", "n": "*", "e": "AQAB"},
            7,
        ]});
        let read = Keys::read(&keys).unwrap();
        assert_eq!(read.0.keys().collect::<Vec<_>>(), ["good"]);
        for none in [json!({}), json!({"keys": []}), json!([]), json!({"keys": {"a": 1}})] {
            assert!(Keys::read(&none).is_none(), "{none}");
        }
    }

    #[test]
    fn the_issuer_is_asked_once_for_a_key_that_is_not_known() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut shelf = Shelf::default();
        assert!(matches!(shelf.find("a", &pace, start), Found::Ask));
        shelf.keep(Ok(set(&["a"])), start);
        assert!(matches!(shelf.find("a", &pace, at(599)), Found::Keys(_)));
        assert!(matches!(shelf.find("b", &pace, at(29)), Found::Unknown), "asked a moment ago");
        assert!(matches!(shelf.find("b", &pace, at(30)), Found::Ask));
        shelf.keep(Ok(set(&["b"])), at(30));
        assert!(matches!(shelf.find("b", &pace, at(31)), Found::Keys(_)));
        assert!(
            matches!(shelf.find("a", &pace, at(31)), Found::Unknown),
            "a key that was taken back is gone"
        );
    }

    #[test]
    fn an_absent_issuer_is_outlived_for_a_while_and_then_nobody_comes_in() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut shelf = Shelf::default();
        shelf.keep(Ok(set(&["a"])), start);
        assert!(matches!(shelf.find("a", &pace, at(600)), Found::Ask), "old enough to be renewed");
        shelf.keep(Err("it is away".to_owned()), at(600));
        assert!(matches!(shelf.find("a", &pace, at(601)), Found::Keys(_)));
        shelf.keep(Err("it is away".to_owned()), at(3599));
        let Found::Absent(why) = shelf.find("a", &pace, at(3600)) else { panic!("still believed") };
        assert_eq!(why, "it is away");
    }

    #[test]
    fn what_is_no_token_is_told() {
        for text in ["", "x", "a.b", "a.b.c", "....", "eyJhbGciOiJub25lIn0.e30."] {
            assert!(matches!(Token::read(text), Err(Refusal::Malformed(_))), "{text}");
        }
        assert!(matches!(Token::read(&"a".repeat(20_000)), Err(Refusal::Malformed("it is too long"))));
    }
}
