//! One session: the state machine and the timers of RFC 5880, 6.8. What happened goes in, commands come out.

#[cfg(test)]
mod tests;

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use serde::Serialize;

use super::packet::{Diagnostic, Micros, Packet, Poll, State};
use super::record::Record;
use super::{Margin, Role, Timing};

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A packet of this session came; its sender, time to live and discriminators were checked.
    Packet(&'a Packet),
    /// A timer that was set has run out.
    Timer(Timer),
    /// Other timing is wanted.
    Timing(Timing),
    /// The path behind this session failed (the reason), or works again.
    Path(Option<Diagnostic>),
    /// The owner takes the session away, or wants it again.
    Admin(Admin),
}

/// What the owner of a session wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// To have it.
    Wanted,
    /// To be without it.
    Down,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// Send a packet now.
    Send(Packet),
    /// Let a timer run out at this time, instead of whenever it would have.
    Set(Timer, Duration),
    /// Let a timer not run out.
    Cancel(Timer),
    /// Tell that the state changed.
    Notify(Transition),
}

/// A timer of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The next periodic packet is due.
    Transmit,
    /// Nothing was heard for the detection time.
    Detect,
}

/// A change of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// Why, as it is told to the peer.
    pub diagnostic: Diagnostic,
    /// What the peer told as its own reason.
    pub remote: Diagnostic,
    /// When.
    pub at: Duration,
}

/// What a session begins with.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Its number here; no other session of this host has it.
    pub discriminator: NonZeroU32,
    /// Who speaks first.
    pub role: Role,
    /// How fast.
    pub timing: Timing,
    /// The fastest rate of echoes that are sent back; zero for none.
    pub echo: Micros,
}

/// What the other end last said (RFC 5880, 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) discriminator: Option<NonZeroU32>,
    pub(super) state: State,
    pub(super) diagnostic: Diagnostic,
    pub(super) multiplier: u8,
    pub(super) min_tx: Micros,
    pub(super) min_rx: Micros,
    pub(super) min_echo_rx: Micros,
    pub(super) demand: bool,
    pub(super) control_plane_independent: bool,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            discriminator: None,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            multiplier: 0,
            min_tx: Micros(0),
            // RFC 5880, 6.8.1: initialised to 1.
            min_rx: Micros(1),
            min_echo_rx: Micros(0),
            demand: false,
            control_plane_independent: false,
        }
    }
}

/// A pair of intervals of this end: towards the peer, and from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) tx: Micros,
    pub(super) rx: Micros,
}

/// A poll sequence (RFC 5880, 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequence {
    Idle,
    /// Every packet asks until one answers.
    Asking,
    /// Something changed since it was begun: the next one follows it.
    AskingTwice,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    pub(super) setup: Setup,
    pub(super) state: State,
    pub(super) diagnostic: Diagnostic,
    pub(super) remote: Remote,
    /// What packets say.
    pub(super) announced: Pace,
    /// What is reckoned with: `announced`, once the peer has confirmed what would be too soon before (RFC 5880, 6.8.3).
    pub(super) used: Pace,
    pub(super) sequence: Sequence,
    path: Option<Diagnostic>,
    pub(super) sent: Option<Duration>,
    pub(super) heard: Option<Duration>,
    /// When the next periodic packet is due.
    due: Option<Duration>,
    /// The share of the interval until then.
    thousandths: u32,
    answers: Allowance,
    margin: Margin,
}

/// How many answers to polls may go out at once; one more comes back every millisecond. A peer polls no faster than it
/// sends, and a flood of polls must not become one of answers.
const ANSWERS: u32 = 16;

#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    at: Duration,
}

