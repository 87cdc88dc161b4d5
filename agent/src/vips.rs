//! Virtual addresses: tells the datapath and the prober which there are, gathers what is known of them, and judges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use weir_agent::args::VipProbe;
use weir_agent::cluster::News;
use weir_agent::datapath::{Targets, Watcher};
use weir_agent::model::bgp::Reported;
use weir_agent::model::cluster::{Cluster, Fault, Here, Intent, ServicePort};
use weir_agent::model::link::LinkKind;
use weir_agent::model::measurement::Source;
use weir_agent::model::probe::Question;
use weir_agent::model::vip::{
    Book, Evidence, NodeFacts, Recent, Table, Vip, VipCounters, VipFacts, Watched, judge, owners, sessions,
};
use weir_agent::probe::vip::Answers;
use weir_agent::state::{Event, Snapshot};
use weir_ebpf::VIPS;
use weir_router_view::RouterView;

/// How often everything is looked at while there are virtual addresses.
const LOOK: Duration = Duration::from_secs(2);
/// A table that says the same as before is published this often.
const RENEW: Duration = Duration::from_secs(10);
/// A finding is named after it has held for so long: speakers and routers need a moment after each change.
const SETTLE: Duration = Duration::from_secs(5);
const TCP: u8 = 6;

/// What the task works with.
pub(crate) struct Parts {
    /// This node's name.
    pub(crate) node: String,
    /// Which ports are probed.
    pub(crate) probe: VipProbe,
    /// Addresses that the datapath has from before, kept until the cluster tells which there are.
    pub(crate) remembered: Vec<Vip>,
    /// Tells the datapath.
    pub(crate) targets: Arc<Targets>,
    /// Reads strays and claims.
    pub(crate) watcher: Arc<Watcher>,
    /// Reads the ledger.
    pub(crate) source: Arc<dyn Source>,
}

/// Where news come from and results go.
pub(crate) struct Channels {
    /// Virtual addresses by flag and file.
    pub(crate) given: watch::Receiver<Vec<Vip>>,
    /// What the folder and the published views hold.
    pub(crate) news: mpsc::Receiver<News>,
    /// What the agent knows.
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What to ask.
    pub(crate) questions: watch::Sender<BTreeSet<Question>>,
    /// What probing has shown.
    pub(crate) answers: watch::Receiver<Answers>,
    /// The table goes out here.
    pub(crate) events: mpsc::Sender<Vec<Event>>,
}

/// Addresses of flags and of Services, and remembered ones as long as nobody tells which there are; as many as the datapath has
/// room for.
pub(crate) fn known(given: &[Vip], cluster: Option<&Cluster>, remembered: &[Vip]) -> Vec<Vip> {
    let of_services = cluster.into_iter().flat_map(Cluster::vips).map(Vip);
    // Given ones come first when there are too many.
    let mut all: Vec<Vip> = Vec::new();
    let mut seen = BTreeSet::new();
    let remembered = remembered.iter().copied().filter(|_| cluster.is_none());
    for vip in given.iter().copied().chain(of_services).chain(remembered) {
        if seen.insert(vip) {
            all.push(vip);
        }
    }
    if all.len() > VIPS as usize {
        tracing::warn!(
            known = all.len(),
            room = VIPS,
            "more virtual addresses than the datapath has room for: the rest is not counted"
        );
        all.truncate(VIPS as usize);
    }
    all.sort();
    all
}

