//! `make demo`: the lab, a router that follows manifests, an agent and a BGP speaker a node, real traffic, and a live
//! view of all of it; at the end nodes die.

mod counts;
mod failover;
mod story;
mod targets;

use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use weir_netns::objects::Manifests;
use weir_netns::openmetrics::Scrape;
use weir_netns::topology::{CLIENT, PUBLIC, UPLINK, VIP4, VIP6};
use weir_netns::traffic::{self, Tally};
use weir_netns::view::{self, Interval};
use weir_netns::{Agent, Gateway, Host, Lab, Process, Speaker, built, reap, relay, speaker};

use counts::Counts;
use story::Story;

/// How often vyos-sync looks at the router.
const LOOK: Duration = Duration::from_secs(2);
/// With whom the agents have BFD.
const ROUTER: &str = "10.10.30.1";
/// Of what the router forwards, so that retransmissions are there to be seen.
const LOSS_PERCENT: u8 = 1;
const REFRESH: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable() {
        bail!("the demo cannot run here: {reason}");
    }
    let interrupts = reap::interrupts();
    let shown = demo(seconds()?, &interrupts);
    println!("cleaned up: agents detached, daemons ended, namespaces and control groups removed");
    shown
}

fn seconds() -> Result<Duration> {
    let text = std::env::var("DEMO_SECONDS").unwrap_or_else(|_| "30".into());
    Ok(Duration::from_secs(text.parse().with_context(|| format!("DEMO_SECONDS is {text:?}, not a number"))?))
}

fn demo(length: Duration, interrupts: &Receiver<()>) -> Result<()> {
    println!("building the lab: client, router, three nodes that share {VIP4} and {VIP6}");
    let lab = Lab::without_vip_routes()?;
    lab.lose(LOSS_PERCENT)?;
    let go_on = || interrupts.try_recv().is_err().then_some(()).context("interrupted");
    let _servers = serve_everywhere(&lab)?;
    go_on()?;
    let mut gateway = follow(&lab)?;
    go_on()?;
    let _speakers = peer(&lab, &gateway)?;
    let objects = targets::objects()?;
    let mut agents = agents(&lab, objects.as_ref())?;
    for (agent, node) in agents.iter_mut().zip(&lab.nodes) {
        go_on()?;
        println!("starting weir-agent on {}", node.name());
        agent.start()?;
    }
    gateway.follow(LOOK)?;
    let places = publish(&lab)?;
    if let Some(file) = targets::wanted() {
        targets::write(&file, &places, relay::open(&lab.router, Gateway::METRICS, Gateway::METRICS.port())?)?;
    }
    let before = Counts::read(&lab, &agents)?;
    let mut loads = load(&lab)?;
    let shown = show(&gateway, &Screen { agents: &agents, places: &places, length, interrupts });
    println!();
    loads.iter_mut().try_for_each(report)?;
    let ended = shown?;
    println!("\nweirctl status, on {}:\n{}", lab.nodes[0].name(), agents[0].weirctl(&["status"])?);
    println!("packets since the agents started, agent / kernel's own counter of the interface:");
    print!("{}", Counts::read(&lab, &agents)?.since(&before));
    match ended {
        Ended::InTime => failover::play(&lab, &agents, &mut gateway, interrupts),
        Ended::Interrupted => Ok(()),
    }
}

/// The router starts with nothing but its addresses, and gets what the manifests ask for.
fn follow(lab: &Lab) -> Result<Gateway<'_>> {
    println!("starting vyos-router, a stand-in for VyOS 1.5, in {}", lab.router.name());
    let gateway = Gateway::start(lab)?;
    println!("\nvyos-sync plan --source tests/netns/demo/manifests");
    print!("{}", view::plan_digest(&gateway.plan()?));
    println!("\nvyos-sync apply: {}", gateway.apply()?.lines().last().unwrap_or_default());
    Ok(gateway)
}

fn peer<'lab>(lab: &'lab Lab, gateway: &Gateway<'_>) -> Result<Vec<Speaker<'lab>>> {
    println!("\nstarting GoBGP on the nodes, in place of Cilium's speaker");
    let speakers = speaker::on_all_nodes(lab)?;
    let took = gateway.await_next_hops(lab.nodes.len())?;
    println!("the router learned both addresses from all nodes in {:.1} s", took.as_secs_f64());
    Ok(speakers)
}

fn agents<'lab>(lab: &'lab Lab, objects: Option<&Manifests>) -> Result<Vec<Agent<'lab>>> {
    let program = built("weir-agent")?;
    let folder = objects.map(|objects| objects.path().display().to_string());
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/policy.yaml");
    let last = lab.nodes.len() - 1;
    let agent = |(index, node): (usize, &'lab Host)| {
        let name = format!("node{}", index + 1);
        let mut options = vec!["--interface", UPLINK, "--vip", VIP4, "--vip", VIP6];
        // The dashboards show the time a packet, which the kernel only measures when asked, what objects say, and a policy.
        if let Some(folder) = &folder {
            options.extend(["--program-stats", "--node", &name, "--manifests", folder]);
            options.extend(["--policy", policy]);
        }
        // The last node has no BFD, so that the end shows both.
        if index != last {
            options.extend(["--bfd-peer", ROUTER]);
        }
        Agent::new(node, &program, &options)
    };
    lab.nodes.iter().enumerate().map(agent).collect()
}

