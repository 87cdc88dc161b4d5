//! Machines in the wrong VLAN: where Tinkerbell's Hardware belongs, against where the router sees it.

use super::network::Network;
use super::problem::{Effect, Problem};
use super::values::Mac;
use crate::inputs::{HardwareInterface, Inputs, Look, ObjectId, Place, Sighting, Worth};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// The field that says who is meant.
const FIELD: &str = "spec.interfaces.dhcp.mac";

/// The Hardware whose MAC address the router sees in another network than the one that its address, or its VLAN, belongs
/// to. `None` where the router was not asked.
pub(super) fn misplaced(inputs: &Inputs, networks: &[Network]) -> Option<Look<Problem>> {
    let seen = inputs.sightings.as_ref()?.as_ref();
    Some(seen.map_err(Clone::clone).map(|seen| find(inputs, networks, seen)))
}

fn find(inputs: &Inputs, networks: &[Network], sightings: &[Sighting]) -> Vec<Problem> {
    let map = Map::of(networks);
    let mut seen = BTreeMap::<&str, Vec<&Sighting>>::new();
    for sighting in sightings {
        seen.entry(&sighting.mac).or_default().push(sighting);
    }
    let machines = expected(inputs, &map, &seen).into_iter();
    machines.filter_map(|(mac, machine)| map.judge(&mac, &machine, seen.get(&*mac)?)).collect()
}

/// A machine that was seen: who it is, and the networks that it may be in.
struct Machine<'a> {
    object: &'a ObjectId,
    networks: BTreeSet<usize>,
}

/// The machines that were seen, by MAC address. One address may be in several networks, as on a trunk.
fn expected<'a>(
    inputs: &'a Inputs,
    map: &Map<'_>,
    seen: &BTreeMap<&str, Vec<&Sighting>>,
) -> BTreeMap<Mac, Machine<'a>> {
    let mut machines = BTreeMap::<Mac, Machine<'a>>::new();
    for object in &inputs.hardware {
        for interface in &object.spec.interfaces {
            let Ok(mac) = Mac::try_from(interface.mac.as_str()) else { continue };
            if seen.contains_key(&*mac) {
                let new = Machine { object: &object.id, networks: BTreeSet::new() };
                machines.entry(mac).or_insert(new).networks.extend(map.networks_of(interface));
            }
        }
    }
    machines
}

/// The networks, by what a sighting or a machine names.
struct Map<'a> {
    networks: &'a [Network],
    by_interface: HashMap<String, usize>,
    by_vlan: HashMap<u16, Vec<usize>>,
    /// Subnets of accepted networks do not overlap.
    by_start: BTreeMap<IpAddr, (IpNet, usize)>,
}

impl<'a> Map<'a> {
    fn of(networks: &'a [Network]) -> Self {
        let mut map = Self {
            networks,
            by_interface: HashMap::new(),
            by_vlan: HashMap::new(),
            by_start: BTreeMap::new(),
        };
        for (at, network) in networks.iter().enumerate() {
            map.by_interface.insert(network.interface().to_string(), at);
            map.by_vlan.entry(network.vlan.number()).or_default().push(at);
            let starts = network.subnets.iter().map(|each| (each.prefix.network(), (each.prefix, at)));
            map.by_start.extend(starts);
        }
        map
    }

    fn holding(&self, ip: IpAddr) -> Option<usize> {
        let (_, (prefix, at)) = self.by_start.range(..=ip).next_back()?;
        prefix.contains(&ip).then_some(*at)
    }

    fn networks_of(&self, interface: &HardwareInterface) -> impl Iterator<Item = usize> {
        let by_vlan = interface.vlan.and_then(|vlan| self.by_vlan.get(&vlan));
        interface.ip.and_then(|ip| self.holding(ip)).into_iter().chain(by_vlan.into_iter().flatten().copied())
    }

