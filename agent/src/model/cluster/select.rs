//! Kubernetes label selectors.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{Labels, Service};

/// Whether the selector takes an object with these labels. An empty selector takes all.
pub(super) fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    takes(selector, |key| labels.get(key).map(String::as_str))
}

/// Whether the selector takes a Service. Cilium lets selectors name a Service by two labels that it has not.
pub(super) fn selects_service(selector: &LabelSelector, service: &Service) -> bool {
    takes(selector, |key| match key {
        "io.kubernetes.service.name" => Some(&service.name.name),
        "io.kubernetes.service.namespace" => service.name.namespace.as_deref(),
        key => service.labels.get(key).map(String::as_str),
    })
}

fn takes<'a>(selector: &LabelSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| label(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten();
    equal && expressions.into_iter().all(|requirement| meets(requirement, label(&requirement.key)))
}

fn meets(requirement: &LabelSelectorRequirement, value: Option<&str>) -> bool {
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|each| each == value));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // An operator that nobody knows selects nothing.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_do_as_kubernetes_says() {
        let labels = Labels::from([("bgp".to_owned(), "on".to_owned())]);
        let takes = |text: &str| selects(&serde_json::from_str(text).unwrap(), &labels);
        assert!(takes("{}"));
        assert!(takes(r#"{"matchLabels": {"bgp": "on"}}"#));
        assert!(takes(r#"{"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}"#));
        assert!(!takes(r#"{"matchExpressions": [{"key": "bgp", "operator": "DoesNotExist"}]}"#));
        assert!(!takes(r#"{"matchExpressions": [{"key": "bgp", "operator": "In", "values": ["off"]}]}"#));
    }
}
