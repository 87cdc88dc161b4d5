//! Address sets of all rules made tables: for each prefix the rules that accept its addresses.
//!
//! A trie alone is slow where many addresses are looked up. So whole addresses lie in a hash table, and a filter in front
//! says of most other addresses that they are in no prefix at all.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;
use weir_ebpf::Address;
use weir_ebpf::rules::{FILTER_PAGE, FILTER_PAGES, Family, filter_bit_v4, filter_bit_v6, lookup};

use super::compile::{AddressesOf, CompileError, Interner, Words, words};
use super::rule::{Addresses, Rule};

/// Tables of one side, source or destination.
#[derive(Debug, Default)]
pub struct Tables {
    /// IPv4. Keys as they stand in memory.
    pub v4: Table<u32, 4>,
    /// IPv6.
    pub v6: Table<Address, 16>,
}

/// Tables of a family, by numbers of bitmaps.
#[derive(Debug)]
pub struct Table<K, const N: usize> {
    /// What there is.
    pub family: Family,
    /// Words of the filter; none without one.
    pub filter: Vec<u64>,
    /// Whole addresses.
    pub exact: Vec<(K, u32)>,
    /// Prefixes: length in bits, octets.
    pub prefixes: Vec<((u32, [u8; N]), u32)>,
}

impl<K, const N: usize> Default for Table<K, N> {
    fn default() -> Self {
        Self { family: Family::default(), filter: Vec::new(), exact: Vec::new(), prefixes: Vec::new() }
    }
}

/// One prefix of one list, its address in the highest bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    address: u128,
    length: u8,
    /// Twice the number of the list, and one more for what is excepted.
    list: u32,
}

pub(super) fn tables(
    rules: &[Rule],
    of: AddressesOf,
    bitmaps: &mut Interner,
) -> Result<Tables, CompileError> {
    // Rules that share a list have it once.
    let mut lists: Vec<(&Arc<Addresses>, Words)> = Vec::new();
    let mut known: HashMap<*const Addresses, usize> = HashMap::new();
    for (n, addresses) in rules.iter().enumerate().filter_map(|(n, rule)| Some((n, of(rule)?))) {
        let at = *known.entry(Arc::as_ptr(addresses)).or_insert_with(|| {
            lists.push((addresses, [0; _]));
            lists.len() - 1
        });
        lists[at].1[n / 64] |= 1 << (n % 64);
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (list, (addresses, _)) in lists.iter().enumerate() {
        let inside = addresses.inside.iter().flatten().map(|net| (net, 0));
        for (net, except) in inside.chain(addresses.except.iter().map(|net| (net, 1))) {
            let list = list as u32 * 2 + except;
            match net {
                IpNet::V4(net) => v4.push(Entry {
                    address: u128::from(net.addr().to_bits()) << 96,
                    length: net.prefix_len(),
                    list,
                }),
                IpNet::V6(net) => {
                    v6.push(Entry { address: net.addr().to_bits(), length: net.prefix_len(), list })
                }
            }
        }
    }
    let unbound = words(rules, |rule| of(rule).is_none());
    let mut sweep = Sweep::new(unbound, &lists, bitmaps);
    let (outside, found) = sweep.run(v4)?;
    let v4 = table_v4(outside, &found);
    let (outside, found) = sweep.run(v6)?;
    Ok(Tables { v4, v6: table_v6(outside, &found) })
}

/// A prefix and the bitmap of its addresses that are in no longer prefix.
type Found = (u128, u8, u16);

/// Goes through prefixes in order, so that each one's ancestors are at hand.
struct Sweep<'a> {
    unbound: Words,
    lists: &'a [(&'a Arc<Addresses>, Words)],
    bitmaps: &'a mut Interner,
    /// Rules whose list holds the address, and rules whose list excepts it.
    states: Vec<(Words, Words)>,
    numbers: HashMap<(Words, Words), u32>,
    steps: HashMap<(u32, u32), u32>,
}

