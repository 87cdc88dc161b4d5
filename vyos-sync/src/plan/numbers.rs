//! Rule numbers and subnet ids: given once, kept for ever, never the same as a stranger's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::config::Tree;

/// The numbers that were given, by space and key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers(BTreeMap<String, BTreeMap<String, u32>>);

/// A place in which numbers must differ, and those that we may give there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its name, such as `nat source rule`.
    pub name: String,
    /// What we may give.
    pub range: RangeInclusive<u32>,
}

/// Every number of the range is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no free number for `{key}` in {space} {}..{}; give it a wider range in the Router's ruleRanges", .range.start(), .range.end())]
pub struct Exhausted {
    /// For what.
    pub key: String,
    /// Where.
    pub space: String,
    /// What there is.
    pub range: RangeInclusive<u32>,
}

/// The parts of the NAT rule numbers that we use. VyOS tries rules in order, so exclusions come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRanges {
    /// Source NAT: traffic that stays as it is.
    pub exclude: RangeInclusive<u32>,
    /// Destination NAT.
    pub dnat: RangeInclusive<u32>,
    /// Source NAT of traffic that goes back to where it came from.
    pub hairpin: RangeInclusive<u32>,
    /// Source NAT of all the rest.
    pub snat: RangeInclusive<u32>,
}

impl Default for RuleRanges {
    fn default() -> Self {
        Self {
            exclude: 10_000..=19_999,
            dnat: 20_000..=29_999,
            hairpin: 30_000..=39_999,
            snat: 40_000..=49_999,
        }
    }
}

/// The ranges of a Router do not follow each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ruleRanges: {0} must be a part of 1 to 999999 and end before {1} begins")]
pub struct RangeOrder(&'static str, &'static str);

impl RuleRanges {
    /// Whether they are in the order in which rules must be tried: exclude, dnat, hairpin, snat.
    pub fn check(&self) -> Result<(), RangeOrder> {
        let all = [
            ("exclude", &self.exclude),
            ("dnat", &self.dnat),
            ("hairpin", &self.hairpin),
            ("snat", &self.snat),
        ];
        for pair in all.windows(2) {
            if pair[0].1.is_empty() || *pair[0].1.start() == 0 || pair[0].1.end() >= pair[1].1.start() {
                return Err(RangeOrder(pair[0].0, pair[1].0));
            }
        }
        if self.snat.is_empty() || *self.snat.end() > 999_999 {
            Err(RangeOrder("snat", "1000000"))
        } else {
            Ok(())
        }
    }
}

impl Numbers {
    /// The number of a key in a space: the one given before, else the preferred one, else one that its name leads to.
    ///
    /// `foreign` are the numbers that others use there; see [`Numbers::foreign`].
    pub fn give(
        &mut self,
        space: &Space,
        key: &str,
        preferred: Option<u32>,
        foreign: &BTreeSet<u32>,
    ) -> Result<u32, Exhausted> {
        let given = self.0.entry(space.name.clone()).or_default();
        if let Some(number) = given.get(key).filter(|number| !foreign.contains(*number)) {
            return Ok(*number);
        }
        let taken: BTreeSet<u32> = given.values().chain(foreign).copied().collect();
        let free = |number: &u32| space.range.contains(number) && !taken.contains(number);
        let number = preferred.filter(free).or_else(|| probe(space, key, &taken)).ok_or_else(|| {
            Exhausted { key: key.to_owned(), space: space.name.clone(), range: space.range.clone() }
        })?;
        given.insert(key.to_owned(), number);
        Ok(number)
    }

    /// The numbers of many keys at once, the same whatever order the keys come in.
    pub fn give_all(
        &mut self,
        space: &Space,
        keys: &BTreeMap<String, Option<u32>>,
        foreign: &BTreeSet<u32>,
    ) -> BTreeMap<String, Result<u32, Exhausted>> {
        let given = self.0.entry(space.name.clone()).or_default();
        let mut taken: BTreeSet<u32> = given.values().chain(foreign).copied().collect();
        let mut all = BTreeMap::new();
        for (key, preferred) in keys {
            let kept = given.get(key).copied().filter(|number| !foreign.contains(number));
            let wished = preferred.filter(|number| space.range.contains(number) && !taken.contains(number));
            let number = kept.or(wished).or_else(|| probe(space, key, &taken));
            taken.extend(number);
            number.map(|number| given.insert(key.clone(), number));
            let exhausted =
                || Exhausted { key: key.clone(), space: space.name.clone(), range: space.range.clone() };
            all.insert(key.clone(), number.ok_or_else(exhausted));
        }
        all
    }

    /// What was given before.
    pub fn given(&self, space: &str, key: &str) -> Option<u32> {
        self.0.get(space)?.get(key).copied()
    }

