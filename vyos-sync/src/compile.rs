//! Inputs to plan, purely: derive, number, render, plan. The same for `plan`, `apply`, `run`, `validate` and `replay`.

use std::collections::BTreeMap;

use crate::{
    config::{ConfigPath, Dialect, Schema, Tree},
    crd::{DialectChoice, Drift, Mode, RouterSpec},
    hold, in_use,
    inputs::{Inputs, Object, Origin},
    intent::{self, Intent, Problem},
    numbering,
    plan::{self, Keep, Ledger, Limits, Mark, Plan, numbers::Numbers},
    render::{self, Rendered},
};

/// What the router should hold, with all that stands in the way.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The intent.
    pub intent: Intent,
    /// The desired tree with its owners.
    pub rendered: Rendered,
    /// Numbers once given, to be kept with the ledger.
    pub numbers: Numbers,
    /// What may not be removed now.
    pub keep: Keep,
    /// What nothing wants any more and a machine is on, by its mark; it is part of `keep`.
    pub in_use: BTreeMap<Mark, Problem>,
}

/// What is known about a router when a plan is made.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What it holds.
    pub running: &'a Tree,
    /// What we applied last.
    pub ledger: &'a Ledger,
    /// Its syntax.
    pub dialect: Dialect,
    /// What it accepts.
    pub schema: &'a Schema,
    /// How much one request may hold.
    pub limits: Limits,
}

impl Compiled {
    /// Everything that is wrong, of intent and rendering, and what stays for the sake of a machine.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.intent.problems.iter().chain(&self.rendered.problems).chain(self.in_use.values())
    }
}

/// Derives, numbers and renders.
pub fn compile(
    inputs: &Inputs,
    router: &Object<RouterSpec>,
    dialect: Dialect,
    running: &Tree,
    ledger: &Ledger,
) -> Compiled {
    let intent = intent::derive(inputs, &router.id.name.as_str().into());
    let (given, numbers) = numbering::number(&intent, dialect, &router.spec.rule_ranges, running, ledger);
    let rendered = render::render(&intent, dialect, &given);
    let in_use = in_use::in_use(inputs, &router.spec, &intent, ledger);
    let keep = match hold::keep(inputs, &intent, &rendered.problems, ledger, &in_use) {
        Keep::Nothing if router.deleting || inputs.origin == Origin::Cluster => Keep::NotEvenTheLast,
        keep => keep,
    };
    Compiled { intent, rendered, numbers, keep, in_use }
}

/// Plans.
pub fn plan(compiled: &Compiled, router: &RouterSpec, known: Known<'_>) -> Plan {
    let policy = policy(compiled, router, known.limits);
    plan::plan(&plan::Inputs {
        desired: &compiled.rendered.desired,
        running: known.running,
        ledger: known.ledger,
        policy: &policy,
        dialect: known.dialect,
        schema: known.schema,
    })
}

fn policy(compiled: &Compiled, router: &RouterSpec, limits: Limits) -> plan::Policy {
    let paths = router.protected_paths.iter().chain(&router.management_path);
    plan::Policy {
        mode: match router.mode {
            Mode::Observe => plan::Mode::Observe,
            Mode::Upsert => plan::Mode::Upsert,
            Mode::Sync => plan::Mode::Sync,
        },
        drift: match router.drift {
            Drift::Revert => plan::Drift::Revert,
            Drift::Report => plan::Drift::Report,
        },
        deletion_budget: usize::try_from(router.deletion_budget).ok(),
        keep: compiled.keep.clone(),
        protected: paths.filter_map(|path| path.parse::<ConfigPath>().ok()).collect(),
        management: router.endpoints.iter().find_map(|e| address_of(e)),
        limits,
        ..plan::Policy::default()
    }
}

/// The address in an endpoint, where it is one and not a name.
fn address_of(endpoint: &str) -> Option<std::net::IpAddr> {
    let host = endpoint.strip_prefix("https://")?.split('/').next()?;
    let bare = |host: &str| host.trim_matches(['[', ']']).parse().ok();
    bare(host).or_else(|| bare(host.rsplit_once(':')?.0))
}

/// The dialect that the Router object fixes.
pub fn fixed_dialect(router: &RouterSpec) -> Option<Dialect> {
    match router.dialect {
        DialectChoice::Auto => None,
        DialectChoice::V1_4 => Some(Dialect::V1_4),
        DialectChoice::V1_5 => Some(Dialect::V1_5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_management_address_is_found() {
        let of = |text: &str| address_of(text).map(|a| a.to_string());
        assert_eq!(of("https://10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(of("https://10.0.0.1:8443/").as_deref(), Some("10.0.0.1"));
        assert_eq!(of("https://[fd00::1]:443").as_deref(), Some("fd00::1"));
        assert_eq!(of("https://[fd00::1]").as_deref(), Some("fd00::1"));
        assert_eq!(of("https://router.lan"), None);
    }
}
