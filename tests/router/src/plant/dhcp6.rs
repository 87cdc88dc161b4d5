//! The DHCPv6 server: Kea, for the syntax of both releases.

use std::path::Path;

use serde_json::{Value, json};
use vyos_sync::config::{Node, Tree};

use super::dhcp::{Family, children, kea};

/// Kea's configuration, or nothing where no subnet is served.
pub(super) fn configuration(tree: &Tree, folder: &Path) -> Option<String> {
    let server = tree.at(&["service", "dhcpv6-server"]).filter(|server| server.child("disable").is_none())?;
    let mut subnets = Vec::new();
    for (_, network) in children(server, "shared-network-name") {
        if network.child("disable").is_none() {
            for (prefix, subnet) in children(network, "subnet") {
                subnets.push(subnet6(prefix, subnet, network, subnets.len() + 1));
            }
        }
    }
    (!subnets.is_empty()).then(|| kea(Family::V6, tree, folder, subnets).to_string())
}

fn subnet6(prefix: &str, subnet: &Node, network: &Node, position: usize) -> Value {
    let id = subnet.text("subnet-id").and_then(|id| id.parse().ok()).unwrap_or(position as u64);
    // 1.5 names ranges, 1.4 begins each with its first address.
    let named = children(subnet, "range").filter_map(|(_, range)| {
        let prefix = range.text("prefix").map(str::to_owned);
        prefix.or_else(|| Some(format!("{} - {}", range.text("start")?, range.text("stop")?)))
    });
    let by_start = subnet.child("address-range").into_iter().flat_map(|ranges| {
        children(ranges, "start")
            .filter_map(|(start, range)| Some(format!("{start} - {}", range.text("stop")?)))
    });
    let pools: Vec<Value> = named.chain(by_start).map(|pool| json!({"pool": pool})).collect();
    let mappings = children(subnet, "static-mapping");
    let mut options = options(network.child("common-options").unwrap_or(network));
    options.extend(self::options(subnet));
    let mut value = json!({
        "id": id, "subnet": prefix, "pools": pools, "option-data": options,
        "reservations": mappings.filter_map(|(name, mapping)| reservation(name, mapping)).collect::<Vec<_>>(),
    });
    let lease = subnet.child("lease-time").and_then(|lease| lease.text("default")?.parse::<u64>().ok());
    value["valid-lifetime"] = json!(lease.unwrap_or(43_200));
    if let Some(interface) = subnet.text("interface").or_else(|| network.text("interface")) {
        value["interface"] = json!(interface);
    }
    value
}

fn reservation(name: &str, mapping: &Node) -> Option<Value> {
    let mut value = json!({"hostname": name});
    match (mapping.text("mac"), mapping.text("duid").or_else(|| mapping.text("identifier"))) {
        (Some(mac), _) => value["hw-address"] = json!(mac),
        (None, Some(duid)) => value["duid"] = json!(duid),
        (None, None) => return None,
    }
    value["ip-addresses"] = json!([mapping.text("ipv6-address")?]);
    Some(value)
}

/// 1.5 has them below `option`, 1.4 at the node itself.
fn options(node: &Node) -> Vec<Value> {
    let at = node.child("option").unwrap_or(node);
    let known = [("name-server", "dns-servers"), ("domain-search", "domain-search")];
    let option = |(leaf, name): (&str, &str)| {
        let values: Vec<_> = at.child(leaf)?.values()?.iter().cloned().collect();
        Some(json!({"name": name, "data": values.join(", ")}))
    };
    known.into_iter().filter_map(option).collect()
}
