//! An upgrade to another version of the programs, and back, under load: each packet is counted, and counted once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::{MapData, PerCpuArray};
use weir_agent::datapath::{Datapath, DropTypes, Hooks, Options, Pins, Targets};
use weir_agent::model::address::IfIndex;
use weir_netns::packet::Transport;
use weir_netns::topology::{UPLINK, VIP4};
use weir_netns::{Agent, Pair, built};

#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);
static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/weir.o")));

/// The object of a version to come: its ingress program is the one that counts its own runs, too.
fn next_version() -> Vec<u8> {
    let mut object = ALIGNED.0.to_vec();
    rename(&mut object, b"weir_ingress", b"past_ingress");
    rename(&mut object, b"next_ingress", b"weir_ingress");
    object
}

/// Programs are found by their names, in the tables of symbols and of types.
fn rename(object: &mut [u8], from: &[u8], to: &[u8]) {
    let places: Vec<_> =
        (0..object.len() - from.len()).filter(|at| object[*at..].starts_with(from)).collect();
    assert!(places.len() > 1 && from.len() == to.len(), "{places:?}");
    places.into_iter().for_each(|at| object[at..at + to.len()].copy_from_slice(to));
}

/// Takes the pins over as an agent of the next version would, lets `pass` happen, and ends. Returns how often its program ran.
fn be_next_version(pair: &Pair, agent: &Agent<'_>, pass: impl FnOnce() + Send) -> Result<u64> {
    pair.node.run(|| {
        let types = DropTypes::running()?;
        let pins = Pins::hold(agent.pins())?;
        let mut datapath = Datapath::load_object(&next_version(), pins, Options::default(), Some(&types))?;
        Targets::open(&datapath)?;
        let hooks = Hooks::open(&datapath, Hooks::supported_mode())?;
        let uplink = IfIndex::try_from(pair.node.index(UPLINK)?).map_err(|error| anyhow!("{error:?}"))?;
        hooks.attach(&mut datapath, uplink, UPLINK)?;
        pass();
        let map = datapath.map("NEXT_RUNS").context("the next version has no counter of its own")?;
        let runs: PerCpuArray<&MapData, u64> = map.try_into()?;
        Ok(runs.get(&0, 0)?.iter().sum())
    })
}

#[test]
fn another_version_of_the_programs_takes_over_under_load() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable() {
        eprintln!("SKIPPED another_version_of_the_programs_takes_over_under_load: {reason}");
        return Ok(());
    }
    let pair = Pair::new()?;
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &["--interface", UPLINK, "--vip", VIP4])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    let frame = pair.to_vip(VIP4, &[], Transport::Udp { source: 4000, destination: 5000 }, 100)?.frame();
    let wire = pair.wire()?;
    let before = pair.quiet(|| agent.scrape())?;
    let (ended, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let pass = |count| {
        let until = sent.load(Ordering::Relaxed) + count;
        while sent.load(Ordering::Relaxed) < until && !ended.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    };
    let (runs, changes) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                wire.send(&frame)?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        let survived = (|| {
            pass(2_000);
            agent.process()?.stop()?;
            let runs = be_next_version(&pair, &agent, || pass(5_000))?;
            pass(2_000);
            agent.start()?;
            pass(2_000);
            let changes = agent.log_text().matches("measuring at the head").count();
            anyhow::Ok((runs, changes))
        })();
        ended.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow!("the flood panicked"))??;
        survived
    })?;
    let after = pair.quiet(|| agent.scrape())?;
    let sent = sent.into_inner();
    let labels = [("vip", VIP4), ("port", "5000"), ("direction", "ingress")];
    let grown = |name: &str| after.0.count(name, &labels) - before.0.count(name, &labels);
    assert_eq!(grown("weir_vip_packets_total"), sent, "while versions changed");
    assert_eq!(grown("weir_vip_bytes_total"), sent * frame.len() as u64);
    let ingress = [("interface", UPLINK), ("direction", "ingress")];
    let counted = after.0.count("weir_interface_packets_total", &ingress)
        - before.0.count("weir_interface_packets_total", &ingress);
    assert_eq!(counted, (after.1 - before.1).received_packets, "as the kernel counts");
    ensure!(runs >= 5_000, "the next version ran {runs} times");
    ensure!(changes >= 2, "the agent did not say that it took over: {}", agent.log_text());
    agent.process().context("it runs")?.stop()?;
    Ok(())
}
