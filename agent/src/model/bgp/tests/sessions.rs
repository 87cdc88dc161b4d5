//! Sessions that come up, tell routes, and are joined at any moment.

use std::time::Duration;

use super::build::{Dialogue, IPV4, IPV6, attribute, end_of_rib, keepalive, message, open, update, usual};
use crate::model::bgp::{ACK, Asn, Event, Family, Hold, Knowledge, Observer, SYN, SessionState, Side, Since};

const VIP: [u8; 5] = [32, 10, 10, 50, 10];

fn told(routes: &[u8]) -> Vec<u8> {
    update(&[], &usual(64513), routes)
}

#[test]
fn a_session_from_its_first_segment_on() {
    let mut it = Dialogue::new();
    it.syn(Side::Local);
    assert_eq!(it.session().state, SessionState::Connect);
    it.connect(Side::Local);
    assert_eq!(it.session().state, SessionState::OpenSent);
    it.send(Side::Local, &open(64513, 90, &[IPV4, IPV6]));
    assert_eq!(it.session().state, SessionState::OpenSent);
    it.send(Side::Peer, &[open(64512, 9, &[IPV4]), keepalive()].concat());
    assert_eq!(it.session().state, SessionState::OpenConfirm);
    it.send(Side::Local, &keepalive());
    let session = it.session();
    assert_eq!((session.state, session.since), (SessionState::Established, Since::Exactly(it.now)));
    assert_eq!((session.local.asn, session.peer.asn), (Some(Asn(64513)), Some(Asn(64512))));
    assert_eq!(session.hold(), Some(Hold::Negotiated(Duration::from_secs(9))), "the lesser of both");
    assert_eq!((session.knowledge, session.established), (Knowledge::Whole, 1));
    assert!(session.advertised.complete && session.received.complete);

    it.send(Side::Local, &[told(&VIP), end_of_rib()].concat());
    it.send(Side::Peer, &told(&[0]));
    let told_at = it.now - Duration::from_millis(1);
    let session = it.session();
    let vip = "10.10.50.10/32".parse().unwrap();
    let route = session.advertised.route(vip).unwrap();
    assert_eq!((route.since, route.updated), (told_at, told_at));
    assert_eq!(session.advertised.end_of_rib.get(&Family::Ipv4), Some(&told_at));
    assert_eq!(session.received.prefixes(Family::Ipv4), 1);
    assert_eq!(it.observer.view().advertised(vip).count(), 1);

    it.send(Side::Local, &update(&VIP, &[], &[]));
    let session = it.session();
    assert_eq!(session.advertised.route(vip), None);
    assert_eq!(session.advertised.withdrawn.values().collect::<Vec<_>>(), [&it.now]);
    assert_eq!((session.advertised.announcements, session.advertised.withdrawals), (1, 1));
}

#[test]
fn the_peer_may_open_the_connection() {
    let mut it = Dialogue::new();
    it.establish(Side::Peer);
    let session = it.session();
    assert_eq!((session.state, session.key.port), (SessionState::Established, 179));
}

#[test]
fn a_join_tells_what_it_does_not_know() {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    it.send(Side::Local, &told(&VIP));
    it.observer = Observer::new([179]);
    it.send(Side::Peer, &keepalive());
    assert!(it.observer.view().sessions.is_empty(), "what only the peer sends could be anybody's");
    it.send(Side::Local, &keepalive());
    it.send(Side::Peer, &keepalive());
    let session = it.session();
    assert_eq!(session.state, SessionState::Established);
    assert_eq!(session.since, Since::Before(it.now));
    assert!(matches!(session.knowledge, Knowledge::Joined { .. }));
    assert!(!session.advertised.complete && session.hold_time.is_none() && session.local.asn.is_none());
    it.send(Side::Local, &told(&[32, 10, 10, 50, 11]));
    let session = it.session();
    assert_eq!(session.advertised.routes.len(), 1, "only what was told since");
    assert_eq!(session.local.asn, Some(Asn(64513)), "the first AS of its path");
}

#[test]
fn a_join_learns_the_hold_time_from_keepalives() {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    it.observer = Observer::new([179]);
    for n in 0..6u64 {
        it.pass(Duration::from_millis(2990 + 7 * (n % 3)));
        it.send(Side::Local, &keepalive());
        it.send(Side::Peer, &keepalive());
    }
    let session = it.session();
    assert_eq!(session.hold(), Some(Hold::Estimated(Duration::from_secs(9))));
    let margin = session.hold_margin().unwrap();
    assert!((0.6..0.7).contains(&margin), "{margin}");
    let jitter = session.receiving.jitter.unwrap();
    assert!(jitter > Duration::ZERO && jitter < Duration::from_millis(10), "{jitter:?}");
}

