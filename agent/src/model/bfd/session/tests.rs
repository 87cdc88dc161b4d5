//! The state machine and the timers, packet by packet.

use proptest::prelude::*;

use super::super::{Hops, LENGTH};
use super::*;

const MS: Duration = Duration::from_millis(1);

fn timing(tx: u32, rx: u32, multiplier: u8) -> Timing {
    Timing { tx: Micros(tx * 1000), rx: Micros(rx * 1000), multiplier: NonZeroU8::new(multiplier).unwrap() }
}

fn setup(role: Role, timing: Timing) -> Setup {
    Setup { discriminator: NonZeroU32::new(7).unwrap(), role, timing, echo: Micros(0) }
}

/// What a peer with number 9, 100 ms and multiplier 3 says.
fn said(state: State, your: u32) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: Poll::Idle,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: NonZeroU32::new(9).unwrap(),
        your_discriminator: NonZeroU32::new(your),
        desired_min_tx: Micros(100_000),
        required_min_rx: Micros(100_000),
        required_min_echo_rx: Micros(0),
    }
}

/// What was sent, when the timers run out, and what was told, after some input.
#[derive(Debug, Default)]
struct Did {
    sent: Vec<Packet>,
    transmit: Option<Duration>,
    detect: Option<Duration>,
    told: Vec<(State, State, Diagnostic)>,
}

impl Did {
    fn of(commands: &[Command]) -> Self {
        let mut did = Self::default();
        for command in commands {
            match *command {
                Command::Send(packet) => did.sent.push(packet),
                Command::Set(Timer::Transmit, at) => did.transmit = Some(at),
                Command::Set(Timer::Detect, at) => did.detect = Some(at),
                Command::Cancel(Timer::Transmit) => did.transmit = None,
                Command::Cancel(Timer::Detect) => did.detect = None,
                Command::Notify(Transition { from, to, diagnostic, .. }) => {
                    did.told.push((from, to, diagnostic))
                }
            }
        }
        did
    }
}

/// Jitter at its longest, so that times are what they are called.
fn longest() -> u64 {
    250
}

fn does(session: &mut Session, input: Input<'_>, at: Duration) -> Did {
    let mut out = Vec::new();
    session.handle(input, at, &mut longest, &mut out);
    Did::of(&out)
}

fn begun(role: Role, timing: Timing) -> (Session, Did) {
    let mut session = Session::new(setup(role, timing));
    let mut out = Vec::new();
    session.begin(Duration::ZERO, &mut longest, &mut out);
    (session, Did::of(&out))
}

/// A session that is Up and whose poll was answered, at 30 ms.
fn up(timing: Timing) -> Session {
    let (mut session, _) = begun(Role::Active, timing);
    does(&mut session, Input::Packet(&said(State::Down, 0)), 10 * MS);
    does(&mut session, Input::Packet(&said(State::Init, 7)), 20 * MS);
    let answer = Packet { poll: Poll::Final, ..said(State::Up, 7) };
    does(&mut session, Input::Packet(&answer), 30 * MS);
    assert_eq!((session.state(), session.is_polling()), (State::Up, false));
    session
}

#[test]
fn an_active_session_asks_slowly_and_a_passive_one_waits() {
    let (_, did) = begun(Role::Active, timing(100, 100, 3));
    let [first] = did.sent.as_slice() else { panic!("{did:?}") };
    assert_eq!(
        (first.state, first.desired_min_tx, first.your_discriminator),
        (State::Down, Micros::SLOW, None)
    );
    assert_eq!(did.transmit, Some(1000 * MS), "slow start: RFC 5880, 6.8.3");
    let (mut session, did) = begun(Role::Passive, timing(100, 100, 3));
    assert!(did.sent.is_empty() && did.transmit.is_none(), "RFC 5880, 6.1");
    let did = does(&mut session, Input::Packet(&said(State::Down, 0)), MS);
    assert_eq!(did.sent.iter().map(|packet| packet.state).collect::<Vec<_>>(), [State::Init]);
}

