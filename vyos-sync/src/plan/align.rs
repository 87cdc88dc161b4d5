//! Other spellings of the same address: VyOS keeps names verbatim, so what is there decides how we write it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv6Addr;

use super::desired::{Claim, Desired};
use super::ledger::Ledger;
use crate::config::{Children, ConfigPath, Node, Tree, Values};

/// The one spelling of an IPv6 address, prefix or range, or of a MAC address. `None` for all else.
pub fn canonical(word: &str) -> Option<String> {
    if !word.contains(':') {
        return None;
    }
    if let Some((low, high)) = word.split_once('-') {
        return Some(format!("{}-{}", canonical(low)?, canonical(high)?));
    }
    let (address, length) =
        word.split_once('/').map_or((word, None), |(address, length)| (address, Some(length)));
    let bare = address.strip_prefix('!').unwrap_or(address);
    let negation = if bare.len() < address.len() { "!" } else { "" };
    match (bare.parse::<Ipv6Addr>(), length) {
        (Ok(address), Some(length)) => Some(format!("{negation}{address}/{}", length.parse::<u8>().ok()?)),
        (Ok(address), None) => Some(format!("{negation}{address}")),
        (Err(_), _) => is_mac(word).then(|| word.to_ascii_lowercase()),
    }
}

fn is_mac(word: &str) -> bool {
    word.len() == 17
        && word.split(':').all(|octet| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The desired state, spelled as the router spells it.
pub(super) fn desired<'a>(desired: &'a Desired, running: &Tree) -> Cow<'a, Desired> {
    let mut spell = Spellings::default();
    if !spell.differs(desired.tree().children(), running.children()) {
        return Cow::Borrowed(desired);
    }
    let (tree, claims, takeovers) = desired.clone().into_parts();
    let mut aligned = BTreeMap::new();
    for (path, claim) in claims {
        let path = spell.path(&path, running);
        let claim = members(claim, running.at(&path));
        aligned.insert(path, claim);
    }
    Cow::Owned(Desired::from_parts(spell.tree(tree, running), aligned, takeovers))
}

/// The ledger, spelled as the router spells it.
pub(super) fn ledger<'a>(ledger: &'a Ledger, running: &Tree) -> Cow<'a, Ledger> {
    let mut spell = Spellings::default();
    if ![&ledger.owned, &ledger.pending]
        .into_iter()
        .any(|tree| spell.differs(tree.children(), running.children()))
    {
        return Cow::Borrowed(ledger);
    }
    Cow::Owned(Ledger {
        owned: spell.tree(ledger.owned.clone(), running),
        pending: spell.tree(ledger.pending.clone(), running),
        claims: ledger.claims.iter().map(|(at, mark)| (spell.path(at, running), mark.clone())).collect(),
        made: ledger.made.iter().map(|at| spell.path(at, running)).collect(),
        numbers: ledger.numbers.clone(),
    })
}

fn members(claim: Claim, running: Option<&Node>) -> Claim {
    match (claim, running.and_then(Node::values)) {
        (Claim::Members(members), Some(there)) => {
            let mut aligned = BTreeMap::<String, BTreeSet<_>>::new();
            for (value, owners) in members {
                aligned.entry(value_as(value, there)).or_default().extend(owners);
            }
            Claim::Members(aligned)
        }
        (claim, _) => claim,
    }
}

fn value_as(value: String, there: &Values) -> String {
    let Some(form) = canonical(&value).filter(|_| !there.contains(&value)) else { return value };
    there.iter().find(|other| canonical(other).as_ref() == Some(&form)).cloned().unwrap_or(value)
}

/// The names at a node by their canonical form, made when a name is first not there verbatim, and kept.
#[derive(Default)]
struct Spellings<'a>(HashMap<*const Children, BTreeMap<String, &'a String>>);

impl<'a> Spellings<'a> {
    /// The name as it is stored there, where that is another spelling.
    fn stored(&mut self, name: &str, there: &'a Children) -> Option<&'a String> {
        if there.is_empty() || there.contains_key(name) {
            return None;
        }
        let form = canonical(name)?;
        let form_of = |name: &'a String| canonical(name).map(|form| (form, name));
        let by_form = self.0.entry(there).or_insert_with(|| there.keys().filter_map(form_of).collect());
        by_form.get(&form).copied()
    }

    fn find(&mut self, name: String, there: &'a Children) -> String {
        self.stored(&name, there).cloned().unwrap_or(name)
    }

    /// Whether anything at all is spelled otherwise there.
    fn differs(&mut self, mine: &Children, there: &'a Children) -> bool {
        mine.iter().any(|(name, node)| match (node, there.get(name)) {
            (_, None) => self.stored(name, there).is_some(),
            (Node::Branch(mine), Some(Node::Branch(there))) => self.differs(mine, there),
            (Node::Leaf(mine), Some(Node::Leaf(there))) => {
                mine.iter().any(|value| value_as(value.clone(), there) != *value)
            }
            _ => false,
        })
    }

    fn tree(&mut self, tree: Tree, running: &'a Tree) -> Tree {
        self.children(tree.into(), running.children()).into()
    }

    fn children(&mut self, mine: Children, there: &'a Children) -> Children {
        let mut aligned = Children::new();
        for (name, node) in mine {
            let name = self.find(name, there);
            let node = match (node, there.get(&name)) {
                (Node::Branch(mine), Some(Node::Branch(there))) => Node::Branch(self.children(mine, there)),
                (Node::Leaf(values), Some(Node::Leaf(there))) => {
                    Node::Leaf(values.into_iter().map(|value| value_as(value, there)).collect())
                }
                (node, _) => node,
            };
            aligned.insert(name, node);
        }
        aligned
    }

    fn path(&mut self, path: &ConfigPath, running: &'a Tree) -> ConfigPath {
        if !path.iter().any(|word| word.contains(':')) {
            return path.clone();
        }
        let mut there = Some(running.children());
        let mut words = Vec::with_capacity(path.len());
        for word in path.iter() {
            let name = there.map_or_else(|| word.clone(), |there| self.find(word.clone(), there));
            there = there.and_then(|there| there.get(&name)).and_then(Node::children);
            words.push(name);
        }
        ConfigPath::from_walk(&words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_each_address() {
        assert_eq!(canonical("2001:DB8:0:0::1/64").as_deref(), Some("2001:db8::1/64"));
        assert_eq!(canonical("fd00:0::1-fd00::0:9").as_deref(), Some("fd00::1-fd00::9"));
        assert_eq!(canonical("52:54:00:AA:00:01").as_deref(), Some("52:54:00:aa:00:01"));
        assert_eq!((canonical("10.0.0.1"), canonical("http://x")), (None, None));
    }

    #[test]
    fn takes_over_the_router_s_spelling() {
        let node = |name: &str| -> Tree {
            Children::from([("neighbor".to_owned(), Node::Branch([(name.to_owned(), Node::bare())].into()))])
                .into()
        };
        let spell = |name: &str, there: &Tree| Spellings::default().tree(node(name), there);
        assert_eq!(spell("fd00::1", &node("FD00:0::1")), node("FD00:0::1"));
        assert_eq!(spell("fd00::2", &node("FD00:0::1")), node("fd00::2"));
        let at: ConfigPath = "neighbor fd00::1 x".parse().unwrap();
        assert_eq!(Spellings::default().path(&at, &node("FD00:0::1")).to_string(), "neighbor FD00:0::1 x");
    }
}
