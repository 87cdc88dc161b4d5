//! Listen ranges: peers that nobody names one by one.

use super::compiler::{Compiler, Under};
use super::read::{read_asn, state};
use super::{PeerGroup, State};
use crate::crd::BGPPeeringSpec;
use crate::inputs::{BgpPeerConfig, Object};
use crate::intent::accept::PrefixRule;
use crate::intent::cilium::Speaker;
use crate::intent::grant::{Subject, WAY_OUT};
use crate::intent::owner_of;
use crate::intent::problem::{Findings, Problem};
use crate::intent::values;
use std::collections::BTreeSet;

impl<'a> Compiler<'a> {
    /// A listen range that a peering asks for.
    pub(super) fn listen(
        &mut self,
        peering: &'a Object<BGPPeeringSpec>,
        speakers: &[(&Speaker<'a>, Option<&'a Object<BgpPeerConfig>>)],
        accept: &BTreeSet<PrefixRule>,
        max: u32,
        problems: &mut Vec<Problem>,
    ) {
        let config = speakers.iter().find_map(|(_, config)| *config);
        let Ok(password) = self.password(Under::Peering(peering), config, problems) else { return };
        let spec = &peering.spec;
        let mut findings = Findings::on(&peering.id, problems);
        let Some(asn) = read_asn("spec.peerASN", spec.peer_asn, &mut findings) else { return };
        let Some(dynamic) = &spec.dynamic else { return };
        let ranges = findings.read_all(
            "spec.dynamic.ranges",
            &dynamic.ranges,
            values::prefix,
            "give prefixes without host bits",
        );
        let subject = Subject::of(&peering.id);
        for range in ranges.iter().filter(|range| !self.grants.cidr(&subject, range)) {
            findings.refuse("spec.dynamic.ranges", format!("{range} is in no grant for it"), WAY_OUT);
        }
        if password.is_some() {
            let what = "FRR checks passwords of a listen range only on recent releases";
            findings.note("spec.passwordRef", what, "look whether sessions come up, or use mode Static");
        }
        let Some(first) = ranges.first() else { return };
        if findings.accepted(()).is_none() {
            return;
        }
        let mut session = self.session(asn, Under::Peering(peering), config, password, max, first.addr());
        let both = |v4: bool| accept.iter().any(|rule| rule.prefix.addr().is_ipv4() == v4);
        (session.ipv4, session.ipv6) = (session.ipv4 || both(true), session.ipv6 || both(false));
        let state = state(spec.drain, false, None);
        self.bgp.listen_limit = self.bgp.listen_limit.max(dynamic.limit);
        let owner = owner_of(&peering.id);
        self.bgp.groups.push(PeerGroup { owner, ranges: ranges.into_iter().collect(), session, state });
    }

    /// A listen range over the segments from which Cilium's nodes dial.
    pub(super) fn listen_for(
        &mut self,
        config: &'a Object<BgpPeerConfig>,
        speakers: &[&Speaker<'a>],
        max: u32,
        problems: &mut Vec<Problem>,
    ) {
        let Ok(password) = self.password(Under::Config(config), Some(config), problems) else { return };
        let mut asns = BTreeSet::new();
        let mut ranges = BTreeSet::new();
        for speaker in speakers {
            let mut findings = Findings::on(speaker.object, problems);
            let asn = self.speaker_asn(speaker, Under::Config(config), &mut findings);
            let subnets = self.networks.iter().flat_map(|network| &network.subnets);
            let segment =
                subnets.filter(|subnet| subnet.gateway == speaker.router_address).map(|subnet| subnet.prefix);
            if let (Some(asn), Some(())) = (asn, findings.accepted(())) {
                asns.insert(asn);
                ranges.extend(segment);
            }
        }
        let mut findings = Findings::on(&config.id, problems);
        if asns.len() > 1 || ranges.is_empty() {
            let what = "a listen range needs one AS number, and a network of this router around the peers";
            findings.refuse("spec", what, "set spec.sources.cilium.peers of the Router to Static");
            return;
        }
        let (Some(asn), Some(range)) = (asns.first(), ranges.first()) else { return };
        let session = self.session(*asn, Under::Config(config), Some(config), password, max, range.addr());
        let owner = owner_of(&config.id);
        self.bgp.groups.push(PeerGroup { owner, ranges, session, state: State::InService });
    }
}
