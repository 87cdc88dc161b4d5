//! The three-way comparison: what is desired, what is there, what we applied last, statement by statement.

use std::collections::BTreeSet;

use super::desired::{Claim, Desired};
use super::ledger::{Ledger, mark_of};
use super::{Adoption, Class, Drift, Entry, Keep, Mode, Owner, Policy};
use crate::config::{Children, ConfigPath, Kind, Kinds, Node, Tree, Values};

/// One change of the running tree.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Set(ConfigPath, Option<String>),
    Unset(ConfigPath, Option<String>),
}

/// What a comparison finds.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) entries: Vec<Entry>,
    pub(super) edits: Vec<Edit>,
    /// Statements that stay because something is wrong with the object behind them.
    pub(super) kept: usize,
}

/// What must be left as it is, since something is wrong with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Frozen {
    pub(super) paths: BTreeSet<ConfigPath>,
    pub(super) members: BTreeSet<(ConfigPath, String)>,
    /// Nothing at all is removed.
    pub(super) no_prune: bool,
}

impl Edit {
    pub(super) fn path(&self) -> &ConfigPath {
        match self {
            Self::Set(path, _) | Self::Unset(path, _) => path,
        }
    }
}

/// How we stand to the running configuration at a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The ledger says what is ours.
    Ledger,
    /// It is what we want, made by another: taken into the ledger.
    Adopt,
    /// It carries our mark, or may be taken over: all of it counts as ours.
    Ours,
    /// It is another's and differs: hands off.
    Foreign,
}

/// Where the walk is: within which claim, and how we stand to it.
#[derive(Clone, Copy)]
struct Here<'a> {
    claim: Option<&'a Claim>,
    standing: Standing,
}

pub(super) struct Walk<'a, K> {
    pub(super) desired: &'a Desired,
    pub(super) ledger: &'a Ledger,
    pub(super) policy: &'a Policy,
    pub(super) frozen: &'a Frozen,
    pub(super) kinds: &'a K,
    pub(super) at: Vec<String>,
    /// The owners of the claim that the walk is in.
    pub(super) by: String,
    pub(super) found: Findings,
}

/// The same place in the four trees.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    want: Option<&'a Node>,
    have: Option<&'a Node>,
    owned: Option<&'a Node>,
    pending: Option<&'a Node>,
}

impl<'a> Place<'a> {
    fn child(&self, name: &str) -> Self {
        let below = |node: Option<&'a Node>| node.and_then(|node| node.child(name));
        Self {
            want: below(self.want),
            have: below(self.have),
            owned: below(self.owned),
            pending: below(self.pending),
        }
    }

    fn is_ours(&self) -> bool {
        self.owned.is_some() || self.pending.is_some()
    }

    fn is_leaf(&self) -> bool {
        let leaf = |node: Option<&Node>| node.is_some_and(|node| node.values().is_some());
        let gone = self.want.is_none() && self.have.is_none();
        leaf(self.want) || leaf(self.have) || (gone && leaf(self.owned))
    }
}

