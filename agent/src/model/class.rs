//! Traffic classes: what a packet is for. Address sets decide before ports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::address::Direction;

/// A class and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its name: a metric label, so lower case and short.
    pub name: String,
    /// Traffic from or to these prefixes is of this class, whatever its ports. The longest prefix wins.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// TCP ports, single ones or ranges such as `2379-2380`.
    #[serde(default)]
    pub tcp: Vec<Ports>,
    /// UDP ports.
    #[serde(default)]
    pub udp: Vec<Ports>,
    /// Other protocols by IANA number.
    #[serde(default)]
    pub protocols: Vec<u8>,
}

/// The classes of the platform that Weir is made for, as `classes.yaml` beside this file tells them.
///
/// # Errors
/// Never with the file as shipped; a test reads it.
pub fn shipped() -> Result<Vec<Class>, serde_saphyr::Error> {
    serde_saphyr::from_str(include_str!("classes.yaml"))
}

/// The class of what KubeVirt sends when a machine moves, and that of what Longhorn's replicas say.
const MIGRATION: &str = "vm-migration";
const STORAGE: &str = "storage-data";

/// What objects of the cluster say of classes now: of some traffic nothing else tells what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// TCP ports at which machines arrive that move to or from this node: the kernel chose them.
    pub migrations: BTreeSet<u16>,
    /// Addresses of this node's instance managers in Longhorn's storage network.
    pub storage: BTreeSet<IpAddr>,
}

impl Found {
    /// The classes with what was found; nothing is added to a class that is not there.
    pub fn added_to(&self, classes: &[Class]) -> Vec<Class> {
        let mut classes = classes.to_vec();
        for class in &mut classes {
            match class.name.as_str() {
                MIGRATION => class.tcp.extend(self.migrations.iter().map(|port| Ports(*port..=*port))),
                STORAGE => class.addresses.extend(self.storage.iter().map(|address| IpNet::from(*address))),
                _ => {}
            }
        }
        classes
    }
}

/// One port or a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PortsText", into = "String")]
pub struct Ports(pub RangeInclusive<u16>);

#[derive(Deserialize)]
#[serde(untagged)]
enum PortsText {
    Number(u16),
    Text(String),
}

impl TryFrom<PortsText> for Ports {
    type Error = String;

    fn try_from(text: PortsText) -> Result<Self, String> {
        let text = match text {
            PortsText::Number(port) => return Ok(Ports(port..=port)),
            PortsText::Text(text) => text,
        };
        let bad = || format!("{text:?} is not a port or a range of ports; write 443 or 2379-2380");
        let (low, high) = text.split_once('-').unwrap_or((&text, &text));
        let low: u16 = low.trim().parse().map_err(|_| bad())?;
        let high: u16 = high.trim().parse().map_err(|_| bad())?;
        if low > high { Err(bad()) } else { Ok(Ports(low..=high)) }
    }
}

impl From<Ports> for String {
    fn from(Ports(range): Ports) -> String {
        if range.start() == range.end() {
            range.start().to_string()
        } else {
            format!("{}-{}", range.start(), range.end())
        }
    }
}

/// What a class carried through all interfaces that the agent watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCounters {
    /// The class; `other` for what no class claims.
    pub class: String,
    /// Into or out of the node.
    pub direction: Direction,
    /// Packets, super-packets counted once.
    pub packets: u64,
    /// Octets from the link-layer header on.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_classes_are_read_and_fit() {
        let classes = shipped().unwrap();
        assert!(classes.len() < weir_ebpf::CLASSES as usize);
        assert!(classes.iter().all(|class| !class.name.is_empty() && class.name.len() < 32));
        let etcd = classes.iter().find(|class| class.name == "etcd").unwrap();
        assert_eq!(etcd.tcp, [Ports(2379..=2380)]);
    }

    #[test]
    fn bad_ports_say_how_to_write_them() {
        let error = serde_saphyr::from_str::<Class>("{ name: a, tcp: [80-70] }").unwrap_err().to_string();
        assert!(error.contains("write 443 or 2379-2380"), "{error}");
    }
}
