//! Guards, said as rules.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::kind::{LinkGuard, MeshGuard, Mode, Peers, PrefixLengths, RateSpec, StorageGuard, VipGuard, Word};
use super::problem::Reason;
use super::read::{LeftOut, Reader};
use super::rule::{Action, Addresses, Rule};
use super::values;
use super::world::Served;
use crate::model::address::Direction::{Egress, Ingress};
use crate::model::address::{BadMac, Direction};
use crate::model::ambient::Security;

/// The port of HBONE, in which the mesh carries traffic encrypted.
const HBONE: u16 = 15_008;
/// Ports at which Longhorn's instance managers have replicas and engines.
const REPLICAS: std::ops::RangeInclusive<u16> = 10_000..=30_000;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// Rules of the guard of links: who may send what at all.
pub(super) fn link(reader: &mut Reader<'_>) -> Vec<Rule> {
    let Some(guard) = &reader.policy().spec.link_guard else { return Vec::new() };
    let LinkGuard { mode, vlans, sources, dhcp_servers, routers, claimants } = guard;
    let name = &reader.policy().metadata.name;
    let deny =
        |rule: &str| Rule { past_failsafe: true, ..Rule::new(name, rule, *mode, Ingress, Action::Deny) };
    let mut rules = Vec::new();
    if !vlans.is_empty()
        && let Ok(vlans) = reader.vlans("linkGuard.vlans", vlans)
    {
        rules.push(Rule { vlans, other_vlans: true, ..deny("guard-vlan") });
    }
    let mut strangers = |field: &str, texts: &[String], own: &[&str]| {
        let nets = reader.prefixes(field, texts.iter().map(String::as_str));
        let complete = !texts.is_empty() && nets.len() == texts.len();
        let own = own.iter().filter_map(|text| values::prefix(text).ok()).map(|(net, _)| net);
        complete.then(|| {
            Some(Arc::new(Addresses { inside: None, except: nets.into_iter().chain(own).collect() }))
        })
    };
    // A host may speak before it has an address, and from its link-local one.
    if let Some(source) = strangers("linkGuard.sources", sources, &["0.0.0.0/32", "::/128", "fe80::/10"]) {
        rules.push(Rule { source, ..deny("guard-source") });
    }
    if let Some(source) = strangers("linkGuard.dhcpServers", dhcp_servers, &[]) {
        let dhcp = |rule: &str, port| Rule {
            source: source.clone(),
            protocol: Some(17),
            source_ports: vec![port..=port],
            ..deny(rule)
        };
        rules.extend([dhcp("guard-dhcp", 67), dhcp("guard-dhcpv6", 547)]);
    }
    if let Some(source) = strangers("linkGuard.routers", routers, &[]) {
        rules.push(Rule { source, protocol: Some(58), icmp_types: vec![134], ..deny("guard-router-advert") });
    }
    let macs = claimants.iter().map(|text| text.parse().map_err(|error: BadMac| error.to_string())).collect();
    if !claimants.is_empty()
        && let Ok(claimants) = reader.bad("linkGuard.claimants", macs)
    {
        rules.push(Rule { claimants: Some(claimants), ..deny("guard-claim") });
    }
    rules
}

