//! How long a router goes on using a node that is gone: FRR with BGP coupled to BFD on the router, the agent and GoBGP on the
//! node; from the cut to the next hop's end in the router's kernel.
//!
//! The load of busy rounds is the node's: the router's daemons have real-time priority, as if they were on another machine. The
//! time of the command that cuts (nft, ip) is in every figure.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use weir_netns::speaker::Session;
use weir_netns::topology::{INSIDE, UPLINK, VIP4};
use weir_netns::wait::until;
use weir_netns::{Agent, Frr, Host, Lab, Process, Speaker, built};

use super::Effort;
use super::stats::judge;

/// Beyond the negotiated detection time.
const BAR: f64 = 150.0;
const LIMIT: Duration = Duration::from_secs(60);
const ROUTER: &str = "10.10.30.1";
/// Busy processes for each CPU.
const HOGS: usize = 4;
/// The port of the first node on the router's bridge.
const PORT: &str = "node1";

#[derive(Clone, Copy, PartialEq)]
enum Cut {
    BothWays,
    FromNode,
    ToNode,
    LinkDown,
    KillAgent,
    StopAgent,
    KillSpeaker,
}

impl Cut {
    const ALL: [Self; 7] = [
        Self::BothWays,
        Self::FromNode,
        Self::ToNode,
        Self::LinkDown,
        Self::KillAgent,
        Self::StopAgent,
        Self::KillSpeaker,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::BothWays => "silent, both ways",
            Self::FromNode => "silent, from the node",
            Self::ToNode => "silent, to the node",
            Self::LinkDown => "switch port down",
            Self::KillAgent => "SIGKILL of the agent",
            Self::StopAgent => "SIGSTOP of the agent",
            Self::KillSpeaker => "SIGKILL of the BGP speaker",
        }
    }
}

/// A router and one node with BGP, BFD where an agent runs, and what the router's kernel tells of its routes.
struct Bed<'lab> {
    lab: &'lab Lab,
    frr: Frr<'lab>,
    speaker: Option<Speaker<'lab>>,
    agent: Option<Agent<'lab>>,
    routes: Receiver<String>,
    _monitor: Process,
}

pub(crate) fn measure(effort: Effort) -> Result<()> {
    if let Some(reason) = weir_netns::frr::unavailable() {
        anyhow::bail!("{reason}");
    }
    let quick = effort.idle < 10;
    let (rounds, watch) = if quick { (1, 5) } else { (5, 60) };
    priorities(if quick { 5 } else { 30 })?;
    let lab = Lab::without_vip_routes()?;
    let mut bed = Bed::new(&lab, 100)?;
    let mut silent = 0.0;
    for busy in [false, true] {
        let hogs = if busy { hogs(&lab.nodes[0])? } else { Vec::new() };
        println!("  3 x 100 ms, {}", if busy { "all CPUs busy on the node" } else { "idle" });
        let mut all = Vec::new();
        for cut in Cut::ALL {
            let times = bed.rounds(cut, rounds)?;
            if cut == Cut::BothWays && !busy {
                silent = median(&times);
            }
            show(cut.name(), &times);
            all.extend(times);
        }
        weigh("all cuts", &all, 300.0 + BAR);
        let downs = bed.downs()?;
        std::thread::sleep(Duration::from_secs(watch));
        println!("    {:<28} {} in {watch} s without a cut", "false positives", bed.downs()? - downs);
        drop(hogs);
    }
    for milliseconds in [50, 300] {
        bed.retime(milliseconds)?;
        println!("  3 x {milliseconds} ms, idle");
        let times = bed.rounds(Cut::BothWays, rounds)?;
        show(Cut::BothWays.name(), &times);
        weigh(Cut::BothWays.name(), &times, 3.0 * f64::from(milliseconds) + BAR);
    }
    bed.without_bfd()?;
    println!("  the hold timer alone (9 s, keepalives every 3 s), idle");
    let times = bed.rounds(Cut::BothWays, rounds.min(3))?;
    show(Cut::BothWays.name(), &times);
    weigh(Cut::BothWays.name(), &times, 9000.0 + BAR);
    println!("  the hold timer takes {:.0} times as long as 3 x 100 ms", median(&times) / silent);
    Ok(())
}

/// Every figure, in order.
fn show(what: &str, times: &[f64]) {
    let all: Vec<String> = sorted(times).iter().map(|time| format!("{time:.0}")).collect();
    println!("    {what:<28} {} ms", all.join(" "));
}

/// Median and 99th percentile (of fewer than a hundred figures, the worst) against the bar.
fn weigh(what: &str, times: &[f64], bar: f64) {
    let sorted = sorted(times);
    let p99 = sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN);
    judge(&format!("  {what}, median of {}", sorted.len()), median(times), bar, "ms");
    judge(&format!("  {what}, p99"), p99, bar, "ms");
}

