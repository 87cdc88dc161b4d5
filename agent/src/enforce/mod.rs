//! Enforcement: from policies on disk to the set in force, confirmed or given up.
//!
//! This room sees the pure policy and the kernel's side of it, and no other edge. A new set takes effect with a deadline in
//! the kernel; it is confirmed once the agent's own checks pass, and otherwise the kernel goes back by itself.

mod checks;
mod folder;
mod keep;
mod live;
mod mesh;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::datapath::{Guard, GuardError};
use crate::model::class::Class;
use crate::model::flow::Flow;
use crate::model::policy::reference::{Budgets, Surroundings};
use crate::model::policy::{
    self, Changed, ChangedClaim, Claim, Difference, DropEvent, Enforcement, EnforcementError, Packet,
    PolicyStatus, RuleSet, Ruling, Source, Trace, World, read_frame,
};
use crate::state::Snapshot;

pub use folder::{FolderError, Places, read as read_policies};
use live::Live;
use watch::Watch;

/// How policies are enforced.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where policies are read.
    pub places: Places,
    /// How long a new set may be in force before it is confirmed.
    pub deadline: Duration,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Servers that must answer before a set is confirmed: the API server, peers.
    pub checks: Vec<SocketAddr>,
    /// The node's resolvers.
    pub resolvers: Vec<IpAddr>,
    /// The traffic classes.
    pub classes: Vec<Class>,
}

/// How often everything is looked at.
pub const LOOK: Duration = Duration::from_millis(500);

/// Enforces. Calls block: make them where that is allowed.
pub struct Enforcer(Mutex<Live>);

impl Enforcer {
    /// Takes over what is in the kernel, or puts the last confirmed policies into force. Does so before any hook is attached.
    ///
    /// # Errors
    /// When the kernel refuses. What is in force stays.
    pub fn start(guard: Guard, settings: Settings, world: World) -> Result<Self, GuardError> {
        Ok(Self(Mutex::new(Live::start(guard, settings, world)?)))
    }

