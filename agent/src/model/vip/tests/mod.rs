//! The truth table: each disagreement by its name, and none where all agree.

mod any;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use weir_router_view::{API_VERSION, KIND, Path, Prefix, RouterView};

use super::*;
use crate::model::address::{Mac, Protocol};
use crate::model::cluster::{
    Advertisement, Block, Cluster, Endpoint, EndpointState, Labels, Node, ObjectName, PeerConfig, PeerFamily,
    Pool, Service, ServiceAdvertisement, ServicePort, Speaker, SpeakerPeer, TrafficPolicy,
};

const VIP: &str = "10.10.50.10";
const ROUTER: &str = "10.10.30.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(port: u16) -> ServicePort {
    ServicePort { port, protocol: Protocol(6) }
}

fn node_address(number: usize) -> IpAddr {
    ip(&format!("10.10.30.{}", 9 + number))
}

/// Three nodes with a speaker each; one Service with an endpoint on every node.
fn cluster(policy: TrafficPolicy, endpoints: &[(usize, EndpointState)]) -> Cluster {
    let name = ObjectName { namespace: Some("web".to_owned()), name: "shop".to_owned() };
    let selector = || Some(serde_json::from_str("{}").unwrap());
    let endpoints = endpoints.iter().enumerate().map(|(at, (node, state))| Endpoint {
        address: ip(&format!("10.0.{node}.{at}")),
        node: Some(format!("node{node}")),
        state: *state,
    });
    Cluster {
        services: vec![Service {
            name: name.clone(),
            labels: Labels::new(),
            vips: vec![ip(VIP)],
            other_addresses: vec![ip("10.96.0.80")],
            source_ranges: Vec::new(),
            policy,
            class: None,
            ports: vec![port(443)],
        }],
        endpoints: Some(BTreeMap::from([(name, endpoints.collect())])),
        pools: vec![Pool {
            name: "vip".to_owned(),
            blocks: vec![Block::new(ip("10.10.50.0"), ip("10.10.50.255")).unwrap()],
            selector: None,
            disabled: false,
        }],
        advertisements: vec![Advertisement {
            name: "services".to_owned(),
            labels: Labels::new(),
            services: vec![ServiceAdvertisement { selector: selector(), aggregation: [None, None] }],
        }],
        peer_configs: vec![PeerConfig {
            name: "gateway".to_owned(),
            families: vec![PeerFamily { ipv6: false, advertisements: selector() }],
        }],
        speakers: (1..=3)
            .map(|number| Speaker {
                node: format!("node{number}"),
                object: format!("CiliumBGPNodeConfig node{number}"),
                peers: vec![SpeakerPeer {
                    name: "gateway".to_owned(),
                    address: Some(ip(ROUTER)),
                    config: Some("gateway".to_owned()),
                }],
            })
            .collect(),
        nodes: (1..=3)
            .map(|number| Node {
                name: format!("node{number}"),
                addresses: vec![node_address(number)],
                labels: Labels::new(),
            })
            .collect(),
        ..Cluster::default()
    }
}

fn everywhere() -> Cluster {
    cluster(TrafficPolicy::Cluster, &[1, 2, 3].map(|node| (node, EndpointState::Ready)))
}

/// A node that announces the address to the router since 100 s, has answers, and some traffic.
fn facts(number: usize) -> NodeFacts {
    let session = Session {
        peer: ip(ROUTER),
        local: Some(node_address(number)),
        established: true,
        state: "established".to_owned(),
        since: Some(Duration::from_secs(800)),
        complete: true,
        announced: BTreeMap::from([(ip(VIP).into(), Duration::from_secs(900))]),
        withdrawn: BTreeMap::new(),
    };
    let seen = VipFacts {
        answers: BTreeMap::from([(port(443), Answer::Answered(Duration::from_micros(80)))]),
        traffic: Traffic {
            window: Duration::from_secs(30),
            ingress: 600,
            egress: 600,
            connections: 100,
            vlans: BTreeMap::new(),
            tcp_egress: 600,
            total: 9_000,
        },
        ..VipFacts::default()
    };
    NodeFacts {
        node: format!("node{number}"),
        addresses: vec![node_address(number)],
        sessions: Some(vec![session]),
        vips: BTreeMap::from([(ip(VIP), seen)]),
    }
}

