//! Reservations: which machine keeps which address, from the network itself, Tinkerbell and KubeVirt.

use super::dhcp::{Dhcp4, Reservation, Server4, in_prefix};
use super::network::Network;
use super::problem::{Findings, Problem};
use super::values::{self, HostName, Mac, PlainText};
use crate::crd::{KubeVirtSource, ReservationSource, RouterSpec, TinkerbellMode};
use crate::inputs::{Inputs, Object, ObjectId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

/// A wish, before it is known which network it falls into.
struct Wish<'a> {
    source: &'a ObjectId,
    labels: &'a BTreeMap<String, String>,
    kind: ReservationSource,
    name: String,
    mac: &'a str,
    ip: Ipv4Addr,
    boot_file: Option<&'a str>,
    tftp_server: Option<&'a str>,
    vlan: Option<u16>,
    /// The Harvester network that the machine is on.
    attachment: Option<&'a ObjectId>,
}

/// Gives each served network its reservations.
pub(super) fn reserve(
    inputs: &Inputs,
    router: &Object<RouterSpec>,
    networks: &mut [Network],
    problems: &mut Vec<Problem>,
) {
    let mut wishes = Vec::new();
    if router.spec.sources.tinkerbell.mode == TinkerbellMode::Reservations {
        wishes.extend(hardware(inputs));
    }
    if router.spec.sources.kubevirt == KubeVirtSource::Reservations {
        wishes.extend(machines(inputs));
    }
    let mut found: Vec<Vec<Reservation>> =
        networks.iter().map(|network| by_hand(inputs, network, problems)).collect();
    let index = Index::of(networks);
    for wish in &wishes {
        let Some(at) = index.network_of(wish, networks) else { continue };
        let network = &networks[at];
        if !wanted(network, wish) || contradicts(network, wish, problems) {
            continue;
        }
        let reservation = read(wish.source, "spec", &wish.name, wish.mac, wish.ip, problems);
        found[at].extend(reservation.and_then(|each| with_boot(each, wish, problems)));
    }
    for (network, found) in networks.iter_mut().zip(found) {
        let unique = refuse_duplicates(found, problems);
        if let Some(Dhcp4::Server(server)) = &mut network.dhcp {
            settle(&network.object, server, unique, problems);
        }
    }
    refuse_idle(networks, problems);
}

fn hardware(inputs: &Inputs) -> impl Iterator<Item = Wish<'_>> {
    inputs.hardware.iter().flat_map(|object| {
        object.spec.interfaces.iter().filter_map(|interface| {
            let IpAddr::V4(ip) = interface.ip? else { return None };
            Some(Wish {
                source: &object.id,
                labels: &object.labels,
                kind: ReservationSource::Hardware,
                name: interface.hostname.clone().unwrap_or_else(|| object.id.name.clone()),
                mac: &interface.mac,
                ip,
                boot_file: interface.boot_file.as_deref().filter(|file| !file.is_empty()),
                tftp_server: interface.tftp_server.as_deref().filter(|server| !server.is_empty()),
                vlan: interface.vlan,
                attachment: None,
            })
        })
    })
}

fn machines(inputs: &Inputs) -> impl Iterator<Item = Wish<'_>> {
    let attachments: HashMap<_, _> = inputs
        .attachments
        .iter()
        .map(|each| ((each.id.namespace.as_deref().unwrap_or_default(), each.id.name.as_str()), each))
        .collect();
    inputs.machine_instances.iter().flat_map(move |object| {
        let attachments = attachments.clone();
        object.spec.nics.iter().filter_map(move |nic| {
            let own = object.id.namespace.as_deref().unwrap_or_default();
            let key = nic.network.split_once('/').unwrap_or((own, &nic.network));
            let attachment = attachments.get(&key)?;
            let ip = nic.addresses.iter().find_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            })?;
            Some(Wish {
                source: &object.id,
                labels: &object.labels,
                kind: ReservationSource::VirtualMachineInstance,
                name: object.id.name.clone(),
                mac: &nic.mac,
                ip,
                boot_file: None,
                tftp_server: None,
                vlan: attachment.spec.vlan,
                attachment: Some(&attachment.id),
            })
        })
    })
}

