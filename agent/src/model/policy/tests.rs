//! Policies read: what makes sense becomes rules, and what does not is named by field.

use super::kind::{DatapathPolicy, Mode};
use super::*;
use crate::model::address::Direction;
use crate::model::ambient::Security;

fn source(spec: &str, files: &[(&str, &str)]) -> Source {
    let text =
        format!("apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {{name: p}}\nspec: {spec}");
    let policy: DatapathPolicy = serde_saphyr::from_str(&text).unwrap();
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), Ok((*text).to_owned()))).collect();
    Source { policy, files }
}

fn world() -> World {
    World {
        node: "node-1".into(),
        links: [(2.try_into().unwrap(), "eth0".to_owned()), (3.try_into().unwrap(), "eth0.50".to_owned())]
            .into(),
        vips: vec!["10.10.50.10".parse().unwrap()],
        classes: [("bgp".to_owned(), 1)].into(),
        ..World::default()
    }
}

fn outcome(spec: &str) -> (RuleSet, Vec<(String, Reason)>) {
    let (set, problems) = read(&[source(spec, &[])], &world());
    (set, problems.into_iter().map(|problem| (problem.field, problem.reason)).collect())
}

/// The only problem of a policy, and how many rules are left.
fn only(spec: &str) -> (String, Reason, usize) {
    let (set, mut problems) = outcome(spec);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let (field, reason) = problems.remove(0);
    (field, reason, set.rules.len())
}

fn told(field: &str, reason: Reason, left: usize) -> (String, Reason, usize) {
    (field.to_owned(), reason, left)
}

#[test]
fn every_oddity_is_a_named_problem_of_its_field() {
    use Reason::*;
    let rule = |name: &str, matches: &str| {
        format!("{{name: {name}, mode: Enforce, action: Deny, match: {{{matches}}}}}")
    };
    let one = |matches: &str| format!("{{rules: [{}]}}", rule("a", matches));
    for (spec, field, reason, left) in [
        (one("source: {cidrs: [10.1.2.3/8]}"), "rules[0].match.source.cidrs", HostBits, 1),
        (one("source: {cidrs: ['::ffff:10.0.0.1']}"), "rules[0].match.source.cidrs", MappedAddress, 1),
        (one("source: {cidrs: [10.0.0.0/40]}"), "rules[0].match.source.cidrs", BadValue, 0),
        (one("source: {sets: [nowhere]}"), "rules[0].match.source.sets[0]", UnknownSet, 0),
        (one("source: {pools: [blue]}"), "rules[0].match.source.pools", UnknownPool, 0),
        (one("source: {except: [10.0.0.1, oops]}"), "rules[0].match.source.except", BadValue, 0),
        (one("protocol: ICMP, ports: [80]"), "rules[0].match", BadValue, 0),
        (one("icmpTypes: [8]"), "rules[0].match", BadValue, 0),
        (one("ports: ['80-70']"), "rules[0].match.ports", BadValue, 0),
        (one("protocol: tcpp"), "rules[0].match.protocol", BadValue, 0),
        (one("vlans: [4095]"), "rules[0].match.vlans", BadValue, 0),
        (one("classes: [video]"), "rules[0].match.classes", UnknownClass, 0),
        (one("protocol: TCP, tcpFlags: {set: [SIN]}"), "rules[0].match.tcpFlags", BadValue, 0),
        (one("protocol: TCP, ports: [6443]"), "rule a", ContradictsFailsafe, 1),
        (one("source: {cidrs: [10.0.0.1]}, destination: {cidrs: ['fd00::1']}"), "rule a", MatchesNothing, 1),
        (one("source: {cidrs: [10.0.0.1], except: [10.0.0.0/8]}"), "rule a", MatchesNothing, 1),
        (
            format!(
                "{{rules: [{}, {}]}}",
                rule("a", "source: {cidrs: [10.0.0.0/8]}"),
                rule("b", "source: {cidrs: [10.1.0.0/16]}, vlans: [5]")
            ),
            "rule b",
            Shadowed,
            2,
        ),
        (format!("{{rules: [{0}, {0}]}}", rule("a", "vlans: [5]")), "rules[1].name", DuplicateName, 1),
        (format!("{{interfaces: [wlan0], rules: [{}]}}", rule("a", "")), "interfaces[0]", NoSuchInterface, 1),
        (
            "{nodeSelector: {matchLabels: {a: b}}, rules: []}".to_owned(),
            "nodeSelector.matchLabels",
            UnknownLabels,
            0,
        ),
        ("{rules: [{name: A, action: Deny}]}".to_owned(), "rules[0].name", BadValue, 0),
        ("{rules: [{name: a, action: Rate}]}".to_owned(), "rules[0]", BadValue, 0),
        ("{rules: [{name: a, action: Allow, reject: true}]}".to_owned(), "rules[0].reject", BadValue, 0),
        ("{rules: [{name: a, action: Mark, dscp: 64}]}".to_owned(), "rules[0]", BadValue, 0),
        ("{rules: [{name: a, action: Pace, rate: {bytes: 1000}}]}".to_owned(), "rules[0]", BadValue, 0),
        (
            "{rules: [{name: a, action: Rate, rate: {bytes: 1, packets: 1}}]}".to_owned(),
            "rules[0]",
            BadValue,
            0,
        ),
        (
            "{failsafe: [{protocol: ICMP, port: 1, direction: Ingress}]}".to_owned(),
            "failsafe[0].protocol",
            BadValue,
            0,
        ),
        ("{sets: [{name: s}]}".to_owned(), "sets[0]", EmptySet, 0),
        ("{sets: [{name: s, file: gone.txt}]}".to_owned(), "sets[0].file", UnreadableSet, 0),
        ("{linkGuard: {claimants: [router]}}".to_owned(), "linkGuard.claimants", BadValue, 0),
        ("{meshGuard: {}}".to_owned(), "meshGuard.sets", UnknownPods, 0),
        ("{meshGuard: {sets: [pods]}}".to_owned(), "meshGuard.sets[0]", UnknownSet, 0),
        ("{storageGuard: {}}".to_owned(), "storageGuard.sets", UnknownPods, 0),
        ("{vipGuard: {budget: {packets: 5}}}".to_owned(), "vipGuard.budget", BadValue, 0),
    ] {
        assert_eq!(only(&spec), told(field, reason, left), "{spec}");
    }
}

