//! Static peers: one for each speaker, or from a list by hand.

use super::compiler::{Compiler, Under};
use super::read::{lint, read_asn, state};
use super::{Password, Peer, Session, Timers};
use crate::crd::BGPPeeringSpec;
use crate::inputs::{BgpPeerConfig, Object};
use crate::intent::accept::PrefixRule;
use crate::intent::cilium::Speaker;
use crate::intent::grant::{Subject, WAY_OUT};
use crate::intent::owner_of;
use crate::intent::problem::{Findings, Problem};
use crate::intent::values::{self, Asn, PlainText};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl<'a> Compiler<'a> {
    /// One static peer for one speaker.
    pub(super) fn speaker(
        &mut self,
        speaker: &Speaker<'a>,
        under: Under<'a>,
        config: Option<&'a Object<BgpPeerConfig>>,
        max: u32,
        problems: &mut Vec<Problem>,
    ) {
        let password = self.password(under, config, problems);
        let mut findings = Findings::on(speaker.object, problems);
        let asn = self.speaker_asn(speaker, under, &mut findings);
        let Some(address) = speaker.address else {
            let what =
                format!("node {} has no address of the family of {}", speaker.node, speaker.router_address);
            findings.refuse("status.addresses", what, "have the Node in the source, or set localAddress");
            self.hold(speaker.object, under);
            return;
        };
        lint(config, speaker, under.peering(), &mut findings);
        let (Some(asn), Ok(password), Some(())) = (asn, password, findings.accepted(())) else {
            self.hold(speaker.object, under);
            return;
        };
        let timers = under.peering().and_then(|spec| spec.timers);
        let timers =
            timers.map(|t| Timers { hold: t.hold_time_seconds, keepalive: t.keep_alive_time_seconds });
        let theirs = config.map(|config| config.spec.hold_and_keepalive());
        let drain = under.peering().map(|spec| spec.drain).unwrap_or_default();
        let name = format!("{} {}", speaker.cluster, speaker.node);
        let Ok(description) = PlainText::try_from(name.as_str()) else { return };
        self.bgp.peers.push(Peer {
            object: speaker.object.clone(),
            owner: owner_of(match under {
                Under::Peering(peering) => &peering.id,
                Under::Config(_) => speaker.object,
            }),
            address,
            session: self.session(asn, under, config, password, max, address),
            timers: timers.or_else(|| theirs.map(|(hold, keepalive)| Timers { hold, keepalive })),
            passive: !speaker.listens,
            state: state(drain, speaker.leaving, speaker.routing),
            description,
        });
    }

    pub(super) fn speaker_asn(
        &self,
        speaker: &Speaker<'_>,
        under: Under<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Asn> {
        let field = "spec.bgpInstances.localASN";
        if speaker.router_asn.is_some_and(|theirs| theirs != self.asn.number()) {
            let what = format!(
                "it expects the router to be AS {}, but it is AS {}",
                speaker.router_asn.unwrap_or_default(),
                self.asn
            );
            findings.refuse(
                "spec.bgpInstances.peers.peerASN",
                what,
                "correct peerASN or the Router's spec.bgp.asn",
            );
        }
        let asn = read_asn(field, speaker.asn, findings)?;
        if let Some(wanted) =
            under.peering().and_then(|spec| spec.peer_asn).filter(|wanted| *wanted != asn.number())
        {
            findings.refuse(
                field,
                format!("it is AS {asn}, but the BGPPeering says AS {wanted}"),
                "correct one of them",
            );
        }
        let subject = match under {
            Under::Peering(peering) => Subject::of(&peering.id),
            // Trust follows the place that the objects come from, not the name that a Node gives itself.
            Under::Config(_) => Subject::Cluster(&speaker.object.cluster),
        };
        if !self.grants.asn(&subject, asn) {
            findings.refuse(field, format!("AS {asn} is in no grant for it"), WAY_OUT);
        }
        Some(asn)
    }

    pub(super) fn session(
        &self,
        asn: Asn,
        under: Under<'_>,
        config: Option<&Object<BgpPeerConfig>>,
        password: Option<Password>,
        max_prefixes: u32,
        address: IpAddr,
    ) -> Session {
        let families = config.and_then(|config| config.spec.families.as_ref());
        let speaks =
            |afi: &str| families.is_some_and(|all| all.iter().any(|f| f.afi == afi && f.safi == "unicast"));
        let external = asn != self.asn;
        let hops = under.peering().and_then(|spec| spec.multihop);
        let theirs = config.and_then(|config| config.spec.ebgp_multihop).filter(|hops| *hops > 1);
        Session {
            asn,
            policy: owner_of(under.object()),
            password,
            max_prefixes,
            // Without any family given, the family of the session itself is spoken.
            ipv4: speaks("ipv4") || families.is_none() && address.is_ipv4(),
            ipv6: speaks("ipv6") || families.is_none() && address.is_ipv6(),
            multihop: hops.or(theirs).filter(|_| external),
        }
    }

    /// A peering's own list of peers.
    pub(super) fn by_hand(
        &mut self,
        peering: &'a Object<BGPPeeringSpec>,
        accept: &BTreeSet<PrefixRule>,
        max: u32,
        problems: &mut Vec<Problem>,
    ) {
        let Ok(password) = self.password(Under::Peering(peering), None, problems) else { return };
        let spec = &peering.spec;
        let mut findings = Findings::on(&peering.id, problems);
        let Some(asn) = read_asn("spec.peerASN", spec.peer_asn, &mut findings) else { return };
        if accept.is_empty() {
            let what = "nothing is accepted from peers that are given by hand";
            findings.note("spec.accept", what, "name the prefixes in spec.accept");
        }
        for (at, peer) in spec.peers.iter().enumerate() {
            let way_out = "give an IP address";
            let address = values::address(&peer.address);
            let Some(address) = findings.read(&format!("spec.peers[{at}].address"), address, way_out) else {
                continue;
            };
            let name = PlainText::try_from(format!("{} {}", spec.cluster, peer.name).as_str());
            let Some(description) =
                findings.read(&format!("spec.peers[{at}].name"), name, "give a plain name")
            else {
                continue;
            };
            let mut session =
                self.session(asn, Under::Peering(peering), None, password.clone(), max, address);
            let both = |v4: bool| accept.iter().any(|rule| rule.prefix.addr().is_ipv4() == v4);
            (session.ipv4, session.ipv6) = (session.ipv4 || both(true), session.ipv6 || both(false));
            let timers = spec.timers;
            self.bgp.peers.push(Peer {
                object: peering.id.clone(),
                owner: owner_of(&peering.id),
                address,
                session,
                timers: timers
                    .map(|t| Timers { hold: t.hold_time_seconds, keepalive: t.keep_alive_time_seconds }),
                passive: false,
                state: state(spec.drain, false, None),
                description,
            });
        }
    }
}
