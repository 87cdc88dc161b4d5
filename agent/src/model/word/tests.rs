//! What the node says of itself in health and out of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use weir_api::{Carries, NodeDatapathStatus, VipFault};

use super::{Facts, Speaker};
use crate::model::address::{Direction, IfIndex};
use crate::model::bfd::Bfd;
use crate::model::bgp::View;
use crate::model::capability::Report;
use crate::model::cluster::{ServicePort, SourceState, Sources};
use crate::model::interface::Hook;
use crate::model::link::{Link, LinkCounters, LinkKind, OperState};
use crate::model::probe::{GatewayProbe, Probe};
use crate::model::vip::{Answer, Finding, Row, Table, VipState, Wanted};

struct Node {
    links: BTreeMap<IfIndex, Link>,
    uplinks: Vec<IfIndex>,
    gateways: BTreeMap<(IfIndex, IpAddr), GatewayProbe>,
    hooks: BTreeMap<(IfIndex, Direction), Hook>,
    vips: Table,
    sources: Sources,
    speaker: Speaker,
    now: u64,
}

fn index(number: u32) -> IfIndex {
    IfIndex::try_from(number).unwrap()
}

fn link(number: u32) -> Link {
    Link {
        index: index(number),
        name: format!("eth{}", number - 2),
        kind: LinkKind::Physical,
        state: OperState::Up,
        admin_up: true,
        carrier: true,
        mac: None,
        mtu: 1500,
        speed: None,
        master: None,
        parent: None,
        queue_length: 1000,
        counters: LinkCounters::default(),
        flaps: 0,
        changed: None,
    }
}

impl Node {
    /// Two uplinks, with a gateway each.
    fn new() -> Self {
        let gateway = |number: u32| {
            let address = IpAddr::from([10, 0, number as u8, 1]);
            let mut link_layer = Probe::default();
            link_layer.latency.buckets = vec![0, 0];
            let probe = GatewayProbe {
                interface: index(number),
                gateway: address,
                link_layer,
                echo: Probe::default(),
                path_mtu: None,
            };
            ((index(number), address), probe)
        };
        Self {
            links: [2, 3].map(|number| (index(number), link(number))).into(),
            uplinks: vec![index(2), index(3)],
            gateways: [gateway(2), gateway(3)].into(),
            hooks: BTreeMap::new(),
            vips: Table::default(),
            sources: Sources::default(),
            speaker: Speaker::default(),
            now: 100,
        }
    }

    /// Two seconds pass, in which gateways answer or do not.
    fn pass(&mut self, answer: [bool; 2]) -> NodeDatapathStatus {
        self.now += 2;
        for (gateway, answers) in self.gateways.values_mut().zip(answer) {
            match answers {
                true => gateway.link_layer.latency.buckets[0] += 1,
                false => gateway.link_layer.lost += 1,
            }
        }
        let facts = Facts {
            links: &self.links,
            uplinks: &self.uplinks,
            gateways: &self.gateways,
            hooks: &self.hooks,
            bgp: &View::default(),
            bfd: &Bfd::default(),
            vips: &self.vips,
            capabilities: &Report::default(),
            sources: &self.sources,
        };
        let wall = Timestamp::from_second(1_700_000_000 + self.now as i64).unwrap();
        self.speaker.word(&facts, Duration::from_secs(self.now), wall)
    }

    fn announce(&mut self, dead: &[bool]) {
        let row = |(at, dead): (usize, &bool)| {
            let finding = Finding {
                state: VipState::BlackHoled,
                basis: vec![],
                what: "dead".into(),
                action: String::new(),
                since: Duration::ZERO,
            };
            let port = ServicePort { port: 80, protocol: crate::model::address::Protocol(6) };
            let answer = if *dead { Answer::Silent } else { Answer::Answered(Duration::ZERO) };
            Row {
                vip: IpAddr::from([10, 10, 50, at as u8]),
                services: vec!["shop/web".into()],
                policy: None,
                pool: None,
                wanted: Wanted::Here,
                announced: Some(vec![IpAddr::from([10, 0, 2, 1])]),
                learned: vec![],
                endpoints: None,
                answers: vec![(port, answer)],
                packets: [0, 0],
                findings: if *dead { vec![finding] } else { vec![] },
            }
        };
        let rows = dead.iter().enumerate().map(row).collect();
        self.vips = Table { rows, faults: vec![], evidence: Arc::default() };
    }
}

fn codes(word: &NodeDatapathStatus) -> (Carries, Vec<&str>) {
    (word.carries, word.reasons.iter().map(|reason| reason.code.as_str()).collect())
}

