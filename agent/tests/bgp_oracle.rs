//! The decoder of BGP messages beside another one, `rustbgpd-wire`, which was written for a speaker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use proptest::prelude::*;
use rustbgpd_wire::{
    Afi, AsPathSegment, Ipv4NlriEntry, Message as Theirs, NlriEntry, ParsedUpdate, PathAttribute, Prefix,
    Safi, decode_message,
};
use weir_agent::model::bgp::wire::{Encoding, HEADER, Header, LONGEST, Message, Reading, Update, decode};
use weir_agent::model::bgp::{Attributes, PathSegment, RouteKey};

type Routes = BTreeSet<(IpNet, Option<u32>)>;

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags | 0x10, code], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    [&[0xff; 16], &((HEADER + body.len()) as u16).to_be_bytes()[..], &[2], body].concat()
}

fn nlri(routes: &[(u32, u8, u128)], bits: u8, paths: bool) -> Vec<u8> {
    let one = |(path, length, address): &(u32, u8, u128)| {
        let length = length % (bits + 1);
        let octets = (address << (128 - u32::from(bits))).to_be_bytes();
        let id = if paths { path.to_be_bytes().to_vec() } else { Vec::new() };
        [&id[..], &[length], &octets[..usize::from(length).div_ceil(8)]].concat()
    };
    routes.iter().flat_map(one).collect()
}

fn routes() -> impl Strategy<Value = Vec<(u32, u8, u128)>> {
    proptest::collection::vec((0u32..9, any::<u8>(), any::<u128>()), 0..6)
}

prop_compose! {
    // Without AS_SET: they withdraw such routes already (RFC 9774), which no speaker here does.
    fn updates()(
        withdrawn in routes(), told in routes(), told_v6 in routes(), withdrawn_v6 in routes(),
        origin in 0u8..3, path in proptest::collection::vec((Just(2u8), proptest::collection::vec(1u32.., 1..4)), 0..3),
        hop in any::<[u8; 4]>(), med in any::<Option<u32>>(), preference in any::<Option<u32>>(),
        communities in proptest::collection::btree_set(any::<u32>(), 0..4),
        large in proptest::collection::btree_set(any::<[u32; 3]>(), 0..3),
        four_octet in any::<bool>(), paths in any::<bool>(),
    ) -> (Vec<u8>, bool, bool) {
        let number = |asn: &u32| if four_octet { asn.to_be_bytes().to_vec() } else { (*asn as u16).max(1).to_be_bytes().to_vec() };
        let segment = |(kind, numbers): &(u8, Vec<u32>)| {
            [vec![*kind, numbers.len() as u8], numbers.iter().flat_map(number).collect()].concat()
        };
        let mut attributes = [
            attribute(0x40, 1, &[origin]),
            attribute(0x40, 2, &path.iter().flat_map(segment).collect::<Vec<u8>>()),
            attribute(0x40, 3, &[10, hop[1], hop[2], 1 | hop[3] & 0x7e]),
        ].concat();
        attributes.extend(med.iter().flat_map(|it| attribute(0x80, 4, &it.to_be_bytes())));
        attributes.extend(preference.iter().flat_map(|it| attribute(0x40, 5, &it.to_be_bytes())));
        let words: Vec<u8> = communities.iter().flat_map(|it| it.to_be_bytes()).collect();
        attributes.extend((!words.is_empty()).then(|| attribute(0xc0, 8, &words)).into_iter().flatten());
        let words: Vec<u8> = large.iter().flatten().flat_map(|it| it.to_be_bytes()).collect();
        attributes.extend((!words.is_empty()).then(|| attribute(0xc0, 32, &words)).into_iter().flatten());
        if !told_v6.is_empty() {
            let hop = [&[0x20, 1, 0xd, 0xb8][..], &[0; 8], &hop].concat();
            let value = [&[0, 2, 1, 16][..], &hop, &[0], &nlri(&told_v6, 128, paths)].concat();
            attributes.extend(attribute(0x80, 14, &value));
        }
        if !withdrawn_v6.is_empty() {
            let value = [&[0, 2, 1][..], &nlri(&withdrawn_v6, 128, paths)].concat();
            attributes.extend(attribute(0x80, 15, &value));
        }
        let withdrawn = nlri(&withdrawn, 32, paths);
        let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
        body.extend(withdrawn);
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        body.extend(nlri(&told, 32, paths));
        (message(&body), four_octet, paths)
    }
}

fn ours(octets: &[u8], four_octet: bool, paths: bool) -> Option<Update> {
    let header = Header::read(octets.first_chunk()?, LONGEST).ok()?;
    let (four_octet, add_path) = (Encoding::from(four_octet), Encoding::from(paths));
    let reading = Reading { four_octet, add_path_v4: add_path, add_path_v6: add_path };
    match decode(header.kind, octets.get(HEADER..header.length)?, reading) {
        Ok(Message::Update(update)) => Some(update),
        _ => None,
    }
}

/// Their reading, if they find nothing wrong.
fn theirs(octets: &[u8], four_octet: bool, paths: bool) -> Option<ParsedUpdate> {
    let mut octets = Bytes::copy_from_slice(octets);
    let Ok(Theirs::Update(update)) = decode_message(&mut octets, LONGEST as u16) else { return None };
    let families = [(Afi::Ipv4, Safi::Unicast), (Afi::Ipv6, Safi::Unicast)];
    let parsed = update.parse_revised(four_octet, true, paths, if paths { &families } else { &[] }).ok()?;
    parsed.malformed.is_empty().then_some(parsed.update)
}

