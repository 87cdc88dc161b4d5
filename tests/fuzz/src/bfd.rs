//! BFD: any course of packets leaves the sessions within their rules.

use std::net::IpAddr;
use std::time::Duration;

use weir_agent::model::bfd::{
    Action, Datagram, Health, Packet, Record, SESSIONS_MAX, SLOT, SessionId, Settings, Speaker,
};

/// The bytes are packets one after the other: milliseconds since the last, time to live, last octet of the sender, length,
/// payload. Whoever is no peer gets no session, every packet is counted once, what is sent can be read, and what is kept for the
/// next agent is read back the same.
pub(crate) fn bfd(bytes: &[u8]) {
    // The first number is that of the first session, so that inputs can name it.
    let mut state = 0x2a_u64 << 32;
    let mut random = move || {
        let next = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::mem::replace(&mut state, next)
    };
    let peers = ["10.0.0.1,echo=50ms", "10.0.0.64/28,passive", "10.0.9.9,multihop,min-ttl=250"];
    let peers = peers.iter().map(|text| text.parse().unwrap()).collect();
    let settings = Settings::new(peers, Duration::ZERO, Health::Ignore).unwrap();
    let (mut now, mut actions, mut total) = (Duration::ZERO, Vec::new(), 0_u64);
    let mut speaker = Speaker::new(&settings, &[], now, &mut random, &mut actions);
    let mut rest = bytes;
    while let [pause, ttl, last, length, tail @ ..] = rest {
        let (payload, next) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = next;
        now += Duration::from_millis((*pause).into());
        speaker.advance(now, &mut random, &mut actions);
        let datagram = Datagram {
            source: IpAddr::from([10, 0, 0, *last]),
            destination: None,
            interface: 2,
            ttl: Some(*ttl),
            multihop: last % 16 == 9,
            payload,
        };
        speaker.receive(&datagram, now, &mut random, &mut actions);
        total += 1;
    }
    let views = speaker.sessions(now);
    let settings_allow = |peer: IpAddr| {
        ["10.0.0.1", "10.0.9.9"].iter().any(|own| peer.to_string() == *own)
            || settings.peers.iter().any(|config| config.address.contains(peer))
    };
    assert!(views.len() <= SESSIONS_MAX && views.iter().all(|view| settings_allow(view.peer)));
    let rejected: u64 = speaker.rejected().0.values().sum();
    assert!(rejected <= total, "{rejected} of {total} packets were refused");
    for action in &actions {
        if let Action::Send(_, octets) = action {
            assert!(Packet::decode(octets).is_ok());
        }
    }
    for id in (0..SESSIONS_MAX).map(SessionId) {
        if let Some(record) = speaker.record(id) {
            let mut place = [0; SLOT];
            record.write(&mut place);
            assert_eq!(Record::read(&place), Some(record));
        }
    }
}