#[test]
fn the_guard_of_the_mesh_takes_the_pods_that_the_cluster_tells() {
    let address = |last| std::net::IpAddr::from([10, 1, 0, last]);
    let pods = |enrolled: &[std::net::IpAddr]| {
        let world = World { enrolled: Some(enrolled.to_vec()), ..world() };
        let (set, problems) = read(&[source("{meshGuard: {mode: Enforce}}", &[])], &world);
        assert_eq!(problems, []);
        set.rules
    };
    assert_eq!(pods(&[]), [], "nobody is enrolled");
    let rules = pods(&[address(1), address(2)]);
    let denied = rules.iter().filter(|rule| rule.action == Action::Deny && rule.mode == Mode::Enforce);
    assert_eq!((rules.len(), denied.count()), (8, 4), "HBONE is only counted");
    for rule in &rules {
        let (source, destination) = (rule.source.as_ref().unwrap(), rule.destination.as_ref().unwrap());
        assert!(
            source.contains(address(1)) && destination.contains(address(2)) && !source.contains(address(3))
        );
        let (direction, security) = mesh_security(&rule.name).unwrap();
        assert_eq!((direction, security == Security::Plain), (rule.direction, rule.action == Action::Deny));
    }
}

#[test]
fn the_guard_of_storage_only_counts() {
    let manager = "10.1.0.9".parse().unwrap();
    let world = World { replicas: Some(vec![manager]), ..world() };
    let (set, problems) = read(&[source("{storageGuard: {}}", &[])], &world);
    assert_eq!((problems, set.rules.len()), (vec![], 4));
    for rule in &set.rules {
        assert_eq!((rule.mode, rule.action, rule.protocol), (Mode::Audit, Action::Deny, Some(6)));
        let own = if rule.direction == Direction::Ingress { &rule.destination } else { &rule.source };
        assert!(own.as_ref().unwrap().contains(manager), "{rule:?}");
        assert_eq!(rule.ports.len() + rule.source_ports.len(), 1, "{rule:?}");
    }
}

#[test]
fn a_rule_after_audit_or_a_narrower_one_is_not_shadowed() {
    let rules = "[{name: a, mode: Audit, action: Deny}, {name: b, mode: Enforce, action: Deny, match: {protocol: TCP}}, \
                 {name: c, mode: Enforce, action: Deny, match: {vlans: [7]}}]";
    assert_eq!(outcome(&format!("{{rules: {rules}}}")).1, []);
}