fn sorted(times: &[f64]) -> Vec<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(times: &[f64]) -> f64 {
    let sorted = sorted(times);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Processes that never sleep.
fn hogs(node: &Host) -> Result<Vec<Process>> {
    let cpus = std::thread::available_parallelism()?.get();
    (0..HOGS * cpus)
        .map(|_| {
            let mut command = node.command("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            node.start(&mut command)
        })
        .collect()
}

/// Why BFD has a thread with real-time priority: the same agent with it and without it, on a node with busy CPUs.
fn priorities(seconds: u64) -> Result<()> {
    println!("  3 x 50 ms with all CPUs busy on the node, {seconds} s each");
    let folder = tempfile::tempdir()?;
    let ordinary = folder.path().join("weir-agent");
    let program = built("weir-agent")?;
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set -sys_nice {} \"$@\"\n", program.display());
    std::fs::write(&ordinary, script)?;
    std::fs::set_permissions(&ordinary, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::os::unix::fs::symlink(built("weirctl")?, folder.path().join("weirctl"))?;
    for (name, program) in [("real-time priority", &program), ("ordinary priority", &ordinary)] {
        let lab = Lab::without_vip_routes()?;
        let frr = Frr::start(&lab.router)?;
        expect(&frr, 50)?;
        let mut agent = Agent::new(
            &lab.nodes[0],
            program,
            &["--interface", UPLINK, "--bfd-peer", &format!("{ROUTER},tx=50ms,rx=50ms")],
        )?;
        agent.start()?;
        frr.await_bfd(Lab::node_addresses(0)[0], "up", LIMIT)?;
        let _hogs = hogs(&lab.nodes[0])?;
        std::thread::sleep(Duration::from_secs(seconds));
        let scrape = agent.scrape()?;
        println!(
            "    {name:<28} packets late by {:.1} ms at worst, margin {:.0} %, {} drops",
            scrape.sum("weir_bfd_transmit_lateness_seconds", &[]) * 1000.0,
            scrape.sum("weir_bfd_margin_ratio", &[]) * 100.0,
            scrape.count("weir_bfd_session_drops_total", &[]),
        );
    }
    Ok(())
}

fn expect(frr: &Frr<'_>, milliseconds: u32) -> Result<()> {
    let node = Lab::node_addresses(0)[0];
    frr.configure(&format!(
        "bfd\npeer {node} interface {INSIDE}\nreceive-interval {milliseconds}\ntransmit-interval {milliseconds}\n"
    ))
}

/// The agent's.
fn options(milliseconds: u32) -> [String; 4] {
    let peer = format!("{ROUTER},tx={milliseconds}ms,rx={milliseconds}ms");
    ["--interface".into(), UPLINK.into(), "--bfd-peer".into(), peer]
}

impl<'lab> Bed<'lab> {
    fn new(lab: &'lab Lab, milliseconds: u32) -> Result<Self> {
        let node = Lab::node_addresses(0)[0];
        let frr = Frr::start(&lab.router)?;
        expect(&frr, milliseconds)?;
        frr.configure(&format!(
            "router bgp 64512\nno bgp ebgp-requires-policy\nneighbor {node} remote-as 64513\nneighbor {node} passive\n\
             neighbor {node} timers 3 9\nneighbor {node} bfd\n"
        ))?;
        let (routes, monitor) = monitor(&lab.router)?;
        let mut bed = Self { lab, frr, speaker: None, agent: None, routes, _monitor: monitor };
        bed.start_agent(milliseconds)?;
        bed.start_speaker()?;
        Ok(bed)
    }

    fn node(&self) -> IpAddr {
        Lab::node_addresses(0)[0]
    }

    fn start_agent(&mut self, milliseconds: u32) -> Result<()> {
        let mut agent = Agent::new(
            &self.lab.nodes[0],
            &built("weir-agent")?,
            &options(milliseconds).each_ref().map(String::as_str),
        )?;
        agent.start()?;
        self.agent = Some(agent);
        self.frr.await_bfd(self.node(), "up", LIMIT).map(drop)
    }

    fn start_speaker(&mut self) -> Result<()> {
        let session = Session { asns: [64513, 64512], router: ROUTER.parse()?, hold_seconds: 9 };
        let speaker = Speaker::start(&self.lab.nodes[0], Lab::node_addresses(0), session)?;
        speaker.announce(VIP4.parse()?)?;
        self.speaker = Some(speaker);
        Ok(())
    }

    /// The same agent with other times: one without its memory would be a stranger, and the router waits for the one that left.
    fn retime(&mut self, milliseconds: u32) -> Result<()> {
        expect(&self.frr, milliseconds)?;
        let agent = self.agent()?;
        agent.process()?.stop()?;
        agent.run_with(&options(milliseconds).each_ref().map(String::as_str));
        agent.start()?;
        until("the router has the new times", LIMIT, || {
            let told = self.frr.bfd(self.node())?;
            Ok(["remote-transmit-interval", "remote-receive-interval"]
                .iter()
                .all(|one| told[one] == milliseconds))
        })
        .map(drop)
    }

    fn without_bfd(&mut self) -> Result<()> {
        let node = self.node();
        self.frr.configure(&format!("router bgp 64512\nno neighbor {node} bfd\n"))?;
        self.agent = None;
        self.frr.configure(&format!("bfd\nno peer {node} interface {INSIDE}\n"))
    }

    fn rounds(&mut self, cut: Cut, rounds: usize) -> Result<Vec<f64>> {
        (0..rounds).map(|_| self.round(cut).with_context(|| cut.name())).collect()
    }

    /// Milliseconds from the cut to the end of the next hop.
    fn round(&mut self, cut: Cut) -> Result<f64> {
        self.await_use()?;
        while self.routes.try_recv().is_ok() {}
        let before = seconds_of_day(SystemTime::now())?;
        self.cut(cut)?;
        let gone = self.await_end()?;
        self.mend(cut)?;
        Ok((gone - before).rem_euclid(86_400.0) * 1000.0)
    }

    /// The node is used, and has been for a moment.
    fn await_use(&self) -> Result<()> {
        until("the router uses the node", LIMIT, || {
            let arguments = ["-n", self.lab.router.name(), "route", "show", VIP4];
            let output = weir_netns::namespace::succeed(Command::new("ip").args(arguments))?;
            Ok(!output.stdout.is_empty())
        })
        .with_context(|| self.frr.log_text("bgpd"))?;
        if self.agent.is_some() {
            self.frr.await_bfd(self.node(), "up", LIMIT)?;
        }
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    fn await_end(&self) -> Result<f64> {
        let start = Instant::now();
        while let Some(left) = LIMIT.checked_sub(start.elapsed()) {
            let line = self.routes.recv_timeout(left).context("the route stayed")?;
            if line.contains("Deleted") && line.contains(VIP4) {
                return told_at(&line);
            }
        }
        anyhow::bail!("the route stayed")
    }

    fn cut(&mut self, cut: Cut) -> Result<()> {
        match cut {
            Cut::BothWays => self.filter(&[INGRESS, EGRESS]),
            Cut::FromNode => self.filter(&[INGRESS]),
            Cut::ToNode => self.filter(&[EGRESS]),
            Cut::LinkDown => self.lab.router.ip(&format!("link set {PORT} down")),
            Cut::KillAgent => self.agent()?.process()?.kill().map(drop),
            Cut::StopAgent => self.agent()?.process()?.signal(Signal::SIGSTOP),
            Cut::KillSpeaker => {
                let speaker = self.speaker.as_mut().context("there is no speaker")?;
                speaker.process().signal(Signal::SIGKILL)
            }
        }
    }

    fn mend(&mut self, cut: Cut) -> Result<()> {
        match cut {
            Cut::BothWays | Cut::FromNode | Cut::ToNode => {
                self.lab.router.output(Command::new("nft").arg("delete table bridge cut")).map(drop)
            }
            Cut::LinkDown => self.lab.router.ip(&format!("link set {PORT} up")),
            Cut::KillAgent => self.agent()?.start(),
            Cut::StopAgent => self.agent()?.process()?.signal(Signal::SIGCONT),
            Cut::KillSpeaker => {
                self.speaker = None;
                self.start_speaker()
            }
        }
    }

    fn filter(&self, chains: &[&str]) -> Result<()> {
        let table = format!("table bridge cut {{ {} }}", chains.concat());
        self.lab.router.output(Command::new("chrt").args(["-f", "10", "nft"]).arg(table)).map(drop)
    }

    fn agent(&mut self) -> Result<&mut Agent<'lab>> {
        self.agent.as_mut().context("there is no agent")
    }

    fn downs(&self) -> Result<u64> {
        self.frr.bfd_counters(self.node())?["session-down"].as_u64().context("bfdd counts no downs")
    }
}

const INGRESS: &str = "chain in { type filter hook prerouting priority -300; iifname \"node1\" drop; };";
const EGRESS: &str = "chain out { type filter hook postrouting priority 300; oifname \"node1\" drop; };";

/// What `ip monitor` tells, with its own time stamps.
fn monitor(router: &Host) -> Result<(Receiver<String>, Process)> {
    let mut command = router.command("chrt");
    command.args(["-f", "20", "ip", "-ts", "monitor", "route"]).env("TZ", "UTC");
    let mut process = router.start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let stdout = process.child().stdout.take().context("ip has no stdout")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Ok((receiver, process))
}

/// The seconds of the day in `[2026-01-31T13:37:42.123456]`.
fn told_at(line: &str) -> Result<f64> {
    let stamp = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).context("no time stamp")?.0;
    let time = stamp.split_once('T').context("no time of day")?.1;
    let parts: Vec<f64> = time.split(':').map(str::parse).collect::<Result<_, _>>()?;
    ensure!(parts.len() == 3, "{stamp} is no time");
    Ok(parts[0] * 3600.0 + parts[1] * 60.0 + parts[2])
}

fn seconds_of_day(time: SystemTime) -> Result<f64> {
    Ok(time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64().rem_euclid(86_400.0))
}
