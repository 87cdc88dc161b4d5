//! The JSON of `/retrieve` `showConfig`: typeless, one value of several is a string, a node without content is `{}`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::MAX_DEPTH;
use crate::config::{Children, Node, Tree, Values, print};

/// Why JSON is not a configuration.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON.
    #[error("not JSON")]
    Syntax(#[from] serde_json::Error),
    /// It is JSON, but not what a router shows.
    #[error("`{path}` in the configuration's JSON: {what}")]
    Shape {
        /// Where, words with blanks between.
        path: String,
        /// What is there.
        what: &'static str,
    },
}

/// The tree that a JSON text shows.
pub fn json_text(text: &[u8]) -> Result<Tree, JsonError> {
    json(&serde_json::from_slice(text)?)
}

/// The tree that a JSON value shows.
pub fn json(value: &Value) -> Result<Tree, JsonError> {
    let mut at = Vec::new();
    match node(value, &mut at)? {
        Node::Branch(children) => Ok(children.into()),
        Node::Leaf(_) => Err(shape(&at, "a configuration is an object")),
    }
}

fn node<'a>(value: &'a Value, at: &mut Vec<&'a str>) -> Result<Node, JsonError> {
    match value {
        Value::Object(_) if at.len() >= MAX_DEPTH => Err(shape(at, "nested too deeply")),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| child(name, value, at))
            .collect::<Result<Children, _>>()
            .map(Node::Branch),
        Value::String(text) => Ok(Node::value(text)),
        Value::Array(items) if items.is_empty() => Err(shape(at, "an empty list is no value")),
        Value::Array(items) => {
            let text = |item: &Value| item.as_str().map(str::to_owned);
            let values: Option<Values> = items.iter().map(text).collect();
            values.map(Node::Leaf).ok_or_else(|| shape(at, "a list holds strings only"))
        }
        _ => Err(shape(at, "neither object, string nor list")),
    }
}

fn child<'a>(name: &'a str, value: &'a Value, at: &mut Vec<&'a str>) -> Result<(String, Node), JsonError> {
    if name.is_empty() {
        return Err(shape(at, "a name is empty"));
    }
    at.push(name);
    let node = node(value, at)?;
    at.pop();
    Ok((name.to_owned(), node))
}

fn shape(at: &[&str], what: &'static str) -> JsonError {
    JsonError::Shape { path: at.join(" "), what }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        print::json(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_three_shapes_of_a_leaf() {
        let text = br#"{"a": {"one": "x", "many": ["x", "y"], "flag": {}}}"#;
        let tree = json_text(text).unwrap();
        assert_eq!(tree.weight(), 4);
        assert!(tree.at(&["a", "flag"]).unwrap().is_bare());
        assert_eq!(print::json(&tree), serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn says_where_it_is_wrong() {
        let error = json_text(br#"{"a": {"mtu": 1500}}"#).unwrap_err();
        assert_eq!(error.to_string(), "`a mtu` in the configuration's JSON: neither object, string nor list");
        assert!(
            json_text(b"[]").is_err()
                && json_text(br#"{"a": []}"#).is_err()
                && json_text(br#"{"": "x"}"#).is_err()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = json_text(&bytes);
        }
    }
}
