//! BGP: messages of a peer, and segments of whoever likes to send some.

use std::net::SocketAddr;
use std::time::Duration;

use weir_agent::model::address::{Direction, IfIndex};
use weir_agent::model::bgp::wire::{Encoding, Kind, Reading, decode};
use weir_agent::model::bgp::{Observer, Segment};

/// Octets are read as the body of a message or refused, whatever was agreed on: the first two octets tell kind and agreement.
pub(crate) fn message(octets: &[u8]) {
    let Some(([kind, agreed], body)) = octets.split_first_chunk() else { return };
    let kinds = [Kind::Open, Kind::Update, Kind::Notification, Kind::Keepalive, Kind::RouteRefresh];
    let encoding = |number: u8| [Encoding::Unknown, Encoding::Yes, Encoding::No][usize::from(number % 3)];
    let reading = Reading {
        four_octet: encoding(*agreed),
        add_path_v4: encoding(*agreed / 3),
        add_path_v6: encoding(*agreed / 9),
    };
    let _ = decode(kinds[usize::from(*kind) % kinds.len()], body, reading);
}

/// Segments of a connection: the observer goes on, nothing that is due is left, and what it knows can be written down and read
/// again. A step is flags, direction and options, sequence and acknowledgement number (small, so that they meet), length, payload.
pub(crate) fn stream(octets: &[u8]) {
    let mut observer = Observer::new([179]);
    let (mut rest, mut now) = (octets, Duration::from_secs(100));
    let local = SocketAddr::from(([10, 0, 0, 2], 40_000));
    let peer = SocketAddr::from(([10, 0, 0, 1], 179));
    let interface = IfIndex::try_from(2).unwrap();
    while let Some(([flags, kind, sequence, acknowledgement, length], more)) = rest.split_first_chunk() {
        let (payload, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        now += Duration::from_millis(u64::from(*kind) * 37);
        let out = kind & 1 == 0;
        let (source, destination) = if out { (local, peer) } else { (peer, local) };
        observer.see(&Segment {
            at: now,
            interface,
            direction: if out { Direction::Egress } else { Direction::Ingress },
            source,
            destination,
            sequence: u32::from(*sequence),
            acknowledgement: u32::from(*acknowledgement),
            flags: *flags,
            authenticated: kind & 2 != 0,
            length: payload.len() as u32,
            offset: 0,
            payload,
        });
        observer.pass(now);
        assert!(observer.deadline().is_none_or(|at| at > now), "something that is due is left");
    }
    let text = serde_json::to_string(&observer).unwrap();
    let mut again: Observer = serde_json::from_str(&text).unwrap();
    assert_eq!(again.view().sessions, observer.view().sessions);
}
