//! `weir-agent run`: loads, attaches, starts the tasks, and ends them in order.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use weir_agent::args::{Config, RunArgs};
use weir_agent::capability;
use weir_agent::cluster::News;
use weir_agent::cluster::kube::{Access, Objects, Wanted};
use weir_agent::datapath::{
    self, Datapath, DropTypes, Hooks, Keeper, Memory, Options, Pins, Reader, Tap, Targets, Watcher,
};
use weir_agent::enforce::{self, Enforcer};
use weir_agent::export::grpc::{self, Service};
use weir_agent::export::http;
use weir_agent::export::metrics::Exposition;
use weir_agent::export::readiness::{Guard, Readiness};
use weir_agent::export::tally::Tally;
use weir_agent::model::address::IfIndex;
use weir_agent::model::bfd::Settings;
use weir_agent::model::class::Class;
use weir_agent::model::flow::Flow;
use weir_agent::model::host::HostCounters;
use weir_agent::model::measurement::{Measurement, Source, SourceError};
use weir_agent::model::policy::{Enforcement, PolicyStatus};
use weir_agent::model::uplink::uplinks;
use weir_agent::model::vip::{Vip, VipCounters};
use weir_agent::oidc::{Gate, Pace};
use weir_agent::probe::bfd;
use weir_agent::state::{Event, Snapshot, State};
use weir_agent::{cluster, host, memory, netlink, owner, probe};
use weir_tls::{Clients, Identity, Listener, Protocol};

use crate::membership::{self, Joining};
use crate::monitors;
use crate::task::Tasks;
use crate::{classes, vips};

/// Events that may wait for the owner of the state; an edge that is faster waits.
const PENDING: usize = 64;
/// After so long a start is over: lists have come, and every probe has run.
const SETTLED: Duration = Duration::from_secs(30);

/// Runs until a signal or a fault.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = Config::new(&args)?;
    log_to_stderr();
    let identity = config.tls.identity().context("the listeners have no certificate")?;
    if let Some(access) = &config.cluster {
        // Before anything is put into the kernel.
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(access.check())?;
    }
    let pins = Pins::hold(&config.pin_dir)?;
    // First of all: after a restart the peers' clocks run.
    let bfd = start_bfd(&config, &pins)?;
    let report = capability::examine_as(&config.pin_dir, &capability::STARTING)
        .context("cannot read the capabilities of this process")?;
    let now = first_look()?;
    let links = now.links.values().map(|link| (link.index, link.name.clone())).collect();
    refuse_unknown(&config.interfaces, &links)?;
    let types = DropTypes::running()
        .inspect_err(|error| tracing::warn!("kernel drops are not counted: {error}"))
        .ok();
    let (mut datapath, targets) = load(&config, pins, types.as_ref())?;
    // Before any hook is attached: the first packet already meets the confirmed rules.
    let enforcer = enforcer(&config, &mut datapath, &targets, &now)?;
    let reader = Reader::open(&datapath, types).context("cannot open what the programs count")?;
    let tap = Tap::open(&datapath)?;
    let watcher = Watcher::open(&datapath).context("cannot open what the programs watch")?;
    memory::give_back_heap();
    let hooks = Hooks::open(&datapath, Hooks::supported_mode()).context("cannot open the hooks")?;
    let hooks = hooks.with_early(if enforcer.is_some() { config.policy_xdp.clone() } else { Vec::new() });
    let keeper =
        Keeper::new(datapath, hooks, &now.links, &config.interfaces, &chosen(&config.interfaces)(&now));
    let sockets = probe::Sockets::open();
    let askers = probe::vip::Askers::open();
    let kept = capability::keep(&capability::NEEDED)?;
    tracing::debug!(held = ?kept.held, missing = ?kept.missing, "gave up all other capabilities");

    // One thread wakes least when little happens; whatever takes long goes to threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let targets = Arc::new(targets);
    let parts = Parts {
        config,
        args,
        targets,
        reader,
        tap,
        watcher,
        keeper,
        sockets,
        askers,
        enforcer,
        bfd,
        identity,
    };
    runtime.block_on(serve(parts, report))
}

