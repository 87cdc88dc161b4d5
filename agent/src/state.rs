//! The one owner of what the agent knows: events in, snapshots out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::model::address::{Direction, IfIndex};
use crate::model::bfd::Bfd;
use crate::model::bgp;
use crate::model::capability::Report;
use crate::model::class::Found;
use crate::model::cluster::{Cluster, Sources};
use crate::model::interface::Hook;
use crate::model::link::Link;
use crate::model::mesh::{self, Peer, PeerProbe};
use crate::model::monitor::Compared;
use crate::model::neighbour::Neighbour;
use crate::model::probe::GatewayProbe;
use crate::model::route::Route;
use crate::model::vip::{self, Vip};
use crate::model::workload::{Guarded, Workloads};

/// Something that an edge has seen.
#[derive(Clone, Debug)]
pub enum Event {
    /// All links, after a dump.
    Links(Vec<Link>),
    /// A link appeared or changed.
    Link(Box<Link>),
    /// A link is gone.
    LinkGone(IfIndex),
    /// All routes, after a dump or a change.
    Routes(Vec<Route>),
    /// All neighbours, after a dump.
    Neighbours(Vec<Neighbour>),
    /// A neighbour appeared or changed.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone(IfIndex, IpAddr),
    /// A hook was attached, moved in its chain or was lost.
    Hook(Hook),
    /// A hook is no longer wanted.
    HookGone(IfIndex, Direction),
    /// A gateway's probes.
    Gateway(GatewayProbe),
    /// A gateway is no longer probed.
    GatewayGone(IfIndex, IpAddr),
    /// The other nodes to probe.
    Peers(Arc<Vec<Peer>>),
    /// The probes of another node.
    Peer(PeerProbe),
    /// Another node is no longer probed there.
    PeerGone(IfIndex, IpAddr),
    /// What is known of BFD.
    Bfd(Box<Bfd>),
    /// The virtual addresses wanted on this node.
    Vips(Vec<Vip>),
    /// BGP as the wire shows it.
    Bgp(Arc<bgp::View>),
    /// What the node's speaker says of its own sessions.
    BgpReported(Arc<bgp::Reported>),
    /// What the cluster declares.
    Cluster(Arc<Cluster>),
    /// The truth table of virtual addresses.
    VipTable(Arc<vip::Table>),
    /// The workloads of this node, by address.
    Workloads(Arc<Workloads>),
    /// What objects say of traffic classes.
    Found(Arc<Found>),
    /// The Pods that guards know by themselves.
    Guarded(Arc<Guarded>),
    /// What LinkMonitors say of this node's links.
    LinkMonitors(Arc<Vec<Compared>>),
    /// How the cluster source does.
    Sources(Arc<Sources>),
    /// What works on this node.
    Capabilities(Report),
    /// Events of a kind may have been missed; the edge reads everything again.
    Missed {
        /// What may have been missed, such as `link` or `neighbour`.
        what: &'static str,
    },
    /// The datapath was not observed for this long.
    Unobserved(Duration),
}

/// What the agent knows at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// The node's name.
    pub node: String,
    /// All links of the agent's network namespace.
    pub links: BTreeMap<IfIndex, Link>,
    /// All routes of the main tables.
    pub routes: Vec<Route>,
    /// All neighbours.
    #[serde(serialize_with = "values")]
    pub neighbours: BTreeMap<(IfIndex, IpAddr), Neighbour>,
    /// The hooks on which the agent measures.
    #[serde(serialize_with = "values")]
    pub hooks: BTreeMap<(IfIndex, Direction), Hook>,
    /// What probing the gateways has shown.
    #[serde(serialize_with = "values")]
    pub gateways: BTreeMap<(IfIndex, IpAddr), GatewayProbe>,
    /// The other nodes to probe, as the cluster tells; `None` until it does.
    #[serde(skip)]
    pub peers: Option<Arc<Vec<Peer>>>,
    /// What probing other nodes has shown.
    #[serde(serialize_with = "values")]
    pub mesh: BTreeMap<(IfIndex, IpAddr), PeerProbe>,
    /// The virtual addresses wanted on this node.
    pub vips: Vec<Vip>,
    /// BGP as the wire shows it.
    pub bgp: Arc<bgp::View>,
    /// What the node's speaker says of its own sessions.
    pub bgp_reported: Arc<bgp::Reported>,
    /// What is known of BFD.
    pub bfd: Bfd,
    /// The truth table of virtual addresses.
    pub vip_table: Arc<vip::Table>,
    /// What the cluster declares, where one is known.
    #[serde(skip)]
    pub cluster: Option<Arc<Cluster>>,
    /// The workloads of this node, by address.
    pub workloads: Arc<Workloads>,
    /// What objects say of traffic classes.
    #[serde(skip)]
    pub found: Arc<Found>,
    /// The Pods that guards know by themselves; `None` until a cluster tells.
    #[serde(skip)]
    pub guarded: Option<Arc<Guarded>>,
    /// What LinkMonitors say of this node's links, beside what these are.
    pub link_monitors: Arc<Vec<Compared>>,
    /// How the cluster source does.
    pub sources: Arc<Sources>,
    /// What works on this node.
    pub capabilities: Report,
    /// How often an edge may have missed events and read everything again, by kind.
    pub missed: BTreeMap<&'static str, u64>,
    /// How long the datapath was not observed, in all.
    pub unobserved: Duration,
}

