//! The last act: two nodes die silently, one that has BFD and one that has not, and the client counts what it loses.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use weir_netns::topology::VIP4;
use weir_netns::traffic::UDP_PORT;
use weir_netns::wait::until;
use weir_netns::{Agent, Gateway, Lab};

/// For each step; sessions come up after a back-off.
const LIMIT: Duration = Duration::from_secs(60);
/// Conversations of the client, spread over the nodes by their ports, and how often each sends a datagram.
const FLOWS: usize = 64;
const PACE: Duration = Duration::from_millis(100);
/// For echoes that are on their way.
const LATE: Duration = Duration::from_secs(1);

/// Who dies, and what tells the router.
const DEATHS: [(usize, &str); 2] = [(1, "BFD, 3 x 300 ms"), (2, "the hold timer alone, 9 s")];

/// The router's side of BFD with the node that has it.
const BFD: [&str; 4] = [
    "set protocols bfd profile nodes interval receive 300",
    "set protocols bfd profile nodes interval transmit 300",
    "set protocols bfd profile nodes interval multiplier 3",
    "set protocols bgp neighbor 10.10.30.11 bfd profile nodes",
];

/// Plays it. Returns early when interrupted.
pub(crate) fn play(
    lab: &Lab,
    agents: &[Agent<'_>],
    gateway: &mut Gateway<'_>,
    interrupts: &Receiver<()>,
) -> Result<()> {
    println!("\nfailover: a node dies silently; the client sends {FLOWS} flows of datagrams to {VIP4}");
    // It would take back what is done by hand.
    gateway.leave_alone();
    gateway.edit(&BFD.join("\n"))?;
    println!("by hand, on the router:\n  {}", BFD.join("\n  "));
    lab.lose_nothing()?;
    until(
        "BFD is up",
        LIMIT,
        || Ok(agents[DEATHS[0].0].scrape()?.sum("weir_bfd_session_state", &[]) == 3.0),
    )?;
    println!(
        "weirctl bfd, on {}:\n{}",
        lab.nodes[DEATHS[0].0].name(),
        agents[DEATHS[0].0].weirctl(&["bfd"])?
    );
    let gateway = &*gateway;
    let mut told = Vec::new();
    for (index, by) in DEATHS {
        let Some(line) = death(lab, gateway, index, by, interrupts)? else {
            println!("interrupted");
            return Ok(());
        };
        println!("  {line}");
        told.push(line);
    }
    println!("\nhow long the router went on using a dead node:");
    told.iter().for_each(|line| println!("  {line}"));
    Ok(())
}

/// One node's death and return; `None` when interrupted.
fn death(
    lab: &Lab,
    gateway: &Gateway<'_>,
    index: usize,
    by: &str,
    interrupts: &Receiver<()>,
) -> Result<Option<String>> {
    let [v4, _] = Gateway::vips()?;
    let all = lab.nodes.len();
    let interrupted = AtomicBool::new(false);
    let uses = |count: usize| {
        until(&format!("the router uses {count} nodes"), LIMIT, || {
            if interrupts.try_recv() != Err(TryRecvError::Empty) {
                interrupted.store(true, Ordering::Relaxed);
            }
            Ok(interrupted.load(Ordering::Relaxed) || gateway.next_hops(v4)? == count)
        })
    };
    uses(all)?;
    let stream = Stream::start(lab)?;
    stream.await_flow(Duration::from_millis(500))?;
    let (start, before) = (Instant::now(), stream.sent());
    lab.cut(index)?;
    uses(all - 1)?;
    let took = start.elapsed();
    std::thread::sleep(LATE);
    let (sent, lost) = (stream.sent() - before, stream.end()?);
    lab.mend()?;
    if interrupted.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let name = format!("node{}", index + 1);
    Ok(Some(format!("{name}  {by:<26} {:>5.2} s   {lost} of {sent} packets lost", took.as_secs_f64())))
}

/// Datagrams from the client, and their echoes.
struct Stream {
    sent: Arc<AtomicU64>,
    back: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Stream {
    fn start(lab: &Lab) -> Result<Self> {
        let target = SocketAddr::new(VIP4.parse()?, UDP_PORT);
        let (sent, back) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ended = Arc::new(AtomicBool::new(false));
        let sockets: Vec<UdpSocket> = lab.client.run(|| {
            (0..FLOWS)
                .map(|_| {
                    let socket = UdpSocket::bind("0.0.0.0:0")?;
                    socket.connect(target)?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                })
                .collect()
        })?;
        let (going, coming, end) = (Arc::clone(&sent), Arc::clone(&back), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let mut datagram = [0; 64];
            while !end.load(Ordering::Relaxed) {
                let next = Instant::now() + PACE / 10;
                for socket in
                    sockets.iter().skip(usize::try_from(going.load(Ordering::Relaxed))? % 10).step_by(10)
                {
                    socket.send(&[0; 64]).ok();
                    going.fetch_add(1, Ordering::Relaxed);
                }
                for socket in &sockets {
                    while socket.recv(&mut datagram).is_ok() {
                        coming.fetch_add(1, Ordering::Relaxed);
                    }
                }
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            // The last ones are on their way.
            std::thread::sleep(PACE);
            for socket in &sockets {
                while socket.recv(&mut datagram).is_ok() {
                    coming.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        Ok(Self { sent, back, ended, threads: vec![thread] })
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Packets and their echoes pass, for a while.
    fn await_flow(&self, time: Duration) -> Result<()> {
        until("echoes come back", LIMIT, || Ok(self.back.load(Ordering::Relaxed) > FLOWS as u64))?;
        std::thread::sleep(time);
        Ok(())
    }

    /// How many never came back.
    fn end(self) -> Result<u64> {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("the client's thread panicked"))??;
        }
        let (sent, back) = (self.sent.load(Ordering::Relaxed), self.back.load(Ordering::Relaxed));
        ensure!(back <= sent, "{back} echoes of {sent} packets");
        Ok(sent - back)
    }
}
