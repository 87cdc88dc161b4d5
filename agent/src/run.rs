//! `weir-agent run`: loads, attaches, starts the tasks, and ends them in order.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use weir_agent::args::{Config, Kube, RunArgs};
use weir_agent::capability;
use weir_agent::datapath::{self, Btf, Datapath, Hooks, Keeper, Options, Pins, Reader, Targets};
use weir_agent::export::grpc::{self, Service};
use weir_agent::export::http;
use weir_agent::export::metrics::Exposition;
use weir_agent::export::readiness::Readiness;
use weir_agent::export::tally::Tally;
use weir_agent::model::address::IfIndex;
use weir_agent::model::flow::Flow;
use weir_agent::model::host::HostCounters;
use weir_agent::model::measurement::{Measurement, Source, SourceError};
use weir_agent::model::uplink::uplinks;
use weir_agent::state::{Event, Snapshot, State};
use weir_agent::{host, netlink, probe};

use crate::task::Tasks;

/// Events that may wait for the owner of the state; an edge that is faster waits.
const PENDING: usize = 64;

/// Runs until a signal or a fault.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = Config::new(&args)?;
    log_to_stderr();
    let report = capability::examine_as(&config.pin_dir, &capability::STARTING)
        .context("cannot read the capabilities of this process")?;
    let now = first_look()?;
    let links = now.links.values().map(|link| (link.index, link.name.clone())).collect();
    refuse_unknown(&config.interfaces, &links)?;
    let btf =
        Btf::running().inspect_err(|error| tracing::warn!("kernel drops are not counted: {error}")).ok();
    let (datapath, targets) = load(&config, btf.as_ref())?;
    let reader = Reader::open(&datapath, btf.as_ref()).context("cannot open what the programs count")?;
    drop(btf);
    let hooks = Hooks::open(&datapath, Hooks::supported_mode()).context("cannot open the hooks")?;
    let keeper = Keeper::new(datapath, hooks, &links, &config.interfaces, &chosen(&config.interfaces)(&now));
    let sockets = probe::Sockets::open();
    let kept = capability::keep(&capability::NEEDED)?;
    tracing::debug!(held = ?kept.held, missing = ?kept.missing, "gave up all other capabilities");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let parts = Parts { config, args, targets, reader, keeper, sockets };
    runtime.block_on(serve(parts, report))
}

/// All that was opened while there were rights for it.
struct Parts {
    config: Config,
    args: RunArgs,
    targets: Targets,
    reader: Reader,
    keeper: Keeper,
    sockets: probe::Sockets,
}

async fn serve(parts: Parts, report: weir_agent::model::capability::Report) -> anyhow::Result<()> {
    let Parts { config, args, targets, reader, keeper, sockets } = parts;
    let socket = grpc::UnixSocket::bind(&config.socket)?;
    let first = Snapshot { node: config.node.clone(), ..Snapshot::default() };
    let (state, snapshots) = State::new(first);
    let (events, inbox) = mpsc::channel::<Vec<Event>>(PENDING);
    events.send(vec![Event::Capabilities(report), Event::Vips(config.vips.clone())]).await?;
    let source: Arc<dyn Source> = Arc::new(Instruments { reader });
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
    let (wanted, sender) = (chosen(&config.interfaces), one_by_one(&mut tasks, events.clone()));
    let (watched, cancel) = (snapshots.clone(), stop.clone());
    tasks.spawn("probe", async move {
        Ok(probe::run(sockets, Default::default(), watched, wanted, sender, cancel).await?)
    });
    let exposition = Exposition::new(snapshots.clone(), Arc::clone(&source), Arc::clone(&tally));
    let end = stop.clone().cancelled_owned();
    let ready = readiness.clone();
    tasks.spawn("http", async move { Ok(http::serve(listener, exposition, ready, end).await?) });
    serve_grpc(&mut tasks, &config, socket, Service::new(snapshots, source, tally, stop.clone())).await?;
    tasks.spawn("signals", signals(args, targets, events, stop));
    let result = tasks.run().await;
    tracing::info!("stopped; programs and counts stay in the kernel until `weir-agent detach`");
    result
}