fn our_routes<'a>(keys: impl IntoIterator<Item = &'a RouteKey>) -> Routes {
    keys.into_iter().map(|key| (key.prefix, key.path)).collect()
}

fn v4_routes(entries: &[Ipv4NlriEntry], paths: bool) -> Routes {
    let key = |it: &Ipv4NlriEntry| {
        (IpNet::new(it.prefix.addr.into(), it.prefix.len).unwrap(), paths.then_some(it.path_id))
    };
    entries.iter().map(key).collect()
}

fn v6_routes(entries: &[NlriEntry], paths: bool) -> Routes {
    let net = |prefix: &Prefix| match prefix {
        Prefix::V4(it) => IpNet::new(it.addr.into(), it.len).unwrap(),
        Prefix::V6(it) => IpNet::new(it.addr.into(), it.len).unwrap(),
    };
    entries.iter().map(|it| (net(&it.prefix), paths.then_some(it.path_id))).collect()
}

fn segments(path: &[PathSegment]) -> Vec<(bool, Vec<u32>)> {
    let plain = |segment: &PathSegment| match segment {
        PathSegment::Sequence(numbers) | PathSegment::ConfederationSequence(numbers) => {
            (true, numbers.clone())
        }
        PathSegment::Set(numbers) | PathSegment::ConfederationSet(numbers) => (false, numbers.clone()),
    };
    path.iter().map(plain).collect()
}

fn compare_attributes(ours: &Attributes, theirs: &[PathAttribute]) {
    for attribute in theirs {
        match attribute {
            PathAttribute::Origin(origin) => assert_eq!(ours.origin.map(|it| it as u8), Some(*origin as u8)),
            PathAttribute::AsPath(path) => {
                let plain = |segment: &AsPathSegment| match segment {
                    AsPathSegment::AsSequence(numbers) => (true, numbers.clone()),
                    AsPathSegment::AsSet(numbers) => (false, numbers.clone()),
                };
                let expected: Vec<_> = path.segments.iter().map(plain).collect();
                assert_eq!(segments(&ours.as_path), expected);
            }
            PathAttribute::Med(med) => assert_eq!(ours.med, Some(*med)),
            PathAttribute::LocalPref(preference) => assert_eq!(ours.local_preference, Some(*preference)),
            PathAttribute::Communities(all) => assert_eq!(&ours.communities, all),
            PathAttribute::LargeCommunities(all) => {
                let expected: Vec<_> =
                    all.iter().map(|it| [it.global_admin, it.local_data1, it.local_data2]).collect();
                assert_eq!(ours.large_communities, expected);
            }
            _ => {}
        }
    }
}

fn compare(ours: &Update, theirs: &ParsedUpdate, paths: bool) {
    let (mut told, mut withdrawn) =
        (v4_routes(&theirs.announced, paths), v4_routes(&theirs.withdrawn, paths));
    for attribute in &theirs.attributes {
        match attribute {
            PathAttribute::MpReachNlri(it) => told.extend(v6_routes(&it.announced, paths)),
            PathAttribute::MpUnreachNlri(it) => withdrawn.extend(v6_routes(&it.withdrawn, paths)),
            _ => {}
        }
    }
    assert_eq!(our_routes(ours.announced.iter().flat_map(|(_, keys)| keys)), told);
    assert_eq!(our_routes(&ours.withdrawn), withdrawn);
    for (attributes, keys) in &ours.announced {
        compare_attributes(attributes, &theirs.attributes);
        let v4 = keys.iter().all(|key| matches!(key.prefix, IpNet::V4(_)));
        let hop = theirs.attributes.iter().find_map(|attribute| match attribute {
            PathAttribute::NextHop(hop) if v4 => Some(IpAddr::V4(*hop)),
            PathAttribute::MpReachNlri(it) if !v4 => Some(it.next_hop),
            _ => None,
        });
        assert_eq!(attributes.next_hop.map(|hop| hop.address), hop);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// What is right is read alike.
    #[test]
    fn good_updates_are_read_alike((octets, four_octet, paths) in updates()) {
        let ours = ours(&octets, four_octet, paths).unwrap();
        prop_assert!(ours.faults.is_empty(), "{:?}", ours.faults);
        let theirs = theirs(&octets, four_octet, paths);
        prop_assert!(theirs.is_some(), "they refuse it");
        compare(&ours, &theirs.unwrap(), paths);
    }

    /// Of what is broken in one or two places: where both find nothing wrong, both read the same.
    #[test]
    fn broken_updates_are_not_read_differently(
        (octets, four_octet, paths) in updates(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut octets = octets;
        for (at, value) in changes {
            let body = octets.len() - HEADER;
            if body > 0 {
                octets[HEADER + at.index(body)] = value;
            }
        }
        let (ours, theirs) = (ours(&octets, four_octet, paths), theirs(&octets, four_octet, paths));
        if let (Some(ours), Some(theirs)) = (ours.filter(|update| update.faults.is_empty()), theirs) {
            compare(&ours, &theirs, paths);
        }
    }
}