#[test]
fn a_set_larger_than_a_million_takes_only_its_rules_with_it() {
    use std::fmt::Write;
    let mut text = String::new();
    for n in 0..=LARGEST_SET as u32 {
        writeln!(text, "{}", std::net::Ipv4Addr::from(0x0100_0000 + n)).unwrap();
    }
    let spec = "{sets: [{name: huge, file: huge.txt}], rules: [\
                {name: a, action: Deny, match: {source: {sets: [huge]}}}, {name: b, action: Deny, match: {vlans: [5]}}]}";
    let (set, problems) = read(&[source(spec, &[("huge.txt", &text)])], &world());
    assert_eq!(problems.iter().map(|problem| problem.reason).collect::<Vec<_>>(), [Reason::EnormousSet]);
    assert_eq!(set.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn more_rules_than_fit_are_left_out_by_name() {
    let rules: String = (0..1030)
        .map(|n| format!("{{name: r{n}, action: Deny, match: {{ports: [{}]}}}},", n + 20_000))
        .collect();
    let (set, problems) = outcome(&format!("{{rules: [{rules}]}}"));
    assert_eq!((set.rules.len(), problems.len()), (1024, 6));
    assert!(problems.iter().all(|(_, reason)| *reason == Reason::TooManyRules));
}

#[test]
fn policies_are_ordered_by_priority_and_then_by_name() {
    let named = |name: &str, priority: i32| {
        let mut source = source("{rules: [{name: r, action: Deny}]}", &[]);
        source.policy.metadata.name = name.to_owned();
        source.policy.spec.priority = priority;
        source
    };
    let (set, _) = read(&[named("b", 5), named("c", 1), named("a", 5)], &world());
    assert_eq!(set.rules.iter().map(Rule::full_name).collect::<Vec<_>>(), ["c/r", "a/r", "b/r"]);
}

#[test]
fn guards_are_rules_around_those_of_the_policy() {
    let spec = "{rules: [{name: mine, action: Deny}], interfaces: ['eth*'],
      linkGuard: {mode: Enforce, vlans: [0, 50], sources: [10.0.0.0/8], dhcpServers: [10.0.0.1], routers: ['fe80::1'], claimants: ['02:00:00:00:00:01']},
      vipGuard: {mode: Enforce, budget: {connections: 10}, services: [{vips: [10.10.50.10], protocol: TCP, ports: [443]}]}}";
    let (set, problems) = outcome(spec);
    assert_eq!(problems, []);
    let names: Vec<_> = set.rules.iter().map(|rule| rule.name.as_str()).collect();
    let first = [
        "guard-vlan",
        "guard-source",
        "guard-dhcp",
        "guard-dhcpv6",
        "guard-router-advert",
        "guard-claim",
        "mine",
    ];
    assert_eq!(names[..7], first);
    assert_eq!(names[7..], ["guard-vip-budget", "guard-vip-service-0", "guard-vip"]);
    assert!(set.rules.iter().all(|rule| rule.interfaces.as_ref().is_some_and(|all| all.len() == 2)));
    assert!(set.rules[..6].iter().all(|rule| rule.past_failsafe), "they name who may send");
}

#[test]
fn names_select_nodes() {
    let with = |names: &str| {
        outcome(&format!("{{nodeSelector: {{names: {names}}}, rules: [{{name: a, action: Deny}}]}}")).0
    };
    assert_eq!((with("['node-*']").rules.len(), with("[node-2]").rules.len()), (1, 0));
}

#[test]
fn what_the_cluster_declares_is_known_to_policies() {
    use crate::model::address::Protocol;
    use crate::model::cluster::{Block, Cluster, Node, ObjectName, Pool, Service, ServicePort};
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let service = |name: &str, vip: &str, port: u16, source_ranges| Service {
        name: ObjectName { namespace: None, name: name.to_owned() },
        labels: Default::default(),
        vips: vec![ip(vip)],
        other_addresses: Vec::new(),
        policy: Default::default(),
        class: None,
        ports: vec![ServicePort { port, protocol: Protocol(6) }],
        source_ranges,
    };
    let blocks = vec![Block::new(ip("10.10.50.8"), ip("10.10.50.11")).unwrap()];
    let cluster = Cluster {
        nodes: vec![Node {
            name: "node-1".into(),
            addresses: Vec::new(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
        }],
        pools: vec![Pool { name: "blue".into(), blocks, selector: None, disabled: false }],
        services: vec![
            service("one", "10.10.50.10", 443, vec![]),
            service("two", "10.10.50.11", 443, vec![]),
            service("near", "10.10.50.10", 22, vec!["10.0.0.0/8".parse().unwrap()]),
        ],
        ..Cluster::default()
    };
    let world = world().with_cluster(Some(&cluster));
    let spec = "{nodeSelector: {matchLabels: {zone: a}}, vipGuard: {mode: Enforce, reject: true},
      rules: [{name: a, action: Deny, match: {destination: {pools: [blue]}}}]}";
    let (set, problems) = read(&[source(spec, &[])], &world);
    assert_eq!(problems, []);
    let names: Vec<_> = set.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["a", "guard-vip-service-0", "guard-vip-service-1", "guard-vip"]);
    let nets = |rule: &Rule| rule.destination.as_ref().unwrap().inside.clone().unwrap();
    assert_eq!(nets(&set.rules[0]), ["10.10.50.8/30".parse().unwrap()]);
    assert_eq!((set.rules[1].ports.clone(), nets(&set.rules[1]).len()), (vec![22..=22], 1));
    assert!(set.rules[1].source.is_some() && set.rules[2].source.is_none());
    assert_eq!(nets(&set.rules[2]).len(), 2, "Services that are alike have one rule");
    assert!(set.rules[3].reject && !set.rules[2].reject);
    let elsewhere = "{nodeSelector: {matchLabels: {zone: b}}, rules: [{name: a, action: Deny}]}";
    assert!(read(&[source(elsewhere, &[])], &world).0.rules.is_empty());
    let unknown = "{rules: [{name: a, action: Deny, match: {destination: {pools: [red]}}}]}";
    assert_eq!(read(&[source(unknown, &[])], &world).1[0].reason, Reason::UnknownPool);
}
