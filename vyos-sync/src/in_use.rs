//! VLANs on the router that no object asks for any more, while a machine is on them. Pure.
//!
//! An object in deletion is still there to say what it wants (`intent::lingering`). Of one that is gone the ledger alone
//! tells what it had: that stays as it is.

use std::collections::BTreeMap;

use crate::{
    crd::RouterSpec,
    inputs::{Inputs, ObjectId},
    intent::{Effect, Intent, Problem, Use, Users, WAY_OUT, carries, owner_of},
    plan::{Ledger, Mark},
};

/// A VLAN of ours that nothing wants.
struct Stray<'a> {
    port: &'a str,
    vlan: u16,
    mark: &'a Mark,
}

/// The marks of what stays for the sake of a machine, each with the word for it.
pub(crate) fn in_use(
    inputs: &Inputs,
    router: &RouterSpec,
    intent: &Intent,
    ledger: &Ledger,
) -> BTreeMap<Mark, Problem> {
    let strays = strays(intent, ledger);
    if strays.is_empty() {
        return BTreeMap::new();
    }
    let (users, source) = (Users::of(inputs), router.sources.harvester.as_ref());
    let mut stay = BTreeMap::new();
    for on in users.all() {
        let mark = owner_of(&on.attachment).mark();
        let definition = users.definition(&on);
        let meant = |stray: &&Stray<'_>| {
            let by_vlan = definition.is_some_and(|definition| {
                definition.vlan == Some(stray.vlan) && carries(source, stray.port, definition)
            });
            *stray.mark == mark || by_vlan
        };
        for stray in strays.iter().filter(meant) {
            stay.entry(stray.mark.clone()).or_insert_with(|| problem(&on.attachment, stray, &on));
        }
    }
    stay
}

fn strays<'a>(intent: &Intent, ledger: &'a Ledger) -> Vec<Stray<'a>> {
    let wanted = |port: &str, vlan: u16| {
        intent.networks.iter().any(|each| &*each.parent.name == port && each.vlan.number() == vlan)
    };
    let held = |mark: &Mark| intent.held.iter().any(|owner| owner.mark() == *mark);
    let stray = |(path, mark): (&'a crate::config::ConfigPath, &'a Mark)| {
        let [first, _, port, vif, vlan] = &path[..] else { return None };
        let vlan = vlan.parse().ok().filter(|_| first == "interfaces" && vif == "vif")?;
        (!wanted(port, vlan) && !held(mark)).then_some(Stray { port, vlan, mark })
    };
    ledger.claims.iter().filter_map(stray).collect()
}

fn problem(object: &ObjectId, stray: &Stray<'_>, on: &Use<'_>) -> Problem {
    Problem {
        object: object.clone(),
        field: "spec.config.vlan".to_owned(),
        what: format!(
            "no object asks for VLAN {} on {} any more, and {} is still on it; it stays on the router",
            stray.vlan,
            stray.port,
            on.words()
        ),
        way_out: format!("{WAY_OUT}, or make the object again"),
        effect: Effect::Noted,
    }
}
