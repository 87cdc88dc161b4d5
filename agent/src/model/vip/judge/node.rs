//! What happens to packets at this node: answers, strays, loops, VLANs, link-layer owners.

use super::case::{Case, list};
use super::{Basis, Finding};
use crate::model::cluster::{Here, TrafficPolicy};
use crate::model::vip::evidence::{Answer, Owner, Stray};
use crate::model::vip::state::VipState;

/// So many packets to a port that no Service has are no mistyped address or port scan any more.
pub(super) const STRAYS: u64 = 10;
/// A packet that came again with a lower time to live so often went round.
pub(super) const LOOPS: u64 = 2;
/// TCP packets on a VLAN without any answer before that is named.
pub(super) const VLAN_SAMPLE: u64 = 5;

impl Case<'_> {
    pub(super) fn black_holed(&self) -> Option<Finding> {
        let facts = self.facts?;
        let sent_here = self.learned.iter().find(|route| route.is_here());
        if self.announced.is_empty() && sent_here.is_none() {
            return None;
        }
        let answers: Vec<Answer> = facts.answers.values().copied().collect();
        let any = answers.iter().any(|answer| matches!(answer, Answer::Answered(_)));
        if any || !answers.iter().any(|answer| answer.is_bad()) {
            return None;
        }
        let why = match sent_here {
            Some(route) => format!("router {} sends its packets here", route.view.router),
            None => {
                let peers = self.announced.iter().map(|(session, ..)| session.peer);
                format!("this node announces it to {}", list(peers))
            }
        };
        let basis = [Basis::Probe, sent_here.map_or(Basis::Wire, |route| route.basis())];
        let what = format!("{why}, and none of its ports answers on this node: {}", self.bad_ports());
        self.finding(VipState::BlackHoled, basis, what, self.way_to_an_answer())
    }

    pub(super) fn not_answering(&self) -> Option<Finding> {
        let bad = self.facts?.answers.values().any(|answer| answer.is_bad());
        let intent = self.intent.as_ref()?;
        let nothing_to_answer = intent.unserved_on(&self.own().node).len() == intent.services.len();
        if !bad || nothing_to_answer {
            return None;
        }
        let what = format!("this node cannot reach {}", self.bad_ports());
        self.finding(VipState::NotAnswering, [Basis::Probe, Basis::Objects], what, self.way_to_an_answer())
    }

    fn bad_ports(&self) -> String {
        let answers = self.facts.iter().flat_map(|facts| &facts.answers);
        list(answers.filter(|(_, answer)| answer.is_bad()).map(|(port, answer)| {
            let word = match answer {
                Answer::Refused => "is refused",
                Answer::NoRoute => "has no route",
                _ => "gives no answer",
            };
            format!("{port} {word}")
        }))
    }

    fn way_to_an_answer(&self) -> String {
        let local = self.intent.as_ref().is_some_and(|intent| {
            intent.services.iter().any(|service| service.policy == TrafficPolicy::Local)
        });
        let whose = if local { "the endpoints of this node" } else { "the endpoints" };
        format!(
            "look whether {whose} take connections on the target port, at `cilium-dbg service list` on this node, and at \
             network policies; `weirctl drops` shows what the kernel gave up"
        )
    }

    /// Without objects nobody knows which ports a Service has.
    fn strays(&self) -> impl Iterator<Item = &Stray> {
        let known = self.facts.filter(|_| self.intent.is_some());
        known.into_iter().flat_map(|facts| &facts.strays)
    }

    pub(super) fn port_unserved(&self) -> Option<Finding> {
        let strays: Vec<&Stray> =
            self.strays().filter(|stray| stray.packets >= STRAYS && stray.looped < LOOPS).collect();
        let first = strays.first()?;
        let each = strays.iter().map(|stray| format!("{} packets to {}", stray.packets, stray.port));
        let what = format!(
            "{} come from {} on {}, and no Service has such a port",
            list(each),
            first.hop,
            first.interface
        );
        let action = "tell the clients the right port, or add it to the Service; a router that forwards only the \
                      Service's ports keeps them out";
        self.finding(VipState::PortUnserved, [Basis::Packets, Basis::Objects], what, action)
    }

    pub(super) fn routing_loop(&self) -> Option<Finding> {
        let strays: Vec<&Stray> = self.strays().filter(|stray| stray.looped >= LOOPS).collect();
        let first = strays.first()?;
        let each = strays.iter().map(|stray| {
            let [high, low] = stray.ttl;
            format!(
                "packets to {} came again {} times, their time to live falling from {high} to {low}",
                stray.port, stray.looped
            )
        });
        let what = format!(
            "{}: this node sends them back to the router {} on {}, which sends them here again",
            list(each),
            first.hop,
            first.interface
        );
        let action = "no Service has the port, so the node routes the packets to its default gateway: newer releases of \
                      Cilium drop them (cilium#40684); until then add a blackhole route for the pool's prefixes on the node";
        self.finding(VipState::RoutingLoop, [Basis::Packets, Basis::Objects], what, action)
    }

    pub(super) fn vlan_unanswered(&self) -> Option<Finding> {
        let facts = self.facts?;
        let tagged: u64 = facts.traffic.vlans.values().sum();
        let answers_here = !facts.answers.values().any(|answer| answer.is_bad());
        let served = self
            .intent
            .as_ref()
            .is_none_or(|intent| intent.unserved_on(&self.own().node).len() < intent.services.len());
        if tagged < VLAN_SAMPLE || facts.traffic.tcp_egress > 0 || !answers_here || !served {
            return None;
        }
        let vlans =
            facts.traffic.vlans.iter().map(|(vlan, packets)| format!("{packets} TCP packets on VLAN {vlan}"));
        let what = format!("{} came for it, and not one went out", list(vlans));
        let action = "Cilium drops Gateway traffic for addresses behind a VLAN sub-interface (cilium#46260), and VLANs that it \
                      does not know: name the sub-interface in its `devices`, allow the VLAN (vlan-bpf-bypass), or let the \
                      router use the untagged network";
        self.finding(VipState::VlanUnanswered, [Basis::Packets], what, action)
    }

    pub(super) fn two_macs(&self) -> Option<Finding> {
        let owners = &self.facts?.owners;
        let (a, b) = owners
            .iter()
            .enumerate()
            .find_map(|(at, one)| Some((one, owners[at + 1..].iter().find(|other| quarrel(one, other))?)))?;
        let whose = |owner: &Owner| match owner.own {
            true => format!("{} (this node)", owner.mac),
            false => owner.mac.to_string(),
        };
        let what = format!("{} and {} both answer for it on {}", whose(a), whose(b), a.interface);
        let action = match self.here {
            Here::ByLink => {
                "two nodes hold the lease of the address, or a host has it too: look at the leases \
                             cilium-l2announce-* in kube-system, and for the MAC address on the switch"
            }
            _ => {
                "a host on this segment has the address, or nodes answer ARP for an address on loopback: find the MAC \
                  address on the switch; on nodes set net.ipv4.conf.all.arp_ignore to 1"
            }
        };
        self.finding(VipState::TwoMacs, [Basis::Link], what, action)
    }
}

/// Whether both claimed the address at the same time. When an address moves, the old owner falls silent before the new one
/// speaks.
fn quarrel(a: &Owner, b: &Owner) -> bool {
    a.mac != b.mac && a.interface == b.interface && a.first <= b.last && b.first <= a.last
}
