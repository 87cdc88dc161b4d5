//! Probes the gateways of the uplinks (ARP and neighbour discovery, echo, path MTU), and a few other nodes (echo, path MTU).
//!
//! What to send and what an answer means is decided in [`crate::model::probe`]; here are the sockets and the clock.

pub mod bfd;
mod socket;
pub mod vip;
mod wire;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::model::address::{IfIndex, Mac};
use crate::model::mesh::{self, PeerProbe};
use crate::model::probe::{Answer, GatewayProbe, Plan, Prober, Refusal, Request, Target, Transmit, targets};
use crate::state::{Event, Snapshot};
use socket::{Envelope, Way};
use wire::Family;

/// How often results are published.
const PUBLISH: Duration = Duration::from_secs(1);

/// How long to wait between two looks at the snapshot: a node's netlink may be noisy, its gateways seldom change.
const CALM: Duration = Duration::from_millis(100);

/// How many packets are read from a socket before others get their turn.
const FLOOD: usize = 256;

/// The prober's sockets. Open them before privileges are dropped: afterwards probing needs none.
#[derive(Debug)]
pub struct Sockets {
    arp: Result<OwnedFd, String>,
    neighbour: Result<OwnedFd, String>,
    echo_v4: Result<(OwnedFd, Way), String>,
    echo_v6: Result<(OwnedFd, Way), String>,
}

impl Sockets {
    /// Opens what this process may open. What is refused is told as `unable` of the probes that would need it.
    pub fn open() -> Self {
        let raw = "grant CAP_NET_RAW";
        let echo = "widen net.ipv4.ping_group_range to this process's group or grant CAP_NET_RAW";
        Self {
            arp: socket::arp().map_err(|error| refused("ARP", &error, raw)),
            neighbour: socket::neighbour().map_err(|error| refused("neighbour discovery", &error, raw)),
            echo_v4: socket::echo(Family::V4).map_err(|error| refused("ICMP", &error, echo)),
            echo_v6: socket::echo(Family::V6).map_err(|error| refused("ICMPv6", &error, echo)),
        }
    }
}

fn refused(what: &str, error: &io::Error, grant: &str) -> String {
    let way_out = match error.kind() {
        io::ErrorKind::PermissionDenied => grant,
        _ => "the kernel may lack this protocol, or have it switched off",
    };
    format!("cannot open a socket for {what}: {error}; {way_out}")
}

