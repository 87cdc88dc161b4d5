//! Gives every rule and subnet of an intent its number. Pure.

use std::collections::BTreeSet;

use crate::{
    config::{Dialect, Node, Tree},
    crd::{RuleRange, RuleRanges},
    intent::Intent,
    plan::{
        Ledger,
        numbers::{Numbers, Space},
    },
    render::{Allocations, SpaceId, wishes},
};

/// The numbers, and the memory of them to be kept with the ledger. What got none is named by the rendering.
pub fn number(
    intent: &Intent,
    dialect: Dialect,
    ranges: &RuleRanges,
    running: &Tree,
    ledger: &Ledger,
) -> (Allocations, Numbers) {
    let (mut numbers, mut given) = (ledger.numbers.clone(), Allocations::default());
    for (space, keys) in wishes(intent, dialect) {
        let place = place(space, ranges);
        let wished = |offset: &Option<u32>| offset.map(|o| place.range.start().saturating_add(o));
        let keys = keys.iter().map(|(key, offset)| (key.clone(), wished(offset))).collect();
        let foreign = foreign(space, running, ledger);
        for (key, number) in numbers.give_all(&place, &keys, &foreign) {
            if let Ok(number) = number {
                given.give(space, key, number);
            }
        }
    }
    (given, numbers)
}

/// The default parts are in the order in which rules must be tried: exclude, dnat, hairpin, snat.
fn place(space: SpaceId, ranges: &RuleRanges) -> Space {
    let (name, given, start) = match space {
        SpaceId::Exclude => ("nat source rule, exclusions", ranges.exclude, 10_000),
        SpaceId::Destination => ("nat destination rule", ranges.dnat, 20_000),
        SpaceId::Hairpin => ("nat source rule, hairpin", ranges.hairpin, 30_000),
        SpaceId::Source => ("nat source rule, translations", ranges.snat, 40_000),
        SpaceId::OneToOne => ("nat static rule", ranges.one_to_one, 40_000),
        SpaceId::Nat66 => ("nat66 source rule", ranges.nat66, 40_000),
        SpaceId::Dhcp4 => ("dhcp-server subnet-id", ranges.dhcp_subnet, 40_000),
        SpaceId::Dhcp6 => ("dhcpv6-server subnet-id", ranges.dhcp_subnet, 40_000),
    };
    let range = given.unwrap_or(RuleRange { start, end: start + 9_999 });
    Space { name: name.to_owned(), range: range.start..=range.end }
}

fn foreign(space: SpaceId, running: &Tree, ledger: &Ledger) -> BTreeSet<u32> {
    let rules = |path: &[&str]| Numbers::foreign(running, &ledger.owned, path);
    match space {
        SpaceId::Exclude | SpaceId::Hairpin | SpaceId::Source => rules(&["nat", "source", "rule"]),
        SpaceId::Destination => rules(&["nat", "destination", "rule"]),
        SpaceId::OneToOne => rules(&["nat", "static", "rule"]),
        SpaceId::Nat66 => rules(&["nat66", "source", "rule"]),
        SpaceId::Dhcp4 => foreign_subnets("dhcp-server", running, ledger),
        SpaceId::Dhcp6 => foreign_subnets("dhcpv6-server", running, ledger),
    }
}

fn foreign_subnets(service: &str, running: &Tree, ledger: &Ledger) -> BTreeSet<u32> {
    &subnet_ids(service, running) - &subnet_ids(service, &ledger.owned)
}

fn subnet_ids(service: &str, tree: &Tree) -> BTreeSet<u32> {
    let path = ["service", service, "shared-network-name"];
    let networks = tree.entries(&path);
    let subnets = networks.filter_map(|(_, network)| network.child("subnet")?.children()).flatten();
    subnets.filter_map(|(_, subnet): (_, &Node)| subnet.text("subnet-id")?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_subnet_ids_are_seen() {
        let mut running = Tree::new();
        let id = "service dhcp-server shared-network-name x subnet 10.0.0.0/24 subnet-id".parse().unwrap();
        running.set(&id, "7").unwrap();
        assert_eq!(foreign(SpaceId::Dhcp4, &running, &Ledger::default()), BTreeSet::from([7]));
        let ours = Ledger { owned: running.clone(), ..Ledger::default() };
        assert!(foreign(SpaceId::Dhcp4, &running, &ours).is_empty());
    }
}
