//! What a cluster's objects ask of one node for one address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::select::{selects, selects_service};
use super::{
    Advertisement, Cluster, EndpointState, PeerConfig, Pool, Service, ServicePort, Speaker, SpeakerPeer,
    TrafficPolicy,
};

/// The load balancer classes that Cilium serves; a Service without a class is served too.
const CLASSES: [&str; 2] = ["io.cilium/bgp-control-plane", "io.cilium/l2-announcer"];

/// What the objects say of one address. Services that share it are taken together.
#[derive(Clone, Debug)]
pub struct Intent<'a> {
    cluster: &'a Cluster,
    /// The address.
    pub vip: IpAddr,
    /// The Services that have it; several may share it.
    pub services: Vec<&'a Service>,
}

/// Whether a node should advertise an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Here {
    /// To these peers.
    Yes(Vec<PeerWish>),
    /// The policy is Local and the node has no usable endpoint.
    NoLocalEndpoint,
    /// No Service with this address is one of Cilium's: another load balancer has it.
    OtherClass,
    /// No CiliumBGPAdvertisement that a peer of the node uses selects a Service with this address.
    NotSelected,
    /// The node has no BGP speaker.
    NoSpeaker,
    /// It is announced by ARP and neighbour discovery, not by BGP.
    ByLink,
    /// The objects do not tell: there is no object of Cilium's BGP, or no Service has the address.
    Unknown,
}

/// A peer to which an address should be advertised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerWish {
    /// The peer's name.
    pub name: String,
    /// Its address, unless the speaker finds it by itself.
    pub address: Option<IpAddr>,
    /// The CiliumBGPAdvertisement.
    pub advertisement: String,
}

impl<'a> Intent<'a> {
    /// What the objects say of an address.
    pub fn of(cluster: &'a Cluster, vip: IpAddr) -> Self {
        Self { cluster, vip, services: cluster.services_of(vip).collect() }
    }

    /// The same of every load balancer address of the objects, sorted.
    pub fn all(cluster: &'a Cluster) -> BTreeMap<IpAddr, Self> {
        let mut all: BTreeMap<IpAddr, Self> = BTreeMap::new();
        for service in &cluster.services {
            for vip in &service.vips {
                let none = || Self { cluster, vip: *vip, services: Vec::new() };
                all.entry(*vip).or_insert_with(none).services.push(service);
            }
        }
        all
    }

    /// Whether any Service has the address.
    pub fn is_wanted(&self) -> bool {
        !self.services.is_empty()
    }

    /// All ports of its Services.
    pub fn ports(&self) -> Vec<ServicePort> {
        let mut ports: Vec<_> = self.services.iter().flat_map(|service| service.ports.clone()).collect();
        ports.sort();
        ports.dedup();
        ports
    }

    /// Endpoints that serve on a node, or on all nodes when none is named: ready ones, else draining ones. `None` where the
    /// source knows of no endpoint at all.
    pub fn usable_endpoints(&self, node: Option<&str>) -> Option<usize> {
        let mut sum = 0;
        for service in &self.services {
            sum += self.usable_of(service, node)?;
        }
        Some(sum)
    }

    fn usable_of(&self, service: &Service, node: Option<&str>) -> Option<usize> {
        let all = self.cluster.endpoints_of(&service.name)?;
        let here = |wanted: EndpointState| {
            let on_node = all.iter().filter(|one| node.is_none() || one.node.as_deref() == node);
            on_node.filter(|one| one.state == wanted).count()
        };
        let ready = here(EndpointState::Ready);
        // kube-proxy and Cilium fall back to endpoints that are going (KEP-1669).
        Some(if ready > 0 { ready } else { here(EndpointState::Draining) })
    }

