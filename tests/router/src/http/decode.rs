//! From bytes to the one object that the API server works on: a form's `data` and `key`, or a JSON body.
//!
//! Checks, their order and their texts are those of the server's form parser and of pydantic.

use serde_json::{Map, Value};

use super::call::Endpoint;
use super::python::{pydantic, repr};
use super::reply::Refusal;

/// The body as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Encoded {
    /// multipart or urlencoded.
    Form {
        /// The field `data`.
        data: Option<String>,
        /// The field `key`.
        key: Option<String>,
    },
    /// Anything else is read as JSON.
    Json(Vec<u8>),
}

/// What the request says, and the key that it shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) key: Option<String>,
    pub(crate) body: Map<String, Value>,
    /// Errors of pydantic and of the form parser differ.
    pub(crate) from_json: bool,
}

/// Decodes, and makes the checks that come before the key is looked at.
pub(crate) fn decode(endpoint: Endpoint, encoded: Encoded) -> Result<Decoded, Refusal> {
    match encoded {
        Encoded::Form { data, key } => form(endpoint, data, key),
        Encoded::Json(bytes) => json(endpoint, &bytes),
    }
}

fn form(endpoint: Endpoint, data: Option<String>, key: Option<String>) -> Result<Decoded, Refusal> {
    let data = data
        .filter(|data| !data.is_empty())
        .ok_or(Refusal { status: 422, error: "Non-empty data field is required".to_owned() })?;
    let parsed: Value = serde_json::from_str(&data).map_err(|e| {
        let at = place(&data, &e);
        Refusal::bad(format!("Failed to parse JSON: Expecting value: {at}"))
    })?;
    let body = match parsed {
        Value::Object(fields) => fields,
        Value::Array(commands) => Map::from_iter([("commands".to_owned(), Value::Array(commands))]),
        other => {
            return Err(Refusal::bad(format!("Malformed command '{}': must be JSON of dict", repr(&other))));
        }
    };
    match body.get("commands") {
        Some(Value::Array(commands)) => {
            for (index, command) in commands.iter().enumerate() {
                check_command(endpoint, index, command)?;
            }
        }
        _ => check_fields(endpoint, 0, &body)?,
    }
    let inside = body.get("key").and_then(Value::as_str).map(str::to_owned);
    Ok(Decoded { key: key.or(inside), body, from_json: false })
}

fn check_command(endpoint: Endpoint, index: usize, command: &Value) -> Result<(), Refusal> {
    match command {
        Value::Object(fields) => check_fields(endpoint, index, fields),
        other => Err(Refusal::bad(format!("Malformed command '{}': must be JSON of dict", repr(other)))),
    }
}

fn check_fields(endpoint: Endpoint, index: usize, fields: &Map<String, Value>) -> Result<(), Refusal> {
    let malformed = |what: &str| {
        let shown = repr(&Value::Object(fields.clone()));
        Err(Refusal::bad(format!("Malformed command '{shown}': {what}")))
    };
    if !fields.contains_key("op") {
        return malformed("missing 'op' field");
    }
    if !endpoint.needs_path(fields) {
        return Ok(());
    }
    match fields.get("path") {
        None => malformed("missing 'path' field"),
        Some(Value::Array(words)) if !words.iter().all(Value::is_string) => {
            Err(Refusal::bad(format!("Malformed command '{index}': 'path' field must be a list of strings")))
        }
        Some(Value::Array(words)) if words.is_empty() && endpoint == Endpoint::Configure => {
            malformed("'path' list must be non-empty")
        }
        Some(Value::Array(_)) => check_value(endpoint, fields, malformed),
        Some(_) => malformed("'path' field must be a list"),
    }
}

fn check_value(
    endpoint: Endpoint,
    fields: &Map<String, Value>,
    malformed: impl Fn(&str) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match (fields.get("value"), fields.get("section")) {
        (Some(value), _) if !value.is_string() && !value.is_null() => {
            malformed("'value' field must be a string")
        }
        (_, None) if endpoint == Endpoint::ConfigureSection && fields.get("op") != Some(&"delete".into()) => {
            malformed("missing 'section' field")
        }
        _ => Ok(()),
    }
}