fn wall() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn path(number: usize) -> Path {
    Path {
        next_hop: node_address(number),
        valid: true,
        best: number == 1,
        multipath: number > 1,
        stale: false,
    }
}

fn view(paths: Vec<Path>) -> RouterView {
    let installed = paths.iter().filter(|path| path.is_used()).map(|path| path.next_hop).collect();
    RouterView {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        router: "gateway".to_owned(),
        observed_at: wall() - jiff::SignedDuration::from_secs(3),
        period_seconds: 30,
        addresses: vec![ip(ROUTER)],
        peers: None,
        prefixes: Some(vec![Prefix { prefix: ip(VIP).into(), paths, installed: Some(installed) }]),
        neighbours: None,
        interfaces: None,
        truncated: false,
        problems: vec![],
    }
}

/// All agree: three nodes, all told by their agents, and the router.
fn healthy() -> Evidence {
    Evidence {
        now: Duration::from_secs(1_000),
        wall: wall(),
        cluster: Some(Arc::new(everywhere())),
        own: facts(1),
        others: vec![facts(2), facts(3)],
        routers: vec![Arc::new(view((1..=3).map(path).collect()))],
        given: vec![],
    }
}

fn silent(node: &mut NodeFacts) {
    for session in node.sessions.iter_mut().flatten() {
        session.announced.clear();
        session.withdrawn.insert(ip(VIP).into(), Duration::from_secs(700));
    }
}

fn own(evidence: &mut Evidence) -> &mut VipFacts {
    evidence.own.vips.get_mut(&ip(VIP)).unwrap()
}

fn states(evidence: &Evidence) -> Vec<VipState> {
    judge_one(evidence, ip(VIP)).findings.iter().map(|finding| finding.state).collect()
}

/// What each change of a healthy node is called, and what the finding says.
fn changed(change: impl FnOnce(&mut Evidence)) -> Vec<(VipState, String)> {
    let mut evidence = healthy();
    change(&mut evidence);
    let row = judge(&evidence).into_iter().find(|row| row.vip == ip(VIP)).unwrap();
    row.findings.into_iter().map(|one| (one.state, format!("{} | {}", one.what, one.action))).collect()
}

#[track_caller]
fn only(found: Vec<(VipState, String)>, state: VipState, says: &[&str]) {
    assert_eq!(found.iter().map(|(state, _)| *state).collect::<Vec<_>>(), [state], "{found:#?}");
    says.iter().for_each(|words| assert!(found[0].1.contains(words), "{words} in {}", found[0].1));
}

#[test]
fn a_healthy_node_has_no_finding() {
    let row = &judge(&healthy())[0];
    assert_eq!(row.findings, []);
    assert_eq!((row.wanted, row.pool.as_deref(), row.endpoints), (Wanted::Here, Some("vip"), Some([1, 3])));
    assert_eq!(row.learned[0].next_hops.len(), 3);
    assert!(row.learned[0].here);
    let mut local = healthy();
    local.cluster = Some(Arc::new(cluster(
        TrafficPolicy::Local,
        &[(1, EndpointState::Ready), (2, EndpointState::Draining)],
    )));
    silent(&mut local.others[1]);
    local.routers = vec![Arc::new(view(vec![path(1), path(2)]))];
    assert_eq!(states(&local), []);
}

#[test]
fn advertised_with_no_local_endpoint() {
    let local =
        |endpoints: &[(usize, EndpointState)]| Some(Arc::new(cluster(TrafficPolicy::Local, endpoints)));
    let found = changed(|it| {
        it.cluster = local(&[(2, EndpointState::Ready), (1, EndpointState::Unready)]);
        // That nothing answers here follows from it, and has no name of its own.
        own(it).answers.insert(port(443), Answer::Silent);
    });
    only(found, VipState::WithoutEndpoint, &["is Local", "cilium#44803", "10.10.50.10/32"]);
    let found = changed(|it| it.cluster = Some(Arc::new(cluster(TrafficPolicy::Cluster, &[]))));
    only(found, VipState::WithoutEndpoint, &["no usable endpoint anywhere"]);
    let unknown = changed(|it| {
        it.cluster = Some(Arc::new(Cluster { endpoints: None, ..cluster(TrafficPolicy::Local, &[]) }));
    });
    assert_eq!(unknown, [], "nothing is concluded where there is no EndpointSlice");
}

