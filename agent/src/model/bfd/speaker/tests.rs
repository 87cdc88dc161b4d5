//! Who is believed, who is not, and what outlives the process.

use proptest::prelude::*;

use super::super::{Health, Poll};
use super::*;

const MS: Duration = Duration::from_millis(1);

fn settings(peers: &[&str]) -> Settings {
    let peers = peers.iter().map(|text| text.parse().unwrap()).collect();
    Settings::new(peers, Settings::HANDOVER, Health::Ignore).unwrap()
}

fn dice() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    }
}

fn speaker(peers: &[&str]) -> (Speaker, Vec<Action>) {
    let mut out = Vec::new();
    (Speaker::new(&settings(peers), &[], Duration::ZERO, &mut dice(), &mut out), out)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn packet(state: State, your: u32) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: Poll::Idle,
        control_plane_independent: false,
        demand: false,
        multiplier: std::num::NonZeroU8::new(3).unwrap(),
        my_discriminator: NonZeroU32::new(9).unwrap(),
        your_discriminator: NonZeroU32::new(your),
        desired_min_tx: Micros(100_000),
        required_min_rx: Micros(100_000),
        required_min_echo_rx: Micros(0),
    }
}

fn from<'a>(source: &str, payload: &'a [u8]) -> Datagram<'a> {
    Datagram {
        source: address(source),
        destination: Some(address("10.0.0.2")),
        interface: 2,
        ttl: Some(255),
        multihop: false,
        payload,
    }
}

fn hears(speaker: &mut Speaker, datagram: &Datagram<'_>, at: Duration) -> Vec<Action> {
    let mut out = Vec::new();
    speaker.receive(datagram, at, &mut dice(), &mut out);
    out
}

fn refusals(speaker: &Speaker, rejection: Rejection) -> u64 {
    speaker.rejected().0.get(&rejection).copied().unwrap_or(0)
}

fn state(speaker: &Speaker) -> State {
    speaker.sessions(Duration::ZERO)[0].state
}

/// A speaker whose first session is up, and that session's number.
fn up(peers: &[&str]) -> (Speaker, u32) {
    let (mut speaker, _) = speaker(peers);
    hears(&mut speaker, &from("10.0.0.1", &packet(State::Down, 0).encode()), 10 * MS);
    let number = speaker.sessions(Duration::ZERO)[0].discriminator;
    let init = Packet { poll: Poll::Final, ..packet(State::Init, number) };
    hears(&mut speaker, &from("10.0.0.1", &init.encode()), 20 * MS);
    hears(
        &mut speaker,
        &from("10.0.0.1", &Packet { poll: Poll::Final, ..packet(State::Up, number) }.encode()),
        21 * MS,
    );
    assert_eq!(state(&speaker), State::Up);
    (speaker, number)
}

#[test]
fn what_is_not_believed_is_counted_and_changes_nothing() {
    let (mut speaker, number) = up(&["10.0.0.1,tx=100ms,rx=100ms", "10.0.9.9,multihop,min-ttl=250"]);
    let before = speaker.sessions(Duration::ZERO);
    let down = packet(State::Down, number).encode();
    let other = packet(State::Down, number ^ 1).encode();
    let stray = packet(State::Down, 0).encode();
    let damaged = |at: usize, octet: u8| {
        let mut octets = down;
        octets[at] = octet;
        octets
    };
    let [version, multiplier, length, multipoint] =
        [damaged(0, 0x40), damaged(2, 0), damaged(3, 23), damaged(1, 0x41)];
    let cases = [
        (Datagram { ttl: Some(254), ..from("10.0.0.1", &down) }, Rejection::Ttl),
        (Datagram { ttl: Some(64), ..from("10.0.0.1", &down) }, Rejection::Ttl),
        (Datagram { ttl: None, ..from("10.0.0.1", &down) }, Rejection::Ttl),
        (from("10.0.0.3", &down), Rejection::Stranger),
        (from("10.0.9.9", &down), Rejection::Stranger),
        (Datagram { multihop: true, ..from("10.0.0.1", &down) }, Rejection::Stranger),
        (from("10.0.0.1", &other), Rejection::UnknownSession),
        (from("10.0.0.1", &version), Rejection::Version),
        (from("10.0.0.1", &multiplier), Rejection::Multiplier),
        (from("10.0.0.1", &length), Rejection::Length),
        (from("10.0.0.1", &multipoint), Rejection::Multipoint),
        (from("10.0.0.1", &down[..20]), Rejection::Length),
        (Datagram { multihop: true, ttl: Some(249), ..from("10.0.9.9", &stray) }, Rejection::Ttl),
    ];
    for (number, (datagram, rejection)) in cases.iter().enumerate() {
        let counted = refusals(&speaker, *rejection);
        assert_eq!(hears(&mut speaker, datagram, 30 * MS), [], "case {number}");
        assert_eq!(refusals(&speaker, *rejection), counted + 1, "case {number}: {rejection:?}");
    }
    assert_eq!(speaker.sessions(Duration::ZERO), before);
}