/// Rules of the guard of the mesh: between enrolled pods only HBONE is expected, and it is counted beside the rest.
pub(super) fn mesh(reader: &mut Reader<'_>) -> Vec<Rule> {
    let Some(MeshGuard { mode, sets }) = &reader.policy().spec.mesh_guard else { return Vec::new() };
    let Ok(pods) = pods(reader, "meshGuard", sets, reader.world().enrolled.as_ref()) else {
        return Vec::new();
    };
    if pods.is_empty() {
        return Vec::new();
    }
    let name = reader.policy().metadata.name.clone();
    let between = |rule: &str, mode, direction, action| Rule {
        source: Some(pods.clone()),
        destination: Some(pods.clone()),
        pairs: true,
        ..Rule::new(&name, rule, mode, direction, action)
    };
    let others = || vec![0..=HBONE - 1, HBONE + 1..=u16::MAX];
    let mut rules = Vec::new();
    for (way, direction) in [("in", Ingress), ("out", Egress)] {
        let counted = |rule: &str| between(rule, Mode::Audit, direction, Action::Allow);
        let denied = |rule: &str| between(rule, *mode, direction, Action::Deny);
        rules.extend([
            Rule {
                protocol: Some(6),
                ports: vec![HBONE..=HBONE],
                ..counted(&format!("guard-mesh-hbone-{way}"))
            },
            Rule {
                protocol: Some(6),
                source_ports: vec![HBONE..=HBONE],
                ports: others(),
                ..counted(&format!("guard-mesh-hbone-answer-{way}"))
            },
            // Neither to the port of HBONE nor an answer from it.
            Rule {
                protocol: Some(6),
                source_ports: others(),
                ports: others(),
                ..denied(&format!("guard-mesh-{way}"))
            },
            Rule { protocol: Some(17), ..denied(&format!("guard-mesh-udp-{way}")) },
        ]);
    }
    rules
}

/// The addresses of pods: those of named sets, or those that the cluster tells.
fn pods(
    reader: &mut Reader<'_>,
    guard: &str,
    sets: &[String],
    told: Option<&Vec<IpAddr>>,
) -> Result<Arc<Addresses>, LeftOut> {
    if !sets.is_empty() {
        return reader.peers(guard, &Peers { sets: sets.to_vec(), ..Peers::default() });
    }
    let Some(pods) = told else {
        let text = "no cluster tells which pods these are; name sets of their addresses, or let the agent reach the API";
        reader.tell(&format!("{guard}.sets"), Reason::UnknownPods, text.to_owned());
        return Err(LeftOut);
    };
    let inside = pods.iter().map(|pod| IpNet::from(*pod)).collect();
    Ok(Arc::new(Addresses { inside: Some(inside), except: Vec::new() }))
}

/// Rules of the guard of storage: replicas of this node are spoken with in the storage network, not at these addresses.
pub(super) fn storage(reader: &mut Reader<'_>) -> Vec<Rule> {
    let Some(StorageGuard { sets }) = &reader.policy().spec.storage_guard else { return Vec::new() };
    let Ok(pods) = pods(reader, "storageGuard", sets, reader.world().replicas.as_ref()) else {
        return Vec::new();
    };
    if pods.is_empty() {
        return Vec::new();
    }
    let name = reader.policy().metadata.name.clone();
    let mut rules = Vec::new();
    for (way, direction) in [("in", Ingress), ("out", Egress)] {
        let own = |side| (direction == side).then(|| pods.clone());
        let watched = |rule: &str| Rule {
            source: own(Egress),
            destination: own(Ingress),
            protocol: Some(6),
            pairs: true,
            ..Rule::new(&name, &format!("{rule}-{way}"), Mode::Audit, direction, Action::Deny)
        };
        // Whoever began it: what is said to a replica, and what it answers.
        rules.push(Rule { ports: vec![REPLICAS], ..watched("guard-storage") });
        rules.push(Rule { source_ports: vec![REPLICAS], ..watched("guard-storage-answer") });
    }
    rules
}

/// What a rule of the guard of the mesh counts, by its name; `None` for all other rules.
pub fn mesh_security(rule: &str) -> Option<(Direction, Security)> {
    let rest = rule.strip_prefix("guard-mesh-")?;
    let security = if rest.starts_with("hbone-") { Security::Mtls } else { Security::Plain };
    match rest.rsplit('-').next()? {
        "in" => Some((Ingress, security)),
        "out" => Some((Egress, security)),
        _ => None,
    }
}

/// Rules of the guard of virtual addresses.
pub(super) fn vip(reader: &mut Reader<'_>) -> Vec<Rule> {
    let Some(guard) = &reader.policy().spec.vip_guard else { return Vec::new() };
    vip_rules(reader, guard).unwrap_or_default()
}

