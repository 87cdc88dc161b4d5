//! From segments to sessions: the pure core of the passive view of BGP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connection::{Both, Connection, News};
use super::segment::Segment;
use super::session::{Event, Hold, Session, SessionKey, SessionState, Side, Since};
use super::stream::Flaws;
use super::track::{Ending, Tracker};
use super::wire::Message;
use super::{Missed, View};
use crate::model::address::{Direction, IfIndex};

/// Connections that are followed at a time.
const CONNECTIONS: usize = 1024;
/// Sessions that are remembered.
const SESSIONS: usize = 256;
/// How long an ended connection is remembered, so that its last segments begin no new one.
const LINGER: Duration = Duration::from_secs(120);
/// How long an attempt is remembered that nobody answers: the last SYN is sent again after a minute.
const ATTEMPT: Duration = Duration::from_secs(180);
/// How long a session is remembered that never came up.
const NEVER_UP: Duration = Duration::from_secs(600);
/// How long a session is remembered that was up once.
const ONCE_UP: Duration = Duration::from_secs(24 * 3600);
/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(30);

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Ends {
    local: SocketAddr,
    peer: SocketAddr,
    /// For link-local peers.
    scope: Option<IfIndex>,
}

/// Follows connections and tells what sessions there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Observer {
    ports: BTreeSet<u16>,
    connections: BTreeMap<Ends, Followed>,
    sessions: BTreeMap<SessionKey, Tracker>,
    /// Interfaces that lost their link, and when.
    down: BTreeMap<IfIndex, Lost>,
    missed: Missed,
    shown: Arc<View>,
    swept: Duration,
}

/// A connection that is followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Followed {
    connection: Connection,
    interface: IfIndex,
    touched: Duration,
    /// What was told already of what was less than perfect.
    told: Both<Flaws>,
}

/// A link that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Lost {
    at: Duration,
    /// Whether it is down now.
    still: bool,
}

/// An observer as it is written down, for the next one to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    ports: BTreeSet<u16>,
    connections: Vec<(Ends, Followed)>,
    sessions: Vec<Tracker>,
    missed: Missed,
}

impl From<Saved> for Observer {
    fn from(saved: Saved) -> Self {
        let sessions = saved.sessions.into_iter().map(|one| (one.session.key, one));
        Self {
            ports: saved.ports,
            connections: saved.connections.into_iter().collect(),
            sessions: sessions.collect(),
            missed: saved.missed,
            ..Self::default()
        }
    }
}

impl From<Observer> for Saved {
    fn from(observer: Observer) -> Self {
        Self {
            ports: observer.ports,
            connections: observer.connections.into_iter().collect(),
            sessions: observer.sessions.into_values().collect(),
            missed: observer.missed,
        }
    }
}

