//! What a pass costs in requests and commits, and what is seen of edits that others make meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use vyos_router::{Fault, FaultKind, Generation};
use vyos_sync::reconcile::{Again, Outcome, Session};

mod lab;
use lab::{Lab, PEERING};

const MORE_PEERS: &str =
    "peers: [{name: node-a, address: 10.10.40.10}, {name: node-b, address: 10.10.40.11}]";

fn peering(peers: &str, password: &str) -> String {
    let text = PEERING.replace("peers: [{name: node-a, address: 10.10.40.10}]", peers);
    assert!(text.contains(peers));
    text.replace("correct-horse", password)
}

/// One pass that must apply something; gives its requests and commits, as the router counts them.
async fn cost(lab: &Lab, session: &mut Session) -> (usize, u32) {
    let (requests, commits) = (lab.router.journal().len(), lab.router.commits());
    let report = lab.pass(session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    (lab.router.journal().len() - requests, lab.router.commits() - commits)
}

#[tokio::test]
async fn one_peer_more_or_less_is_five_requests_and_one_commit() {
    for generation in [Generation::G1, Generation::G2, Generation::G3] {
        let lab = Lab::new(generation).await;
        let one = "peers: [{name: node-a, address: 10.10.40.10}]";
        lab.say("peering.yaml", &peering(one, "correct-horse"));
        let mut session = lab.open().await.unwrap();
        lab.pass(&mut session, Again::No).await;
        for (peers, what) in [(MORE_PEERS, "more"), (one, "less")] {
            lab.say("peering.yaml", &peering(peers, "correct-horse"));
            assert_eq!(cost(&lab, &mut session).await, (5, 1), "{generation:?}: one peer {what}");
        }
        let before = lab.router.journal().len();
        lab.pass(&mut session, Again::No).await;
        assert_eq!(lab.router.journal().len() - before, 1, "{generation:?}: nothing to do is one request");
        lab.router.stop().await;
    }
}

#[tokio::test]
async fn a_change_that_may_reset_a_session_looks_at_the_sessions_too() {
    let lab = Lab::new(Generation::G1).await;
    lab.say("peering.yaml", PEERING);
    let mut session = lab.open().await.unwrap();
    lab.pass(&mut session, Again::No).await;
    lab.say("peering.yaml", &peering(MORE_PEERS, "another"));
    // No session is up on this router, so there is nothing to wait for afterwards.
    assert_eq!(cost(&lab, &mut session).await, (6, 1));
    let asked = lab.router.journal();
    assert!(asked.iter().any(|entry| entry.endpoint == "/show" && entry.call.contains("bgp")), "{asked:?}");
}

#[tokio::test]
async fn a_reboot_as_guard_costs_two_more() {
    let lab = Lab::new(Generation::G0).await;
    lab.say("peering.yaml", PEERING);
    let mut session = lab.open().await.unwrap();
    lab.pass(&mut session, Again::No).await;
    lab.say("peering.yaml", &peering(MORE_PEERS, "correct-horse"));
    assert_eq!(cost(&lab, &mut session).await, (7, 1));
}

/// The view is asked for by itself: a pass that changes nothing stays at its one request.
#[tokio::test]
async fn a_view_is_one_request_a_command_and_no_part_of_a_pass() {
    let lab = Lab::new(Generation::G1).await;
    lab.say("peering.yaml", PEERING);
    let mut session = lab.open().await.unwrap();
    lab.pass(&mut session, Again::No).await;
    let inputs = vyos_sync::gather::folder(&lab.folder.path().join("source"));
    let router = inputs.router("gw").unwrap();
    let before = (lab.router.journal().len(), lab.router.commits());
    session.publish_view(router, &inputs, Duration::from_secs(30)).await.unwrap();
    let asked = lab.router.journal().split_off(before.0);
    assert_eq!((asked.len(), lab.router.commits()), (vyos_sync::view::COMMANDS.len(), before.1));
    assert!(asked.iter().all(|entry| entry.endpoint == "/show"), "{asked:?}");

    let text = std::fs::read_to_string(lab.folder.path().join("state/gw/router-view.json")).unwrap();
    let view: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((view["kind"].as_str(), view["router"].as_str()), (Some("RouterView"), Some("gw")));
    assert_eq!(view["periodSeconds"], 30);
    let gateways = view["addresses"].as_array().unwrap();
    assert!(
        gateways.iter().any(|address| address == "10.10.40.1"),
        "peers dial the networks' gateways: {view}"
    );

    let before = lab.router.journal().len();
    lab.pass(&mut session, Again::No).await;
    assert_eq!(lab.router.journal().len() - before, 1);
}

/// Waits until the router has answered so many requests.
async fn answered(lab: &Lab, requests: usize) {
    while lab.router.journal().len() < requests {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_edit_between_the_reading_and_the_commit_is_planned_in() {
    let lab = Lab::new(Generation::G1).await;
    let mut session = lab.open().await.unwrap();
    // Each answer takes longer than a reading stays fresh: the generation is asked between reading and commit.
    lab.router.add_fault(Fault::lasting(FaultKind::Slow { millis: 2_500 }));
    let before = lab.router.journal().len();
    let edit = async {
        answered(&lab, before + 1).await;
        let theirs = "set interfaces ethernet eth1 vif 40 description theirs\nset interfaces ethernet eth1 vif 40 address 10.10.40.9/24";
        lab.router.edit_lines(theirs).await.unwrap();
        answered(&lab, before + 2).await;
        lab.router.clear_faults();
    };
    let (report, ()) = tokio::join!(lab.pass(&mut session, Again::No), edit);
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    let running = lab.router.running();
    let vlan = running.at(&lab::VLAN).unwrap();
    assert_eq!(vlan.text("description"), Some("theirs"), "what others hold is not overwritten");
    assert_eq!(vlan.text("address"), Some("10.10.40.9/24"));
    assert!(running.exists(&["interfaces", "ethernet", "eth1", "vif", "50"]), "the rest goes on");
    assert!(!report.plan.blocked.is_empty(), "the conflict is named");
    let changes = std::fs::read_dir(lab.folder.path().join("state/gw/changes")).unwrap().count();
    assert_eq!(changes, 2, "the plan that was overtaken is on record");
}
