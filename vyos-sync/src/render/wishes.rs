//! Which numbers an intent needs. Who gets which is the planner's to keep.

use super::numbers::{SpaceId, key};
use super::publication;
use crate::config::Dialect;
use crate::intent::{Dhcp4, Dhcp6, Intent, Network, Publication};
use std::collections::BTreeMap;

/// What an intent needs numbers for, each with the offset in its range that it would like best: the VLAN.
#[must_use]
pub fn wishes(intent: &Intent, dialect: Dialect) -> BTreeMap<SpaceId, BTreeMap<String, Option<u32>>> {
    let mut wishes = Wishes(BTreeMap::new());
    for network in &intent.networks {
        wishes.network(network, dialect);
    }
    for publication in &intent.publications {
        wishes.publication(publication);
    }
    wishes.0
}

struct Wishes(BTreeMap<SpaceId, BTreeMap<String, Option<u32>>>);

impl Wishes {
    fn add(&mut self, space: SpaceId, key: String, offset: Option<u32>) {
        self.0.entry(space).or_default().insert(key, offset);
    }

    fn network(&mut self, network: &Network, dialect: Dialect) {
        let vlan = u32::from(network.vlan.number());
        // Only the first prefix of a network can have the VLAN as its number.
        let nth = |at: usize| (at == 0).then_some(vlan);
        if let Some(snat) = &network.snat {
            for (at, prefix) in network.prefixes4().enumerate() {
                self.add(SpaceId::Source, key(&network.owner, &[&prefix]), nth(at));
                for excluded in &snat.exclude {
                    self.add(SpaceId::Exclude, key(&network.owner, &[&prefix, excluded]), None);
                }
            }
        }
        for each in &network.one_to_one {
            self.add(SpaceId::OneToOne, key(&network.owner, &[&each.external]), None);
        }
        if network.nat66.is_some() {
            for (at, prefix) in network.prefixes6().enumerate() {
                self.add(SpaceId::Nat66, key(&network.owner, &[&prefix]), nth(at));
            }
        }
        if dialect == Dialect::V1_5 {
            self.subnets(network, nth);
        }
    }

    fn subnets(&mut self, network: &Network, nth: impl Fn(usize) -> Option<u32>) {
        if matches!(network.dhcp, Some(Dhcp4::Server(_))) {
            for (at, prefix) in network.prefixes4().enumerate() {
                self.add(SpaceId::Dhcp4, key(&network.owner, &[&prefix]), nth(at));
            }
        }
        if matches!(network.dhcp6, Some(Dhcp6::Server(_))) {
            for (at, prefix) in network.prefixes6().enumerate() {
                self.add(SpaceId::Dhcp6, key(&network.owner, &[&prefix]), nth(at));
            }
        }
    }

    fn publication(&mut self, publication: &Publication) {
        for rule in publication::rules(publication) {
            self.add(rule.space, rule.key, None);
        }
    }
}
