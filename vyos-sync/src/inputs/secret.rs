//! Secrets: bytes that never show in a log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// The data of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret(pub BTreeMap<String, SecretBytes>);

/// Bytes that never show in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// The bytes as text without the newline that editors leave at the end; `None` where they are not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok().map(|text| text.trim_end_matches(['\r', '\n']))
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for SecretBytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Reads `data` and `stringData`; the latter wins, as it does in the API.
pub(super) fn parse(object: &Value) -> Result<Secret, String> {
    let mut keys = BTreeMap::new();
    for (key, value) in texts(object, "data") {
        // The value itself must never be in the error.
        let bytes = STANDARD.decode(value).map_err(|_| format!("data.{key} is not base64"))?;
        keys.insert(key.clone(), SecretBytes(bytes));
    }
    keys.extend(texts(object, "stringData").map(|(key, value)| (key.clone(), value.into())));
    Ok(Secret(keys))
}

fn texts<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    let entries = object.get(field).and_then(Value::as_object);
    entries.into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_read_and_none_is_shown() {
        let secret = parse(&json!({"data": {"a": "Q2lsaXVtMTIz"}, "stringData": {"b": "plain\n"}})).unwrap();
        assert_eq!(secret.0["a"].text(), Some("Cilium123"));
        assert_eq!(secret.0["b"].text(), Some("plain"));
        assert!(!format!("{secret:?}").contains("Cilium123"));
    }

    #[test]
    fn an_error_does_not_tell_the_value() {
        let error = parse(&json!({"data": {"a": "hunter2!"}})).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
