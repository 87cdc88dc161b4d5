//! BFD's I/O: sockets, a thread with real-time priority, and memory that outlives the process.
//!
//! What to send and what to believe is decided in [`crate::model::bfd`]. The thread is started before anything else of the
//! agent, so that a restart costs its peers a few packets at most, and ends after everything else.

mod memory;
mod priority;
mod socket;
mod thread;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::model::bfd::{
    Bfd, BfdMode, Carrier, Diagnostic, Health, Hysteresis, PORT, Reason, Settings, State, Tally, evidence,
};
use crate::state::{Event, Snapshot};
pub use memory::SIZE;
use thread::{Ears, Mouth, Order, Shared, clock, observe};

/// How long the thread may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the node's health is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What the thread needs that only the rest of the agent can give.
pub struct Means {
    /// Memory of [`SIZE`] octets that outlives the process; without it a restart is a flap.
    pub kept: Option<OwnedFd>,
    /// Gives up all rights of the calling thread.
    pub give_up: fn() -> Result<(), String>,
    /// Who has a UDP port, in words.
    pub owner: fn(u16) -> Option<String>,
}

/// Gives the thread orders.
#[derive(Clone, Debug)]
pub struct Control {
    orders: Sender<Order>,
    alarm: Arc<UnixDatagram>,
    ended: Arc<Mutex<mpsc::Receiver<()>>>,
}

/// What the thread tells.
#[derive(Debug)]
pub struct News {
    shared: Arc<Shared>,
    bell: UnixDatagram,
    control: Control,
}