/// Probes the gateways that the snapshot's routes show through `uplinks`, and its peers, until `stop`.
///
/// Results go out as [`Event::Gateway`] and [`Event::Peer`] at most once a second for each, and [`Event::GatewayGone`] or
/// [`Event::PeerGone`] when it is no longer one.
///
/// # Errors
/// When the runtime cannot watch the sockets.
pub async fn run(
    sockets: Sockets,
    plan: Plan,
    mut snapshot: watch::Receiver<Arc<Snapshot>>,
    uplinks: impl Fn(&Snapshot) -> Vec<IfIndex> + Send,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> io::Result<()> {
    let channels = Channels::register(sockets)?;
    let mut shell = Shell::new(Prober::new(plan));
    let mut publish = tokio::time::interval(PUBLISH);
    publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
    snapshot.mark_changed();
    let mut calm = Instant::now();
    loop {
        let wake = shell.transmit(&channels);
        let out = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = changed_after(calm, &mut snapshot) => match changed {
                Some(snapshot) => {
                    calm = Instant::now() + CALM;
                    shell.follow(&snapshot, &uplinks)
                }
                None => return Ok(()),
            },
            _ = publish.tick() => shell.changed(),
            () = channels.readable() => {
                shell.take(&channels);
                continue;
            }
            () = sleep_until(wake) => {
                // Something may count as lost now: not what has arrived and was not read yet.
                shell.take(&channels);
                continue;
            }
        };
        for event in out {
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The next snapshot, not before `calm`; `None` when there will be no more.
async fn changed_after(
    calm: Instant,
    snapshot: &mut watch::Receiver<Arc<Snapshot>>,
) -> Option<Arc<Snapshot>> {
    tokio::time::sleep_until(calm.into()).await;
    snapshot.changed().await.ok()?;
    Some(snapshot.borrow_and_update().clone())
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

/// The prober with a clock and a source of randomness.
struct Shell {
    prober: Prober,
    /// The names of the other nodes among the targets.
    peers: BTreeMap<(IfIndex, IpAddr), String>,
    origin: Instant,
    state: u64,
}

impl Shell {
    fn new(prober: Prober) -> Self {
        Self { prober, peers: BTreeMap::new(), origin: Instant::now(), state: Self::seed() }
    }

    fn seed() -> u64 {
        RandomState::new().hash_one(std::process::id())
    }

    fn follow(&mut self, snapshot: &Snapshot, uplinks: &impl Fn(&Snapshot) -> Vec<IfIndex>) -> Vec<Event> {
        let mut targets = targets(&snapshot.links, &snapshot.routes, &uplinks(snapshot));
        let mut peers = BTreeMap::new();
        for (target, node) in mesh::targets(&snapshot.mesh_peers(), &snapshot.links, &snapshot.routes) {
            let key = (target.interface, target.gateway);
            // A node that is a gateway too is probed as that.
            if !targets.iter().any(|one| (one.interface, one.gateway) == key) {
                peers.insert(key, node);
                targets.push(target);
            }
        }
        let before = std::mem::replace(&mut self.peers, peers);
        let gone = self.prober.follow(targets, self.origin.elapsed(), &mut random(&mut self.state));
        // A gateway may become a node that is none, and the other way round.
        let gateways = gone.iter().filter(|key| !before.contains_key(key));
        let gateways = gateways.chain(self.peers.keys().filter(|key| !before.contains_key(key)));
        let gateways = gateways.map(|(interface, address)| Event::GatewayGone(*interface, *address));
        let peers = before.keys().filter(|key| !self.peers.contains_key(key));
        let peers = peers.map(|(interface, address)| Event::PeerGone(*interface, *address));
        gateways.chain(peers).collect()
    }

    /// Results that are news.
    fn changed(&mut self) -> Vec<Event> {
        let peers = &self.peers;
        let event = |probe: GatewayProbe| match peers.get(&(probe.interface, probe.gateway)) {
            Some(node) => Event::Peer(PeerProbe {
                node: node.clone(),
                interface: probe.interface,
                address: probe.gateway,
                echo: probe.echo,
                path_mtu: probe.path_mtu,
            }),
            None => Event::Gateway(probe),
        };
        self.prober.changed().into_iter().map(event).collect()
    }

    /// Sends all that is due; returns when to look again.
    fn transmit(&mut self, channels: &Channels) -> Option<Instant> {
        while let Some(transmit) = self.prober.poll(self.origin.elapsed(), &mut random(&mut self.state)) {
            if let Err(refusal) = channels.send(&transmit) {
                self.prober.refused(&transmit, refusal);
            }
        }
        self.prober.next().map(|next| self.origin + next)
    }

    /// Takes all answers that have arrived. Before anything counts as lost: on a busy node the kernel's stamp is right and this
    /// process late.
    fn take(&mut self, channels: &Channels) {
        for (answer, stamp) in channels.received() {
            self.prober.answer(answer, self.origin.elapsed().saturating_sub(age(stamp)));
        }
        for told in channels.errors() {
            self.prober.answer(told, self.origin.elapsed());
        }
    }
}

/// How long ago the kernel stamped a packet; none when the clock was set meanwhile.
fn age(stamp: Option<Duration>) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = stamp.and_then(|stamp| now.checked_sub(stamp)).unwrap_or_default();
    if age < Duration::from_secs(1) { age } else { Duration::ZERO }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn random(state: &mut u64) -> impl FnMut() -> u64 {
    || {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The sockets under the runtime's watch.
struct Channels {
    arp: Result<AsyncFd<OwnedFd>, String>,
    neighbour: Result<AsyncFd<OwnedFd>, String>,
    echo_v4: Result<(AsyncFd<OwnedFd>, Way), String>,
    echo_v6: Result<(AsyncFd<OwnedFd>, Way), String>,
    /// The identifier of raw echoes; the kernel chooses that of ping sockets.
    id: u16,
}

impl Channels {
    fn register(sockets: Sockets) -> io::Result<Self> {
        Ok(Self {
            arp: watched(sockets.arp, readable)?,
            neighbour: watched(sockets.neighbour, readable)?,
            echo_v4: watched(sockets.echo_v4, readable_echo)?,
            echo_v6: watched(sockets.echo_v6, readable_echo)?,
            id: (std::process::id() & 0xffff) as u16,
        })
    }

    fn send(&self, transmit: &Transmit) -> Result<(), Refusal> {
        let target = &transmit.target;
        match (transmit.request, target.gateway) {
            (Request::LinkLayer { to }, IpAddr::V4(_)) => self.send_arp(target, to),
            (Request::LinkLayer { .. }, IpAddr::V6(gateway)) => {
                let socket = self.neighbour.as_ref().map_err(|reason| unable(reason))?;
                let group = wire::solicited_node(gateway).into();
                let packet = wire::solicitation(gateway, target.mac);
                socket::send_ip(socket.get_ref(), target.interface, group, &packet).map_err(refusal)
            }
            (Request::Echo, gateway) => {
                self.send_echo(target, &wire::echo_request(family(gateway), self.id, transmit.token))
            }
            (Request::Sized(octets), gateway) => {
                self.send_echo(target, &wire::sized_request(family(gateway), self.id, transmit.token, octets))
            }
        }
    }

    fn send_arp(&self, target: &Target, to: Option<Mac>) -> Result<(), Refusal> {
        let socket = self.arp.as_ref().map_err(|reason| unable(reason))?;
        let IpAddr::V4(gateway) = target.gateway else { return Ok(()) };
        let Some(mac) = target.mac.filter(|mac| !mac.is_zero()) else {
            return Err(Refusal::Unable(
                "the interface has no link-layer address: there is no ARP on it".to_owned(),
            ));
        };
        let source = socket::source(target.interface, gateway).map_err(refusal)?;
        let packet = wire::arp_request(mac, source, gateway);
        let to = to.unwrap_or(Mac([0xff; 6]));
        socket::send_arp(socket.get_ref(), target.interface, to, &packet).map_err(refusal)
    }

    fn send_echo(&self, target: &Target, packet: &[u8]) -> Result<(), Refusal> {
        let channel = if target.gateway.is_ipv4() { &self.echo_v4 } else { &self.echo_v6 };
        let (socket, _) = channel.as_ref().map_err(|reason| unable(reason))?;
        let send = || socket::send_ip(socket.get_ref(), target.interface, target.gateway, packet);
        // An ICMP error about an earlier packet comes out of the next call, whatever it is for; the one after tells the truth.
        send().or_else(|_| send()).map_err(refusal)
    }

    /// Waits until one of the sockets has a packet.
    async fn readable(&self) {
        let sockets: Vec<_> = self.sockets().map(|(socket, _)| Box::pin(socket.readable())).collect();
        if sockets.is_empty() {
            return std::future::pending().await;
        }
        let (first, _, others) = futures::future::select_all(sockets).await;
        let others = others.into_iter().filter_map(FutureExt::now_or_never);
        // Readiness is cleared before all is read, so that what arrives meanwhile wakes this again.
        for mut ready in [first].into_iter().chain(others).flatten() {
            ready.clear_ready();
        }
    }

    /// Reads what has arrived: the answers, and when the kernel got each.
    fn received(&self) -> Vec<(Answer, Option<Duration>)> {
        self.sockets().flat_map(|(socket, parse)| read(socket, parse)).collect()
    }

    /// What routers told of echoes that are too big.
    fn errors(&self) -> Vec<Answer> {
        let echoes = [(Family::V4, &self.echo_v4), (Family::V6, &self.echo_v6)];
        let open = echoes.into_iter().filter_map(|(family, echo)| Some((family, &echo.as_ref().ok()?.0)));
        open.flat_map(|(family, socket)| errors(family, socket.get_ref())).collect()
    }

    fn sockets(&self) -> impl Iterator<Item = (&AsyncFd<OwnedFd>, Parse)> {
        let arp = self.arp.as_ref().ok().map(|socket| (socket, arp_answer as Parse));
        let neighbour = self.neighbour.as_ref().ok().map(|socket| (socket, neighbour_answer as Parse));
        let echo_v4 = self.echo_v4.as_ref().ok().map(|(socket, way)| match way {
            Way::Ping => (socket, echo_v4_answer as Parse),
            Way::Raw => (socket, raw_echo_v4_answer as Parse),
        });
        let echo_v6 = self.echo_v6.as_ref().ok().map(|(socket, _)| (socket, echo_v6_answer as Parse));
        [arp, neighbour, echo_v4, echo_v6].into_iter().flatten()
    }
}

/// Reads an answer off a packet, if it is one.
type Parse = fn(&[u8], &Envelope) -> Option<Answer>;

/// Empties a socket, but for a flood: the rest waits for the next turn.
fn read(socket: &AsyncFd<OwnedFd>, parse: Parse) -> Vec<(Answer, Option<Duration>)> {
    let mut answers = Vec::new();
    for _ in 0..FLOOD {
        // The start of a packet is enough to know it by.
        let mut buffer = [0; 128];
        match socket::receive(socket.get_ref(), &mut buffer) {
            Ok(envelope) => {
                let packet = buffer.get(..envelope.length).unwrap_or(&buffer);
                answers.extend(parse(packet, &envelope).map(|answer| (answer, envelope.stamp)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => tracing::debug!(%error, "a probe socket told an error"),
        }
    }
    answers
}

/// Empties a socket's queue of errors.
fn errors(family: Family, socket: &OwnedFd) -> Vec<Answer> {
    let mut told = Vec::new();
    for _ in 0..FLOOD {
        let mut buffer = [0; 128];
        match socket::receive_error(socket, &mut buffer) {
            Ok(Some(error)) => {
                let packet = buffer.get(..error.quoted).unwrap_or(&buffer);
                let answer = |sequence| Answer::TooBig { gateway: error.to, sequence, mtu: error.mtu };
                told.extend(wire::quoted_request(family, packet).map(answer));
            }
            Ok(None) => {}
            Err(_) => break,
        }
    }
    told
}

fn arp_answer(packet: &[u8], envelope: &Envelope) -> Option<Answer> {
    let (gateway, mac) = wire::arp_reply(packet)?;
    let interface = envelope.interface.try_into().ok()?;
    Some(Answer::LinkLayer { interface, gateway: gateway.into(), mac: Some(mac) })
}

fn neighbour_answer(packet: &[u8], envelope: &Envelope) -> Option<Answer> {
    let (gateway, mac) = wire::advertisement(packet)?;
    let interface = envelope.interface.try_into().ok()?;
    let direct = envelope.hop_limit == Some(wire::ND_HOP_LIMIT);
    direct.then_some(Answer::LinkLayer { interface, gateway: gateway.into(), mac })
}

fn echo_v4_answer(packet: &[u8], envelope: &Envelope) -> Option<Answer> {
    echo_answer(Family::V4, packet, envelope)
}

fn raw_echo_v4_answer(packet: &[u8], envelope: &Envelope) -> Option<Answer> {
    echo_answer(Family::V4, wire::after_ipv4_header(packet)?, envelope)
}

fn echo_v6_answer(packet: &[u8], envelope: &Envelope) -> Option<Answer> {
    echo_answer(Family::V6, packet, envelope)
}

fn echo_answer(family: Family, packet: &[u8], envelope: &Envelope) -> Option<Answer> {
    let token = wire::echo_reply(family, packet)?;
    Some(Answer::Echo { interface: envelope.interface.try_into().ok()?, gateway: envelope.from?, token })
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn unable(reason: &str) -> Refusal {
    Refusal::Unable(reason.to_owned())
}

fn refusal(error: io::Error) -> Refusal {
    let way_out = match error.raw_os_error() {
        Some(libc::EMSGSIZE) => return Refusal::TooBig,
        Some(libc::ENETDOWN) => "set the interface up",
        Some(libc::EADDRNOTAVAIL) => "give the interface an address of the gateway's family",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "look at the routes to the gateway",
        Some(libc::EPERM | libc::EACCES) => "look for a firewall rule that drops the agent's own ARP or ICMP",
        _ => "it is tried again",
    };
    Refusal::Unable(format!("cannot send: {error}; {way_out}"))
}

fn readable(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same open descriptor until it is dropped, and `AsyncFd` owns it until then.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

fn readable_echo((socket, way): (OwnedFd, Way)) -> io::Result<(AsyncFd<OwnedFd>, Way)> {
    Ok((readable(socket)?, way))
}

/// Registers a socket if there is one; a refused one keeps its reason.
fn watched<S, W>(
    socket: Result<S, String>,
    watch: impl Fn(S) -> io::Result<W>,
) -> io::Result<Result<W, String>> {
    socket.map(watch).map_or_else(|reason| Ok(Err(reason)), |watched| watched.map(Ok))
}
