//! The policy as plain as it can be said: rules are asked one after the other. The datapath must decide the same.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;
use weir_ebpf::parse::Parsed;
use weir_ebpf::rules::ACTS;

use super::failsafe;
use super::kind::Mode;
use super::packet::Packet;
use super::rule::{Action, Budget, Rule, RuleSet, Unit};
use crate::model::address::{Direction, octets};

/// What becomes of a packet, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether it is dropped.
    pub dropped: bool,
    /// Which rule decided, as an index; `None` where none did.
    pub rule: Option<usize>,
    /// Whether the failsafe saved it from that rule.
    pub saved: bool,
    /// Every rule that was asked and matched, and whether it dropped the packet or would have.
    pub acted: Vec<(usize, bool)>,
}

/// Budgets that have been used.
#[derive(Clone, Debug, Default)]
pub struct Budgets(HashMap<(usize, [u8; 16], [u8; 16]), u64>);

/// What stands beside the rules.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Resolvers of the node.
    pub resolvers: Vec<IpAddr>,
    /// The class of a packet, by number.
    pub class: u8,
    /// Virtual addresses: only claims of these are any.
    pub vips: Vec<IpAddr>,
}

impl RuleSet {
    /// Decides on a frame that was read, at `now` in ns.
    pub fn decide(
        &self,
        frame: &Result<Packet, Parsed>,
        around: &Surroundings,
        budgets: &mut Budgets,
        now: u64,
    ) -> Decision {
        let unparsable = Decision { dropped: self.drop_unparsable, ..Decision::default() };
        let packet = match frame {
            Ok(packet) => packet,
            Err(Parsed::NotIp) => return Decision::default(),
            Err(_) => return unparsable,
        };
        let vital = failsafe::all(&self.failsafe);
        let mut decision = Decision::default();
        for (number, rule) in self.rules.iter().enumerate() {
            if decision.acted.len() == ACTS as usize {
                break;
            }
            if !rule.takes(packet, around) {
                continue;
            }
            let dropped = match rule.action {
                Action::Deny => true,
                Action::Rate(budget) => !budgets.allow(number, &budget, packet, now),
                Action::Pace(budget) => !budgets.depart(number, &budget, packet, now),
                Action::Allow | Action::Mark(_) => false,
            };
            let saved = dropped && !rule.past_failsafe && is_vital(&vital, packet, around);
            decision.acted.push((number, dropped && !saved));
            let decided = dropped || rule.action == Action::Allow;
            if rule.mode == Mode::Enforce && decided {
                return Decision { dropped: dropped && !saved, rule: Some(number), saved, ..decision };
            }
        }
        if packet.deep { Decision { acted: decision.acted, ..unparsable } } else { decision }
    }
}

fn is_vital(vital: &[super::rule::Vital], packet: &Packet, around: &Surroundings) -> bool {
    let egress = packet.direction == Direction::Egress;
    let peer = if egress { packet.destination } else { packet.source };
    let port = packet.ports.map(|(from, to)| if egress { to } else { from });
    let resolver = port == Some(53) && around.resolvers.contains(&peer);
    let kind = packet.icmp.map(|(kind, _)| kind);
    failsafe::saves(vital, egress, packet.protocol, packet.ports, kind, opens(packet), resolver)
}

/// SYN without ACK.
fn opens(packet: &Packet) -> bool {
    packet.flags.is_some_and(|flags| flags & 0x12 == 0x02)
}

impl Rule {
    /// Whether the rule is for a packet.
    pub fn takes(&self, packet: &Packet, around: &Surroundings) -> bool {
        let in_ranges = |ranges: &[std::ops::RangeInclusive<u16>], port: Option<u16>| {
            ranges.is_empty() || port.is_some_and(|port| ranges.iter().any(|range| range.contains(&port)))
        };
        self.takes_claim(packet, around)
            && self.direction == packet.direction
            && self.interfaces.as_ref().is_none_or(|names| names.contains(&packet.interface))
            && self.protocol.is_none_or(|protocol| protocol == packet.protocol)
            && in_ranges(&self.source_ports, packet.ports.map(|ports| ports.0))
            && in_ranges(&self.ports, packet.ports.map(|ports| ports.1))
            && (self.icmp_types.is_empty()
                || packet.icmp.is_some_and(|(kind, _)| self.icmp_types.contains(&kind)))
            && self.takes_vlan(packet.vlan)
            && (self.classes.is_empty() || self.classes.contains(&around.class))
            && self.flags.is_none_or(|(set, unset)| {
                packet.flags.is_some_and(|flags| flags & set == set && flags & unset == 0)
            })
            && self.source.as_ref().is_none_or(|addresses| addresses.contains(packet.source))
            && self.destination.as_ref().is_none_or(|addresses| addresses.contains(packet.destination))
    }

    /// Whether the rule is about a claim by somebody who has no right to it, or about no claims and the packet is more than one.
    fn takes_claim(&self, packet: &Packet, around: &Surroundings) -> bool {
        let Some(may) = &self.claimants else { return !packet.is_arp() };
        packet.direction == Direction::Ingress
            && packet
                .claim
                .is_some_and(|claim| around.vips.contains(&claim.address) && !may.contains(&claim.mac))
    }
}

impl Budget {
    /// What a packet costs in ns; `None` where it costs nothing.
    fn cost(&self, packet: &Packet) -> Option<u64> {
        let units = match self.unit {
            Unit::Packets => packet.segments,
            Unit::Bytes => packet.length,
            Unit::Connections => u64::from(opens(packet)),
        };
        (units > 0).then(|| units.wrapping_mul(self.cost) >> 16)
    }

    fn key(&self, rule: usize, packet: &Packet) -> (usize, [u8; 16], [u8; 16]) {
        let source = self.per_source.map_or([0; 16], |(v4, v6)| {
            let bits = if packet.source.is_ipv4() { 96 + u32::from(v4) } else { u32::from(v6) };
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (u128::from_be_bytes(octets(packet.source)) & mask).to_be_bytes()
        });
        (rule, source, if self.per_destination { octets(packet.destination) } else { [0; 16] })
    }
}

impl Budgets {
    fn allow(&mut self, rule: usize, budget: &Budget, packet: &Packet, now: u64) -> bool {
        let Some(cost) = budget.cost(packet) else { return true };
        let used = self.0.entry(budget.key(rule, packet)).or_default();
        let from = now.max(*used);
        if from - now + cost > budget.burst {
            return false;
        }
        *used = from + cost;
        true
    }

    fn depart(&mut self, rule: usize, budget: &Budget, packet: &Packet, now: u64) -> bool {
        let Some(cost) = budget.cost(packet) else { return true };
        let next = self.0.entry((rule, [0; 16], [0; 16])).or_default();
        let at = now.max(*next);
        if at - now > budget.burst {
            return false;
        }
        *next = at + cost;
        true
    }
}