impl Allowance {
    fn take(&mut self, now: Duration) -> bool {
        let back = now.saturating_sub(self.at).as_millis();
        self.left = self.left.saturating_add(u32::try_from(back).unwrap_or(ANSWERS)).min(ANSWERS);
        if back > 0 {
            self.at = now;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

impl Session {
    /// A session that is Down; nothing is sent before [`Session::begin`].
    pub fn new(setup: Setup) -> Self {
        let pace = Pace { tx: setup.timing.tx.max(Micros::SLOW), rx: setup.timing.rx };
        Self {
            setup,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::default(),
            announced: pace,
            used: pace,
            sequence: Sequence::Idle,
            path: None,
            sent: None,
            heard: None,
            due: None,
            thousandths: 1000,
            answers: Allowance { left: ANSWERS, at: Duration::ZERO },
            margin: Margin::default(),
        }
    }

    /// Goes on where another process stopped, with its discriminators. The state goes on, too, if the peer cannot have noticed
    /// that nobody was there: its detection time has not passed since the last packet to it.
    pub fn resume(setup: Setup, record: &Record, now: Duration) -> Self {
        let mut session = Self::new(Setup { discriminator: record.discriminator, ..setup });
        let Some(remote) = record.remote.filter(|_| record.noticed_at().is_some_and(|at| now < at)) else {
            return session;
        };
        session.state = record.state;
        session.diagnostic = record.diagnostic;
        session.remote = remote;
        (session.announced, session.used, session.sequence) =
            (record.announced, record.used, record.sequence);
        session.sent = Some(record.sent);
        // What came in the meantime found nobody: the peer gets its whole time anew.
        session.heard = Some(now);
        session
    }

    /// Sends the first packet and sets the timers.
    pub fn begin(&mut self, now: Duration, random: &mut impl FnMut() -> u64, out: &mut Vec<Command>) {
        if self.heard.is_some() {
            self.arm_detection(out);
        }
        if self.interval().is_some() {
            self.send(Poll::Idle, now, out);
        }
        self.thousandths = jitter(self.setup.timing.multiplier, random());
        self.arm_transmission(now, out);
    }

    /// Takes in what happened and tells what is to be done, in order.
    pub fn handle(
        &mut self,
        input: Input<'_>,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Command>,
    ) {
        match input {
            Input::Packet(packet) => self.receive(packet, now, out),
            Input::Timer(Timer::Transmit) => {
                if self.interval().is_some() {
                    self.send(Poll::Idle, now, out);
                }
                self.thousandths = jitter(self.setup.timing.multiplier, random());
            }
            Input::Timer(Timer::Detect) => self.expire(now, out),
            Input::Timing(timing) => self.retime(timing),
            Input::Path(path) => self.follow_path(path, now, out),
            Input::Admin(Admin::Down) => {
                self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, now, out)
            }
            Input::Admin(Admin::Wanted) if self.state == State::AdminDown => {
                self.enter(State::Down, Diagnostic::NONE, now, out);
            }
            Input::Admin(Admin::Wanted) => {}
        }
        self.arm_transmission(now, out);
    }

    /// RFC 5880, 6.8.6, from the point at which the session is known.
    fn receive(&mut self, packet: &Packet, now: Duration, out: &mut Vec<Command>) {
        if self.state == State::Up
            && let Some(heard) = self.heard
        {
            self.margin.gap(now.saturating_sub(heard), self.detection(), now);
        }
        self.remote = Remote {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            multiplier: packet.multiplier.get(),
            min_tx: packet.desired_min_tx,
            min_rx: packet.required_min_rx,
            min_echo_rx: packet.required_min_echo_rx,
            demand: packet.demand,
            control_plane_independent: packet.control_plane_independent,
        };
        self.heard = Some(now);
        if packet.poll == Poll::Final {
            self.confirmed();
        }
        if self.state == State::AdminDown {
            return;
        }
        self.step(packet.state, now, out);
        if packet.poll == Poll::Poll && self.answers.take(now) {
            self.send(Poll::Final, now, out);
        }
        self.arm_detection(out);
    }

    /// The state machine (RFC 5880, 6.2 and the end of 6.8.6). While the path is down the session stays so.
    fn step(&mut self, remote: State, now: Duration, out: &mut Vec<Command>) {
        let (to, why) = match (self.state, remote) {
            (State::Init | State::Up, State::AdminDown) => (State::Down, Diagnostic::NEIGHBOR_DOWN),
            (State::Up, State::Down) => (State::Down, Diagnostic::NEIGHBOR_DOWN),
            (State::Down, State::Down) if self.path.is_none() => (State::Init, self.diagnostic),
            (State::Down, State::Init) if self.path.is_none() => (State::Up, Diagnostic::NONE),
            (State::Init, State::Init | State::Up) => (State::Up, Diagnostic::NONE),
            _ => return,
        };
        self.enter(to, why, now, out);
    }

    /// RFC 5880, 6.8.4: nothing was heard for the detection time. The peer may still hear this end: it is told under its
    /// discriminator, which is forgotten after that (6.8.1). FRR drops packets without one while its session is up.
    fn expire(&mut self, now: Duration, out: &mut Vec<Command>) {
        self.heard = None;
        out.push(Command::Cancel(Timer::Detect));
        if matches!(self.state, State::Init | State::Up) {
            self.enter(State::Down, Diagnostic::EXPIRED, now, out);
        }
        self.remote = Remote { discriminator: None, state: State::Down, ..self.remote };
    }

    fn follow_path(&mut self, path: Option<Diagnostic>, now: Duration, out: &mut Vec<Command>) {
        self.path = path;
        if let Some(reason) = path
            && self.state != State::AdminDown
        {
            self.enter(State::Down, reason, now, out);
        }
    }

    /// Goes to a state, and tells the peer and whoever wants to know.
    fn enter(&mut self, to: State, why: Diagnostic, now: Duration, out: &mut Vec<Command>) {
        let from = std::mem::replace(&mut self.state, to);
        let changed = from != to || self.diagnostic != why;
        self.diagnostic = why;
        if (from == State::Up) != (to == State::Up) {
            self.margin = Margin::default();
            self.change_speed();
        }
        if changed && self.interval().is_some() {
            self.send(Poll::Idle, now, out);
        }
        if from != to {
            let remote = self.remote.diagnostic;
            out.push(Command::Notify(Transition { from, to, diagnostic: why, remote, at: now }));
        }
    }

    /// Fast in Up, slow elsewhere (RFC 5880, 6.8.3).
    fn change_speed(&mut self) {
        let wanted = self.setup.timing;
        if self.state == State::Up {
            self.announce(Pace { tx: wanted.tx, rx: wanted.rx });
        } else {
            self.announced = Pace { tx: wanted.tx.max(Micros::SLOW), rx: wanted.rx };
            self.used = self.announced;
            self.sequence = Sequence::Idle;
        }
    }

    fn retime(&mut self, timing: Timing) {
        self.setup.timing = timing;
        self.change_speed();
    }

    /// What makes the peer's or the own timers tighter than the other end knows waits for its answer (RFC 5880, 6.8.3).
    fn announce(&mut self, pace: Pace) {
        if pace == self.announced {
            return;
        }
        self.announced = pace;
        self.used = Pace { tx: self.used.tx.min(pace.tx), rx: self.used.rx.max(pace.rx) };
        self.sequence = match self.sequence {
            Sequence::Idle => Sequence::Asking,
            Sequence::Asking | Sequence::AskingTwice => Sequence::AskingTwice,
        };
    }

    fn confirmed(&mut self) {
        self.sequence = match self.sequence {
            Sequence::AskingTwice => Sequence::Asking,
            Sequence::Asking | Sequence::Idle => {
                self.used = self.announced;
                Sequence::Idle
            }
        };
    }

    fn send(&mut self, poll: Poll, now: Duration, out: &mut Vec<Command>) {
        let asking = self.sequence != Sequence::Idle;
        let poll = if poll == Poll::Idle && asking { Poll::Poll } else { poll };
        // An answer is not one of the periodic packets.
        if poll != Poll::Final {
            (self.sent, self.due) = (Some(now), None);
        }
        out.push(Command::Send(Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll,
            control_plane_independent: true,
            demand: false,
            multiplier: self.setup.timing.multiplier,
            my_discriminator: self.setup.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.announced.tx,
            required_min_rx: self.announced.rx,
            required_min_echo_rx: self.setup.echo,
        }));
    }

    /// The time between periodic packets, before jitter; `None` when there are none (RFC 5880, 6.8.7).
    pub fn interval(&self) -> Option<Duration> {
        let unasked = self.setup.role == Role::Passive && self.remote.discriminator.is_none();
        let both_up = self.state == State::Up && self.remote.state == State::Up;
        let unwanted = self.remote.demand && both_up && self.sequence == Sequence::Idle;
        if unasked || unwanted || self.remote.min_rx.0 == 0 {
            return None;
        }
        Some(self.used.tx.max(self.remote.min_rx).duration())
    }

    /// Sets the timer anew after everything that happened: the peer may want packets sooner than what it waits for now. If it
    /// wants them later, one more comes when it was due: FRR reckons with its new interval only from the packet after the
    /// answer to its poll, and would miss us in between.
    fn arm_transmission(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Some(interval) = self.interval() else {
            self.due = None;
            out.push(Command::Cancel(Timer::Transmit));
            return;
        };
        let new = self.sent.unwrap_or(now) + interval / 1000 * self.thousandths;
        let due = self.due.map_or(new, |due| due.min(new));
        self.due = Some(due);
        out.push(Command::Set(Timer::Transmit, due.max(now)));
    }

    fn arm_detection(&self, out: &mut Vec<Command>) {
        if let Some(heard) = self.heard {
            out.push(Command::Set(Timer::Detect, heard + self.detection()));
        }
    }

    /// After how long without a packet the peer counts as gone (RFC 5880, 6.8.4).
    pub fn detection(&self) -> Duration {
        self.used.rx.max(self.remote.min_tx).duration() * u32::from(self.remote.multiplier)
    }

    /// After how long without a packet of ours the peer takes this end for gone.
    pub fn remote_detection(&self) -> Duration {
        self.announced.tx.max(self.remote.min_rx).duration() * u32::from(self.setup.timing.multiplier.get())
    }

    /// Lets another end speak first, and other echoes be answered.
    pub(super) fn set_role(&mut self, role: Role, echo: Micros) {
        (self.setup.role, self.setup.echo) = (role, echo);
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its number here.
    pub fn discriminator(&self) -> NonZeroU32 {
        self.setup.discriminator
    }

    /// Why it last left Up.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Whether the peer has yet to confirm a change.
    pub fn is_polling(&self) -> bool {
        self.sequence != Sequence::Idle
    }

    /// When a packet last came.
    pub fn heard(&self) -> Option<Duration> {
        self.heard
    }

    /// How close it came to its end.
    pub fn margin(&self) -> &Margin {
        &self.margin
    }
}

/// RFC 5880, 6.8.7: 75 to 100 %, and at most 90 % where a single packet may go missing; in thousandths.
fn jitter(multiplier: NonZeroU8, random: u64) -> u32 {
    let span = if multiplier == NonZeroU8::MIN { 150 } else { 250 };
    750 + u32::try_from(random % (span + 1)).unwrap_or(0)
}