fn json(endpoint: Endpoint, bytes: &[u8]) -> Result<Decoded, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::bad(pydantic("missing", &["body"], "Field required", &Value::Null)));
    }
    let parsed: Value = serde_json::from_slice(bytes).map_err(|e| {
        let at = e.column().saturating_sub(1).to_string();
        Refusal::bad(pydantic(
            "json_invalid",
            &["body", &at],
            "JSON decode error",
            &Value::Object(Map::new()),
        ))
    })?;
    let Value::Object(body) = parsed else {
        let kind = "model_attributes_type";
        let message = "Input should be a valid dictionary or object to extract fields from";
        return Err(Refusal::bad(pydantic(kind, &["body"], message, &parsed)));
    };
    check_model(endpoint, &body)?;
    let key = body.get("key").and_then(Value::as_str).map(str::to_owned);
    Ok(Decoded { key, body, from_json: true })
}

fn check_model(endpoint: Endpoint, body: &Map<String, Value>) -> Result<(), Refusal> {
    let missing = |field: &str| {
        let input = Value::Object(body.clone());
        Err(Refusal::bad(pydantic("missing", &["body", field], "Field required", &input)))
    };
    match body.get("commands") {
        Some(Value::Array(commands)) => {
            for (index, command) in commands.iter().enumerate() {
                check_json_command(endpoint, &index.to_string(), command)?;
            }
        }
        _ if !body.contains_key("op") => return missing("op"),
        _ if endpoint.needs_path(body) && !body.contains_key("path") => return missing("path"),
        _ => check_words(&["body", "path"], body)?,
    }
    if body.contains_key("key") { Ok(()) } else { missing("key") }
}

fn check_json_command(endpoint: Endpoint, index: &str, command: &Value) -> Result<(), Refusal> {
    let fields = command.as_object().cloned().unwrap_or_default();
    let lacks = ["op", "path"].into_iter().find(|field| !fields.contains_key(*field));
    match lacks {
        Some(field) => {
            let place = ["body", "commands", index, field];
            Err(Refusal::bad(pydantic("missing", &place, "Field required", command)))
        }
        None if endpoint == Endpoint::Configure && fields.get("path") == Some(&Value::Array(Vec::new())) => {
            let place = ["body", "commands", index, "path"];
            Err(Refusal::bad(pydantic("value_error", &place, "Value error, path must be non-empty", command)))
        }
        None => check_words(&["body", "commands", index, "path"], &fields),
    }
}

fn check_words(place: &[&str], fields: &Map<String, Value>) -> Result<(), Refusal> {
    let Some(path) = fields.get("path") else { return Ok(()) };
    let Value::Array(words) = path else {
        return Err(Refusal::bad(pydantic("list_type", place, "Input should be a valid list", path)));
    };
    match words.iter().enumerate().find(|(_, word)| !word.is_string()) {
        None => Ok(()),
        Some((index, word)) => {
            let index = index.to_string();
            let place: Vec<_> = place.iter().copied().chain([index.as_str()]).collect();
            Err(Refusal::bad(pydantic("string_type", &place, "Input should be a valid string", word)))
        }
    }
}

/// Where Python's JSON parser stopped: it counts columns from 1 and characters from 0.
fn place(text: &str, error: &serde_json::Error) -> String {
    let before: usize =
        text.lines().take(error.line().saturating_sub(1)).map(|l| l.chars().count() + 1).sum();
    let end = error.is_eof();
    let column = if end { text.chars().count() - before + 1 } else { error.column().max(1) };
    format!("line {} column {column} (char {})", error.line(), before + column - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(data: &str) -> String {
        let form = Encoded::Form { data: Some(data.to_owned()), key: None };
        decode(Endpoint::Retrieve, form).unwrap_err().error
    }

    #[test]
    fn the_form_parser_names_what_is_missing() {
        assert_eq!(refused(r#"{"path": ["a"]}"#), "Malformed command '{'path': ['a']}': missing 'op' field");
        assert_eq!(refused(r#"{"op":"#), "Failed to parse JSON: Expecting value: line 1 column 7 (char 6)");
    }

    #[test]
    fn a_list_becomes_commands() {
        let form = Encoded::Form { data: Some("[]".to_owned()), key: Some("k".to_owned()) };
        let decoded = decode(Endpoint::Configure, form).unwrap();
        assert_eq!(decoded.body["commands"], Value::Array(Vec::new()));
    }
}
