//! The kind as a CustomResourceDefinition, whose schema is structural: every field has a type, and nothing refers elsewhere.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::kind::PolicySpec;

/// The definition, as Kubernetes takes it.
pub fn definition() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut spec = settings.into_generator().into_root_schema_for::<PolicySpec>().to_value();
    straighten(&mut spec);
    let columns = json!([
        {"name": "Priority", "type": "integer", "jsonPath": ".spec.priority"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "datapathpolicies.weir.dev"},
        "spec": {
            "group": "weir.dev",
            "scope": "Cluster",
            "names": {
                "kind": "DatapathPolicy", "listKind": "DatapathPolicyList",
                "plural": "datapathpolicies", "singular": "datapathpolicy", "shortNames": ["dpp"],
            },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "spec": spec,
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
}

/// Makes a schema structural: enumerations of words instead of alternatives, and what may be left out without one.
fn straighten(schema: &mut Value) {
    let Value::Object(object) = schema else {
        if let Value::Array(list) = schema {
            list.iter_mut().for_each(straighten);
        }
        return;
    };
    object.remove("title");
    // Unknown fields: API servers refuse this beside properties, and prune or refuse them on their own.
    if object.get("additionalProperties") == Some(&Value::Bool(false)) {
        object.remove("additionalProperties");
    }
    // A field that deserves a default gets it from the agent; a formatted integer has its bounds.
    object.remove("default");
    object.remove("format");
    for key in ["oneOf", "anyOf"] {
        if let Some(Value::Array(alternatives)) = object.get(key) {
            let words: Option<Vec<Value>> =
                alternatives.iter().map(words_of).collect::<Option<Vec<_>>>().map(|lists| lists.concat());
            if let Some(words) = words {
                object.remove(key);
                object.insert("type".into(), "string".into());
                object.insert("enum".into(), words.into());
            } else if let Some(one) = only_one(alternatives) {
                object.remove(key);
                for (key, value) in one {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
    object.iter_mut().filter(|(key, _)| *key != "enum").for_each(|(_, value)| straighten(value));
}

/// The words of an alternative that is a word or several.
fn words_of(alternative: &Value) -> Option<Vec<Value>> {
    if let Some(word) = alternative.get("const") {
        return Some(vec![word.clone()]);
    }
    alternative.get("enum")?.as_array().cloned()
}

/// The alternative beside "nothing".
fn only_one(alternatives: &[Value]) -> Option<Map<String, Value>> {
    let nothing =
        |one: &&Value| one.get("type") != Some(&json!("null")) && one.get("enum") != Some(&json!([null]));
    let mut real = alternatives.iter().filter(nothing);
    match (real.next(), real.next()) {
        (Some(Value::Object(one)), None) => Some(one.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(path: &str, value: &Value, found: &mut Vec<String>) {
        let Value::Object(object) = value else { return };
        for word in ["$ref", "oneOf", "anyOf", "const", "definitions", "$schema"] {
            if object.contains_key(word) {
                found.push(format!("{path}: {word}"));
            }
        }
        if object.get("additionalProperties").is_some_and(Value::is_boolean) {
            found.push(format!("{path}: additionalProperties"));
        }
        let typed = object.contains_key("type") || object.contains_key("x-kubernetes-int-or-string");
        if !typed {
            found.push(format!("{path}: no type"));
        }
        for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            breaches(&format!("{path}.{name}"), property, found);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner @ Value::Object(_)) = object.get(key) {
                breaches(&format!("{path}.{key}"), inner, found);
            }
        }
    }

    #[test]
    fn the_schema_is_structural() {
        let definition = definition();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        breaches("", schema, &mut found);
        assert!(found.is_empty(), "{found:#?}");
        let rule = &schema["properties"]["spec"]["properties"]["rules"]["items"];
        assert_eq!(rule["properties"]["action"]["enum"], json!(["Allow", "Deny", "Rate", "Mark", "Pace"]));
        assert_eq!(rule["properties"]["mode"]["enum"], json!(["Audit", "Enforce"]));
        assert!(rule["x-kubernetes-validations"].as_array().is_some_and(|rules| rules.len() == 5));
    }
}
