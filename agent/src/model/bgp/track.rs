//! What becomes of a session while its connections come and go.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connection::{Both, Connection};
use super::learn;
use super::observer::Ends;
use super::session::{
    Asn, Cause, Convergence, Drop, Event, Hold, Knowledge, Session, SessionKey, SessionState, Side, Since,
    Speaker, Timing,
};
use super::stream::Flaws;
use super::wire::{Message, Notification, Open, RefreshStep, Update, describe};
use crate::model::tcp::Histogram;

/// Distances that are remembered to tell what is usual.
const RECENT: usize = 16;
/// UPDATEs that follow one another faster than this belong to one change.
const QUIET: Duration = Duration::from_secs(1);
/// A change that begins later than this after an event is not that event's.
const CAUSED: Duration = Duration::from_secs(10);
/// How long the cause of a loss may still change: word of a lost link and of what it caused come by different ways.
const SETTLES: Duration = Duration::from_millis(500);
/// Buckets of convergence times: the last but one ends at about 134 s.
const BUCKETS: usize = 28;
/// Unanswered SYNs with an authentication option after which passwords are suspected: a SYN is sent again after 1, 3 and 7 s.
const SUSPECT: u32 = 3;

/// A session and what is needed to go on with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tracker {
    pub(super) session: Session,
    /// The connection that carries it, while it is up.
    pub(super) current: Option<Ends>,
    recent: Both<Recent>,
    /// SYNs that nobody answered, in a row, and whether one of them had an authentication option.
    unanswered: u32,
    with_option: bool,
    /// Since when the last loss waits to be counted.
    uncounted: Option<Duration>,
    event: Option<(Event, Duration)>,
    train: Option<Train>,
    /// When something last happened.
    pub(super) touched: Duration,
    /// Whether it has changed since it was last shown.
    #[serde(skip, default = "yes")]
    pub(super) changed: bool,
}

fn yes() -> bool {
    true
}

/// Distances of the last messages of a side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Recent {
    keepalives: VecDeque<Duration>,
    silences: VecDeque<Duration>,
}

/// UPDATEs close to one another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Train {
    event: Option<(Event, Duration)>,
    last: Duration,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Notification(Side, Notification),
    Closed(Side),
    Reset(Side),
    Refused(Side),
    Silence(Side),
    Replaced,
}

impl Tracker {
    pub(super) fn new(key: SessionKey, at: Duration) -> Self {
        let session = Session {
            key,
            interface: None,
            state: SessionState::Idle,
            since: Since::Exactly(at),
            knowledge: Knowledge::Whole,
            local: Speaker::default(),
            peer: Speaker::default(),
            hold_time: None,
            authenticated: false,
            password_suspect: false,
            advertised: Default::default(),
            received: Default::default(),
            sending: Timing::default(),
            receiving: Timing::default(),
            drops: BTreeMap::new(),
            last_drop: None,
            last_failure: None,
            established: 0,
            convergence: BTreeMap::new(),
        };
        Self {
            session,
            current: None,
            recent: Both::default(),
            unanswered: 0,
            with_option: false,
            uncounted: None,
            event: None,
            train: None,
            touched: at,
            changed: true,
        }
    }

    /// Whether it is up.
    pub(super) fn up(&self) -> bool {
        self.current.is_some()
    }

