//! The agent itself: how it is attached, what it costs, what it may have missed.

use std::collections::BTreeMap;
use std::fmt;

use super::family::{Family, Kind, Measure, Page, Value, word};
use super::{Scrape, Serving};
use crate::model::capability::FeatureState;
use crate::model::interface::{Hook, HookState};
use crate::model::measurement::Measurement;
use crate::model::program::{MapFill, ProgramCost};
use crate::state::Snapshot;

const HOOK: &[&str] = &["interface", "direction"];

const fn family(
    name: &'static str,
    kind: Kind,
    unit: Measure,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    Family { name, kind, unit, labels, help, advice }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    family(name, Kind::Counter, Measure::Number, labels, help, advice)
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    family(name, Kind::Gauge, Measure::Number, labels, help, advice)
}

const BUILD: Family = family(
    "build",
    Kind::Info,
    Measure::Number,
    &["version"],
    "The agent's version",
    "More than one version over the nodes: an upgrade is under way or stuck.",
);
const NODE: Family = family(
    "node",
    Kind::Info,
    Measure::Number,
    &["node", "kernel", "lockdown"],
    "The node, its kernel and the kernel's lockdown mode",
    "Join on `instance` to group by kernel.",
);
const CAPABILITY: Family = gauge(
    "capability",
    &["feature", "state"],
    "1 for the state in which a feature is on this node",
    "`weir-agent check` tells why a feature is degraded or off, and the way out.",
);
const HOOK_STATE: Family = gauge(
    "hook_state",
    &["interface", "direction", "state"],
    "1 for the way in which the agent's program sits on a hook",
    "Anything but `head`: other programs may hide packets, or none are seen. `weirctl status` tells why.",
);
const HOOK_PROGRAMS: Family = gauge(
    "hook_programs",
    HOOK,
    "Programs on a hook, the agent's own included",
    "A change means that somebody attached or removed a program.",
);
const HOOK_BEFORE: Family = gauge(
    "hook_programs_before",
    HOOK,
    "Programs that run before the agent's own",
    "Above zero: they may drop or redirect packets unseen.",
);
const UNOBSERVED: Family = family(
    "unobserved",
    Kind::Counter,
    Measure::Seconds,
    &[],
    "Time during which a hook was not observed",
    "Counters miss what passed in that time.",
);
const MISSED: Family = counter(
    "missed_events",
    &["kind"],
    "Times the kernel's notifications of a kind may have been missed; everything was read again",
    "Frequent: interfaces change faster than the socket's buffer holds.",
);
const RUNS: Family = counter(
    "program_runs",
    &["program"],
    "Runs of the agent's programs while the kernel's statistics were on",
    "Needs `kernel.bpf_stats_enabled`.",
);
const RUN_TIME: Family = family(
    "program_run",
    Kind::Counter,
    Measure::Seconds,
    &["program"],
    "Time spent in the agent's programs, the clock's own cost included",
    "Divide by the runs for the time a packet.",
);
const PROGRAM_MEMORY: Family = family(
    "program_memory",
    Kind::Gauge,
    Measure::Bytes,
    &["program"],
    "Kernel memory of the agent's programs",
    "Constant for a version.",
);
const MAP_ENTRIES: Family = gauge(
    "map_entries",
    &["map"],
    "Entries of the agent's maps",
    "At the capacity: old entries make room for new ones.",
);
const MAP_CAPACITY: Family = gauge(
    "map_capacity_entries",
    &["map"],
    "Most entries of the agent's maps",
    "Raise the size in the configuration.",
);
const MAP_MEMORY: Family = family(
    "map_memory",
    Kind::Gauge,
    Measure::Bytes,
    &["map"],
    "Kernel memory of the agent's maps",
    "Grows with the size and the number of CPUs.",
);
const EVICTED: Family = counter(
    "flows_evicted",
    &[],
    "Flows that made room for newer ones",
    "`weirctl flows` misses them; totals do not. Raise the flow table's size.",
);
const INSERT_FAILURES: Family = counter(
    "flow_insert_failures",
    &[],
    "Packets that found no flow entry and could not make one",
    "They are in the interface's totals, in no flow. Raise the flow table's size.",
);
const OVERFLOW: Family = counter(
    "ledger_overflow_packets",
    &[],
    "Packets of virtual addresses or classes that went to the overflow row",
    "They are in port `other`. Fewer ports or virtual addresses, or a larger ledger.",
);
const EVENTS_LOST: Family = counter(
    "events_lost",
    &[],
    "Events that did not fit into the ring to user space",
    "No counter is affected; details of single events are missing.",
);
const SCRAPES: Family =
    counter("scrapes", &[], "Scrapes answered", "More than your Prometheus servers make: who else reads?");