/// Gives back, once, what only the start needed: its code, and the memory of first lists and looks.
async fn give_back_start(stop: CancellationToken) -> anyhow::Result<()> {
    let settled = tokio::time::sleep(SETTLED);
    if stop.run_until_cancelled(settled).await.is_some() {
        let give_back = || {
            memory::give_back_heap();
            memory::give_back_files();
        };
        tokio::task::spawn_blocking(give_back).await?;
    }
    Ok(())
}

/// All that was opened while there were rights for it.
struct Parts {
    config: Config,
    args: RunArgs,
    targets: Arc<Targets>,
    reader: Reader,
    tap: Tap,
    watcher: Watcher,
    keeper: Keeper,
    sockets: probe::Sockets,
    askers: probe::vip::Askers,
    enforcer: Option<Enforcing>,
    bfd: Option<(bfd::Control, bfd::News)>,
    identity: Option<Arc<Identity>>,
}

async fn serve(parts: Parts, report: weir_agent::model::capability::Report) -> anyhow::Result<()> {
    let Parts {
        config,
        args,
        targets,
        reader,
        tap,
        watcher,
        keeper,
        sockets,
        askers,
        enforcer,
        bfd,
        identity,
    } = parts;
    let socket = grpc::UnixSocket::bind(&config.socket)?;
    let first = Snapshot { node: config.node.clone(), ..Snapshot::default() };
    let (state, snapshots) = State::new(first);
    let (events, inbox) = mpsc::channel::<Vec<Event>>(PENDING);
    events.send(vec![Event::Capabilities(report), Event::Vips(config.vips.clone())]).await?;
    let policy = enforcer.as_ref().map(|(enforcer, _)| Arc::clone(enforcer) as Arc<dyn Enforcement>);
    let source: Arc<dyn Source> = Arc::new(Instruments { reader, policy: policy.clone() });
    let (readiness, tally) = (Readiness::default(), Arc::new(Tally::default()));
    let listener = TcpListener::bind(config.metrics).await.with_context(|| {
        format!("cannot listen on {} for metrics; give another --metrics", config.metrics)
    })?;
    tracing::info!(address = %config.metrics, socket = %config.socket.display(), "listening");

    let mut tasks = Tasks::default();
    let stop = tasks.stop();
    tasks.spawn("state", own(state, inbox, readiness.guard("links")));
    let (sender, cancel) = (events.clone(), stop.clone());
    tasks.spawn("netlink", async move {
        netlink::watch(sender, cancel).await;
        Ok(())
    });
    let (wanted, sender) = (chosen(&config.interfaces), events.clone());
    let (watched, cancel) = (snapshots.clone(), stop.clone());
    tasks.spawn("hooks", async move {
        datapath::keep(keeper, watched, wanted, sender, cancel).await;
        Ok(())
    });
    let (memory, ports) = (Memory::within(&config.state_dir), config.bgp_ports.clone());
    let (watched, sender, cancel) = (snapshots.clone(), events.clone(), stop.clone());
    tasks.spawn(
        "bgp",
        async move { Ok(datapath::follow(tap, memory, ports, watched, sender, cancel).await?) },
    );
    let (wanted, sender) = (chosen(&config.interfaces), one_by_one(&mut tasks, events.clone()));
    let (watched, cancel) = (snapshots.clone(), stop.clone());
    tasks.spawn("probe", async move {
        Ok(probe::run(sockets, Default::default(), watched, wanted, sender, cancel).await?)
    });
    let listeners = tokio::sync::broadcast::channel(enforce::EVENTS).0;
    if let Some((enforcer, classes)) = enforcer {
        let (teller, told, cancel) = (Arc::clone(&enforcer), listeners.clone(), stop.clone());
        tasks.spawn("policy-events", async move {
            enforce::tell(teller, told, cancel).await;
            Ok(())
        });
        let (watched, cancel) = (snapshots.clone(), stop.clone());
        tasks.spawn("policy", async move {
            enforce::run(enforcer, watched, classes, cancel).await;
            Ok(())
        });
    }
    let (classes, base) = watch::channel(config.classes.clone());
    let (sorted, watched, cancel) = (Arc::clone(&targets), snapshots.clone(), stop.clone());
    tasks.spawn("classes", async move {
        classes::follow(sorted, base, watched, cancel).await;
        Ok(())
    });
    let control = bfd.as_ref().map(|(control, _)| control.clone());
    if let Some((_, news)) = bfd {
        let (health, watched, sender, cancel) =
            (config.bfd.health, snapshots.clone(), one_by_one(&mut tasks, events.clone()), stop.clone());
        tasks.spawn("bfd", async move { Ok(bfd::follow(news, health, watched, sender, cancel).await?) });
    }
    let (given, receiver) = watch::channel(config.vips.clone());
    let parts = vips::Parts {
        node: config.node.clone(),
        probe: config.vip_probe,
        remembered: if awaits_cluster(&config) { targets.vips()? } else { Vec::new() },
        targets: Arc::clone(&targets),
        watcher: Arc::new(watcher),
        source: Arc::clone(&source),
    };
    let (told, news) = mpsc::channel(PENDING);
    let incoming = Incoming { given: receiver, told: told.clone(), news };
    follow_vips(&mut tasks, &config, parts, askers, incoming, snapshots.clone(), events.clone());
    tasks.spawn("link-monitors", monitors::run(snapshots.clone(), events.clone(), stop.clone()));
    if let Some(access) = &config.cluster {
        let objects = if awaits_cluster(&config) { Objects::Api } else { Objects::Folder };
        let wanted = Wanted { objects, policies: copied_policies(&config) };
        let joining = Joining { access, node: &config.node, wanted, uplinks: chosen(&config.interfaces) };
        membership::join(&mut tasks, joining, told, &readiness, snapshots.clone(), events.clone()).await?;
    }
    let gate = config.oidc.clone().map(|settings| Gate::new(settings, Pace::default()));
    let exposition = Exposition::new(snapshots.clone(), Arc::clone(&source), Arc::clone(&tally))
        .with_identity(identity.clone())
        .with_gate(gate.clone());
    // The loss ledger counts from a first reading: this one, not the first scrape.
    let first = exposition.clone();
    tokio::task::spawn_blocking(move || first.begin());
    tasks.spawn("memory", give_back_start(stop.clone()));
    let listener = Listener::new(listener, identity.clone(), Protocol::Pages);
    let end = stop.clone().cancelled_owned();
    let ready = readiness.clone();
    tasks.spawn("http", async move { Ok(http::serve(listener, exposition, ready, end).await?) });
    serve_grpc(
        &mut tasks,
        &config,
        socket,
        Guards { identity, gate },
        Service::new(snapshots, source, tally, stop.clone()).with_policy(policy, listeners),
    )
    .await?;
    tasks.spawn("signals", signals(args, targets, control.clone(), (given, classes), stop));
    // The state ends with the last that could tell it anything.
    drop(events);
    let result = tasks.run().await;
    // Last of all: until here packets went out.
    if let Some(control) = control {
        control.part();
    }
    tracing::info!("stopped; programs and counts stay in the kernel until `weir-agent detach`");
    result
}