    /// Services with this address that cannot be served on a node: policy Local without a usable endpoint of the node, or no
    /// usable endpoint anywhere.
    pub fn unserved_on(&self, node: &str) -> Vec<&'a Service> {
        let unserved = |service: &&&Service| {
            let node = (service.policy == TrafficPolicy::Local).then_some(node);
            self.usable_of(service, node) == Some(0)
        };
        self.services.iter().filter(unserved).copied().collect()
    }

    /// The pool whose block holds the address and which takes one of its Services.
    ///
    /// # Errors
    /// The pool that holds the address but takes none of its Services, or `None` when no pool holds it. Where there is no pool
    /// at all nobody can tell, and that is no error.
    pub fn pool(&self) -> Result<Option<&'a Pool>, Option<&'a Pool>> {
        if self.cluster.pools.is_empty() {
            return Ok(None);
        }
        let holding =
            || self.cluster.pools.iter().filter(|pool| pool.blocks.iter().any(|b| b.holds(self.vip)));
        let takes = |pool: &&Pool| match &pool.selector {
            None => true,
            Some(selector) => self.services.iter().any(|service| selects_service(selector, service)),
        };
        match holding().find(takes) {
            Some(pool) => Ok(Some(pool)),
            None => Err(holding().next()),
        }
    }

    /// Whether a node should advertise the address, and to whom.
    pub fn here(&self, node: &str) -> Here {
        let ours: Vec<_> = self.services.iter().copied().filter(is_ciliums).collect();
        match (self.services.is_empty(), ours.is_empty()) {
            (true, _) => return Here::Unknown,
            (false, true) => return Here::OtherClass,
            (false, false) => {}
        }
        if self.cluster.speakers.is_empty() && self.cluster.advertisements.is_empty() {
            return if self.by_link(&ours) { Here::ByLink } else { Here::Unknown };
        }
        let Some(speaker) = self.cluster.speakers.iter().find(|speaker| speaker.node == node) else {
            return if self.by_link(&ours) { Here::ByLink } else { Here::NoSpeaker };
        };
        let selected: Vec<(&Service, Vec<PeerWish>)> =
            ours.iter().map(|service| (*service, self.wishes(speaker, service))).collect();
        if selected.iter().all(|(_, wishes)| wishes.is_empty()) {
            return if self.by_link(&ours) { Here::ByLink } else { Here::NotSelected };
        }
        let served = selected.into_iter().filter(|(service, _)| {
            service.policy == TrafficPolicy::Cluster || self.usable_of(service, Some(node)) != Some(0)
        });
        let mut wishes: Vec<_> = served.flat_map(|(_, wishes)| wishes).collect();
        wishes.sort();
        wishes.dedup_by(|a, b| (&a.name, a.address) == (&b.name, b.address));
        if wishes.is_empty() { Here::NoLocalEndpoint } else { Here::Yes(wishes) }
    }

    /// The nodes that should advertise the address; empty where the objects do not tell.
    pub fn nodes(&self) -> Vec<&'a str> {
        let speakers = self.cluster.speakers.iter().map(|speaker| speaker.node.as_str());
        speakers.filter(|node| matches!(self.here(node), Here::Yes(_))).collect()
    }

    /// Lengths of the prefixes as which the address may be advertised.
    pub fn prefix_lengths(&self) -> Vec<u8> {
        let host = if self.vip.is_ipv4() { 32 } else { 128 };
        let parts = self.cluster.advertisements.iter().flat_map(|one| &one.services);
        let lengths = parts.filter_map(|part| part.aggregation[usize::from(self.vip.is_ipv6())]);
        let mut lengths: Vec<u8> = lengths.chain([host]).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    fn by_link(&self, services: &[&Service]) -> bool {
        let policies = self.cluster.l2_policies.iter().filter(|policy| policy.load_balancer_ips);
        policies.into_iter().any(|policy| match &policy.selector {
            None => true,
            Some(selector) => services.iter().any(|service| selects_service(selector, service)),
        })
    }

    fn wishes(&self, speaker: &Speaker, service: &Service) -> Vec<PeerWish> {
        let wish = |peer: &SpeakerPeer| {
            let config = self.cluster.peer_configs.iter().find(|one| Some(&one.name) == peer.config.as_ref());
            let advertisement = self.chosen(config?, service)?;
            let advertisement = advertisement.name.clone();
            Some(PeerWish { name: peer.name.clone(), address: peer.address, advertisement })
        };
        speaker.peers.iter().filter_map(wish).collect()
    }

    fn chosen(&self, config: &PeerConfig, service: &Service) -> Option<&'a Advertisement> {
        let families = config.families.iter().filter(|family| family.ipv6 == self.vip.is_ipv6());
        let selectors: Vec<_> = families.filter_map(|family| family.advertisements.as_ref()).collect();
        self.cluster.advertisements.iter().find(|one| {
            selectors.iter().any(|selector| selects(selector, &one.labels))
                && one.services.iter().any(|part| {
                    part.selector.as_ref().is_some_and(|selector| selects_service(selector, service))
                })
        })
    }
}

fn is_ciliums(service: &&Service) -> bool {
    service.class.as_deref().is_none_or(|class| CLASSES.contains(&class))
}