impl<'a> Sweep<'a> {
    fn new(unbound: Words, lists: &'a [(&'a Arc<Addresses>, Words)], bitmaps: &'a mut Interner) -> Self {
        // Lists that only except hold everything from the start.
        let mut all = [0; _];
        for (_, rules) in lists.iter().filter(|(addresses, _)| addresses.inside.is_none()) {
            join(&mut all, rules);
        }
        let root = (all, [0; _]);
        Self {
            unbound,
            lists,
            bitmaps,
            states: vec![root],
            numbers: HashMap::from([(root, 0)]),
            steps: HashMap::new(),
        }
    }

    /// The bitmap outside of all prefixes, and what differs inside.
    fn run(&mut self, mut entries: Vec<Entry>) -> Result<(u16, Vec<Found>), CompileError> {
        entries.sort_unstable();
        let outside = self.bitmap(0)?;
        let mut found = Vec::with_capacity(entries.len());
        // Prefixes around the present one: last address, state, bitmap.
        let mut around: Vec<(u128, u32, u16)> = Vec::new();
        for same in entries.chunk_by(|a, b| (a.address, a.length) == (b.address, b.length)) {
            let Entry { address, length, .. } = same[0];
            while around.last().is_some_and(|(last, ..)| *last < address) {
                around.pop();
            }
            let (mut state, before) =
                around.last().map_or((0, outside), |(_, state, bitmap)| (*state, *bitmap));
            for entry in same {
                state = self.step(state, entry.list);
            }
            let bitmap = self.bitmap(state)?;
            if bitmap != before {
                found.push((address, length, bitmap));
            }
            let last = address | u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            around.push((last, state, bitmap));
        }
        Ok((outside, found))
    }

    fn step(&mut self, state: u32, list: u32) -> u32 {
        if let Some(next) = self.steps.get(&(state, list)) {
            return *next;
        }
        let (mut inside, mut except) = self.states[state as usize];
        join(if list & 1 == 0 { &mut inside } else { &mut except }, &self.lists[list as usize / 2].1);
        let states = &mut self.states;
        let next = *self.numbers.entry((inside, except)).or_insert_with(|| {
            states.push((inside, except));
            states.len() as u32 - 1
        });
        self.steps.insert((state, list), next);
        next
    }

    fn bitmap(&mut self, state: u32) -> Result<u16, CompileError> {
        let (inside, except) = &self.states[state as usize];
        let words = std::array::from_fn(|n| self.unbound[n] | inside[n] & !except[n]);
        self.bitmaps.number(words)
    }
}

fn join(words: &mut Words, more: &Words) {
    words.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
}

fn table_v4(outside: u16, found: &[Found]) -> Table<u32, 4> {
    let mut table = Table::default();
    for &(address, length, bitmap) in found {
        let octets = ((address >> 96) as u32).to_be_bytes();
        match length {
            32 => table.exact.push((u32::from_ne_bytes(octets), bitmap.into())),
            _ => table.prefixes.push(((length.into(), octets), bitmap.into())),
        }
    }
    // Prefixes shorter than 24 bits hold several blocks of 24.
    let blocks = |length: u8| 1usize << 24u8.saturating_sub(length);
    let filter = filter(found, blocks, |(address, length, _), n, mask| {
        let first = (address >> 96) as u32;
        filter_bit_v4(if length < 24 { first + ((n as u32) << 8) } else { first }, mask)
    });
    finish(&mut table, outside, filter);
    table
}

fn table_v6(outside: u16, found: &[Found]) -> Table<Address, 16> {
    let mut table = Table::default();
    for &(address, length, bitmap) in found {
        let octets = address.to_be_bytes();
        match length {
            128 => table.exact.push((Address::from(octets), bitmap.into())),
            _ => table.prefixes.push(((length.into(), octets), bitmap.into())),
        }
    }
    let blocks = |length: u8| 1usize << 32u8.saturating_sub(length);
    let filter = filter(found, blocks, |(address, length, _), n, mask| {
        let first = (address >> 96) as u32;
        filter_bit_v6(if length < 32 { first + n as u32 } else { first }, mask)
    });
    finish(&mut table, outside, filter);
    table
}

/// The most bits of a filter.
const MOST: usize = FILTER_PAGE * FILTER_PAGES as usize * 64;

/// A filter in which about one bit of 64 is set, of very long lists more, and its mask; `None` where it would say nothing. Each bit
/// that is set in vain costs look-ups far apart in memory.
fn filter(
    found: &[Found],
    blocks: impl Fn(u8) -> usize,
    bit: impl Fn(Found, usize, u32) -> u32,
) -> Option<(Vec<u64>, u32)> {
    let mut taken = 0usize;
    for (_, length, _) in found {
        taken = taken.saturating_add(blocks(*length));
    }
    if found.is_empty() || taken > MOST / 4 {
        return None;
    }
    let bits = (taken * 64).next_power_of_two().clamp(FILTER_PAGE * 64, MOST);
    let mask = bits as u32 - 1;
    let mut words = vec![0u64; bits / 64];
    for one in found {
        for n in 0..blocks(one.1) {
            let bit = bit(*one, n, mask);
            words[bit as usize / 64] |= 1 << (bit % 64);
        }
    }
    Some((words, mask))
}

fn finish<K, const N: usize>(table: &mut Table<K, N>, outside: u16, filter: Option<(Vec<u64>, u32)>) {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    table.family = Family {
        lookups: flag(filter.is_some(), lookup::FILTER)
            | flag(!table.exact.is_empty(), lookup::EXACT)
            | flag(!table.prefixes.is_empty(), lookup::TRIE),
        mask: filter.as_ref().map_or(0, |(_, mask)| *mask),
        outside: outside.into(),
        reserved: 0,
    };
    table.filter = filter.map(|(words, _)| words).unwrap_or_default();
}

impl<K: Copy + PartialEq, const N: usize> Table<K, N> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
