//! BGP on the router: peers and listen ranges for the clusters, with filters that accept only what is theirs.

use super::accept::{self, PrefixRule};
use super::cilium::{self, Speaker};
use super::grant::{Grants, Subject, WAY_OUT};
use super::network::{self, Network};
use super::owner_of;
use super::problem::{Findings, Problem};
use super::values::{self, Asn, PlainText};
use crate::crd::{self, BGPPeeringSpec, Drain, PeerDiscovery, PeeringMode, RouterSpec};
use crate::inputs::{BgpPeerConfig, ClusterName, Inputs, Object, ObjectId};
use crate::plan::Owner;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// The namespace in which Cilium keeps its BGP secrets.
const CILIUM_SECRETS: &str = "kube-system";

/// More prefixes than this from one peer are never believed, unless somebody asked for more.
const MOST_PREFIXES: u32 = 10_000;

/// The router as a BGP speaker, and its peers.
#[derive(Clone, Debug, PartialEq)]
pub struct Bgp {
    /// Its AS number.
    pub asn: Asn,
    /// Its identifier.
    pub router_id: Option<Ipv4Addr>,
    /// How many equal paths are used at once.
    pub maximum_paths: Option<u16>,
    /// Filters, by owner.
    pub policies: Vec<Policy>,
    /// Static peers, by address.
    pub peers: Vec<Peer>,
    /// Listen ranges.
    pub groups: Vec<PeerGroup>,
    /// The most dynamic peers at once.
    pub listen_limit: Option<u16>,
    /// Owners of peers that were left out because something is wrong: what they have on the router must stay.
    pub held: BTreeSet<Owner>,
}

/// What is taken from, and told to, the peers of one owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whose configuration it is. Its mark's words are the policy's name.
    pub owner: Owner,
    /// What is accepted, sorted. Everything else is denied.
    pub accept: BTreeSet<PrefixRule>,
    /// What is announced, sorted. Everything else is denied.
    pub export: Export,
    /// BFD, where somebody asked for it.
    pub bfd: Option<crd::Bfd>,
}

/// What is announced to peers: nothing unless asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Prefixes, other than default routes.
    pub prefixes: BTreeSet<IpNet>,
    /// Originate an IPv4 default route.
    pub default4: bool,
    /// Originate an IPv6 default route.
    pub default6: bool,
}

/// What a peer and a group have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The peer's AS number.
    pub asn: Asn,
    /// The policy's owner.
    pub policy: Owner,
    /// TCP-MD5 password.
    pub password: Option<Password>,
    /// The most prefixes, in each family.
    pub max_prefixes: u32,
    /// Whether IPv4 unicast is spoken.
    pub ipv4: bool,
    /// Whether IPv6 unicast is spoken.
    pub ipv6: bool,
    /// Hops to the peer, for eBGP over more than one.
    pub multihop: Option<u8>,
}

/// One static peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// The object it comes from.
    pub object: ObjectId,
    /// Whose configuration it is.
    pub owner: Owner,
    /// Its address.
    pub address: IpAddr,
    /// The session.
    pub session: Session,
    /// Timers.
    pub timers: Option<Timers>,
    /// Wait for the peer to dial: Cilium does not listen.
    pub passive: bool,
    /// In service or being drained.
    pub state: State,
    /// Which cluster and node it is.
    pub description: PlainText,
}

/// A listen range.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerGroup {
    /// Whose configuration it is.
    pub owner: Owner,
    /// From where peers may dial in.
    pub ranges: BTreeSet<IpNet>,
    /// The session.
    pub session: Session,
    /// In service or being drained.
    pub state: State,
}

/// Whether a peer is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its routes are used.
    InService,
    /// Its routes are the last choice, while its session stays up.
    Draining,
}

/// Timers in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Hold time.
    pub hold: u16,
    /// Keepalive interval.
    pub keepalive: u16,
}

/// A password that never shows in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password, to be put into the tree and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The BGP of a router; `None` where it has no AS number.
pub(super) fn bgp(
    inputs: &Inputs,
    router: &Object<RouterSpec>,
    networks: &[Network],
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Bgp> {
    let peerings: Vec<_> =
        inputs.peerings.iter().filter(|each| each.spec.router_ref.name == router.id.name).collect();
    let Some(spec) = &router.spec.bgp else {
        for peering in peerings {
            let what = format!("Router {} has no spec.bgp", router.id.name);
            Findings::on(&peering.id, problems).refuse(
                "spec.routerRef",
                what,
                "give the Router an AS number",
            );
        }
        return None;
    };
    let mut findings = Findings::on(&router.id, problems);
    let asn = findings.read("spec.bgp.asn", Asn::try_from(spec.asn), "give an AS number");
    let own = findings.read_all("spec.bgp.addresses", &spec.addresses, values::address, "give IP addresses");
    let router_id = spec.router_id.as_deref().map(values::address4);
    let router_id = router_id.and_then(|ip| findings.read("spec.bgp.routerID", ip, "give an IPv4 address"));
    let gateways = networks.iter().flat_map(|network| network.subnets.iter().map(|subnet| subnet.gateway));
    let own = own.into_iter().chain(gateways).chain(network::gateways(inputs, &router.id.name)).collect();
    let mut compiler =
        Compiler { inputs, grants, networks, asn: asn?, own, bgp: empty(asn?, router_id, spec) };
    compiler.compile(&peerings, router.spec.sources.cilium.peers, problems);
    Some(compiler.bgp)
}

fn empty(asn: Asn, router_id: Option<Ipv4Addr>, spec: &crd::RouterBgp) -> Bgp {
    Bgp {
        asn,
        router_id,
        maximum_paths: spec.maximum_paths,
        policies: Vec::new(),
        peers: Vec::new(),
        groups: Vec::new(),
        listen_limit: None,
        held: BTreeSet::new(),
    }
}

struct Compiler<'a> {
    inputs: &'a Inputs,
    grants: &'a Grants<'a>,
    networks: &'a [Network],
    asn: Asn,
    own: BTreeSet<IpAddr>,
    bgp: Bgp,
}

