//! Rules made the contents of maps.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use bytemuck::Zeroable;
use thiserror::Error;
use weir_ebpf::rules::{
    BITMAPS, Bitmap, EVERY, HOOK_PLACES, Head, NONE, Rule as RuleEntry, UNTAGGED_PLACE, WAYS, WORDS, action,
    claimant, dimension, rule_flag, unit,
};

use super::kind::Mode;
use super::prefixes::{self, Tables};
use super::rule::{Action, Addresses, Rule, RuleSet, Unit};
use crate::model::address::{Direction, IfIndex, Mac};

/// What the maps of a slot hold.
pub struct Contents {
    /// The first thing read, and small tables.
    pub head: Box<Head>,
    /// Bitmaps by number.
    pub bitmaps: Vec<Bitmap>,
    /// Rules by number.
    pub rules: Vec<RuleEntry>,
    /// Bitmaps of source ports, then of destination ports; nothing where no rule has ports.
    pub ports: Vec<u16>,
    /// Sources and destinations.
    pub addresses: [Tables; 2],
    /// Who may claim virtual addresses, and the bitmap of each.
    pub claimants: Vec<(u64, u32)>,
}

/// The rules are valid, but do not fit.
#[derive(Debug, Error)]
pub enum CompileError {
    /// More different combinations of rules than there is room for.
    #[error(
        "the rules fall into more than {BITMAPS} combinations of addresses and ports; join sets that overlap"
    )]
    Bitmaps,
    /// The interfaces have no places.
    #[error("the rules name more interfaces than {HOOK_PLACES} places take")]
    Interfaces,
}

/// Compiles. `counter` gives a rule the number of its counters; `generation` is only kept.
///
/// # Errors
/// When the rules do not fit.
pub fn compile(
    set: &RuleSet,
    generation: u32,
    unparsable_counter: u32,
    mut counter: impl FnMut(&Rule) -> u32,
) -> Result<Contents, CompileError> {
    let rules = &set.rules[..];
    let mut bitmaps = Interner::default();
    let mut head = Box::new(Head::zeroed());
    head.generation = generation;
    head.drop_unparsable = u32::from(set.drop_unparsable);
    head.unparsable_counter = unparsable_counter;
    hooks(&mut head, &mut bitmaps, rules)?;
    protocols(&mut head, &mut bitmaps, rules)?;
    small_tables(&mut head, &mut bitmaps, rules)?;
    let ports = ports(&mut head, &mut bitmaps, rules)?;
    let claimants = claims(&mut head, &mut bitmaps, rules)?;
    let mut addresses = [Tables::default(), Tables::default()];
    let sides: [(u32, AddressesOf); 2] = [
        (dimension::SOURCE, |rule| rule.source.as_ref()),
        (dimension::DESTINATION, |rule| rule.destination.as_ref()),
    ];
    for (side, (bit, of)) in sides.into_iter().enumerate() {
        if rules.iter().any(|rule| of(rule).is_some()) {
            head.dimensions |= bit;
            addresses[side] = prefixes::tables(rules, of, &mut bitmaps)?;
            head.families[0][side] = addresses[side].v4.family;
            head.families[1][side] = addresses[side].v6.family;
        }
    }
    let rules = rules.iter().map(|rule| entry(rule, counter(rule))).collect();
    Ok(Contents { head, bitmaps: bitmaps.list, rules, ports, addresses, claimants })
}

/// One side's addresses of a rule.
pub(super) type AddressesOf = fn(&Rule) -> Option<&std::sync::Arc<Addresses>>;
/// One side's ports of a rule.
type PortsOf = fn(&Rule) -> &[RangeInclusive<u16>];

fn entry(rule: &Rule, counter: u32) -> RuleEntry {
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let mut entry = RuleEntry {
        counter,
        flags: flag(rule.mode == Mode::Audit, rule_flag::AUDIT)
            | flag(rule.past_failsafe, rule_flag::NO_FAILSAFE)
            | flag(rule.pairs, rule_flag::PAIRS)
            | flag(rule.reject, rule_flag::REJECT),
        ..RuleEntry::default()
    };
    entry.action = match rule.action {
        Action::Allow => action::ALLOW,
        Action::Deny => action::DENY,
        Action::Rate(_) => action::RATE,
        Action::Mark(_) => action::MARK,
        Action::Pace(_) => action::PACE,
    };
    match rule.action {
        Action::Mark(dscp) => entry.dscp = dscp,
        Action::Rate(budget) | Action::Pace(budget) => {
            entry.unit = match budget.unit {
                Unit::Packets => unit::PACKETS,
                Unit::Bytes => unit::BYTES,
                Unit::Connections => unit::CONNECTIONS,
            };
            (entry.cost, entry.burst) = (budget.cost, budget.burst);
            entry.flags |= flag(budget.per_source.is_some(), rule_flag::PER_SOURCE)
                | flag(budget.per_destination, rule_flag::PER_DESTINATION);
            let (v4, v6) = budget.per_source.unwrap_or_default();
            entry.prefix_bits = [v4, v6];
        }
        Action::Allow | Action::Deny => {}
    }
    entry
}