#[test]
fn wanted_and_advertised_by_nobody() {
    let by_router = changed(|it| {
        silent(&mut it.own);
        it.others.clear();
        it.routers = vec![Arc::new(RouterView { prefixes: Some(vec![]), ..view(vec![]) })];
    });
    only(by_router, VipState::AdvertisedByNobody, &["router gateway has no path", "BGPReconcileError"]);
    let by_nodes = changed(|it| {
        it.routers.clear();
        silent(&mut it.own);
        it.others.iter_mut().for_each(silent);
    });
    only(by_nodes, VipState::AdvertisedByNobody, &["no node announces it"]);
    let by_objects = changed(|it| {
        (it.routers, it.others) = (vec![], vec![]);
        silent(&mut it.own);
        it.cluster = Some(Arc::new(Cluster { advertisements: vec![], ..everywhere() }));
    });
    only(by_objects, VipState::AdvertisedByNobody, &["no CiliumBGPAdvertisement"]);
    let undecided = changed(|it| {
        (it.routers, it.others) = (vec![], vec![]);
        silent(&mut it.own);
    });
    only(undecided, VipState::NotAdvertised, &["services", "10.10.30.1"]);
    let no_endpoint = changed(|it| {
        it.cluster = Some(Arc::new(cluster(TrafficPolicy::Local, &[])));
        it.routers = vec![Arc::new(RouterView { prefixes: Some(vec![]), ..view(vec![]) })];
        it.others.clear();
        silent(&mut it.own);
    });
    assert_eq!(no_endpoint, [], "policy Local without endpoints is advertised by nobody, and rightly");
}

#[test]
fn this_node_does_not_advertise() {
    let found = changed(|it| {
        silent(&mut it.own);
        it.routers = vec![Arc::new(view(vec![path(2), path(3)]))];
    });
    only(found, VipState::NotAdvertised, &["not announced to gateway (10.10.30.1)"]);
    let down = changed(|it| {
        let session = &mut it.own.sessions.as_mut().unwrap()[0];
        (session.established, session.state) = (false, "active".to_owned());
        it.routers = vec![Arc::new(view(vec![path(2), path(3)]))];
    });
    only(down, VipState::NotAdvertised, &["is active", "weirctl bgp"]);
    let late = changed(|it| {
        silent(&mut it.own);
        it.own.sessions.as_mut().unwrap()[0].complete = false;
        it.routers.clear();
    });
    assert_eq!(late, [], "what was told before the agent came is not known");
}

#[test]
fn advertised_without_being_wanted() {
    let gone = |faults: bool| {
        changed(move |it| {
            let mut cluster = Cluster { services: vec![], ..everywhere() };
            if faults {
                let what = "not YAML".to_owned();
                cluster.faults.push(crate::model::cluster::Fault { place: "a.yaml".to_owned(), what });
            }
            it.cluster = Some(Arc::new(cluster));
            it.own.vips.clear();
        })
    };
    only(gone(false), VipState::AdvertisedUnwanted, &["no Service has the address"]);
    assert_eq!(gone(true), [], "the document that could not be read may be the Service");
}

#[test]
fn announced_and_not_learned() {
    let found = changed(|it| it.routers = vec![Arc::new(view(vec![path(2), path(3)]))]);
    only(found, VipState::NotLearned, &["no path through this node", "maximum-prefix"]);
    let fresh = changed(|it| {
        it.routers = vec![Arc::new(view(vec![path(2), path(3)]))];
        let session = &mut it.own.sessions.as_mut().unwrap()[0];
        session.announced.insert(ip(VIP).into(), Duration::from_secs(996));
    });
    assert_eq!(fresh, [], "the router was asked too soon after the announcement");
    let table = changed(|it| {
        let mut all = view((1..=3).map(path).collect());
        all.prefixes.as_mut().unwrap()[0].installed = Some(vec![]);
        it.routers = vec![Arc::new(all)];
    });
    only(table, VipState::NotLearned, &["forwarding table"]);
}

