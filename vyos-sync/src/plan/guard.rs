//! What no plan may touch: protected paths, and the way by which we reach the router.

use std::net::IpAddr;

use super::Reason;
use crate::config::{ConfigPath, Node, Tree};

/// The places that are protected, with the reason.
pub(super) struct Guard {
    paths: Vec<(ConfigPath, Reason)>,
}

impl Guard {
    pub(super) fn new(protected: &[ConfigPath], management: Option<IpAddr>, running: &Tree) -> Self {
        let given = protected.iter().map(|path| (path.clone(), Reason::Protected));
        let ours = management.into_iter().flat_map(|address| management_paths(running, address));
        let ours = ours.chain(api_paths()).map(|path| (path, Reason::Management));
        Self { paths: given.chain(ours).collect() }
    }

    /// Why this place may not be changed.
    pub(super) fn forbids(&self, path: &ConfigPath) -> Option<Reason> {
        self.paths.iter().find(|(held, _)| path.is_within(held)).map(|(_, reason)| *reason)
    }
}

/// The settings of an interface that cut its traffic when they change.
const VITAL: [&str; 7] = ["address", "disable", "mac", "hw-id", "vrf", "redirect", "mtu"];

/// The API itself, whatever its address, and what undoes a commit that is not confirmed.
fn api_paths() -> impl Iterator<Item = ConfigPath> {
    ["service https", "system config-management"].into_iter().filter_map(|path| path.parse().ok())
}

/// The settings of the interface that holds this address, and of its parent.
pub fn management_paths(running: &Tree, address: IpAddr) -> Vec<ConfigPath> {
    let mut holders = Vec::new();
    for (kind, named) in running.entries(&["interfaces"]) {
        for (name, node) in named.children().into_iter().flatten() {
            let at = ConfigPath::root("interfaces").join(kind).join(name);
            find_holder(&at, node, address, &mut holders);
        }
    }
    holders.iter().flat_map(|at| VITAL.map(|setting| at.join(setting))).collect()
}

fn find_holder(at: &ConfigPath, node: &Node, address: IpAddr, holders: &mut Vec<ConfigPath>) {
    let holds =
        |value: &String| value.split('/').next().and_then(|ip| ip.parse::<IpAddr>().ok()) == Some(address);
    if node.child("address").and_then(Node::values).is_some_and(|values| values.iter().any(holds)) {
        holders.push(at.clone());
    }
    for tag in ["vif", "vif-s", "vif-c"] {
        for (name, vif) in node.child(tag).and_then(Node::children).into_iter().flatten() {
            if holders.last() != Some(at) {
                find_holder(&at.join(tag).join(name), vif, address, holders);
                // The parent carries its VLANs.
                if holders.last().is_some_and(|found| found.is_within(at)) {
                    holders.push(at.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_that_we_come_in_by_and_its_parent_are_vital() {
        let text = "interfaces { ethernet eth0 { address 10.0.0.1/24\n }\n ethernet eth1 { vif 10 { address 10.1.0.1/24\n }\n }\n }";
        let running = crate::config::parse::boot(text).unwrap().tree;
        let guard = Guard::new(&[], "10.1.0.1".parse().ok(), &running);
        let forbids = |path: &str| guard.forbids(&path.parse().unwrap());
        assert_eq!(forbids("interfaces ethernet eth1 vif 10 address"), Some(Reason::Management));
        assert_eq!(forbids("interfaces ethernet eth1 disable"), Some(Reason::Management));
        assert_eq!(forbids("interfaces ethernet eth1 vif 20 address"), None);
        assert_eq!(forbids("interfaces ethernet eth0 address"), None);
        assert_eq!(forbids("service https api"), Some(Reason::Management));
    }
}
