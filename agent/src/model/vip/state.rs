//! The names of what can be wrong with a virtual address.

use serde::Serialize;

/// What is the matter with a virtual address. Closed: every word is a label value, a row in docs/vips.md, and comes with an
/// explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VipState {
    /// Nothing that is known disagrees.
    Ok,
    /// No node advertises it, or the router has no path, and a Service wants it.
    AdvertisedByNobody,
    /// This node should advertise it and does not.
    NotAdvertised,
    /// A node advertises it and nothing there could serve it (cilium#44803, cilium#40438).
    WithoutEndpoint,
    /// This node advertises it and no Service has it.
    AdvertisedUnwanted,
    /// This node advertises it and the router has no path through this node.
    NotLearned,
    /// The router sends its packets to a node that does not advertise it.
    StaleRoute,
    /// The router sends its packets here and nothing here answers.
    BlackHoled,
    /// Some of its ports do not answer here.
    NotAnswering,
    /// The nodes get very different shares of it.
    SpreadUneven,
    /// Packets come for ports that no Service has.
    PortUnserved,
    /// Such packets go round between the router and this node until their time to live is used up.
    RoutingLoop,
    /// Packets come in on a VLAN and none go out (cilium#46260).
    VlanUnanswered,
    /// Two link-layer addresses answer for it.
    TwoMacs,
    /// It lies in no pool that its Service may use.
    OutsidePools,
}

impl VipState {
    /// All of them, in the order in which they are shown.
    pub const ALL: [VipState; 15] = [
        VipState::Ok,
        VipState::AdvertisedByNobody,
        VipState::NotAdvertised,
        VipState::WithoutEndpoint,
        VipState::AdvertisedUnwanted,
        VipState::NotLearned,
        VipState::StaleRoute,
        VipState::BlackHoled,
        VipState::NotAnswering,
        VipState::SpreadUneven,
        VipState::PortUnserved,
        VipState::RoutingLoop,
        VipState::VlanUnanswered,
        VipState::TwoMacs,
        VipState::OutsidePools,
    ];

    /// The word in labels and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            VipState::Ok => "ok",
            VipState::AdvertisedByNobody => "advertised-by-nobody",
            VipState::NotAdvertised => "not-advertised",
            VipState::WithoutEndpoint => "without-endpoint",
            VipState::AdvertisedUnwanted => "advertised-unwanted",
            VipState::NotLearned => "not-learned",
            VipState::StaleRoute => "stale-route",
            VipState::BlackHoled => "black-holed",
            VipState::NotAnswering => "not-answering",
            VipState::SpreadUneven => "spread-uneven",
            VipState::PortUnserved => "port-unserved",
            VipState::RoutingLoop => "routing-loop",
            VipState::VlanUnanswered => "vlan-unanswered",
            VipState::TwoMacs => "two-macs",
            VipState::OutsidePools => "outside-pools",
        }
    }

    /// Whether clients lose packets by it now.
    pub const fn loses_packets(self) -> bool {
        !matches!(
            self,
            VipState::Ok
                | VipState::NotAdvertised
                | VipState::AdvertisedUnwanted
                | VipState::SpreadUneven
                | VipState::PortUnserved
                | VipState::OutsidePools
        )
    }
}

impl std::fmt::Display for VipState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_its_serde_word_and_there_is_no_other() {
        for state in VipState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        let mut words = VipState::ALL.map(VipState::as_str).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), VipState::ALL.len());
    }
}
