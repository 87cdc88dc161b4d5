//! Harvester's LinkMonitors against the links.

use std::collections::BTreeMap;
use std::fmt;

use super::family::{Family, Kind, Measure, Page, Value, word};
use crate::state::Snapshot;

const DISAGREES: Family = Family {
    name: "link_monitor_disagrees",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["interface"],
    help: "1 when a LinkMonitor of Harvester has said for a while of an interface of this node what is not so",
    advice: "`weirctl status` tells both sides. The link is right: look at Harvester's network controller on this node.",
};

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[&DISAGREES];

/// Writes the families of this file; nothing without LinkMonitors.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let mut disagrees = BTreeMap::new();
    for one in snapshot.link_monitors.iter() {
        // Several LinkMonitors may tell of one interface.
        *disagrees.entry(word(&one.link)).or_insert(0) |= u64::from(one.differs);
    }
    page.gauge(&DISAGREES, disagrees.into_iter().map(|(link, value)| ([Value::Text(link)], value)))
}