#[test]
fn every_transition_of_the_state_machine() {
    use State::{AdminDown, Down, Init, Up};
    // RFC 5880, 6.2: here, what the peer says, then here.
    for (here, there, then) in [
        (Down, Down, Init),
        (Down, Init, Up),
        (Down, Up, Down),
        (Down, AdminDown, Down),
        (Init, Down, Init),
        (Init, Init, Up),
        (Init, Up, Up),
        (Init, AdminDown, Down),
        (Up, Down, Down),
        (Up, Init, Up),
        (Up, Up, Up),
        (Up, AdminDown, Down),
        (AdminDown, Down, AdminDown),
        (AdminDown, Up, AdminDown),
    ] {
        let (mut session, _) = begun(Role::Active, timing(100, 100, 3));
        session.state = here;
        does(&mut session, Input::Packet(&said(there, 7)), MS);
        assert_eq!(session.state(), then, "{here:?} and {there:?}");
        if here == Up && then == Down {
            assert_eq!(session.diagnostic(), Diagnostic::NEIGHBOR_DOWN);
        }
    }
}

#[test]
fn going_up_polls_for_the_fast_rate_and_an_answer_ends_it() {
    let (mut session, _) = begun(Role::Active, timing(100, 100, 3));
    does(&mut session, Input::Packet(&said(State::Down, 0)), 10 * MS);
    let did = does(&mut session, Input::Packet(&said(State::Init, 7)), 20 * MS);
    let [packet] = did.sent.as_slice() else { panic!("{did:?}") };
    assert_eq!((packet.state, packet.poll, packet.desired_min_tx), (State::Up, Poll::Poll, Micros(100_000)));
    assert_eq!(did.told, [(State::Init, State::Up, Diagnostic::NONE)]);
    let did = does(&mut session, Input::Timer(Timer::Transmit), 120 * MS);
    assert_eq!(did.sent[0].poll, Poll::Poll, "it asks until it is answered");
    does(&mut session, Input::Packet(&Packet { poll: Poll::Final, ..said(State::Up, 7) }), 130 * MS);
    assert_eq!(does(&mut session, Input::Timer(Timer::Transmit), 220 * MS).sent[0].poll, Poll::Idle);
}

/// Pitfall 1: FRR wants one packet a second until it is up.
#[test]
fn a_pending_transmission_is_moved_when_the_peer_wants_packets_sooner() {
    let (mut session, _) = begun(Role::Active, timing(100, 100, 3));
    let slow = |state| Packet { required_min_rx: Micros::SLOW, ..said(state, 7) };
    does(&mut session, Input::Packet(&slow(State::Down)), 10 * MS);
    let did = does(&mut session, Input::Packet(&slow(State::Init)), 20 * MS);
    assert_eq!(did.transmit, Some(1020 * MS));
    let did = does(&mut session, Input::Packet(&said(State::Up, 7)), 30 * MS);
    assert_eq!(did.transmit, Some(120 * MS), "not in a second: the peer's detection time is 300 ms now");
}

/// Pitfall 2: FRR keeps to one packet a second until its poll is answered.
#[test]
fn a_poll_is_answered_at_once_and_a_flood_of_them_is_not() {
    let mut session = up(timing(100, 100, 3));
    let poll = Packet { poll: Poll::Poll, ..said(State::Up, 7) };
    let did = does(&mut session, Input::Packet(&poll), 40 * MS);
    let [answer] = did.sent.as_slice() else { panic!("{did:?}") };
    assert_eq!((answer.poll, answer.state), (Poll::Final, State::Up));
    let before = did.transmit;
    assert_eq!(before, Some(120 * MS), "an answer is not one of the periodic packets");
    let answers: usize =
        (0..1000).map(|_| does(&mut session, Input::Packet(&poll), 41 * MS).sent.len()).sum();
    assert!(answers < 20, "{answers} answers to 1000 polls within a millisecond");
    assert_eq!(does(&mut session, Input::Packet(&poll), 200 * MS).sent.len(), 1);
}

