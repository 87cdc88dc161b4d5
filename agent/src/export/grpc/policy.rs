//! What is asked of enforcement over gRPC.

use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use super::{Service, convert, unavailable};
use crate::export::proto;
use crate::model::address::{BadMac, Direction};
use crate::model::ambient::{Security, Talk};
use crate::model::policy::{
    Claim, DropEvent, Enforcement, EnforcementError, Packet, Pair, PolicyStatus, Problem, Ruling, Source,
    mesh_security,
};
use crate::model::workload::Workload;
use crate::state::Snapshot;

pub(super) async fn list(service: &Service) -> Result<proto::PolicyResponse, Status> {
    if service.policy.is_none() {
        return Ok(proto::PolicyResponse::default());
    }
    Ok(response(ask(service, |policy| policy.status()).await?))
}

pub(super) async fn settle(
    service: &Service,
    request: proto::PolicySettleRequest,
) -> Result<proto::PolicySettleResponse, Status> {
    let settle =
        move |policy: &dyn Enforcement| if request.confirm { policy.confirm() } else { policy.revert() };
    Ok(proto::PolicySettleResponse { generation: ask(service, settle).await? })
}

pub(super) async fn diff(
    service: &Service,
    request: proto::PolicyDiffRequest,
) -> Result<proto::PolicyDiffResponse, Status> {
    let mut sources = Vec::new();
    for text in &request.sources {
        let source: Source = serde_json::from_str(text)
            .map_err(|error| Status::invalid_argument(format!("a policy is not valid: {error}")))?;
        sources.push(source);
    }
    let flows = service.flows().await.map_err(|error| unavailable(&error))?;
    let difference = ask(service, move |policy| policy.diff(&sources, &flows)).await?;
    let now = service.now();
    let changes = difference.changed.iter().map(|changed| proto::PolicyChange {
        flow: Some(convert::flow(&now, &changed.flow, [0, 0])),
        before: verdict(changed.before.0),
        before_rule: changed.before.1.clone(),
        after: verdict(changed.after.0),
        after_rule: changed.after.1.clone(),
    });
    let claims = difference.changed_claims.into_iter().map(|changed| proto::PolicyClaimChange {
        address: changed.claim.address.to_string(),
        mac: changed.claim.mac.to_string(),
        interface: now.interface_name(changed.interface),
        before: verdict(changed.before.0),
        before_rule: changed.before.1,
        after: verdict(changed.after.0),
        after_rule: changed.after.1,
    });
    Ok(proto::PolicyDiffResponse {
        flows: difference.flows,
        changes: changes.collect(),
        claims: difference.claims,
        claim_changes: claims.collect(),
        policy_problems: difference.problems.into_iter().map(problem).collect(),
    })
}

pub(super) async fn trace(
    service: &Service,
    request: proto::PolicyTraceRequest,
) -> Result<proto::PolicyTraceResponse, Status> {
    let packet = packet(&service.now(), &request).map_err(Status::invalid_argument)?;
    let trace = ask(service, move |policy| policy.trace(&packet)).await?;
    Ok(proto::PolicyTraceResponse {
        reference: Some(ruling(trace.reference)),
        kernel: Some(ruling(trace.kernel)),
        agree: trace.agree,
    })
}

