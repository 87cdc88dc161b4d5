//! Kubernetes label selectors.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;

/// Whether the selector takes an object with these labels. An empty selector takes all.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|each| each == value));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // An operator that nobody knows selects nothing: accepting less is safe.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operators_do_as_kubernetes_says() {
        let labels = BTreeMap::from([("bgp".to_owned(), "on".to_owned())]);
        let takes = |selector| selects(&serde_json::from_value(selector).unwrap(), &labels);
        assert!(takes(json!({})));
        assert!(takes(json!({"matchLabels": {"bgp": "on"}})));
        assert!(takes(json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]})));
        assert!(!takes(json!({"matchExpressions": [{"key": "bgp", "operator": "DoesNotExist"}]})));
        assert!(!takes(json!({"matchExpressions": [{"key": "bgp", "operator": "In", "values": ["off"]}]})));
    }
}
