//! Streams put together from what a capture has of them.

use std::time::Duration;

use proptest::prelude::*;

use super::build::{keepalive, message, update, usual};
use crate::model::bgp::stream::Stream;
use crate::model::bgp::wire::Kind;

const START: Duration = Duration::from_secs(10);
const ISN: u32 = 0xffff_ff00;

fn messages(stream: &mut Stream) -> Vec<(Kind, Vec<u8>)> {
    std::iter::from_fn(|| stream.message()).collect()
}

/// An UPDATE for the n-th of 65536 prefixes: with every number another message.
fn numbered(n: u16) -> Vec<u8> {
    let [high, low] = n.to_be_bytes();
    update(&[], &usual(64513), &[32, 10, high, low, 1])
}

fn body(octets: &[u8]) -> Vec<u8> {
    octets[19..].to_vec()
}

#[test]
fn a_stream_in_order() {
    let mut stream = Stream::begun(ISN);
    let octets = [numbered(1), keepalive(), numbered(2)].concat();
    // One octet at a time, across the wrap of sequence numbers.
    let mut found = Vec::new();
    for (at, octet) in octets.iter().enumerate() {
        stream.take(ISN.wrapping_add(1 + at as u32), &[*octet], START);
        found.extend(messages(&mut stream));
    }
    let kinds: Vec<Kind> = found.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Kind::Update, Kind::Keepalive, Kind::Update]);
    assert_eq!(found[2].1, body(&numbered(2)));
    assert_eq!(stream.flaws, Default::default());
}

#[test]
fn a_join_in_the_middle_of_a_message() {
    let octets = [numbered(1), numbered(2), numbered(3)].concat();
    for cut in 1..numbered(1).len() {
        let mut stream = Stream::default();
        stream.take(5000, &octets[cut..], START);
        let found = messages(&mut stream);
        let bodies: Vec<_> = found.into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, [body(&numbered(2)), body(&numbered(3))], "cut at {cut}");
    }
    // A whole message that ends with its segment is certain, too: a keepalive often comes alone.
    let mut stream = Stream::default();
    stream.take(5000, &keepalive(), START);
    assert_eq!(messages(&mut stream).len(), 1);
}

#[test]
fn a_marker_inside_a_message_misleads_nobody() {
    // Communities of all ones look like a marker, and what follows like a header of a long message.
    let false_start = [&[0xff; 16][..], &[0x0f, 0xff, 2, 0]].concat();
    let attributes = [usual(1), super::build::attribute(0xc0, 8, &false_start)].concat();
    let long = update(&[], &attributes, &[8, 10]);
    let octets = [long, numbered(9), numbered(10)].concat();
    let mut stream = Stream::default();
    stream.take(1, &octets[30..], START);
    let found = messages(&mut stream);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].1, body(&numbered(9)));
}

#[test]
fn a_hole_is_given_up_once_it_is_acknowledged() {
    let parts = [numbered(1), numbered(2), numbered(3), numbered(4)];
    let length = parts[0].len() as u32;
    let at = |n: u32| ISN.wrapping_add(1 + n * length);
    let mut stream = Stream::begun(ISN);
    stream.take(at(0), &parts[0], START);
    stream.take(at(2), &parts[2], START);
    assert_eq!(messages(&mut stream).len(), 1);
    assert!(!stream.acknowledged(at(1)), "the receiver has no more than we");
    assert!(!stream.expire(START + Duration::from_secs(30), true), "it may come yet");
    assert!(stream.acknowledged(at(3)));
    let found = messages(&mut stream);
    assert_eq!(found.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>(), [body(&parts[2])]);
    stream.take(at(3), &parts[3], START);
    assert_eq!(messages(&mut stream).len(), 1);
    assert_eq!((stream.flaws.missing, stream.flaws.resyncs), (u64::from(length), 1));
}

#[test]
fn strangers_far_and_near_are_forgotten() {
    let mut stream = Stream::begun(ISN);
    stream.take(ISN.wrapping_add(1), &keepalive(), START);
    stream.take(ISN.wrapping_add(1 << 30), &numbered(1), START);
    stream.take(ISN.wrapping_sub(1 << 20), &numbered(1), START);
    assert!(!stream.waits());
    stream.take(ISN.wrapping_add(5000), &numbered(1), START);
    assert!(stream.waits() && messages(&mut stream).len() == 1);
    stream.expire(START + Duration::from_secs(61), true);
    assert!(!stream.waits());
    stream.take(ISN.wrapping_add(20), &keepalive(), START);
    assert_eq!(messages(&mut stream).len(), 1, "and the stream goes on");
    assert_eq!(stream.flaws.missing, 0);
}

#[test]
fn garbage_is_passed_over_and_counted() {
    let mut stream = Stream::begun(ISN);
    let garbage = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n";
    let octets = [&garbage[..], &numbered(1), &keepalive()].concat();
    stream.take(ISN.wrapping_add(1), &octets, START);
    assert_eq!(messages(&mut stream).len(), 2);
    assert_eq!((stream.flaws.garbage, stream.flaws.resyncs), (garbage.len() as u64, 1));
    let mut endless = Stream::begun(0);
    for n in 0..100u32 {
        endless.take(1 + n * 1000, &[b'x'; 1000], START);
        assert!(messages(&mut endless).is_empty());
    }
    assert_eq!(endless.flaws.garbage, 100_000);
    // All ones may always be the beginning of a marker: they are not kept for ever either.
    let mut ones = Stream::begun(0);
    for n in 0..100u32 {
        ones.take(1 + n * 1000, &[0xff; 1000], START);
        assert!(messages(&mut ones).is_empty());
    }
    assert!(ones.flaws.garbage > 99_900, "{:?}", ones.flaws);
}