/// Where virtual addresses come from.
struct Incoming {
    /// Flags and file.
    given: watch::Receiver<Vec<Vip>>,
    /// For the folder and the published views.
    told: mpsc::Sender<News>,
    /// What these and the cluster tell.
    news: mpsc::Receiver<News>,
}

/// The tasks that gather, probe and judge virtual addresses.
fn follow_vips(
    tasks: &mut Tasks,
    config: &Config,
    parts: vips::Parts,
    askers: probe::vip::Askers,
    Incoming { given, told, news }: Incoming,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: mpsc::Sender<Vec<Event>>,
) {
    let (questions, wanted) = watch::channel(Default::default());
    let (told_answers, answers) = watch::channel(Default::default());
    let (source, views) = (config.manifests.clone(), config.router_views.clone());
    let stop = tasks.stop();
    let cancel = stop.clone();
    tasks.spawn("cluster", async move {
        cluster::watch(source, views, told, cancel).await;
        Ok(())
    });
    let cancel = stop.clone();
    tasks.spawn("vip-probe", async move {
        probe::vip::run(askers, Default::default(), wanted, told_answers, cancel).await;
        Ok(())
    });
    let channels = vips::Channels { given, news, snapshots, questions, answers, events };
    tasks.spawn("vips", vips::run(parts, channels, stop));
}