/// Whose policy a speaker falls under.
#[derive(Clone, Copy)]
enum Under<'a> {
    /// A BGPPeering of ours.
    Peering(&'a Object<BGPPeeringSpec>),
    /// Cilium's own CiliumBGPPeerConfig.
    Config(&'a Object<BgpPeerConfig>),
}

impl Under<'_> {
    fn object(&self) -> &ObjectId {
        match self {
            Self::Peering(peering) => &peering.id,
            Self::Config(config) => &config.id,
        }
    }

    fn peering(&self) -> Option<&BGPPeeringSpec> {
        match self {
            Self::Peering(peering) => Some(&peering.spec),
            Self::Config(_) => None,
        }
    }
}

impl<'a> Compiler<'a> {
    fn compile(
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

    /// Looks at what a peering says by itself.
    fn sound(&self, peering: &Object<BGPPeeringSpec>, problems: &mut Vec<Problem>) -> bool {
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

    /// Puts each speaker under a peering of its cluster, or else under Cilium's own configuration.
    fn sort<'s>(
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

    fn config(&self, speaker: &Speaker<'a>) -> Option<&'a Object<BgpPeerConfig>> {
        let name = speaker.config?;
        let cluster = &speaker.object.cluster;
        self.inputs.bgp_peer_configs.iter().find(|each| each.id.cluster == *cluster && each.id.name == name)
    }

    fn peering(
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

    fn count(&self) -> usize {
        self.bgp.peers.len() + self.bgp.groups.len()
    }

    /// The speakers that no peering of ours speaks of.
    fn cilium_only(
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

    fn announced(
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

    /// One static peer for one speaker.
    fn speaker(
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
            state: state(drain, speaker.leaving),
            description,
        });
    }

    fn hold(&mut self, speaker: &ObjectId, under: Under<'_>) {
        self.bgp.held.extend([owner_of(speaker), owner_of(under.object())]);
    }

    fn speaker_asn(
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
            Under::Config(_) => Subject::Cluster(&speaker.cluster),
        };
        if !self.grants.asn(&subject, asn) {
            findings.refuse(field, format!("AS {asn} is in no grant for it"), WAY_OUT);
        }
        Some(asn)
    }

    fn session(
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
    fn by_hand(
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
                state: state(spec.drain, false),
                description,
            });
        }
    }

    /// A listen range that a peering asks for.
    fn listen(
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
        let state = state(spec.drain, false);
        self.bgp.listen_limit = self.bgp.listen_limit.max(dynamic.limit);
        let owner = owner_of(&peering.id);
        self.bgp.groups.push(PeerGroup { owner, ranges: ranges.into_iter().collect(), session, state });
    }

    /// A listen range over the segments from which Cilium's nodes dial.
    fn listen_for(
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

    /// The TCP-MD5 password. Cilium goes on with an empty one where the Secret is missing; the router must not.
    fn password(
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

    /// The router has one session to one address.
    fn refuse_shared_addresses(&mut self, problems: &mut Vec<Problem>) {
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

fn state(drain: Drain, leaving: bool) -> State {
    match drain {
        Drain::Now => State::Draining,
        Drain::WithMachine if leaving => State::Draining,
        Drain::WithMachine | Drain::Never => State::InService,
    }
}

/// As many prefixes as the filter can pass, so that a legitimate one never cuts the session.
fn most(accept: &BTreeSet<PrefixRule>) -> u32 {
    let all = accept.iter().fold(0u64, |sum, rule| sum.saturating_add(rule.capacity()));
    u32::try_from(all).unwrap_or(u32::MAX).clamp(1, MOST_PREFIXES)
}

fn read_asn(field: &str, asn: Option<u32>, findings: &mut Findings<'_>) -> Option<Asn> {
    let Some(asn) = asn else {
        findings.refuse(field, "there is no AS number", "give one");
        return None;
    };
    findings.read(field, Asn::try_from(asn), "give an AS number from 1 to 4294967294")
}

fn accepted_by_hand(spec: &BGPPeeringSpec, findings: &mut Findings<'_>) -> BTreeSet<PrefixRule> {
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

fn export(spec: &BGPPeeringSpec, findings: &mut Findings<'_>) -> Export {
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
fn lint(
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