#[test]
fn an_agent_that_comes_back_goes_on_where_the_last_one_was() {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    it.send(Side::Local, &told(&VIP));
    let half = told(&[32, 10, 10, 50, 11]);
    it.send(Side::Local, &half[..30]);
    let before = it.session();
    let saved = serde_json::to_string(&it.observer).unwrap();
    it.observer = serde_json::from_str(&saved).unwrap();
    assert_eq!(it.session(), before);
    it.send(Side::Local, &half[30..]);
    let session = it.session();
    assert_eq!((session.advertised.routes.len(), session.advertised.complete), (2, true));
    // With octets missing between the two, it says so.
    let saved = serde_json::to_string(&it.observer).unwrap();
    it.unseen(Side::Local, &told(&[32, 10, 10, 50, 12]));
    it.observer = serde_json::from_str(&saved).unwrap();
    it.send(Side::Local, &keepalive());
    it.send(Side::Peer, &keepalive());
    let session = it.session();
    assert!(matches!(session.knowledge, Knowledge::Gap { .. }));
    assert_eq!((session.state, session.advertised.complete), (SessionState::Established, false));
    assert!(session.received.complete, "nothing is missing from the peer");
}

#[test]
fn what_is_missing_is_noticed_and_read_on() {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    it.unseen(Side::Peer, &told(&[8, 10]));
    it.send(Side::Peer, &told(&[8, 11]));
    assert_eq!(it.session().received.routes.len(), 0, "it may still come");
    it.send(Side::Local, &keepalive());
    let session = it.session();
    assert_eq!(session.received.routes.len(), 1);
    assert!(matches!(session.knowledge, Knowledge::Gap { .. }) && !session.received.complete);
    assert_eq!(session.receiving.missing_bytes, told(&[8, 10]).len() as u64);
    assert_eq!(session.receiving.resyncs, 1);
    // The next session is whole again.
    it.fin(Side::Peer);
    it.anew();
    it.establish(Side::Local);
    assert!(it.session().received.complete);
}

#[test]
fn a_long_segment_in_pieces() {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    let octets: Vec<u8> =
        (0..1000u16).flat_map(|n| told(&[32, 10, n.to_be_bytes()[0], n.to_be_bytes()[1], 1])).collect();
    let length = octets.len() as u32;
    for (n, chunk) in octets.chunks(4096).enumerate() {
        it.stray(Side::Local, ACK, chunk, |segment| {
            (segment.length, segment.offset) = (length, n as u32 * 4096);
        });
    }
    assert_eq!(it.session().advertised.routes.len(), 1000);
}

#[test]
fn strangers_change_nothing() {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    let before = it.session();
    let (bad, routes) = (super::build::notification(6, 2, &[]), told(&[8, 66]));
    for far in [1u32 << 23, 1 << 29, 1 << 31, 3 << 30] {
        for payload in [&bad[..], &routes, &keepalive()] {
            it.stray(Side::Peer, ACK, payload, |segment| {
                segment.sequence = segment.sequence.wrapping_add(far);
                segment.acknowledgement = segment.acknowledgement.wrapping_add(far);
            });
        }
        it.stray(Side::Peer, super::super::RST, &[], |segment| {
            segment.sequence = segment.sequence.wrapping_add(far)
        });
        it.stray(Side::Peer, super::super::FIN | ACK, &[], |segment| {
            segment.sequence = segment.sequence.wrapping_add(far)
        });
        it.stray(Side::Peer, SYN, &[], |segment| segment.sequence = far);
        it.stray(Side::Local, ACK, &[], |_| {});
    }
    // One octet ahead is no better than a gigabyte.
    it.stray(Side::Peer, super::super::RST, &[], |segment| {
        segment.sequence = segment.sequence.wrapping_add(1)
    });
    let after = it.session();
    assert_eq!((after.state, after.since, &after.drops), (before.state, before.since, &before.drops));
    assert_eq!((&after.received, after.knowledge), (&before.received, Knowledge::Whole));
    it.send(Side::Peer, &told(&[8, 10]));
    assert_eq!(it.session().received.routes.len(), 1, "and the session goes on");
}

#[test]
fn floods_leave_no_more_than_their_bound() {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    for n in 0..3_000u32 {
        let source = std::net::SocketAddr::from((std::net::Ipv4Addr::from(0x0b00_0000 + n), 1024));
        it.stray(Side::Peer, SYN, &[], |segment| segment.source = source);
        it.stray(Side::Peer, ACK, &told(&[8, 66]), |segment| segment.source = source);
    }
    assert_eq!(it.observer.view().sessions.len(), 1, "nobody answered them");
    // A listener answers them all, and never hears of them again.
    for n in 0..3_000u32 {
        let source = std::net::SocketAddr::from((std::net::Ipv4Addr::from(0x0c00_0000 + n), 1024));
        it.stray(Side::Peer, SYN, &[], |segment| segment.source = source);
        it.stray(Side::Local, SYN | ACK, &[], |segment| {
            (segment.destination, segment.acknowledgement) =
                (source, segment.acknowledgement.wrapping_add(1));
        });
    }
    it.send(Side::Peer, &keepalive());
    let view = it.observer.view();
    assert!(view.sessions.len() <= 256, "{}", view.sessions.len());
    assert_eq!(view.established().count(), 1);
}

