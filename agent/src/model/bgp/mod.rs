//! BGP as it passes the node on the wire, for any speaker (RFC 4271 and what builds on it).

mod capability;
mod connection;
mod learn;
mod observer;
mod reported;
mod rib;
mod segment;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod track;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use capability::{AddPath, Capabilities, Family, GracefulRestart};
pub use observer::Observer;
pub use reported::{About, BadReport, Difference, Reported, ReportedSession};
pub use rib::{Attributes, GRACEFUL_SHUTDOWN, Hop, Origin, PathSegment, Rib, Route, RouteKey};
pub use segment::{ACK, FIN, RST, SYN, Segment, authenticated};
pub use session::{
    Asn, Cause, Convergence, Drop, Event, Hold, Knowledge, Messages, Session, SessionKey, SessionState, Side,
    Since, Speaker, Timing,
};

/// Everything that the agent sees of BGP. Cheap to clone: sessions and routes are shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    /// Sessions in the order of their keys.
    #[serde(serialize_with = "values")]
    pub sessions: BTreeMap<SessionKey, Arc<Session>>,
    /// What of the wire could not be looked at.
    pub missed: Missed,
}

/// What of BGP's traffic never reached the agent. A session whose octets are missing is read on from the next message that is
/// certain, and what it had before counts as incomplete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Octets that the datapath could not pass on: the ring was full, or there was more than the agent takes.
    pub bytes: u64,
    /// Segments concerned.
    pub segments: u64,
    /// Connections that were not followed, because there were too many.
    pub connections: u64,
}

impl View {
    /// What this node advertises for a prefix, by session; only sessions that are established advertise.
    pub fn advertised(&self, prefix: IpNet) -> impl Iterator<Item = (&Session, &Route)> {
        self.established().filter_map(move |session| Some((session, session.advertised.route(prefix)?)))
    }

    /// What peers advertise to this node for a prefix, by session.
    pub fn received(&self, prefix: IpNet) -> impl Iterator<Item = (&Session, &Route)> {
        self.established().filter_map(move |session| Some((session, session.received.route(prefix)?)))
    }

    /// The sessions that are up.
    pub fn established(&self) -> impl Iterator<Item = &Session> {
        let sessions = self.sessions.values().map(Arc::as_ref);
        sessions.filter(|session| session.state == SessionState::Established)
    }
}

fn values<K, V: Serialize, S: serde::Serializer>(
    map: &BTreeMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.values())
}
