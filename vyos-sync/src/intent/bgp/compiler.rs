//! Sorts the speakers under peerings and configurations, and makes peers and policies of them.

use super::read::{accepted_by_hand, export, most};
use super::{Bgp, Export, Policy};
use crate::crd::{BGPPeeringSpec, PeerDiscovery, PeeringMode};
use crate::inputs::{BgpPeerConfig, ClusterName, Inputs, Object, ObjectId};
use crate::intent::accept::{self, PrefixRule};
use crate::intent::cilium::{self, Speaker};
use crate::intent::grant::Grants;
use crate::intent::network::Network;
use crate::intent::owner_of;
use crate::intent::problem::{Findings, Problem};
use crate::intent::values::Asn;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub(super) struct Compiler<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) grants: &'a Grants<'a>,
    pub(super) networks: &'a [Network],
    pub(super) asn: Asn,
    pub(super) own: BTreeSet<IpAddr>,
    pub(super) bgp: Bgp,
}

/// Whose policy a speaker falls under.
#[derive(Clone, Copy)]
pub(super) enum Under<'a> {
    /// A BGPPeering of ours.
    Peering(&'a Object<BGPPeeringSpec>),
    /// Cilium's own CiliumBGPPeerConfig.
    Config(&'a Object<BgpPeerConfig>),
}

impl Under<'_> {
    pub(super) fn object(&self) -> &ObjectId {
        match self {
            Self::Peering(peering) => &peering.id,
            Self::Config(config) => &config.id,
        }
    }

    pub(super) fn peering(&self) -> Option<&BGPPeeringSpec> {
        match self {
            Self::Peering(peering) => Some(&peering.spec),
            Self::Config(_) => None,
        }
    }
}

