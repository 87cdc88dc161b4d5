//! Harvester's objects, as far as they tell of this node's links.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::parts::part;
use crate::model::cluster::Labels;
use crate::model::monitor::{LinkMonitor, SaidLink};

/// A LinkMonitor.
pub(super) fn link_monitor(name: String, document: &Value) -> Result<LinkMonitor, String> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        node_selector: Option<Labels>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Status {
        link_status: Option<BTreeMap<String, Option<Vec<SaidLink>>>>,
    }
    let (spec, status): (Spec, Status) = (part(document, "spec")?, part(document, "status")?);
    let links = status.link_status.unwrap_or_default().into_iter();
    Ok(LinkMonitor {
        name,
        selector: spec.node_selector.unwrap_or_default(),
        links: links.map(|(node, links)| (node, links.unwrap_or_default())).collect(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::monitor::Said;

    fn read(status: Value) -> Result<LinkMonitor, String> {
        let spec = json!({"targetLinkRule": {"nameRule": "data-bo", "typeRule": "bond"}, "nodeSelector": {"rack": "1"}});
        link_monitor("data".to_owned(), &json!({"spec": spec, "status": status}))
    }

    #[test]
    fn links_are_read_as_harvester_writes_them() {
        let whole = json!({"name": "data-bo", "index": 9, "type": "bond", "mac": "02:00:00:00:10:01",
                           "promiscuous": true, "state": "up", "masterIndex": 8});
        let monitor =
            read(json!({"linkStatus": {"ms02-1": [whole, {"name": "x"}], "ms02-2": null}})).unwrap();
        assert_eq!((monitor.name.as_str(), monitor.selector["rack"].as_str()), ("data", "1"));
        let said: Vec<_> = monitor.links["ms02-1"].iter().map(|one| (one.name.as_str(), one.state)).collect();
        assert_eq!(said, [("data-bo", Said::Up), ("x", Said::Unknown)]);
        assert_eq!(monitor.links["ms02-2"], []);
        assert_eq!(read(json!({})).unwrap().links.len(), 0, "nobody has looked yet");
        let bare = link_monitor("new".to_owned(), &json!({"spec": {}})).unwrap();
        assert!(bare.selector.is_empty() && bare.links.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_field() {
        let wrong = read(json!({"linkStatus": {"n": [{"name": "a"}, {"name": "b", "state": "sideways"}]}}));
        let what = wrong.unwrap_err();
        assert!(what.contains("status.linkStatus.n[1].state") && what.contains("sideways"), "{what}");
        assert!(read(json!({"linkStatus": {"n": [{"state": "up"}]}})).unwrap_err().contains("name"));
    }
}
