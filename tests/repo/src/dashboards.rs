//! The dashboards and rules of `dashboards/`, as lists of what they ask.

use serde_json::Value;

use crate::{Source, sources, yaml};

/// One query, and where it stands.
#[derive(Clone, Debug)]
pub struct Query {
    /// Dashboard and panel, or file and rule.
    pub place: String,
    /// The expression, with Grafana's variables still in it.
    pub expression: String,
}

impl Query {
    /// The expression as Prometheus takes it: every variable matches all, and the rate's window is `window`.
    pub fn plain(&self, window: &str) -> String {
        let mut text = self.expression.replace("$__rate_interval", window);
        for variable in ["cluster", "node", "interface", "vip", "router", "peer", "policy"] {
            text = text.replace(&format!("\"${variable}\""), "\".*\"");
        }
        text
    }
}

/// The dashboards, with their file names.
///
/// # Errors
/// One is no JSON.
pub fn dashboards() -> Result<Vec<(String, Value)>, String> {
    let read = |Source { path, text }: Source| match serde_json::from_str(&text) {
        Ok(value) => Ok((path, value)),
        Err(error) => Err(format!("{path}: {error}")),
    };
    let files = sources(&[".json"]).into_iter().filter(|source| source.path.starts_with("dashboards/"));
    files.map(read).collect()
}

/// The panels of a dashboard that show something; rows are headings.
pub fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().into_iter().flatten().filter(|panel| panel["type"] != "row")
}

/// The queries of all panels.
///
/// # Errors
/// A dashboard is no JSON.
pub fn panel_queries() -> Result<Vec<Query>, String> {
    let mut found = Vec::new();
    for (path, dashboard) in dashboards()? {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let place = format!("{path}: {}", text(&panel["title"]));
                found.push(Query { place, expression: text(&target["expr"]) });
            }
        }
    }
    Ok(found)
}

/// The rules of a file: records and alerts.
pub fn rules(file: &str) -> Vec<Value> {
    let source = sources(&[file]).into_iter().find(|source| source.path == file);
    let document = source.and_then(|source| yaml(&source.text).ok()).unwrap_or_default();
    let groups = document.into_iter().flat_map(|it| it["groups"].as_array().cloned().unwrap_or_default());
    groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
}

/// The expressions of the rules.
pub fn rule_queries() -> Vec<Query> {
    let files = ["dashboards/rules.yaml", "dashboards/alerts.yaml"];
    let query = |file: &str, rule: Value| {
        let name = if rule["alert"].is_null() { &rule["record"] } else { &rule["alert"] };
        Query { place: format!("{file}: {}", text(name)), expression: text(&rule["expr"]) }
    };
    files.iter().flat_map(|file| rules(file).into_iter().map(move |rule| query(file, rule))).collect()
}

/// A string of a document; empty where there is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