/// The nodes answer on the virtual addresses, the client on its own for what the nodes ask.
fn serve_everywhere(lab: &Lab) -> Result<Vec<Process>> {
    let nodes = lab.nodes.iter().map(|node| traffic::start_server(node, &[VIP4, VIP6]));
    nodes.chain([traffic::start_server(&lab.client, &CLIENT)]).collect()
}

/// The client asks the virtual addresses and the published one, and every node asks the client.
fn load(lab: &Lab) -> Result<Vec<Process>> {
    let nodes = lab.nodes.iter().map(|node| ask(node, &CLIENT, 400));
    [ask(&lab.client, &[VIP4, VIP6, PUBLIC], 20)].into_iter().chain(nodes).collect()
}

fn ask(host: &Host, targets: &[&str], pace: u64) -> Result<Process> {
    let mut command = host.command(built("weir-traffic")?);
    command.args(["load", "--pace", &pace.to_string()]);
    command.args(targets.iter().flat_map(|target| ["--target", *target]));
    host.start(command.stdout(Stdio::piped()))
}

/// Make each agent's metrics reachable from this machine's loopback.
fn publish(lab: &Lab) -> Result<Vec<SocketAddr>> {
    let ports = Agent::METRICS.port()..;
    lab.nodes.iter().zip(ports).map(|(node, port)| relay::open(node, Agent::METRICS, port)).collect()
}

/// How the live view ended.
#[derive(Clone, Copy)]
enum Ended {
    InTime,
    Interrupted,
}

/// What the live view is made of, and when it ends.
struct Screen<'a> {
    agents: &'a [Agent<'a>],
    places: &'a [SocketAddr],
    length: Duration,
    interrupts: &'a Receiver<()>,
}

/// Show the view until the time is over, while the story takes its course beside it.
fn show(gateway: &Gateway<'_>, screen: &Screen<'_>) -> Result<Ended> {
    let story = Story::new();
    std::thread::scope(|scope| {
        let wait = screen.length / 4;
        let teller = scope.spawn({
            let story = &story;
            move || story.live(gateway, wait)
        });
        let watched = watch(gateway, screen, &story, &teller);
        story.end();
        let told = teller.join().map_err(|_| anyhow!("the story's thread panicked"))?;
        told.and(watched)
    })
}

/// Show the view each second, until the time and the story are over, or Ctrl-C.
fn watch(
    gateway: &Gateway<'_>,
    screen: &Screen<'_>,
    story: &Story,
    teller: &ScopedJoinHandle<'_, Result<()>>,
) -> Result<Ended> {
    let start = Instant::now();
    let terminal = std::io::stdout().is_terminal();
    let mut before = scrapes(screen.agents)?;
    let mut at = start;
    while start.elapsed() < screen.length || !teller.is_finished() {
        if !matches!(screen.interrupts.recv_timeout(REFRESH), Err(RecvTimeoutError::Timeout)) {
            println!("interrupted");
            return Ok(Ended::Interrupted);
        }
        let (now, seconds) = (scrapes(screen.agents)?, at.elapsed().as_secs_f64());
        at = Instant::now();
        if terminal {
            print!("\x1b[H\x1b[J");
        }
        println!(
            "Weir demo, {} of {} s. Ctrl-C ends it.",
            start.elapsed().as_secs(),
            screen.length.as_secs()
        );
        for (index, place) in screen.places.iter().enumerate() {
            println!("  node{} metrics: curl http://{place}/metrics", index + 1);
        }
        println!("\n{}", view::page(&intervals(&before, &now, seconds)));
        println!("{}\n{}", router(gateway)?, story.text());
        before = now;
    }
    Ok(Ended::InTime)
}

fn router(gateway: &Gateway<'_>) -> Result<String> {
    let [v4, v6] = Gateway::vips()?;
    Ok(format!(
        "router   next hops of {v4}: {}, of {v6}: {}   connections to {PUBLIC} translated: {}   commits of vyos-sync: {}",
        gateway.next_hops(v4)?,
        gateway.next_hops(v6)?,
        gateway.translated()?,
        gateway.commits()?,
    ))
}

fn scrapes(agents: &[Agent<'_>]) -> Result<Vec<Scrape>> {
    agents.iter().map(Agent::scrape).collect()
}

fn intervals<'a>(before: &'a [Scrape], now: &'a [Scrape], seconds: f64) -> Vec<Interval<'a>> {
    let names = ["node1", "node2", "node3"];
    let pairs = names.into_iter().zip(before.iter().zip(now));
    pairs.map(|(node, (before, now))| Interval { node, before, now, seconds }).collect()
}

/// End a client and say what it did by its own count.
fn report(load: &mut Process) -> Result<()> {
    load.stop()?;
    let mut text = String::new();
    load.child().stdout.take().context("the client has no stdout")?.read_to_string(&mut text)?;
    let tally: Tally =
        serde_json::from_str(&text).with_context(|| format!("the client's tally: {text:?}"))?;
    println!(
        "a client: {} answered connections ({} bytes), {} refused, {} failed; {} datagrams, {} echoes",
        tally.connections, tally.answered_bytes, tally.refused, tally.failed, tally.datagrams, tally.echoes
    );
    Ok(())
}
