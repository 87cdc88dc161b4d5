//! What the datapath has seen of virtual addresses beyond their ledger, made facts of the last while.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::VipCounters;
use super::evidence::{Owner, Stray, Traffic};
use super::window::Window;
use crate::model::address::{Direction, IfIndex, Mac, Protocol};
use crate::model::cluster::ServicePort;
use crate::model::link::{Link, LinkKind};

/// The last while is between this and twice as long.
pub const SPAN: Duration = Duration::from_secs(30);
/// A claim counts for this long.
const CLAIM: Duration = Duration::from_secs(300);
const TCP: Protocol = Protocol(6);

/// Strays and claims as counted so far.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// By address and port that no Service has.
    pub strays: BTreeMap<(IpAddr, ServicePort), StrayCount>,
    /// Who has claimed which address.
    pub claims: Vec<Claim>,
}

/// What was counted of a port that no Service has.
#[derive(Clone, Copy, Debug)]
pub struct StrayCount {
    /// Packets that were looked into.
    pub packets: u64,
    /// Those that came again with a lower time to live.
    pub looped: u64,
    /// Highest and lowest time to live of those.
    pub ttl: [u8; 2],
    /// From which next hop.
    pub hop: Mac,
    /// Through which interface.
    pub interface: IfIndex,
    /// When the last came, as time since boot.
    pub last: Duration,
}

/// A claim of an address by a link-layer address.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Which address.
    pub vip: IpAddr,
    /// By whom.
    pub mac: Mac,
    /// On which interface.
    pub interface: IfIndex,
    /// Whether it left this node.
    pub own: bool,
    /// When it was first seen since the last long pause, as time since boot.
    pub first: Duration,
    /// When last.
    pub last: Duration,
}