const REFUSED: Family = counter(
    "scrapes_refused",
    &[],
    "Scrapes refused because too many ran already",
    "Lengthen the scrape interval or find who else reads.",
);
const SOURCE_TIME: Family = family(
    "source_read",
    Kind::Gauge,
    Measure::Seconds,
    &["source"],
    "Time that reading a source took for this scrape",
    "A steady rise: larger tables or a busy node.",
);
const SOURCE_ERRORS: Family = counter(
    "source_errors",
    &["source"],
    "Times a source could not be read; its series are then left out",
    "The agent's log names the cause.",
);
const STREAMS: Family =
    gauge("grpc_streams", &[], "gRPC streams being served", "Who watches the node with `weirctl`.");
const SKIPPED: Family = counter(
    "grpc_intervals_skipped",
    &[],
    "Intervals that streams left out because their clients were slow",
    "Slow clients; the agent holds nothing for them.",
);
const RESIDENT: Family = family(
    "agent_resident_memory",
    Kind::Gauge,
    Measure::Bytes,
    &[],
    "The agent's resident memory",
    "Steady growth is a leak: report it.",
);
const CPU: Family = family(
    "agent_cpu",
    Kind::Counter,
    Measure::Seconds,
    &[],
    "CPU time of the agent in user space and in its system calls",
    "The programs' own time is in `weir_program_run_seconds_total`.",
);

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[
    &BUILD,
    &NODE,
    &CAPABILITY,
    &HOOK_STATE,
    &HOOK_PROGRAMS,
    &HOOK_BEFORE,
    &UNOBSERVED,
    &MISSED,
    &RUNS,
    &RUN_TIME,
    &PROGRAM_MEMORY,
    &MAP_ENTRIES,
    &MAP_CAPACITY,
    &MAP_MEMORY,
    &EVICTED,
    &INSERT_FAILURES,
    &OVERFLOW,
    &EVENTS_LOST,
    &SCRAPES,
    &REFUSED,
    &SOURCE_TIME,
    &SOURCE_ERRORS,
    &STREAMS,
    &SKIPPED,
    &RESIDENT,
    &CPU,
];

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, scrape: &Scrape) -> fmt::Result {
    node(page, &scrape.snapshot)?;
    hooks(page, &scrape.snapshot)?;
    page.seconds(&UNOBSERVED, [([], scrape.snapshot.unobserved.as_secs_f64())])?;
    page.counter(&MISSED, scrape.snapshot.missed.iter().map(|(kind, times)| ([(*kind).into()], *times)))?;
    if let Some(measurement) = &scrape.measurement {
        cost(page, measurement)?;
    }
    serving(page, &scrape.serving)
}

/// The word of a hook's state in labels and tables, the programs before ours, and why.
pub(crate) fn hook_words(state: &HookState) -> (&'static str, Option<usize>, Option<String>) {
    match state {
        HookState::Head => ("head", Some(0), None),
        HookState::NotHead { before } => {
            ("not-head", Some(*before), Some(format!("{before} before ours, which may hide packets")))
        }
        HookState::LegacyTc => (
            "legacy-tc",
            None,
            Some("this kernel has no TCX; a TCX program would run before ours".to_owned()),
        ),
        HookState::Detached { reason } => ("detached", None, Some(reason.clone())),
    }
}

/// The word of a feature's state in labels and tables, and why.
pub(crate) fn feature_words(state: &FeatureState) -> (&'static str, Option<&str>) {
    match state {
        FeatureState::Works => ("works", None),
        FeatureState::Degraded { reason } => ("degraded", Some(reason)),
        FeatureState::Off { reason } => ("off", Some(reason)),
    }
}

