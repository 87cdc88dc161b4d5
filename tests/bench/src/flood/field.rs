//! The link, the generator, and what drops.
//!
//! The kernel sends the frames itself (`BPF_PROG_TEST_RUN` with live frames) and works them off on the same CPU, so the CPU time
//! of the process is that of generator and drop together.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use ipnet::Ipv4Net;
use weir_agent::datapath::{Hooks, TcMode};
use weir_agent::model::address::IfIndex;
use weir_netns::Namespace;
use weir_netns::namespace::succeed;
use weir_netns::wait::until;

use super::{Place, SOURCE, offload};
use crate::flows;
use crate::kernel::segment;
use crate::policy::nft;
use crate::rules::{Enforced, deny};
use crate::stats::cpu_nanos;

/// Frames a slice, and at once.
const SLICE: u32 = 1 << 16;
const BATCH: u32 = 64;
const LIMIT: Duration = Duration::from_secs(10);
/// The kernel takes links off a moment after their pins are gone; an interface has one XDP program, and a hook each program once.
const FREE: &str = "the place is free";
const FROM: &str = "va";
const AT: &str = "vb";
/// The receiver's own address: what no rule drops is delivered.
const HERE: [u8; 4] = [10, 1, 0, 1];

/// What is sent and dropped.
pub(super) struct Drops {
    /// The program that sends.
    pub(super) generator: &'static str,
    /// Sources that are dropped.
    pub(super) ours: Vec<Ipv4Net>,
    /// The same for nft(8).
    pub(super) nft: String,
}

/// Both ends of the link, and our rules.
pub(super) struct Field {
    sender: Namespace,
    receiver: Namespace,
    enforced: Enforced,
    hooks: [Hooks; 2],
    at: IfIndex,
    frame: Vec<u8>,
    /// `struct xdp_md` of the frames.
    context: Vec<u8>,
}

/// What drops, until it is told to end.
enum Dropping {
    Bare(XdpLinkId),
    Ours,
    Nft(&'static str),
    Iptables,
}

impl Field {
    pub(super) fn new() -> Result<Self> {
        let (sender, receiver) = (Namespace::new("flood-a")?, Namespace::new("flood-b")?);
        sender.veth(FROM, &receiver, AT)?;
        receiver.address(AT, "10.1.0.1/16")?;
        // No route leads to the sources: a check of them would drop before any rule of nft(8) in its input hook.
        for which in ["all", AT] {
            receiver.sysctl(&format!("ipv4/conf/{which}/rp_filter"), "0")?;
        }
        // Frames of the kernel's own need the receiver's NAPI, which GRO turns on where there is no XDP.
        receiver.run(|| offload::receive(AT))?;
        let mut enforced = Enforced::load("flood", &[])?;
        for name in ["bench_send", "bench_send_flows", "bench_drop"] {
            xdp(&mut enforced, name)?.load().with_context(|| format!("cannot load {name}"))?;
        }
        let open = || Hooks::open(&enforced.datapath, TcMode::Tcx);
        let hooks = [open()?, open()?.with_early(vec![AT.to_owned()])];
        let frame = frame(receiver.mac(AT)?);
        let words = [0, frame.len() as u32, 0, sender.index(FROM)?, 0, 0];
        let context = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        let at = IfIndex::try_from(receiver.index(AT)?)?;
        Ok(Self { sender, receiver, enforced, hooks, at, frame, context })
    }

    pub(super) fn walk_through(&mut self, sources: &[u32]) -> Result<()> {
        flows::fill(self.enforced.datapath.object(), sources)
    }

    pub(super) fn enforce(&mut self, drops: &Drops) -> Result<()> {
        self.enforced.enforce(vec![deny("flood", drops.ours.clone())])
    }

    /// CPU time of a packet in ns.
    pub(super) fn slice(&mut self, place: Place, drops: &Drops) -> Result<f64> {
        let dropping = self.begin(place, drops).with_context(|| place.name().to_owned())?;
        let spent = self.flood(drops.generator, SLICE / 4).and_then(|_| self.flood(drops.generator, SLICE));
        self.end(dropping)?;
        spent.with_context(|| place.name().to_owned())
    }

