//! The import filter: exactly the prefixes that a cluster may announce, and nothing else.

use super::cilium::Speaker;
use super::grant::{Grants, Subject, WAY_OUT};
use super::problem::{Findings, Problem};
use super::select::selects;
use super::values;
use crate::inputs::{
    AdvertisedAddress, Advertisement, BgpPeerConfig, ClusterName, Inputs, LoadBalancerPool, Object, ObjectId,
    PoolBlock, Service,
};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A prefix, and which lengths inside it are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixRule {
    /// The prefix.
    pub prefix: IpNet,
    /// Shortest and longest length; `None` is the prefix alone.
    pub lengths: Option<(u8, u8)>,
}

impl PrefixRule {
    /// The prefix and nothing inside it.
    pub fn exact(prefix: IpNet) -> Self {
        Self { prefix, lengths: None }
    }

    /// Prefixes of one length inside the prefix; where that is shorter, the one prefix of that length around it.
    fn of_length(prefix: IpNet, length: u8) -> Self {
        if length > prefix.prefix_len() {
            return Self { prefix, lengths: Some((length, length)) };
        }
        let around = IpNet::new(prefix.addr(), length).map_or(prefix, |net| net.trunc());
        Self::exact(around)
    }

    /// How many different prefixes can pass.
    pub fn capacity(&self) -> u64 {
        let Some((shortest, longest)) = self.lengths else { return 1 };
        let count =
            |length: u8| 1u64.checked_shl(u32::from(length - self.prefix.prefix_len())).unwrap_or(u64::MAX);
        (shortest..=longest).fold(0, |sum, length| sum.saturating_add(count(length)))
    }

    /// Whether a prefix passes.
    pub fn permits(&self, prefix: &IpNet) -> bool {
        match self.lengths {
            None => self.prefix == *prefix,
            Some((shortest, longest)) => {
                self.prefix.contains(prefix) && (shortest..=longest).contains(&prefix.prefix_len())
            }
        }
    }
}