#[test]
fn silence_for_the_detection_time_takes_it_down() {
    let mut session = up(timing(100, 200, 5));
    let did = does(&mut session, Input::Packet(&said(State::Up, 7)), 100 * MS);
    assert_eq!(
        did.detect,
        Some(700 * MS),
        "the peer's multiplier times the slower of 200 and 100 ms: RFC 5880, 6.8.4"
    );
    let did = does(&mut session, Input::Timer(Timer::Detect), 700 * MS);
    assert_eq!(did.told, [(State::Up, State::Down, Diagnostic::EXPIRED)]);
    let [packet] = did.sent.as_slice() else { panic!("{did:?}") };
    let told = (packet.state, packet.diagnostic, packet.your_discriminator, packet.desired_min_tx);
    assert_eq!(told, (State::Down, Diagnostic::EXPIRED, NonZeroU32::new(9), Micros::SLOW));
    let at = did.transmit.unwrap();
    let did = does(&mut session, Input::Timer(Timer::Transmit), at);
    assert_eq!(did.sent[0].your_discriminator, None, "forgotten after that: RFC 5880, 6.8.1");
}

#[test]
fn a_passive_session_tells_its_end_once_and_is_quiet() {
    let (mut session, _) = begun(Role::Passive, timing(100, 100, 3));
    for state in [State::Down, State::Init] {
        does(&mut session, Input::Packet(&said(state, 7)), Duration::ZERO);
    }
    let did = does(&mut session, Input::Timer(Timer::Detect), 300 * MS);
    assert_eq!(did.sent.iter().map(|packet| packet.state).collect::<Vec<_>>(), [State::Down]);
    assert_eq!(did.transmit, None, "RFC 5880, 6.8.7");
}

#[test]
fn changes_of_timing_wait_for_the_answer_where_they_must() {
    let mut session = up(timing(100, 100, 3));
    let did = does(&mut session, Input::Timing(timing(500, 50, 3)), 100 * MS);
    assert!(did.sent.is_empty());
    let did = does(&mut session, Input::Timer(Timer::Transmit), 120 * MS);
    let packet = did.sent[0];
    assert_eq!(
        (packet.poll, packet.desired_min_tx, packet.required_min_rx.0),
        (Poll::Poll, Micros(500_000), 50_000)
    );
    assert_eq!(did.transmit, Some(220 * MS), "slower only once the peer knows");
    assert_eq!(session.detection(), 300 * MS, "nor is more expected of the peer before it knows");
    let fast = Packet { poll: Poll::Final, desired_min_tx: Micros(50_000), ..said(State::Up, 7) };
    let did = does(&mut session, Input::Packet(&fast), 130 * MS);
    assert_eq!((did.transmit, session.detection()), (Some(220 * MS), 150 * MS), "one more as it was due");
    assert_eq!(does(&mut session, Input::Timer(Timer::Transmit), 220 * MS).transmit, Some(720 * MS));
    // The other way round both are safe at once.
    let did = does(&mut session, Input::Timing(timing(100, 400, 3)), 240 * MS);
    assert_eq!((did.transmit, session.detection()), (Some(320 * MS), 1200 * MS));
}

/// FRR 8.4 expects packets at its old pace until the second one after it asked for a slower one.
#[test]
fn a_peer_that_wants_slower_packets_gets_one_more_as_it_was_due() {
    let mut session = up(timing(100, 100, 3));
    does(&mut session, Input::Timer(Timer::Transmit), 120 * MS);
    let slower = Packet { poll: Poll::Poll, required_min_rx: Micros::SLOW, ..said(State::Up, 7) };
    let did = does(&mut session, Input::Packet(&slower), 130 * MS);
    assert_eq!((did.sent[0].poll, did.transmit), (Poll::Final, Some(220 * MS)));
    assert_eq!(does(&mut session, Input::Timer(Timer::Transmit), 220 * MS).transmit, Some(1220 * MS));
}

#[test]
fn a_change_during_a_poll_is_polled_for_again() {
    let mut session = up(timing(100, 100, 3));
    does(&mut session, Input::Timing(timing(500, 100, 3)), 100 * MS);
    does(&mut session, Input::Timing(timing(900, 100, 3)), 110 * MS);
    let answer = Packet { poll: Poll::Final, ..said(State::Up, 7) };
    does(&mut session, Input::Packet(&answer), 120 * MS);
    assert!(session.is_polling(), "that answer may be to the first question");
    does(&mut session, Input::Packet(&answer), 130 * MS);
    assert_eq!((session.is_polling(), session.interval()), (false, Some(900 * MS)));
}

