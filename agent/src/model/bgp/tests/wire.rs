//! Messages: what they say, and what becomes of broken ones.

use std::time::Duration;

use proptest::prelude::*;

use super::build::{attribute, end_of_rib, message, notification, open, update, usual};
use crate::model::bgp::wire::{
    Encoding, HEADER, Header, Kind, LONGEST, LONGEST_EXTENDED, Malformed, Message, NoHeader, Reading,
    RefreshStep, Update, decode, describe,
};
use crate::model::bgp::{AddPath, Family, Origin, PathSegment, RouteKey};

fn read(octets: &[u8], reading: Reading) -> Result<Message, Malformed> {
    let header = Header::read(octets.first_chunk().unwrap(), LONGEST_EXTENDED).unwrap();
    assert_eq!(header.length, octets.len());
    decode(header.kind, &octets[HEADER..], reading)
}

fn known() -> Reading {
    Reading { four_octet: Encoding::Yes, add_path_v4: Encoding::No, add_path_v6: Encoding::No }
}

fn updated(octets: &[u8]) -> Update {
    match read(octets, known()) {
        Ok(Message::Update(update)) => update,
        other => panic!("{other:?}"),
    }
}

fn key(prefix: &str, path: Option<u32>) -> RouteKey {
    RouteKey { prefix: prefix.parse().unwrap(), path }
}

#[test]
fn an_open_tells_what_the_speaker_can_do() {
    let capabilities: &[super::build::Capability<'_>] = &[
        (1, &[0, 1, 0, 1]),
        (1, &[0, 2, 0, 1]),
        (1, &[0, 1, 0, 128]),
        (2, &[]),
        (6, &[]),
        (64, &[0xc0, 120, 0, 1, 1, 0x80]),
        (69, &[0, 1, 1, 3, 0, 2, 1, 9]),
        (70, &[]),
        (73, &[2, b'n', b'1', 3, b'l', b'a', b'\x07']),
        (99, &[1, 2, 3]),
    ];
    let Ok(Message::Open(open)) = read(&open(4_200_000_001, 90, capabilities), known()) else { panic!() };
    assert_eq!((open.asn, open.hold_time), (4_200_000_001, Duration::from_secs(90)));
    let told = open.capabilities;
    assert_eq!(told.families, [Family::Ipv4, Family::Ipv6]);
    assert_eq!(told.other_families, [(1, 128)]);
    assert!(told.route_refresh && told.extended_message && told.enhanced_route_refresh);
    let restart = told.graceful_restart.unwrap();
    assert!(restart.restarted && restart.notification);
    assert_eq!(restart.restart_time, Duration::from_secs(120));
    assert_eq!(told.add_path, [(Family::Ipv4, AddPath::Both)]);
    assert_eq!(told.host_name.as_deref(), Some("n1.la"), "control characters are left out");
    assert_eq!(told.unknown, [99]);
}

#[test]
fn an_open_with_long_parameters_is_read_too() {
    // RFC 9072: 255, 255, then a length of two octets; parameters have lengths of two octets.
    let capability = [65, 4, 0, 0, 0xfc, 1];
    let mut body = vec![4, 0xfc, 1, 0, 9, 10, 0, 0, 1, 255, 255, 0, 9, 2, 0, 6];
    body.extend(capability);
    let Ok(Message::Open(open)) = read(&message(1, &body), known()) else { panic!() };
    assert_eq!((open.asn, open.capabilities.four_octet_asn), (64513, Some(64513)));
}

#[test]
fn opens_that_no_speaker_would_take_are_refused() {
    let body = |version: u8, asn: u16, hold: u16| {
        let mut body = vec![version];
        body.extend(asn.to_be_bytes());
        body.extend(hold.to_be_bytes());
        body.extend([10, 0, 0, 1, 0]);
        message(1, &body)
    };
    assert!(read(&body(4, 1, 3), known()).is_ok());
    for (octets, what) in [
        (body(3, 1, 3), "version"),
        (body(4, 0, 3), "AS number"),
        (body(4, 1, 1), "hold time"),
        (body(4, 1, 2), "hold time"),
    ] {
        assert!(read(&octets, known()).unwrap_err().to_string().contains(what));
    }
}