fn vip_rules(reader: &mut Reader<'_>, guard: &VipGuard) -> Result<Vec<Rule>, LeftOut> {
    let name = reader.policy().metadata.name.clone();
    let rule = |rule: &str, direction, action| Rule::new(&name, rule, guard.mode, direction, action);
    let vips = Peers { vips: true, ..Peers::default() };
    let all = Some(reader.peers("vipGuard", &vips)?);
    let mut rules = Vec::new();
    if let Some(spec) = &guard.budget {
        let mut budget = connections(reader, "vipGuard.budget", spec)?;
        budget.per_destination = true;
        rules.push(Rule {
            destination: all.clone(),
            protocol: Some(6),
            flags: Some((SYN, ACK)),
            ..rule("guard-vip-budget", Ingress, Action::Rate(budget))
        });
    }
    if let Some(spec) = &guard.egress_budget {
        let budget = connections(reader, "vipGuard.egressBudget", spec)?;
        rules.push(Rule {
            protocol: Some(6),
            flags: Some((SYN, ACK)),
            ..rule("guard-pod-budget", Egress, Action::Rate(budget))
        });
    }
    let given = !guard.services.is_empty();
    let services = match &reader.world().services {
        Some(known) if !given => known.clone(),
        _ => given_services(reader, guard)?,
    };
    if services.is_empty() {
        return Ok(rules);
    }
    let inside = |nets: Vec<IpNet>| Some(Arc::new(Addresses { inside: Some(nets), except: Vec::new() }));
    // An address without a Service may belong to somebody else: Services say nothing of it.
    let guarded =
        if given { all } else { inside(services.iter().flat_map(|one| one.vips.clone()).collect()) };
    for (n, service) in services.into_iter().enumerate() {
        // The rule that lets them pass is in force even where the guard only looks: it decides what is left to look at.
        rules.push(Rule {
            destination: inside(service.vips),
            source: service.source_ranges.and_then(inside),
            protocol: Some(service.protocol),
            ports: service.ports,
            mode: Mode::Enforce,
            ..rule(&format!("guard-vip-service-{n}"), Ingress, Action::Allow)
        });
    }
    let reject = guard.reject;
    rules.push(Rule { destination: guarded, reject, ..rule("guard-vip", Ingress, Action::Deny) });
    Ok(rules)
}

/// The services that the policy lists itself.
fn given_services(reader: &mut Reader<'_>, guard: &VipGuard) -> Result<Vec<Served>, LeftOut> {
    let mut services = Vec::new();
    for (n, service) in guard.services.iter().enumerate() {
        let field = format!("vipGuard.services[{n}]");
        let vips = reader.prefixes(&format!("{field}.vips"), service.vips.iter().map(String::as_str));
        let protocol = reader
            .bad(&format!("{field}.protocol"), values::protocol(&Word::Text(service.protocol.clone())))?;
        let ports: Result<Vec<_>, _> = service.ports.iter().map(values::ports).collect();
        let ports = reader.bad(&format!("{field}.ports"), ports)?;
        let ranges = reader
            .prefixes(&format!("{field}.sourceRanges"), service.source_ranges.iter().map(String::as_str));
        let source_ranges = (!service.source_ranges.is_empty()).then_some(ranges);
        services.push(Served { vips, protocol, ports, source_ranges });
    }
    Ok(services)
}

fn connections(
    reader: &mut Reader<'_>,
    field: &str,
    spec: &RateSpec,
) -> Result<super::rule::Budget, LeftOut> {
    if spec.connections.is_none() {
        reader.tell(
            field,
            Reason::BadValue,
            "give connections: these budgets are of new connections".to_owned(),
        );
        return Err(LeftOut);
    }
    let each = PrefixLengths { ipv4: 32, ipv6: 128 };
    let spec = RateSpec { per_source: spec.per_source.or(Some(each)), ..spec.clone() };
    reader.bad(field, values::budget(&spec, false))
}
