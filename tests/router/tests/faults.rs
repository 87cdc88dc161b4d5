//! Each way to misbehave, end to end: vyos-sync ends up in the state that it wanted or in the one before, says which,
//! leaves nothing armed, and gets there once the trouble is over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use futures::future::join_all;
use vyos_router::{Fault, FaultKind, Generation, Router};
use vyos_sync::apply::Failure;
use vyos_sync::config::Tree;
use vyos_sync::pass::{Again, Error, Outcome};
use vyos_sync::reconcile::Session;
use vyos_sync::vyos::ApiError;

mod lab;
use lab::{Lab, VLAN};

const ALL: [Generation; 4] = [Generation::G0, Generation::G1, Generation::G2, Generation::G3];
const CONFIRMED: [Generation; 3] = [Generation::G1, Generation::G2, Generation::G3];

async fn lab(generation: Generation) -> (Lab, Session) {
    lab_with(generation, &Tree::new()).await
}

/// A router that boots with this.
async fn lab_with(generation: Generation, configuration: &Tree) -> (Lab, Session) {
    let router = Router::builder().generation(generation).key("the-api-key").minute(Duration::from_secs(5));
    let router = router.boot_time(Duration::from_secs(1)).configuration(configuration.clone());
    let lab = Lab::with(router.spawn().await.unwrap());
    let pin = format!("spkiPins: ['{}']", lab.router.spki_pin());
    lab.router_object("the-api-key", &pin, "Reboot, confirmMinutes: 1");
    let session = lab.open_hasty().await.unwrap();
    (lab, session)
}

/// What somebody else has on the router.
fn theirs() -> Tree {
    let mut tree = Tree::new();
    for (path, value) in [
        ("interfaces ethernet eth3 description", "theirs"),
        ("system host-name", "theirs"),
        ("protocols static route 10.0.0.0/8 description", "theirs"),
    ] {
        tree.set(&path.parse().unwrap(), value).unwrap();
    }
    tree
}

/// The trouble is over: a person's try brings all that is wanted, saved, and nothing stays armed.
async fn ends_well(lab: Lab, mut session: Session) {
    lab.router.clear_faults();
    let report = lab.pass(&mut session, Again::Yes).await;
    let done = matches!(report.outcome, Outcome::Applied(_) | Outcome::InSync);
    assert!(done, "{:?}", report.outcome);
    assert!(lab.router.running().exists(&VLAN) && lab.router.saved().exists(&VLAN));
    let boots = lab.router.boots();
    // A minute of this router is five seconds: what is still armed would strike by then.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(lab.router.boots(), boots, "nothing is armed any more");
    assert!(lab.router.running().exists(&VLAN));
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::InSync), "{:?}", report.outcome);
    lab.router.stop().await;
}

#[tokio::test]
async fn a_passing_trouble_is_waited_out() {
    let slow = FaultKind::Slow { millis: 400 };
    let kinds =
        [FaultKind::Refuse, FaultKind::Busy, FaultKind::Html, FaultKind::Error500, FaultKind::Hang, slow];
    join_all(kinds.map(|kind| async move {
        let (lab, mut session) = lab(Generation::G1).await;
        lab.router.add_fault(match kind {
            FaultKind::Slow { .. } => Fault::lasting(kind),
            _ => Fault::once(kind),
        });
        let report = lab.pass(&mut session, Again::No).await;
        assert!(matches!(report.outcome, Outcome::Applied(_)), "{kind:?}: {:?}", report.outcome);
        assert!(lab.router.saved().exists(&VLAN), "{kind:?}");
        ends_well(lab, session).await;
    }))
    .await;
}

#[tokio::test]
async fn a_router_that_goes_on_refusing_is_not_changed_and_may_be_tried_again() {
    join_all([FaultKind::Refuse, FaultKind::Busy].map(|kind| async move {
        let (lab, mut session) = lab(Generation::G1).await;
        lab.router.add_fault(Fault::lasting(kind));
        let report = lab.pass(&mut session, Again::No).await;
        assert!(
            matches!(report.outcome, Outcome::Failed(Failure::NotSent(_))),
            "{kind:?}: {:?}",
            report.outcome
        );
        assert!(!lab.router.running().exists(&VLAN), "{kind:?}");
        ends_well(lab, session).await;
    }))
    .await;
}

#[tokio::test]
async fn a_router_that_cannot_be_read_is_named_and_left_alone() {
    let slow = FaultKind::Slow { millis: 1_500 };
    let kinds = [
        (FaultKind::Html, "Away"),
        (FaultKind::Error500, "Internal"),
        (FaultKind::Hang, "AnswerLost"),
        (slow, "AnswerLost"),
    ];
    join_all(kinds.map(|(kind, reason)| async move {
        let (lab, mut session) = lab(Generation::G1).await;
        lab.router.add_fault(Fault::lasting(kind));
        let error = lab.try_pass(&mut session, Again::No).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{kind:?}: {error:?}");
        assert!(matches!(&error, Error::Api { source, .. } if !matches!(source, ApiError::Refused { .. })));
        assert_eq!(lab.router.commits(), 0, "{kind:?}");
        ends_well(lab, session).await;
    }))
    .await;
}

