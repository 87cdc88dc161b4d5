//! BGP on the router: peers and listen ranges for the clusters, with filters that accept only what is theirs.

mod compiler;
mod listen;
mod peers;
mod read;
mod sound;

use crate::crd::{self, RouterSpec};
use crate::inputs::{Inputs, Object, ObjectId};
use crate::intent::accept::PrefixRule;
use crate::intent::grant::Grants;
use crate::intent::network::{self, Network};
use crate::intent::problem::{Findings, Problem};
use crate::intent::values::{self, Asn, PlainText};
use crate::plan::Owner;
use compiler::Compiler;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

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
    /// Its session is shut down, and stays configured.
    ShutDown,
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
