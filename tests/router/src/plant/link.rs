//! Interfaces: devices, addresses, MTU, up and down.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use vyos_sync::config::{Node, Tree};

use super::{Failure, Namespace};

/// What was programmed before, so that it can be taken back.
#[derive(Debug, Default)]
pub(super) struct Links {
    configured: BTreeMap<String, Link>,
    /// Devices that we made, and remove again.
    made: BTreeSet<String>,
}

/// What one device is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    owner: String,
    parent: Option<String>,
    members: Vec<String>,
    addresses: BTreeSet<String>,
    mtu: Option<String>,
    state: &'static str,
}

/// Every device that the configuration names.
pub(super) fn wanted(tree: &Tree) -> BTreeMap<String, Link> {
    let mut links = BTreeMap::new();
    for kind in ["ethernet", "bonding", "bridge", "dummy", "loopback"] {
        for (name, node) in tree.entries(&["interfaces", kind]) {
            let owner = format!("interfaces {kind} {name}");
            links.insert(name.clone(), link(&owner, None, node));
            for (id, vif) in node.child("vif").and_then(Node::children).into_iter().flatten() {
                links.insert(format!("{name}.{id}"), link(&owner, Some(name), vif));
            }
        }
    }
    links
}

fn link(owner: &str, parent: Option<&str>, node: &Node) -> Link {
    let members = node.at(&["member", "interface"]).and_then(Node::children);
    let addresses = node.child("address").and_then(Node::values).into_iter().flatten();
    Link {
        owner: owner.to_owned(),
        parent: parent.map(str::to_owned),
        members: members.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        addresses: addresses.filter(|address| address.contains('/')).cloned().collect(),
        mtu: node.text("mtu").map(str::to_owned),
        state: if node.child("disable").is_some() { "down" } else { "up" },
    }
}

impl Link {
    /// Its addresses, with their lengths.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &String> {
        self.addresses.iter()
    }
}

impl Links {
    pub(super) async fn apply(&mut self, namespace: &Namespace, tree: &Tree) -> Vec<Failure> {
        let wanted = wanted(tree);
        let present = present(namespace).await;
        let gone: Vec<_> =
            self.configured.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone.iter().rev() {
            self.release(namespace, name).await;
        }
        let mut failures = Vec::new();
        for (name, link) in &wanted {
            let known = present.contains_key(name) && !gone.contains(name);
            if self.configured.get(name) == Some(link) && known {
                continue;
            }
            match self.program(namespace, name, link, present.get(name).filter(|_| known)).await {
                Ok(()) => {}
                Err(text) => failures.push(Failure::of(&link.owner, text)),
            }
        }
        self.configured = wanted;
        failures
    }

    /// Takes back all that was programmed.
    pub(super) async fn clear(&mut self, namespace: &Namespace) {
        let names: Vec<_> = self.configured.keys().cloned().collect();
        for name in names.iter().rev() {
            self.release(namespace, name).await;
        }
        self.configured.clear();
    }

    async fn release(&mut self, namespace: &Namespace, name: &str) {
        // The device may be gone already, which is as well.
        if self.made.remove(name) {
            let _ = namespace.run("ip", &["link", "delete", name]).await;
        } else {
            let _ = namespace.run("ip", &["address", "flush", "dev", name, "scope", "global"]).await;
        }
    }

    async fn program(
        &mut self,
        namespace: &Namespace,
        name: &str,
        link: &Link,
        present: Option<&BTreeSet<String>>,
    ) -> Result<(), String> {
        let has = match present {
            Some(addresses) => addresses.clone(),
            None => {
                self.make(namespace, name, link).await?;
                BTreeSet::new()
            }
        };
        if let Some(mtu) = &link.mtu {
            namespace.run("ip", &["link", "set", name, "mtu", mtu]).await?;
        }
        for member in &link.members {
            namespace.run("ip", &["link", "set", member, "master", name]).await?;
        }
        namespace.run("ip", &["link", "set", name, link.state]).await?;
        for address in link.addresses.difference(&has) {
            let family: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            namespace.run("ip", &[&["address", "add", address, "dev", name], family].concat()).await?;
        }
        for address in has.difference(&link.addresses) {
            namespace.run("ip", &["address", "delete", address, "dev", name]).await?;
        }
        Ok(())
    }

    /// A vif is 802.1Q where the kernel has it, else a macvlan. That one shares its parent's segment, where it must not answer for
    /// the addresses of others: what comes to it by its own link-layer address is not translated on its way back.
    async fn make(&mut self, namespace: &Namespace, name: &str, link: &Link) -> Result<(), String> {
        let id = name.rsplit_once('.').map_or("", |(_, id)| id);
        let made = match &link.parent {
            Some(parent) => {
                let vlan = ["link", "add", "link", parent, "name", name, "type", "vlan", "id", id];
                match namespace.run("ip", &vlan).await {
                    Ok(_) => Ok(String::new()),
                    Err(_) => {
                        let macvlan = [
                            "link", "add", "link", parent, "name", name, "type", "macvlan", "mode", "bridge",
                        ];
                        namespace.run("ip", &macvlan).await?;
                        namespace.run("sysctl", &["-q", "-w", "net.ipv4.conf.all.arp_ignore=1"]).await
                    }
                }
            }
            // A bridge without ports serves as a dummy where the kernel has none.
            None if !link.owner.contains(" ethernet ") => {
                namespace.run("ip", &["link", "add", name, "type", "bridge"]).await
            }
            None => Err(format!("Interface \"{name}\" does not exist!")),
        };
        made.map(|_| {
            self.made.insert(name.to_owned());
        })
    }
}

/// The devices and their global addresses.
pub(super) async fn present(namespace: &Namespace) -> BTreeMap<String, BTreeSet<String>> {
    let text = namespace.run("ip", &["-j", "address", "show"]).await.unwrap_or_default();
    let links: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    links.iter().filter_map(|link| Some((link["ifname"].as_str()?.to_owned(), addresses(link)))).collect()
}

fn addresses(link: &Value) -> BTreeSet<String> {
    let all = link["addr_info"].as_array().into_iter().flatten();
    let global = all.filter(|address| address["scope"] == "global");
    let text = |address: &Value| Some(format!("{}/{}", address["local"].as_str()?, address["prefixlen"]));
    global.filter_map(text).collect()
}
