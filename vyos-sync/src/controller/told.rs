//! What a pass and a look at the clusters mean in metrics and logs.

use std::time::Duration;

use jiff::Timestamp;

use crate::export::{Metrics, OfReach, OfRouter, OfVerb, WithReason};
use crate::inputs::Snapshot;
use crate::pass::{Error, Outcome, Report};

impl Metrics {
    /// Counts a pass and shows how the router stands.
    pub(super) fn tell_pass(&self, router: &str, pass: Result<&Report, &Error>, took: Duration) {
        let of = OfRouter { router: router.to_owned() };
        self.seconds.get_or_create(&of).observe(took.as_secs_f64());
        let result = pass.map_or("error", |report| report.outcome.word());
        self.reconciles.get_or_create(&WithReason { router: router.to_owned(), result }).inc();
        let away = pass.is_err_and(|error| !error.reached());
        self.reachable.get_or_create(&of).set(i64::from(!away));
        match pass {
            Ok(report) => self.tell_report(&of, report),
            Err(_) => drop(self.synced.get_or_create(&of).set(0)),
        }
    }

    fn tell_report(&self, of: &OfRouter, report: &Report) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let synced = matches!(report.outcome, Outcome::InSync | Outcome::Applied(_));
        self.planned.get_or_create(of).set(if synced { 0 } else { count(report.plan.commands.len()) });
        self.problems
            .get_or_create(of)
            .set(count(report.compiled.problems().count() + report.plan.blocked.len()));
        self.synced.get_or_create(of).set(i64::from(synced));
        self.show_places(of, report.compiled.intent.misplaced.as_ref());
        if synced {
            self.synced_at.get_or_create(of).set(Timestamp::now().as_millisecond() as f64 / 1_000.0);
        }
        let said = report.outcome.to_string();
        match &report.outcome {
            Outcome::InSync => tracing::debug!(router = of.router, "{said}"),
            Outcome::Applied(_) | Outcome::Observed => tracing::info!(router = of.router, "{said}"),
            _ => tracing::warn!(router = of.router, "{said}"),
        }
    }

    /// Counts what was sent to a router.
    pub(super) fn count_sent(&self, router: &str, (requests, commits): (u64, u64)) {
        let of = OfRouter { router: router.to_owned() };
        self.requests.get_or_create(&of).inc_by(requests);
        self.commits.get_or_create(&of).inc_by(commits);
    }

    /// Takes over how many calls were sent so far.
    pub(super) fn count_calls(&self, counts: impl Iterator<Item = (&'static str, u64)>) {
        for (verb, count) in counts {
            let counter = self.calls.get_or_create(&OfVerb { verb }).clone();
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Shows how many other clusters answer.
    pub(super) fn show_clusters(&self, shot: &Snapshot) {
        let all: std::collections::BTreeSet<_> = shot
            .sources
            .iter()
            .map(|(cluster, ..)| cluster)
            .chain(shot.inputs.stale.keys())
            .filter(|c| !c.is_local())
            .collect();
        let stale = shot.inputs.stale.len();
        for (state, number) in [("reachable", all.len().saturating_sub(stale)), ("stale", stale)] {
            self.clusters.get_or_create(&OfReach { state }).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}