/// What stands before the gRPC interface over TCP.
struct Guards {
    identity: Option<Arc<Identity>>,
    gate: Option<Arc<Gate>>,
}

fn say_who_may_call(config: &Config, encrypted: bool, tokens: bool) {
    let certified = config.tls.clients == Some(Clients::Certified);
    if !certified && !tokens {
        tracing::warn!("weirctl over TCP has no authentication: who reaches it sees all flows");
    }
    if tokens && !encrypted {
        tracing::warn!("tokens travel in clear: give --tls-dir");
    }
}

async fn serve_grpc(
    tasks: &mut Tasks,
    config: &Config,
    socket: grpc::UnixSocket,
    guards: Guards,
    service: Service,
) -> anyhow::Result<()> {
    if let Some(address) = config.grpc {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for weirctl; give another --grpc"))?;
        let Guards { identity, gate } = guards;
        say_who_may_call(config, identity.is_some(), gate.is_some());
        let listener = Listener::new(listener, identity, Protocol::Calls);
        let service = service.clone();
        tasks.spawn("grpc-tcp", async move { Ok(grpc::serve_tcp(listener, service, gate).await?) });
    }
    tasks.spawn("grpc", async move { Ok(grpc::serve_unix(socket, service).await?) });
    Ok(())
}

/// Takes events in and publishes a snapshot a batch. Ready with the first dump of links.
async fn own(mut state: State, mut inbox: mpsc::Receiver<Vec<Event>>, guard: Guard) -> anyhow::Result<()> {
    let mut guard = Some(guard);
    while let Some(events) = inbox.recv().await {
        if events.iter().any(|event| matches!(event, Event::Links(_))) {
            guard.take();
        }
        state.apply(events);
    }
    Ok(())
}

