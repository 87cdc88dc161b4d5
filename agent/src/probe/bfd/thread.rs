//! The thread that speaks: real-time where the kernel lets it, without locks that others hold, logs, files or rights.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use socket2::Domain;

use super::memory::Memory;
use super::socket::{self, Envelope};
use crate::model::bfd::{
    Action, Bfd, BfdMode, Datagram, Diagnostic, ECHO_PORT, Hops, LENGTH, MULTIHOP_PORT, Observer, PORT,
    Reason, Rejection, SESSIONS_MAX, SessionId, Settings, Sight, Speaker,
};

/// How many datagrams are read before timers are looked at again: more than a socket holds.
const FLOOD: usize = 4096;
/// How often what is known is told at least, and at most.
const TELL: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(20)];
/// How often interfaces are looked up again while one is missing, and otherwise.
const LOOK: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// How long peers may take to agree that they wait for the next agent.
const PART: Duration = Duration::from_millis(500);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Other peers, or other timing.
    Configure(Settings),
    /// The node's path is down, or works again.
    Path(Option<Diagnostic>),
    /// These peers no longer use the node.
    Drained(Vec<std::net::IpAddr>),
    /// End; the next agent goes on.
    Part,
}

/// What the thread and the rest of the agent share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The latest news; the thread never waits for this lock.
    pub(super) news: Mutex<Option<Bfd>>,
    /// Rung when there are news.
    pub(super) bell: UnixDatagram,
}

/// The sockets that receive, each with what it is for.
pub(super) struct Ears {
    all: Vec<Ear>,
}

struct Ear {
    socket: OwnedFd,
    port: u16,
    overflown: u32,
}

