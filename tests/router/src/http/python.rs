//! Values as Python prints them: the API server puts them into its error texts.

use serde_json::Value;

/// `repr()` of a value that came as JSON.
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(k, v)| format!("{}: {}", quoted(k), repr(v))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// One error of pydantic as the server prints it: with the input, which may hold the key.
pub(crate) fn pydantic(kind: &str, place: &[&str], message: &str, input: &Value) -> String {
    let place: Vec<_> = place.iter().map(|word| place_word(word)).collect();
    let place = if place.len() == 1 { format!("({},)", place[0]) } else { format!("({})", place.join(", ")) };
    format!(
        "{{'type': '{kind}', 'loc': {place}, 'msg': '{message}', 'input': {}, \
         'url': 'https://errors.pydantic.dev/2.7/v/{kind}'}}",
        repr(input)
    )
}

fn place_word(word: &str) -> String {
    if word.parse::<usize>().is_ok() { word.to_owned() } else { quoted(word) }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prints_as_python_does() {
        let value = json!({"op": "set", "n": [1, true, null], "it's": "a\"b"});
        assert_eq!(repr(&value), r#"{'op': 'set', 'n': [1, True, None], "it's": 'a"b'}"#);
        assert_eq!(repr(&json!("a'\"")), r#"'a\'"'"#);
    }

    #[test]
    fn one_word_places_keep_the_comma_of_a_tuple() {
        assert!(pydantic("missing", &["body"], "Field required", &Value::Null).contains("'loc': ('body',)"));
        assert!(pydantic("x", &["body", "1"], "", &Value::Null).contains("'loc': ('body', 1)"));
    }
}