#[test]
fn a_route_to_a_node_that_took_it_back() {
    let own_route = changed(|it| {
        it.cluster = Some(Arc::new(cluster(TrafficPolicy::Local, &[(2, EndpointState::Ready)])));
        silent(&mut it.own);
        own(it).answers.clear();
    });
    only(own_route, VipState::StaleRoute, &["10.10.30.10 is node1, which does not announce it"]);
    let of_other = changed(|it| silent(&mut it.others[1]));
    only(of_other, VipState::StaleRoute, &["node3"]);
    let stranger = changed(|it| {
        let strange = Path { next_hop: ip("10.10.30.99"), ..path(2) };
        it.routers = vec![Arc::new(view(vec![path(1), path(2), path(3), strange]))];
    });
    only(stranger, VipState::StaleRoute, &["address of no Node"]);
    let just_now = changed(|it| {
        it.cluster = Some(Arc::new(cluster(TrafficPolicy::Local, &[(2, EndpointState::Ready)])));
        silent(&mut it.own);
        own(it).answers.clear();
        let session = &mut it.own.sessions.as_mut().unwrap()[0];
        session.withdrawn.insert(ip(VIP).into(), Duration::from_secs(998));
    });
    assert_eq!(just_now, [], "the router was asked before it could know");
}

#[test]
fn learned_and_black_holed() {
    let found = changed(|it| {
        own(it).answers.insert(port(443), Answer::Refused);
    });
    only(found, VipState::BlackHoled, &["router gateway sends its packets here", "443/tcp is refused"]);
    let without_view = changed(|it| {
        it.routers.clear();
        own(it).answers.insert(port(443), Answer::Silent);
    });
    only(without_view, VipState::BlackHoled, &["announces it to 10.10.30.1", "gives no answer"]);
    let one_port = changed(|it| {
        own(it).answers.insert(port(80), Answer::Silent);
    });
    only(one_port, VipState::NotAnswering, &["80/tcp gives no answer"]);
    let udp = changed(|it| {
        own(it).answers = BTreeMap::from([(port(53), Answer::Unclear)]);
    });
    assert_eq!(udp, []);
}

#[test]
fn an_uneven_spread() {
    let found = changed(|it| {
        let idle = Path { best: false, multipath: false, ..path(3) };
        it.routers = vec![Arc::new(view(vec![path(1), path(2), idle]))];
    });
    only(found, VipState::SpreadUneven, &["node3 (10.10.30.12) get nothing", "maximum-paths"]);
    let shares = changed(|it| {
        it.routers.clear();
        it.others[0].vips.get_mut(&ip(VIP)).unwrap().traffic.connections = 900;
    });
    only(shares, VipState::SpreadUneven, &["node2 900", "layer4-hashing"]);
    let table = changed(|it| {
        let mut all = view((1..=3).map(path).collect());
        all.prefixes.as_mut().unwrap()[0].installed = Some(vec![node_address(1), node_address(2)]);
        it.routers = vec![Arc::new(all)];
    });
    only(table, VipState::SpreadUneven, &["forwarding table lacks node3"]);
}

fn stray(packets: u64, looped: u64) -> Stray {
    Stray {
        port: port(8080),
        packets,
        looped,
        ttl: [62, 40],
        hop: Mac([2, 0, 0, 0, 0, 1]),
        interface: "eth0".to_owned(),
        last: Duration::from_secs(999),
    }
}

#[test]
fn strays_and_loops() {
    only(
        changed(|it| own(it).strays.push(stray(12, 0))),
        VipState::PortUnserved,
        &["12 packets to 8080/tcp"],
    );
    let found = changed(|it| own(it).strays.push(stray(24, 11)));
    only(found, VipState::RoutingLoop, &["falling from 62 to 40", "02:00:00:00:00:01", "cilium#40684"]);
    assert_eq!(changed(|it| own(it).strays.push(stray(3, 0))), [], "a mistyped port");
}

#[test]
fn a_vlan_without_answers() {
    let tagged = |it: &mut Evidence, egress| {
        own(it).traffic.vlans = BTreeMap::from([(50, 40)]);
        own(it).traffic.tcp_egress = egress;
    };
    let found = changed(|it| tagged(it, 0));
    only(found, VipState::VlanUnanswered, &["40 TCP packets on VLAN 50", "cilium#46260"]);
    assert_eq!(changed(|it| tagged(it, 38)), []);
}

