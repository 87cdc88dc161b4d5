//! The DHCP server: Kea, for the syntax of both releases.

use std::path::Path;
use std::process::Stdio;

use ipnet::IpNet;
use serde_json::{Value, json};
use vyos_sync::config::{Node, Tree};

use super::daemon::Daemon;
use super::{Namespace, link};

/// Kea's configuration, or nothing where no subnet is served.
pub(super) fn configuration(tree: &Tree, folder: &Path) -> Option<String> {
    let server = tree.at(&["service", "dhcp-server"]).filter(|server| server.child("disable").is_none())?;
    let networks = server.child("shared-network-name").and_then(Node::children)?;
    let mut subnets = Vec::new();
    for (_, network) in networks.iter().filter(|(_, network)| network.child("disable").is_none()) {
        for (prefix, subnet) in network.child("subnet").and_then(Node::children).into_iter().flatten() {
            if subnet.child("disable").is_none() {
                subnets.push(subnet4(prefix, subnet, network, subnets.len() + 1));
            }
        }
    }
    if subnets.is_empty() {
        return None;
    }
    let leases = folder.join("dhcp4.leases");
    let configuration = json!({"Dhcp4": {
        "interfaces-config": {
            "interfaces": interfaces(tree, &subnets), "re-detect": true,
            // A port whose cable is plugged later is served then.
            "service-sockets-max-retries": 1_000_000, "service-sockets-retry-wait-time": 500,
        },
        "lease-database": {"type": "memfile", "persist": true, "name": leases, "lfc-interval": 0},
        "subnet4": subnets,
        "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": folder.join("kea.log")}]}],
    }});
    Some(configuration.to_string())
}

/// Starts it and waits until it says that it serves.
pub(super) async fn start(
    namespace: &Namespace,
    folder: &Path,
    configuration: &str,
) -> Result<Daemon, String> {
    let (file, log) = (folder.join("kea.json"), folder.join("kea.log"));
    std::fs::write(&file, configuration).map_err(|e| format!("{}: {e}", file.display()))?;
    // A log of an earlier run says nothing of this one.
    let _ = std::fs::remove_file(&log);
    let file = file.to_string_lossy();
    let mut command = namespace.command("kea-dhcp4", &["-c", &file]);
    command.env("KEA_PIDFILE_DIR", folder).env("KEA_LOCKFILE_DIR", folder);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let started = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("DHCP4_STARTED"));
    Daemon::start(command, started).await
}

/// The interfaces that have an address in a subnet that is served; all of them where none has, for relayed clients.
fn interfaces(tree: &Tree, subnets: &[Value]) -> Vec<String> {
    let served: Vec<IpNet> =
        subnets.iter().filter_map(|subnet| subnet["subnet"].as_str()?.parse().ok()).collect();
    let links = link::wanted(tree);
    let serves = |address: &&String| {
        let address = address.parse::<IpNet>().map(|net| net.addr());
        address.is_ok_and(|address| served.iter().any(|subnet| subnet.contains(&address)))
    };
    let direct = links.iter().filter(|(_, link)| link.addresses().any(|address| serves(&address)));
    let direct: Vec<_> = direct.map(|(name, _)| name.clone()).collect();
    if direct.is_empty() { links.into_keys().filter(|name| name != "lo").collect() } else { direct }
}

fn subnet4(prefix: &str, subnet: &Node, network: &Node, position: usize) -> Value {
    let id = subnet.text("subnet-id").and_then(|id| id.parse().ok()).unwrap_or(position as u64);
    let ranges = children(subnet, "range").filter_map(|(_, range)| {
        Some(json!({"pool": format!("{} - {}", range.text("start")?, range.text("stop")?)}))
    });
    let mappings =
        children(subnet, "static-mapping").filter(|(_, mapping)| mapping.child("disable").is_none());
    let mut options = options(network);
    options.extend(self::options(subnet));
    let mut value = json!({
        "id": id, "subnet": prefix, "pools": ranges.collect::<Vec<_>>(), "option-data": options,
        "reservations": mappings.filter_map(|(name, mapping)| reservation(name, mapping)).collect::<Vec<_>>(),
    });
    let lease = subnet.text("lease").and_then(|lease| lease.parse::<u64>().ok()).unwrap_or(86_400);
    value["valid-lifetime"] = json!(lease);
    value
}

fn reservation(name: &str, mapping: &Node) -> Option<Value> {
    let mut value = json!({"hostname": name});
    match (mapping.text("mac").or_else(|| mapping.text("mac-address")), mapping.text("duid")) {
        (Some(mac), _) => value["hw-address"] = json!(mac),
        (None, Some(duid)) => value["duid"] = json!(duid),
        (None, None) => return None,
    }
    if let Some(address) = mapping.text("ip-address") {
        value["ip-address"] = json!(address);
    }
    value["option-data"] = json!(options(mapping));
    if let Some(file) = mapping.child("option").and_then(|option| option.text("bootfile-name")) {
        value["boot-file-name"] = json!(file);
    }
    Some(value)
}

/// 1.5 has them below `option`, 1.4 at the node itself.
fn options(node: &Node) -> Vec<Value> {
    let at = node.child("option").unwrap_or(node);
    let known = [
        ("default-router", "routers"),
        ("name-server", "domain-name-servers"),
        ("ntp-server", "ntp-servers"),
        ("domain-name", "domain-name"),
        ("domain-search", "domain-search"),
        ("tftp-server-name", "tftp-server-name"),
        ("bootfile-name", "boot-file-name"),
    ];
    let option = |(leaf, name): (&str, &str)| {
        let values: Vec<_> = at.child(leaf)?.values()?.iter().cloned().collect();
        Some(json!({"name": name, "data": values.join(", ")}))
    };
    known.into_iter().filter_map(option).collect()
}

fn children<'a>(node: &'a Node, tag: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
    node.child(tag).and_then(Node::children).into_iter().flatten().map(|(name, node)| (name.as_str(), node))
}
