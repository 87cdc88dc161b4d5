//! What a peering says by itself, field by field.

use super::{Export, State};
use crate::crd::{BGPPeeringSpec, Drain};
use crate::inputs::{BgpPeerConfig, NodeRouting, Object};
use crate::intent::accept::PrefixRule;
use crate::intent::cilium::Speaker;
use crate::intent::problem::Findings;
use crate::intent::values::{self, Asn};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// The most prefixes from one peer, in each family, unless somebody gave a number: where the filter can pass no more
/// than the first, and otherwise.
const MOST_PREFIXES: [u32; 2] = [1_000, 10_000];

pub(super) fn state(drain: Drain, leaving: bool, routing: Option<NodeRouting>) -> State {
    match (drain, routing) {
        (Drain::Never, _) => State::InService,
        (_, Some(NodeRouting::ShutDown)) => State::ShutDown,
        (Drain::Now, _) | (_, Some(NodeRouting::Drained)) => State::Draining,
        (Drain::WithMachine, None) if leaving => State::Draining,
        (Drain::WithMachine, None) => State::InService,
    }
}

/// A round number that does not follow each Service: lowering it below what a peer announces right now would cut the
/// session. The filter is what is exact.
pub(super) fn most(accept: &BTreeSet<PrefixRule>) -> u32 {
    let all = accept.iter().fold(0u64, |sum, rule| sum.saturating_add(rule.capacity()));
    let [few, many] = MOST_PREFIXES;
    if all <= u64::from(few) { few } else { many }
}

pub(super) fn read_asn(field: &str, asn: Option<u32>, findings: &mut Findings<'_>) -> Option<Asn> {
    let Some(asn) = asn else {
        findings.refuse(field, "there is no AS number", "give one");
        return None;
    };
    findings.read(field, Asn::try_from(asn), "give an AS number from 1 to 4294967294")
}

pub(super) fn accepted_by_hand(spec: &BGPPeeringSpec, findings: &mut Findings<'_>) -> BTreeSet<PrefixRule> {
    let numbered = spec.accept.iter().enumerate();
    let read = numbered.filter_map(|(at, entry)| {
        let field = format!("spec.accept[{at}]");
        let prefix = values::prefix(&entry.prefix);
        let prefix =
            findings.read(&format!("{field}.prefix"), prefix, "write the network address and its length")?;
        if entry.ge.is_none() && entry.le.is_none() {
            return Some(PrefixRule::exact(prefix));
        }
        let ge = entry.ge.unwrap_or(prefix.prefix_len());
        let le = entry.le.unwrap_or(prefix.max_prefix_len());
        if prefix.prefix_len() <= ge && ge <= le && le <= prefix.max_prefix_len() {
            return Some(PrefixRule { prefix, lengths: Some((ge, le)) });
        }
        let what = format!("ge {ge} and le {le} do not fit {prefix}");
        findings.refuse(&field, what, "keep length <= ge <= le");
        None
    });
    read.collect()
}

pub(super) fn export(spec: &BGPPeeringSpec, findings: &mut Findings<'_>) -> Export {
    let all = findings.read_all("spec.advertise", &spec.advertise, values::prefix, "give prefixes");
    let mut export = Export::default();
    for prefix in all {
        match prefix {
            net if net.prefix_len() > 0 => {
                export.prefixes.insert(net);
            }
            IpNet::V4(_) => export.default4 = true,
            IpNet::V6(_) => export.default6 = true,
        }
    }
    export
}

/// Doubts that are no fault.
pub(super) fn lint(
    config: Option<&Object<BgpPeerConfig>>,
    speaker: &Speaker<'_>,
    peering: Option<&BGPPeeringSpec>,
    findings: &mut Findings<'_>,
) {
    let Some(config) = config else { return };
    if config.spec.peer_port() != 179 {
        let what =
            format!("node {} dials port {}, but VyOS listens on 179", speaker.node, config.spec.peer_port());
        findings.note("spec.bgpInstances.peers.peerConfigRef", what, "set transport.peerPort to 179");
    }
    if config.spec.restarts_gracefully() && peering.is_some_and(|spec| spec.bfd.is_some()) {
        let what = "graceful restart keeps the routes of a dead node, so BFD does not help";
        findings.note(
            "spec.bgpInstances.peers.peerConfigRef",
            what,
            "turn one of them off, or keep the restart time short",
        );
    }
}
