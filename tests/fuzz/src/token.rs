//! Tokens of strangers, and the key sets of issuers.

use serde_json::Value;
use weir_agent::oidc;

/// A key set on the first line and a token on the second are taken together or refused, and a refusal tells no part of the token.
pub(crate) fn token(bytes: &[u8]) {
    let Some((set, token)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let set: Value = serde_json::from_str(set).unwrap_or_default();
    match oidc::claims(token, &set) {
        Ok(_) => assert_eq!(token.split('.').count(), 3, "what was signed has three parts"),
        Err(refusal) => {
            let said = refusal.to_string();
            assert!(token.split('.').all(|part| part.len() < 24 || !said.contains(part)), "{said}");
        }
    }
}