#[test]
fn the_peer_may_ask_for_slower_packets_for_none_and_for_demand_mode() {
    let mut session = up(timing(100, 100, 3));
    let slower = Packet { required_min_rx: Micros(400_000), ..said(State::Up, 7) };
    does(&mut session, Input::Packet(&slower), 50 * MS);
    assert_eq!(session.interval(), Some(400 * MS));
    let none = Packet { required_min_rx: Micros(0), ..said(State::Up, 7) };
    assert_eq!(does(&mut session, Input::Packet(&none), 60 * MS).transmit, None);
    let demand = Packet { demand: true, ..said(State::Up, 7) };
    assert_eq!(does(&mut session, Input::Packet(&demand), 70 * MS).transmit, None, "RFC 5880, 6.8.7");
    assert!(does(&mut session, Input::Packet(&said(State::Up, 7)), 80 * MS).transmit.is_some());
}

#[test]
fn a_failed_path_is_told_and_holds_the_session_down() {
    let mut session = up(timing(100, 100, 3));
    let did = does(&mut session, Input::Path(Some(Diagnostic::CONCATENATED_PATH_DOWN)), 100 * MS);
    assert_eq!((did.sent[0].state, did.sent[0].diagnostic.bits()), (State::Down, 6));
    assert_eq!(did.told.len(), 1);
    for state in [State::Down, State::Init, State::Down] {
        does(&mut session, Input::Packet(&said(state, 7)), 110 * MS);
        assert_eq!(session.state(), State::Down);
    }
    does(&mut session, Input::Path(None), 200 * MS);
    does(&mut session, Input::Packet(&said(State::Down, 7)), 210 * MS);
    assert_eq!(
        (session.state(), session.diagnostic().bits()),
        (State::Init, 6),
        "the reason stays until it is up"
    );
    does(&mut session, Input::Packet(&said(State::Init, 7)), 220 * MS);
    assert_eq!((session.state(), session.diagnostic()), (State::Up, Diagnostic::NONE));
}

#[test]
fn its_owner_takes_it_down_and_up_again() {
    let mut session = up(timing(100, 100, 3));
    let did = does(&mut session, Input::Admin(Admin::Down), 100 * MS);
    assert_eq!(
        (did.sent[0].state, did.sent[0].diagnostic),
        (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN)
    );
    assert!(did.transmit.is_some(), "it is told for as long as the session is there: RFC 5880, 6.8.16");
    does(&mut session, Input::Packet(&said(State::Up, 7)), 110 * MS);
    assert_eq!(session.state(), State::AdminDown);
    does(&mut session, Input::Admin(Admin::Wanted), 200 * MS);
    does(&mut session, Input::Packet(&said(State::Down, 7)), 210 * MS);
    assert_eq!(session.state(), State::Init);
}

fn record(session: &Session, sent: Duration) -> Record {
    Record {
        peer: "10.0.0.1".parse().unwrap(),
        interface: None,
        hops: Hops::Single,
        source: None,
        source_port: 50_000,
        discriminator: session.discriminator(),
        state: session.state(),
        diagnostic: session.diagnostic(),
        multiplier: session.setup.timing.multiplier,
        sent,
        since: Duration::ZERO,
        counts: super::super::Counts::default(),
        remote: Some(session.remote),
        announced: session.announced,
        used: session.used,
        sequence: session.sequence,
    }
}

/// Pitfall 3: a restart must not show.
#[test]
fn the_next_agent_goes_on_while_the_peer_cannot_have_noticed() {
    let first = up(timing(100, 100, 3));
    let left = record(&first, 1000 * MS);
    let other = Setup { discriminator: NonZeroU32::MAX, ..setup(Role::Active, timing(100, 100, 3)) };
    let mut next = Session::resume(other, &left, 1299 * MS);
    let mut out = Vec::new();
    next.begin(1299 * MS, &mut longest, &mut out);
    let did = Did::of(&out);
    let [packet] = did.sent.as_slice() else { panic!("{did:?}") };
    assert_eq!((packet.state, packet.my_discriminator.get(), packet.poll), (State::Up, 7, Poll::Idle));
    assert_eq!(packet.your_discriminator, NonZeroU32::new(9));
    assert_eq!(did.detect, Some(1599 * MS), "the peer gets its whole time anew");
    let late = Session::resume(other, &left, 1300 * MS);
    assert_eq!((late.state(), late.discriminator().get()), (State::Down, 7), "it has noticed: begin anew");
}