fn values<K, V: Serialize, S: serde::Serializer>(
    map: &BTreeMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.values())
}

impl Snapshot {
    /// The name of an interface, or its number when it has gone.
    pub fn interface_name(&self, index: IfIndex) -> String {
        self.links.get(&index).map_or_else(|| format!("if{index}"), |link| link.name.clone())
    }

    /// The other nodes to probe: those that the cluster tells of, or a folder of manifests.
    pub fn mesh_peers(&self) -> Arc<Vec<Peer>> {
        let folder =
            || Arc::new(self.cluster.as_ref().map_or_else(Vec::new, |all| mesh::peers_in(&self.node, all)));
        self.peers.clone().unwrap_or_else(folder)
    }

    /// Takes in an event. A pure step: the same events give the same snapshot.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Links(links) => self.know_links(links),
            Event::Link(link) => self.know_link(*link),
            Event::LinkGone(index) => self.forget_link(index),
            Event::Routes(routes) => self.routes = routes,
            Event::Neighbours(all) => {
                let all = all.into_iter().map(|one| self.with_history(one));
                self.neighbours = all.map(|one| ((one.interface, one.address), one)).collect();
            }
            Event::Neighbour(one) => {
                let one = match self.neighbours.get(&(one.interface, one.address)) {
                    Some(before) => one.after(before),
                    None => one.appeared(),
                };
                self.neighbours.insert((one.interface, one.address), one);
            }
            Event::NeighbourGone(index, address) => {
                self.neighbours.remove(&(index, address));
            }
            Event::Hook(hook) => {
                self.hooks.insert((hook.interface, hook.direction), hook);
            }
            Event::HookGone(index, direction) => {
                self.hooks.remove(&(index, direction));
            }
            Event::Gateway(probe) => {
                self.gateways.insert((probe.interface, probe.gateway), probe);
            }
            Event::GatewayGone(index, gateway) => {
                self.gateways.remove(&(index, gateway));
            }
            Event::Peers(peers) => self.peers = Some(peers),
            Event::Peer(probe) => _ = self.mesh.insert((probe.interface, probe.address), probe),
            Event::PeerGone(index, address) => _ = self.mesh.remove(&(index, address)),
            Event::Bfd(bfd) => self.bfd = *bfd,
            Event::Vips(vips) => self.vips = vips,
            Event::Bgp(view) => self.bgp = view,
            Event::BgpReported(reported) => self.bgp_reported = reported,
            Event::Cluster(cluster) => self.cluster = Some(cluster),
            Event::VipTable(table) => self.vip_table = table,
            Event::Workloads(workloads) => self.workloads = workloads,
            Event::Found(found) => self.found = found,
            Event::Guarded(guarded) => self.guarded = Some(guarded),
            Event::LinkMonitors(compared) => self.link_monitors = compared,
            Event::Sources(sources) => self.sources = sources,
            Event::Capabilities(report) => self.capabilities = report,
            Event::Missed { what } => *self.missed.entry(what).or_default() += 1,
            Event::Unobserved(time) => self.unobserved += time,
        }
    }

    /// A change that waited while all links were read may be older than what was read.
    fn know_link(&mut self, link: Link) {
        let link = match self.links.get(&link.index) {
            Some(before) if link.is_older_than(before) => return,
            Some(before) => link.after(before),
            None => link,
        };
        self.links.insert(link.index, link);
    }

    fn know_links(&mut self, links: Vec<Link>) {
        let known = std::mem::take(&mut self.links);
        self.links = links
            .into_iter()
            .map(|link| match known.get(&link.index) {
                Some(before) => link.after(before),
                // It may have been so for long: a dump does not tell since when.
                None => Link { changed: None, ..link },
            })
            .map(|link| (link.index, link))
            .collect();
        self.neighbours.retain(|(interface, _), _| self.links.contains_key(interface));
        self.gateways.retain(|(interface, _), _| self.links.contains_key(interface));
        self.mesh.retain(|(interface, _), _| self.links.contains_key(interface));
    }

    fn with_history(&self, neighbour: Neighbour) -> Neighbour {
        match self.neighbours.get(&(neighbour.interface, neighbour.address)) {
            Some(before) => neighbour.after(before),
            None => neighbour,
        }
    }

    fn forget_link(&mut self, index: IfIndex) {
        self.links.remove(&index);
        self.neighbours.retain(|(interface, _), _| *interface != index);
        self.gateways.retain(|(interface, _), _| *interface != index);
        self.mesh.retain(|(interface, _), _| *interface != index);
    }
}

/// Owns the snapshot and publishes it after every batch of events.
pub struct State {
    snapshot: Snapshot,
    published: watch::Sender<Arc<Snapshot>>,
}

impl State {
    /// Starts with what is known before any event.
    pub fn new(snapshot: Snapshot) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (published, receiver) = watch::channel(Arc::new(snapshot.clone()));
        (Self { snapshot, published }, receiver)
    }

    /// Takes in a batch of events and publishes the result once.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.snapshot.apply(event);
        }
        self.published.send_replace(Arc::new(self.snapshot.clone()));
    }
}