/// Pieces of a stream as a capture has them.
#[derive(Clone, Debug)]
struct Piece {
    at: usize,
    length: usize,
}

fn pieces(total: usize) -> impl Strategy<Value = Vec<Piece>> {
    let cuts = proptest::collection::vec(1..total, 0..30);
    (cuts, proptest::collection::vec(any::<prop::sample::Index>(), 0..60), 0usize..20).prop_map(
        move |(mut cuts, swaps, again)| {
            cuts.extend([0, total]);
            cuts.sort_unstable();
            cuts.dedup();
            let mut pieces: Vec<Piece> =
                cuts.windows(2).map(|two| Piece { at: two[0], length: two[1] - two[0] }).collect();
            for n in 0..again.min(pieces.len()) {
                let wider = Piece { at: pieces[n].at / 2, length: total / 3 + 1 };
                pieces.push(Piece { length: wider.length.min(total - wider.at), ..wider });
            }
            for two in swaps.chunks_exact(2) {
                let (a, b) = (two[0].index(pieces.len()), two[1].index(pieces.len()));
                pieces.swap(a, b);
            }
            pieces
        },
    )
}

proptest! {
    /// However a stream is cut, repeated and mixed up: the same messages come out, in order.
    #[test]
    fn nothing_is_lost_that_came(isn: u32, pieces in pieces(numbered(0).len() * 12)) {
        let octets: Vec<u8> = (0..12).flat_map(numbered).collect();
        let mut stream = Stream::begun(isn);
        let mut found = Vec::new();
        for Piece { at, length } in pieces {
            stream.take(isn.wrapping_add(1 + at as u32), &octets[at..at + length], START);
            found.extend(messages(&mut stream).into_iter().map(|(_, body)| body));
        }
        prop_assert_eq!(found, (0..12).map(|n| body(&numbered(n))).collect::<Vec<_>>());
        prop_assert_eq!(stream.flaws.missing, 0);
        prop_assert_eq!(stream.flaws.garbage, 0);
    }

    /// With pieces missing that the receiver has: what comes out was sent, in order, and the last messages are there.
    #[test]
    fn nothing_is_made_up_where_something_is_missing(
        isn: u32,
        pieces in pieces(numbered(0).len() * 12),
        lost in proptest::collection::vec(any::<prop::sample::Index>(), 1..6),
    ) {
        let sent: Vec<Vec<u8>> = (0..12).map(numbered).collect();
        let octets = sent.concat();
        let mut pieces = pieces;
        pieces.sort_by_key(|piece| piece.at);
        for one in lost {
            pieces.remove(one.index(pieces.len()));
            if pieces.is_empty() {
                break;
            }
        }
        let mut stream = Stream::begun(isn);
        let mut found = Vec::new();
        for Piece { at, length } in pieces {
            stream.take(isn.wrapping_add(1 + at as u32), &octets[at..at + length], START);
            stream.acknowledged(isn.wrapping_add(1 + (at + length) as u32));
            found.extend(messages(&mut stream).into_iter().map(|(_, body)| body));
        }
        stream.acknowledged(isn.wrapping_add(1 + octets.len() as u32));
        for n in 20..23 {
            let from = isn.wrapping_add(1 + (octets.len() + (n - 20) * sent[0].len()) as u32);
            stream.take(from, &numbered(n as u16), START);
        }
        found.extend(messages(&mut stream).into_iter().map(|(_, body)| body));
        let numbers: Vec<usize> = (0..12).chain(20..23).collect();
        let known: Vec<Vec<u8>> = numbers.iter().map(|n| body(&numbered(*n as u16))).collect();
        let mut places = found.iter().map(|one| known.iter().position(|it| it == one));
        prop_assert!(places.all(|place| place.is_some()), "a message that nobody sent");
        prop_assert!(found.is_sorted_by_key(|one| known.iter().position(|it| it == one)));
        prop_assert!(found.ends_with(&known[12..]), "in step again");
    }

    /// Any octets, at any place: the stream goes on, and holds no more than its bounds.
    #[test]
    fn anything_may_come(steps in proptest::collection::vec(
        (any::<u32>(), proptest::collection::vec(prop_oneof![Just(0xffu8), any::<u8>()], 0..60), any::<bool>()), 0..20
    )) {
        let mut stream = Stream::default();
        for (n, (sequence, octets, acknowledged)) in steps.into_iter().enumerate() {
            let now = START + Duration::from_secs(n as u64);
            stream.take(sequence % 5000, &octets, now);
            messages(&mut stream);
            if acknowledged {
                stream.acknowledged(sequence % 9000);
            }
            stream.expire(now, n % 2 == 0);
            messages(&mut stream);
        }
    }
}

#[test]
fn long_messages_of_64_kib() {
    let attributes = [usual(1), super::build::attribute(0xc0, 200, &vec![7; 60_000])].concat();
    let long = update(&[], &attributes, &[8, 10]);
    let mut stream = Stream::begun(0);
    for (n, chunk) in long.chunks(1448).enumerate() {
        stream.take(1 + n as u32 * 1448, chunk, START);
    }
    assert_eq!(messages(&mut stream).len(), 1);
    let mut short = Stream::begun(0);
    short.limit(4096);
    short.take(1, &[message(2, &vec![0; 5000]), keepalive()].concat(), START);
    assert_eq!(messages(&mut short).len(), 1, "no such message was agreed on; the next one is found");
}