#[test]
fn nothing_is_said_before_anything_is_known() {
    let mut node = Node::new();
    assert_eq!(codes(&node.pass([true; 2])), (Carries::Unknown, vec![]), "the first look knows no before");
    assert_eq!(codes(&node.pass([true; 2])), (Carries::Yes, vec![]));
    let word = node.pass([true; 2]);
    assert_eq!(word.links.len(), 2);
    assert!(word.links.iter().all(|link| link.up && link.gateway_answers == Some(true)));
    let mut without = Node { uplinks: vec![], ..Node::new() };
    without.gateways.clear();
    assert_eq!(without.pass([true; 2]).carries, Carries::Unknown);
}

#[test]
fn silent_gateways_take_a_node_out_only_when_it_lasts_and_all_are_silent() {
    let mut node = Node::new();
    node.pass([true; 2]);
    node.pass([true; 2]);
    let word = node.pass([true, false]);
    assert_eq!(codes(&word), (Carries::Degraded, vec!["GatewaySilent"]));
    assert_eq!(
        word.links.iter().map(|link| link.gateway_answers).collect::<Vec<_>>(),
        [Some(true), Some(false)]
    );
    assert_eq!(node.pass([false; 2]).carries, Carries::Degraded, "it may pass");
    node.pass([false; 2]);
    let word = node.pass([false; 2]);
    assert_eq!(codes(&word), (Carries::No, vec!["GatewaysSilent"]));
    assert!(word.reasons[0].message.contains("10.0.2.1 at eth0"), "{:?}", word.reasons);
    let ready = &word.conditions[0];
    assert_eq!(
        (ready.type_.as_str(), ready.status.as_str(), ready.reason.as_str()),
        ("Ready", "False", "GatewaysSilent")
    );
    let since = word.reasons[0].since.clone();
    let later = node.pass([false; 2]);
    assert_eq!(
        (&later.reasons[0].since, &later.conditions),
        (&since, &word.conditions),
        "since then, not since now"
    );
    for _ in 0..6 {
        node.pass([true; 2]);
    }
    assert_eq!(codes(&node.pass([true; 2])), (Carries::Yes, vec![]));
}

#[test]
fn a_node_that_loses_its_last_link_and_its_routes_with_it_says_no() {
    let mut node = Node::new();
    node.pass([true; 2]);
    node.pass([true; 2]);
    node.links.get_mut(&index(3)).unwrap().carrier = false;
    assert_eq!(codes(&node.pass([true, true])), (Carries::Degraded, vec!["UplinkDown"]));
    node.links.get_mut(&index(2)).unwrap().admin_up = false;
    node.uplinks.clear();
    node.gateways.clear();
    for _ in 0..3 {
        node.pass([false; 2]);
    }
    let word = node.pass([false; 2]);
    assert_eq!(codes(&word), (Carries::No, vec!["UplinksDown"]));
    assert_eq!(word.links.iter().filter(|link| link.up).count(), 0);
}

#[test]
fn one_dead_address_is_its_services_fault_and_all_of_several_the_nodes() {
    let mut node = Node::new();
    node.pass([true; 2]);
    node.announce(&[true]);
    assert_eq!(codes(&node.pass([true; 2])), (Carries::Degraded, vec!["AddressesDead"]));
    node.announce(&[true, false, true]);
    let word = node.pass([true; 2]);
    assert_eq!(codes(&word), (Carries::Degraded, vec!["AddressesDead"]));
    let vips = word.vips.unwrap();
    assert_eq!((vips.intended, vips.announced, vips.wrong.len()), (3, 3, 2));
    assert_eq!((vips.wrong[0].fault, vips.wrong[0].prefix.as_str()), (VipFault::Blackhole, "10.10.50.0/32"));
    node.announce(&[true, true]);
    assert_eq!(codes(&node.pass([true; 2])), (Carries::No, vec!["NothingAnswers"]));
}

#[test]
fn lists_are_bounded_and_what_is_missing_is_named() {
    let mut node = Node::new();
    node.announce(&[true; 40]);
    node.sources.kinds.insert("CiliumBGPNodeConfig", SourceState::Missing);
    let word = node.pass([true; 2]);
    let vips = word.vips.as_ref().unwrap();
    assert_eq!((vips.wrong.len(), vips.wrong_beyond), (32, 8));
    assert!(word.reasons[0].message.chars().count() <= 512);
    let installed = word.conditions.iter().find(|one| one.type_ == "SourcesInstalled").unwrap();
    assert_eq!(
        (installed.status.as_str(), installed.message.as_str()),
        ("False", "the cluster has no CiliumBGPNodeConfig")
    );
}
