//! What works on this node, what is degraded, and why.

use std::io;

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

/// Why an attempt failed, and the way out, from the kind of the kernel's error.
///
/// `needs` are the capabilities that the attempt needs, `held` those that the process has; `otherwise` is said when the kernel
/// does not know what was asked.
pub fn refusal(error: &io::Error, needs: &[&str], held: &[String], otherwise: &str) -> String {
    let missing: Vec<_> =
        needs.iter().filter(|one| !held.iter().any(|other| other == *one)).copied().collect();
    match error.kind() {
        io::ErrorKind::PermissionDenied if !missing.is_empty() => {
            format!("needs {}; grant it to the container or service", missing.join(" and "))
        }
        io::ErrorKind::PermissionDenied => format!(
            "refused ({error}) although all capabilities for it are held; look for a seccomp filter, a security module or \
             kernel hardening"
        ),
        io::ErrorKind::Unsupported => {
            "the kernel has no such system call, or a seccomp filter hides it; use a kernel with CONFIG_BPF_SYSCALL and a \
             profile that allows bpf"
                .to_owned()
        }
        _ => format!("{otherwise} ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_is_missing_and_the_way_out() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let held = ["CAP_NET_ADMIN".to_owned()];
        let said = refusal(&denied, &["CAP_BPF", "CAP_NET_ADMIN"], &held, "");
        assert_eq!(said, "needs CAP_BPF; grant it to the container or service");
        assert!(refusal(&denied, &["CAP_NET_ADMIN"], &held, "").contains("seccomp"));
        let old = refusal(&io::Error::from(io::ErrorKind::InvalidInput), &[], &held, "needs Linux 6.6");
        assert!(old.starts_with("needs Linux 6.6 ("), "{old}");
    }

    #[test]
    fn a_feature_is_one_flat_object_in_json() {
        let state = FeatureState::Off { reason: "because".to_owned() };
        let feature = Feature { name: "tcx", purpose: "to see", state, found: None };
        let json = serde_json::to_value(&feature).unwrap();
        assert_eq!((json["state"].as_str(), json["reason"].as_str()), (Some("off"), Some("because")));
    }
}