fn owner(last: u8, own: bool, first: u64, until: u64) -> Owner {
    Owner {
        mac: Mac([2, 0, 0, 0, 0, last]),
        interface: "eth0".to_owned(),
        own,
        first: Duration::from_secs(first),
        last: Duration::from_secs(until),
    }
}

#[test]
fn two_macs_at_the_same_time() {
    let both = changed(|it| own(it).owners = vec![owner(1, true, 900, 990), owner(2, false, 950, 999)]);
    only(both, VipState::TwoMacs, &["02:00:00:00:00:01 (this node)", "02:00:00:00:00:02"]);
    let moved = changed(|it| own(it).owners = vec![owner(1, true, 900, 940), owner(2, false, 950, 999)]);
    assert_eq!(moved, [], "an address that moves is claimed by one after the other");
}

#[test]
fn outside_every_pool() {
    let shrunk = changed(|it| {
        let mut cluster = everywhere();
        cluster.pools[0].blocks = vec![Block::new(ip("10.10.51.0"), ip("10.10.51.9")).unwrap()];
        it.cluster = Some(Arc::new(cluster));
    });
    only(shrunk, VipState::OutsidePools, &["no CiliumLoadBalancerIPPool holds it"]);
    let other = changed(|it| {
        let mut cluster = everywhere();
        cluster.pools[0].selector = Some(serde_json::from_str(r#"{"matchLabels": {"a": "b"}}"#).unwrap());
        it.cluster = Some(Arc::new(cluster));
    });
    only(other, VipState::OutsidePools, &["serviceSelector does not take Service web/shop"]);
    assert_eq!(changed(|it| it.cluster = Some(Arc::new(Cluster { pools: vec![], ..everywhere() }))), []);
}

#[test]
fn nothing_is_concluded_from_nothing() {
    let nothing = Evidence { given: vec![ip(VIP)], ..Evidence::default() };
    let row = &judge(&nothing)[0];
    assert_eq!((row.findings.len(), row.wanted), (0, Wanted::Unknown));
    let stale = changed(|it| {
        let mut old = view(vec![]);
        old.observed_at = wall() - jiff::SignedDuration::from_secs(91);
        it.routers = vec![Arc::new(old)];
    });
    assert_eq!(stale, [], "a view that is out of date tells nothing");
}

#[test]
fn a_finding_is_named_once_it_has_held() {
    let mut evidence = healthy();
    silent(&mut evidence.own);
    evidence.routers = vec![Arc::new(view(vec![path(2), path(3)]))];
    let mut book = Book::new(Duration::from_secs(5));
    let mut named = |evidence: &Evidence, at: u64| {
        let mut rows = judge(evidence);
        book.keep(&mut rows, Duration::from_secs(at));
        rows[0].findings.first().map(|finding| finding.since.as_secs())
    };
    assert_eq!(named(&evidence, 10), None);
    assert_eq!(named(&evidence, 14), None);
    assert_eq!(named(&evidence, 15), Some(10));
    assert_eq!(named(&healthy(), 16), None);
    assert_eq!(named(&evidence, 17), None, "it begins anew");
}

#[test]
fn the_way_is_explained_step_by_step() {
    let mut evidence = healthy();
    let explanation = explain(&evidence, ip(VIP));
    assert_eq!(explanation.breaks_at(), None, "{:#?}", explanation.steps);
    let places: BTreeSet<Place> = explanation.steps.iter().map(|step| step.place).collect();
    assert_eq!(places.len(), 9);
    own(&mut evidence).answers.insert(port(443), Answer::Refused);
    assert_eq!(explain(&evidence, ip(VIP)).breaks_at().map(|step| step.place), Some(Place::Answer));
    silent(&mut evidence.own);
    assert_eq!(explain(&evidence, ip(VIP)).breaks_at().map(|step| step.place), Some(Place::Wire));
    evidence.cluster = Some(Arc::new(Cluster { advertisements: vec![], ..everywhere() }));
    assert_eq!(explain(&evidence, ip(VIP)).breaks_at().map(|step| step.place), Some(Place::Advertisement));
    assert_eq!(explain(&evidence, ip("10.9.9.9")).breaks_at().map(|step| step.place), Some(Place::Service));
}