impl Observer {
    /// An observer that knows nothing yet. `ports` are those on which sessions are accepted.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        Self { ports: ports.into_iter().collect(), ..Self::default() }
    }

    /// Goes on after a while in which nobody looked: call it before anything else. `ports` are those of now.
    pub fn resume(&mut self, ports: impl IntoIterator<Item = u16>, now: Duration) {
        self.ports = ports.into_iter().collect();
        self.sessions.values_mut().for_each(|tracker| tracker.resume(now));
    }

    /// Takes a segment in.
    pub fn see(&mut self, segment: &Segment<'_>) {
        let at = segment.at;
        let (ends, side) = self.ends(segment);
        let known = self.connections.contains_key(&ends);
        if !known && !self.admits(side, segment) {
            return;
        }
        let interface = segment.interface;
        let fresh =
            || Followed { connection: Connection::default(), interface, touched: at, told: Both::default() };
        let followed = self.connections.entry(ends).or_insert_with(fresh);
        followed.touched = at;
        let news = followed.connection.take(side, segment);
        self.digest(ends, news, at);
    }

    /// An interface has or lacks its link.
    pub fn link(&mut self, interface: IfIndex, up: bool, at: Duration) {
        let known = self.down.get(&interface);
        let was_up = known.is_none_or(|lost| !lost.still);
        if up == was_up {
            return;
        }
        let since = known.filter(|_| up).map_or(at, |lost| lost.at);
        self.down.insert(interface, Lost { at: since, still: !up });
        for tracker in self.sessions.values_mut() {
            tracker.event(Event::Link, at);
            if !up && tracker.session.interface == Some(interface) {
                tracker.link_lost();
            }
        }
    }

    /// What the datapath could not pass on, in all.
    pub fn lost(&mut self, bytes: u64, segments: u64) {
        (self.missed.bytes, self.missed.segments) = (bytes, segments);
    }

    /// Lets time pass; call it at [`Self::deadline`] at the latest.
    pub fn pass(&mut self, now: Duration) {
        let due = |followed: &Followed| followed.connection.deadline().is_some_and(|at| at <= now);
        let due: Vec<Ends> =
            self.connections.iter().filter(|(_, it)| due(it)).map(|(ends, _)| *ends).collect();
        for ends in due {
            let Some(followed) = self.connections.get_mut(&ends) else { continue };
            let news = followed.connection.expire(now);
            self.digest(ends, news, now);
        }
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for key in keys {
            let silent = self.sessions.get_mut(&key).and_then(|tracker| tracker.pass(now));
            if let Some(side) = silent {
                self.expire(key, side, now);
            }
        }
        if now.saturating_sub(self.swept) >= SWEEP {
            self.sweep(now);
        }
    }

    /// When [`Self::pass`] has something to do, if ever.
    pub fn deadline(&self) -> Option<Duration> {
        let connections = self.connections.values().filter_map(|it| it.connection.deadline());
        let sessions = self.sessions.values().filter_map(Tracker::deadline);
        connections.chain(sessions).min()
    }

    /// Whether pieces wait behind a hole.
    pub fn waiting(&self) -> bool {
        self.connections.values().any(|it| it.connection.waiting())
    }

    /// Whether the next view differs from the last.
    pub fn changed(&self) -> bool {
        let same = self.shown.sessions.len() == self.sessions.len() && self.shown.missed == self.missed;
        !same || self.sessions.values().any(|tracker| tracker.changed)
    }

    /// What there is now. What has not changed is shared with the view before.
    pub fn view(&mut self) -> Arc<View> {
        if self.changed() {
            let before = &self.shown.sessions;
            let share = |(key, tracker): (&SessionKey, &mut Tracker)| {
                let fresh = std::mem::take(&mut tracker.changed);
                let known = before.get(key).filter(|_| !fresh).map(Arc::clone);
                (*key, known.unwrap_or_else(|| Arc::new(tracker.session.clone())))
            };
            let sessions = self.sessions.iter_mut().map(share).collect();
            self.shown = Arc::new(View { sessions, missed: self.missed });
        }
        Arc::clone(&self.shown)
    }

    /// The ends of a segment's connection, and which of them has sent it.
    fn ends(&self, segment: &Segment<'_>) -> (Ends, Side) {
        let (local, peer, side) = match segment.direction {
            Direction::Egress => (segment.source, segment.destination, Side::Local),
            Direction::Ingress => (segment.destination, segment.source, Side::Peer),
        };
        let link_local = match peer.ip() {
            std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
            std::net::IpAddr::V4(address) => address.is_link_local(),
        };
        let ends = Ends { local, peer, scope: link_local.then_some(segment.interface) };
        // What passes through the node comes in at one interface and leaves at another.
        let turned = Ends { local: peer, peer: local, scope: ends.scope };
        if self.connections.contains_key(&turned) { (turned, side.other()) } else { (ends, side) }
    }

    /// Whether a connection may begin with this segment: the node's own may, and a SYN.
    fn admits(&mut self, side: Side, segment: &Segment<'_>) -> bool {
        if side == Side::Peer && !segment.has(super::SYN) {
            return false;
        }
        if self.connections.len() >= CONNECTIONS {
            // The one that matters least: nothing flows on it, and it is the oldest of those.
            let idle =
                self.connections.iter().filter(|(_, it)| it.connection.state() <= SessionState::Active);
            let Some(ends) = idle.min_by_key(|(_, it)| it.touched).map(|(ends, _)| *ends) else {
                self.missed.connections += 1;
                return false;
            };
            self.connections.remove(&ends);
        }
        true
    }

    fn digest(&mut self, ends: Ends, news: Vec<News>, at: Duration) {
        let key = self.key(&ends);
        let Some(followed) = self.connections.get(&ends) else { return };
        let interface = followed.interface;
        let begins = |one: &News| match one {
            News::Trying(side, authenticated) => *side == Side::Local || *authenticated,
            News::Connected | News::Message(..) | News::Malformed(..) => true,
            News::Gap(_) | News::Closed(_) | News::Reset(_) => false,
        };
        let known = self.sessions.contains_key(&key) || news.iter().any(begins) && self.has_room(at);
        if !known {
            return;
        }
        let tracker = self.sessions.entry(key).or_insert_with(|| Tracker::new(key, at));
        tracker.touched = at;
        if tracker.session.interface != Some(interface) {
            (tracker.session.interface, tracker.changed) = (Some(interface), true);
        }
        let silent = news.is_empty();
        tracker.changed |= !silent;
        for one in news {
            if self.digest_one(key, ends, one, at) {
                break;
            }
        }
        self.tell_flaws(key, ends);
        if !silent {
            self.settle(key, at);
        }
    }

    /// Takes one piece of news in; whether the connection is over with it.
    fn digest_one(&mut self, key: SessionKey, ends: Ends, news: News, at: Duration) -> bool {
        let (Some(tracker), Some(followed)) = (self.sessions.get_mut(&key), self.connections.get(&ends))
        else {
            return true;
        };
        let state = followed.connection.state();
        if state == SessionState::Established
            && tracker.current != Some(ends)
            && matches!(news, News::Message(..))
        {
            self.begin(key, ends, at);
        }
        let Some(tracker) = self.sessions.get_mut(&key) else { return true };
        let ending = match news {
            News::Trying(_, authenticated) => {
                tracker.tried(authenticated);
                return false;
            }
            News::Connected => {
                tracker.answered();
                if tracker.current == Some(ends) {
                    self.end(key, ends, &Ending::Replaced, at);
                }
                return false;
            }
            News::Message(side, message) => {
                tracker.message(side, &message, at);
                match message {
                    Message::Notification(notification) => Ending::Notification(side, notification),
                    _ => return false,
                }
            }
            News::Malformed(side, kind, _) => {
                tracker.timing(side).malformed += 1;
                // What such an UPDATE would have changed is not known.
                if kind == super::wire::Kind::Update && tracker.current == Some(ends) {
                    tracker.gap(side, at);
                }
                return false;
            }
            News::Gap(side) => {
                if tracker.current == Some(ends) {
                    tracker.gap(side, at);
                }
                return false;
            }
            News::Closed(side) => Ending::Closed(side),
            News::Reset(side) => {
                tracker.answered();
                if state > SessionState::Active { Ending::Reset(side) } else { Ending::Refused(side) }
            }
        };
        if let Some(followed) = self.connections.get_mut(&ends) {
            followed.connection.end();
        }
        self.end(key, ends, &ending, at);
        true
    }

    fn begin(&mut self, key: SessionKey, ends: Ends, at: Duration) {
        if self.sessions.get(&key).is_some_and(Tracker::up) {
            self.end(key, ends, &Ending::Replaced, at);
        }
        if let (Some(tracker), Some(followed)) = (self.sessions.get_mut(&key), self.connections.get(&ends)) {
            tracker.begin(ends, &followed.connection, at);
            self.tell_others(key, at);
        }
    }

    /// A connection has ended, and with it the session, if it was the session's.
    fn end(&mut self, key: SessionKey, ends: Ends, ending: &Ending, at: Duration) {
        let Some(tracker) = self.sessions.get_mut(&key) else { return };
        let others = tracker.current.is_some_and(|current| current != ends);
        if others && !matches!(ending, Ending::Replaced) {
            return;
        }
        let heard = tracker.session.receiving.last_message.unwrap_or_default();
        let lost = tracker.session.interface.and_then(|interface| self.down.get(&interface));
        let link_down = lost.is_some_and(|lost| lost.still || lost.at >= heard);
        if tracker.ended(ending, link_down, at) {
            self.tell_others(key, at);
        }
    }

    /// A side was silent for too long.
    fn expire(&mut self, key: SessionKey, side: Side, now: Duration) {
        let Some(tracker) = self.sessions.get_mut(&key) else { return };
        let Some(ends) = tracker.current else { return };
        tracker.changed = true;
        let certain = matches!(tracker.session.hold(), Some(Hold::Negotiated(_)));
        if let Some(followed) = self.connections.get_mut(&ends) {
            // Where the hold time was a guess, the connection may go on.
            if certain { followed.connection.end() } else { followed.connection = Connection::default() }
        }
        self.end(key, ends, &Ending::Silence(side), now);
    }

    fn tell_others(&mut self, key: SessionKey, at: Duration) {
        for (_, other) in self.sessions.iter_mut().filter(|(other, _)| **other != key) {
            other.event(Event::OtherSession, at);
        }
    }

    fn tell_flaws(&mut self, key: SessionKey, ends: Ends) {
        let (Some(tracker), Some(followed)) = (self.sessions.get_mut(&key), self.connections.get_mut(&ends))
        else {
            return;
        };
        for side in Side::ALL {
            let now = followed.connection.flaws(side);
            // A connection that begins anew counts from zero.
            let more = now.since(*followed.told.of(side));
            *followed.told.of_mut(side) = now;
            tracker.flaws(side, more);
        }
    }

    /// The session's state is that of the connection that has come farthest.
    fn settle(&mut self, key: SessionKey, at: Duration) {
        let Some(tracker) = self.sessions.get_mut(&key) else { return };
        if tracker.up() {
            return;
        }
        let of_session = self.connections.iter().filter(|(ends, _)| key_of(&self.ports, ends) == key);
        let farthest = of_session.map(|(_, it)| it.connection.state()).max().unwrap_or(SessionState::Idle);
        // Up is only what has begun.
        let state = farthest.min(SessionState::OpenConfirm);
        tracker.enter(state, Since::Exactly(at));
    }

    fn key(&self, ends: &Ends) -> SessionKey {
        key_of(&self.ports, ends)
    }

    /// Whether another session can be remembered; one that never came up makes room.
    fn has_room(&mut self, at: Duration) -> bool {
        if self.sessions.len() >= SESSIONS {
            self.sweep(at);
        }
        if self.sessions.len() >= SESSIONS {
            let never = self.sessions.iter().filter(|(_, it)| it.session.established == 0 && !it.up());
            if let Some(key) = never.min_by_key(|(_, it)| it.touched).map(|(key, _)| *key) {
                self.sessions.remove(&key);
            }
        }
        let room = self.sessions.len() < SESSIONS;
        self.missed.connections += u64::from(!room);
        room
    }

    /// Forgets what is over.
    fn sweep(&mut self, now: Duration) {
        self.swept = now;
        let current: BTreeSet<Ends> = self.sessions.values().filter_map(|it| it.current).collect();
        self.connections.retain(|ends, followed| {
            let age = now.saturating_sub(followed.touched);
            match followed.connection.state() {
                _ if current.contains(ends) => true,
                SessionState::Idle => age < LINGER,
                _ => age < ATTEMPT,
            }
        });
        self.sessions.retain(|_, tracker| {
            let session: &Session = &tracker.session;
            let once = session.established > 0 || session.last_drop.is_some();
            let age = now.saturating_sub(tracker.touched);
            tracker.up() || age < if once { ONCE_UP } else { NEVER_UP }
        });
        let live: BTreeSet<SessionKey> =
            self.connections.keys().map(|ends| key_of(&self.ports, ends)).collect();
        for (key, tracker) in &mut self.sessions {
            if !tracker.up() && !live.contains(key) && tracker.session.state != SessionState::Idle {
                tracker.enter(SessionState::Idle, Since::Exactly(now));
                tracker.changed = true;
            }
        }
    }
}

/// The session of a connection. Its port is the one on which it was accepted; nobody accepts on the other.
fn key_of(ports: &BTreeSet<u16>, ends: &Ends) -> SessionKey {
    let candidates = [ends.peer.port(), ends.local.port()];
    let port = candidates.into_iter().find(|port| ports.contains(port));
    SessionKey {
        local: ends.local.ip(),
        peer: ends.peer.ip(),
        scope: ends.scope,
        port: port.unwrap_or_else(|| ends.peer.port().min(ends.local.port())),
    }
}
