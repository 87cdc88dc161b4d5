//! A session with all that is around it: with whom, from which port, since when, how often.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use super::super::packet::State;
use super::super::record::Record;
use super::super::report::{Counts, RemoteView, SessionView};
use super::super::session::{Command, Session, Setup, Timer, Transition};
use super::super::{AdminDown, Hops, MULTIHOP_PORT, Micros, PORT, PeerConfig};

/// For how long a session that somebody asked for is kept while it is not up.
const FORGET: Duration = Duration::from_secs(60);

/// Between what packets of a session go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The peer, with its port.
    pub peer: SocketAddr,
    /// The node's own address; the kernel chooses one without it.
    pub source: Option<IpAddr>,
    /// The node's own port.
    pub source_port: u16,
    /// The interface, where the session is bound to one.
    pub interface: Option<u32>,
}

/// Whether a session stands in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// By its address.
    Configured,
    /// By a prefix; its peer asked for it.
    Asked,
    /// No more; it is kept while it is up.
    Dropped,
}

/// A session in its place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) config: PeerConfig,
    pub(super) peer: IpAddr,
    pub(super) standing: Standing,
    pub(super) index: Option<u32>,
    pub(super) source: Option<IpAddr>,
    pub(super) source_port: u16,
    pub(super) session: Session,
    pub(super) counts: Counts,
    pub(super) echoed: Option<Duration>,
    pub(super) trouble: Option<String>,
    since: Duration,
    changed: Option<Transition>,
    transmit: Option<Duration>,
    detect: Option<Duration>,
}

impl Entry {
    pub(super) fn new(
        config: PeerConfig,
        peer: IpAddr,
        standing: Standing,
        session: Session,
        now: Duration,
    ) -> Self {
        Self {
            source: config.source,
            config,
            peer,
            standing,
            index: None,
            source_port: 0,
            session,
            counts: Counts::default(),
            echoed: None,
            trouble: None,
            since: now,
            changed: None,
            transmit: None,
            detect: None,
        }
    }

    pub(super) fn resumed(config: PeerConfig, standing: Standing, record: &Record, now: Duration) -> Self {
        let session = Session::resume(setup(&config, record.discriminator), record, now);
        let since = if session.state() == record.state { record.since } else { now };
        let mut entry = Self::new(config, record.peer, standing, session, since);
        entry.source = entry.source.or(record.source);
        (entry.source_port, entry.counts) = (record.source_port, record.counts);
        if record.state == State::Up && entry.session.state() != State::Up {
            entry.counts.drop_of(super::super::Diagnostic::EXPIRED);
        }
        entry
    }

    /// Notes what a command means for the entry; sending is left to others.
    pub(super) fn note(&mut self, command: &Command) {
        match *command {
            Command::Send(_) => self.counts.sent += 1,
            Command::Set(Timer::Transmit, at) => self.transmit = Some(at),
            Command::Set(Timer::Detect, at) => self.detect = Some(at),
            Command::Cancel(Timer::Transmit) => self.transmit = None,
            Command::Cancel(Timer::Detect) => self.detect = None,
            Command::Notify(transition) => {
                (self.since, self.changed) = (transition.at, Some(transition));
                if transition.from == State::Up {
                    self.counts.drop_of(transition.diagnostic);
                }
            }
        }
    }

    /// Timers that have run out, each with the time at which it did.
    pub(super) fn due(&mut self, now: Duration) -> Option<(Timer, Duration)> {
        // Whoever is late sends first, so that the peer does not go, too.
        for (timer, slot) in [(Timer::Transmit, &mut self.transmit), (Timer::Detect, &mut self.detect)] {
            if let Some(at) = slot.take_if(|at| *at <= now) {
                return Some((timer, at));
            }
        }
        None
    }

    pub(super) fn next(&self) -> Option<Duration> {
        [self.transmit, self.detect, self.forget_at()].into_iter().flatten().min()
    }

    /// When it is no longer worth its place.
    pub(super) fn forget_at(&self) -> Option<Duration> {
        let idle = self.session.state() == State::Down && self.session.heard().is_none();
        match self.standing {
            Standing::Configured => None,
            Standing::Asked => idle.then_some(self.since + FORGET),
            Standing::Dropped => {
                matches!(self.session.state(), State::Down | State::AdminDown).then_some(self.since)
            }
        }
    }

    pub(super) fn is_multihop(&self) -> bool {
        matches!(self.config.hops, Hops::Multi { .. })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        let port = if self.is_multihop() { MULTIHOP_PORT } else { PORT };
        let peer = match self.peer {
            IpAddr::V4(address) => SocketAddrV4::new(address, port).into(),
            IpAddr::V6(address) => {
                let scope = if address.is_unicast_link_local() { self.index.unwrap_or(0) } else { 0 };
                SocketAddrV6::new(address, port, 0, scope).into()
            }
        };
        Endpoint { peer, source: self.source, source_port: self.source_port, interface: self.index }
    }

    pub(super) fn record(&self) -> Record {
        let session = &self.session;
        Record {
            peer: self.peer,
            interface: self.config.interface.clone(),
            hops: self.config.hops,
            source: self.source,
            source_port: self.source_port,
            discriminator: session.discriminator(),
            state: session.state(),
            diagnostic: session.diagnostic(),
            multiplier: session.setup.timing.multiplier,
            sent: session.sent.unwrap_or_default(),
            since: self.since,
            counts: self.counts,
            remote: session.remote.discriminator.map(|_| session.remote),
            announced: session.announced,
            used: session.used,
            sequence: session.sequence,
        }
    }

    pub(super) fn view(&self, now: Duration) -> SessionView {
        let session = &self.session;
        let remote = session.remote.discriminator.map(|discriminator| RemoteView {
            state: session.remote.state,
            diagnostic: session.remote.diagnostic,
            discriminator: discriminator.get(),
            min_tx: session.remote.min_tx,
            min_rx: session.remote.min_rx,
            multiplier: session.remote.multiplier,
            control_plane_independent: session.remote.control_plane_independent,
        });
        SessionView {
            peer: self.peer,
            interface: self.config.interface.clone(),
            multihop: self.is_multihop(),
            role: session.setup.role,
            state: session.state(),
            diagnostic: session.diagnostic(),
            age: now.saturating_sub(self.since),
            discriminator: session.discriminator().get(),
            source_port: self.source_port,
            transmit_interval: session.interval(),
            detection_time: session.detection(),
            remote_detection_time: session.remote_detection(),
            margin: session.margin().worst(),
            remote,
            received: self.counts.received,
            sent: self.counts.sent,
            echoes: self.counts.echoes,
            drops: self.counts.drops(),
            changed: self.changed,
            leaves: self.config.admin_down == AdminDown::WhenDrained && session.state() == State::Up,
            problem: self.problem(),
        }
    }

    fn problem(&self) -> Option<String> {
        if self.trouble.is_some() {
            return self.trouble.clone();
        }
        let up = self.session.state() == State::Up;
        let text = match (self.standing, self.config.admin_down) {
            (Standing::Dropped, _) => {
                "it is no longer configured, and kept while it is up: without it the router may end BGP; drain the peer \
                 and give it admin-down first"
            }
            (_, AdminDown::WhenDrained) if up => "it is to go, and waits until the peer is drained",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// What a session of a peer begins with.
pub(super) fn setup(config: &PeerConfig, discriminator: std::num::NonZeroU32) -> Setup {
    let echo = config.echo.unwrap_or(Micros(0));
    Setup { discriminator, role: config.role, timing: config.timing, echo }
}
