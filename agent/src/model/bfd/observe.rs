//! Sessions of another program on this node, as its packets show them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::packet::{Packet, State};
use super::report::{Counts, Rejected, RemoteView, SessionView};
use super::{Margin, Rejection, Role, SESSIONS_MAX, Transition};

/// A session that showed nothing for so long is forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// A packet of another program's session, seen on a link.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The end that is not this node.
    pub peer: IpAddr,
    /// Whether this node sent it.
    pub sent_here: bool,
    /// Whether it goes to the port of multihop sessions.
    pub multihop: bool,
    /// The source port.
    pub source_port: u16,
    /// The datagram's payload.
    pub payload: &'a [u8],
}

/// What is known of others' sessions.
#[derive(Debug, Default)]
pub struct Observer {
    sessions: BTreeMap<(IpAddr, bool), Observed>,
    rejected: Rejected,
}

#[derive(Debug, Default)]
struct Observed {
    here: Option<Packet>,
    there: Option<Packet>,
    heard: Option<Duration>,
    seen: Duration,
    since: Duration,
    source_port: u16,
    counts: Counts,
    changed: Option<Transition>,
    margin: Margin,
}

impl Observer {
    /// Takes a packet in.
    pub fn see(&mut self, sight: &Sight<'_>, now: Duration) {
        let packet = match Packet::decode(sight.payload) {
            Ok(packet) => packet,
            Err(rejection) => return self.reject(rejection),
        };
        self.sessions.retain(|_, session| now.saturating_sub(session.seen) < FORGET);
        let key = (sight.peer, sight.multihop);
        if !self.sessions.contains_key(&key) && self.sessions.len() >= SESSIONS_MAX {
            return self.reject(Rejection::NoRoom);
        }
        let session = self.sessions.entry(key).or_default();
        session.seen = now;
        if sight.sent_here {
            session.sent(packet, sight.source_port, now);
        } else {
            session.received(packet, now);
        }
    }

    /// All sessions, by peer.
    pub fn sessions(&self, now: Duration) -> Vec<SessionView> {
        let live = self.sessions.iter().filter(|(_, session)| now.saturating_sub(session.seen) < FORGET);
        live.map(|((peer, multihop), session)| session.view(*peer, *multihop, now)).collect()
    }

    /// Packets that made no sense.
    pub fn rejected(&self) -> &Rejected {
        &self.rejected
    }

    fn reject(&mut self, rejection: Rejection) {
        *self.rejected.0.entry(rejection).or_default() += 1;
    }
}

impl Observed {
    fn sent(&mut self, packet: Packet, port: u16, now: Duration) {
        self.counts.sent += 1;
        self.source_port = port;
        let before = self.here.replace(packet).map(|packet| packet.state);
        if before == Some(packet.state) {
            return;
        }
        self.since = now;
        if let Some(from) = before {
            let remote = self.there.map(|there| there.diagnostic).unwrap_or_default();
            let (to, diagnostic) = (packet.state, packet.diagnostic);
            self.changed = Some(Transition { from, to, diagnostic, remote, at: now });
            if from == State::Up {
                self.counts.drop_of(diagnostic);
                self.margin = Margin::default();
            }
        }
    }

    fn received(&mut self, packet: Packet, now: Duration) {
        self.counts.received += 1;
        self.there = Some(packet);
        let up = self.here.is_some_and(|here| here.state == State::Up);
        if let Some(heard) = self.heard.replace(now)
            && up
        {
            self.margin.gap(now.saturating_sub(heard), self.detection_time(), now);
        }
    }

    fn detection_time(&self) -> Duration {
        match (self.here, self.there) {
            (Some(here), Some(there)) => agreed(&there, &here),
            _ => Duration::ZERO,
        }
    }

    fn view(&self, peer: IpAddr, multihop: bool, now: Duration) -> SessionView {
        let remote = self.there.map(|there| RemoteView {
            state: there.state,
            diagnostic: there.diagnostic,
            discriminator: there.my_discriminator.get(),
            min_tx: there.desired_min_tx,
            min_rx: there.required_min_rx,
            multiplier: there.multiplier.get(),
            control_plane_independent: there.control_plane_independent,
        });
        let both = self.here.zip(self.there);
        SessionView {
            peer,
            interface: None,
            multihop,
            role: Role::Active,
            state: self.here.map(|here| here.state).unwrap_or_default(),
            diagnostic: self.here.map(|here| here.diagnostic).unwrap_or_default(),
            age: now.saturating_sub(self.since),
            discriminator: self.here.map_or(0, |here| NonZeroU32::get(here.my_discriminator)),
            source_port: self.source_port,
            transmit_interval: both
                .map(|(here, there)| here.desired_min_tx.max(there.required_min_rx).duration()),
            detection_time: self.detection_time(),
            remote_detection_time: both.map(|(here, there)| agreed(&here, &there)).unwrap_or_default(),
            margin: self.margin.worst(),
            remote,
            received: self.counts.received,
            sent: self.counts.sent,
            echoes: 0,
            drops: self.counts.drops(),
            changed: self.changed,
            leaves: false,
            problem: None,
        }
    }
}

/// After how long without a packet of `sender` the receiver takes it for gone.
fn agreed(sender: &Packet, receiver: &Packet) -> Duration {
    sender.desired_min_tx.max(receiver.required_min_rx).duration() * u32::from(sender.multiplier.get())
}

#[cfg(test)]
mod tests {
    use super::super::{Micros, Poll};
    use super::*;
    use crate::model::bfd::Diagnostic;

    fn packet(state: State, number: u32) -> [u8; super::super::LENGTH] {
        let one = std::num::NonZeroU8::MIN;
        let your = std::num::NonZeroU32::new(9);
        Packet {
            diagnostic: Diagnostic::EXPIRED,
            state,
            poll: Poll::Idle,
            control_plane_independent: false,
            demand: false,
            multiplier: one.saturating_add(2),
            my_discriminator: std::num::NonZeroU32::new(number).unwrap(),
            your_discriminator: your,
            desired_min_tx: Micros(100_000),
            required_min_rx: Micros(200_000),
            required_min_echo_rx: Micros(0),
        }
        .encode()
    }

    #[test]
    fn both_ends_make_a_session_and_its_fall_is_a_drop() {
        let (mut observer, ms) = (Observer::default(), Duration::from_millis);
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let mut see = |sent_here, state, at| {
            let payload = packet(state, if sent_here { 1 } else { 2 });
            let sight = Sight { peer, sent_here, multihop: false, source_port: 50_000, payload: &payload };
            observer.see(&sight, ms(at));
        };
        see(true, State::Up, 0);
        see(false, State::Up, 10);
        see(false, State::Up, 310);
        see(true, State::Down, 1000);
        observer.see(
            &Sight { peer, sent_here: false, multihop: false, source_port: 1, payload: &[1, 2] },
            ms(1000),
        );
        let views = observer.sessions(ms(1500));
        let [view] = views.as_slice() else { panic!("{views:?}") };
        assert_eq!((view.state, view.discriminator, view.age), (State::Down, 1, ms(500)));
        assert_eq!(view.detection_time, ms(600));
        assert_eq!(view.drops.values().sum::<u64>(), 1);
        assert_eq!(observer.rejected().0.get(&Rejection::Length), Some(&1));
        assert!(observer.sessions(ms(61_000)).is_empty());
    }
}