    /// Looks at policies, interfaces, checks and deadlines.
    pub fn look(&self, now: &Snapshot, classes: &std::collections::BTreeMap<String, u8>) {
        let world = world(now, classes);
        // Checks take up to a second each: others may ask meanwhile.
        let due = self.lock().checks_due();
        let answers = due.map(|checks| checks.run(now));
        self.lock().look(now, world, answers);
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        // A thread that panicked left at most a set unconfirmed, which the kernel takes care of.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What policies may refer to, from what the agent knows.
pub fn world(now: &Snapshot, classes: &std::collections::BTreeMap<String, u8>) -> World {
    World {
        node: now.node.clone(),
        links: now.links.iter().map(|(index, link)| (*index, link.name.clone())).collect(),
        vips: now.vips.iter().map(|vip| vip.0).collect(),
        enrolled: now.guarded.as_ref().map(|pods| pods.enrolled.keys().copied().collect()),
        replicas: now.guarded.as_ref().map(|pods| pods.replicas.clone()),
        classes: classes.clone(),
        ..World::default()
    }
    .with_cluster(now.cluster.as_deref())
}

fn kernel(error: GuardError) -> EnforcementError {
    let error: &dyn std::error::Error = &error;
    let chain = std::iter::successors(Some(error), |error| error.source());
    EnforcementError::Kernel(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

impl Enforcement for Enforcer {
    fn status(&self) -> Result<PolicyStatus, EnforcementError> {
        self.lock().status().map_err(kernel)
    }

    fn confirm(&self) -> Result<u32, EnforcementError> {
        self.lock().confirm("a person")
    }

    fn revert(&self) -> Result<u32, EnforcementError> {
        self.lock().give_up("person").map_err(kernel)?.ok_or_else(|| {
            EnforcementError::NotNow(
                "no set waits to be confirmed; change the policy to go back further".to_owned(),
            )
        })
    }

    fn trace(&self, packet: &Packet) -> Result<Trace, EnforcementError> {
        let live = self.lock();
        let frame = packet.to_frame();
        let read = read_frame(&frame, packet.direction, packet.interface);
        let around = live.surroundings(live.class_of(packet));
        let decision = live.set().decide(&read, &around, &mut Budgets::default(), 0);
        let name = |n: &usize| live.set().rules[*n].full_name();
        let reference = Ruling {
            dropped: decision.dropped,
            rule: decision.rule.as_ref().map(name),
            matched: decision.acted.iter().map(|(n, _)| (name(n), live.set().rules[*n].mode)).collect(),
        };
        let (guard, interface) = (live.guard(), packet.interface.into());
        let verdict = match packet.claim {
            Some(claim) => guard.run_claim(interface, &frame, claim),
            None => guard.run(packet.direction, interface, &frame),
        };
        let verdict = verdict.map_err(kernel)?;
        let rule = reference.rule.clone().filter(|rule| verdict.moved.iter().any(|(moved, _)| moved == rule));
        let kernel = Ruling { dropped: verdict.dropped, rule, matched: verdict.moved };
        let agree = kernel.dropped == reference.dropped
            && kernel.rule == reference.rule
            && reference.matched.iter().all(|one| kernel.matched.contains(one));
        Ok(Trace { reference, kernel, agree })
    }

    fn diff(&self, sources: &[Source], flows: &[Flow]) -> Result<Difference, EnforcementError> {
        let live = self.lock();
        let (after, problems) = policy::read(sources, live.world());
        let before = live.set();
        let claims = live.guard().claims().map_err(kernel)?;
        let mut difference = Difference {
            flows: flows.len() as u64,
            claims: claims.iter().filter(|claim| !claim.own).count() as u64,
            problems,
            ..Difference::default()
        };
        let decide = |set: &RuleSet, packet: &Packet, around: &Surroundings| {
            let decision = set.decide(&Ok(packet.clone()), around, &mut Budgets::default(), 0);
            (decision.dropped, decision.rule.map(|rule| set.rules[rule].full_name()))
        };
        let mut around = live.surroundings(0);
        for flow in flows {
            let packet = packet_of(flow);
            around.class = live.world().classes.get(flow.class.as_ref()).copied().unwrap_or(0);
            let (before, after) = (decide(before, &packet, &around), decide(&after, &packet, &around));
            if before.0 != after.0 {
                difference.changed.push(Changed { flow: flow.clone(), before, after });
            }
        }
        for claim in claims.iter().filter(|claim| !claim.own) {
            let (said, interface) = (Claim { address: claim.vip, mac: claim.mac }, claim.interface);
            let packet = Packet::claiming(said, interface);
            around.class = live.class_of(&packet);
            let (before, after) = (decide(before, &packet, &around), decide(&after, &packet, &around));
            if before.0 != after.0 {
                difference.changed_claims.push(ChangedClaim { claim: said, interface, before, after });
            }
        }
        Ok(difference)
    }
}

/// A packet like those of a flow: the first of a connection where the flow has seen one.
fn packet_of(flow: &Flow) -> Packet {
    let icmp = matches!(flow.protocol.0, 1 | 58);
    let ports = matches!(flow.protocol.0, 6 | 17 | 132).then_some((flow.source_port, flow.destination_port));
    Packet {
        direction: flow.direction,
        interface: flow.interface,
        vlan: flow.vlan,
        source: flow.source,
        destination: flow.destination,
        protocol: flow.protocol.0,
        ports,
        icmp: icmp.then_some((flow.source_port as u8, flow.destination_port as u8)),
        flags: (flow.protocol.0 == 6).then_some(if flow.tcp_flags & 0x12 == 0x02 { 0x02 } else { 0x10 }),
        deep: false,
        claim: None,
        length: flow.bytes.checked_div(flow.packets).unwrap_or(0),
        segments: 1,
    }
}

/// The resolvers of this node, from resolv.conf(5).
pub fn resolvers(path: &Path) -> Vec<IpAddr> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    words.filter_map(|word| word.trim().parse().ok()).collect()
}

/// Those who hear of packets that rules dropped.
pub type Listeners = tokio::sync::broadcast::Sender<Arc<DropEvent>>;

/// Events that wait for a slow listener; older ones are left out and counted.
pub const EVENTS: usize = 1_024;

/// Tells listeners of packets that rules dropped, until `stop`.
pub async fn tell(enforcer: Arc<Enforcer>, listeners: Listeners, stop: tokio_util::sync::CancellationToken) {
    let events = enforcer.lock().events();
    let Some(events) = events else { return };
    // SAFETY: the descriptor is the ring buffer's own, which lives in the value and is closed with it.
    let registered = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
    let Ok(mut events) = registered else {
        return tracing::warn!("packets that rules drop are counted, but not told of");
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = events.readable_mut() => {
                let Ok(mut ready) = ready else { return };
                let drained = ready.get_inner_mut().drain();
                ready.clear_ready();
                if listeners.receiver_count() == 0 || drained.is_empty() {
                    continue;
                }
                let live = enforcer.lock();
                for event in drained.iter().filter_map(|event| live.guard().told(event)) {
                    // Nobody may be left meanwhile.
                    let _ = listeners.send(Arc::new(event));
                }
            }
        }
    }
}

/// Looks at everything again and again, and at once when files beside the policies change, until `stop`.
pub async fn run(
    enforcer: Arc<Enforcer>,
    snapshot: tokio::sync::watch::Receiver<Arc<Snapshot>>,
    classes: std::collections::BTreeMap<String, u8>,
    stop: tokio_util::sync::CancellationToken,
) {
    let classes = Arc::new(classes);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut files = Watch::new(enforcer.lock().places());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
            () = files.changed() => {}
        }
        let now = Arc::clone(&snapshot.borrow());
        // Before the first dump of links every policy would wait for its interfaces.
        if now.links.is_empty() {
            continue;
        }
        let (enforcer, classes) = (Arc::clone(&enforcer), Arc::clone(&classes));
        let looked = tokio::task::spawn_blocking(move || enforcer.look(&now, &classes)).await;
        if let Err(error) = looked {
            tracing::error!(%error, "a look at the policies ended; the next one goes on");
        }
    }
}