#[tokio::test]
async fn a_lost_reply_is_looked_up_and_never_sent_twice() {
    join_all(CONFIRMED.map(|generation| async move {
        let (lab, mut session) = lab(generation).await;
        lab.router.add_fault(Fault { kind: FaultKind::DropReply, times: Some(2) });
        let report = lab.pass(&mut session, Again::No).await;
        assert!(matches!(report.outcome, Outcome::Applied(_)), "{generation:?}: {:?}", report.outcome);
        assert_eq!(lab.router.commits(), 1, "{generation:?}");
        ends_well(lab, session).await;
    }))
    .await;
}

#[tokio::test]
async fn a_commit_that_does_not_answer_in_time_is_looked_up() {
    let (lab, mut session) = lab(Generation::G1).await;
    // The router waits longer for the confirm than we for the answer.
    let pin = format!("spkiPins: ['{}']", lab.router.spki_pin());
    lab.router_object("the-api-key", &pin, "Reboot, confirmMinutes: 10");
    lab.router.add_fault(Fault::once(FaultKind::HangChange));
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    assert_eq!(lab.router.commits(), 1);
    ends_well(lab, session).await;
}

#[tokio::test]
async fn a_half_applied_commit_is_taken_back() {
    join_all(ALL.map(|generation| async move {
        let (lab, mut session) = lab(generation).await;
        let before = lab.router.running().weight();
        lab.router.add_fault(Fault::once(FaultKind::HalfApply));
        let report = lab.pass(&mut session, Again::No).await;
        assert!(
            matches!(report.outcome, Outcome::Failed(Failure::Refused(_))),
            "{generation:?}: {:?}",
            report.outcome
        );
        assert_eq!(lab.router.running().weight(), before, "{generation:?}");
        ends_well(lab, session).await;
    }))
    .await;
}

/// The way to the router is cut by the change, or the router restarts with it: it comes back as it was, by itself.
#[tokio::test]
async fn a_change_that_cuts_the_way_or_restarts_the_router_is_gone_and_held_back() {
    let each = [FaultKind::LoseLink, FaultKind::Reboot].into_iter();
    let each = each.flat_map(|kind| ALL.map(|generation| (kind, generation)));
    join_all(each.map(|(kind, generation)| async move {
        let (lab, mut session) = lab(generation).await;
        lab.router.add_fault(Fault::once(kind));
        let report = lab.pass(&mut session, Again::No).await;
        assert!(
            matches!(report.outcome, Outcome::Failed(Failure::RolledBack(_))),
            "{kind:?} {generation:?}: {:?}",
            report.outcome
        );
        assert!(!lab.router.running().exists(&VLAN), "{kind:?} {generation:?}");
        let report = lab.pass(&mut session, Again::No).await;
        assert!(
            matches!(report.outcome, Outcome::Quarantined(_)),
            "{kind:?} {generation:?}: {:?}",
            report.outcome
        );
        ends_well(lab, session).await;
    }))
    .await;
}

#[tokio::test]
async fn a_probe_that_falls_silent_undoes_the_change() {
    let (lab, _) = lab(Generation::G1).await;
    let router = std::fs::read_to_string(lab.folder.path().join("source/router.yaml")).unwrap();
    // Nobody may listen there: port 1 of this host.
    let probes = "  probes: [{name: web, tcp: '127.0.0.1:1', timeoutSeconds: 1}]\n";
    lab.say("router.yaml", &format!("{router}{probes}"));
    let mut session = lab.open_hasty().await.unwrap();
    let report = lab.pass(&mut session, Again::No).await;
    let Outcome::Failed(Failure::RolledBack(why)) = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(why.contains("probe `web`"), "{why}");
    assert!(!lab.router.running().exists(&VLAN));
    lab.say("router.yaml", &router);
    let session = lab.open_hasty().await.unwrap();
    ends_well(lab, session).await;
}

/// The process dies after any number of answers of the router; the next one takes it up from there.
#[tokio::test]
async fn a_process_that_dies_at_any_request_is_taken_up_again() {
    let each = [Generation::G0, Generation::G1, Generation::G2].into_iter();
    let each = each.flat_map(|generation| (1..10).map(move |requests| (generation, requests)));
    join_all(each.map(|(generation, requests)| async move {
        let (lab, mut session) = lab_with(generation, &theirs()).await;
        let before = lab.router.running();
        let answered = lab.router.journal().len() + requests;
        let dies = async {
            while lab.router.journal().len() < answered {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let died = tokio::select! {
            _ = lab.pass(&mut session, Again::No) => false,
            () = dies => true,
        };
        drop(session);
        assert!(died || requests > 4, "{generation:?} {requests}: a pass has more requests");
        let mut session = lab.open_hasty().await.unwrap();
        // What the dead process had armed may strike meanwhile, so one pass may not be enough.
        let mut outcomes = Vec::new();
        for _ in 0..6 {
            match lab.try_pass(&mut session, Again::Yes).await {
                Ok(report) if matches!(report.outcome, Outcome::InSync) => break,
                Ok(report) => outcomes.push(report.outcome.to_string()),
                Err(error) => outcomes.push(format!("{error:?}")),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let running = lab.router.running();
        assert!(running.exists(&VLAN), "{generation:?} {requests}: {outcomes:#?}");
        let mut others = running.clone();
        for ours in ["interfaces ethernet eth1", "protocols bgp"] {
            others.remove(&ours.parse().unwrap());
        }
        assert_eq!(
            others.leaves(),
            before.leaves(),
            "{generation:?} {requests}: what is not ours is as it was"
        );
        ends_well(lab, session).await;
    }))
    .await;
}