#[test]
fn routes_of_both_families_with_all_attributes() {
    let reach = [
        &[0, 2, 1, 32][..],
        &[0x20; 16],
        &[0xfe, 0x80],
        &[0; 13],
        &[1],
        &[0],
        &[64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 1],
    ];
    let attributes = [
        usual(64513),
        attribute(0x80, 4, &[0, 0, 0, 50]),
        attribute(0x40, 5, &[0, 0, 0, 100]),
        attribute(0xc0, 8, &[0xff, 0xff, 0, 0, 0xfc, 0, 0, 7]),
        attribute(0xc0, 32, &[0, 0, 0xfc, 1, 0, 0, 0, 1, 0, 0, 0, 2]),
        attribute(0x80, 14, &reach.concat()),
        attribute(0xc0, 99, &[1]),
    ];
    let update = updated(&update(&[8, 11], &attributes.concat(), &[32, 10, 10, 50, 10, 0]));
    assert!(update.faults.is_empty(), "{:?}", update.faults);
    assert_eq!(update.withdrawn, [key("11.0.0.0/8", None)]);
    let [(v6, v6_routes), (v4, v4_routes)] = &update.announced[..] else { panic!("{update:?}") };
    assert_eq!(v6_routes[..], [key("2001:db8:0:1::/64", None)]);
    assert_eq!(v4_routes[..], [key("10.10.50.10/32", None), key("0.0.0.0/0", None)]);
    assert_eq!(v6.next_hop.unwrap().link_local, Some("fe80::1".parse().unwrap()));
    assert_eq!(v4.next_hop.unwrap().address.to_string(), "10.0.0.2");
    assert_eq!(v4.origin, Some(Origin::Igp));
    assert_eq!(v4.as_path, [PathSegment::Sequence(vec![64513])]);
    assert_eq!((v4.med, v4.local_preference), (Some(50), Some(100)));
    assert!(v4.graceful_shutdown());
    assert_eq!(v4.large_communities, [[64513, 1, 2]]);
    assert_eq!(v4.unknown, [99]);
}

#[test]
fn ends_of_rib_of_both_families() {
    assert_eq!(updated(&end_of_rib()).end_of_rib, Some(Family::Ipv4));
    let v6 = update(&[], &attribute(0x80, 15, &[0, 2, 1]), &[]);
    assert_eq!(updated(&v6).end_of_rib, Some(Family::Ipv6));
    let withdrawal = update(&[], &attribute(0x80, 15, &[0, 2, 1, 16, 0x20, 1]), &[]);
    let update = updated(&withdrawal);
    assert_eq!((update.end_of_rib, update.withdrawn), (None, vec![key("2001::/16", None)]));
}

#[test]
fn numbers_of_paths_are_read_where_they_were_agreed_or_must_be() {
    let octets = update(&[], &usual(1), &[0, 0, 0, 7, 24, 10, 0, 1, 0, 0, 0, 8, 24, 10, 0, 1]);
    let agreed = Reading { add_path_v4: Encoding::Yes, ..known() };
    for reading in [agreed, Reading::default()] {
        let Ok(Message::Update(update)) = read(&octets, reading) else { panic!() };
        let routes = &update.announced[0].1;
        assert_eq!(routes[..], [key("10.0.1.0/24", Some(7)), key("10.0.1.0/24", Some(8))]);
        assert_eq!(update.reading.add_path_v4, Encoding::Yes);
    }
    let plain = update(&[], &usual(1), &[24, 10, 0, 1, 0]);
    let Ok(Message::Update(update)) = read(&plain, Reading::default()) else { panic!() };
    assert_eq!(update.announced[0].1[..], [key("10.0.1.0/24", None), key("0.0.0.0/0", None)]);
    let found = (update.reading.four_octet, update.reading.add_path_v4, update.reading.add_path_v6);
    assert_eq!(found, (Encoding::Yes, Encoding::No, Encoding::Unknown), "what was found stays so");
}

#[test]
fn an_old_speaker_has_its_true_path_beside_the_short_one() {
    let short = [2, 3, 0, 1, 0x5b, 0xa0, 0x5b, 0xa0];
    let long = [&[2, 2][..], &70_000u32.to_be_bytes(), &70_001u32.to_be_bytes()].concat();
    let attributes = [
        attribute(0x40, 1, &[2]),
        attribute(0x40, 2, &short),
        attribute(0x40, 3, &[10, 0, 0, 2]),
        attribute(0xc0, 17, &long),
    ];
    for four_octet in [Encoding::No, Encoding::Unknown] {
        let octets = update(&[], &attributes.concat(), &[8, 10]);
        let Ok(Message::Update(update)) = read(&octets, Reading { four_octet, ..known() }) else { panic!() };
        assert_eq!(update.announced[0].0.as_path, [PathSegment::Sequence(vec![1, 70_000, 70_001])]);
        assert_eq!(update.reading.four_octet, Encoding::No);
    }
}