#[test]
fn parting_makes_the_peer_patient_and_the_next_agent_makes_it_quick_again() {
    let mut session = up(timing(100, 100, 3));
    does(&mut session, Input::Timing(timing(5000, 100, 3)), 100 * MS);
    assert_eq!(session.remote_detection(), 15_000 * MS);
    does(&mut session, Input::Packet(&Packet { poll: Poll::Final, ..said(State::Up, 7) }), 110 * MS);
    let left = record(&session, 100 * MS);
    let mut next = Session::resume(setup(Role::Active, timing(100, 100, 3)), &left, 9000 * MS);
    assert_eq!(next.state(), State::Up, "nine seconds later");
    let did = does(&mut next, Input::Timing(timing(100, 100, 3)), 9000 * MS);
    assert_eq!(next.interval(), Some(100 * MS));
    assert!(did.transmit.is_some_and(|at| at <= 9000 * MS), "at once: {did:?}");
    assert!(next.is_polling());
}

fn packets() -> impl Strategy<Value = Option<Packet>> {
    let octets = prop::collection::vec(any::<u8>(), LENGTH).prop_map(|mut octets| {
        (octets[0], octets[3]) = (octets[0] & 0x1f | 0x20, LENGTH as u8);
        octets[1] &= 0xfa;
        Packet::decode(&octets).ok()
    });
    let fine = (0_usize..4, 0_usize..3).prop_map(|(state, poll)| {
        let poll = [Poll::Idle, Poll::Poll, Poll::Final][poll];
        Some(Packet { poll, ..said(State::ALL[state], 7) })
    });
    prop_oneof![1 => octets, 3 => fine]
}

proptest! {
    /// RFC 5880, 6.8.7: within 75 and 100 % of the interval; 90 % where a single packet may go missing.
    #[test]
    fn jitter_stays_in_its_bounds(random: u64, multiplier in 1_u8..) {
        let thousandths = jitter(NonZeroU8::new(multiplier).unwrap(), random);
        let most = if multiplier == 1 { 900 } else { 1000 };
        prop_assert!((750..=most).contains(&thousandths));
    }

    /// Whatever comes: no packet goes out both asking and answering, none faster than a second while not up but for answers and
    /// changes, timers lie ahead, and nothing panics.
    #[test]
    fn no_course_of_events_breaks_the_rules(
        events in prop::collection::vec((0_u64..400, 0_u8..8, packets()), 0..200),
        role in prop_oneof![Just(Role::Active), Just(Role::Passive)],
    ) {
        let (mut session, _) = begun(role, timing(50, 50, 3));
        let mut now = Duration::ZERO;
        for (pause, kind, packet) in events {
            now += Duration::from_millis(pause);
            let input = match (kind, &packet) {
                (0, _) => Input::Timer(Timer::Transmit),
                (1, _) => Input::Timer(Timer::Detect),
                (2, _) => Input::Path(packet.map(|_| Diagnostic::PATH_DOWN)),
                (3, _) => Input::Admin(if packet.is_some() { Admin::Wanted } else { Admin::Down }),
                (4, _) => Input::Timing(timing(10 + u32::from(kind) * 40, 50, 3)),
                (_, Some(packet)) => Input::Packet(packet),
                (_, None) => continue,
            };
            let before = session.state();
            let did = does(&mut session, input, now);
            prop_assert!(did.transmit.is_none_or(|at| at >= now));
            for packet in &did.sent {
                prop_assert!(packet.state == State::Up || packet.desired_min_tx >= Micros::SLOW);
                prop_assert_eq!(Packet::decode(&packet.encode()), Ok(*packet));
            }
            prop_assert_eq!(did.told.is_empty(), before == session.state());
            if session.state() == State::Up {
                prop_assert!(session.remote.discriminator.is_some());
            }
        }
    }
}