async fn serve_grpc(
    tasks: &mut Tasks,
    config: &Config,
    socket: grpc::UnixSocket,
    service: Service,
) -> anyhow::Result<()> {
    if let Some(address) = config.grpc {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for weirctl; give another --grpc"))?;
        let service = service.clone();
        tasks.spawn("grpc-tcp", async move { Ok(grpc::serve_tcp(listener, service).await?) });
    }
    tasks.spawn("grpc", async move { Ok(grpc::serve_unix(socket, service).await?) });
    Ok(())
}

/// Takes events in and publishes a snapshot a batch. Ready with the first dump of links.
async fn own(
    mut state: State,
    mut inbox: mpsc::Receiver<Vec<Event>>,
    guard: weir_agent::export::readiness::Guard,
) -> anyhow::Result<()> {
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
    targets: Targets,
    events: mpsc::Sender<Vec<Event>>,
    stop: tokio_util::sync::CancellationToken,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match reload(&args, &targets) {
                Ok(event) => events.send(vec![event]).await?,
                Err(error) => tracing::error!("the configuration stays as it was: {error:#}"),
            },
        }
    }
    stop.cancel();
    Ok(())
}

fn reload(args: &RunArgs, targets: &Targets) -> anyhow::Result<Event> {
    let config = Config::new(args)?;
    targets.sort_into(&config.classes)?;
    targets.aim_at_vips(&config.vips)?;
    tracing::info!(vips = config.vips.len(), classes = config.classes.len(), "configuration read again");
    Ok(Event::Vips(config.vips))
}

fn load(config: &Config, btf: Option<&Btf>) -> anyhow::Result<(Datapath, Targets)> {
    let pins = Pins::hold(&config.pin_dir)?;
    let mut datapath = Datapath::load(pins, Options { flows: config.flows }, btf)?;
    if config.program_stats {
        datapath.enable_stats().context("--program-stats needs CAP_SYS_ADMIN at the start")?;
    }
    let targets = Targets::open(&datapath)?;
    targets.sort_into(&config.classes)?;
    targets.aim_at_vips(&config.vips)?;
    let cgroup = config.cgroup.clone().or_else(capability::cgroup2);
    let tcp =
        cgroup.context("no cgroup (version 2) is mounted").and_then(|path| Ok(datapath.attach_tcp(&path)?));
    if let Err(error) = tcp {
        tracing::warn!("the health of TCP sockets is not measured: {error:#}");
    }
    if btf.is_some()
        && let Err(error) = datapath.attach_drops()
    {
        tracing::warn!("kernel drops are not counted: {:#}", anyhow::Error::from(error));
    }
    for path in datapath.pins().remove_other_layouts()? {
        tracing::warn!(path = %path.display(), "counts of another version's layout are gone: all start at zero");
    }
    if config.kube == Kube::Auto {
        tracing::debug!("this version has no cluster source yet");
    }
    Ok((datapath, targets))
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
}

impl Source for Instruments {
    fn measure(&self) -> Result<Measurement, SourceError> {
        self.reader.measure().map_err(failed("the datapath's counters"))
    }

    fn flows(&self) -> Result<Vec<Flow>, SourceError> {
        self.reader.flows().map_err(failed("the flow table"))
    }

    fn host(&self) -> Result<HostCounters, SourceError> {
        let links = netlink::counters().map_err(failed("the links' counters"))?;
        let host = host::counters().map_err(failed("the kernel's counters"))?;
        Ok(HostCounters { links, ..host })
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(what: &str) -> impl FnOnce(E) -> SourceError {
    let what = what.to_owned();
    move |error| SourceError { what, source: Box::new(error) }
}
