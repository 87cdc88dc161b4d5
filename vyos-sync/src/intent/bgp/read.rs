//! What a peering says by itself, and the passwords.

use super::compiler::{Compiler, Under};
use super::{Export, Password, State};
use crate::crd::{BGPPeeringSpec, Drain, PeeringMode};
use crate::inputs::{BgpPeerConfig, Object};
use crate::intent::accept::PrefixRule;
use crate::intent::cilium::Speaker;
use crate::intent::grant::{Subject, WAY_OUT};
use crate::intent::problem::{Findings, Problem};
use crate::intent::values::{self, Asn};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// The namespace in which Cilium keeps its BGP secrets.
const CILIUM_SECRETS: &str = "kube-system";

/// The most prefixes from one peer, in each family, unless somebody gave a number: where the filter can pass no more
/// than the first, and otherwise.
const MOST_PREFIXES: [u32; 2] = [1_000, 10_000];

impl<'a> Compiler<'a> {
    /// Looks at what a peering says by itself.
    pub(super) fn sound(&self, peering: &Object<BGPPeeringSpec>, problems: &mut Vec<Problem>) -> bool {
        let spec = &peering.spec;
        let subject = Subject::of(&peering.id);
        let mut findings = Findings::on(&peering.id, problems);
        if let Some(asn) = spec.peer_asn.and_then(|asn| read_asn("spec.peerASN", Some(asn), &mut findings))
            && !self.grants.asn(&subject, asn)
        {
            findings.refuse("spec.peerASN", format!("AS {asn} is in no grant for it"), WAY_OUT);
        }
        if spec.peer_asn.is_none() && (spec.mode == PeeringMode::Dynamic || !spec.peers.is_empty()) {
            findings.refuse("spec.peerASN", "there is no AS number for the peers", "give spec.peerASN");
        }
        if spec.mode == PeeringMode::Dynamic
            && spec.dynamic.as_ref().is_none_or(|dynamic| dynamic.ranges.is_empty())
        {
            findings.refuse("spec.dynamic.ranges", "mode Dynamic needs a range", "give spec.dynamic.ranges");
        }
        if spec.mode == PeeringMode::Dynamic && spec.timers.is_some() {
            let what = "VyOS has no timers on a peer-group, so these cannot be set";
            findings.note(
                "spec.timers",
                what,
                "set them on the peers: the lower hold time of both ends counts",
            );
        }
        if let Some(timers) =
            spec.timers.filter(|timers| timers.keep_alive_time_seconds * 3 > timers.hold_time_seconds)
        {
            let what = format!(
                "keepalive {} is more than a third of hold time {}",
                timers.keep_alive_time_seconds, timers.hold_time_seconds
            );
            findings.refuse("spec.timers", what, "lower keepAliveTimeSeconds");
        }
        let accepted = accepted_by_hand(spec, &mut findings);
        for rule in accepted.iter().filter(|rule| !self.grants.cidr(&subject, &rule.prefix)) {
            findings.refuse("spec.accept", format!("{} is in no grant for it", rule.prefix), WAY_OUT);
        }
        export(spec, &mut findings);
        findings.accepted(()).is_some()
    }

    /// The TCP-MD5 password. Cilium goes on with an empty one where the Secret is missing; the router must not.
    pub(super) fn password(
        &self,
        under: Under<'_>,
        config: Option<&Object<BgpPeerConfig>>,
        problems: &mut Vec<Problem>,
    ) -> Result<Option<Password>, ()> {
        let (object, cluster, field, namespace, name, key) = match (under, config) {
            (
                Under::Peering(Object {
                    id, spec: BGPPeeringSpec { password_ref: Some(reference), .. }, ..
                }),
                _,
            ) => {
                let namespace = id.namespace.as_deref().unwrap_or_default();
                (id, &id.cluster, "spec.passwordRef", namespace, &reference.name, reference.key.as_str())
            }
            (_, Some(Object { id, spec: BgpPeerConfig { auth_secret_ref: Some(name), .. }, .. })) => {
                (id, &id.cluster, "spec.authSecretRef", CILIUM_SECRETS, name, "password")
            }
            _ => return Ok(None),
        };
        let mut findings = Findings::on(object, problems);
        let Some(secret) = self.inputs.secret(cluster, namespace, name, key) else {
            let what = format!(
                "there is no Secret {namespace}/{name} with key {key}, and Cilium goes on without a password"
            );
            findings.refuse(field, what, "add the Secret, or remove the reference");
            return Err(());
        };
        let fine = secret.text().filter(|text| {
            (1..=80).contains(&text.len())
                && text.chars().all(|c| c != '"' && c != '\'' && c.is_ascii_graphic())
        });
        match fine {
            Some(text) => Ok(Some(Password(text.to_owned()))),
            None => {
                let what = format!("the password in Secret {namespace}/{name} is not one that VyOS can hold");
                findings.refuse(
                    field,
                    what,
                    "use 1 to 80 printable ASCII characters without blanks and quotes",
                );
                Err(())
            }
        }
    }
}

pub(super) fn state(drain: Drain, leaving: bool) -> State {
    match drain {
        Drain::Now => State::Draining,
        Drain::WithMachine if leaving => State::Draining,
        Drain::WithMachine | Drain::Never => State::InService,
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