/// Which faults take the routes away, and which leave them (RFC 7606).
#[test]
fn faulty_attributes_withdraw_or_are_left_out() {
    let with = |attributes: Vec<Vec<u8>>| update(&[], &attributes.concat(), &[8, 10]);
    let withdraws = [
        vec![attribute(0x40, 1, &[3]), attribute(0x40, 2, &[]), attribute(0x40, 3, &[10, 0, 0, 2])],
        vec![attribute(0x40, 1, &[0]), attribute(0x40, 2, &[2, 9, 0]), attribute(0x40, 3, &[10, 0, 0, 2])],
        vec![
            attribute(0x40, 1, &[0]),
            attribute(0x40, 2, &[9, 1, 0, 0, 0, 1]),
            attribute(0x40, 3, &[10, 0, 0, 2]),
        ],
        vec![attribute(0x40, 1, &[0]), attribute(0x40, 2, &[]), attribute(0x40, 3, &[10, 0, 0])],
        vec![attribute(0x40, 1, &[0]), attribute(0x40, 2, &[])],
        vec![usual(1), attribute(0x80, 4, &[1])],
        vec![usual(1), attribute(0xc0, 8, &[1, 2, 3])],
        vec![usual(1), attribute(0xc0, 8, &[])],
        vec![usual(1), attribute(0xc0, 32, &[1; 16])],
        vec![usual(1), attribute(0x40, 8, &[1, 2, 3, 4])],
        vec![usual(1), vec![0x40]],
        vec![usual(1), vec![0xc0, 8, 200, 1]],
    ];
    for attributes in withdraws {
        let update = updated(&with(attributes.clone()));
        assert!(update.announced.is_empty(), "{attributes:?} {update:?}");
        assert_eq!(update.withdrawn, [key("10.0.0.0/8", None)], "{attributes:?}");
        assert!(!update.faults.is_empty());
    }
    let leaves = [
        vec![usual(1), attribute(0x40, 5, &[1])],
        vec![usual(1), attribute(0x40, 6, &[1])],
        vec![usual(1), attribute(0xc0, 17, &[9, 9])],
        vec![usual(1), attribute(0x40, 1, &[0])],
    ];
    for attributes in leaves {
        let update = updated(&with(attributes.clone()));
        assert_eq!(update.announced.len(), 1, "{attributes:?} {update:?}");
        assert!(!update.faults.is_empty());
    }
    let refused = [
        vec![usual(1), attribute(0x80, 14, &[0, 2, 1, 7, 0, 0])],
        vec![usual(1), attribute(0x80, 14, &[0, 2, 1, 16])],
        vec![usual(1), attribute(0x80, 15, &[0, 2, 1, 129])],
        vec![attribute(0x80, 15, &[0, 2, 1]), attribute(0x80, 15, &[0, 2, 1])],
    ];
    for attributes in refused {
        assert!(read(&with(attributes.clone()), known()).is_err(), "{attributes:?}");
    }
    assert!(read(&update(&[], &usual(1), &[33, 10, 0, 0, 0, 0]), known()).is_err());
    assert!(read(&update(&[], &usual(1), &[32, 10, 0, 0]), known()).is_err());
}

#[test]
fn notifications_are_unwrapped_and_quoted() {
    let told = |octets: Vec<u8>| match read(&octets, known()) {
        Ok(Message::Notification(told)) => told,
        other => panic!("{other:?}"),
    };
    let drained = told(notification(6, 9, &[&[6, 2, 21][..], b"drained by controller"].concat()));
    assert_eq!((drained.code, drained.subcode, drained.hard_reset), (6, 2, true));
    assert_eq!(drained.text.as_deref(), Some("drained by controller"));
    assert_eq!(describe(6, 2), "cease: administrative shutdown");
    let bare = told(notification(6, 9, &[]));
    assert_eq!((bare.code, bare.subcode, bare.hard_reset), (6, 9, true));
    let escaped = told(notification(6, 4, &[&[9][..], b"a\x1b[31mb\nc"].concat()));
    assert_eq!(escaped.text.as_deref(), Some("a[31mbc"), "nobody writes to our terminal");
    assert_eq!(told(notification(6, 2, &[200, b'a'])).text, None, "a length that does not fit");
    assert_eq!(told(notification(6, 2, &[2, 0xff, 0xfe])).text.as_deref(), Some("\u{fffd}\u{fffd}"));
    assert!(told(notification(4, 0, &[])).hold_timer_expired());
    assert_eq!(
        [describe(4, 0), describe(6, 10), describe(2, 2), describe(42, 1), describe(6, 99)],
        [
            "hold timer expired",
            "cease: BFD down",
            "OPEN message error: bad peer AS",
            "error 42/1",
            "cease: subcode 99",
        ]
    );
}

