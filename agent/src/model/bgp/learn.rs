//! What an UPDATE does to the routes of one side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::rib::{PathSegment, Rib, Route, RouteKey};
use super::session::Asn;
use super::wire::Update;

/// Routes that are kept of one side.
const ROUTES: usize = 200_000;
/// Prefixes taken back that are remembered.
const WITHDRAWN: usize = 4096;

/// Takes an UPDATE in.
pub(super) fn apply(rib: &mut Rib, update: &Update, at: Duration) {
    if let Some(family) = update.end_of_rib {
        rib.end_of_rib.entry(family).or_insert(at);
        return;
    }
    if update.withdrawn.is_empty() && update.announced.is_empty() {
        return;
    }
    let routes = Arc::make_mut(&mut rib.routes);
    let withdrawn = Arc::make_mut(&mut rib.withdrawn);
    for key in &update.withdrawn {
        rib.withdrawals += 1;
        // Taking back what was never told changes nothing, unless it was told before we came.
        if routes.remove(key).is_some() || !rib.complete {
            withdrawn.insert(*key, at);
        }
    }
    for (attributes, keys) in &update.announced {
        for key in keys {
            rib.announcements += 1;
            withdrawn.remove(key);
            if let Some(route) = routes.get_mut(key) {
                route.updated = at;
                route.attributes = Arc::clone(attributes);
            } else if routes.len() < ROUTES {
                let attributes = Arc::clone(attributes);
                routes.insert(*key, Route { attributes, since: at, updated: at });
            } else {
                rib.left_out += 1;
            }
        }
    }
    forget_oldest(withdrawn);
}

/// No route is in force any more.
pub(super) fn clear(rib: &mut Rib) {
    rib.routes = Arc::default();
    rib.end_of_rib.clear();
    rib.complete = false;
}

/// The AS of whoever told routes: the first of their paths, unless they come from within an AS (RFC 4271 section 5.1.5).
pub(super) fn asn(update: &Update) -> Option<Asn> {
    let (attributes, _) = update.announced.first()?;
    match attributes.as_path.first()? {
        PathSegment::Sequence(path) if attributes.local_preference.is_none() => {
            path.first().copied().map(Asn)
        }
        _ => None,
    }
}

/// Leaves the younger half once there are too many.
fn forget_oldest(withdrawn: &mut BTreeMap<RouteKey, Duration>) {
    if withdrawn.len() <= WITHDRAWN {
        return;
    }
    let mut times: Vec<Duration> = withdrawn.values().copied().collect();
    let (_, middle, _) = times.select_nth_unstable(WITHDRAWN / 2);
    let middle = *middle;
    let mut left = WITHDRAWN / 2;
    withdrawn.retain(|_, at| {
        let keep = *at >= middle && left > 0;
        left -= usize::from(keep);
        keep
    });
}