/// A set of rules.
pub(super) type Words = [u64; WORDS];

/// Bitmaps, each once.
pub(super) struct Interner {
    list: Vec<Bitmap>,
    numbers: HashMap<Words, u16>,
}

impl Default for Interner {
    fn default() -> Self {
        let (every, none) = ([u64::MAX; WORDS], [0; WORDS]);
        Self {
            list: vec![Bitmap::new(every), Bitmap::new(none)],
            numbers: HashMap::from([(every, EVERY), (none, NONE)]),
        }
    }
}

impl Interner {
    pub(super) fn number(&mut self, words: Words) -> Result<u16, CompileError> {
        if let Some(number) = self.numbers.get(&words) {
            return Ok(*number);
        }
        let number = u16::try_from(self.list.len()).ok().filter(|&number| u32::from(number) < BITMAPS);
        let number = number.ok_or(CompileError::Bitmaps)?;
        self.list.push(Bitmap::new(words));
        self.numbers.insert(words, number);
        Ok(number)
    }

    /// The bitmap of the rules that `takes` accepts.
    fn of(&mut self, rules: &[Rule], takes: impl Fn(&Rule) -> bool) -> Result<u16, CompileError> {
        self.number(words(rules, takes))
    }
}

/// The rules that `takes` accepts.
pub(super) fn words(rules: &[Rule], takes: impl Fn(&Rule) -> bool) -> Words {
    let mut words = [0; WORDS];
    for (n, _) in rules.iter().enumerate().filter(|(_, rule)| takes(rule)) {
        words[n / 64] |= 1 << (n % 64);
    }
    words
}

fn hooks(head: &mut Head, bitmaps: &mut Interner, rules: &[Rule]) -> Result<(), CompileError> {
    head.dimensions |= dimension::HOOK;
    let mut named: Vec<IfIndex> =
        rules.iter().filter_map(|rule| rule.interfaces.as_ref()).flatten().copied().collect();
    named.sort_unstable();
    named.dedup();
    let place = |multiplier: u32, index: IfIndex| (u32::from(index).wrapping_mul(multiplier) >> 24) as usize;
    // Odd multipliers, until no two interfaces have the same place.
    let free = |multiplier: &u32| {
        let mut taken = [false; HOOK_PLACES];
        named.iter().all(|index| !std::mem::replace(&mut taken[place(*multiplier, *index)], true))
    };
    let candidates = (0..100_000u32).map(|n| 0x9e37_79b1u32.wrapping_add(n.wrapping_mul(0x0100_0002)) | 1);
    head.multiplier = { candidates }.find(free).ok_or(CompileError::Interfaces)?;
    let ways: [fn(&Rule) -> bool; WAYS] = [
        |rule| rule.direction == Direction::Ingress && rule.claimants.is_none(),
        |rule| rule.direction == Direction::Egress && rule.claimants.is_none(),
        |rule| rule.direction == Direction::Ingress,
        |rule| rule.direction == Direction::Ingress && rule.claimants.is_some(),
    ];
    for (n, comes) in ways.into_iter().enumerate() {
        head.elsewhere[n] = bitmaps.of(rules, |rule| comes(rule) && rule.interfaces.is_none())?;
        for index in &named {
            let at = &mut head.hooks[place(head.multiplier, *index)];
            at.interface = (*index).into();
            at.bitmaps[n] = bitmaps.of(rules, |rule| {
                comes(rule) && rule.interfaces.as_ref().is_none_or(|all| all.contains(index))
            })?;
        }
    }
    Ok(())
}

/// Claims stand where TCP flags would, which they have not.
fn claims(head: &mut Head, bitmaps: &mut Interner, rules: &[Rule]) -> Result<Vec<(u64, u32)>, CompileError> {
    let mut named: Vec<Mac> =
        rules.iter().filter_map(|rule| rule.claimants.as_ref()).flatten().copied().collect();
    if rules.iter().all(|rule| rule.claimants.is_none()) {
        return Ok(Vec::new());
    }
    named.sort_unstable();
    named.dedup();
    head.dimensions |= dimension::CLAIM;
    head.claims = bitmaps.of(rules, |rule| rule.flags.is_none())?;
    named
        .into_iter()
        .map(|mac| {
            let may = |rule: &Rule| rule.claimants.as_ref().is_some_and(|all| all.contains(&mac));
            let number = bitmaps.of(rules, |rule| rule.flags.is_none() && !may(rule))?;
            Ok((claimant(mac.0), number.into()))
        })
        .collect()
}

