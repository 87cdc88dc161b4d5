//! /graphql: the shape of its answers to a wrong key, and to queries that the stand-in does not serve.

use serde_json::{Value, json};

use super::{Answer, Machine};
use crate::http::reply::Reply;

impl Machine {
    /// The key is inside the query; a wrong one is success of HTTP and failure of the operation.
    pub(crate) async fn graphql(&self, body: &[u8]) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let query = body["query"].as_str().unwrap_or("");
        let operation: String = query
            .trim_start_matches("query")
            .chars()
            .filter(|c| c.is_alphanumeric() || "({".contains(*c))
            .collect();
        let operation = operation.trim_start_matches('{').split(['(', '{']).next().unwrap_or("").to_owned();
        let key = query.split_once("key:").and_then(|(_, rest)| rest.split('"').nth(1)).unwrap_or("");
        let (success, errors) = if !self.knows_key(key) {
            (false, json!(["invalid API key"]))
        } else {
            return Answer::Reply(self.graphql_operation(&operation).await);
        };
        Answer::Reply(Reply::Plain(json!({"data": {operation: {"success": success, "errors": errors}}})))
    }

    async fn graphql_operation(&self, operation: &str) -> Reply {
        match operation {
            "ShowSummaryBgp" => {
                let text = self.vtysh("show bgp summary json").await.unwrap_or_default();
                let summary: Value = serde_json::from_str(&text).unwrap_or_default();
                Reply::Plain(json!({"data": {operation: {
                    "success": true, "errors": null, "op_mode_error": null, "data": {"result": snake(&summary)},
                }}}))
            }
            _ => {
                let message = format!("Cannot query field '{operation}' on type 'Query'.");
                Reply::Plain(json!({"errors": [{"message": message}], "data": null}))
            }
        }
    }
}

/// The server turns every key into snake case, addresses among them.
fn snake(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (snake_word(name), snake(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(snake).collect(),
        other => other.clone(),
    }
}

fn snake_word(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        match c {
            c if c.is_ascii_uppercase() => out.extend(['_', c.to_ascii_lowercase()]),
            c if c.is_alphanumeric() => out.push(c),
            _ => out.push('_'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_snakes() {
        assert_eq!(snake(&json!({"10.0.0.1": {"remoteAs": 1}})), json!({"10_0_0_1": {"remote_as": 1}}));
    }
}
