//! Rules that are known to make sense.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::kind::Mode;
use crate::model::address::{Direction, IfIndex, Mac};

/// All rules of a node, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// The rules; at most [`weir_ebpf::rules::RULES`].
    pub rules: Vec<Rule>,
    /// Whether packets that cannot be parsed are dropped.
    pub drop_unparsable: bool,
    /// Whether everything passes once the agent is silent.
    pub open_when_silent: bool,
    /// What no rule may drop, besides what is built in.
    pub failsafe: Vec<Vital>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The policy that it belongs to.
    pub policy: String,
    /// Its name within the policy.
    pub name: String,
    /// Whether it acts.
    pub mode: Mode,
    /// Which way packets go.
    pub direction: Direction,
    /// At these interfaces; at all without it.
    pub interfaces: Option<Vec<IfIndex>>,
    /// From these addresses.
    pub source: Option<Arc<Addresses>>,
    /// To these addresses.
    pub destination: Option<Arc<Addresses>>,
    /// IANA protocol number.
    pub protocol: Option<u8>,
    /// Destination ports; any without one.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Source ports.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// ICMP types.
    pub icmp_types: Vec<u8>,
    /// Outermost VLAN identifiers, `None` for untagged; any without one.
    pub vlans: Vec<Option<u16>>,
    /// Not these VLAN identifiers.
    pub other_vlans: bool,
    /// Numbers of traffic classes.
    pub classes: Vec<u8>,
    /// TCP flags that are set, and that are not.
    pub flags: Option<(u8, u8)>,
    /// Only claims of virtual addresses (ARP, neighbour advertisements) by others than these.
    pub claimants: Option<Vec<Mac>>,
    /// What it does.
    pub action: Action,
    /// Whether the failsafe does not save packets from it.
    pub past_failsafe: bool,
    /// Whether packets are counted by pair of addresses.
    pub pairs: bool,
    /// Whether what it drops is answered.
    pub reject: bool,
}

impl Rule {
    /// A rule of that name that takes every packet in a direction.
    pub fn new(policy: &str, name: &str, mode: Mode, direction: Direction, action: Action) -> Self {
        Self {
            policy: policy.to_owned(),
            name: name.to_owned(),
            mode,
            direction,
            interfaces: None,
            source: None,
            destination: None,
            protocol: None,
            ports: Vec::new(),
            source_ports: Vec::new(),
            icmp_types: Vec::new(),
            vlans: Vec::new(),
            other_vlans: false,
            classes: Vec::new(),
            flags: None,
            claimants: None,
            action,
            past_failsafe: false,
            pairs: false,
            reject: false,
        }
    }

    /// The name that counters keep: `policy/rule`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.policy, self.name)
    }

    /// Whether no later rule is asked about a packet that it matches.
    pub fn is_final(&self) -> bool {
        self.mode == Mode::Enforce && matches!(self.action, Action::Allow | Action::Deny)
    }

    /// Whether a VLAN is one of the rule's.
    pub fn takes_vlan(&self, vlan: Option<u16>) -> bool {
        if self.other_vlans {
            !self.vlans.contains(&vlan)
        } else {
            self.vlans.is_empty() || self.vlans.contains(&vlan)
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The packet passes; no later rule is asked.
    Allow,
    /// The packet is dropped.
    Deny,
    /// The packet is dropped if it exceeds the budget.
    Rate(Budget),
    /// The packet gets a DSCP.
    Mark(u8),
    /// The packet gets a time of departure.
    Pace(Budget),
}

impl Action {
    /// The word of tables and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Rate(_) => "rate",
            Self::Mark(_) => "mark",
            Self::Pace(_) => "pace",
        }
    }
}

/// A budget: so many units a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What is counted.
    pub unit: Unit,
    /// Time that one unit takes, in 2^-16 ns.
    pub cost: u64,
    /// Time by which units may come early, in ns. For pacing the longest wait.
    pub burst: u64,
    /// A budget for each source prefix of these lengths (IPv4, IPv6).
    pub per_source: Option<(u8, u8)>,
    /// A budget for each destination.
    pub per_destination: bool,
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Packets on the wire.
    Packets,
    /// Octets.
    Bytes,
    /// New TCP connections.
    Connections,
}

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Prefixes, host bits zero, none IPv4-mapped; `None` for everything.
    pub inside: Option<Vec<IpNet>>,
    /// What is not in it.
    pub except: Vec<IpNet>,
}

impl Addresses {
    /// Whether an address is in it: every prefix is looked at.
    pub fn contains(&self, address: IpAddr) -> bool {
        let inside = self.inside.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&address)));
        inside && !self.except.iter().any(|net| net.contains(&address))
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.inside
            .as_ref()
            .is_some_and(|nets| nets.iter().all(|net| self.except.iter().any(|except| except.contains(net))))
    }
}

/// Traffic that no rule may drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Vital {
    /// 6 or 17.
    pub protocol: u8,
    /// The server's port.
    pub port: u16,
    /// Ingress: the node serves it. Egress: the node uses it.
    pub direction: Direction,
}