/// Starts the thread. Where another program owns the port it only watches.
///
/// # Errors
/// When the ports cannot be opened for another reason, or the thread cannot be started.
pub fn start(settings: Settings, means: Means) -> io::Result<(Control, News)> {
    let (inside, alarm) = pair()?;
    let (bell, outside) = pair()?;
    let (orders, inbox) = mpsc::channel();
    let (ready, begun) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let shared = Arc::new(Shared { news: Mutex::default(), bell });
    let (told, seed) = (Arc::clone(&shared), RandomState::new().hash_one(std::process::id()));
    let work = move || {
        let _end = end;
        let opened = open(settings, means, seed);
        match opened {
            Ok(Role::Speak(mouth)) => {
                let _ = ready.send(Ok(()));
                mouth.run(&inbox, &inside, &told);
            }
            Ok(Role::Watch(tap, why)) => {
                let _ = ready.send(Ok(()));
                observe(tap.as_ref(), &why, &inbox, &inside, &told);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    };
    std::thread::Builder::new().name("bfd".to_owned()).spawn(work)?;
    begun.recv().map_err(|_| io::Error::other("the BFD thread ended at its start"))??;
    let control = Control { orders, alarm: Arc::new(alarm), ended: Arc::new(Mutex::new(ended)) };
    Ok((control.clone(), News { shared, bell: outside, control }))
}

enum Role {
    Speak(Box<Mouth>),
    Watch(Option<OwnedFd>, Reason),
}

fn open(settings: Settings, means: Means, seed: u64) -> io::Result<Role> {
    let priority = priority::take();
    let opened = match Ears::open(&settings) {
        Ok(ears) => {
            let kept = means.kept.as_ref().map(memory::Memory::map);
            let memory = match kept {
                Some(Ok(memory)) => memory,
                Some(Err(_)) | None => memory::Memory::fleeting()?,
            };
            let mut mouth = Mouth::new(settings, ears, memory, priority, seed);
            // The peers' clocks run.
            mouth.speak();
            Role::Speak(Box::new(mouth))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let owner = (means.owner)(PORT).unwrap_or_else(|| "another program".to_owned());
            let (tap, watches) = match socket::tap() {
                Ok(tap) => (Some(tap), "only watches its sessions".to_owned()),
                Err(error) => (None, format!("cannot even watch its sessions ({error}; grant CAP_NET_RAW)")),
            };
            let why = format!(
                "{owner} has UDP port {PORT}: the agent stands down and {watches}; end it or its BFD, then restart the agent"
            );
            Role::Watch(tap, why)
        }
        Err(error) => return Err(error),
    };
    (means.give_up)().map_err(io::Error::other)?;
    Ok(opened)
}

fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
    let (one, other) = UnixDatagram::pair()?;
    one.set_nonblocking(true)?;
    other.set_nonblocking(true)?;
    Ok((one, other))
}

impl Control {
    /// Other peers, or other timing: without a flap.
    pub fn configure(&self, settings: Settings) {
        self.order(Order::Configure(settings));
    }

    /// Ends the thread, after asking all peers to wait for the next agent. Blocks for half a second at most, or two where
    /// the thread is stuck.
    pub fn part(&self) {
        self.order(Order::Part);
        if let Ok(ended) = self.ended.lock() {
            let _ = ended.recv_timeout(PATIENCE);
        }
    }

    fn order(&self, order: Order) {
        // A thread that ended takes no orders; a full pipe has rung often enough.
        if self.orders.send(order).is_ok() {
            let _ = self.alarm.send(&[1]);
        }
    }
}

/// Passes on what the thread tells, and tells it what is known of the node, until `stop`.
///
/// # Errors
/// When the runtime cannot watch the bell.
pub async fn follow(
    news: News,
    health: Health,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    events: tokio::sync::mpsc::Sender<Event>,
    stop: CancellationToken,
) -> io::Result<()> {
    let News { shared, bell, control } = news;
    let bell = tokio::net::UnixDatagram::from_std(bell)?;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut watcher, mut chronicle, mut ring) = (Watcher::new(health), Chronicle::default(), [0; 8]);
    loop {
        let work = watcher.has_work(&snapshot.borrow());
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            rung = bell.recv(&mut ring) => rung.map(drop)?,
            _ = look.tick(), if work => {
                let now = Arc::clone(&snapshot.borrow());
                watcher.look(&now, &control);
                continue;
            }
        }
        let news = shared.news.lock().ok().and_then(|mut place| place.take());
        if let Some(news) = news {
            chronicle.log(&news);
            if events.send(Event::Bfd(Box::new(news))).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Tells the thread what the rest of the agent measures.
struct Watcher {
    health: Health,
    hysteresis: Hysteresis,
    before: Tally,
    origin: Instant,
    told: Option<Diagnostic>,
}

/// Whether a peer learns nothing of this node any more: BGP was seen on the wire, and advertises no route to it.
fn is_drained(peer: IpAddr, snapshot: &Snapshot) -> bool {
    let mut sessions = snapshot.bgp.established().filter(|session| session.key.peer == peer).peekable();
    sessions.peek().is_some()
        && sessions.all(|session| session.advertised.complete && session.advertised.routes.is_empty())
}

impl Watcher {
    fn new(health: Health) -> Self {
        Self {
            health,
            hysteresis: Hysteresis::default(),
            before: Tally::new(),
            origin: Instant::now(),
            told: None,
        }
    }

    /// Whether there is something to look for: health where it is asked for, and whether a peer is drained whose session is
    /// to go.
    fn has_work(&self, snapshot: &Snapshot) -> bool {
        self.health == Health::Gateways || snapshot.bfd.sessions.iter().any(|session| session.leaves)
    }

    fn look(&mut self, snapshot: &Snapshot, control: &Control) {
        let leaving =
            snapshot.bfd.sessions.iter().filter(|session| session.leaves).map(|session| session.peer);
        let drained: Vec<IpAddr> = leaving.filter(|peer| is_drained(*peer, snapshot)).collect();
        if !drained.is_empty() {
            control.order(Order::Drained(drained));
        }
        if self.health != Health::Gateways {
            return;
        }
        let has_carrier = |index| snapshot.links.get(index).is_none_or(|link| link.carrier && link.admin_up);
        let mut uplinks = snapshot.gateways.keys().map(|(index, _)| index);
        let any = snapshot.gateways.is_empty() || uplinks.any(has_carrier);
        let carrier = if any { Carrier::Some } else { Carrier::None };
        let seen = evidence(&mut self.before, snapshot.gateways.values(), carrier);
        let verdict = self.hysteresis.see(seen, self.origin.elapsed());
        if verdict != self.told {
            self.told = verdict;
            control.order(Order::Path(verdict));
        }
    }
}

/// Logs what changed; the thread itself must not wait for whoever reads the log.
#[derive(Default)]
struct Chronicle {
    states: HashMap<String, State>,
    mode: Option<String>,
}

impl Chronicle {
    fn log(&mut self, news: &Bfd) {
        let mode = format!("{:?}", news.mode);
        if self.mode.as_ref() != Some(&mode) {
            match &news.mode {
                BfdMode::Observing(why) => tracing::warn!("BFD: {why}"),
                other => tracing::info!(mode = other.as_str(), "BFD"),
            }
            if let Some(priority) = &news.priority {
                tracing::warn!("BFD: {priority}");
            }
            self.mode = Some(mode);
        }
        for session in &news.sessions {
            let before = self.states.insert(session.label(), session.state);
            if before == Some(session.state) {
                continue;
            }
            let (state, why) = (session.state.as_str(), session.diagnostic.as_str());
            if before == Some(State::Up) {
                tracing::warn!(state, why, "a BFD session left Up");
            } else {
                tracing::info!(state, why, "BFD session");
            }
            tracing::debug!(peer = %session.label(), state, clock = ?clock(), "BFD session of a peer");
        }
    }
}
