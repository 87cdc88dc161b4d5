//! All sessions of a node: which packet is of which session, who may have one, and which timer runs out next.

mod entry;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::margin::Lateness;
use super::packet::{Diagnostic, LENGTH, Micros, Packet, State};
use super::record::Record;
use super::report::{Rejected, SessionView};
use super::session::{Admin, Command, Input, Session, Transition};
use super::{
    AdminDown, Hops, PeerAddress, PeerConfig, Rejection, SOURCE_PORTS, Settings, TTL, Timer, Timing,
};

pub use entry::Endpoint;
use entry::{Entry, Standing, setup};

/// Sessions at a time, those that peers asked for included.
pub const SESSIONS_MAX: usize = 64;

/// A session's place, 0 to [`SESSIONS_MAX`] - 1; it stays the same when the next agent goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub usize);

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Send this to the session's peer.
    Send(SessionId, [u8; LENGTH]),
    /// Tell that its state changed.
    Notify(SessionId, Transition),
    /// Keep [`Speaker::record`] where the next agent finds it.
    Save(SessionId),
    /// Forget what was kept; the session is gone.
    Close(SessionId),
}

/// A packet that came, with what the kernel tells about it.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its sender.
    pub source: IpAddr,
    /// The node's address that it was sent to.
    pub destination: Option<IpAddr>,
    /// Through which interface.
    pub interface: u32,
    /// Its time to live or hop limit, where the kernel told.
    pub ttl: Option<u8>,
    /// Whether it came to the port of multihop sessions.
    pub multihop: bool,
    /// What it holds.
    pub payload: &'a [u8],
}

/// The node's sessions. Time is the host's monotonic clock, which all agents of one boot share.
#[derive(Debug)]
pub struct Speaker {
    peers: Vec<PeerConfig>,
    places: Vec<Option<Entry>>,
    rejected: Rejected,
    lateness: Lateness,
    path: Option<Diagnostic>,
    commands: Vec<Command>,
}

impl Speaker {
    /// Begins with what an agent before it left, if any.
    pub fn new(
        settings: &Settings,
        records: &[(SessionId, Record)],
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) -> Self {
        let mut speaker = Self {
            peers: settings.peers.clone(),
            places: (0..SESSIONS_MAX).map(|_| None).collect(),
            rejected: Rejected::default(),
            lateness: Lateness::default(),
            path: None,
            commands: Vec::new(),
        };
        for (id, record) in records {
            match speaker.resume(*id, record, now) {
                Some(timing) => speaker.start(*id, Some(timing), now, random, out),
                None => out.push(Action::Close(*id)),
            }
        }
        speaker.configure(settings, now, random, out);
        speaker
    }

    /// Takes other settings in: peers come, go, and change their timing without a flap.
    pub fn configure(
        &mut self,
        settings: &Settings,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        self.peers.clone_from(&settings.peers);
        for id in self.ids() {
            let Some(entry) = self.entry(id) else { continue };
            let (peer, interface) = (entry.peer, entry.config.interface.clone());
            match self.config_of(peer, interface.as_deref()).cloned() {
                Some(config) => self.reconfigure(id, config, now, random, out),
                None => self.drop_from_configuration(id),
            }
        }
        for config in settings.peers.clone() {
            let PeerAddress::One(peer) = config.address else { continue };
            let known = |entry: &Entry| entry.peer == peer && entry.config.interface == config.interface;
            if !self.places.iter().flatten().any(known) {
                self.create(config, peer, Standing::Configured, now, random, out);
            }
        }
    }

