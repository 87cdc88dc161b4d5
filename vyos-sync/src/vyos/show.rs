//! Texts of op-mode commands, parsed: the API gives them no other form.

use std::{collections::BTreeSet, net::IpAddr};

/// The BGP sessions of `show bgp summary`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Peers whose session is established.
    pub up: BTreeSet<IpAddr>,
    /// Peers whose session is not.
    pub down: BTreeSet<IpAddr>,
}

impl Sessions {
    /// Parses the text. Sections of several address families add up: up in one is up.
    /// A text without any peer table gives no sessions.
    pub fn parse(text: &str) -> Self {
        let mut sessions = Self::default();
        for (peer, state) in text.lines().filter_map(row) {
            // FRR prints the count of received prefixes, or (Policy), in place of a state once established.
            match state.bytes().all(|b| b.is_ascii_digit()) || state == "(Policy)" || state == "NoNeg" {
                true => sessions.up.insert(peer),
                false => sessions.down.insert(peer),
            };
        }
        sessions.down = &sessions.down - &sessions.up;
        sessions
    }

    /// The peers that were up and are not now.
    pub fn lost_since(&self, before: &Self) -> BTreeSet<IpAddr> {
        &before.up - &self.up
    }
}

/// `Neighbor V AS MsgRcvd MsgSent TblVer InQ OutQ Up/Down State/PfxRcd PfxSnt Desc`
fn row(line: &str) -> Option<(IpAddr, &str)> {
    let mut columns = line.split_whitespace();
    // A star marks a peer of a listen range.
    let peer = columns.next()?.trim_start_matches('*').parse().ok()?;
    Some((peer, columns.nth(8)?))
}

/// Whether the text of `/reboot` or `show reboot` says that a reboot is set.
pub fn reboot_is_scheduled(text: &str) -> bool {
    text.contains("Reboot is scheduled")
}

/// Whether the text of `/reboot ["in", N]` warns that the running configuration is not the saved one.
pub fn warns_unsaved(text: &str) -> bool {
    text.contains("unsaved configuration changes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "
IPv4 Unicast Summary (VRF default):
BGP router identifier 10.10.30.1, local AS number 64512 vrf-id 0

Neighbor        V         AS   MsgRcvd   MsgSent   TblVer  InQ OutQ  Up/Down State/PfxRcd   PfxSnt Desc
10.10.30.10     4      64513        92        93        0    0    0 00:01:00            1        1 node-a
*10.10.30.13    4      64513        92        93        0    0    0 00:01:00     (Policy) (Policy) N/A
10.10.30.11     4      64513         0         0        0    0    0    never       Active        0 node-b
10.10.30.12     4      64513         0         0        0    0    0    never Idle (Admin)        0 node-c
fd00:30::10     4      64513        92        93        0    0    0    never       Active        0

Total number of neighbors 5

IPv6 Unicast Summary (VRF default):
Neighbor        V         AS   MsgRcvd   MsgSent   TblVer  InQ OutQ  Up/Down State/PfxRcd   PfxSnt Desc
fd00:30::10     4      64513        92        93        0    0    0 01w2d03h            0        1 node-a
";

    fn peers(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|p| p.parse().unwrap()).collect()
    }

    #[test]
    fn sessions_of_a_summary() {
        let sessions = Sessions::parse(SUMMARY);
        assert_eq!(sessions.up, peers(&["10.10.30.10", "10.10.30.13", "fd00:30::10"]));
        assert_eq!(sessions.down, peers(&["10.10.30.11", "10.10.30.12"]));
        let later = Sessions { up: peers(&["10.10.30.10"]), down: Default::default() };
        assert_eq!(later.lost_since(&sessions), peers(&["10.10.30.13", "fd00:30::10"]));
        assert_eq!(Sessions::parse("% BGP instance not found"), Sessions::default());
    }

    #[test]
    fn reboot_texts() {
        let text = "Warning: there are unsaved configuration changes!\nRun 'save' command if you do not want to \
                    lose those changes after reboot/shutdown.\nReboot is scheduled 2026-11-22 21:32:53\n";
        assert!(reboot_is_scheduled(text) && warns_unsaved(text));
        assert!(!reboot_is_scheduled("Reboot or poweroff is not scheduled\n"));
    }
}
