//! Virtual machines of KubeVirt that move to or from this node.

use std::collections::BTreeSet;

use serde_json::Value;

/// The TCP ports at which the machine arrives, while it moves to or from the node; none otherwise. The node that it moves to
/// listens at ports that its kernel chose, and says so in `status.migrationState.targetDirectMigrationNodePorts`.
pub(super) fn moving(document: &Value, node: &str) -> Result<BTreeSet<u16>, String> {
    let state = &document["status"]["migrationState"];
    let here = [&state["sourceNode"], &state["targetNode"]].into_iter().any(|one| one == node);
    let over = [&state["completed"], &state["failed"]].into_iter().any(|one| *one == true);
    if !here || over {
        return Ok(BTreeSet::new());
    }
    let ports = state["targetDirectMigrationNodePorts"].as_object();
    let ports = ports.into_iter().flatten().map(|(port, _)| port);
    ports
        .map(|port| port.parse().map_err(|_| format!("status.migrationState: {port:?} is no port")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_those_of_machines_that_move_to_or_from_here() {
        let machine = |state: Value| json!({"status": {"migrationState": state}});
        let ports = json!({"40001": 49152, "40002": 49153});
        let moving_from = |from: &str, to: &str, over: bool| {
            machine(json!({"sourceNode": from, "targetNode": to, "completed": over,
                           "targetDirectMigrationNodePorts": ports.clone()}))
        };
        let both = BTreeSet::from([40_001, 40_002]);
        assert_eq!(moving(&moving_from("a", "b", false), "a").unwrap(), both);
        assert_eq!(moving(&moving_from("a", "b", false), "b").unwrap(), both);
        for (document, why) in [
            (moving_from("b", "c", false), "between others"),
            (moving_from("a", "b", true), "it has moved"),
            (json!({"status": {"nodeName": "a"}}), "it never moved"),
            (machine(json!({"sourceNode": "a", "targetNode": "b"})), "nobody listens yet"),
        ] {
            assert_eq!(moving(&document, "a").unwrap(), BTreeSet::new(), "{why}");
        }
        let bad = machine(json!({"sourceNode": "a", "targetDirectMigrationNodePorts": {"x": 1}}));
        assert!(moving(&bad, "a").unwrap_err().contains("\"x\" is no port"));
    }
}
