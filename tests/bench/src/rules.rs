//! Rule sets in the kernel, for the benchmarks of enforcement.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use weir_agent::datapath::{Datapath, Guard, Options, Pins, Targets};
use weir_agent::model::address::{Direction, IfIndex};
use weir_agent::model::policy::kind::Mode;
use weir_agent::model::policy::{Action, Addresses, Contents, Rule, RuleSet, compile};
use weir_ebpf::rules::Control;

use crate::kernel::{BpfFs, OBJECT};

/// The programs of the benchmarks, and the real ones with their rules.
pub(crate) struct Enforced {
    guard: Guard,
    pub(crate) datapath: Datapath,
    // Last: the maps are pinned in it.
    _fs: BpfFs,
}

impl Enforced {
    pub(crate) fn load(label: &str, classifiers: &[&'static str]) -> Result<Self> {
        let fs = BpfFs::mount(label)?;
        let pins = Pins::hold(&fs.0.join("weir"))?;
        let mut datapath = Datapath::load_object(OBJECT, pins, Options::default(), None)?;
        Targets::open(&datapath)?;
        let guard = Guard::open(&mut datapath)?;
        classifiers.iter().try_for_each(|name| datapath.load_classifier(name))?;
        Ok(Self { guard, datapath, _fs: fs })
    }

    /// Puts rules into force, for good.
    pub(crate) fn enforce(&mut self, rules: Vec<Rule>) -> Result<()> {
        let contents = self.compile(rules)?;
        self.put(&contents)
    }

    /// Puts what the maps will hold into force.
    pub(crate) fn put(&mut self, contents: &Contents) -> Result<()> {
        let slot = self.guard.free_slot();
        self.guard.fill(slot, contents)?;
        self.guard.set_control(Control::new(slot, slot, None, false))?;
        Ok(())
    }

    /// What the maps will hold.
    pub(crate) fn compile(&mut self, rules: Vec<Rule>) -> Result<Contents> {
        let set = RuleSet { rules, ..RuleSet::default() };
        let (unparsable, numbers) = self.guard.counters(&set.rules)?;
        let mut numbers = numbers.into_iter();
        Ok(compile(&set, 1, unparsable, |_| numbers.next().unwrap_or(unparsable))?)
    }

    /// Interfaces on which rules act by XDP.
    pub(crate) fn early(&self) -> Vec<(IfIndex, &'static str)> {
        self.guard.early()
    }

    /// Packets that all rules together have dropped.
    pub(crate) fn dropped(&self) -> Result<u64> {
        Ok(self.guard.counted()?.iter().map(|one| one.count.dropped).sum())
    }
}

/// An enforced rule that drops what comes from these prefixes.
pub(crate) fn deny(name: &str, prefixes: impl IntoIterator<Item = Ipv4Net>) -> Rule {
    let inside = Some(prefixes.into_iter().map(IpNet::V4).collect());
    Rule {
        source: Some(Arc::new(Addresses { inside, except: Vec::new() })),
        ..Rule::new("bench", name, Mode::Enforce, Direction::Ingress, Action::Deny)
    }
}

/// So many prefixes as block lists have them, spread over all addresses: whole ones, and every fourth a /24. None lies in another.
/// A shorter list is a part of a longer one.
pub(crate) fn block_list(size: usize) -> Vec<Ipv4Net> {
    let mut draw = Draw::new();
    let mut list = std::collections::BTreeSet::new();
    while list.len() < size {
        // Even blocks of 256 addresses have the /24.
        let drawn = draw.next();
        let (address, length) = if list.len() % 4 == 0 { (drawn & !0x100, 24) } else { (drawn | 0x100, 32) };
        list.insert(Ipv4Net::new_assert(address.into(), length).trunc());
    }
    list.into_iter().collect()
}

/// Sources in network order: of the prefixes, drawn evenly, or from everywhere but there.
pub(crate) fn sources(list: &[Ipv4Net], hit: bool) -> Vec<u32> {
    let mut draw = Draw::new();
    let nets: HashSet<&Ipv4Net> = list.iter().collect();
    let is_listed = |address: u32| {
        [24, 32].into_iter().any(|length| nets.contains(&Ipv4Net::new_assert(address.into(), length).trunc()))
    };
    let mut one = || loop {
        let drawn = draw.next();
        let net = list[drawn as usize % list.len()];
        let address = if hit { net.addr().to_bits() | drawn & net.hostmask().to_bits() } else { drawn };
        if is_listed(address) == hit {
            return address.to_be();
        }
    };
    (0..crate::flows::SEQUENCE).map(|_| one()).collect()
}

/// xorshift64: even enough, and the same every time.
struct Draw(u64);

impl Draw {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
}

/// A set for nft(8), with these prefixes or addresses.
pub(crate) fn nft_elements(list: &[Ipv4Net]) -> Result<String> {
    use std::fmt::Write;
    let mut text = String::new();
    for net in list {
        write!(text, "{net},").context("a text takes everything")?;
    }
    Ok(text)
}