#[test]
fn garbage_is_not_believed() {
    let mut it = Dialogue::new();
    it.connect(Side::Peer);
    it.send(Side::Peer, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n and more of that kind");
    it.send(Side::Local, &[]);
    let session = it.observer.view().sessions.values().next().map(|it| it.as_ref().clone()).unwrap();
    assert_eq!(session.state, SessionState::OpenSent);
    assert!(session.receiving.garbage_bytes > 30 && session.receiving.resyncs > 0);
    // A broken UPDATE in a good session: what it would have changed is not known.
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    it.send(Side::Peer, &[message(2, &[0, 9, 1, 2]), told(&[8, 10])].concat());
    let session = it.session();
    assert_eq!((session.receiving.malformed, session.received.complete), (1, false));
    assert_eq!((session.received.routes.len(), session.state), (1, SessionState::Established));
    // A faulty attribute takes its routes away, and no more (RFC 7606).
    it.send(Side::Peer, &update(&[], &[usual(1), attribute(0x80, 4, &[1])].concat(), &[8, 10]));
    let session = it.session();
    assert_eq!((session.received.routes.len(), session.receiving.malformed), (0, 2));
}

#[test]
fn convergence_is_from_the_event_to_the_last_update() {
    let mut it = Dialogue::new();
    it.establish(Side::Local);
    for n in 0..5u8 {
        it.pass(Duration::from_millis(100));
        it.send(Side::Local, &told(&[32, 10, 0, 0, n]));
    }
    it.pass(Duration::from_secs(2));
    let up = it.session().convergence.get(&Event::Established).cloned().unwrap();
    assert_eq!(up.times.count(), 1);
    assert!((500..520).contains(&up.last.as_millis()), "{:?}", up.last);
    for _ in 0..7 {
        it.pass(Duration::from_secs(3));
        it.send(Side::Local, &keepalive());
        it.send(Side::Peer, &keepalive());
    }
    it.send(Side::Local, &told(&[32, 10, 0, 1, 1]));
    it.pass(Duration::from_secs(2));
    assert_eq!(it.session().convergence.len(), 1, "a change that follows nothing is nobody's");
    it.observer.link(super::build::interface(), false, it.now);
    it.pass(Duration::from_millis(300));
    it.send(Side::Local, &update(&VIP, &[], &[]));
    it.pass(Duration::from_secs(2));
    assert!(it.session().convergence.contains_key(&Event::Link));
}

#[test]
fn two_connections_at_once_are_one_session() {
    let mut it = Dialogue::new();
    it.connect(Side::Local);
    it.send(Side::Local, &open(64513, 90, &[IPV4]));
    it.anew();
    it.establish(Side::Peer);
    // The first of them is given up (RFC 4271 section 6.8).
    let mut first = Dialogue::new();
    std::mem::swap(&mut first.observer, &mut it.observer);
    first.now = it.now;
    first.unseen(Side::Local, &[]);
    let session = first.session();
    assert_eq!(session.state, SessionState::Established);
    assert!(session.drops.is_empty() && session.last_failure.is_none());
}

proptest::proptest! {
    /// Any segments of one connection, with whole messages among them: the observer goes on, time passes, and what it knows can
    /// be written down and read again.
    #[test]
    fn anything_may_happen(steps in proptest::collection::vec(
        (proptest::prelude::any::<[u8; 4]>(), 0usize..5, proptest::prelude::any::<bool>()), 0..60,
    )) {
        let messages = [
            Vec::new(),
            keepalive(),
            [open(64513, 9, &[IPV4]), keepalive()].concat(),
            told(&VIP),
            super::build::notification(6, 2, &[1, b'x']),
        ];
        let mut it = Dialogue::new();
        for ([flags, near, acknowledged, millis], message, local) in steps {
            let side = if local { Side::Local } else { Side::Peer };
            // Mostly where the stream stands, or near it.
            let offset = if near & 1 == 0 { 0 } else { u32::from(near) };
            it.stray(side, flags | ACK & near, &messages[message], |segment| {
                segment.sequence = segment.sequence.wrapping_add(offset);
                segment.acknowledgement = segment.acknowledgement.wrapping_add(u32::from(acknowledged >> 4));
            });
            if near & 2 == 0 {
                it.unseen(side, &messages[message]);
            }
            it.pass(Duration::from_millis(u64::from(millis) * 50));
            if let Some(deadline) = it.observer.deadline() {
                proptest::prop_assert!(deadline > it.now, "nothing that is due is left");
            }
        }
        let text = serde_json::to_string(&it.observer).unwrap();
        let mut again: Observer = serde_json::from_str(&text).unwrap();
        proptest::prop_assert_eq!(&again.view().sessions, &it.observer.view().sessions);
    }
}