    /// Somebody tries to connect.
    pub(super) fn tried(&mut self, authenticated: bool) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.with_option |= authenticated;
        self.session.password_suspect = self.with_option && self.unanswered >= SUSPECT && !self.up();
    }

    /// An attempt was answered, well or ill.
    pub(super) fn answered(&mut self) {
        (self.unanswered, self.with_option) = (0, false);
        self.session.password_suspect = false;
    }

    /// The session is up on this connection.
    pub(super) fn begin(&mut self, ends: Ends, connection: &Connection, at: Duration) {
        self.count_loss();
        self.current = Some(ends);
        self.answered();
        self.recent = Both::default();
        self.train = None;
        let whole = connection.whole();
        let session = &mut self.session;
        session.knowledge = if whole { Knowledge::Whole } else { Knowledge::Joined { at } };
        session.authenticated = connection.authenticated();
        if whole {
            session.established += 1;
            self.event = Some((Event::Established, at));
        } else {
            // Nothing of what a session before this one had told holds for it.
            session.hold_time = None;
            for speaker in [&mut session.local, &mut session.peer] {
                *speaker = Speaker { asn: speaker.asn, ..Speaker::default() };
            }
        }
        for rib in [&mut session.advertised, &mut session.received] {
            learn::clear(rib);
            rib.complete = whole;
        }
        for timing in [&mut session.sending, &mut session.receiving] {
            // That it is up takes a message of either side.
            timing.last_message = Some(at);
            timing.last_keepalive = None;
            timing.longest_silence = Duration::ZERO;
            (timing.keepalive_interval, timing.jitter) = (None, None);
        }
        self.enter(SessionState::Established, if whole { Since::Exactly(at) } else { Since::Before(at) });
    }

    /// Its state is another one.
    pub(super) fn enter(&mut self, state: SessionState, since: Since) {
        if self.session.state != state {
            (self.session.state, self.session.since) = (state, since);
        }
    }

    /// Octets are missing.
    pub(super) fn gap(&mut self, side: Side, at: Duration) {
        self.session.knowledge = Knowledge::Gap { at };
        self.rib(side).complete = false;
    }

    /// A message of the session, or of an attempt.
    pub(super) fn message(&mut self, side: Side, message: &Message, at: Duration) {
        let counts = &mut self.timing(side).messages;
        match message {
            Message::Open(_) => counts.open += 1,
            Message::Update(_) => counts.update += 1,
            Message::Notification(_) => counts.notification += 1,
            Message::Keepalive => counts.keepalive += 1,
            Message::RouteRefresh(_) => counts.route_refresh += 1,
        }
        match message {
            Message::Open(open) => self.open(side, open),
            Message::Update(update) => self.update(side, update, at),
            Message::RouteRefresh(refresh) if refresh.step == RefreshStep::Request => {
                self.event = Some((Event::Refresh, at));
            }
            Message::Keepalive | Message::Notification(_) | Message::RouteRefresh(_) => {}
        }
        if self.up() {
            self.pace(side, matches!(message, Message::Keepalive), at);
        }
    }

    /// What was less than perfect of late.
    pub(super) fn flaws(&mut self, side: Side, more: Flaws) {
        if more == Flaws::default() {
            return;
        }
        let timing = self.timing(side);
        timing.repeated_bytes += more.repeated;
        timing.missing_bytes += more.missing;
        timing.garbage_bytes += more.garbage;
        timing.resyncs += more.resyncs;
        self.changed = true;
    }

    /// Something happened that may change routes.
    pub(super) fn event(&mut self, event: Event, at: Duration) {
        // What comes with the session's own beginning is not overwritten by what that causes elsewhere.
        let own = self
            .event
            .is_some_and(|(event, since)| event == Event::Established && at.saturating_sub(since) < CAUSED);
        if !own {
            self.event = Some((event, at));
        }
    }

    /// Its connection has ended. `link_down` tells that the interface lost its link after the peer's last message. Returns
    /// whether the session was up.
    pub(super) fn ended(&mut self, ending: &Ending, link_down: bool, at: Duration) -> bool {
        let drop = verdict(ending, link_down, self.session.hold(), at);
        if self.current.take().is_none() {
            let collision =
                matches!(ending, Ending::Notification(_, notification) if notification.collision());
            if !collision {
                self.session.last_failure = Some(drop);
            }
            return false;
        }
        self.close_train();
        self.session.last_drop = Some(drop);
        self.uncounted = Some(at);
        learn::clear(&mut self.session.advertised);
        learn::clear(&mut self.session.received);
        self.enter(SessionState::Idle, Since::Exactly(at));
        true
    }

    /// Its interface lost its link. That may be what a loss of just now is due to.
    pub(super) fn link_lost(&mut self) {
        if let (Some(_), Some(drop)) = (self.uncounted, &mut self.session.last_drop) {
            blame_link(drop);
            self.changed = true;
        }
    }

    /// Takes a loss into the counts.
    fn count_loss(&mut self) {
        if let (Some(_), Some(drop)) = (self.uncounted.take(), &self.session.last_drop) {
            *self.session.drops.entry(drop.cause).or_default() += 1;
            self.changed = true;
        }
    }

    /// Somebody looks again after a while: what was not seen meanwhile is no silence.
    pub(super) fn resume(&mut self, now: Duration) {
        if self.up() {
            self.session.sending.last_message = Some(now);
            self.session.receiving.last_message = Some(now);
        }
    }

    /// Lets time pass. Returns the side that was silent for too long.
    pub(super) fn pass(&mut self, now: Duration) -> Option<Side> {
        if self.uncounted.is_some_and(|at| now.saturating_sub(at) >= SETTLES) {
            self.count_loss();
        }
        if self.train.is_some_and(|train| now.saturating_sub(train.last) >= QUIET) {
            self.close_train();
        }
        if !self.up() {
            return None;
        }
        let limit = self.session.hold().map(limit);
        for side in Side::ALL {
            let Some(last) = self.session.timing(side).last_message else { continue };
            let silence = now.saturating_sub(last);
            if limit.is_some_and(|limit| silence >= limit) {
                return Some(side);
            }
            let longest = silence.max(self.recent.of(side).longest());
            let timing = self.timing(side);
            if timing.longest_silence != longest {
                timing.longest_silence = longest;
                self.changed = true;
            }
        }
        None
    }

    /// When [`Self::pass`] has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let train = self.train.map(|train| train.last + QUIET);
        let uncounted = self.uncounted.map(|at| at + SETTLES);
        let limit = self.session.hold().map(limit).filter(|_| self.up());
        let silence = Side::ALL.into_iter().filter_map(|side| {
            let timing = self.session.timing(side);
            // A silence is told every second once it is the longest one.
            Some(timing.last_message? + limit?.min(timing.longest_silence + Duration::from_secs(1)))
        });
        silence.chain(train).chain(uncounted).min()
    }

    fn open(&mut self, side: Side, open: &Open) {
        let session = &mut self.session;
        let speaker = match side {
            Side::Local => &mut session.local,
            Side::Peer => &mut session.peer,
        };
        *speaker = Speaker {
            asn: Some(Asn(open.asn)),
            identifier: Some(open.identifier),
            hold_time: Some(open.hold_time),
            capabilities: Some(open.capabilities.clone()),
        };
        session.hold_time = session.local.hold_time.zip(session.peer.hold_time).map(|(a, b)| a.min(b));
    }

    fn update(&mut self, side: Side, update: &Update, at: Duration) {
        if !self.up() {
            return;
        }
        self.timing(side).malformed += u64::from(!update.faults.is_empty());
        learn::apply(self.rib(side), update, at);
        let speaker = match side {
            Side::Local => &mut self.session.local,
            Side::Peer => &mut self.session.peer,
        };
        if speaker.asn.is_none() {
            speaker.asn = learn::asn(update);
        }
        let event = match self.train {
            Some(train) if at.saturating_sub(train.last) < QUIET => train.event,
            _ => {
                self.close_train();
                self.event.take().filter(|(_, since)| at.saturating_sub(*since) < CAUSED)
            }
        };
        self.train = Some(Train { event, last: at });
    }

    fn close_train(&mut self) {
        let Some(Train { event: Some((event, since)), last }) = self.train.take() else { return };
        let took = last.saturating_sub(since);
        let all = self
            .session
            .convergence
            .entry(event)
            .or_insert_with(|| Convergence { last: Duration::ZERO, times: Histogram::with_buckets(BUCKETS) });
        all.last = took;
        all.times.record(took);
        self.changed = true;
    }

    fn pace(&mut self, side: Side, keepalive: bool, at: Duration) {
        let timing = self.session.timing(side);
        let (message, last_keepalive) = (timing.last_message, timing.last_keepalive);
        let recent = self.recent.of_mut(side);
        if let Some(last) = message {
            push(&mut recent.silences, at.saturating_sub(last));
        }
        if let (true, Some(last)) = (keepalive, last_keepalive) {
            push(&mut recent.keepalives, at.saturating_sub(last));
        }
        let (longest, usual) = (recent.longest(), recent.usual());
        let timing = self.timing(side);
        timing.last_message = Some(at);
        timing.longest_silence = longest;
        if keepalive {
            timing.last_keepalive = Some(at);
            timing.keepalive_interval = usual.map(|(interval, _)| interval);
            timing.jitter = usual.map(|(_, jitter)| jitter);
        }
    }

    fn rib(&mut self, side: Side) -> &mut super::Rib {
        match side {
            Side::Local => &mut self.session.advertised,
            Side::Peer => &mut self.session.received,
        }
    }

    pub(super) fn timing(&mut self, side: Side) -> &mut Timing {
        match side {
            Side::Local => &mut self.session.sending,
            Side::Peer => &mut self.session.receiving,
        }
    }
}

