//! CPU a packet on the whole way from a sender's call to the receiver's socket, in short slices inside one process:
//! on a veth pair the softirq runs on the sender's CPU, so the process's CPU time covers it all.

use std::net::UdpSocket;
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
const LABELS: [&str; 4] = ["nothing", "nothing again (A/A)", "empty program", "weir_ingress"];
const PROGRAMS: [Option<&str>; 4] = [None, None, Some("bench_empty"), Some("weir_ingress")];

pub(crate) fn measure(effort: Effort) -> Result<()> {
    let (sender, receiver) = (Namespace::new("bench-a")?, Namespace::new("bench-b")?);
    sender.veth("va", &receiver, "vb")?;
    sender.address("va", "10.99.0.1/24")?;
    receiver.address("vb", "10.99.0.2/24")?;
    for (flows, bar) in [(1usize, 1.03), (1_000, 1.06)] {
        println!("  {flows} flows, 18 octets of UDP payload");
        let sink = receiver.run(|| Ok(UdpSocket::bind("10.99.0.2:9998")?))?;
        let sockets = sender.run(|| connected(flows))?;
        let measured = receiver.run(|| {
            pin_to_last_cpu()?;
            let mut ebpf = load(&["bench_empty", "weir_ingress"])?;
            Rounds::run(&LABELS, effort.slices, |n| slice(&mut ebpf, PROGRAMS[n], &sockets))
        })?;
        drop(sink);
        measured.print("ns/packet");
        measured.ratio(1, 0).judge_same();
        measured.ratio(3, 0).judge("with ours / without", bar);
    }
    Ok(())
}

fn connected(flows: usize) -> Result<Vec<UdpSocket>> {
    let one = |_| -> Result<UdpSocket> {
        let socket = UdpSocket::bind("10.99.0.1:0")?;
        socket.connect("10.99.0.2:9998")?;
        Ok(socket)
    };
    (0..flows).map(one).collect()
}

fn slice(ebpf: &mut Ebpf, program: Option<&str>, sockets: &[UdpSocket]) -> Result<f64> {
    let link = program.map(|name| attach(ebpf, name)).transpose()?;
    let mut packets = 0u64;
    sockets.iter().take(64).for_each(|socket| drop(socket.send(&[0; 18])));
    let (began, before) = (Instant::now(), cpu_nanos());
    let mut at = 0;
    while began.elapsed() < SLICE {
        for _ in 0..64 {
            // A full receive buffer drops at the receiver, after all that is measured.
            packets += u64::from(sockets[at].send(&[0; 18]).is_ok());
            at = (at + 1) % sockets.len();
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