    /// What is wrong, unless the machine is, or last was, where it belongs.
    fn judge(&self, mac: &Mac, machine: &Machine<'_>, seen: &[&Sighting]) -> Option<Problem> {
        let found: Vec<(Worth, Found<'_>)> =
            seen.iter().filter_map(|each| Some((each.worth, self.find(each, machine)?))).collect();
        let best = found.iter().map(|(worth, _)| *worth).max()?;
        let found: BTreeSet<&Found<'_>> =
            found.iter().filter(|(worth, _)| *worth == best).map(|(_, found)| found).collect();
        let right = |found: &&&Found<'_>| found.network.is_some_and(|at| machine.networks.contains(&at));
        if machine.networks.is_empty() || found.iter().any(|each| right(&each)) {
            return None;
        }
        let seen: Vec<String> = found.iter().map(|each| self.words(each)).collect();
        let belongs: Vec<String> = machine.networks.iter().map(|at| self.name(*at)).collect();
        let vlans: Vec<String> =
            machine.networks.iter().map(|at| self.networks[*at].vlan.to_string()).collect();
        Some(Problem {
            object: machine.object.clone(),
            field: FIELD.to_owned(),
            what: format!("{mac} is seen {}, and belongs on {}", seen.join(" and "), belongs.join(" or ")),
            way_out: format!(
                "put the switch port of the machine into VLAN {}, or correct its address; one that lives in several \
                 networks has an interface with this MAC for each",
                vlans.join(" or ")
            ),
            effect: Effect::Noted,
        })
    }

    /// The place of a sighting, if it is on a network of ours or on a port that carries one where the machine belongs.
    fn find<'s>(&self, sighting: &'s Sighting, machine: &Machine<'_>) -> Option<Found<'s>> {
        let network = match &sighting.place {
            Place::Lease(ip) => Some(self.holding(*ip)?),
            Place::Interface(name) => self.by_interface.get(name).copied(),
        };
        let carries = |name: &str| {
            let parents = machine.networks.iter().map(|at| &*self.networks[*at].parent.name);
            parents.into_iter().any(|parent| name.split('.').next() == Some(parent))
        };
        match &sighting.place {
            Place::Interface(name) if network.is_none() && !carries(name) => None,
            place => Some(Found { place, network }),
        }
    }

    fn words(&self, found: &Found<'_>) -> String {
        match (found.place, found.network) {
            (Place::Interface(_), Some(at)) => format!("on {}", self.name(at)),
            (Place::Interface(name), None) => format!("on {name}, which is no network of ours"),
            (Place::Lease(ip), Some(at)) => format!("with a lease of {ip} on {}", self.name(at)),
            (Place::Lease(ip), None) => format!("with a lease of {ip}"),
        }
    }

    fn name(&self, at: usize) -> String {
        let network = &self.networks[at];
        format!("{} ({}, VLAN {})", network.interface(), network.object, network.vlan)
    }
}

/// Where a sighting is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found<'s> {
    place: &'s Place,
    network: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{ClusterName, Collector};
    use crate::intent::derive;
    use serde_json::{Value, json};

    const MAC: &str = "02:00:00:00:00:01";

