//! What the router should hold, with the object that wants each piece.

use std::collections::{BTreeMap, BTreeSet};

use super::owner::Owner;
use crate::config::{ConfigPath, Node, ShapeError, Tree};

/// The desired tree and its owners. Only what is claimed here can ever be changed on the router.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    tree: Tree,
    claims: BTreeMap<ConfigPath, Claim>,
    takeovers: BTreeSet<Owner>,
}

/// How a node is owned. Nodes above a claim are shared containers, and are nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The node with all below it. Several owners are possible only where they want the very same.
    Subtree(BTreeSet<Owner>),
    /// Single values of a leaf that others use too, each with those who want it.
    Members(BTreeMap<String, BTreeSet<Owner>>),
}

/// Two objects want the same piece of configuration, and not the same in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: wanted by {claimant}, but {holder} already claims it; remove it from one of them")]
pub struct Contested {
    /// Where.
    pub path: ConfigPath,
    /// Who has it.
    pub holder: Owner,
    /// Who wanted it too.
    pub claimant: Owner,
}

impl Claim {
    /// Everyone who has a part in it.
    pub fn owners(&self) -> BTreeSet<&Owner> {
        match self {
            Self::Subtree(owners) => owners.iter().collect(),
            Self::Members(members) => members.values().flatten().collect(),
        }
    }
}

#[expect(clippy::result_large_err, reason = "a rare error that names both objects and the place")]
impl Desired {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Claims a node with all that is below it: one tag instance, or a leaf. What is put there is all it shall hold.
    ///
    /// A deeper claim of another object inside it is fine as long as the contents do not meet: a reservation in a
    /// network's subnet. The same content claimed twice is shared.
    pub fn subtree(&mut self, owner: &Owner, path: &ConfigPath, node: Node) -> Result<(), Contested> {
        match self.claims.get_mut(path) {
            Some(Claim::Subtree(owners)) if self.tree.at(path) == Some(&node) => {
                owners.insert(owner.clone());
                return Ok(());
            }
            Some(held) => return Err(contested(path, held, owner)),
            None => self.place(owner, path, node)?,
        }
        self.claims.insert(path.clone(), Claim::Subtree(BTreeSet::from([owner.clone()])));
        Ok(())
    }

    /// Claims a leaf of one value.
    pub fn leaf(
        &mut self,
        owner: &Owner,
        path: &ConfigPath,
        value: impl Into<String>,
    ) -> Result<(), Contested> {
        self.subtree(owner, path, Node::value(value))
    }

    /// Claims a node without content.
    pub fn flag(&mut self, owner: &Owner, path: &ConfigPath) -> Result<(), Contested> {
        self.subtree(owner, path, Node::bare())
    }

    /// Claims one value of a leaf that holds several; the others stay whose they are.
    pub fn member(
        &mut self,
        owner: &Owner,
        path: &ConfigPath,
        value: impl Into<String>,
    ) -> Result<(), Contested> {
        let value = value.into();
        if let Some(held @ Claim::Subtree(_)) = self.claims.get(path) {
            return Err(contested(path, held, owner));
        }
        self.tree.add(path, value.clone()).map_err(|error| self.in_the_way(&error, owner))?;
        let claim = self.claims.entry(path.clone()).or_insert_with(|| Claim::Members(BTreeMap::new()));
        if let Claim::Members(members) = claim {
            members.entry(value).or_default().insert(owner.clone());
        }
        Ok(())
    }

    /// This object may take over configuration that differs and was not made by us.
    pub fn take_over(&mut self, owner: Owner) {
        self.takeovers.insert(owner);
    }

    /// Whether one of these may take over what was not made by us.
    pub(crate) fn takes_over(&self, owners: &BTreeSet<&Owner>) -> bool {
        owners.iter().any(|owner| self.takeovers.contains(*owner))
    }

    /// The whole desired tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The claims by path.
    pub fn claims(&self) -> &BTreeMap<ConfigPath, Claim> {
        &self.claims
    }

    /// The deepest claim at or above the path.
    pub fn claim_above(&self, path: &[String]) -> Option<(&ConfigPath, &Claim)> {
        (1..=path.len()).rev().find_map(|n| self.claims.get_key_value(&path[..n]))
    }

