//! Numbers of NAT rules and DHCP subnets: the spaces in which they must differ, and who was given which.

use std::collections::BTreeMap;
use std::fmt;

/// A place in which numbers must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpaceId {
    /// `nat source rule`: traffic that stays as it is. Tried first.
    Exclude,
    /// `nat destination rule`.
    Destination,
    /// `nat source rule`: traffic that goes back to the network it came from.
    Hairpin,
    /// `nat source rule`: all the rest. Tried last.
    Source,
    /// `nat static rule`.
    OneToOne,
    /// `nat66 source rule`.
    Nat66,
    /// `service dhcp-server ... subnet-id`.
    Dhcp4,
    /// `service dhcpv6-server ... subnet-id`.
    Dhcp6,
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exclude | Self::Hairpin | Self::Source => "number of a source NAT rule",
            Self::Destination => "number of a destination NAT rule",
            Self::OneToOne => "number of a static NAT rule",
            Self::Nat66 => "number of a NAT66 rule",
            Self::Dhcp4 | Self::Dhcp6 => "DHCP subnet id",
        })
    }
}

/// The numbers that were given, by space and key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocations(BTreeMap<SpaceId, BTreeMap<String, u32>>);

impl Allocations {
    /// The number of a key.
    pub fn get(&self, space: SpaceId, key: &str) -> Option<u32> {
        self.0.get(&space)?.get(key).copied()
    }

    /// Notes the number of a key.
    pub fn give(&mut self, space: SpaceId, key: impl Into<String>, number: u32) {
        self.0.entry(space).or_default().insert(key.into(), number);
    }
}

/// The key of a number: whose it is, and for what.
pub(super) fn key(owner: &crate::plan::Owner, words: &[&dyn fmt::Display]) -> String {
    words.iter().fold(owner.mark().to_string(), |key, word| format!("{key} {word}"))
}