/// An inbox for tasks that send events one at a time.
fn one_by_one(tasks: &mut Tasks, events: mpsc::Sender<Vec<Event>>) -> mpsc::Sender<Event> {
    let (sender, mut inbox) = mpsc::channel(PENDING);
    tasks.spawn("batches", async move {
        let mut batch = Vec::new();
        while inbox.recv_many(&mut batch, PENDING).await > 0 {
            if events.send(std::mem::take(&mut batch)).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    sender
}

/// SIGTERM and SIGINT end the agent; SIGHUP makes it read its configuration again.
async fn signals(
    args: RunArgs,
    targets: Arc<Targets>,
    bfd: Option<bfd::Control>,
    given: (watch::Sender<Vec<Vip>>, watch::Sender<Vec<Class>>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match reload(&args, &targets, bfd.as_ref()) {
                Ok(config) => {
                    given.0.send_replace(config.vips);
                    given.1.send_replace(config.classes);
                }
                Err(error) => tracing::error!("the configuration stays as it was: {error:#}"),
            },
        }
    }
    stop.cancel();
    Ok(())
}

fn reload(args: &RunArgs, targets: &Targets, bfd: Option<&bfd::Control>) -> anyhow::Result<Config> {
    let config = Config::new(args)?;
    match bfd {
        Some(control) => {
            refuse_lost_echoes(&config.bfd)?;
            control.configure(config.bfd.clone());
        }
        None if !config.bfd.peers.is_empty() => {
            tracing::error!(
                "BFD was off when the agent started; restart it to have the sessions that are configured now"
            );
        }
        None => {}
    }
    targets.sort_into(&config.classes)?;
    tracing::info!(vips = config.vips.len(), classes = config.classes.len(), "configuration read again");
    Ok(config)
}

/// Starts BFD where it is asked for. Its thread gives up all rights; it goes on where an agent before it stopped.
fn start_bfd(config: &Config, pins: &Pins) -> anyhow::Result<Option<(bfd::Control, bfd::News)>> {
    if config.bfd.peers.is_empty() {
        return Ok(None);
    }
    refuse_lost_echoes(&config.bfd)?;
    let kept = pins.memory(bfd::SIZE).inspect_err(|error| {
        tracing::warn!(
            "BFD sessions do not outlive the agent: no memory in {}: {error}",
            config.pin_dir.display()
        );
    });
    let means = bfd::Means {
        kept: kept.ok(),
        give_up: || capability::keep_none().map_err(|error| error.to_string()),
        owner: owner::of_udp_port,
    };
    bfd::start(config.bfd.clone(), means)
        .map(Some)
        .context("cannot start BFD; start the agent without --bfd-peer")
}

/// IPv4 echoes are addressed to their sender: where the kernel does not forward, a peer that was promised them back would end its
/// session (RFC 5881, 4).
fn refuse_lost_echoes(settings: &Settings) -> anyhow::Result<()> {
    let echo = settings.peers.iter().find(|peer| peer.echo.is_some() && peer.address.is_ipv4());
    match echo {
        Some(peer) if !host::forwards_ipv4() => bail!(
            "BFD peer {} has echo=, but net.ipv4.ip_forward is 0 and its echoes would be lost; set it to 1, or leave echo= out",
            peer.address
        ),
        _ => Ok(()),
    }
}

fn load(config: &Config, pins: Pins, types: Option<&DropTypes>) -> anyhow::Result<(Datapath, Targets)> {
    let mut datapath = Datapath::load(pins, Options { flows: config.flows }, types)?;
    if config.program_stats {
        datapath.enable_stats().context("--program-stats needs CAP_SYS_ADMIN at the start")?;
    }
    let targets = Targets::open(&datapath)?;
    targets.sort_into(&config.classes)?;
    // Addresses of Services from the start on, or their counts would not outlive a restart.
    let objects = config.manifests.as_deref().map(cluster::folder);
    let remembered = match awaits_cluster(config) {
        true => targets.vips()?,
        false => Vec::new(),
    };
    targets.aim_at_vips(&vips::known(&config.vips, objects.as_ref(), &remembered))?;
    targets.tap(&config.bgp_ports)?;
    let cgroup = config.cgroup.clone().or_else(capability::cgroup2);
    let tcp =
        cgroup.context("no cgroup (version 2) is mounted").and_then(|path| Ok(datapath.attach_tcp(&path)?));
    if let Err(error) = tcp {
        tracing::warn!("the health of TCP sockets is not measured: {error:#}");
    }
    if types.is_some()
        && let Err(error) = datapath.attach_drops()
    {
        tracing::warn!("kernel drops are not counted: {:#}", anyhow::Error::from(error));
    }
    for path in datapath.pins().remove_other_layouts()? {
        tracing::warn!(path = %path.display(), "counts of another version's layout are gone: all start at zero");
    }
    Ok((datapath, targets))
}

/// Whether the addresses of Services come from a cluster that has not been asked yet.
fn awaits_cluster(config: &Config) -> bool {
    config.cluster.is_some() && config.manifests.is_none()
}

/// The copy of the cluster's policies, where they are enforced.
fn copied_policies(config: &Config) -> Option<PathBuf> {
    config.policy_from_cluster.then(|| config.state_dir.join("policy/cluster.yaml"))
}

/// Enforcement, and the numbers of the traffic classes that policies name.
type Enforcing = (Arc<Enforcer>, BTreeMap<String, u8>);

/// Enforcement, where there are policies: the last confirmed ones are in force when this returns.
fn enforcer(
    config: &Config,
    datapath: &mut Datapath,
    targets: &Targets,
    now: &Snapshot,
) -> anyhow::Result<Option<Enforcing>> {
    let places = enforce::Places { local: config.policy.clone(), cluster: copied_policies(config) };
    if places == enforce::Places::default() {
        return Ok(None);
    }
    if let Some(folder) = places.cluster.as_deref().and_then(Path::parent) {
        // It is watched; whoever copies into it tells when that does not work.
        let _ = std::fs::create_dir_all(folder);
    }
    let servers = config.cluster.as_ref().map(Access::servers).unwrap_or_default();
    let classes = targets.class_numbers()?;
    let settings = enforce::Settings {
        places,
        deadline: std::time::Duration::from_secs(config.policy_deadline),
        state_dir: config.state_dir.clone(),
        checks: config.policy_checks.iter().copied().chain(servers).collect(),
        classes: config.classes.clone(),
        resolvers: enforce::resolvers(std::path::Path::new("/etc/resolv.conf")),
    };
    let cluster = config.manifests.as_deref().map(|path| Arc::new(cluster::folder(path)));
    // Those that the datapath was told just before.
    let vips = targets.vips()?;
    let cluster = cluster.filter(|cluster| cluster.is_read());
    let world =
        enforce::world(&Snapshot { vips, node: config.node.clone(), cluster, ..now.clone() }, &classes);
    let guard = match datapath::Guard::open(datapath) {
        Ok(guard) => guard,
        // Whoever installs a chart on many nodes has not asked for this one.
        Err(error) if config.policy.is_none() => {
            tracing::error!(
                "the cluster's policies cannot be enforced on this node: {:#}",
                anyhow::Error::from(error)
            );
            return Ok(None);
        }
        Err(error) => return Err(error).context("--policy cannot be followed on this node"),
    };
    let enforcer =
        Enforcer::start(guard, settings, world).context("cannot put the confirmed policies into force")?;
    Ok(Some((Arc::new(enforcer), classes)))
}

/// What there is before anything is followed: enough to tell which interfaces to measure.
fn first_look() -> anyhow::Result<Snapshot> {
    let mut now = Snapshot::default();
    now.apply(Event::Links(netlink::links()?));
    now.apply(Event::Routes(netlink::routes()?));
    Ok(now)
}

fn refuse_unknown(names: &[String], links: &BTreeMap<IfIndex, String>) -> anyhow::Result<()> {
    let unknown: Vec<_> =
        names.iter().filter(|name| !links.values().any(|link| link == *name)).cloned().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let known = links.values().cloned().collect::<Vec<_>>().join(", ");
    bail!("there is no interface {}; this network namespace has {known}", unknown.join(", "))
}

/// Which interfaces are to be measured: the named ones, or the uplinks.
fn chosen(names: &[String]) -> impl Fn(&Snapshot) -> Vec<IfIndex> + Send + use<> {
    let names = names.to_vec();
    move |now| {
        if names.is_empty() {
            return uplinks(now.links.values(), &now.routes);
        }
        now.links.values().filter(|link| names.contains(&link.name)).map(|link| link.index).collect()
    }
}

fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

/// The agent's instruments, read when somebody asks.
struct Instruments {
    reader: Reader,
    policy: Option<Arc<dyn Enforcement>>,
}

impl Source for Instruments {
    fn measure(&self) -> Result<Measurement, SourceError> {
        self.reader.measure().map_err(failed("the datapath's counters"))
    }

    fn vips(&self) -> Result<Vec<VipCounters>, SourceError> {
        self.reader.vips().map_err(failed("the counters of virtual addresses"))
    }

    fn flows(&self) -> Result<Vec<Flow>, SourceError> {
        self.reader.flows().map_err(failed("the flow table"))
    }

    fn host(&self) -> Result<HostCounters, SourceError> {
        let links = netlink::counters().map_err(failed("the links' counters"))?;
        let host = host::counters().map_err(failed("the kernel's counters"))?;
        Ok(HostCounters { links, ..host })
    }

    fn policy(&self) -> Option<Result<PolicyStatus, SourceError>> {
        Some(self.policy.as_ref()?.status().map_err(failed("the rules' counters")))
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(what: &str) -> impl FnOnce(E) -> SourceError {
    let what = what.to_owned();
    move |error| SourceError { what, source: Box::new(error) }
}
