//! Whether what should be so of virtual addresses is so.

use std::fmt;

use super::family::{Family, Kind, Measure, Page, Value};
use crate::model::vip::{Answer, Row, VipState};
use crate::state::Snapshot;

/// Virtual addresses shown: as many as the ledger holds.
const ROWS: usize = weir_ebpf::VIPS as usize;

const STATE: Family = Family {
    name: "vip_state",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["vip", "state"],
    help: "1 for what is the matter with a virtual address; `ok` when nothing that is known disagrees",
    advice: "Anything but `ok`: `weirctl explain ADDRESS` walks its way and says where it breaks; docs/vips.md has every state.",
};
const WANTED: Family = Family {
    name: "vip_wanted",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["vip", "wanted"],
    help: "1 for whether a virtual address is wanted: `here`, `elsewhere`, `somewhere`, `no` or `unknown`",
    advice: "`unknown` everywhere: the agent has no objects, give it --manifests. `no`: see `advertised-unwanted`.",
};
const ENDPOINTS: Family = Family {
    name: "vip_endpoints",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["vip", "place"],
    help: "Usable endpoints behind a virtual address, on this node and on all",
    advice: "0 of `all`: look at the Service's pods. 0 of `here` with policy Local: this node must not advertise it.",
};
const ADVERTISED: Family = Family {
    name: "vip_advertised_peers",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["vip"],
    help: "BGP peers to which this node advertises a virtual address, as seen on the wire",
    advice: "Compare with `weir_vip_wanted`; 0 where it is wanted here: see `not-advertised`.",
};
const UNANSWERED: Family = Family {
    name: "vip_unanswered_ports",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["vip"],
    help: "Probed ports of a virtual address that do not answer on this node",
    advice: "Look at the endpoints and at network policies; `weirctl explain ADDRESS` names the ports.",
};

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[&STATE, &WANTED, &ENDPOINTS, &ADVERTISED, &UNANSWERED];

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let rows: Vec<(String, &Row)> =
        snapshot.vip_table.rows.iter().take(ROWS).map(|row| (row.vip.to_string(), row)).collect();
    let states = rows.iter().flat_map(|(vip, row)| {
        let found = row.findings.iter().map(|finding| finding.state);
        let ok = row.findings.is_empty().then_some(VipState::Ok);
        found.chain(ok).map(move |state| ([vip.as_str().into(), state.as_str().into()], 1_u64))
    });
    page.gauge(&STATE, states)?;
    let wanted = rows.iter().map(|(vip, row)| ([vip.as_str().into(), row.wanted.as_str().into()], 1_u64));
    page.gauge(&WANTED, wanted)?;
    let endpoints = rows.iter().flat_map(|(vip, row)| {
        let places = row.endpoints.map(|[here, all]| [("here", here), ("all", all)]);
        places
            .into_iter()
            .flatten()
            .map(move |(place, count)| ([Value::from(vip.as_str()), place.into()], count as u64))
    });
    page.gauge(&ENDPOINTS, endpoints)?;
    let advertised = rows
        .iter()
        .filter_map(|(vip, row)| Some(([vip.as_str().into()], row.announced.as_ref()?.len() as u64)));
    page.gauge(&ADVERTISED, advertised)?;
    let unanswered = rows.iter().filter(|(_, row)| !row.answers.is_empty()).map(|(vip, row)| {
        let bad = row.answers.iter().filter(|(_, answer): &&(_, Answer)| answer.is_bad()).count();
        ([vip.as_str().into()], bad as u64)
    });
    page.gauge(&UNANSWERED, unanswered)
}