impl<K: Kinds> Walk<'_, K> {
    pub(super) fn run(mut self, running: &Tree) -> Findings {
        let (want, owned, pending) = (self.desired.tree(), &self.ledger.owned, &self.ledger.pending);
        let mut names: BTreeSet<&String> = want.children().keys().collect();
        names.extend(owned.children().keys().chain(pending.children().keys()));
        for name in names {
            let place = Place {
                want: want.children().get(name),
                have: running.children().get(name),
                owned: owned.children().get(name),
                pending: pending.children().get(name),
            };
            self.step(name, place, Here { claim: None, standing: Standing::Ledger });
        }
        self.found
    }

    fn step(&mut self, name: &str, place: Place<'_>, here: Here<'_>) {
        self.at.push(name.to_owned());
        if !self.frozen.paths.contains(self.at.as_slice()) {
            self.node(place, here);
        }
        self.at.pop();
    }

    fn node(&mut self, place: Place<'_>, here: Here<'_>) {
        let desired = self.desired;
        let Some(claim) = desired.claims().get(self.at.as_slice()) else { return self.compare(place, here) };
        let standing = match claim {
            Claim::Subtree(_) => self.standing(claim, place, here),
            Claim::Members(_) => Standing::Ledger,
        };
        let outer = std::mem::replace(&mut self.by, names(claim.owners()));
        self.compare(place, Here { claim: Some(claim), standing });
        self.by = outer;
    }

    fn compare(&mut self, place: Place<'_>, here: Here<'_>) {
        if here.standing == Standing::Foreign {
            let value = |node: Option<&Node>| node.and_then(Node::first).map(str::to_owned);
            return self.entry(Class::Conflict, value(place.want), value(place.have), None);
        }
        if place.is_leaf() { self.leaf(place, here) } else { self.branch(place, here) }
    }

    fn standing(&self, claim: &Claim, place: Place<'_>, above: Here<'_>) -> Standing {
        let (Some(want), Some(have)) = (place.want, place.have) else { return Standing::Ledger };
        let marked = || {
            mark_of(&self.at, have)
                .is_some_and(|mark| claim.owners().iter().any(|owner| owner.mark() == mark))
        };
        if matches!(above.standing, Standing::Ours | Standing::Adopt) {
            above.standing
        } else if place.is_ours() || (have.is_bare() && !want.is_bare()) {
            Standing::Ledger
        } else if marked() || self.desired.takes_over(&claim.owners()) {
            Standing::Ours
        } else if same_but_marks(want, have) {
            Standing::Adopt
        } else {
            Standing::Foreign
        }
    }

    fn branch(&mut self, place: Place<'_>, here: Here<'_>) {
        self.existence(place, here);
        let mut names = BTreeSet::new();
        for node in [place.want, place.owned, place.pending].into_iter().flatten() {
            names.extend(node.children().into_iter().flat_map(Children::keys));
        }
        let all_ours = matches!(here.standing, Standing::Ours | Standing::Adopt);
        for name in place.have.and_then(Node::children).into_iter().flat_map(Children::keys) {
            if all_ours {
                names.insert(name);
            } else if here.claim.is_some() && place.want.is_some() && !names.contains(name) {
                self.at.push(name.clone());
                self.entry(Class::Extra, None, None, None);
                self.at.pop();
            }
        }
        for name in names {
            self.step(name, place.child(name), here);
        }
    }

    /// A node without content is a statement itself.
    fn existence(&mut self, place: Place<'_>, here: Here<'_>) {
        let wanted = place.want.is_some_and(Node::is_bare);
        let bare = |node: Option<&Node>| node.is_some_and(Node::is_bare);
        match (wanted, place.have) {
            (true, None) if place.owned.is_some() => self.repair(None, None),
            (true, None) => self.set(Class::Create, None, None),
            (true, Some(_)) if place.owned.is_none() => self.adopt(place, here, None),
            (false, None) if bare(place.owned) && place.want.is_none() => {
                self.entry(Class::Gone, None, None, None)
            }
            (false, Some(have)) if place.want.is_none() && (bare(place.owned) || bare(place.pending)) => {
                if have.is_bare() {
                    self.prune(None)
                } else {
                    self.entry(Class::ForeignEdit, None, None, None)
                }
            }
            (false, Some(have)) if place.want.is_none() && have.is_bare() => {
                let left_empty = place.owned.is_some() && self.ledger_claims_here();
                if left_empty || here.standing == Standing::Ours {
                    self.prune(None);
                }
            }
            _ => {}
        }
    }

    fn leaf(&mut self, place: Place<'_>, here: Here<'_>) {
        let none = Values::default();
        let values =
            |node: Option<&'_ Node>| node.and_then(Node::values).cloned().unwrap_or_else(|| none.clone());
        let (want, have) = (values(place.want), values(place.have));
        if place.have.is_some_and(|have| have.values().is_none() && !have.is_bare())
            || place.want.is_some_and(|want| want.values().is_none())
        {
            return self.entry(Class::Conflict, None, None, None);
        }
        let mut owned = values(place.owned);
        let mut maybe = values(place.pending);
        if here.standing == Standing::Ours {
            maybe.extend(have.iter().cloned());
        }
        let by_value =
            matches!(here.claim, Some(Claim::Members(_))) || self.kinds.kind(&self.at) == Some(Kind::Multi);
        if by_value {
            return self.values(&want, &have, &owned, &maybe, place, here);
        }
        if here.standing == Standing::Adopt {
            owned.extend(have.iter().cloned());
        }
        self.whole(&want, &have, &owned, &maybe, place, here);
    }

    fn ledger_claims_here(&self) -> bool {
        (1..=self.at.len()).any(|n| self.ledger.claims.contains_key(&self.at[..n]))
    }

    /// A leaf of one value, or of several that nobody shares.
    fn whole(
        &mut self,
        want: &Values,
        have: &Values,
        owned: &Values,
        maybe: &Values,
        place: Place<'_>,
        here: Here<'_>,
    ) {
        let (wanted, had) = (text(want), text(have));
        let ours = !owned.is_empty() && have == owned || !maybe.is_empty() && have.is_subset(maybe);
        let in_ledger = place.owned.and_then(Node::values) == Some(want);
        let was = place.owned.and_then(Node::first).map(str::to_owned);
        match (want.is_empty(), have.is_empty()) {
            (false, false) if want == have && !in_ledger => self.adopt_all(want, place, here),
            (false, false) if want == have => {}
            (false, true) if owned.is_empty() => {
                want.iter().for_each(|value| self.set(Class::Create, Some(value), None))
            }
            (false, true) => want.iter().for_each(|value| self.repair(Some(value), None)),
            (false, false) if ours => self.replace(Class::Change, want, have),
            (false, false) if owned.is_empty() && maybe.is_empty() => {
                self.entry(Class::Conflict, wanted, had, None)
            }
            (false, false) => match self.policy.drift {
                Drift::Revert => self.replace(Class::Drift, want, have),
                Drift::Report => self.entry(Class::Reported, wanted, had, was),
            },
            (true, true) => {
                owned.iter().for_each(|value| self.entry(Class::Gone, None, None, Some(value.clone())))
            }
            (true, false) if ours => have.iter().for_each(|value| self.prune(Some(value))),
            (true, false) if owned.is_empty() => {}
            (true, false) => self.entry(Class::ForeignEdit, None, had, was),
        }
    }

    /// A leaf of several values, each of them owned for itself.
    fn values(
        &mut self,
        want: &Values,
        have: &Values,
        owned: &Values,
        maybe: &Values,
        place: Place<'_>,
        here: Here<'_>,
    ) {
        let path = ConfigPath::from_walk(&self.at);
        let frozen = self.frozen;
        let none = frozen.members.is_empty();
        let free = |value: &&String| none || !frozen.members.contains(&(path.clone(), (*value).clone()));
        let mut wanted: Vec<&String> = want.iter().filter(free).collect();
        if matches!(here.claim, Some(Claim::Members(_))) {
            // One order, in whatever order the objects came.
            wanted.sort();
        }
        for value in wanted {
            match (have.contains(value), owned.contains(value)) {
                (true, true) => {}
                (true, false) => self.adopt(place, here, Some(value)),
                (false, true) => self.repair(Some(value), None),
                (false, false) => self.set(Class::Create, Some(value), None),
            }
        }
        let gone = owned.iter().chain(maybe.difference(owned)).filter(|value| !want.contains(value));
        for value in gone.filter(free) {
            match have.contains(value) {
                true => self.prune(Some(value)),
                false if owned.contains(value) => self.entry(Class::Gone, None, None, Some(value.clone())),
                false => {}
            }
        }
    }

    fn adopt_all(&mut self, values: &Values, place: Place<'_>, here: Here<'_>) {
        values.iter().for_each(|value| self.adopt(place, here, Some(value)));
    }

    /// It is there as we want it, and not in the ledger.
    fn adopt(&mut self, place: Place<'_>, here: Here<'_>, value: Option<&String>) {
        let known = place.is_ours() || here.standing == Standing::Ours;
        let want = value.cloned();
        match self.policy.adoption {
            _ if known => self.entry(Class::Adopt, want, value.cloned(), None),
            Adoption::Equal => self.entry(Class::Adopt, want, value.cloned(), None),
            Adoption::Never => self.entry(Class::Kept, want, value.cloned(), None),
        }
    }

    /// Something of ours is no longer there.
    fn repair(&mut self, value: Option<&String>, had: Option<&String>) {
        match self.policy.drift {
            Drift::Revert => self.set(Class::Drift, value, had),
            Drift::Report => self.entry(Class::Reported, value.cloned(), had.cloned(), None),
        }
    }

    fn replace(&mut self, class: Class, want: &Values, have: &Values) {
        let path = ConfigPath::from_walk(&self.at);
        for value in have.difference(want) {
            self.found.edits.push(Edit::Unset(path.clone(), Some(value.clone())));
        }
        for value in want {
            self.found.edits.push(Edit::Set(path.clone(), Some(value.clone())));
        }
        let was = self.ledger.owned.at(&path).and_then(Node::first).map(str::to_owned);
        for (i, value) in want.iter().enumerate() {
            self.entry(class, Some(value.clone()), text(have), was.clone().filter(|_| i == 0));
        }
    }

    fn set(&mut self, class: Class, value: Option<&String>, had: Option<&String>) {
        self.found.edits.push(Edit::Set(ConfigPath::from_walk(&self.at), value.cloned()));
        self.entry(class, value.cloned(), had.cloned(), None);
    }

    fn prune(&mut self, value: Option<&String>) {
        if self.policy.mode == Mode::Upsert || self.frozen.no_prune || self.is_kept() {
            return self.entry(Class::Kept, None, value.cloned(), None);
        }
        self.found.edits.push(Edit::Unset(ConfigPath::from_walk(&self.at), value.cloned()));
        self.entry(Class::Prune, None, value.cloned(), value.cloned());
    }

    /// Whether what is no longer wanted here belongs, or could belong, to an object that something is wrong with.
    fn is_kept(&mut self) -> bool {
        let Keep::Of { marks, .. } = &self.policy.keep else { return false };
        let claims = || (1..=self.at.len()).filter_map(|n| self.ledger.claims.get(&self.at[..n]));
        let kept =
            claims().next().is_none() || claims().any(|mark| mark.is_anonymous() || marks.contains(mark));
        self.found.kept += usize::from(kept);
        kept
    }

    fn entry(&mut self, class: Class, want: Option<String>, have: Option<String>, had: Option<String>) {
        let path = ConfigPath::from_walk(&self.at);
        let by = self.by(want.as_deref());
        self.found.entries.push(Entry { path, class, want, have, had, by });
    }

    /// Who is behind the place: those who want it, else those who did.
    fn by(&self, value: Option<&str>) -> String {
        if !self.by.is_empty() {
            let owners = || self.desired.owners_of(&self.at, value);
            let shared = value.is_some()
                && matches!(self.desired.claims().get(self.at.as_slice()), Some(Claim::Members(_)));
            return if shared { names(owners()) } else { self.by.clone() };
        }
        let claim = (1..=self.at.len()).rev().find_map(|n| self.ledger.claims.get(&self.at[..n]));
        claim.map_or_else(String::new, ToString::to_string)
    }
}

fn names(owners: BTreeSet<&Owner>) -> String {
    owners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn text(values: &Values) -> Option<String> {
    let all: Vec<&str> = values.iter().map(String::as_str).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// Equal, where our marks may still be missing: descriptions of ours do not count.
fn same_but_marks(want: &Node, have: &Node) -> bool {
    match (want, have) {
        (Node::Branch(want), Node::Branch(have)) => {
            let counts = |(name, node): &(&String, &Node)| {
                !(*name == "description" && node.first().is_some_and(|d| super::Mark::read(d).is_some()))
            };
            let marked = want.iter().any(|field| !counts(&field));
            let others = have.keys().filter(|name| !(marked && *name == "description"));
            want.iter().filter(counts).count() == others.count()
                && want
                    .iter()
                    .filter(counts)
                    .all(|(name, node)| have.get(name).is_some_and(|other| same_but_marks(node, other)))
        }
        (want, have) => want == have,
    }
}
