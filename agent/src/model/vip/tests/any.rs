//! What holds of any evidence.

use proptest::prelude::*;

use super::*;

/// Any evidence at all, sensible or not.
fn any_evidence() -> impl Strategy<Value = Evidence> {
    let state =
        prop_oneof![Just(EndpointState::Ready), Just(EndpointState::Draining), Just(EndpointState::Unready)];
    let policy = prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)];
    let answer = prop_oneof![
        Just(Answer::Answered(Duration::ZERO)),
        Just(Answer::Refused),
        Just(Answer::Silent),
        Just(Answer::NoRoute),
        Just(Answer::Unclear),
    ];
    let objects = (policy, proptest::collection::vec((1..5_usize, state), 0..4), any::<[bool; 6]>());
    let node = (any::<[bool; 5]>(), proptest::option::of(answer), any::<[u8; 5]>());
    let paths = proptest::collection::vec((1..5_usize, any::<[bool; 4]>()), 0..5);
    (proptest::option::of(objects), node, any::<[bool; 4]>(), proptest::option::of(paths), 0..100_i64)
        .prop_map(|(objects, (wire, answer, counts), others, paths, age)| {
            let mut evidence = healthy();
            evidence.cluster = objects.map(|(policy, endpoints, lacks)| {
                let mut cluster = cluster(policy, &endpoints);
                let [endpoints, pools, advertisements, speakers, nodes, services] = lacks;
                if endpoints {
                    cluster.endpoints = None
                }
                if pools {
                    cluster.pools.clear()
                }
                if advertisements {
                    cluster.advertisements.clear()
                }
                if speakers {
                    cluster.speakers.clear()
                }
                if nodes {
                    cluster.nodes.clear()
                }
                if services {
                    cluster.services.clear()
                }
                Arc::new(cluster)
            });
            let [heard, established, complete, announced, looped] = wire;
            if !announced {
                silent(&mut evidence.own)
            }
            for session in evidence.own.sessions.iter_mut().flatten() {
                (session.established, session.complete) = (established, complete);
            }
            if !heard {
                evidence.own.sessions = None
            }
            let facts = own(&mut evidence);
            facts.answers = answer.into_iter().map(|answer| (port(443), answer)).collect();
            facts.traffic.vlans = BTreeMap::from([(50, u64::from(counts[0] % 8))]);
            facts.traffic.tcp_egress = u64::from(counts[1] % 2);
            facts.strays.push(stray(u64::from(counts[2]), if looped { u64::from(counts[3]) } else { 0 }));
            if !others[0] {
                evidence.others.clear()
            }
            if others[1] {
                evidence.others.iter_mut().for_each(silent)
            }
            evidence.routers.clear();
            if let Some(paths) = paths {
                let paths = paths.into_iter().map(|(node, [valid, best, multipath, stale])| Path {
                    next_hop: node_address(node),
                    valid,
                    best,
                    multipath,
                    stale,
                });
                let mut seen = view(paths.collect());
                seen.observed_at = wall() - jiff::SignedDuration::from_secs(age);
                if others[2] {
                    seen.prefixes = None
                }
                if others[3] {
                    seen.truncated = true
                }
                evidence.routers.push(Arc::new(seen));
            }
            evidence.given = vec![ip(VIP)];
            evidence
        })
}

proptest! {
    #[test]
    fn every_row_is_of_the_closed_set_and_explains_itself(evidence in any_evidence()) {
        for row in judge(&evidence) {
            let mut named = BTreeSet::new();
            for finding in &row.findings {
                prop_assert!(VipState::ALL.contains(&finding.state) && finding.state != VipState::Ok);
                prop_assert!(named.insert(finding.state), "one name once");
                prop_assert!(!finding.basis.is_empty(), "{finding:?}");
                prop_assert!(finding.what.len() > 20 && finding.action.len() > 20, "{finding:?}");
            }
            prop_assert_eq!(&judge_one(&evidence, row.vip), &row, "asked alone or with the others");
        }
    }

    #[test]
    fn what_is_concluded_rests_on_what_is_known(evidence in any_evidence()) {
        let row = judge_one(&evidence, ip(VIP));
        for finding in &row.findings {
            for basis in &finding.basis {
                match basis {
                    Basis::Objects => prop_assert!(evidence.cluster.is_some(), "{finding:?}"),
                    Basis::Wire => prop_assert!(evidence.own.sessions.is_some(), "{finding:?}"),
                    Basis::Router(_) => prop_assert!(evidence.fresh_routers().count() > 0, "{finding:?}"),
                    Basis::Nodes(count) => prop_assert!(*count <= evidence.others.len(), "{finding:?}"),
                    Basis::Probe => prop_assert!(!row.answers.is_empty(), "{finding:?}"),
                    Basis::Packets | Basis::Link => {}
                }
            }
        }
    }

    #[test]
    fn one_cause_has_one_name(evidence in any_evidence()) {
        let states = states(&evidence);
        let both = |a, b| states.contains(&a) && states.contains(&b);
        prop_assert!(!both(VipState::AdvertisedByNobody, VipState::NotAdvertised));
        prop_assert!(!both(VipState::WithoutEndpoint, VipState::BlackHoled));
        prop_assert!(!both(VipState::BlackHoled, VipState::NotAnswering));
        prop_assert!(!both(VipState::AdvertisedByNobody, VipState::WithoutEndpoint));
    }

    #[test]
    fn every_broken_way_says_where(evidence in any_evidence()) {
        let explanation = explain(&evidence, ip(VIP));
        let losing = explanation.row.findings.iter().any(|finding| finding.state.loses_packets());
        prop_assert!(!losing || explanation.breaks_at().is_some(), "{explanation:#?}");
    }
}