fn node(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    page.info(&BUILD, [[env!("CARGO_PKG_VERSION").into()]])?;
    let report = &snapshot.capabilities;
    let lockdown = report.lockdown.as_deref().unwrap_or("unknown");
    page.info(
        &NODE,
        [[snapshot.node.as_str(), &report.kernel, lockdown].map(|text| Value::Text(word(text)))],
    )?;
    let features = report.features.iter().flat_map(|feature| {
        let now = feature_words(&feature.state).0;
        ["works", "degraded", "off"]
            .map(|state| ([feature.name.into(), state.into()], u64::from(state == now)))
    });
    page.gauge(&CAPABILITY, features)
}

fn hooks(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    // A hook may outlive its interface, and a new interface may then bear the same name.
    let hooks: Vec<&Hook> =
        snapshot.hooks.values().filter(|hook| snapshot.links.contains_key(&hook.interface)).collect();
    let labels = |hook: &'_ Hook| {
        let name = snapshot.links.get(&hook.interface).map_or("", |link| link.name.as_str());
        [Value::Text(word(name)), hook.direction.as_str().into()]
    };
    let states = hooks.iter().flat_map(|hook| {
        let now = hook_words(&hook.state).0;
        ["head", "not-head", "legacy-tc", "detached"].map(|state| {
            let [interface, direction] = labels(hook);
            ([interface, direction, state.into()], u64::from(state == now))
        })
    });
    page.gauge(&HOOK_STATE, states)?;
    page.gauge(&HOOK_PROGRAMS, hooks.iter().map(|hook| (labels(hook), hook.programs.len() as u64)))?;
    let before = hooks.iter().filter_map(|hook| Some((labels(hook), hook_words(&hook.state).1? as u64)));
    page.gauge(&HOOK_BEFORE, before)
}

fn cost(page: &mut Page<'_>, measurement: &Measurement) -> fmt::Result {
    // A program on several hooks may come several times.
    let mut programs: BTreeMap<&str, (u64, f64, u64)> = BTreeMap::new();
    for ProgramCost { program, runs, run_time, memory_bytes } in &measurement.programs {
        let sum = programs.entry(program).or_default();
        *sum = (sum.0 + runs, sum.1 + run_time.as_secs_f64(), sum.2 + memory_bytes);
    }
    let of = |name: &'_ &str| [Value::Text(word(name).into_owned().into())];
    page.counter(&RUNS, programs.iter().map(|(name, sum)| (of(name), sum.0)))?;
    page.seconds(&RUN_TIME, programs.iter().map(|(name, sum)| (of(name), sum.1)))?;
    page.gauge(&PROGRAM_MEMORY, programs.iter().map(|(name, sum)| (of(name), sum.2)))?;
    let maps: BTreeMap<&str, &MapFill> = measurement.maps.iter().map(|map| (map.map.as_str(), map)).collect();
    page.gauge(&MAP_ENTRIES, maps.iter().map(|(name, map)| (of(name), map.entries)))?;
    page.gauge(&MAP_CAPACITY, maps.iter().map(|(name, map)| (of(name), map.capacity)))?;
    page.gauge(&MAP_MEMORY, maps.iter().map(|(name, map)| (of(name), map.memory_bytes)))?;
    let shortfall = &measurement.shortfall;
    page.counter(&EVICTED, [([], shortfall.flows_evicted)])?;
    page.counter(&INSERT_FAILURES, [([], shortfall.flow_insert_failures)])?;
    page.counter(&OVERFLOW, [([], shortfall.ledger_overflow)])?;
    page.counter(&EVENTS_LOST, [([], shortfall.events_lost)])
}

fn serving(page: &mut Page<'_>, serving: &Serving) -> fmt::Result {
    page.counter(&SCRAPES, [([], serving.scrapes)])?;
    page.counter(&REFUSED, [([], serving.refused)])?;
    let sources = &serving.sources;
    let took = sources.iter().filter_map(|one| Some(([one.source.into()], one.took?.as_secs_f64())));
    page.gauge(&SOURCE_TIME, took)?;
    page.counter(&SOURCE_ERRORS, sources.iter().map(|one| ([one.source.into()], one.errors)))?;
    page.gauge(&STREAMS, [([], serving.streams)])?;
    page.counter(&SKIPPED, [([], serving.skipped)])?;
    page.gauge(&RESIDENT, serving.resident_bytes.map(|bytes| ([], bytes)))?;
    page.seconds(&CPU, serving.cpu_time.map(|time| ([], time.as_secs_f64())))
}