    /// Takes a packet in.
    pub fn receive(
        &mut self,
        datagram: &Datagram<'_>,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        match self.session_of(datagram, now, random, out) {
            Ok((id, packet)) => {
                if let Some(entry) = self.entry(id) {
                    entry.counts.received += 1;
                }
                self.handle(id, Input::Packet(&packet), now, random, out);
            }
            Err(rejection) => self.reject(rejection, 1),
        }
    }

    /// Whether an echo is to be sent back to its sender: a peer of an Up session that was told it may ask, not too often.
    pub fn reflects(&mut self, datagram: &Datagram<'_>, now: Duration) -> bool {
        let entry = self.places.iter_mut().flatten().find(|entry| {
            entry.peer == datagram.source
                && entry.config.echo.is_some()
                && entry.index.is_none_or(|index| index == datagram.interface)
        });
        let wanted = entry.filter(|entry| datagram.ttl == Some(TTL) && entry.session.state() == State::Up);
        let on_time = |entry: &&mut Entry| {
            // A peer's jitter and the way here may bring two echoes closer together than they were sent.
            let least = entry.config.echo.map_or(Duration::MAX, Micros::duration) / 2;
            entry.echoed.is_none_or(|before| now.saturating_sub(before) >= least)
        };
        match wanted.filter(on_time) {
            Some(entry) => {
                entry.echoed = Some(now);
                entry.counts.echoes += 1;
                true
            }
            None => {
                self.reject(Rejection::Echo, 1);
                false
            }
        }
    }

    /// Lets all timers run out that are due.
    pub fn advance(&mut self, now: Duration, random: &mut impl FnMut() -> u64, out: &mut Vec<Action>) {
        for id in self.ids() {
            while let Some((timer, due)) = self.entry(id).and_then(|entry| entry.due(now)) {
                if timer == Timer::Transmit {
                    self.lateness.see(due, now);
                }
                self.handle(id, Input::Timer(timer), now, random, out);
            }
            if self.entry(id).and_then(|entry| entry.forget_at()).is_some_and(|at| at <= now) {
                self.places[id.0] = None;
                out.push(Action::Close(id));
            }
        }
    }

    /// When the next timer runs out.
    pub fn next(&self) -> Option<Duration> {
        self.places.iter().flatten().filter_map(Entry::next).min()
    }

    /// The node's path is down (the reason is told to all peers), or works again.
    pub fn follow_path(
        &mut self,
        path: Option<Diagnostic>,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        if std::mem::replace(&mut self.path, path) == path {
            return;
        }
        self.ids().for_each(|id| self.handle(id, Input::Path(path), now, random, out));
    }

    /// Peers that no longer use the node: their sessions go down if their owner wants that.
    pub fn drained(
        &mut self,
        is_drained: impl Fn(IpAddr) -> bool,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        for id in self.ids() {
            let waits = |entry: &mut Entry| {
                entry.config.admin_down == AdminDown::WhenDrained
                    && entry.session.state() == State::Up
                    && is_drained(entry.peer)
            };
            if self.entry(id).is_some_and(waits) {
                self.handle(id, Input::Admin(Admin::Down), now, random, out);
            }
        }
    }

    /// Asks all peers to wait so long for the next agent: each takes this end for gone only after it.
    pub fn part(
        &mut self,
        handover: Duration,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        for id in self.ids() {
            let Some(entry) = self.entry(id).filter(|entry| entry.session.state() == State::Up) else {
                continue;
            };
            let timing = entry.config.timing;
            let slow = Micros::from(handover / u32::from(timing.multiplier.get()));
            let timing = Timing { tx: timing.tx.max(slow), ..timing };
            self.handle(id, Input::Timing(timing), now, random, out);
            self.poll_now(id, now, random, out);
        }
    }

    /// Whether a peer has yet to confirm a change.
    pub fn is_polling(&self) -> bool {
        self.places
            .iter()
            .flatten()
            .any(|entry| entry.session.state() == State::Up && entry.session.is_polling())
    }

    /// What the next agent needs to go on with a session.
    pub fn record(&self, id: SessionId) -> Option<Record> {
        self.places.get(id.0)?.as_ref().map(Entry::record)
    }

    /// Between what a session's packets go.
    pub fn endpoint(&self, id: SessionId) -> Option<Endpoint> {
        self.places.get(id.0)?.as_ref().map(Entry::endpoint)
    }

    /// Another source port for a session whose port is taken.
    pub fn change_port(&mut self, id: SessionId, random: &mut impl FnMut() -> u64) {
        let port = self.free_port(random);
        if let Some(entry) = self.entry(id) {
            entry.source_port = port;
        }
    }

    /// The interfaces that sessions are bound to.
    pub fn interfaces(&self) -> Vec<String> {
        let names = self.places.iter().flatten().filter_map(|entry| entry.config.interface.clone());
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Tells the number of an interface; `None` while there is none of that name.
    pub fn set_interface(&mut self, name: &str, index: Option<u32>) {
        for entry in
            self.places.iter_mut().flatten().filter(|entry| entry.config.interface.as_deref() == Some(name))
        {
            entry.index = index;
        }
    }

    /// Notes what goes wrong with sending to a session's peer, or that nothing does.
    pub fn set_trouble(&mut self, id: SessionId, trouble: Option<String>) {
        if let Some(entry) = self.entry(id) {
            entry.trouble = trouble;
        }
    }

    /// Counts packets that were not believed.
    pub fn reject(&mut self, rejection: Rejection, packets: u64) {
        *self.rejected.0.entry(rejection).or_default() += packets;
    }

    /// All sessions, by peer.
    pub fn sessions(&self, now: Duration) -> Vec<SessionView> {
        let mut views: Vec<_> = self.places.iter().flatten().map(|entry| entry.view(now)).collect();
        views.sort_by(|one, other| (one.peer, &one.interface).cmp(&(other.peer, &other.interface)));
        views
    }

    /// Packets that were not believed.
    pub fn rejected(&self) -> &Rejected {
        &self.rejected
    }

    /// By how much periodic packets were late at worst.
    pub fn lateness(&self) -> Duration {
        self.lateness.worst()
    }

    /// Why the node's own measurements hold all sessions down, if so.
    pub fn held(&self) -> Option<Diagnostic> {
        self.path
    }

    /// RFC 5880, 6.8.6 and RFC 5881, 3: the session of a packet. Whoever is no peer is told apart first, at the least cost.
    fn session_of(
        &mut self,
        datagram: &Datagram<'_>,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) -> Result<(SessionId, Packet), Rejection> {
        if !datagram.multihop && datagram.ttl != Some(TTL) {
            return Err(Rejection::Ttl);
        }
        let kind = |hops: Hops| matches!(hops, Hops::Multi { .. }) == datagram.multihop;
        let is_peer =
            |entry: &Entry| entry.peer == datagram.source && entry.is_multihop() == datagram.multihop;
        let known = self.places.iter().flatten().any(is_peer);
        let allowed = self.peers.iter().find(|it| kind(it.hops) && it.address.contains(datagram.source));
        if !known && allowed.is_none() {
            return Err(Rejection::Stranger);
        }
        let packet = Packet::decode(datagram.payload)?;
        let found = self.places.iter().position(|entry| {
            entry.as_ref().is_some_and(|entry| match packet.your_discriminator {
                Some(number) => entry.session.discriminator() == number && is_peer(entry),
                None => is_peer(entry) && entry.index.is_none_or(|index| index == datagram.interface),
            })
        });
        let id = match found {
            Some(place) => SessionId(place),
            None if packet.your_discriminator.is_some() => return Err(Rejection::UnknownSession),
            None if known => return Err(Rejection::Interface),
            None => {
                let config = allowed.cloned().ok_or(Rejection::Stranger)?;
                let created = self.create(config, datagram.source, Standing::Asked, now, random, out);
                let id = created.ok_or(Rejection::NoRoom)?;
                if let Some(entry) = self.entry(id) {
                    entry.source = entry.source.or(datagram.destination);
                    entry.index = entry.config.interface.is_some().then_some(datagram.interface);
                }
                id
            }
        };
        let Some(entry) = self.entry(id) else { return Err(Rejection::UnknownSession) };
        if let Hops::Multi { min_ttl } = entry.config.hops
            && datagram.ttl.is_none_or(|ttl| ttl < min_ttl)
        {
            return Err(Rejection::Ttl);
        }
        if entry.config.interface.is_some() && entry.index != Some(datagram.interface) {
            return Err(Rejection::Interface);
        }
        Ok((id, packet))
    }

    fn handle(
        &mut self,
        id: SessionId,
        input: Input<'_>,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        let mut commands = std::mem::take(&mut self.commands);
        if let Some(entry) = self.entry(id) {
            entry.session.handle(input, now, random, &mut commands);
        }
        self.carry_out(id, commands, out);
    }

    fn carry_out(&mut self, id: SessionId, mut commands: Vec<Command>, out: &mut Vec<Action>) {
        if let Some(entry) = self.entry(id) {
            for command in commands.drain(..) {
                entry.note(&command);
                match command {
                    Command::Send(packet) => out.push(Action::Send(id, packet.encode())),
                    Command::Notify(transition) => out.push(Action::Notify(id, transition)),
                    Command::Set(..) | Command::Cancel(_) => {}
                }
            }
            out.push(Action::Save(id));
        }
        commands.clear();
        self.commands = commands;
    }

    fn resume(&mut self, id: SessionId, record: &Record, now: Duration) -> Option<Timing> {
        let of =
            |config: &&PeerConfig| record.is_of(&config.address, config.interface.as_deref(), config.hops);
        let config = self.peers.iter().find(of)?.clone();
        let (timing, standing) = match config.address {
            PeerAddress::One(_) => (config.timing, Standing::Configured),
            PeerAddress::Any(_) => (config.timing, Standing::Asked),
        };
        *self.places.get_mut(id.0)? = Some(Entry::resumed(config, standing, record, now));
        Some(timing)
    }

    fn create(
        &mut self,
        config: PeerConfig,
        peer: IpAddr,
        standing: Standing,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) -> Option<SessionId> {
        let id = SessionId(self.places.iter().position(Option::is_none)?);
        let session = Session::new(setup(&config, self.free_discriminator(random)));
        let source_port = self.free_port(random);
        let mut entry = Entry::new(config, peer, standing, session, now);
        entry.source_port = source_port;
        self.places[id.0] = Some(entry);
        self.start(id, None, now, random, out);
        Some(id)
    }

    /// Makes a new or resumed session speak.
    fn start(
        &mut self,
        id: SessionId,
        timing: Option<Timing>,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        let (mut commands, path) = (std::mem::take(&mut self.commands), self.path);
        if let Some(entry) = self.entry(id) {
            if let Some(timing) = timing {
                entry.session.handle(Input::Timing(timing), now, random, &mut commands);
            }
            if path.is_some() {
                entry.session.handle(Input::Path(path), now, random, &mut commands);
            }
            let admin = if entry.config.admin_down == AdminDown::No { Admin::Wanted } else { Admin::Down };
            let waits =
                entry.config.admin_down == AdminDown::WhenDrained && entry.session.state() == State::Up;
            if !waits {
                entry.session.handle(Input::Admin(admin), now, random, &mut commands);
            }
            entry.session.begin(now, random, &mut commands);
        }
        self.carry_out(id, commands, out);
    }

    fn reconfigure(
        &mut self,
        id: SessionId,
        config: PeerConfig,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.entry(id) else { return };
        if matches!(config.address, PeerAddress::One(_)) {
            entry.standing = Standing::Configured;
        }
        entry.session.set_role(config.role, config.echo.unwrap_or(Micros(0)));
        let waits = entry.session.state() == State::Up;
        let admin = match config.admin_down {
            AdminDown::No => Some(Admin::Wanted),
            AdminDown::WhenDrained if waits => None,
            AdminDown::WhenDrained | AdminDown::Now => Some(Admin::Down),
        };
        let timing = (entry.config.timing != config.timing).then_some(config.timing);
        entry.config = config;
        if let Some(timing) = timing {
            self.handle(id, Input::Timing(timing), now, random, out);
        }
        if let Some(admin) = admin {
            self.handle(id, Input::Admin(admin), now, random, out);
        }
    }

    fn drop_from_configuration(&mut self, id: SessionId) {
        if let Some(entry) = self.entry(id) {
            entry.standing = Standing::Dropped;
        }
    }

    fn poll_now(
        &mut self,
        id: SessionId,
        now: Duration,
        random: &mut impl FnMut() -> u64,
        out: &mut Vec<Action>,
    ) {
        self.handle(id, Input::Timer(Timer::Transmit), now, random, out);
    }

    /// What is configured for a peer: its own entry, or the first prefix that holds it.
    fn config_of(&self, peer: IpAddr, interface: Option<&str>) -> Option<&PeerConfig> {
        let own = |config: &&PeerConfig| {
            config.address == PeerAddress::One(peer) && config.interface.as_deref() == interface
        };
        let prefix = |config: &&PeerConfig| {
            matches!(config.address, PeerAddress::Any(_)) && config.address.contains(peer)
        };
        self.peers.iter().find(own).or_else(|| self.peers.iter().find(prefix))
    }

    fn ids(&self) -> impl Iterator<Item = SessionId> + use<> {
        (0..self.places.len()).map(SessionId)
    }

    fn entry(&mut self, id: SessionId) -> Option<&mut Entry> {
        self.places.get_mut(id.0)?.as_mut()
    }

    fn free_port(&self, random: &mut impl FnMut() -> u64) -> u16 {
        let span = u64::from(SOURCE_PORTS.end() - SOURCE_PORTS.start()) + 1;
        loop {
            let port = SOURCE_PORTS.start() + u16::try_from(random() % span).unwrap_or(0);
            if !self.places.iter().flatten().any(|entry| entry.source_port == port) {
                return port;
            }
        }
    }

    /// RFC 5880, 6.8.1: random, not zero, of no other session.
    fn free_discriminator(&self, random: &mut impl FnMut() -> u64) -> NonZeroU32 {
        loop {
            let taken = |number: &NonZeroU32| {
                self.places.iter().flatten().any(|entry| entry.session.discriminator() == *number)
            };
            let number = NonZeroU32::new((random() >> 32) as u32).filter(|number| !taken(number));
            if let Some(number) = number {
                return number;
            }
        }
    }
}
