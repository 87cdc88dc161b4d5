//! From what was read to what one router should do. Pure: no I/O, no clock, and the same answer whatever the order.
//!
//! Every object is judged by itself first, then against the others. A bad one is named in [`Intent::problems`] and
//! left out; what it has on the router stays, because its owner is in [`Intent::held`].

mod accept;
mod bgp;
mod cilium;
mod dhcp;
mod grant;
mod network;
mod place;
mod problem;
mod publish;
mod raw;
mod reserve;
mod select;
mod subnet;
mod users;
mod values;

pub use accept::PrefixRule;
pub use bgp::{Bgp, Export, Password, Peer, PeerGroup, Policy, Session, State, Timers};
pub use dhcp::{Dhcp4, Dhcp6, Range, Relay, Reservation, Server4, Server6};
pub use network::{Advertisement, Network, OneToOne, Parent, SourceNat, SourceNat66};
pub use problem::{Effect, Problem};
pub use publish::{Forward, HairpinNetwork, Publication};
pub use raw::Raw;
pub use subnet::Subnet;
pub(crate) use users::{Use, Users, WAY_OUT, carries, lingering};
pub use values::{Asn, HostName, Interface, Invalid, Mac, PlainText, VlanId};

use crate::inputs::{Completeness, Fault, Inputs, Kind, Look, ObjectId};
use crate::plan::Owner;
use problem::Findings;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The name of a Router object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterName(String);

impl From<&str> for RouterName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl fmt::Display for RouterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one router should do, and what stands in the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// The Router object, as an owner.
    pub router: Owner,
    /// Whether all of the source was read. What the unread part could want may not be pruned.
    pub completeness: Completeness,
    /// What could not be read at all.
    pub faults: Vec<Fault>,
    /// What is wrong, sorted.
    pub problems: Vec<Problem>,
    /// Hardware that the router sees in the wrong VLAN, where it was asked. No part of `problems`: nothing on the router
    /// follows from it.
    pub misplaced: Option<Look<Problem>>,
    /// Owners that were refused: what they have on the router must be left as it is.
    pub held: BTreeSet<Owner>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Publications.
    pub publications: Vec<Publication>,
    /// BGP, where the Router has an AS number.
    pub bgp: Option<Bgp>,
    /// Raw configuration.
    pub raw: Vec<Raw>,
}

/// What the router of that name should do.
///
/// Objects that name another router are not looked at, except to tell whose address a peer dials.
#[must_use]
pub fn derive(inputs: &Inputs, router: &RouterName) -> Intent {
    let mut problems = Vec::new();
    let mut intent = nothing(inputs, router);
    let Some(object) = inputs.router(&router.0) else {
        problems.push(unknown(router));
        return Intent { problems, completeness: Completeness::Incomplete, ..intent };
    };
    let grants = grant::Grants::of(inputs, &router.0, object.spec.grants, &mut problems);
    intent.networks = network::networks(inputs, object, &grants, &mut problems);
    users::name_lingering(inputs, &router.0, &mut problems);
    reserve::reserve(inputs, object, &mut intent.networks, &mut problems);
    intent.misplaced = place::misplaced(inputs, &intent.networks);
    intent.publications = publish::publications(inputs, &router.0, &intent.networks, &grants, &mut problems);
    intent.bgp = bgp::bgp(inputs, object, &intent.networks, &grants, &mut problems);
    intent.raw = raw::raw(inputs, object, &mut problems);
    problems.sort();
    problems.dedup();
    intent.held = held(&problems, &intent.faults);
    intent.held.extend(intent.bgp.iter().flat_map(|bgp| bgp.held.iter().cloned()));
    intent.problems = problems;
    intent
}

fn nothing(inputs: &Inputs, router: &RouterName) -> Intent {
    Intent {
        router: Owner::cluster(Kind::Router.as_str(), &router.0),
        completeness: inputs.completeness,
        faults: inputs.faults.clone(),
        problems: Vec::new(),
        misplaced: None,
        held: BTreeSet::new(),
        networks: Vec::new(),
        publications: Vec::new(),
        bgp: None,
        raw: Vec::new(),
    }
}

fn unknown(router: &RouterName) -> Problem {
    let object = ObjectId {
        kind: Kind::Router,
        cluster: crate::inputs::ClusterName::local(),
        namespace: None,
        name: router.0.clone(),
    };
    Problem {
        object,
        field: "metadata.name".to_owned(),
        what: "there is no such Router".to_owned(),
        way_out: "add the Router object, or name another one".to_owned(),
        effect: Effect::Refused,
    }
}

fn held(problems: &[Problem], faults: &[Fault]) -> BTreeSet<Owner> {
    let refused =
        problems.iter().filter(|problem| problem.effect == Effect::Refused).map(|problem| &problem.object);
    let unread = faults.iter().filter_map(|fault| fault.object.as_ref());
    refused.chain(unread).map(owner_of).collect()
}

/// The object as an owner. Objects of another cluster carry its name in place of, or before, the namespace.
pub(crate) fn owner_of(object: &ObjectId) -> Owner {
    let kind = object.kind.as_str();
    match (&object.namespace, object.cluster.is_local()) {
        (Some(namespace), true) => Owner::namespaced(kind, namespace, &object.name),
        (Some(namespace), false) => {
            Owner::namespaced(kind, format!("{}.{namespace}", object.cluster), &object.name)
        }
        (None, true) => Owner::cluster(kind, &object.name),
        (None, false) => Owner::namespaced(kind, object.cluster.as_str(), &object.name),
    }
}

/// Something that an object makes.
trait Made {
    fn object(&self) -> &ObjectId;
}

impl Made for Network {
    fn object(&self) -> &ObjectId {
        &self.object
    }
}

impl Made for Publication {
    fn object(&self) -> &ObjectId {
        &self.object
    }
}

/// Refuses all that share a key: whose it is cannot be told, and what they have on the router stays.
fn refuse_shared<T: Made, K: Ord>(
    all: &mut Vec<T>,
    problems: &mut Vec<Problem>,
    field: &str,
    key: impl Fn(&T) -> Option<K>,
    what: impl Fn(&T, &ObjectId) -> String,
    way_out: &str,
) {
    let mut holders = BTreeMap::<K, Vec<usize>>::new();
    for (at, each) in all.iter().enumerate() {
        if let Some(key) = key(each) {
            holders.entry(key).or_default().push(at);
        }
    }
    let mut refused = BTreeSet::new();
    for shared in holders.into_values().filter(|holders| holders.len() > 1) {
        for at in &shared {
            for other in shared.iter().filter(|other| *other != at) {
                let what = what(&all[*at], all[*other].object());
                Findings::on(all[*at].object(), problems).refuse(field, what, way_out);
            }
        }
        refused.extend(shared);
    }
    let mut at = 0;
    all.retain(|_| {
        at += 1;
        !refused.contains(&(at - 1))
    });
}
