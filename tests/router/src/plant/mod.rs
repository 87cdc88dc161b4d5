//! What the configuration is programmed into: a network namespace with real daemons.
//!
//! Debian packages: `iproute2`, `nftables`, `frr`, `kea-dhcp4-server`, `kea-dhcp6-server`,
//! `isc-dhcp-relay`, `radvd`, `dnsmasq-base`. A kernel without 802.1Q gets a
//! macvlan in place of each vif, so all vifs of a port share one untagged segment; a device that is already there
//! under the name `eth1.30` is used as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use vyos_sync::config::Tree;

mod advert;
mod daemon;
mod dhcp;
mod dhcp6;
mod dns;
mod frr;
mod link;
mod namespace;
mod nat;
mod relay;
mod routing;
mod service;
mod show;

pub use namespace::Namespace;

/// A subtree that could not be programmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The path of its owner.
    pub(crate) owner: String,
    /// What the kernel or the daemon said.
    pub(crate) text: String,
}

impl Failure {
    fn of(owner: impl Into<String>, text: impl Into<String>) -> Self {
        Self { owner: owner.into(), text: text.into() }
    }
}

/// A namespace and the daemons in it.
#[derive(Debug)]
pub(crate) struct Plant {
    namespace: Namespace,
    /// Sockets, leases and configuration files of the daemons; removed with the plant.
    folder: PathBuf,
    links: link::Links,
    frr: Option<frr::Frr>,
    services: service::Services,
    /// What each table was last given, so that an unchanged one is left alone.
    given: BTreeMap<&'static str, String>,
}

impl Plant {
    /// Takes the namespace over. Nothing in it changes before the first configuration.
    ///
    /// # Errors
    /// When there is no folder for the daemons.
    pub(crate) fn new(namespace: Namespace) -> std::io::Result<Self> {
        let name = format!("vyos-router-{}-{}", std::process::id(), namespace.word());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        let (links, given) = (link::Links::default(), BTreeMap::new());
        Ok(Self { namespace, folder, links, frr: None, services: service::Services::default(), given })
    }

    /// The devices that are there, which are the router's ports.
    pub(crate) async fn ports(namespace: &Namespace) -> BTreeSet<String> {
        link::present(namespace).await.into_keys().collect()
    }

    /// Makes the namespace hold this configuration: links first, since the daemons stand on them.
    pub(crate) async fn apply(&mut self, tree: &Tree) -> Vec<Failure> {
        for switch in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            // By addresses, protocol and ports (bits 0 to 2, 4 and 5). Policy 1 would use the hash that a packet brings along a
            // veth pair, which its sender changes when it sends again: the connection would move to another node.
            "net.ipv4.fib_multipath_hash_policy=3",
            "net.ipv4.fib_multipath_hash_fields=55",
            "net.ipv6.fib_multipath_hash_policy=3",
            "net.ipv6.fib_multipath_hash_fields=55",
        ] {
            // A kernel without IPv6 or multipath still routes what it can.
            let _ = self.namespace.run("sysctl", &["-q", "-w", switch]).await;
        }
        let mut failures = self.links.apply(&self.namespace, tree).await;
        for (part, result) in [
            ("nat", self.apply_nat("nat", nat::ipv4(tree)).await),
            ("nat66", self.apply_nat("nat66", nat::ipv6(tree)).await),
        ] {
            failures.extend(result.err().map(|text| Failure::of(part, text)));
        }
        failures.extend(self.services.apply(&self.namespace, &self.folder, tree).await);
        failures.extend(self.apply_routing(tree).await);
        failures
    }

    /// Ends the daemons and removes what was programmed, as a power cut does. Leases survive, as on a disk.
    pub(crate) async fn stop(&mut self) {
        self.services.stop().await;
        if let Some(frr) = self.frr.take() {
            frr.stop().await;
        }
        let flush = "add table ip vyos_nat\ndelete table ip vyos_nat\n";
        // Best effort: the namespace itself may be gone.
        let _ = self.namespace.feed("nft", &["-f", "-"], flush).await;
        self.links.clear(&self.namespace).await;
        self.given.clear();
    }

    async fn apply_nat(&mut self, part: &'static str, rules: String) -> Result<(), String> {
        if self.given.get(part) == Some(&rules) {
            return Ok(());
        }
        match self.namespace.feed("nft", &["-f", "-"], &rules).await {
            Ok(_) => {
                self.given.insert(part, rules);
                Ok(())
            }
            Err(text) => {
                tracing::warn!(part, text, "nft refused");
                Err("Configuration file errors encountered!".to_owned())
            }
        }
    }

    /// FRR starts with the first route, policy or peer, and then stays.
    async fn apply_routing(&mut self, tree: &Tree) -> Vec<Failure> {
        let wanted = routing::lines(tree);
        if self.frr.is_none() {
            if wanted.is_empty() {
                return Vec::new();
            }
            match frr::Frr::start(&self.namespace, &self.folder).await {
                Ok(frr) => self.frr = Some(frr),
                Err(text) => return vec![Failure::of("protocols bgp", text)],
            }
        }
        match &mut self.frr {
            Some(frr) => frr.apply(wanted).await,
            None => Vec::new(),
        }
    }

    pub(crate) async fn vtysh(&self, command: &str) -> Option<String> {
        self.frr.as_ref()?.ask(command).await.ok()
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        // The daemons end by kill-on-drop; what they left in the folder goes with it.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