fn protocols(head: &mut Head, bitmaps: &mut Interner, rules: &[Rule]) -> Result<(), CompileError> {
    if rules.iter().all(|rule| rule.protocol.is_none()) {
        return Ok(());
    }
    head.dimensions |= dimension::PROTOCOL;
    let takes = |rule: &Rule, protocol: u8, kind: Option<u8>| {
        rule.protocol.is_none_or(|wanted| wanted == protocol)
            && (rule.icmp_types.is_empty() || kind.is_some_and(|kind| rule.icmp_types.contains(&kind)))
    };
    for n in 0..=255u8 {
        let at = usize::from(n);
        head.protocols[at] = bitmaps.of(rules, |rule| takes(rule, n, None))?;
        head.icmp[at] = bitmaps.of(rules, |rule| takes(rule, 1, Some(n)))?;
        head.icmpv6[at] = bitmaps.of(rules, |rule| takes(rule, 58, Some(n)))?;
    }
    Ok(())
}

fn small_tables(head: &mut Head, bitmaps: &mut Interner, rules: &[Rule]) -> Result<(), CompileError> {
    if rules.iter().any(|rule| !rule.vlans.is_empty()) {
        head.dimensions |= dimension::VLAN;
        // Only identifiers that rules name differ from each other.
        let rest = bitmaps.of(rules, |rule| rule.vlans.is_empty() || rule.other_vlans)?;
        head.vlans = [rest; 4_100];
        let mut named: Vec<Option<u16>> = rules.iter().flat_map(|rule| rule.vlans.clone()).collect();
        named.sort_unstable();
        named.dedup();
        for vlan in named {
            let place = vlan.map_or(UNTAGGED_PLACE, |vlan| usize::from(vlan & 0x0fff));
            head.vlans[place] = bitmaps.of(rules, |rule| rule.takes_vlan(vlan))?;
        }
    }
    if rules.iter().any(|rule| !rule.classes.is_empty()) {
        head.dimensions |= dimension::CLASS;
        for n in 0..32u8 {
            head.classes[usize::from(n)] =
                bitmaps.of(rules, |rule| rule.classes.is_empty() || rule.classes.contains(&n))?;
        }
    }
    if rules.iter().any(|rule| rule.flags.is_some()) {
        head.dimensions |= dimension::FLAGS;
        head.flagless = bitmaps.of(rules, |rule| rule.flags.is_none())?;
        for n in 0..=255u8 {
            head.flags[usize::from(n)] = bitmaps
                .of(rules, |rule| rule.flags.is_none_or(|(set, unset)| n & set == set && n & unset == 0))?;
        }
    }
    Ok(())
}

fn ports(head: &mut Head, bitmaps: &mut Interner, rules: &[Rule]) -> Result<Vec<u16>, CompileError> {
    let sides: [(u32, PortsOf); 2] = [
        (dimension::SOURCE_PORT, |rule| &rule.source_ports),
        (dimension::DESTINATION_PORT, |rule| &rule.ports),
    ];
    if sides.iter().all(|(_, of)| rules.iter().all(|rule| of(rule).is_empty())) {
        return Ok(Vec::new());
    }
    let mut table = vec![EVERY; 2 * 65_536];
    for (side, (bit, of)) in sides.into_iter().enumerate() {
        if rules.iter().all(|rule| of(rule).is_empty()) {
            continue;
        }
        head.dimensions |= bit;
        head.portless[side] = bitmaps.of(rules, |rule| of(rule).is_empty())?;
        let mut starts: Vec<u32> = vec![0, 65_536];
        for range in rules.iter().flat_map(of) {
            starts.extend([u32::from(*range.start()), u32::from(*range.end()) + 1]);
        }
        starts.sort_unstable();
        starts.dedup();
        // From one start to the next the same rules take every port.
        for pair in starts.windows(2) {
            let port = pair[0] as u16;
            let takes =
                |rule: &Rule| of(rule).is_empty() || of(rule).iter().any(|range| range.contains(&port));
            let number = bitmaps.of(rules, takes)?;
            let base = side << 16;
            table[base + pair[0] as usize..base + pair[1] as usize].fill(number);
        }
    }
    Ok(table)
}
