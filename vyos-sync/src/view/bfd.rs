//! FRR's text of `show bfd peers`.

use std::net::IpAddr;

use weir_router_view::Bfd;

/// The sessions, one block a peer.
pub(super) fn sessions(text: &str) -> Vec<(IpAddr, Bfd)> {
    let mut all: Vec<(IpAddr, Bfd)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("peer ") {
            let address = rest.split_whitespace().next().and_then(|word| word.parse().ok());
            let unknown =
                Bfd { state: "unknown".to_owned(), since: None, diagnostic: None, remote_diagnostic: None };
            all.extend(address.map(|address| (address, unknown)));
            continue;
        }
        let (Some((_, bfd)), Some((name, value))) = (all.last_mut(), line.split_once(": ")) else { continue };
        let value = value.trim().to_owned();
        match name {
            "Status" => bfd.state = value.to_lowercase(),
            "Uptime" | "Downtime" => bfd.since = Some(value),
            "Diagnostics" => bfd.diagnostic = Some(value),
            "Remote diagnostics" => bfd.remote_diagnostic = Some(value),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_a_peer() {
        let text = "BFD Peers:\n\tpeer 10.10.30.10 vrf default\n\t\tID: 987280995\n\t\tStatus: down\n\
            \t\tDowntime: 3 minute(s), 57 second(s)\n\t\tDiagnostics: ok\n\t\tRemote diagnostics: path down\n\
            \tpeer fd00::1 local-address fd00::2 vrf default interface eth1\n\t\tStatus: up\n";
        let all = sessions(text);
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].1.state.as_str(), all[0].1.remote_diagnostic.as_deref()),
            ("down", Some("path down"))
        );
        assert_eq!((all[1].0, all[1].1.state.as_str()), ("fd00::1".parse().unwrap(), "up"));
        assert_eq!(sessions("").len(), 0);
    }
}
