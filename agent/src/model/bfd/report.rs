//! What is known of all sessions, for people, metrics and other parts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::packet::{Diagnostic, Micros, State};
use super::{Rejection, Role, Transition};

/// BFD on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bfd {
    /// What the agent does.
    pub mode: BfdMode,
    /// All sessions, by peer.
    pub sessions: Vec<SessionView>,
    /// Packets that were not believed.
    pub rejected: Rejected,
    /// By how much the agent's own periodic packets were late at worst, over the last half to one minute.
    pub lateness: Duration,
    /// Why the agent's packets may be late on a busy node, if so.
    pub priority: Option<String>,
    /// Whether the node's own measurements hold all sessions down, and why.
    pub held: Option<Diagnostic>,
}

/// What the agent does about BFD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "mode", content = "reason")]
pub enum BfdMode {
    /// Nothing: no peer was given.
    #[default]
    Off,
    /// It has sessions.
    Speaking,
    /// It only watches: another program owns the port, or it could not be opened.
    Observing(Reason),
}

/// Why the agent does not speak, and the way out.
pub type Reason = String;

impl BfdMode {
    /// The word for people and labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            BfdMode::Off => "off",
            BfdMode::Speaking => "speaking",
            BfdMode::Observing(_) => "observing",
        }
    }
}

/// How many packets were not believed, by reason; reasons that never came up are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected(pub BTreeMap<Rejection, u64>);

impl Serialize for Rejected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(reason, count)| (reason.as_str(), count)))
    }
}

/// What was counted of a session since the agent first had it, restarts included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were believed.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Echoes sent back.
    pub echoes: u64,
    /// Times that it left Up, by diagnostic.
    pub drops: [u64; Diagnostic::COUNT],
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionView {
    /// With whom.
    pub peer: IpAddr,
    /// Over which interface alone, if so.
    pub interface: Option<String>,
    /// Whether it may cross routers.
    pub multihop: bool,
    /// Whether this end waits to be asked.
    #[serde(rename = "passive", serialize_with = "is_passive")]
    pub role: Role,
    /// Its state here.
    pub state: State,
    /// Why it last left Up.
    pub diagnostic: Diagnostic,
    /// How long it has had its state.
    pub age: Duration,
    /// Its number here; 0 when it is another program's and not known yet.
    pub discriminator: u32,
    /// The node's own port.
    pub source_port: u16,
    /// The time between packets sent, before jitter; none are sent without it.
    pub transmit_interval: Option<Duration>,
    /// After how long without a packet the peer counts as gone.
    pub detection_time: Duration,
    /// After how long without a packet of this end the peer takes it for gone.
    pub remote_detection_time: Duration,
    /// The worst share of the detection time that was left when a packet came, over the last half to one minute.
    pub margin: Option<f64>,
    /// What the peer says.
    pub remote: Option<RemoteView>,
    /// Packets that were believed.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Echoes sent back.
    pub echoes: u64,
    /// Times that it left Up, by diagnostic; those that never came up are left out.
    #[serde(serialize_with = "drops")]
    pub drops: BTreeMap<Diagnostic, u64>,
    /// The last change of its state.
    pub changed: Option<Transition>,
    /// Whether it is to go once the peer is drained.
    pub leaves: bool,
    /// What goes wrong with it, and the way out.
    pub problem: Option<String>,
}

/// The other end, by its last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RemoteView {
    /// Its state.
    pub state: State,
    /// Why it last left Up.
    pub diagnostic: Diagnostic,
    /// Its number of the session.
    pub discriminator: u32,
    /// It sends no faster.
    pub min_tx: Micros,
    /// It wants packets no faster.
    pub min_rx: Micros,
    /// Its detection multiplier.
    pub multiplier: u8,
    /// Whether its BFD outlives its control plane.
    pub control_plane_independent: bool,
}

impl SessionView {
    /// The peer as a label: its address, with its interface where the session is bound to one.
    pub fn label(&self) -> String {
        match &self.interface {
            Some(interface) => format!("{}%{interface}", self.peer),
            None => self.peer.to_string(),
        }
    }
}

impl Counts {
    /// The drops that there were.
    pub fn drops(&self) -> BTreeMap<Diagnostic, u64> {
        let all = self.drops.iter().zip(0_u8..).filter(|(count, _)| **count > 0);
        all.map(|(count, bits)| (Diagnostic::from_bits(bits), *count)).collect()
    }

    /// Counts a session that left Up.
    pub fn drop_of(&mut self, diagnostic: Diagnostic) {
        if let Some(count) = self.drops.get_mut(usize::from(diagnostic.bits())) {
            *count += 1;
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_passive<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(*role == Role::Passive)
}

fn drops<S: Serializer>(drops: &BTreeMap<Diagnostic, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(drops.iter().map(|(diagnostic, count)| (diagnostic.as_str(), count)))
}
