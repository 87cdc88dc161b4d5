//! How sessions are lost, and what that is called.

use std::time::Duration;

use super::build::{Dialogue, interface, keepalive, notification};
use crate::model::bgp::{Cause, Drop, SessionState, Side};

fn lost(it: &mut Dialogue) -> Drop {
    assert_eq!(it.session().drops.len(), 0, "its cause may still change");
    it.pass(Duration::from_millis(500));
    let session = it.session();
    assert_eq!(session.state, SessionState::Idle);
    assert_eq!(session.drops.values().sum::<u64>(), 1, "{:?}", session.drops);
    let drop = session.last_drop.unwrap();
    assert_eq!(session.drops.get(&drop.cause), Some(&1));
    assert!(session.advertised.routes.is_empty() && !session.advertised.complete);
    drop
}

fn up() -> Dialogue {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    it
}

#[test]
fn notifications_sent_and_received() {
    let words = [&[6, 2, 21][..], b"drained by controller"].concat();
    for (side, cause) in [(Side::Local, Cause::NotificationSent), (Side::Peer, Cause::NotificationReceived)] {
        let mut it = up();
        it.send(side, &notification(6, 9, &words));
        it.fin(side);
        let drop = lost(&mut it);
        assert_eq!((drop.cause, drop.by, drop.code), (cause, Some(side), Some((6, 2))));
        assert!(drop.hard_reset);
        assert_eq!(drop.reason, "cease: administrative shutdown");
        assert_eq!(drop.text.as_deref(), Some("drained by controller"));
    }
}

#[test]
fn closed_and_reset() {
    for side in Side::ALL {
        let mut it = up();
        it.fin(side);
        let drop = lost(&mut it);
        assert_eq!((drop.cause, drop.by), (Cause::Fin, Some(side)));
        let mut it = up();
        it.rst(side);
        let drop = lost(&mut it);
        assert_eq!((drop.cause, drop.by), (Cause::Rst, Some(side)));
    }
}

#[test]
fn the_hold_timer_by_word_and_by_clock() {
    let mut it = up();
    it.pass(Duration::from_millis(9_000));
    it.send(Side::Local, &notification(4, 0, &[]));
    let drop = lost(&mut it);
    assert_eq!(
        (drop.cause, drop.by, drop.reason.as_str()),
        (Cause::HoldTimer, Some(Side::Local), "hold timer expired")
    );

    let mut it = up();
    for _ in 0..4 {
        it.pass(Duration::from_secs(3));
        it.send(Side::Local, &keepalive());
    }
    let drop = lost(&mut it);
    assert_eq!((drop.cause, drop.by), (Cause::HoldTimer, None));
    assert!(drop.reason.contains("nothing from the peer for the hold time of 9 s"), "{}", drop.reason);
}

#[test]
fn deadlines_are_kept_and_margins_told() {
    let mut it = up();
    let session = it.session();
    assert!(session.hold_margin().unwrap() > 0.99);
    while it.session().state == SessionState::Established {
        let deadline = it.observer.deadline().unwrap();
        assert!(
            deadline > it.now && deadline <= it.now + Duration::from_secs(2),
            "{deadline:?} {:?}",
            it.now
        );
        it.pass(deadline - it.now);
        if let Some(margin) = it.session().hold_margin() {
            let silence = (it.now - session.since.at()).as_secs_f64();
            let expected = (1.0 - silence / 9.0).max(0.0);
            assert!((margin - expected).abs() < 0.01, "{margin} {expected}");
        }
    }
    assert_eq!(lost(&mut it).cause, Cause::HoldTimer);
    assert_eq!(it.observer.deadline(), None, "nothing is left to wait for");
}

#[test]
fn the_link_comes_first() {
    let mut it = up();
    it.observer.link(interface(), false, it.now);
    it.pass(Duration::from_secs(9));
    it.send(Side::Local, &notification(4, 0, &[]));
    let drop = lost(&mut it);
    assert_eq!(drop.cause, Cause::Link);
    assert_eq!(drop.reason, "the link was lost; then: hold timer expired");

    // Word of it comes later than what it caused.
    let mut it = up();
    it.fin(Side::Local);
    it.observer.link(interface(), false, it.now);
    assert_eq!(lost(&mut it).cause, Cause::Link);

    // It came back, and too late.
    let mut it = up();
    it.observer.link(interface(), false, it.now);
    it.observer.link(interface(), true, it.now + Duration::from_secs(8));
    it.pass(Duration::from_secs(13));
    assert_eq!(lost(&mut it).cause, Cause::Link);

    // It came back in time, and the session was lost for another reason.
    let mut it = up();
    it.observer.link(interface(), false, it.now);
    it.observer.link(interface(), true, it.now + Duration::from_secs(1));
    it.pass(Duration::from_secs(2));
    it.send(Side::Peer, &keepalive());
    it.fin(Side::Peer);
    assert_eq!(lost(&mut it).cause, Cause::Fin);
}

#[test]
fn a_new_connection_in_place_of_one_that_nobody_ended() {
    let mut it = up();
    it.anew();
    it.establish(Side::Peer);
    let session = it.session();
    assert_eq!((session.state, session.established), (SessionState::Established, 2));
    assert_eq!(session.drops.into_iter().collect::<Vec<_>>(), [(Cause::Replaced, 1)]);
}

#[test]
fn attempts_that_fail_are_told_and_not_counted_as_losses() {
    let mut it = Dialogue::new();
    it.syn(Side::Local);
    it.stray(Side::Peer, super::super::RST | super::super::ACK, &[], |segment| {
        segment.acknowledgement = segment.acknowledgement.wrapping_add(1);
    });
    let session = it.session();
    assert_eq!(session.state, SessionState::Idle);
    assert!(session.last_failure.unwrap().reason.contains("refused"));
    it.anew();
    it.connect(Side::Local);
    it.send(Side::Local, &super::build::open(64513, 9, &[]));
    it.send(Side::Peer, &notification(2, 2, &[]));
    let session = it.session();
    assert_eq!(session.last_failure.unwrap().reason, "OPEN message error: bad peer AS");
    assert!(session.drops.is_empty() && session.last_drop.is_none());
}

#[test]
fn two_passwords() {
    let mut it = Dialogue::new();
    it.md5 = true;
    for n in 0..3u64 {
        assert!(n == 0 || !it.session().password_suspect);
        it.syn(Side::Local);
        it.pass(Duration::from_secs(1 << n));
    }
    assert!(it.session().password_suspect);
    it.anew();
    it.establish(Side::Local);
    let session = it.session();
    assert!(!session.password_suspect && session.authenticated);
}