#[test]
fn a_replayed_packet_of_an_earlier_session_is_not_believed() {
    let (mut speaker, number) = up(&["10.0.0.1"]);
    let old = packet(State::Down, number).encode();
    let mut out = Vec::new();
    let mut anew = Speaker::new(&settings(&["10.0.0.1"]), &[], 40 * MS, &mut move || 77_u64 << 40, &mut out);
    hears(&mut anew, &from("10.0.0.1", &old), 50 * MS);
    assert_eq!((refusals(&anew, Rejection::UnknownSession), state(&anew)), (1, State::Down));
    // The same packet is believed where it is of this session: without authentication a live one cannot be told from its copy
    // (RFC 5880, 9), which is why only neighbours on the link are heard at all.
    hears(&mut speaker, &from("10.0.0.1", &old), 50 * MS);
    assert_eq!(state(&speaker), State::Down);
}

#[test]
fn a_session_on_an_interface_hears_only_that_one() {
    let (mut speaker, _) = speaker(&["fe80::1,interface=eth0"]);
    let payload = packet(State::Down, 0).encode();
    let datagram = Datagram { destination: Some(address("fe80::2")), ..from("fe80::1", &payload) };
    hears(&mut speaker, &datagram, MS);
    assert_eq!(refusals(&speaker, Rejection::Interface), 1, "there is no interface of that name");
    speaker.set_interface("eth0", Some(3));
    hears(&mut speaker, &datagram, MS);
    assert_eq!(refusals(&speaker, Rejection::Interface), 2);
    hears(&mut speaker, &Datagram { interface: 3, ..datagram }, MS);
    assert_eq!(state(&speaker), State::Init);
    assert_eq!(speaker.endpoint(SessionId(0)).unwrap().peer.to_string(), "[fe80::1%3]:3784");
}

#[test]
fn whoever_of_a_prefix_asks_gets_a_session_and_loses_it_when_idle() {
    let (mut speaker, _) = speaker(&["10.0.0.0/16,passive", "10.0.0.1,passive"]);
    assert_eq!(speaker.sessions(Duration::ZERO).len(), 1);
    let payload = packet(State::Down, 0).encode();
    for last in 0..200 {
        hears(&mut speaker, &from(&format!("10.0.1.{last}"), &payload), MS);
    }
    assert_eq!(speaker.sessions(Duration::ZERO).len(), SESSIONS_MAX, "a flood of askers finds an end");
    assert_eq!(refusals(&speaker, Rejection::NoRoom), 200 - (SESSIONS_MAX as u64 - 1));
    assert_eq!(speaker.endpoint(SessionId(1)).unwrap().source, Some(address("10.0.0.2")));
    let mut now = Duration::ZERO;
    while let Some(next) = speaker.next().filter(|next| *next < Duration::from_secs(90)) {
        now = next.max(now);
        speaker.advance(now, &mut dice(), &mut Vec::new());
    }
    assert_eq!(speaker.sessions(now).len(), 1, "the configured one stays");
}

#[test]
fn settings_change_without_a_flap_and_a_session_that_is_up_is_never_torn() {
    let (mut speaker, number) = up(&["10.0.0.1,tx=100ms,rx=100ms"]);
    let mut out = Vec::new();
    speaker.configure(&settings(&["10.0.0.1,tx=50ms,rx=50ms", "10.0.0.5"]), 30 * MS, &mut dice(), &mut out);
    assert!(!out.iter().any(|action| matches!(action, Action::Notify(..) | Action::Close(_))), "{out:?}");
    assert_eq!(speaker.sessions(Duration::ZERO).len(), 2);
    speaker.configure(&settings(&["10.0.0.5"]), 40 * MS, &mut dice(), &mut out);
    let view = &speaker.sessions(Duration::ZERO)[0];
    assert_eq!(view.state, State::Up);
    assert!(view.problem.as_ref().unwrap().contains("admin-down"), "{view:?}");
    hears(&mut speaker, &from("10.0.0.1", &packet(State::Down, number).encode()), 50 * MS);
    speaker.advance(60 * MS, &mut dice(), &mut out);
    assert_eq!(speaker.sessions(Duration::ZERO).len(), 1, "now that it is down nothing is lost with it");
}

#[test]
fn a_session_is_taken_away_only_when_its_peer_is_drained_or_its_owner_says_now() {
    let (mut speaker, _) = up(&["10.0.0.1"]);
    let mut out = Vec::new();
    speaker.configure(&settings(&["10.0.0.1,admin-down"]), 30 * MS, &mut dice(), &mut out);
    assert_eq!(state(&speaker), State::Up);
    speaker.drained(|peer| peer == address("10.0.0.9"), 40 * MS, &mut dice(), &mut out);
    assert_eq!(state(&speaker), State::Up);
    speaker.drained(|peer| peer == address("10.0.0.1"), 50 * MS, &mut dice(), &mut out);
    assert_eq!(state(&speaker), State::AdminDown);
    let (mut speaker, _) = up(&["10.0.0.1"]);
    speaker.configure(&settings(&["10.0.0.1,admin-down=now"]), 30 * MS, &mut dice(), &mut out);
    assert_eq!(state(&speaker), State::AdminDown);
}

