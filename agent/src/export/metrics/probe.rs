//! Active probes of the gateways.

use std::fmt;
use std::net::IpAddr;

use super::family::{Family, Kind, Measure, Page, Value, word};
use super::tcp::buckets;
use crate::model::probe::{GatewayProbe, Probe};
use crate::state::Snapshot;

const PROBE: &[&str] = &["interface", "gateway", "kind"];

const LATENCY: Family = Family {
    name: "gateway_probe",
    kind: Kind::Histogram,
    unit: Measure::Seconds,
    labels: PROBE,
    help: "Latency of answers to probes of a gateway",
    advice: "`arp` or `nd` slow: the segment or the router's CPU. Only `echo` slow: the router limits ICMP.",
};
const LAST: Family = Family {
    name: "gateway_probe_last",
    kind: Kind::Gauge,
    unit: Measure::Seconds,
    labels: PROBE,
    help: "Latency of the last answer",
    advice: "For a glance; use the histogram for alerts.",
};
const SENT: Family = Family {
    name: "gateway_probes",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: PROBE,
    help: "Probes sent to a gateway",
    advice: "The base for the share that is lost. No growth: probing has stopped.",
};
const LOST: Family = Family {
    name: "gateway_probes_lost",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: PROBE,
    help: "Probes of a gateway that got no answer in time",
    advice: "All kinds lost: link, VLAN or router down. Only `echo` lost: a filter or a rate limit.",
};
const UNABLE: Family = Family {
    name: "gateway_probe_unable",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: PROBE,
    help: "1 when probes of this kind cannot be sent at all",
    advice: "`weirctl status` tells why.",
};
const PATH_MTU: Family = Family {
    name: "gateway_path_mtu",
    kind: Kind::Gauge,
    unit: Measure::Bytes,
    labels: &["interface", "gateway"],
    help: "Largest IP packet that a gateway answered with fragmentation forbidden",
    advice: "Below the link's MTU: a switch or the router has a smaller one; raise it or lower the link's.",
};

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[&LATENCY, &LAST, &SENT, &LOST, &UNABLE, &PATH_MTU];

/// The word for the link-layer probe of an address.
pub(crate) fn link_layer_kind(gateway: IpAddr) -> &'static str {
    if gateway.is_ipv4() { "arp" } else { "nd" }
}

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let gateways: Vec<Named<'_>> =
        snapshot.gateways.values().filter_map(|one| Named::of(snapshot, one)).collect();
    let probes: Vec<([Value<'_>; 3], &Probe)> = gateways.iter().flat_map(Named::probes).collect();
    page.histogram(
        &LATENCY,
        // Before the first answer nobody knows the buckets.
        probes
            .iter()
            .filter(|(_, probe)| !probe.latency.buckets.is_empty())
            .map(|(labels, probe)| (labels.clone(), buckets(&probe.latency))),
    )?;
    let last = probes.iter().filter_map(|(labels, probe)| Some((labels.clone(), probe.last?.as_secs_f64())));
    page.gauge(&LAST, last)?;
    page.counter(&SENT, probes.iter().map(|(labels, probe)| (labels.clone(), probe.sent)))?;
    page.counter(&LOST, probes.iter().map(|(labels, probe)| (labels.clone(), probe.lost)))?;
    let unable = probes.iter().map(|(labels, probe)| (labels.clone(), u64::from(probe.unable.is_some())));
    page.gauge(&UNABLE, unable)?;
    page.gauge(&PATH_MTU, gateways.iter().filter_map(Named::path_mtu))
}

struct Named<'a> {
    interface: &'a str,
    gateway: String,
    probe: &'a GatewayProbe,
}

impl<'a> Named<'a> {
    fn of(snapshot: &'a Snapshot, probe: &'a GatewayProbe) -> Option<Self> {
        let interface = &snapshot.links.get(&probe.interface)?.name;
        Some(Self { interface, gateway: probe.gateway.to_string(), probe })
    }

    fn probes(&self) -> [([Value<'_>; 3], &Probe); 2] {
        let labels = |kind: &'static str| {
            [Value::Text(word(self.interface)), self.gateway.as_str().into(), kind.into()]
        };
        [
            (labels(link_layer_kind(self.probe.gateway)), &self.probe.link_layer),
            (labels("echo"), &self.probe.echo),
        ]
    }

    fn path_mtu(&self) -> Option<([Value<'_>; 2], u64)> {
        let labels = [Value::Text(word(self.interface)), self.gateway.as_str().into()];
        Some((labels, self.probe.path_mtu?.into()))
    }
}
