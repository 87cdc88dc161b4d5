//! What must work before a set is confirmed: gateways still answer, servers still take connections.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::model::address::IfIndex;
use crate::model::probe::GatewayProbe;
use crate::state::Snapshot;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often each gateway has answered.
pub(super) type Answered = BTreeMap<(IfIndex, IpAddr), u64>;

/// How often each gateway has answered so far.
pub(super) fn answered(now: &Snapshot) -> Answered {
    let answers = |probe: &GatewayProbe| {
        let counts = probe.link_layer.latency.buckets.iter().chain(&probe.echo.latency.buckets);
        counts.sum::<u64>()
    };
    now.gateways.iter().map(|(key, probe)| (*key, answers(probe))).collect()
}

/// Checks to be run for a pending set.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) before: Answered,
}

impl Checks {
    /// Runs them. What has not passed, by name; `None` where there is nothing to check.
    pub(super) fn run(&self, now: &Snapshot) -> Option<Vec<String>> {
        let gateways: Vec<_> = self.before.iter().filter(|(_, answers)| **answers > 0).collect();
        if gateways.is_empty() && self.servers.is_empty() {
            return None;
        }
        let after = answered(now);
        // Two more answers: one may have been on its way already.
        let silent = gateways
            .into_iter()
            .filter(|(key, before)| after.get(key).is_none_or(|after| *after < **before + 2));
        let mut waiting: Vec<String> = silent.map(|((_, gateway), _)| format!("gateway {gateway}")).collect();
        let refused =
            self.servers.iter().filter(|server| TcpStream::connect_timeout(server, PATIENCE).is_err());
        waiting.extend(refused.map(|server| format!("server {server}")));
        Some(waiting)
    }
}
