//! What rules did, and which set of them is in force.

use std::fmt;

use super::family::{Family, Kind, Measure, Page, Value, word};
use crate::model::ambient::{Count, Security, Talk};
use crate::model::policy::{PolicyStatus, RuleStatus};
use crate::model::workload::Workload;

const RULE: &[&str] = &["policy", "rule", "verdict", "mode"];

const PACKETS: Family = Family {
    name: "policy_packets",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: RULE,
    help: "Packets that matched a rule, by what became of them or, in audit mode, would have",
    advice: "A rule in audit mode with `drop` where you expect none: look at its samples before you enforce it.",
};
const BYTES: Family = Family {
    name: "policy",
    kind: Kind::Counter,
    unit: Measure::Bytes,
    labels: RULE,
    help: "Octets of these packets; none are counted for `saved`",
    advice: "As for the packets.",
};
const GENERATION: Family = Family {
    name: "policy_generation",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["state"],
    help: "Number of the set of rules that is in force, confirmed, or pending; 0 is none",
    advice: "`pending` for longer than the deadline does not happen: the kernel goes back. See `weirctl policy list` for what it waits for.",
};
const REVERTS: Family = Family {
    name: "policy_reverts",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: &["cause"],
    help: "Sets of rules that were given up since the agent started, by cause",
    advice: "`deadline`: the new policy cut the agent off, or nothing confirmed it. Mend it; it is not tried again unchanged.",
};
const PROBLEMS: Family = Family {
    name: "policy_problems",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["reason"],
    help: "What is wrong with policies now, by reason",
    advice: "`weirctl policy list` names the fields.",
};

const MESH: &[&str] = &["workload", "security"];

const MESH_PACKETS: Family = Family {
    name: "ambient_packets",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: MESH,
    help: "Packets between Pods in Istio's ambient mesh, by workload of this node: under mTLS (HBONE) or in clear; needs a `meshGuard`",
    advice: "`plain` grows: `weirctl policy list` names both workloads. Pods that were there before the mesh must be restarted.",
};
const MESH_BYTES: Family = Family {
    name: "ambient",
    kind: Kind::Counter,
    unit: Measure::Bytes,
    labels: MESH,
    help: "Octets of these packets",
    advice: "The share of `mtls` in both is how much of the traffic the mesh covers.",
};

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] =
    &[&PACKETS, &BYTES, &GENERATION, &REVERTS, &PROBLEMS, &MESH_PACKETS, &MESH_BYTES];

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, status: &PolicyStatus) -> fmt::Result {
    let labels = |rule: &'_ RuleStatus, verdict: &'static str| {
        [
            Value::from(word(&rule.policy).into_owned()),
            Value::from(word(&rule.rule).into_owned()),
            Value::from(verdict),
            Value::from(rule.mode.as_str()),
        ]
    };
    let packets = status.rules.iter().flat_map(|rule| {
        let counts = [("pass", rule.passed), ("drop", rule.dropped), ("saved", rule.saved)];
        counts.map(|(verdict, count)| (labels(rule, verdict), count))
    });
    page.counter(&PACKETS, packets)?;
    let bytes = status.rules.iter().flat_map(|rule| {
        let counts = [("pass", rule.passed_bytes), ("drop", rule.dropped_bytes)];
        counts.map(|(verdict, count)| (labels(rule, verdict), count))
    });
    page.counter(&BYTES, bytes)?;
    let pending = status.pending.as_ref().map_or(0, |pending| pending.generation);
    let states = [("active", status.active), ("confirmed", status.confirmed), ("pending", pending)];
    page.gauge(&GENERATION, states.map(|(state, generation)| ([state.into()], u64::from(generation))))?;
    page.counter(&REVERTS, status.reverts.iter().map(|(cause, count)| ([Value::from(*cause)], *count)))?;
    let mut reasons = std::collections::BTreeMap::<&str, u64>::new();
    for problem in &status.problems {
        *reasons.entry(problem.reason.as_str()).or_default() += 1;
    }
    page.gauge(&PROBLEMS, reasons.into_iter().map(|(reason, count)| ([Value::from(reason)], count)))?;
    let mesh = by_workload(&status.talks);
    page.counter(&MESH_PACKETS, mesh.iter().map(|(labels, count)| (labels.clone(), count.packets)))?;
    page.counter(&MESH_BYTES, mesh.iter().map(|(labels, count)| (labels.clone(), count.bytes)))
}

/// One series a workload of this node and kind of security; those that cannot be told apart are `unknown`.
fn by_workload(talks: &[Talk]) -> Vec<([Value<'static>; 2], Count)> {
    let mut sums = std::collections::BTreeMap::<(Option<&Workload>, Security), Count>::new();
    for talk in talks {
        for (security, count) in [(Security::Mtls, talk.mtls), (Security::Plain, talk.plain)] {
            sums.entry((talk.here.as_deref(), security)).or_default().add(count);
        }
    }
    let named = |((workload, security), count): ((Option<&Workload>, Security), Count)| {
        let name = workload.map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let labels = [Value::from(word(&name).into_owned()), Value::from(security.as_str())];
        (labels, count)
    };
    sums.into_iter().map(named).collect()
}
