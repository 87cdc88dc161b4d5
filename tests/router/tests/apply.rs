//! vyos-sync's whole pipeline against the stand-in router: manifests in, a verified and saved configuration out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use vyos_router::{Fault, FaultKind, Generation, Router, Validity};
use vyos_sync::{
    apply::Failure,
    reconcile::{Again, Error, Outcome},
    vyos::ApiError,
};

mod lab;
use lab::{Lab, NETWORKS, PEERING, VLAN};

#[tokio::test]
async fn every_generation_gets_one_verified_saved_commit_and_then_peace() {
    for generation in [Generation::G0, Generation::G1, Generation::G2, Generation::G3, Generation::Vyconf] {
        let lab = Lab::new(generation).await;
        let mut session = lab.open().await.unwrap();
        let report = lab.pass(&mut session, Again::No).await;
        assert!(matches!(report.outcome, Outcome::Applied(_)), "{generation:?}: {:?}", report.outcome);
        assert!(lab.router.saved().exists(&VLAN), "{generation:?}: saved");
        assert_eq!(lab.router.commits(), 1, "{generation:?}");
        let (before, _) = session.sent();
        let report = lab.pass(&mut session, Again::No).await;
        assert!(matches!(report.outcome, Outcome::InSync), "{generation:?}: {:?}", report.outcome);
        assert_eq!(
            (session.sent().0 - before, lab.router.commits()),
            (1, 1),
            "{generation:?}: one request, no commit"
        );
        // Nothing is left armed: the router does not reboot by itself.
        assert_eq!(lab.router.boots(), 0, "{generation:?}");
        lab.router.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_sent_where_nothing_can_be_armed() {
    let lab = Lab::new(Generation::G0).await;
    lab.router_object("the-api-key", &format!("spkiPins: ['{}']", lab.router.spki_pin()), "Forbidden");
    let report = lab.apply().await;
    assert!(matches!(&report.outcome, Outcome::Failed(Failure::NotSent(why)) if why.contains("deadMan")));
    assert_eq!(lab.router.commits(), 0);
}

#[tokio::test]
async fn wrong_keys_and_certificates_are_named() {
    let lab = Lab::new(Generation::G1).await;
    let pin = format!("spkiPins: ['{}']", lab.router.spki_pin());
    lab.router_object("another-key", &pin, "Reboot");
    let error = lab.open().await.unwrap_err();
    assert!(matches!(&error, Error::Api { source: ApiError::Unauthorized, .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("another-key"));
    lab.router_object("the-api-key", &format!("spkiPins: ['{}']", "A".repeat(43) + "="), "Reboot");
    let error = lab.open().await.unwrap_err();
    assert!(matches!(&error, Error::Api { source: ApiError::Untrusted { .. }, .. }), "{error:?}");

    let expired = Router::builder().validity(Validity::Expired).key("the-api-key").spawn().await.unwrap();
    let lab = Lab::with(expired);
    let file = lab.folder.path().join("ca.pem");
    std::fs::write(&file, lab.router.ca_pem()).unwrap();
    lab.router_object("the-api-key", &format!("caFile: '{}'", file.display()), "Reboot");
    let error = lab.open().await.unwrap_err();
    assert!(
        matches!(&error, Error::Api { source: ApiError::Untrusted { why }, .. } if why.contains("xpired")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_half_applied_change_is_undone_and_not_sent_again() {
    let lab = Lab::new(Generation::G1).await;
    let mut session = lab.open().await.unwrap();
    let before = lab.router.running();
    lab.router.add_fault(Fault::once(FaultKind::HalfApply));
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Failed(Failure::Refused(_))), "{:?}", report.outcome);
    assert_eq!(lab.router.running().weight(), before.weight());
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Quarantined(_)), "{:?}", report.outcome);
    let report = lab.pass(&mut session, Again::Yes).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "a person may try again: {:?}", report.outcome);
}

#[tokio::test]
async fn drift_is_repaired_without_a_fight_and_strangers_are_left_alone() {
    let lab = Lab::new(Generation::G1).await;
    let mut session = lab.open().await.unwrap();
    lab.pass(&mut session, Again::No).await;
    let edit = "delete interfaces ethernet eth1 vif 40 address\nset interfaces ethernet eth1 vif 99 address 10.99.0.1/24";
    lab.router.edit_lines(edit).await.unwrap();
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    let (running, theirs) =
        (lab.router.running(), ["interfaces", "ethernet", "eth1", "vif", "99", "address"]);
    assert!(running.exists(&theirs));
    assert_eq!(running.at(&VLAN).unwrap().text("address"), Some("10.10.40.1/24"));
    lab.router.edit_lines("delete interfaces ethernet eth1 vif 40 address").await.unwrap();
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Waiting(_)), "{:?}", report.outcome);
}

#[tokio::test]
async fn a_lost_ledger_and_an_unreadable_manifest_take_nothing_away() {
    let lab = Lab::new(Generation::G1).await;
    lab.apply().await;
    std::fs::remove_file(lab.folder.path().join("state/gw/ledger.json")).unwrap();
    assert!(matches!(lab.apply().await.outcome, Outcome::InSync));
    lab.say("networks.yaml", "kind: [");
    lab.apply().await;
    assert!(lab.router.running().exists(&VLAN), "an unreadable manifest prunes nothing");
    let one = NETWORKS.split("---").nth(1).unwrap();
    lab.say("networks.yaml", one);
    let report = lab.apply().await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    assert!(!lab.router.running().exists(&VLAN), "what is no longer wanted goes");
}

#[tokio::test]
async fn a_refused_object_keeps_its_own_and_the_others_removals_go_on() {
    let lab = Lab::new(Generation::G1).await;
    lab.apply().await;
    let (one, two) = NETWORKS.split_once("---").unwrap();
    let theirs = |running: &vyos_sync::config::Tree, vlan: &str| {
        running.exists(&["interfaces", "ethernet", "eth1", "vif", vlan])
    };
    lab.say("networks.yaml", &one.replace("vlan: 40", "vlan: 4095"));
    let report = lab.apply().await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    let running = lab.router.running();
    assert!(theirs(&running, "40"), "the refused one keeps what it has");
    assert!(!theirs(&running, "50"), "the other one is gone from the source, so it goes");
    let last = vyos_sync::status::Statuses::default();
    let said = vyos_sync::status::statuses(Ok(&report), None, jiff::Timestamp::UNIX_EPOCH, &last);
    let condition = said.router.conditions.iter().find(|c| c.type_ == "PruneAllowed").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "ObjectsRefused"));
    assert!(condition.message.contains("RouterNetwork lab/a"), "{}", condition.message);
    lab.say("networks.yaml", two);
    lab.apply().await;
    let running = lab.router.running();
    assert!(!theirs(&running, "40") && theirs(&running, "50"), "once nothing is wrong the rest goes too");
}

#[tokio::test]
async fn passwords_reach_the_router_and_no_record() {
    let lab = Lab::new(Generation::G1).await;
    lab.say("peering.yaml", PEERING);
    let report = lab.apply().await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    let password = ["protocols", "bgp", "neighbor", "10.10.40.10", "password", "correct-horse"];
    assert!(lab.router.running().exists(&password));
    let written = lab.written();
    assert!(written.contains("password '[hidden]'"), "{written}");
    assert!(!written.contains("correct-horse") && !written.contains("the-api-key"));
    let shown = report.plan.shown();
    assert!(!shown.to_string().contains("correct-horse"));
    assert!(!serde_json::to_string(&shown).unwrap().contains("correct-horse"));
}
