//! CPU a TCP round trip with and without the program on the sockets of a cgroup.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::sock_ops::SockOpsLinkId;
use aya::programs::{CgroupAttachMode, SockOps};
use weir_netns::Cgroup;

use crate::Effort;
use crate::kernel::{load, pin_to_last_cpu};
use crate::stats::{Rounds, cpu_nanos};

const SLICE: Duration = Duration::from_millis(15);
const LABELS: [&str; 3] = ["nothing", "nothing again (A/A)", "weir_tcp"];

pub(crate) fn measure(effort: Effort) -> Result<()> {
    pin_to_last_cpu()?;
    let cgroup = Cgroup::new("bench")?;
    std::fs::write(cgroup.path().join("cgroup.procs"), std::process::id().to_string())
        .context("cannot enter the benchmark's cgroup")?;
    let result = in_cgroup(effort, &File::open(cgroup.path())?);
    let root = cgroup.path().parent().context("a cgroup has a parent")?;
    std::fs::write(root.join("cgroup.procs"), std::process::id().to_string())
        .context("cannot leave the cgroup")?;
    result
}

fn in_cgroup(effort: Effort, cgroup: &File) -> Result<()> {
    let mut ebpf = load(&[])?;
    program(&mut ebpf)?.load()?;
    let measured = Rounds::run(&LABELS, effort.slices, |n| slice(&mut ebpf, cgroup, n == 2))?;
    measured.print("ns/trip  ");
    measured.ratio(1, 0).judge_same();
    measured.ratio(2, 0).judge("with ours / without", 1.045);
    Ok(())
}

fn program(ebpf: &mut Ebpf) -> Result<&mut SockOps> {
    Ok(ebpf.program_mut("weir_tcp").context("no program weir_tcp")?.try_into()?)
}

/// A connection of its own a slice: callbacks are asked for when a connection begins.
fn slice(ebpf: &mut Ebpf, cgroup: &File, measured: bool) -> Result<f64> {
    let link: Option<SockOpsLinkId> =
        if measured { Some(program(ebpf)?.attach(cgroup, CgroupAttachMode::Single)?) } else { None };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut octet = [7u8];
    let mut trips = 0u64;
    let (began, before) = (Instant::now(), cpu_nanos());
    while began.elapsed() < SLICE {
        for _ in 0..16 {
            client.write_all(&octet)?;
            server.read_exact(&mut octet)?;
            server.write_all(&octet)?;
            client.read_exact(&mut octet)?;
            trips += 1;
        }
    }
    let spent = cpu_nanos() - before;
    if let Some(link) = link {
        program(ebpf)?.detach(link)?;
    }
    Ok(spent / trips as f64)
}
