//! The truth table as messages. Pure.

use std::net::IpAddr;
use std::time::Duration;

use tonic::Status;

use super::convert::nanoseconds;
use super::proto;
use crate::model::cluster::NodesKnown;
use crate::model::vip::{Answer, Evidence, Finding, Row, Table, VipState};

/// The table, or the rows with one state.
pub(super) fn table(table: &Table, state: Option<&str>) -> Result<proto::VipsResponse, Status> {
    let state = state.map(state_named).transpose()?;
    let wanted = |row: &&Row| match state {
        None => true,
        Some(VipState::Ok) => row.findings.is_empty(),
        Some(state) => row.findings.iter().any(|finding| finding.state == state),
    };
    let evidence = &table.evidence;
    Ok(proto::VipsResponse {
        vips: table.rows.iter().filter(wanted).map(|row| vip(row, evidence.now)).collect(),
        sources: sources(evidence),
        problems: problems(table),
    })
}

fn state_named(text: &str) -> Result<VipState, Status> {
    let found = VipState::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| {
        let words: Vec<&str> = VipState::ALL.into_iter().map(VipState::as_str).collect();
        Status::invalid_argument(format!("state is {text}; it is one of {}", words.join(", ")))
    })
}

/// The way of an address.
pub(super) fn explanation(table: &Table, address: &str) -> Result<proto::ExplainResponse, Status> {
    let vip: IpAddr = address.trim().parse().map_err(|_| {
        Status::invalid_argument(format!("address is {address:?}; write one such as 10.10.50.10"))
    })?;
    let explanation = table.explain(vip.to_canonical());
    let broken = explanation.breaks_at();
    let breaks_at = broken.and_then(|step| explanation.steps.iter().position(|one| std::ptr::eq(one, step)));
    let steps = explanation.steps.iter().map(|step| proto::Step {
        place: step.place.as_str().to_owned(),
        subject: step.subject.clone(),
        verdict: step.verdict.as_str().to_owned(),
        text: step.text.clone(),
    });
    // What has held for a while was seen to begin earlier than now.
    let mut row = explanation.row.clone();
    let known = table.rows.iter().find(|one| one.vip == row.vip);
    for finding in &mut row.findings {
        let held = known.iter().flat_map(|one| &one.findings).find(|one| one.state == finding.state);
        finding.since = held.map_or(finding.since, |one| one.since);
    }
    Ok(proto::ExplainResponse {
        vip: Some(self::vip(&row, table.evidence.now)),
        steps: steps.collect(),
        breaks_at: breaks_at.and_then(|at| u32::try_from(at).ok()),
    })
}

fn sources(evidence: &Evidence) -> Vec<String> {
    let given = (!evidence.given.is_empty()).then(|| "flags".to_owned());
    let objects = evidence.cluster.as_ref().map(|cluster| match cluster.nodes_known {
        NodesKnown::All => "manifests".to_owned(),
        NodesKnown::Own => "cluster".to_owned(),
    });
    let wire = evidence.own.sessions.is_some().then(|| "wire".to_owned());
    let routers = evidence.fresh_routers().map(|view| format!("router {}", view.router));
    given.into_iter().chain(objects).chain(wire).chain(routers).collect()
}

fn problems(table: &Table) -> Vec<proto::Problem> {
    let faults = table
        .faults
        .iter()
        .map(|fault| proto::Problem { source: fault.place.clone(), text: fault.what.clone() });
    let evidence = &table.evidence;
    let stale = evidence.routers.iter().filter(|view| view.is_stale(evidence.wall)).map(|view| {
        let age = view.age(evidence.wall).as_secs();
        proto::Problem {
            source: format!("router {}", view.router),
            text: format!("its view is {age} s old and not used: look whether vyos-sync runs"),
        }
    });
    let partial = evidence.fresh_routers().flat_map(|view| {
        view.problems
            .iter()
            .map(|text| proto::Problem { source: format!("router {}", view.router), text: text.clone() })
    });
    faults.chain(stale).chain(partial).collect()
}

fn vip(row: &Row, now: Duration) -> proto::Vip {
    let texts = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect();
    proto::Vip {
        address: row.vip.to_string(),
        services: row.services.clone(),
        policy: row.policy.clone(),
        pool: row.pool.clone(),
        wanted: row.wanted.as_str().to_owned(),
        announced: texts(row.announced.as_deref().unwrap_or_default()),
        announced_known: row.announced.is_some(),
        learned: row
            .learned
            .iter()
            .map(|one| proto::Learned {
                router: one.router.clone(),
                next_hops: texts(&one.next_hops),
                here: one.here,
            })
            .collect(),
        endpoints_here: row.endpoints.map(|[here, _]| here as u64),
        endpoints: row.endpoints.map(|[_, all]| all as u64),
        answers: row
            .answers
            .iter()
            .map(|(port, answer)| proto::PortAnswer {
                port: port.port.into(),
                protocol: port.protocol.to_string(),
                answer: answer.as_str().to_owned(),
                latency_ns: match answer {
                    Answer::Answered(time) => Some(nanoseconds(*time)),
                    _ => None,
                },
            })
            .collect(),
        packets_in: row.packets[0],
        packets_out: row.packets[1],
        findings: row.findings.iter().map(|one| finding(one, now)).collect(),
    }
}

fn finding(finding: &Finding, now: Duration) -> proto::Finding {
    proto::Finding {
        state: finding.state.as_str().to_owned(),
        basis: finding.basis.iter().map(ToString::to_string).collect(),
        what: finding.what.clone(),
        action: finding.action.clone(),
        age_ns: nanoseconds(now.saturating_sub(finding.since)),
    }
}