/// Makes counters facts of the last while.
#[derive(Debug)]
pub struct Recent {
    traffic: Window<(IpAddr, Count)>,
    strays: Window<(IpAddr, ServicePort, Pass)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Count {
    Ingress,
    Egress,
    Connections,
    TcpEgress,
    Vlan(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pass {
    Any,
    Again,
}

impl Default for Recent {
    fn default() -> Self {
        Self { traffic: Window::new(SPAN), strays: Window::new(SPAN) }
    }
}

impl Recent {
    /// The traffic of each address in the ledger.
    pub fn traffic(
        &mut self,
        rows: &[VipCounters],
        links: &BTreeMap<IfIndex, Link>,
        now: Duration,
    ) -> BTreeMap<IpAddr, Traffic> {
        let mut counts: BTreeMap<(IpAddr, Count), u64> = BTreeMap::new();
        for row in rows {
            let mut add = |count, packets| *counts.entry((row.vip.0, count)).or_default() += packets;
            match row.direction {
                Direction::Ingress => {
                    add(Count::Ingress, row.packets);
                    add(Count::Connections, row.syn);
                    let vlan = row.vlan.or_else(|| vlan_of(links, row.interface));
                    if let Some(vlan) = vlan.filter(|_| row.protocol == TCP) {
                        add(Count::Vlan(vlan), row.packets);
                    }
                }
                Direction::Egress => {
                    add(Count::Egress, row.packets);
                    if row.protocol == TCP {
                        add(Count::TcpEgress, row.packets);
                    }
                }
            }
        }
        let growth = self.traffic.grown(&counts, now);
        let mut traffic: BTreeMap<IpAddr, Traffic> = BTreeMap::new();
        for ((vip, count), total) in &counts {
            let one =
                traffic.entry(*vip).or_insert_with(|| Traffic { window: growth.over, ..Traffic::default() });
            let grown = growth.counts.get(&(*vip, *count)).copied().unwrap_or(0);
            match count {
                Count::Ingress => (one.ingress, one.total) = (grown, *total),
                Count::Egress => one.egress = grown,
                Count::Connections => one.connections = grown,
                Count::TcpEgress => one.tcp_egress = grown,
                Count::Vlan(vlan) if grown > 0 => {
                    one.vlans.insert(*vlan, grown);
                }
                Count::Vlan(_) => {}
            }
        }
        traffic
    }

    /// Strays of the last while by address.
    pub fn strays(
        &mut self,
        counts: &BTreeMap<(IpAddr, ServicePort), StrayCount>,
        links: &BTreeMap<IfIndex, Link>,
        now: Duration,
    ) -> BTreeMap<IpAddr, Vec<Stray>> {
        let each = counts.iter().flat_map(|((vip, port), count)| {
            [((*vip, *port, Pass::Any), count.packets), ((*vip, *port, Pass::Again), count.looped)]
        });
        let growth = self.strays.grown(&each.collect(), now).counts;
        let mut strays: BTreeMap<IpAddr, Vec<Stray>> = BTreeMap::new();
        for ((vip, port), count) in counts {
            let grown = |pass| growth.get(&(*vip, *port, pass)).copied().unwrap_or(0);
            let packets = grown(Pass::Any);
            if packets > 0 {
                strays.entry(*vip).or_default().push(Stray {
                    port: *port,
                    packets,
                    looped: grown(Pass::Again),
                    ttl: count.ttl,
                    hop: count.hop,
                    interface: name_of(links, count.interface),
                    last: count.last,
                });
            }
        }
        strays
    }
}

/// The claims of the last minutes by address.
pub fn owners(
    claims: &[Claim],
    links: &BTreeMap<IfIndex, Link>,
    now: Duration,
) -> BTreeMap<IpAddr, Vec<Owner>> {
    let mut owners: BTreeMap<IpAddr, Vec<Owner>> = BTreeMap::new();
    for claim in claims.iter().filter(|claim| now.saturating_sub(claim.last) < CLAIM) {
        let interface = name_of(links, claim.interface);
        let known = owners.entry(claim.vip).or_default();
        // A bridge on this node may pass its own claims by twice, once in each direction.
        match known.iter_mut().find(|one| one.mac == claim.mac && one.interface == interface) {
            Some(one) => {
                one.own |= claim.own;
                one.first = one.first.min(claim.first);
                one.last = one.last.max(claim.last);
            }
            None => known.push(Owner {
                mac: claim.mac,
                interface,
                own: claim.own,
                first: claim.first,
                last: claim.last,
            }),
        }
    }
    owners.values_mut().for_each(|all| all.sort_by_key(|one| (one.first, one.mac)));
    owners
}

fn vlan_of(links: &BTreeMap<IfIndex, Link>, interface: IfIndex) -> Option<u16> {
    match links.get(&interface)?.kind {
        LinkKind::Vlan(vlan) => Some(vlan),
        _ => None,
    }
}

fn name_of(links: &BTreeMap<IfIndex, Link>, interface: IfIndex) -> String {
    links.get(&interface).map_or_else(|| format!("if{interface}"), |link| link.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vip::Vip;

    fn row(direction: Direction, vlan: Option<u16>, packets: u64) -> VipCounters {
        VipCounters {
            vip: Vip("10.10.50.10".parse().unwrap()),
            port: Some(443),
            protocol: TCP,
            direction,
            interface: IfIndex::try_from(2).unwrap(),
            vlan,
            hop: Mac::default(),
            packets,
            bytes: packets * 100,
            syn: packets / 2,
            rst: 0,
        }
    }

    #[test]
    fn rows_become_traffic_of_the_last_while() {
        let mut recent = Recent::default();
        let links = BTreeMap::new();
        let rows = |n| {
            vec![
                row(Direction::Ingress, Some(50), n),
                row(Direction::Ingress, None, n),
                row(Direction::Egress, None, n),
            ]
        };
        recent.traffic(&rows(100), &links, Duration::from_secs(1));
        let traffic = recent.traffic(&rows(110), &links, Duration::from_secs(11));
        let one = traffic.values().next().unwrap();
        assert_eq!(
            (one.ingress, one.egress, one.tcp_egress, one.connections, one.total),
            (20, 10, 10, 10, 220)
        );
        assert_eq!((one.window, one.vlans.clone()), (Duration::from_secs(10), BTreeMap::from([(50, 10)])));
    }

    #[test]
    fn claims_of_one_owner_are_one_and_old_ones_are_gone() {
        let claim = |last: u8, own, first, until| Claim {
            vip: "10.10.50.10".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, last]),
            interface: IfIndex::try_from(2).unwrap(),
            own,
            first: Duration::from_secs(first),
            last: Duration::from_secs(until),
        };
        let claims = [claim(1, true, 500, 510), claim(1, false, 490, 520), claim(2, false, 100, 200)];
        let owners = owners(&claims, &BTreeMap::new(), Duration::from_secs(600));
        let all = &owners[&claims[0].vip];
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].own, all[0].first.as_secs(), all[0].last.as_secs()), (true, 490, 520));
    }
}