    fn flood(&mut self, generator: &str, frames: u32) -> Result<f64> {
        let before = (self.receiver.counters(AT)?, delivered(&self.receiver)?);
        let Self { sender, enforced, frame, context, .. } = self;
        let program = xdp(enforced, generator)?;
        let spent = sender.run(|| {
            let options = TestRunOptions {
                data_in: Some(frame),
                ctx_in: Some(context),
                repeat: frames,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            };
            let began = cpu_nanos();
            program.test_run(options).context("the kernel sends no live frames")?;
            Ok(cpu_nanos() - began)
        })?;
        let arrived = (self.receiver.counters(AT)? - before.0).received_packets;
        ensure!(arrived >= u64::from(frames), "{arrived} of {frames} frames arrived");
        let delivered = delivered(&self.receiver)? - before.1;
        ensure!(delivered < 10, "{delivered} of {frames} frames were not dropped");
        Ok(spent / f64::from(frames))
    }

    fn begin(&mut self, place: Place, drops: &Drops) -> Result<Dropping> {
        match place {
            Place::BareXdp => {
                let Self { receiver, enforced, .. } = self;
                let program = xdp(enforced, "bench_drop")?;
                let mut link = None;
                until(FREE, LIMIT, || {
                    link = receiver.run(|| Ok(program.attach(AT, XdpMode::Driver)?)).ok();
                    Ok(link.is_some())
                })?;
                link.map(Dropping::Bare).context("it is not attached")
            }
            Place::OurHook => self.attach(0),
            Place::OurXdp => self.attach(1),
            Place::NftIngress => {
                self.nft("netdev", &format!("type filter hook ingress device {AT} priority 0"), drops)
            }
            Place::NftInput => self.nft("ip", "type filter hook input priority 0", drops),
            Place::IptablesRaw => self.iptables("-A").map(|()| Dropping::Iptables),
        }
    }

    fn end(&mut self, dropping: Dropping) -> Result<()> {
        match dropping {
            Dropping::Bare(link) => Ok(xdp(&mut self.enforced, "bench_drop")?.detach(link)?),
            Dropping::Ours => {
                self.hooks[1].detach(&self.enforced.datapath, self.at, AT);
                Ok(())
            }
            Dropping::Nft(family) => nft(&self.receiver, &format!("delete table {family} flood\n")),
            Dropping::Iptables => self.iptables("-D"),
        }
    }

    fn attach(&mut self, how: usize) -> Result<Dropping> {
        let Self { receiver, enforced, hooks, at, .. } = self;
        until(FREE, LIMIT, || {
            Ok(receiver.run(|| Ok(hooks[how].attach(&mut enforced.datapath, *at, AT)?)).is_ok())
        })?;
        let early = !enforced.early().is_empty();
        ensure!(early == (how == 1), "XDP is {}", if early { "on" } else { "off" });
        Ok(Dropping::Ours)
    }

    fn nft(&self, family: &'static str, chain: &str, drops: &Drops) -> Result<Dropping> {
        let rule = format!("ip saddr {} drop", drops.nft);
        let text = format!("table {family} flood {{ chain flooded {{ {chain}; {rule}; }}; }}\n");
        nft(&self.receiver, &text).map(|()| Dropping::Nft(family))
    }

    fn iptables(&self, command: &str) -> Result<()> {
        self.receiver.run(|| {
            let rule = ["-w", "-t", "raw", command, "PREROUTING", "-s", SOURCE, "-j", "DROP"];
            succeed(Command::new("iptables").args(rule)).map(drop)
        })
    }
}

fn xdp<'a>(enforced: &'a mut Enforced, name: &str) -> Result<&'a mut Xdp> {
    let program = enforced.datapath.object().program_mut(name);
    Ok(program.with_context(|| format!("no program {name}"))?.try_into()?)
}

fn frame(to: [u8; 6]) -> Vec<u8> {
    let mut frame = segment();
    frame[..6].copy_from_slice(&to);
    frame[26..30].copy_from_slice(&[10, 0, 0, 9]);
    frame[30..34].copy_from_slice(&HERE);
    let words = frame[14..34].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

/// TCP segments that came through to the sockets' layer of a namespace.
fn delivered(namespace: &Namespace) -> Result<u64> {
    let table = namespace.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut rows = table.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (rows.next().context("no names")?, rows.next().context("no values")?);
    let mut fields = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = fields.find(|(name, _)| *name == "InSegs").context("no InSegs")?;
    Ok(value.parse()?)
}