impl<'a> Compiler<'a> {
    pub(super) fn compile(
        &mut self,
        peerings: &[&'a Object<BGPPeeringSpec>],
        discovery: PeerDiscovery,
        problems: &mut Vec<Problem>,
    ) {
        let speakers = match discovery {
            PeerDiscovery::Ignore => Vec::new(),
            _ => cilium::speakers(self.inputs, self.networks, &self.own, problems),
        };
        let clusters: BTreeSet<_> = speakers.iter().map(|speaker| &speaker.object.cluster).collect();
        accept::check_pools(self.inputs, &clusters, self.grants, problems);
        let sound: Vec<_> =
            peerings.iter().filter(|peering| self.sound(peering, problems)).copied().collect();
        let sorted = self.sort(&speakers, peerings, &sound, problems);
        for peering in &sound {
            let speakers = sorted.iter().filter(|(_, under, _)| under.object() == &peering.id);
            let speakers: Vec<_> = speakers.map(|(speaker, _, config)| (*speaker, *config)).collect();
            self.peering(peering, &speakers, problems);
        }
        self.cilium_only(&sorted, discovery, problems);
        self.refuse_shared_addresses(problems);
        self.bgp.peers.sort_by_key(|peer| peer.address);
        self.bgp.policies.sort_by(|a, b| a.owner.cmp(&b.owner));
    }

    /// Puts each speaker under a peering of its cluster, or else under Cilium's own configuration.
    pub(super) fn sort<'s>(
        &self,
        speakers: &'s [Speaker<'a>],
        peerings: &[&'a Object<BGPPeeringSpec>],
        sound: &[&'a Object<BGPPeeringSpec>],
        problems: &mut Vec<Problem>,
    ) -> Vec<(&'s Speaker<'a>, Under<'a>, Option<&'a Object<BgpPeerConfig>>)> {
        let sorted = speakers.iter().filter_map(|speaker| {
            let config = self.config(speaker);
            if let (Some(name), None) = (speaker.config, config) {
                let what = format!("there is no CiliumBGPPeerConfig {name}");
                let mut findings = Findings::on(speaker.object, problems);
                findings.refuse(
                    "spec.bgpInstances.peers.peerConfigRef",
                    what,
                    "add it, or correct the reference",
                );
                return None;
            }
            let peering = peerings.iter().find(|peering| {
                let cluster = ClusterName::from(peering.spec.cluster.as_str());
                peering.spec.peers.is_empty()
                    && (cluster == speaker.cluster || cluster == speaker.object.cluster)
            });
            let under = match (peering, config) {
                // What a refused peering has on the router stays as it is, so nobody else may speak for its peers.
                (Some(peering), _) if !sound.iter().any(|each| each.id == peering.id) => return None,
                (Some(peering), _) => Under::Peering(peering),
                (None, Some(config)) => Under::Config(config),
                (None, None) => {
                    let what = "a peer without peerConfigRef has no address family, so it announces nothing";
                    let mut findings = Findings::on(speaker.object, problems);
                    findings.note(
                        "spec.bgpInstances.peers.peerConfigRef",
                        what,
                        "it is left out: name a CiliumBGPPeerConfig",
                    );
                    return None;
                }
            };
            Some((speaker, under, config))
        });
        sorted.collect()
    }

    pub(super) fn config(&self, speaker: &Speaker<'a>) -> Option<&'a Object<BgpPeerConfig>> {
        let name = speaker.config?;
        let cluster = &speaker.object.cluster;
        self.inputs.bgp_peer_configs.iter().find(|each| each.id.cluster == *cluster && each.id.name == name)
    }

    pub(super) fn peering(
        &mut self,
        peering: &'a Object<BGPPeeringSpec>,
        speakers: &[(&Speaker<'a>, Option<&'a Object<BgpPeerConfig>>)],
        problems: &mut Vec<Problem>,
    ) {
        let spec = &peering.spec;
        let under = Under::Peering(peering);
        let mut findings = Findings::on(&peering.id, problems);
        let by_hand = accepted_by_hand(spec, &mut findings);
        let export = export(spec, &mut findings);
        let accept = if spec.accept.is_empty() { self.announced(speakers, problems) } else { by_hand };
        let max = spec.max_prefixes.unwrap_or_else(|| most(&accept));
        let before = self.count();
        if spec.mode == PeeringMode::Dynamic {
            self.listen(peering, speakers, &accept, max, problems);
        } else if spec.peers.is_empty() {
            for (speaker, config) in speakers {
                self.speaker(speaker, under, *config, max, problems);
            }
            if speakers.is_empty() {
                let what = format!("no node of cluster {} is known to dial this router", spec.cluster);
                let mut findings = Findings::on(&peering.id, problems);
                findings.note(
                    "spec.cluster",
                    what,
                    "give spec.peers, or have Cilium's BGP objects in the source",
                );
            }
        } else {
            self.by_hand(peering, &accept, max, problems);
        }
        if before != self.count() {
            let owner = owner_of(&peering.id);
            self.bgp.policies.push(Policy { owner, accept, export, bfd: spec.bfd });
        }
    }

    /// The speakers that no peering of ours speaks of.
    pub(super) fn cilium_only(
        &mut self,
        sorted: &[(&Speaker<'a>, Under<'a>, Option<&'a Object<BgpPeerConfig>>)],
        discovery: PeerDiscovery,
        problems: &mut Vec<Problem>,
    ) {
        let mut by_config = BTreeMap::<&ObjectId, (&Object<BgpPeerConfig>, Vec<&Speaker<'a>>)>::new();
        for (speaker, under, _) in sorted {
            if let Under::Config(config) = under {
                by_config.entry(&config.id).or_insert_with(|| (config, Vec::new())).1.push(speaker);
            }
        }
        for (config, speakers) in by_config.into_values() {
            let accept = accept::accepted(self.inputs, config, &speakers, self.grants, problems);
            let max = most(&accept);
            let before = self.count();
            if discovery == PeerDiscovery::Dynamic {
                self.listen_for(config, &speakers, max, problems);
            } else {
                for speaker in speakers {
                    self.speaker(speaker, Under::Config(config), Some(config), max, problems);
                }
            }
            if before != self.count() {
                let owner = owner_of(&config.id);
                self.bgp.policies.push(Policy { owner, accept, export: Export::default(), bfd: None });
            }
        }
    }

    pub(super) fn announced(
        &self,
        speakers: &[(&Speaker<'a>, Option<&'a Object<BgpPeerConfig>>)],
        problems: &mut Vec<Problem>,
    ) -> BTreeSet<PrefixRule> {
        let mut by_config = BTreeMap::<&ObjectId, (&Object<BgpPeerConfig>, Vec<&Speaker<'a>>)>::new();
        for (speaker, config) in speakers {
            if let Some(config) = config {
                by_config.entry(&config.id).or_insert_with(|| (config, Vec::new())).1.push(speaker);
            }
        }
        let each = by_config.into_values();
        each.flat_map(|(config, speakers)| {
            accept::accepted(self.inputs, config, &speakers, self.grants, problems)
        })
        .collect()
    }

    pub(super) fn count(&self) -> usize {
        self.bgp.peers.len() + self.bgp.groups.len()
    }

    pub(super) fn hold(&mut self, speaker: &ObjectId, under: Under<'_>) {
        self.bgp.held.extend([owner_of(speaker), owner_of(under.object())]);
    }

    /// The router has one session to one address.
    pub(super) fn refuse_shared_addresses(&mut self, problems: &mut Vec<Problem>) {
        let mut holders = BTreeMap::<IpAddr, BTreeSet<ObjectId>>::new();
        let mut count = BTreeMap::<IpAddr, usize>::new();
        for peer in &self.bgp.peers {
            holders.entry(peer.address).or_default().insert(peer.object.clone());
            *count.entry(peer.address).or_default() += 1;
        }
        for peer in &self.bgp.peers {
            if self.own.contains(&peer.address) {
                let what = format!("{} is an address of the router itself", peer.address);
                Findings::on(&peer.object, problems).refuse("peer address", what, "correct the address");
            } else if count.get(&peer.address).is_some_and(|count| *count > 1) {
                let others =
                    holders.get(&peer.address).into_iter().flatten().filter(|other| **other != peer.object);
                let others: Vec<_> = others.map(ToString::to_string).collect();
                let what = match others.as_slice() {
                    [] => format!("two speakers of one node dial from {}", peer.address),
                    others => format!("{} is a peer of {} too", peer.address, others.join(" and ")),
                };
                Findings::on(&peer.object, problems).refuse(
                    "peer address",
                    what,
                    "give each peer its own address",
                );
            }
        }
        let (own, held) = (&self.own, &mut self.bgp.held);
        self.bgp.peers.retain(|peer| {
            let alone = count.get(&peer.address) == Some(&1) && !own.contains(&peer.address);
            if !alone {
                held.extend([peer.owner.clone(), peer.session.policy.clone()]);
            }
            alone
        });
    }
}