/// Finds the network of an address without looking at each: subnets of accepted networks do not overlap.
struct Index {
    by_start: BTreeMap<Ipv4Addr, (ipnet::IpNet, usize)>,
}

impl Index {
    fn of(networks: &[Network]) -> Self {
        let numbered = networks.iter().enumerate();
        let starts = numbered.flat_map(|(at, network)| {
            network.prefixes4().map(move |net| (net.network(), (ipnet::IpNet::V4(net), at)))
        });
        Self { by_start: starts.collect() }
    }

    fn network_of(&self, wish: &Wish<'_>, networks: &[Network]) -> Option<usize> {
        let (_, (prefix, at)) = self.by_start.range(..=wish.ip).next_back()?;
        // A machine on another Harvester network may use the same addresses: it is none of ours.
        let elsewhere = wish.attachment.is_some() && wish.vlan != Some(networks[*at].vlan.number());
        (in_prefix(prefix, wish.ip) && !elsewhere).then_some(*at)
    }
}

fn wanted(network: &Network, wish: &Wish<'_>) -> bool {
    let choice = &network.reservations;
    let source = choice.sources.is_empty() || choice.sources.contains(&wish.kind);
    let labels = choice.match_labels.iter().all(|(key, value)| wish.labels.get(key) == Some(value));
    source && labels && matches!(network.dhcp, Some(Dhcp4::Server(_)))
}

fn contradicts(network: &Network, wish: &Wish<'_>, problems: &mut Vec<Problem>) -> bool {
    let Some(vlan) = wish.vlan.filter(|vlan| *vlan != network.vlan.number()) else { return false };
    let what = format!(
        "{} is in the subnet of {} (VLAN {}), but VLAN {vlan} is given",
        wish.ip, network.object, network.vlan
    );
    let mut findings = Findings::on(wish.source, problems);
    findings.refuse("spec.interfaces.dhcp.vlan_id", what, "correct the VLAN or the address");
    true
}

fn by_hand(inputs: &Inputs, network: &Network, problems: &mut Vec<Problem>) -> Vec<Reservation> {
    let object = inputs.networks.iter().find(|object| object.id == network.object);
    let server = object.and_then(|object| object.spec.dhcp.as_ref()?.server.as_ref());
    let specs = server.map(|server| server.reservations.as_slice()).unwrap_or_default();
    let numbered = specs.iter().enumerate();
    let read = numbered.filter_map(|(at, spec)| {
        let field = format!("spec.dhcp.server.reservations[{at}]");
        let mut findings = Findings::on(&network.object, problems);
        let ip = values::address4(&spec.ip);
        let ip = findings.read(&format!("{field}.ip"), ip, "give an IPv4 address of the network")?;
        if !network.subnets.iter().any(|subnet| in_prefix(&subnet.prefix, ip)) {
            let what = format!("{ip} is in none of the network's subnets");
            findings.refuse(&format!("{field}.ip"), what, "give an address of the network");
            return None;
        }
        self::read(&network.object, &field, &spec.name, &spec.mac, ip, problems)
    });
    read.collect()
}

fn read(
    source: &ObjectId,
    field: &str,
    name: &str,
    mac: &str,
    ip: Ipv4Addr,
    problems: &mut Vec<Problem>,
) -> Option<Reservation> {
    let mut findings = Findings::on(source, problems);
    let way_out = "use letters, digits, hyphens and dots: VyOS 1.5 takes nothing else";
    let name = findings.read(&format!("{field}: host name"), HostName::try_from(name), way_out);
    let mac = findings.read(
        &format!("{field}: MAC"),
        Mac::try_from(mac),
        "write six octets such as 02:00:00:00:00:01",
    );
    let source = source.clone();
    Some(Reservation { name: name?, mac: mac?, ip, bootfile_name: None, tftp_server: None, source })
}

