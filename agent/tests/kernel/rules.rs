//! Policies put into force, and packets judged by them.

use weir_agent::model::address::{Direction, IfIndex};
use weir_agent::model::policy::kind::DatapathPolicy;
use weir_agent::model::policy::{Packet, Rule, RuleSet, Source, World, compile, failsafe};
use weir_ebpf::rules::Control;

use super::{Kernel, LOOPBACK, chain};

pub fn lo() -> IfIndex {
    IfIndex::try_from(LOOPBACK).unwrap()
}

/// Puts rules into force and confirms them.
pub fn enforce(kernel: &mut Kernel, set: &RuleSet) {
    let slot = fill(kernel, set);
    kernel.guard.set_control(Control::new(slot, slot, None, false)).unwrap();
}

pub fn fill(kernel: &mut Kernel, set: &RuleSet) -> u32 {
    let (unparsable, numbers) = kernel.guard.counters(&set.rules).unwrap();
    let mut numbers = numbers.into_iter();
    let contents = compile(set, 1, unparsable, |_| numbers.next().unwrap()).unwrap();
    kernel.guard.secure(&failsafe::all(&set.failsafe)).unwrap();
    let slot = kernel.guard.free_slot();
    kernel.guard.fill(slot, &contents).unwrap_or_else(|error| panic!("{}", chain(&error)));
    slot
}

/// Packets that each rule passed, dropped, and the failsafe saved.
pub fn counts(kernel: &Kernel, set: &RuleSet) -> Vec<(u64, u64, u64)> {
    let of = |rule: &Rule| kernel.guard.count_of(&rule.full_name(), rule.mode).unwrap();
    set.rules.iter().map(|rule| (of(rule).passed, of(rule).dropped, of(rule).saved)).collect()
}

pub fn dropped(kernel: &Kernel, direction: Direction, frame: &[u8]) -> bool {
    kernel.guard.drops(direction, LOOPBACK, frame).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub fn policy(text: &str, files: &[(&str, &str)]) -> Source {
    let policy: DatapathPolicy = serde_saphyr::from_str(text).unwrap();
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), Ok((*text).to_owned()))).collect();
    Source { policy, files }
}

pub fn world() -> World {
    World { node: "node-1".into(), links: [(lo(), "lo".to_owned())].into(), ..World::default() }
}

pub fn tcp(from: &str, to: &str, port: u16, flags: u8) -> Packet {
    Packet {
        direction: Direction::Ingress,
        interface: lo(),
        vlan: None,
        source: from.parse().unwrap(),
        destination: to.parse().unwrap(),
        protocol: 6,
        ports: Some((40_000, port)),
        icmp: None,
        flags: Some(flags),
        deep: false,
        claim: None,
        length: 54,
        segments: 1,
    }
}