/// What the speakers of one CiliumBGPPeerConfig may announce.
pub(super) fn accepted(
    inputs: &Inputs,
    config: &Object<BgpPeerConfig>,
    speakers: &[&Speaker<'_>],
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeSet<PrefixRule> {
    let cluster = &config.id.cluster;
    let mut rules = BTreeSet::new();
    for family in config.spec.families.iter().flatten() {
        let Some(selector) = family.advertisements.as_ref().filter(|_| family.safi == "unicast") else {
            continue;
        };
        let wanted = |ip: &IpAddr| ip.is_ipv4() == (family.afi == "ipv4");
        for object in inputs.bgp_advertisements.iter().filter(|object| object.id.cluster == *cluster) {
            if !selects(selector, &object.labels) {
                continue;
            }
            for advertisement in &object.spec.advertisements {
                let found = advertised(inputs, &object.id, advertisement, speakers, problems);
                rules.extend(found.into_iter().filter(|rule| wanted(&rule.prefix.addr())));
            }
        }
    }
    let subject = Subject::Cluster(cluster);
    rules.retain(|rule| grants.cidr(&subject, &rule.prefix));
    rules
}

/// Says which pools lie outside any grant: their addresses would be announced in vain.
pub(super) fn check_pools(
    inputs: &Inputs,
    clusters: &BTreeSet<&ClusterName>,
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) {
    for pool in inputs.pools.iter().filter(|pool| clusters.contains(&pool.id.cluster)) {
        let mut findings = Findings::on(&pool.id, problems);
        let subject = Subject::Cluster(&pool.id.cluster);
        for (at, block) in pool.spec.blocks.iter().enumerate() {
            let field = format!("spec.blocks[{at}]");
            let way_out = "give cidr, or start and stop of one family";
            let Some(prefixes) = findings.read(&field, prefixes(block), way_out) else { continue };
            let outside: Vec<_> = prefixes.iter().filter(|prefix| !grants.cidr(&subject, prefix)).collect();
            if let Some(first) = outside.first() {
                findings.refuse(
                    &field,
                    format!("{first} is in no grant: the router does not accept it"),
                    WAY_OUT,
                );
            }
        }
    }
}

fn advertised(
    inputs: &Inputs,
    object: &ObjectId,
    advertisement: &Advertisement,
    speakers: &[&Speaker<'_>],
    problems: &mut Vec<Problem>,
) -> Vec<PrefixRule> {
    match advertisement.advertisement_type.as_str() {
        "Service" => services(inputs, &object.cluster, advertisement),
        "PodCIDR" => {
            let texts = speakers.iter().flat_map(|speaker| speaker.pod_cidrs.iter());
            texts.filter_map(|text| values::prefix(text).ok()).map(PrefixRule::exact).collect()
        }
        other => {
            let what = format!("the prefixes of advertisement type {other} cannot be told from the objects");
            let mut findings = Findings::on(object, problems);
            findings.note(
                "spec.advertisements.advertisementType",
                what,
                "the router does not accept them: name them in spec.accept of a BGPPeering",
            );
            Vec::new()
        }
    }
}

fn services(inputs: &Inputs, cluster: &ClusterName, advertisement: &Advertisement) -> Vec<PrefixRule> {
    // Without a selector Cilium selects no Service.
    let Some(selector) = &advertisement.selector else { return Vec::new() };
    let spec = advertisement.service.clone().unwrap_or_default();
    let own: Vec<_> = inputs
        .services
        .iter()
        .filter(|service| service.id.cluster == *cluster && selects_service(selector, service))
        .collect();
    let mut prefixes = Vec::new();
    for address in &spec.addresses {
        match address {
            AdvertisedAddress::LoadBalancer => prefixes.extend(load_balancer(inputs, cluster, &own)),
            AdvertisedAddress::Cluster => {
                prefixes.extend(own.iter().flat_map(|each| hosts(&each.spec.cluster_ips)))
            }
            AdvertisedAddress::External => {
                prefixes.extend(own.iter().flat_map(|each| hosts(&each.spec.external_ips)))
            }
        }
    }
    let rules = prefixes.into_iter().flat_map(|prefix| {
        let (length, full) = match prefix {
            IpNet::V4(_) => (spec.aggregation_length_ipv4, 32),
            IpNet::V6(_) => (spec.aggregation_length_ipv6, 128),
        };
        // A Service with traffic policy Local is announced whole even where others are aggregated.
        let aggregated = length.map(|length| PrefixRule::of_length(prefix, length));
        std::iter::once(PrefixRule::of_length(prefix, full)).chain(aggregated)
    });
    rules.collect()
}

/// Exactly the pools; where the cluster has none, exactly the addresses that its Services have.
fn load_balancer(inputs: &Inputs, cluster: &ClusterName, services: &[&Object<Service>]) -> Vec<IpNet> {
    let mut pools = inputs.pools.iter().filter(|pool| pool.id.cluster == *cluster).peekable();
    if pools.peek().is_none() {
        return services.iter().flat_map(|each| hosts(&each.spec.vips)).collect();
    }
    pools.flat_map(|pool| pool_prefixes(&pool.spec)).collect()
}

fn hosts(addresses: &[IpAddr]) -> impl Iterator<Item = IpNet> {
    addresses.iter().map(|ip| IpNet::from(*ip))
}

fn pool_prefixes(pool: &LoadBalancerPool) -> Vec<IpNet> {
    pool.blocks.iter().filter_map(|block| prefixes(block).ok()).flatten().collect()
}

/// The fewest prefixes that cover a block exactly.
fn prefixes(block: &PoolBlock) -> Result<Vec<IpNet>, String> {
    if let Some(cidr) = &block.cidr {
        let net: IpNet = cidr.parse().map_err(|_| format!("`{cidr}` is not a prefix"))?;
        return Ok(vec![net.trunc()]);
    }
    let start = block.start.ok_or("there is neither cidr nor start")?.0;
    let stop = block.stop.map_or(start, |stop| stop.0);
    match (start, stop) {
        (IpAddr::V4(start), IpAddr::V4(stop)) if start <= stop => {
            Ok(Ipv4Subnets::new(start, stop, 0).map(IpNet::V4).collect())
        }
        (IpAddr::V6(start), IpAddr::V6(stop)) if start <= stop => {
            Ok(Ipv6Subnets::new(start, stop, 0).map(IpNet::V6).collect())
        }
        _ => Err(format!("{start} to {stop} is not a range")),
    }
}

/// Cilium lets a selector speak of a Service's name and namespace as if they were labels.
fn selects_service(selector: &LabelSelector, service: &Object<Service>) -> bool {
    let mut labels: BTreeMap<_, _> = service.labels.clone();
    labels.insert("io.kubernetes.service.name".to_owned(), service.id.name.clone());
    let namespace = service.id.namespace.clone().unwrap_or_default();
    labels.insert("io.kubernetes.service.namespace".to_owned(), namespace);
    selects(selector, &labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_block_of_addresses_is_covered_exactly() {
        let block = PoolBlock {
            cidr: None,
            start: Some("10.10.50.10".to_owned().try_into().unwrap()),
            stop: Some("10.10.50.12".to_owned().try_into().unwrap()),
        };
        assert_eq!(prefixes(&block).unwrap(), [net("10.10.50.10/31"), net("10.10.50.12/32")]);
    }

    #[test]
    fn lengths_permit_hosts_or_the_aggregate() {
        let hosts = PrefixRule::of_length(net("10.10.50.0/24"), 32);
        assert!(hosts.permits(&net("10.10.50.7/32")) && !hosts.permits(&net("10.10.50.0/24")));
        assert_eq!(hosts.capacity(), 256);
        let wider = PrefixRule::of_length(net("172.16.1.3/32"), 16);
        assert!(wider.permits(&net("172.16.0.0/16")) && !wider.permits(&net("172.16.1.3/32")));
        assert_eq!(PrefixRule::of_length(net("fd00::/64"), 128).capacity(), u64::MAX);
    }
}