#[test]
fn a_speaker_goes_on_where_another_stopped() {
    let peers = ["10.0.0.1,tx=100ms,rx=100ms", "10.0.7.0/24,passive"];
    let (mut first, number) = up(&peers);
    hears(&mut first, &from("10.0.7.7", &packet(State::Down, 0).encode()), 25 * MS);
    let records: Vec<_> =
        (0..SESSIONS_MAX).map(SessionId).filter_map(|id| Some((id, first.record(id)?))).collect();
    assert_eq!(records.len(), 2);
    let mut out = Vec::new();
    let next = Speaker::new(&settings(&peers), &records, 100 * MS, &mut dice(), &mut out);
    let (before, after) = (first.sessions(100 * MS), next.sessions(100 * MS));
    for (one, other) in before.iter().zip(&after) {
        let same = |view: &SessionView| (view.peer, view.state, view.discriminator, view.source_port);
        assert_eq!(same(one), same(other));
    }
    assert_eq!(after[0].discriminator, number);
    let sent = out.iter().filter(|action| matches!(action, Action::Send(..))).count();
    assert_eq!(sent, 2, "each peer hears of the new one at once: {out:?}");
    assert!(!out.iter().any(|action| matches!(action, Action::Notify(..))));
    // Who is no longer a peer is not gone on with.
    let mut out = Vec::new();
    let next = Speaker::new(&settings(&["10.0.0.1"]), &records, 100 * MS, &mut dice(), &mut out);
    assert_eq!(next.sessions(Duration::ZERO).len(), 1);
    assert!(out.contains(&Action::Close(SessionId(1))));
}

#[test]
fn echoes_go_back_to_peers_that_may_ask_and_not_faster_than_told() {
    let (mut speaker, _) = up(&["10.0.0.1,echo=50ms"]);
    let echo = from("10.0.0.1", b"anything");
    assert!(speaker.reflects(&echo, 100 * MS));
    assert!(!speaker.reflects(&echo, 110 * MS), "five times as fast as told");
    assert!(speaker.reflects(&echo, 150 * MS));
    assert!(!speaker.reflects(&Datagram { ttl: Some(254), ..echo }, 300 * MS), "it was reflected once");
    assert!(!speaker.reflects(&from("10.0.0.3", b""), 300 * MS));
    assert_eq!((refusals(&speaker, Rejection::Echo), speaker.sessions(Duration::ZERO)[0].echoes), (3, 2));
    let (mut quiet, _) = up(&["10.0.0.1"]);
    assert!(!quiet.reflects(&from("10.0.0.1", b""), 100 * MS), "nobody told it that it may");
}

#[test]
fn periodic_packets_keep_their_pace_over_a_minute() {
    let (mut speaker, number) = up(&["10.0.0.1,tx=100ms,rx=100ms"]);
    let (mut now, mut out, mut random) = (30 * MS, Vec::new(), dice());
    let mut sent = Vec::new();
    while now < Duration::from_secs(60) {
        now = speaker.next().unwrap().max(now);
        speaker.advance(now, &mut random, &mut out);
        for action in out.drain(..) {
            if matches!(action, Action::Send(..)) {
                sent.push(now);
            }
            assert!(!matches!(action, Action::Notify(..)), "{action:?} at {now:?}");
        }
        hears(&mut speaker, &from("10.0.0.1", &packet(State::Up, number).encode()), now);
    }
    let gaps: Vec<Duration> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (75 * MS..=100 * MS).contains(gap)), "{gaps:?}");
    assert!((600..800).contains(&sent.len()));
}

proptest! {
    /// Whatever arrives from whomever: no panic, no session beyond the bound, and strangers change nothing.
    #[test]
    fn garbage_is_counted(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0_u8..4, any::<Option<u8>>()), 0..100),
    ) {
        let (mut speaker, _) = up(&["10.0.0.1", "10.0.0.0/30,passive"]);
        let total = packets.len() as u64;
        let received: u64 = speaker.sessions(Duration::ZERO).iter().map(|view| view.received).sum();
        for (payload, last, ttl) in packets {
            let datagram = Datagram { ttl, ..from(&format!("10.0.0.{last}"), &payload) };
            hears(&mut speaker, &datagram, 30 * MS);
        }
        let views = speaker.sessions(Duration::ZERO);
        let believed: u64 = views.iter().map(|view| view.received).sum::<u64>() - received;
        prop_assert_eq!(speaker.rejected().0.values().sum::<u64>() + believed, total);
        prop_assert!(views.len() <= SESSIONS_MAX);
    }
}