/// Adds what the machine alone boots from. VyOS 1.4 has no such option on a mapping: there it is the network's.
fn with_boot(mut each: Reservation, wish: &Wish<'_>, problems: &mut Vec<Problem>) -> Option<Reservation> {
    let mut findings = Findings::on(wish.source, problems);
    let field = |name: &str| format!("spec.interfaces.dhcp.{name}");
    let file = wish.boot_file.map(PlainText::try_from);
    each.bootfile_name =
        file.and_then(|file| findings.read(&field("boot_file_name"), file, "give a plain file name"));
    let server = wish.tftp_server.map(values::host);
    each.tftp_server = server
        .and_then(|host| findings.read(&field("tftp_server_name"), host, "give an address or a host name"));
    findings.accepted(each)
}

/// One MAC and one address have one reservation. Where two differ, neither is made: which is right cannot be told.
fn refuse_duplicates(mut found: Vec<Reservation>, problems: &mut Vec<Problem>) -> Vec<Reservation> {
    found.sort_by(|a, b| (a.ip, &a.mac, &a.source).cmp(&(b.ip, &b.mac, &b.source)));
    found.dedup_by(|b, a| (a.ip, &a.mac) == (b.ip, &b.mac));
    let clash = |key: fn(&Reservation) -> String,
                 field: &str,
                 found: &[Reservation],
                 problems: &mut Vec<Problem>| {
        let mut holders = BTreeMap::<String, Vec<usize>>::new();
        for (at, each) in found.iter().enumerate() {
            holders.entry(key(each)).or_default().push(at);
        }
        let mut out = BTreeSet::new();
        for (value, holders) in holders.into_iter().filter(|(_, holders)| holders.len() > 1) {
            for at in &holders {
                let others =
                    holders.iter().filter(|other| *other != at).map(|other| found[*other].source.to_string());
                let what = format!("{value} is reserved by {} too", others.collect::<Vec<_>>().join(" and "));
                Findings::on(&found[*at].source, problems).refuse(field, what, "give each machine its own");
                out.insert(*at);
            }
        }
        out
    };
    let mut out = clash(|each| each.ip.to_string(), "IP address", &found, problems);
    out.extend(clash(|each| each.mac.to_string(), "MAC address", &found, problems));
    let kept = found.into_iter().enumerate().filter(|(at, _)| !out.contains(at));
    distinct_names(kept.map(|(_, each)| each).collect())
}

/// Two cards of one machine have one name: the MAC then tells them apart.
fn distinct_names(mut found: Vec<Reservation>) -> Vec<Reservation> {
    let mut count = HashMap::<HostName, usize>::new();
    for each in &found {
        *count.entry(each.name.clone()).or_default() += 1;
    }
    for each in found.iter_mut().filter(|each| count.get(&each.name).is_some_and(|count| *count > 1)) {
        let suffix: String = each.mac.chars().filter(|c| *c != ':').skip(6).collect();
        if let Ok(name) = HostName::try_from(format!("{}-{suffix}", each.name).as_str()) {
            each.name = name;
        }
    }
    found
}

fn settle(network: &ObjectId, server: &mut Server4, found: Vec<Reservation>, problems: &mut Vec<Problem>) {
    for each in &found {
        if server.ranges.iter().any(|range| range.contains(each.ip)) && server.exclude.insert(each.ip) {
            let what = format!("a range covers {}, which is reserved for {}", each.ip, each.source);
            let mut findings = Findings::on(network, problems);
            findings.note(
                "spec.dhcp.server.ranges",
                what,
                "it is excluded: keep ranges and reservations apart",
            );
        }
    }
    server.reservations = found;
}

/// VyOS refuses a subnet with nothing to hand out.
fn refuse_idle(networks: &mut [Network], problems: &mut Vec<Problem>) {
    for network in networks {
        let idle = matches!(&network.dhcp, Some(Dhcp4::Server(server))
            if server.ranges.is_empty() && server.reservations.is_empty());
        if idle {
            network.dhcp = None;
            let what = "there is neither a range nor a reservation, so there is nothing to serve";
            let mut findings = Findings::on(&network.object, problems);
            findings.note("spec.dhcp.server", what, "the server is left out: give a range or a reservation");
        }
    }
}