    /// Remembers a number that was found on the router.
    pub fn remember(&mut self, space: &str, key: &str, number: u32) {
        self.0.entry(space.to_owned()).or_default().insert(key.to_owned(), number);
    }

    /// The numbers of the tag node `path` (or of its instances' leaf `leaf`) on the router that are not ours.
    pub fn foreign(running: &Tree, owned: &Tree, path: &[&str]) -> BTreeSet<u32> {
        let ours: BTreeSet<&String> = owned.entries(path).map(|(name, _)| name).collect();
        running
            .entries(path)
            .filter(|(name, _)| !ours.contains(name))
            .filter_map(|(name, _)| name.parse().ok())
            .collect()
    }

    /// The `subnet-id`s on the router that are not ours, of both DHCP servers or one.
    pub fn foreign_subnet_ids(running: &Tree, owned: &Tree, server: &str) -> BTreeSet<u32> {
        let path = ["service", server, "shared-network-name"];
        let ids = |tree: &Tree| -> BTreeMap<(String, String), u32> {
            let subnets = tree.entries(&path).flat_map(|(network, node)| {
                let subnets = node.child("subnet").and_then(|node| node.children()).into_iter().flatten();
                subnets.map(move |(subnet, node)| ((network.clone(), subnet.clone()), node.text("subnet-id")))
            });
            subnets.filter_map(|(key, id)| Some((key, id?.parse().ok()?))).collect()
        };
        let ours = ids(owned);
        ids(running).into_iter().filter(|(key, _)| !ours.contains_key(key)).map(|(_, id)| id).collect()
    }
}

/// The slot that the key's hash leads to, or the next free one after it.
fn probe(space: &Space, key: &str, taken: &BTreeSet<u32>) -> Option<u32> {
    let (start, end) = (*space.range.start(), *space.range.end());
    let size = u64::from(end.checked_sub(start)?) + 1;
    let first = start + u32::try_from(hash(key) % size).unwrap_or(0);
    free_from(first, end, taken).or_else(|| free_from(start, first, taken))
}

fn free_from(from: u32, to: u32, taken: &BTreeSet<u32>) -> Option<u32> {
    let mut candidate = from;
    for used in taken.range(from..=to) {
        if *used != candidate {
            break;
        }
        candidate = candidate.checked_add(1)?;
    }
    (candidate <= to).then_some(candidate)
}

/// FNV-1a: stable over releases, unlike the standard library's hasher.
fn hash(key: &str) -> u64 {
    key.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(range: RangeInclusive<u32>) -> Space {
        Space { name: "nat source rule".to_owned(), range }
    }

    #[test]
    fn a_number_once_given_is_kept() {
        let (mut numbers, space) = (Numbers::default(), space(100..=199));
        let first = numbers.give(&space, "lab/a", Some(110), &BTreeSet::new()).unwrap();
        assert_eq!(first, 110);
        assert_eq!(numbers.give(&space, "lab/a", Some(120), &BTreeSet::new()), Ok(110));
        assert_ne!(numbers.give(&space, "lab/b", Some(110), &BTreeSet::new()), Ok(110));
        let foreign = BTreeSet::from([110]);
        assert_ne!(
            numbers.give(&space, "lab/a", Some(110), &foreign),
            Ok(110),
            "unless a stranger has taken it"
        );
    }

    #[test]
    fn a_full_range_is_named() {
        let (mut numbers, space) = (Numbers::default(), space(1..=2));
        numbers.give(&space, "a", None, &BTreeSet::from([2])).unwrap();
        let error = numbers.give(&space, "b", None, &BTreeSet::from([2])).unwrap_err();
        assert!(error.to_string().contains("no free number for `b` in nat source rule 1..2"));
    }

    #[test]
    fn rule_ranges_are_in_the_order_of_trying() {
        assert_eq!(RuleRanges::default().check(), Ok(()));
        let wrong = RuleRanges { dnat: 5..=6, ..RuleRanges::default() };
        assert!(wrong.check().is_err());
    }

    proptest! {
        #[test]
        fn numbers_differ_whatever_the_keys(keys in proptest::collection::btree_map("[a-z]{1,4}", proptest::option::of(0u32..60), 0..40)) {
            let mut numbers = Numbers::default();
            let foreign = BTreeSet::from([7, 9]);
            let given = numbers.give_all(&space(1..=50), &keys, &foreign);
            let all: Vec<u32> = given.values().map(|number| number.clone().unwrap()).collect();
            let unique: BTreeSet<u32> = all.iter().copied().collect();
            prop_assert_eq!(unique.len(), all.len());
            prop_assert!(unique.is_disjoint(&foreign));
            prop_assert_eq!(numbers.give_all(&space(1..=50), &keys, &foreign), given);
        }
    }
}
