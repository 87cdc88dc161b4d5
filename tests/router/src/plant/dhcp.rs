//! The DHCP server: Kea, for the syntax of both releases.

use std::path::Path;
use std::process::Stdio;

use ipnet::IpNet;
use serde_json::{Value, json};
use vyos_sync::config::{Node, Tree};

use super::daemon::{Daemon, log_says};
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
    Some(kea(Family::V4, tree, folder, subnets).to_string())
}

/// Which of Kea's two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

/// A whole configuration around the subnets.
pub(super) fn kea(family: Family, tree: &Tree, folder: &Path, subnets: Vec<Value>) -> Value {
    let number = family.number();
    let log = folder.join(format!("kea{number}.log"));
    let mut server = json!({
        "interfaces-config": {
            "interfaces": interfaces(family, tree, &subnets), "re-detect": true,
            // A port whose cable is plugged later is served then.
            "service-sockets-max-retries": 1_000_000, "service-sockets-retry-wait-time": 500,
        },
        "lease-database": {
            "type": "memfile", "persist": true, "name": folder.join(format!("dhcp{number}.leases")), "lfc-interval": 0,
        },
        "loggers": [{"name": format!("kea-dhcp{number}"), "severity": "INFO", "output_options": [{"output": log}]}],
    });
    server[format!("subnet{number}")] = json!(subnets);
    if family == Family::V6 {
        server["server-id"] = json!({"type": "LL", "persist": false});
    }
    let mut all = json!({});
    all[format!("Dhcp{number}")] = server;
    all
}

/// Starts it and waits until it says that it serves.
pub(super) async fn start(
    namespace: &Namespace,
    folder: &Path,
    family: Family,
    configuration: &str,
) -> Result<Daemon, String> {
    let number = family.number();
    let (file, log) = (folder.join(format!("kea{number}.json")), folder.join(format!("kea{number}.log")));
    std::fs::write(&file, configuration).map_err(|e| format!("{}: {e}", file.display()))?;
    // A log of an earlier run says nothing of this one.
    let _ = std::fs::remove_file(&log);
    let file = file.to_string_lossy();
    let mut command = namespace.command(&format!("kea-dhcp{number}"), &["-c", &file]);
    command.env("KEA_PIDFILE_DIR", folder).env("KEA_LOCKFILE_DIR", folder);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let started = format!("DHCP{number}_STARTED");
    Daemon::start(command, move || log_says(&log, &started) > 0).await
}

/// The interfaces that have an address in a subnet that is served; all of them where none has, for relayed clients. A
/// relay speaks to an address, which Kea's DHCPv6 server must be told as well.
fn interfaces(family: Family, tree: &Tree, subnets: &[Value]) -> Vec<String> {
    let served: Vec<IpNet> =
        subnets.iter().filter_map(|subnet| subnet["subnet"].as_str()?.parse().ok()).collect();
    let links = link::wanted(tree);
    let host = |address: &String| address.parse::<IpNet>().ok().map(|net| net.addr());
    let serves =
        |address: &String| host(address).is_some_and(|ip| served.iter().any(|subnet| subnet.contains(&ip)));
    let direct = links.iter().any(|(_, link)| link.addresses().any(serves));
    let named = links.iter().filter(|(name, link)| match direct {
        true => link.addresses().any(serves),
        false => *name != "lo",
    });
    let each = named.flat_map(|(name, link)| {
        let six = link.addresses().filter_map(host).filter(|ip| family == Family::V6 && ip.is_ipv6());
        let six: Vec<String> = six.map(|ip| format!("{name}/{ip}")).collect();
        std::iter::once(name.clone()).chain(six)
    });
    each.collect()
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

pub(super) fn children<'a>(node: &'a Node, tag: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
    node.child(tag).and_then(Node::children).into_iter().flatten().map(|(name, node)| (name.as_str(), node))
}