pub(super) fn events(service: &Service) -> Result<super::Stream<proto::PolicyEvent>, Status> {
    let heard = service.listeners.as_ref().ok_or_else(nothing)?.subscribe();
    let service = service.clone();
    let looks = stream::unfold((service, heard, 0u64), |(service, mut heard, mut left_out)| async move {
        loop {
            match heard.recv().await {
                Ok(event) => {
                    let event = told(&service.now(), &event, left_out);
                    return Some((Ok(event), (service, heard, 0)));
                }
                Err(RecvError::Lagged(missed)) => left_out += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Ok(looks.boxed())
}

fn told(now: &Snapshot, event: &DropEvent, left_out: u64) -> proto::PolicyEvent {
    proto::PolicyEvent {
        time_ns: nanos(event.time),
        rule: event.rule.clone(),
        mode: event.mode.as_str().to_owned(),
        interface: now.interface_name(event.interface),
        direction: event.direction.to_string(),
        verdict: if event.saved { "saved" } else { "drop" }.to_owned(),
        early: event.early,
        length: event.length,
        octets: event.octets.clone(),
        left_out,
    }
}

fn nothing() -> Status {
    Status::failed_precondition("the agent enforces nothing; start it with --policy PATH")
}

/// Asks where blocking is allowed.
async fn ask<T: Send + 'static>(
    service: &Service,
    question: impl FnOnce(&dyn Enforcement) -> Result<T, EnforcementError> + Send + 'static,
) -> Result<T, Status> {
    let policy = Arc::clone(service.policy.as_ref().ok_or_else(nothing)?);
    let answer = tokio::task::spawn_blocking(move || question(policy.as_ref())).await;
    match answer.map_err(|error| Status::internal(error.to_string()))? {
        Ok(answer) => Ok(answer),
        Err(error @ EnforcementError::NotNow(_)) => Err(Status::failed_precondition(error.to_string())),
        Err(error @ EnforcementError::Kernel(_)) => Err(Status::unavailable(error.to_string())),
    }
}

fn verdict(dropped: bool) -> String {
    if dropped { "drop" } else { "pass" }.to_owned()
}

fn ruling(ruling: Ruling) -> proto::PolicyRuling {
    let matched = ruling.matched.iter().map(|(rule, mode)| format!("{rule} ({})", mode.as_str()));
    proto::PolicyRuling { verdict: verdict(ruling.dropped), matched: matched.collect(), rule: ruling.rule }
}

fn problem(problem: Problem) -> proto::PolicyProblem {
    let Problem { policy, field, reason, text } = problem;
    proto::PolicyProblem { policy, field, reason: reason.as_str().to_owned(), text }
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn response(status: PolicyStatus) -> proto::PolicyResponse {
    let rules = status.rules.into_iter().map(|rule| proto::PolicyRule {
        policy: rule.policy,
        rule: rule.rule,
        mode: rule.mode.as_str().to_owned(),
        action: rule.action.map(str::to_owned),
        direction: rule.direction.map(|direction| direction.to_string()),
        passed: rule.passed,
        passed_bytes: rule.passed_bytes,
        dropped: rule.dropped,
        dropped_bytes: rule.dropped_bytes,
        saved: rule.saved,
        idle_ns: rule.idle.map(nanos),
    });
    let under_mtls = |pair: &Pair| {
        let rule = pair.rule.split_once('/').and_then(|(_, rule)| mesh_security(rule));
        rule.is_some_and(|(_, security)| security == Security::Mtls)
    };
    let pairs = status.pairs.into_iter().filter(|pair| !under_mtls(pair)).map(|pair| proto::PolicyPair {
        rule: pair.rule,
        source: pair.source.to_string(),
        destination: pair.destination.to_string(),
        packets: pair.packets,
        bytes: pair.bytes,
    });
    let reverts = status.reverts.into_iter();
    proto::PolicyResponse {
        enforcing: true,
        active: status.active,
        confirmed: status.confirmed,
        pending: status.pending.map(|pending| proto::PolicyPending {
            generation: pending.generation,
            left_ns: nanos(pending.left),
            waits_for: pending.waits_for,
        }),
        rules: rules.collect(),
        policy_problems: status.problems.into_iter().map(problem).collect(),
        reverts: reverts
            .map(|(cause, times)| proto::PolicyRevert { cause: cause.to_owned(), times })
            .collect(),
        unkept: status.unkept,
        pairs: pairs.collect(),
        talks: status.talks.into_iter().map(talk).collect(),
        early: status.early.iter().map(|(interface, mode)| format!("{interface} ({mode})")).collect(),
    }
}

fn talk(talk: Talk) -> proto::MeshTalk {
    let name = |one: Option<Arc<Workload>>| one.map(|one| one.to_string()).unwrap_or_default();
    proto::MeshTalk {
        here: name(talk.here),
        peer: name(talk.peer),
        mtls_packets: talk.mtls.packets,
        mtls_bytes: talk.mtls.bytes,
        plain_packets: talk.plain.packets,
        plain_bytes: talk.plain.bytes,
    }
}

/// A packet from words.
fn packet(now: &Snapshot, request: &proto::PolicyTraceRequest) -> Result<Packet, String> {
    let interface = now.links.values().find(|link| link.name == request.interface).map(|link| link.index);
    let interface = interface.ok_or_else(|| format!("there is no interface {:?}", request.interface))?;
    let address = |text: &str| {
        let read: Result<IpAddr, _> = text.parse();
        read.map(|address| address.to_canonical()).map_err(|_| format!("{text:?} is no address"))
    };
    if !request.claims.is_empty() {
        let mac = request.mac.parse().map_err(|error: BadMac| error.to_string())?;
        return Ok(Packet::claiming(Claim { address: address(&request.claims)?, mac }, interface));
    }
    let direction = Direction::ALL.into_iter().find(|one| one.as_str() == request.direction);
    let direction = direction
        .ok_or_else(|| format!("{:?} is no direction; write ingress or egress", request.direction))?;
    let (source, destination) = (address(&request.source)?, address(&request.destination)?);
    if source.is_ipv4() != destination.is_ipv4() {
        return Err("both addresses must be of one family".to_owned());
    }
    let protocol = match request.protocol.to_ascii_lowercase().as_str() {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "icmpv6" => 58,
        number => number.parse().map_err(|_| format!("{number:?} is no protocol"))?,
    };
    let port = |number: u32| u16::try_from(number).map_err(|_| format!("{number} is no port"));
    let ports = (port(request.source_port)?, port(request.destination_port)?);
    let vlan = match request.vlan {
        None | Some(0) => None,
        Some(vlan @ 1..=4094) => Some(vlan as u16),
        Some(vlan) => return Err(format!("{vlan} is no VLAN identifier")),
    };
    let kind =
        u8::try_from(request.icmp_type).map_err(|_| format!("{} is no ICMP type", request.icmp_type))?;
    let flags = flags(&request.tcp_flags)?;
    let packet = Packet {
        direction,
        interface,
        vlan,
        source,
        destination,
        protocol,
        ports: matches!(protocol, 6 | 17 | 132).then_some(ports),
        icmp: matches!(protocol, 1 | 58).then_some((kind, 0)),
        flags: (protocol == 6).then_some(flags),
        deep: false,
        claim: None,
        length: 0,
        segments: 1,
    };
    Ok(Packet { length: packet.to_frame().len() as u64, ..packet })
}

fn flags(letters: &str) -> Result<u8, String> {
    if letters.is_empty() {
        return Ok(0x10);
    }
    letters.chars().try_fold(0, |flags, letter| {
        let bit = "FSRPAUEC".find(letter.to_ascii_uppercase());
        Ok(flags | 1 << bit.ok_or_else(|| format!("{letter:?} is no TCP flag; there are F S R P A U E C"))?)
    })
}
