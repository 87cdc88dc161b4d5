//! Request bodies and answers as VyOS wants and gives them. No I/O here.

use serde_json::{Value, json};

use super::{
    error::ApiError,
    key::{ApiKey, Redactor},
};

/// The JSON encoding is used for everything: smaller than a form, and the only one that takes `confirm`.
pub(super) fn body(mut request: Value, key: &ApiKey) -> Value {
    if let Value::Object(fields) = &mut request {
        fields.insert("key".into(), json!(key.expose()));
    }
    request
}

/// Reads an answer: status, and the JSON envelope that VyOS serves as text/html.
///
/// # Errors
/// What the router said is wrong, with the secrets taken out, or that it is no VyOS.
pub fn read(status: u16, body: &[u8], clean: &Redactor) -> Result<Value, ApiError> {
    match status {
        413 => return Err(ApiError::TooLarge),
        502..=504 => return Err(ApiError::Away { status }),
        _ => {}
    }
    let envelope = envelope(body).ok_or_else(|| not_vyos(status, body, clean))?;
    match (status, envelope) {
        (200, (true, data, _)) => Ok(data),
        (401, _) => Err(ApiError::Unauthorized),
        (422, (_, _, error)) => Err(ApiError::Malformed { text: clean.clean(&error) }),
        (500, (_, _, error)) => Err(ApiError::Internal { text: clean.clean(&error) }),
        (200 | 400, (_, _, error)) => Err(refusal(&clean.clean(&error))),
        _ => Err(not_vyos(status, body, clean)),
    }
}

fn envelope(body: &[u8]) -> Option<(bool, Value, String)> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let success = value.get("success")?.as_bool()?;
    let error = value.get("error")?.as_str().unwrap_or_default().to_owned();
    Some((success, value.get_mut("data")?.take(), error))
}

fn not_vyos(status: u16, body: &[u8], clean: &Redactor) -> ApiError {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("an empty body");
    ApiError::NotVyos { what: format!("HTTP {status}, {}", clean.clean(first)) }
}

fn refusal(text: &str) -> ApiError {
    let trimmed = text.trim();
    if trimmed.contains("temporarily locked due to another commit") {
        return ApiError::Busy;
    }
    let bare = matches!(
        trimmed,
        "Set failed" | "Delete failed" | "Failed to delete specified config path\nDelete failed"
    );
    match bare {
        true => ApiError::Poisoned { text: trimmed.to_owned() },
        false => ApiError::Refused { text: trimmed.to_owned() },
    }
}

/// The text of an empty path: not an error, there is simply nothing.
pub(super) fn says_empty(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused { text }
        if text == "Configuration under specified path is empty" || text == "Specified configuration path is not valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Value, ApiError> {
        read(status, body.as_bytes(), &Redactor::new(["KEY".to_owned()]))
    }

    #[test]
    fn answers_are_told_apart() {
        let ok = answer(200, r#"{"success":true,"data":{"a":"1"},"error":null}"#);
        assert_eq!(ok, Ok(json!({"a": "1"})));
        let locked = r#"{"success":false,"error":"Configuration system temporarily locked due to another commit in progress\n","data":null}"#;
        assert_eq!(answer(400, locked), Err(ApiError::Busy));
        let poisoned = answer(400, r#"{"success":false,"error":"Set failed\n","data":null}"#);
        assert!(matches!(poisoned, Err(ApiError::Poisoned { .. })));
        let invalid = r#"{"success":false,"error":"Configuration path: [a b] is not valid\n\nSet failed\n","data":null}"#;
        assert!(matches!(answer(400, invalid), Err(ApiError::Refused { .. })));
        assert_eq!(answer(401, r#"{"success":false,"error":"x","data":null}"#), Err(ApiError::Unauthorized));
        assert_eq!(answer(413, "<html>"), Err(ApiError::TooLarge));
        assert_eq!(answer(504, "<html>"), Err(ApiError::Away { status: 504 }));
        assert!(matches!(answer(404, "<html>404"), Err(ApiError::NotVyos { .. })));
        assert!(matches!(answer(200, "[1]"), Err(ApiError::NotVyos { .. })));
        assert!(matches!(answer(200, "<html>login"), Err(ApiError::NotVyos { .. })));
        let internal = answer(500, r#"{"success":false,"error":"An internal error occured.","data":null}"#);
        assert!(internal.unwrap_err().read_is_retryable());
    }

    #[test]
    fn an_echoed_key_stays_hidden() {
        let echo = r#"{"success":false,"error":"'input': {'op': 'confirm', 'key': 'KEY'}","data":null}"#;
        let shown = format!("{:?} {}", answer(400, echo), answer(400, echo).unwrap_err());
        assert!(!shown.contains("KEY"), "{shown}");
    }

    #[test]
    fn a_refused_change_may_be_partly_live() {
        use super::super::error::Fate;
        assert_eq!(ApiError::Refused { text: String::new() }.fate(), Fate::PerhapsPartly);
        assert_eq!(ApiError::Away { status: 504 }.fate(), Fate::Unknown);
        assert_eq!(ApiError::Lost { why: String::new() }.fate(), Fate::Unknown);
        assert_eq!(ApiError::Busy.fate(), Fate::NotApplied);
    }
}