impl Recent {
    fn longest(&self) -> Duration {
        self.silences.iter().max().copied().unwrap_or_default()
    }

    /// The median distance of KEEPALIVEs, and the mean of what they are off it. Two right after one another are a beginning.
    fn usual(&self) -> Option<(Duration, Duration)> {
        let mut sorted: Vec<Duration> = self.keepalives.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().filter(|_| sorted.len() >= 2)?;
        let off: Duration = sorted.iter().map(|one| one.abs_diff(median)).sum();
        Some((median, off / sorted.len() as u32))
    }
}

fn push(recent: &mut VecDeque<Duration>, distance: Duration) {
    if recent.len() == RECENT {
        recent.pop_front();
    }
    recent.push_back(distance);
}

/// After which silence a session is lost even if nobody says so. In a silent cut nobody can: TCP sends nothing new before what it
/// repeats is acknowledged. An estimated hold time may be wrong by a factor of two.
fn limit(hold: Hold) -> Duration {
    match hold {
        Hold::Negotiated(time) => time + (time / 10).clamp(Duration::from_secs(1), Duration::from_secs(3)),
        Hold::Estimated(time) => time * 2,
    }
}

fn verdict(ending: &Ending, link_down: bool, hold: Option<Hold>, at: Duration) -> Drop {
    let mut drop = Drop {
        at,
        cause: Cause::Replaced,
        by: None,
        code: None,
        hard_reset: false,
        reason: String::new(),
        text: None,
    };
    match ending {
        Ending::Notification(side, notification) => {
            drop.by = Some(*side);
            drop.code = Some((notification.code, notification.subcode));
            drop.hard_reset = notification.hard_reset;
            drop.reason = describe(notification.code, notification.subcode);
            drop.text.clone_from(&notification.text);
            drop.cause = match side {
                _ if notification.hold_timer_expired() => Cause::HoldTimer,
                Side::Local => Cause::NotificationSent,
                Side::Peer => Cause::NotificationReceived,
            };
        }
        Ending::Closed(side) => {
            (drop.by, drop.cause) = (Some(*side), Cause::Fin);
            drop.reason = "connection closed without a NOTIFICATION".to_owned();
        }
        Ending::Reset(side) => {
            (drop.by, drop.cause) = (Some(*side), Cause::Rst);
            drop.reason = "connection reset".to_owned();
        }
        Ending::Refused(side) => {
            (drop.by, drop.cause) = (Some(*side), Cause::Rst);
            drop.reason = "connection refused: nobody accepts on that port".to_owned();
        }
        Ending::Silence(side) => {
            drop.cause = Cause::HoldTimer;
            let of = match side {
                Side::Local => "the node",
                Side::Peer => "the peer",
            };
            let seconds = hold.map_or(0, |hold| hold.time().as_secs());
            drop.reason = format!("nothing from {of} for the hold time of {seconds} s, and nobody said so");
        }
        Ending::Replaced => drop.reason = "a new connection took its place".to_owned(),
    }
    if link_down {
        blame_link(&mut drop);
    }
    drop
}

/// What the peer says got here in spite of the link; what the node does may be because of it.
fn blame_link(drop: &mut Drop) {
    if !matches!(drop.cause, Cause::NotificationReceived | Cause::Replaced | Cause::Link) {
        drop.cause = Cause::Link;
        drop.reason = format!("the link was lost; then: {}", drop.reason);
    }
}