/// Follows the virtual addresses until `stop`.
pub(crate) async fn run(parts: Parts, mut channels: Channels, stop: CancellationToken) -> anyhow::Result<()> {
    let mut follower = Follower::new(parts, channels.given.borrow_and_update().clone());
    loop {
        // An agent that knows no address has no reason to wake up.
        let pause = if follower.last.rows.is_empty() && follower.aimed.iter().flatten().next().is_none() {
            RENEW
        } else {
            LOOK
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = channels.given.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                follower.given = channels.given.borrow_and_update().clone();
                follower.changed = true;
            }
            news = channels.news.recv() => {
                let Some(news) = news else { return Ok(()) };
                if let News::Cluster(cluster) = &news
                    && cluster.is_read()
                {
                    channels.events.send(vec![Event::Cluster(Arc::clone(cluster))]).await?;
                }
                if let Some(reported) = follower.hear(news) {
                    channels.events.send(vec![Event::BgpReported(reported)]).await?;
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
        if let Some(vips) = follower.aim() {
            channels.events.send(vec![Event::Vips(vips)]).await?;
        }
        let now = Arc::clone(&channels.snapshots.borrow());
        let answers = channels.answers.borrow().clone();
        if let Some(table) = follower.look(&now, &answers).await? {
            follower.ask(&now, &table.evidence, &channels.questions);
            channels.events.send(vec![Event::VipTable(table)]).await?;
        }
    }
}

struct Follower {
    parts: Parts,
    given: Vec<Vip>,
    cluster: Option<Arc<Cluster>>,
    routers: Vec<Arc<RouterView>>,
    faults: Vec<Fault>,
    aimed: Option<Vec<Vip>>,
    served: BTreeMap<IpAddr, Vec<ServicePort>>,
    recent: Recent,
    book: Book,
    last: Arc<Table>,
    /// Addresses or objects have changed since the datapath was told.
    changed: bool,
}

impl Follower {
    fn new(parts: Parts, given: Vec<Vip>) -> Self {
        Self {
            parts,
            given,
            cluster: None,
            routers: Vec::new(),
            faults: Vec::new(),
            aimed: None,
            served: BTreeMap::new(),
            recent: Recent::default(),
            book: Book::new(SETTLE),
            last: Arc::default(),
            changed: true,
        }
    }

    /// Takes news in; returns what this node's speaker says of its sessions when the objects are new.
    fn hear(&mut self, news: News) -> Option<Arc<Reported>> {
        match news {
            News::Cluster(cluster) => {
                let reported = cluster.reported.get(&self.parts.node).cloned().unwrap_or_default();
                (self.cluster, self.changed) = (Some(cluster), true);
                Some(reported)
            }
            News::Routers(views, faults) => {
                (self.routers, self.faults) = (views, faults);
                None
            }
        }
    }

    /// Tells the datapath what has changed; returns the addresses when they have.
    fn aim(&mut self) -> Option<Vec<Vip>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let vips = known(&self.given, self.cluster.as_deref(), &self.parts.remembered);
        let changed = self.aimed.as_ref() != Some(&vips);
        if changed {
            match self.parts.targets.aim_at_vips(&vips) {
                Ok(()) => self.aimed = Some(vips.clone()),
                Err(error) => {
                    tracing::error!("{:#}", anyhow::Error::from(error));
                    self.changed = true;
                    return None;
                }
            }
        }
        let served = self.served_ports(&vips);
        if served != self.served {
            match self.parts.targets.serve(&served) {
                Ok(0) => {}
                Ok(left_out) => tracing::warn!(
                    left_out,
                    "too many ports: packets to wrong ports of some addresses are not told"
                ),
                Err(error) => tracing::error!("{:#}", anyhow::Error::from(error)),
            }
            self.served = served;
        }
        changed.then_some(vips)
    }

    /// The ports of all addresses that Services have; addresses without a Service are not judged.
    fn served_ports(&self, vips: &[Vip]) -> BTreeMap<IpAddr, Vec<ServicePort>> {
        let Some(cluster) = &self.cluster else { return BTreeMap::new() };
        let intents = Intent::all(cluster);
        let ports = |vip: &Vip| Some((vip.0, intents.get(&vip.0)?.ports()));
        vips.iter().filter_map(ports).filter(|(_, ports)| !ports.is_empty()).collect()
    }

    /// Gathers and judges; `None` when there is nothing new to tell.
    async fn look(&mut self, now: &Snapshot, answers: &Answers) -> anyhow::Result<Option<Arc<Table>>> {
        let boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).context("cannot read the clock")?);
        let known = self.aimed.as_deref().unwrap_or_default();
        let mut evidence = Evidence {
            now: boot,
            wall: Timestamp::now(),
            cluster: self.cluster.clone(),
            own: self.own(now, known),
            others: Vec::new(),
            routers: self.routers.clone(),
            given: self.given.iter().map(|vip| vip.0).collect(),
        };
        let mut rows = Vec::new();
        if !evidence.vips().is_empty() {
            let (ledger, watched) = self.read().await;
            self.tell_of(&mut evidence.own, &ledger, &watched, answers, now, boot);
            rows = judge(&evidence);
        }
        self.book.keep(&mut rows, boot);
        let objects = self.cluster.iter().flat_map(|cluster| cluster.faults.clone());
        let faults: Vec<Fault> = objects.chain(self.faults.iter().cloned()).collect();
        let age = boot.saturating_sub(self.last.evidence.now);
        let nothing = rows.is_empty() && self.last.rows.is_empty() && faults == self.last.faults;
        let same = rows == self.last.rows && faults == self.last.faults && age < RENEW;
        if (nothing && self.cluster.is_some() == self.last.evidence.cluster.is_some()) || same {
            return Ok(None);
        }
        self.last = Arc::new(Table { rows, faults, evidence: Arc::new(evidence) });
        Ok(Some(Arc::clone(&self.last)))
    }

    /// What is known of this node without reading anything.
    fn own(&self, now: &Snapshot, known: &[Vip]) -> NodeFacts {
        let node = &self.parts.node;
        let objects = self.cluster.iter().flat_map(|cluster| &cluster.nodes);
        let known: BTreeSet<IpAddr> = known.iter().map(|vip| vip.0).collect();
        NodeFacts {
            node: node.clone(),
            addresses: objects
                .filter(|one| one.name == *node)
                .flat_map(|one| one.addresses.clone())
                .collect(),
            // Without a single session nobody can tell a wire without BGP from one that is not seen.
            sessions: (!now.bgp.sessions.is_empty()).then(|| sessions(&now.bgp, &known)),
            vips: BTreeMap::new(),
        }
    }

    async fn read(&self) -> (Vec<VipCounters>, Watched) {
        let (source, watcher) = (Arc::clone(&self.parts.source), Arc::clone(&self.parts.watcher));
        let read = tokio::task::spawn_blocking(move || (source.vips(), watcher.read())).await;
        let Ok((ledger, watched)) = read else { return Default::default() };
        let ledger = ledger.unwrap_or_else(|error| {
            tracing::warn!("{:#}", anyhow::Error::from(error));
            Vec::new()
        });
        let watched = watched.unwrap_or_else(|error| {
            tracing::warn!("{:#}", anyhow::Error::from(error));
            Watched::default()
        });
        (ledger, watched)
    }

    fn tell_of(
        &mut self,
        own: &mut NodeFacts,
        ledger: &[VipCounters],
        watched: &Watched,
        answers: &Answers,
        now: &Snapshot,
        boot: Duration,
    ) {
        let mut facts: BTreeMap<IpAddr, VipFacts> = BTreeMap::new();
        for vip in self.aimed.iter().flatten() {
            facts.entry(vip.0).or_default();
        }
        for (vip, traffic) in self.recent.traffic(ledger, &now.links, boot) {
            facts.entry(vip).or_default().traffic = traffic;
        }
        for (vip, strays) in self.recent.strays(&watched.strays, &now.links, boot) {
            // What was a stray may be a port of a Service by now.
            let served = self.served.get(&vip);
            let strays =
                strays.into_iter().filter(|one| served.is_some_and(|ports| !ports.contains(&one.port)));
            facts.entry(vip).or_default().strays = strays.collect();
        }
        for (vip, owners) in owners(&watched.claims, &now.links, boot) {
            facts.entry(vip).or_default().owners = owners;
        }
        for (vip, answers) in answers {
            facts.entry(*vip).or_default().answers = answers.clone();
        }
        own.vips = facts;
    }

    /// Tells the prober what to ask: ports of what is wanted here or announced from here and can be served here, and who has
    /// an address that lies on a link.
    fn ask(&self, now: &Snapshot, evidence: &Evidence, questions: &watch::Sender<BTreeSet<Question>>) {
        let wanted = match self.parts.probe {
            VipProbe::Off => BTreeSet::new(),
            probe => self.questions(now, evidence, probe),
        };
        questions.send_if_modified(|asked| {
            let news = *asked != wanted;
            if news {
                *asked = wanted;
            }
            news
        });
    }

    fn questions(&self, now: &Snapshot, evidence: &Evidence, probe: VipProbe) -> BTreeSet<Question> {
        let Some(cluster) = &self.cluster else { return BTreeSet::new() };
        let node = &self.parts.node;
        let mut questions = BTreeSet::new();
        for (vip, intent) in Intent::all(cluster) {
            let served = intent.unserved_on(node).len() < intent.services.len();
            let announced = evidence.own.announced(vip).next().is_some();
            let here = matches!(intent.here(node), Here::Yes(_) | Here::Unknown | Here::ByLink);
            if served && (here || announced) {
                let asked = intent.ports().into_iter();
                let asked = asked.filter(|port| probe == VipProbe::All || port.protocol.0 == TCP);
                questions.extend(asked.map(|port| Question::Port(vip, port)));
            }
            questions.extend(on_link(now, vip));
        }
        questions
    }
}

/// Whom to ask who has an address: the measured links whose own prefix holds it.
fn on_link(now: &Snapshot, vip: IpAddr) -> Option<Question> {
    let routes = now.routes.iter().filter(|route| !route.is_default() && route.destination.contains(&vip));
    let host = |prefix: &ipnet::IpNet| prefix.prefix_len() == prefix.max_prefix_len();
    let direct = routes.filter(|route| !host(&route.destination));
    let hop = direct.flat_map(|route| &route.hops).find(|hop| {
        let measured = now.hooks.keys().any(|(interface, _)| *interface == hop.interface);
        hop.gateway.is_none() && measured
    })?;
    let link =
        now.links.get(&hop.interface).filter(|link| link.admin_up && link.kind != LinkKind::Loopback)?;
    Some(Question::WhoHas(vip, link.index, link.mac))
}