    fn network(name: &str, vlan: u16) -> Value {
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork", "metadata": {"name": name, "namespace": "lab"},
               "spec": {"routerRef": {"name": "gw"}, "vlan": vlan, "parent": {"name": "eth1"},
                        "subnets": [{"cidr": format!("10.10.{vlan}.0/24")}, {"cidr": format!("fd00:{vlan}::/64")}]}})
    }

    fn hardware(interfaces: &[Value]) -> Value {
        let interfaces: Vec<Value> = interfaces.iter().map(|dhcp| json!({"dhcp": dhcp})).collect();
        json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "ms02", "namespace": "t"},
               "spec": {"interfaces": interfaces}})
    }

    fn of(ip: &str) -> Value {
        json!({"mac": "02:00:00:00:00:01", "ip": {"address": ip}})
    }

    fn on(interface: &str, worth: Worth) -> Sighting {
        Sighting { mac: MAC.to_owned(), place: Place::Interface(interface.to_owned()), worth }
    }

    fn leased(ip: &str) -> Sighting {
        Sighting { mac: MAC.to_owned(), place: Place::Lease(ip.parse().unwrap()), worth: Worth::Remembered }
    }

    fn said(interfaces: &[Value], seen: &[Sighting]) -> Vec<String> {
        let router = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gw"},
            "spec": {"endpoints": ["https://192.0.2.1"], "tls": {}, "apiKey": {}, "grants": "Open"}});
        let mut collector = Collector::default();
        for each in [router, network("nodes", 30), network("tenant", 40), hardware(interfaces)] {
            collector.document("file", &ClusterName::local(), each);
        }
        let mut inputs = collector.finish();
        inputs.sightings = Some(Ok(seen.to_vec()));
        let problems = derive(&inputs, &"gw".into()).misplaced.unwrap().unwrap();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_machine_on_another_vlan_is_named_with_both_places_and_the_way_out() {
        assert_eq!(
            said(&[of("10.10.30.10")], &[on("eth1.40", Worth::Answers)]),
            [
                "Hardware t/ms02: spec.interfaces.dhcp.mac: 02:00:00:00:00:01 is seen on eth1.40 (RouterNetwork lab/tenant, \
              VLAN 40), and belongs on eth1.30 (RouterNetwork lab/nodes, VLAN 30); put the switch port of the machine into \
              VLAN 30, or correct its address; one that lives in several networks has an interface with this MAC for each"
            ]
        );
        let untagged = said(&[of("10.10.30.10")], &[on("eth1", Worth::Remembered)]);
        assert!(untagged[0].contains("is seen on eth1, which is no network of ours"), "{untagged:?}");
        let lease = said(&[of("fd00:30::10")], &[leased("10.10.40.7")]);
        assert!(lease[0].contains("with a lease of 10.10.40.7 on eth1.40"), "{lease:?}");
        let vlan = json!({"mac": "02-00-00-00-00-01", "vlan_id": "30"});
        assert_eq!(said(&[vlan], &[on("eth1.40", Worth::Answers)]).len(), 1);
    }

    #[test]
    fn who_is_where_it_belongs_is_not_named() {
        let none = Vec::<String>::new();
        assert_eq!(said(&[of("10.10.30.10")], &[on("eth1.30", Worth::Remembered)]), none);
        // Another port of the router leads elsewhere, and a network of nobody's says nothing.
        assert_eq!(said(&[of("10.10.30.10")], &[on("eth0", Worth::Answers)]), none);
        assert_eq!(said(&[of("10.9.0.10")], &[on("eth1.40", Worth::Answers)]), none);
        let trunk = [of("10.10.30.10"), of("10.10.40.10")];
        assert_eq!(said(&trunk, &[on("eth1.40", Worth::Answers)]), none);
        let both = [on("eth1.40", Worth::Answers), on("eth1.30", Worth::Answers)];
        assert_eq!(said(&[of("10.10.30.10")], &both), none);
    }

    #[test]
    fn what_answers_outweighs_what_is_remembered() {
        let (here, there) = (on("eth1.30", Worth::Answers), on("eth1.40", Worth::Remembered));
        assert_eq!(
            said(&[of("10.10.30.10")], &[here, there.clone(), leased("10.10.40.7")]),
            Vec::<String>::new()
        );
        let left = on("eth1.30", Worth::Remembered);
        assert_eq!(said(&[of("10.10.30.10")], &[left.clone(), there]), Vec::<String>::new());
        assert_eq!(said(&[of("10.10.30.10")], &[left, on("eth1.40", Worth::Answers)]).len(), 1);
    }

    #[test]
    fn a_router_that_was_not_asked_says_nothing() {
        assert_eq!(derive(&Inputs::default(), &"gw".into()).misplaced, None);
    }
}