    /// Whose it is: of the one value where it is given and the claim is by value, else of the whole claim.
    pub fn owners_of(&self, path: &[String], value: Option<&str>) -> BTreeSet<&Owner> {
        match self.claim_above(path) {
            Some((_, Claim::Members(members))) => match value.and_then(|value| members.get(value)) {
                Some(owners) => owners.iter().collect(),
                None => members.values().flatten().collect(),
            },
            Some((_, claim)) => claim.owners(),
            None => BTreeSet::new(),
        }
    }

    pub(crate) fn from_parts(
        tree: Tree,
        claims: BTreeMap<ConfigPath, Claim>,
        takeovers: BTreeSet<Owner>,
    ) -> Self {
        Self { tree, claims, takeovers }
    }

    pub(crate) fn into_parts(self) -> (Tree, BTreeMap<ConfigPath, Claim>, BTreeSet<Owner>) {
        (self.tree, self.claims, self.takeovers)
    }

    /// Puts the node into the tree, beside what deeper claims have put there.
    fn place(&mut self, owner: &Owner, path: &ConfigPath, node: Node) -> Result<(), Contested> {
        for (below, held) in self.claims_below(path) {
            if node.at(&below[path.len()..]).is_some() {
                return Err(contested(below, held, owner));
            }
        }
        if let Some((above, held)) = self.claim_above(path).filter(|_| self.tree.at(path).is_some()) {
            return Err(contested(above, held, owner));
        }
        let mut added = Tree::new();
        let placed = added.put(path, node).and_then(|()| self.tree.merge(added));
        placed.map_err(|error| self.in_the_way(&error, owner))
    }

    fn claims_below(&self, path: &ConfigPath) -> impl Iterator<Item = (&ConfigPath, &Claim)> {
        let from = path.clone();
        self.claims.range(path.clone()..).take_while(move |(below, _)| below.is_within(&from))
    }

    fn in_the_way(&self, error: &ShapeError, owner: &Owner) -> Contested {
        let above = self.claim_above(&error.path);
        let held = above.or_else(|| self.claims_below(&error.path).next());
        match held {
            Some((path, claim)) => contested(path, claim, owner),
            None => Contested { path: error.path.clone(), holder: owner.clone(), claimant: owner.clone() },
        }
    }
}

fn contested(path: &ConfigPath, held: &Claim, claimant: &Owner) -> Contested {
    let holder = held.owners().first().map_or_else(|| claimant.clone(), |owner| (*owner).clone());
    Contested { path: path.clone(), holder, claimant: claimant.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ConfigPath {
        text.parse().unwrap()
    }

    fn owner(name: &str) -> Owner {
        Owner::namespaced("RouterNetwork", "lab", name)
    }

    #[test]
    fn two_objects_cannot_want_different_things_at_one_place() {
        let mut desired = Desired::new();
        desired.leaf(&owner("a"), &path("protocols bgp system-as"), "64512").unwrap();
        desired.leaf(&owner("b"), &path("protocols bgp system-as"), "64512").unwrap();
        let error = desired.leaf(&owner("c"), &path("protocols bgp system-as"), "1").unwrap_err();
        assert_eq!((error.holder, error.claimant), (owner("a"), owner("c")));
        assert_eq!(desired.owners_of(&path("protocols bgp system-as"), None).len(), 2);
    }

    #[test]
    fn a_reservation_may_live_in_the_subnet_of_a_network() {
        let mut desired = Desired::new();
        let subnet = path("subnet 10.0.0.0/24");
        let mapping = subnet.descend(["static-mapping", "vs-a"]);
        for outer_first in [true, false] {
            if outer_first {
                desired = Desired::new();
                desired
                    .subtree(
                        &owner("net"),
                        &subnet,
                        Node::Branch([("lease".to_owned(), Node::value("1"))].into()),
                    )
                    .unwrap();
            }
            let _ = desired.flag(&owner("host"), &mapping);
            assert_eq!(desired.owners_of(&mapping, None), BTreeSet::from([&owner("host")]));
            assert_eq!(desired.owners_of(&subnet, None), BTreeSet::from([&owner("net")]));
        }
    }

    #[test]
    fn members_are_owned_one_by_one() {
        let mut desired = Desired::new();
        let listen = path("service dns forwarding listen-address");
        desired.member(&owner("a"), &listen, "10.0.0.1").unwrap();
        desired.member(&owner("b"), &listen, "10.0.1.1").unwrap();
        assert_eq!(desired.owners_of(&listen, Some("10.0.1.1")), BTreeSet::from([&owner("b")]));
        assert!(desired.leaf(&owner("c"), &listen, "10.0.0.1").is_err());
    }
}
