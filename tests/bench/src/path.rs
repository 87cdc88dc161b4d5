//! CPU a packet on the whole way from a sender's call to the receiver's socket, in short slices inside one process:
//! on a veth pair the softirq runs on the sender's CPU, so the process's CPU time covers it all.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{LinkOrder, TcAttachType};
use weir_netns::Namespace;

use crate::Effort;
use crate::kernel::{classifier, load, pin_to_last_cpu};
use crate::stats::{Rounds, cpu_nanos};

const SLICE: Duration = Duration::from_millis(15);
const PORT: u16 = 9998;
const LABELS: [&str; 4] = ["nothing", "nothing again (A/A)", "empty program", "weir_ingress"];
const PROGRAMS: [Option<&str>; 4] = [None, None, Some("bench_empty"), Some("weir_ingress")];
const MANY_LABELS: [&str; 4] = ["plain hash", "plain hash again (A/A)", "nothing", "weir_ingress"];
const MANY_PROGRAMS: [Option<&str>; 4] = [Some("bench_hash"), Some("bench_hash"), None, Some("weir_ingress")];
/// Flows of the last measurement; each has a destination of its own.
const MANY: u32 = 100_000;

pub(crate) fn measure(effort: Effort) -> Result<()> {
    let (sender, receiver) = (Namespace::new("bench-a")?, Namespace::new("bench-b")?);
    sender.veth("va", &receiver, "vb")?;
    sender.address("va", "10.99.0.1/24")?;
    receiver.address("vb", "10.99.0.2/24")?;
    sender.ip("route add 10.64.0.0/12 via 10.99.0.2")?;
    receiver.ip("route add local 10.64.0.0/12 dev lo")?;
    let _sink = receiver.run(|| Ok(UdpSocket::bind(("0.0.0.0", PORT))?))?;
    for (flows, bar) in [(1usize, 1.03), (1_000, 1.06)] {
        println!("  {flows} flows, 18 octets of UDP payload");
        let sockets = sender.run(|| connected(flows))?;
        let mut at = 0;
        let mut send = || {
            at = (at + 1) % sockets.len();
            sockets[at].send(&[0; 18]).is_ok()
        };
        let measured = receiver.run(|| {
            pin_to_last_cpu()?;
            let mut ebpf = load(&["bench_empty", "weir_ingress"])?;
            Rounds::run(&LABELS, effort.slices, |n| slice(&mut ebpf, PROGRAMS[n], &mut send))
        })?;
        measured.print("ns/packet");
        measured.ratio(1, 0).judge_same();
        measured.ratio(3, 0).judge("with ours / without", bar);
    }
    many(effort, &sender, &receiver)
}

/// So many flows that memory decides, drawn evenly.
fn many(effort: Effort, sender: &Namespace, receiver: &Namespace) -> Result<()> {
    println!("  {MANY} flows, drawn evenly");
    let socket = sender.run(|| Ok(UdpSocket::bind("10.99.0.1:0")?))?;
    let to = |flow: u32| SocketAddrV4::new(Ipv4Addr::from_bits(0x0a40_0001 + flow), PORT);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut send = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let flow = ((state >> 32) * u64::from(MANY)) >> 32;
        socket.send_to(&[0; 18], to(flow as u32)).is_ok()
    };
    let measured = receiver.run(|| {
        pin_to_last_cpu()?;
        let mut ebpf = load(&["bench_hash", "weir_ingress"])?;
        for name in ["bench_hash", "weir_ingress"] {
            // Every flow is there before the clock runs.
            let link = attach(&mut ebpf, name)?;
            (0..MANY).for_each(|flow| drop(socket.send_to(&[0; 18], to(flow))));
            classifier(&mut ebpf, name)?.detach(link)?;
        }
        Rounds::run(&MANY_LABELS, effort.slices, |n| slice(&mut ebpf, MANY_PROGRAMS[n], &mut send))
    })?;
    measured.print("ns/packet");
    measured.ratio(1, 0).judge_same();
    measured.ratio(3, 0).judge("ours / plain per-CPU hash", 1.15);
    Ok(())
}

fn connected(flows: usize) -> Result<Vec<UdpSocket>> {
    let one = |_| -> Result<UdpSocket> {
        let socket = UdpSocket::bind("10.99.0.1:0")?;
        socket.connect(("10.99.0.2", PORT))?;
        Ok(socket)
    };
    (0..flows).map(one).collect()
}

fn slice(ebpf: &mut Ebpf, program: Option<&str>, send: &mut impl FnMut() -> bool) -> Result<f64> {
    let link = program.map(|name| attach(ebpf, name)).transpose()?;
    let mut packets = 0u64;
    (0..64).for_each(|_| {
        send();
    });
    let (began, before) = (Instant::now(), cpu_nanos());
    while began.elapsed() < SLICE {
        for _ in 0..64 {
            // A full receive buffer drops at the receiver, after all that is measured.
            packets += u64::from(send());
        }
    }
    let spent = cpu_nanos() - before;
    if let (Some(name), Some(link)) = (program, link) {
        classifier(ebpf, name)?.detach(link)?;
    }
    Ok(spent / packets as f64)
}

fn attach(ebpf: &mut Ebpf, name: &str) -> Result<SchedClassifierLinkId> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    classifier(ebpf, name)?
        .attach_with_options("vb", TcAttachType::Ingress, options)
        .with_context(|| format!("cannot attach {name}"))
}