#[test]
fn refreshes_have_steps() {
    for (subtype, step) in [
        (0, RefreshStep::Request),
        (1, RefreshStep::Begin),
        (2, RefreshStep::End),
        (9, RefreshStep::Other(9)),
    ] {
        let Ok(Message::RouteRefresh(refresh)) = read(&message(5, &[0, 2, subtype, 1]), known()) else {
            panic!()
        };
        assert_eq!((refresh.family, refresh.step), (Some(Family::Ipv6), step));
    }
}

#[test]
fn headers_must_fit_their_type() {
    let header = |length: u16, kind: u8| -> [u8; HEADER] {
        message(kind, &[])
            .try_into()
            .map(|mut octets: [u8; HEADER]| {
                octets[16..18].copy_from_slice(&length.to_be_bytes());
                octets
            })
            .unwrap()
    };
    for (length, kind, fits) in [
        (19, 4, true),
        (20, 4, false),
        (18, 4, false),
        (0, 4, false),
        (28, 1, false),
        (29, 1, true),
        (22, 2, false),
        (23, 2, true),
        (4096, 2, true),
        (4097, 2, false),
        (20, 3, false),
        (21, 3, true),
        (22, 5, false),
        (23, 5, true),
    ] {
        assert_eq!(Header::read(&header(length, kind), LONGEST).is_ok(), fits, "{length} {kind}");
    }
    assert_eq!(Header::read(&header(65535, 2), LONGEST_EXTENDED).map(|it| it.length), Ok(65535));
    assert_eq!(Header::read(&header(19, 6), LONGEST), Err(NoHeader::Kind(6)));
    let mut marker = header(19, 4);
    marker[3] = 0;
    assert_eq!(Header::read(&marker, LONGEST), Err(NoHeader::Marker));
}

fn samples() -> Vec<Vec<u8>> {
    let reach = [&[0, 2, 1, 16][..], &[0x20; 16], &[0, 64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 1]].concat();
    let attributes = [usual(64513), attribute(0xc0, 8, &[0xff, 0xff, 0, 0]), attribute(0x80, 14, &reach)];
    vec![
        open(
            64513,
            9,
            &[(1, &[0, 1, 0, 1]), (64, &[0, 120, 0, 1, 1, 0]), (69, &[0, 1, 1, 3]), (73, &[1, b'n', 0])],
        ),
        update(&[24, 10, 0, 1], &attributes.concat(), &[32, 10, 10, 50, 10]),
        notification(6, 9, &[6, 2, 2, b'h', b'i']),
        message(5, &[0, 1, 0, 1]),
    ]
}

/// Every octet of every message takes many values, the odd ones first: the reader answers, one way or the other, and never
/// panics.
#[test]
fn every_field_takes_odd_values() {
    let readings = [known(), Reading::default(), Reading { add_path_v4: Encoding::Yes, ..known() }];
    for sample in samples() {
        let header = Header::read(sample.first_chunk().unwrap(), LONGEST).unwrap();
        let body = &sample[HEADER..];
        let values = [0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200, 254, 255];
        for (at, value) in (0..body.len()).flat_map(|at| values.map(move |value| (at, value))) {
            let mut changed = body.to_vec();
            changed[at] = value;
            for reading in readings {
                let _ = decode(header.kind, &changed, reading);
            }
        }
        for length in 0..body.len() {
            for reading in readings {
                let _ = decode(header.kind, &body[..length], reading);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_octets_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300), kind in 0usize..5) {
        let kinds = [Kind::Open, Kind::Update, Kind::Notification, Kind::Keepalive, Kind::RouteRefresh];
        for reading in [known(), Reading::default(), Reading { add_path_v4: Encoding::Yes, ..known() }] {
            let _ = decode(kinds[kind], &body, reading);
        }
    }

    /// Whatever an UPDATE says, no prefix has bits behind its length, and no route is both told and taken back for a fault.
    #[test]
    fn what_is_read_makes_sense(
        withdrawn in proptest::collection::vec(any::<u8>(), 0..40),
        attributes in proptest::collection::vec(any::<u8>(), 0..80),
        routes in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let octets = update(&withdrawn, &[usual(1), attributes].concat(), &routes);
        if let Ok(Message::Update(update)) = read(&octets, Reading::default()) {
            for key in update.withdrawn.iter().chain(update.announced.iter().flat_map(|(_, keys)| keys)) {
                prop_assert_eq!(key.prefix, key.prefix.trunc());
            }
            prop_assert!(update.announced.iter().all(|(_, keys)| !keys.is_empty()));
        }
    }
}