impl Ears {
    /// Opens the ports that the settings need.
    pub(super) fn open(settings: &Settings) -> io::Result<Self> {
        let multihop = settings.peers.iter().any(|peer| matches!(peer.hops, Hops::Multi { .. }));
        let echo = settings.peers.iter().any(|peer| peer.echo.is_some());
        let ports = [(PORT, true), (MULTIHOP_PORT, multihop), (ECHO_PORT, echo)];
        let mut all = Vec::new();
        for (port, _) in ports.into_iter().filter(|(_, wanted)| *wanted) {
            for domain in [Domain::IPV4, Domain::IPV6] {
                match socket::receiver(domain, port) {
                    Ok(socket) => all.push(Ear { socket, port, overflown: 0 }),
                    // A host without IPv6.
                    Err(error) if domain == Domain::IPV6 && is_without_ipv6(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Self { all })
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// The thread that speaks.
pub(super) struct Mouth {
    ears: Ears,
    settings: Settings,
    speaker: Speaker,
    memory: Memory,
    senders: Vec<Option<OwnedFd>>,
    actions: Vec<Action>,
    random: u64,
    looked: Option<Duration>,
    told: Duration,
    changed: bool,
    priority: Option<Reason>,
    parting: Option<Duration>,
}

impl Mouth {
    pub(super) fn new(
        settings: Settings,
        ears: Ears,
        mut memory: Memory,
        priority: Option<Reason>,
        seed: u64,
    ) -> Self {
        let (mut random, mut actions) = (seed, Vec::new());
        let records = memory.records();
        let speaker =
            Speaker::new(&settings, &records, clock(), &mut super::super::random(&mut random), &mut actions);
        Self {
            ears,
            settings,
            speaker,
            memory,
            senders: (0..SESSIONS_MAX).map(|_| None).collect(),
            actions,
            random,
            looked: None,
            told: Duration::ZERO,
            changed: true,
            priority,
            parting: None,
        }
    }

    /// Does what is due now.
    pub(super) fn speak(&mut self) {
        self.look_at_interfaces();
        self.speaker.advance(clock(), &mut super::super::random(&mut self.random), &mut self.actions);
        self.act();
    }

    /// Speaks until told to part.
    pub(super) fn run(mut self, orders: &Receiver<Order>, alarm: &UnixDatagram, shared: &Arc<Shared>) {
        loop {
            self.speak();
            self.tell(shared);
            if self.parting.is_some_and(|until| clock() >= until || !self.speaker.is_polling()) {
                return;
            }
            self.wait(alarm);
            while let Ok(order) = orders.try_recv() {
                self.obey(order);
            }
            self.listen();
        }
    }

    fn obey(&mut self, order: Order) {
        let (now, random) = (clock(), &mut super::super::random(&mut self.random));
        match order {
            Order::Configure(settings) => {
                self.speaker.configure(&settings, now, random, &mut self.actions);
                (self.settings, self.looked) = (settings, None);
            }
            Order::Path(path) => self.speaker.follow_path(path, now, random, &mut self.actions),
            Order::Drained(peers) => {
                self.speaker.drained(|peer| peers.contains(&peer), now, random, &mut self.actions);
            }
            Order::Part => {
                let handover = self.settings.handover;
                if !handover.is_zero() {
                    self.speaker.part(handover, now, random, &mut self.actions);
                }
                self.parting = Some(now + PART);
            }
        }
        self.changed = true;
    }

    /// Waits for a packet, an order or a timer.
    fn wait(&self, alarm: &UnixDatagram) {
        let (now, tell) = (clock(), self.told + if self.changed { TELL[1] } else { TELL[0] });
        let mut until = self.speaker.next().unwrap_or(Duration::MAX).min(tell);
        until = self.parting.map_or(until, |parting| until.min(parting));
        let mut polled: Vec<PollFd<'_>> =
            self.ears.all.iter().map(|ear| PollFd::new(ear.socket.as_fd(), PollFlags::POLLIN)).collect();
        polled.push(PollFd::new(alarm.as_fd(), PollFlags::POLLIN));
        // An interrupted wait is a short one.
        let _ = ppoll(&mut polled, Some(TimeSpec::from(until.saturating_sub(now))), None);
        let mut rings = [0; 8];
        while alarm.recv(&mut rings).is_ok() {}
    }

    /// Takes all that has arrived, before any timer is looked at: on a busy node the kernel's stamp is right and this thread
    /// late.
    fn listen(&mut self) {
        let mut buffer = [0; 128];
        for which in 0..self.ears.all.len() {
            for _ in 0..FLOOD {
                let Some(ear) = self.ears.all.get_mut(which) else { break };
                let Ok(envelope) = socket::receive(&ear.socket, &mut buffer) else { break };
                let overflown = envelope.overflown.unwrap_or(ear.overflown);
                let lost = overflown.wrapping_sub(std::mem::replace(&mut ear.overflown, overflown));
                if lost > 0 {
                    self.speaker.reject(Rejection::QueueFull, lost.into());
                }
                let payload = buffer.get(..envelope.length).unwrap_or(&buffer);
                self.take(which, &envelope, payload);
            }
        }
    }

    fn take(&mut self, which: usize, envelope: &Envelope, payload: &[u8]) {
        let (Some(from), Some(ear)) = (envelope.from, self.ears.all.get(which)) else { return };
        let datagram = Datagram {
            source: from.ip().to_canonical(),
            destination: envelope.to,
            interface: envelope.interface,
            ttl: envelope.ttl,
            multihop: ear.port == MULTIHOP_PORT,
            payload,
        };
        let now = clock();
        if ear.port == ECHO_PORT {
            if self.speaker.reflects(&datagram, now) {
                // An echo that cannot be sent back is one that the peer misses.
                let _ = socket::send(&ear.socket, payload, SocketAddr::new(from.ip(), ECHO_PORT));
            }
            return;
        }
        let at = now.saturating_sub(age(envelope.stamp));
        self.speaker.receive(&datagram, at, &mut super::super::random(&mut self.random), &mut self.actions);
        if self.actions.len() > SESSIONS_MAX {
            self.act();
        }
    }

    fn act(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Send(id, packet) => self.send(id, &packet),
                Action::Notify(..) => self.changed = true,
                Action::Save(id) => {
                    if let Some(record) = self.speaker.record(id) {
                        self.memory.save(id, &record);
                    }
                }
                Action::Close(id) => {
                    self.memory.clear(id);
                    if let Some(sender) = self.senders.get_mut(id.0) {
                        *sender = None;
                    }
                }
            }
        }
        self.actions = actions;
    }

    fn send(&mut self, id: SessionId, packet: &[u8; LENGTH]) {
        let trouble = self.try_send(id, packet).err().map(|error| words(&error));
        self.speaker.set_trouble(id, trouble);
    }

    fn try_send(&mut self, id: SessionId, packet: &[u8; LENGTH]) -> io::Result<()> {
        let unknown = || io::Error::from(io::ErrorKind::NotFound);
        let mut endpoint = self.speaker.endpoint(id).ok_or_else(unknown)?;
        let slot = self.senders.get_mut(id.0).ok_or_else(unknown)?;
        if slot.is_none() {
            for _ in 0..16 {
                match socket::sender(&endpoint) {
                    Ok(socket) => {
                        *slot = Some(socket);
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        self.speaker.change_port(id, &mut super::super::random(&mut self.random));
                        endpoint = self.speaker.endpoint(id).ok_or_else(unknown)?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let socket = slot.as_ref().ok_or(io::ErrorKind::AddrInUse)?;
        socket::send(socket, packet, endpoint.peer).inspect_err(|error| {
            // Its interface or address went away: what comes next needs another socket.
            if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EADDRNOTAVAIL | libc::EINVAL)) {
                *slot = None;
            }
        })
    }

    fn look_at_interfaces(&mut self) {
        let now = clock();
        let names = self.speaker.interfaces();
        if names.is_empty() {
            return;
        }
        let missing = names.iter().any(|name| nix::net::if_::if_nametoindex(name.as_str()).is_err());
        let pause = if missing { LOOK[0] } else { LOOK[1] };
        if self.looked.is_some_and(|looked| now.saturating_sub(looked) < pause) {
            return;
        }
        self.looked = Some(now);
        for name in names {
            self.speaker.set_interface(&name, nix::net::if_::if_nametoindex(name.as_str()).ok());
        }
    }

    /// Tells what is known, unless somebody is just reading what was told before: then soon.
    fn tell(&mut self, shared: &Shared) {
        let now = clock();
        let since = now.saturating_sub(self.told);
        if since < TELL[1] || (!self.changed && since < TELL[0]) {
            return;
        }
        let news = Bfd {
            mode: BfdMode::Speaking,
            sessions: self.speaker.sessions(now),
            rejected: self.speaker.rejected().clone(),
            lateness: self.speaker.lateness(),
            priority: self.priority.clone(),
            held: self.speaker.held(),
        };
        if shared.offer(news) {
            (self.changed, self.told) = (false, now);
        }
    }
}

impl Shared {
    /// Replaces the news and rings, without waiting for anybody.
    pub(super) fn offer(&self, news: Bfd) -> bool {
        let Ok(mut place) = self.news.try_lock() else { return false };
        let old = place.replace(news);
        drop(place);
        drop(old);
        // A full pipe has rung often enough.
        let _ = self.bell.send(&[1]);
        true
    }
}

/// Watches what another program's BFD does, until told to part.
pub(super) fn observe(
    tap: Option<&OwnedFd>,
    why: &Reason,
    orders: &Receiver<Order>,
    alarm: &UnixDatagram,
    shared: &Shared,
) {
    let mut observer = Observer::default();
    let mut buffer = [0; 256];
    let mut told = Duration::ZERO;
    loop {
        if orders.try_iter().any(|order| matches!(order, Order::Part)) {
            return;
        }
        let now = clock();
        if now.saturating_sub(told) >= TELL[0] {
            let news = Bfd {
                mode: BfdMode::Observing(why.clone()),
                sessions: observer.sessions(now),
                rejected: observer.rejected().clone(),
                ..Bfd::default()
            };
            if shared.offer(news) {
                told = now;
            }
        }
        let mut polled = vec![PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        polled.extend(tap.map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN)));
        let _ = ppoll(&mut polled, Some(TimeSpec::from(TELL[0])), None);
        let mut rings = [0; 8];
        while alarm.recv(&mut rings).is_ok() {}
        for _ in 0..FLOOD {
            let Some(Ok(envelope)) = tap.map(|tap| socket::receive(tap, &mut buffer)) else { break };
            let packet = buffer.get(..envelope.length).unwrap_or(&buffer);
            let Some(seen) = socket::tapped(packet) else { continue };
            let peer = if envelope.outgoing { seen.destination } else { seen.source };
            let sight = Sight {
                peer,
                sent_here: envelope.outgoing,
                multihop: seen.multihop,
                source_port: seen.source_port,
                payload: seen.payload,
            };
            observer.see(&sight, clock().saturating_sub(age(envelope.stamp)));
        }
    }
}

/// The host's monotonic clock, the same for every process of one boot.
pub(super) fn clock() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// How long ago the kernel stamped a packet; none when the clock was set meanwhile.
fn age(stamp: Option<Duration>) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = stamp.and_then(|stamp| now.checked_sub(stamp)).unwrap_or_default();
    if age < Duration::from_secs(10) { age } else { Duration::ZERO }
}

fn words(error: &io::Error) -> String {
    let way_out = match error.raw_os_error() {
        Some(libc::ENETDOWN) => "set the interface up",
        Some(libc::ENODEV) => "the interface is not there",
        Some(libc::EADDRNOTAVAIL) => "the node has no such source address",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "look at the routes to the peer",
        Some(libc::EPERM | libc::EACCES) => "look for a firewall rule that drops it",
        _ => "it is tried again",
    };
    format!("cannot send: {error}; {way_out}")
}
