//! What works on this node, what is degraded, and why.

use serde::Serialize;

/// The report of `weir-agent check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The kernel's release, such as `6.18.44`.
    pub kernel: String,
    /// The kernel's lockdown mode, where it tells.
    pub lockdown: Option<String>,
    /// The capabilities that this process holds, of those that Weir can use, such as `CAP_BPF`.
    pub held: Vec<String>,
    /// Each feature, in a fixed order.
    pub features: Vec<Feature>,
}

/// A feature of the agent on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Its short name: a metric label.
    pub name: &'static str,
    /// What it gives.
    pub purpose: &'static str,
    /// Whether it works.
    #[serde(flatten)]
    pub state: FeatureState,
    /// What was found, such as where cgroup2 is mounted.
    pub found: Option<String>,
}

/// Whether a feature works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum FeatureState {
    /// It works.
    Works,
    /// It works in part.
    Degraded {
        /// What is missing and the way out.
        reason: String,
    },
    /// It does not work.
    Off {
        /// Why, and the way out.
        reason: String,
    },
}

impl FeatureState {
    /// The word used in labels and tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            FeatureState::Works => "works",
            FeatureState::Degraded { .. } => "degraded",
            FeatureState::Off { .. } => "off",
        }
    }

    /// Why it does not work in full, and the way out.
    pub fn reason(&self) -> Option<&str> {
        match self {
            FeatureState::Works => None,
            FeatureState::Degraded { reason } | FeatureState::Off { reason } => Some(reason),
        }
    }
}
