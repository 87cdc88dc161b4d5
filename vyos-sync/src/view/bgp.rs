//! FRR's texts of BGP: `show bgp summary`, `show bgp ipv4`, `show ip route bgp`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use weir_router_view::{Path, Peer, Prefix};

/// The sessions of `show bgp summary`. A peer of several address families is one session.
pub(super) fn peers(text: &str) -> Vec<Peer> {
    let mut peers: BTreeMap<IpAddr, Peer> = BTreeMap::new();
    for peer in text.lines().filter_map(peer) {
        match peers.get_mut(&peer.address) {
            None => {
                peers.insert(peer.address, peer);
            }
            Some(known) if peer.is_established() => {
                let both = known.prefixes_received.unwrap_or(0) + peer.prefixes_received.unwrap_or(0);
                let any = known.prefixes_received.or(peer.prefixes_received);
                *known = Peer { prefixes_received: any.map(|_| both), ..peer };
            }
            Some(_) => {}
        }
    }
    peers.into_values().collect()
}

/// `Neighbor V AS MsgRcvd MsgSent TblVer InQ OutQ Up/Down State/PfxRcd PfxSnt Desc`
fn peer(line: &str) -> Option<Peer> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    // A star marks a peer of a listen range.
    let address = columns.first()?.trim_start_matches('*').parse().ok()?;
    let number = |at: usize| columns.get(at)?.parse::<u64>().ok();
    let word = *columns.get(9)?;
    // In place of a state once established: the prefixes received, or why none are.
    let (state, prefixes_received) = match word.parse::<u64>() {
        Ok(count) => ("established".to_owned(), Some(count)),
        Err(_) if word == "(Policy)" || word == "NoNeg" => ("established".to_owned(), None),
        Err(_) => {
            let more = columns.get(10).filter(|more| more.starts_with('(')).copied().unwrap_or_default();
            (format!("{word} {more}").trim_end().to_lowercase(), None)
        }
    };
    Some(Peer {
        address,
        asn: u32::try_from(number(2)?).ok()?,
        state,
        since: (*columns.get(8)?).to_owned(),
        messages: [number(3)?, number(4)?],
        prefixes_received,
        bfd: None,
    })
}

/// The prefixes of `show bgp ipv4` or `show bgp ipv6`: status codes, prefix, next hop. A prefix that is too long for its
/// column stands on a line of its own; further paths leave it out.
pub(super) fn prefixes(text: &str) -> Vec<Prefix> {
    let mut lines = text.lines();
    // The codes have no blank behind them; the head tells where they end. Newer releases have a column more, for RPKI.
    let Some(start) = lines.find_map(|line| line.contains("Next Hop").then(|| line.find("Network"))?) else {
        return Vec::new();
    };
    let mut all: Vec<Prefix> = Vec::new();
    let mut waiting: Option<String> = None;
    for line in lines {
        let Some(row) = Row::read(line, start) else { continue };
        if let Some(prefix) = row.prefix
            && all.last().is_none_or(|last| last.prefix != prefix)
        {
            all.push(Prefix { prefix, paths: Vec::new(), installed: None });
        }
        let codes = match waiting.take() {
            Some(codes) if row.codes.is_empty() && row.prefix.is_none() => codes,
            _ => row.codes,
        };
        match (row.next_hop, all.last_mut()) {
            (Some(next_hop), Some(prefix)) => prefix.paths.push(path(&codes, next_hop)),
            _ => waiting = Some(codes),
        }
    }
    all
}

struct Row {
    codes: String,
    prefix: Option<IpNet>,
    next_hop: Option<IpAddr>,
}

impl Row {
    fn read(line: &str, start: usize) -> Option<Self> {
        let (codes, rest) = line.split_at_checked(start)?;
        let mut words = rest.split_whitespace().peekable();
        let prefix: Option<IpNet> =
            words.next_if(|word| word.parse::<IpNet>().is_ok()).and_then(|word| word.parse().ok());
        let next_hop: Option<IpAddr> = words.next().and_then(|word| word.trim_end_matches('<').parse().ok());
        let codes = codes.split_whitespace().collect();
        (prefix.is_some() || next_hop.is_some()).then_some(Self { codes, prefix, next_hop })
    }
}

fn path(codes: &str, next_hop: IpAddr) -> Path {
    let has = |code| codes.contains(code);
    Path {
        next_hop: next_hop.to_canonical(),
        // A stale path has its `S` in place of the star. `h`, `d`, `s` and `R` are not in use.
        valid: (has('*') || has('S')) && !"hdsR".chars().any(has),
        best: has('>'),
        multipath: has('='),
        stale: has('S'),
    }
}

/// The next hops in the forwarding table, of `show ip route bgp`: `B>* 10.10.50.10/32 [20/0] via 10.10.30.10, eth1, ...`,
/// and a line for each further one.
pub(super) fn installed(text: &str) -> BTreeMap<IpNet, Vec<IpAddr>> {
    let mut all: BTreeMap<IpNet, Vec<IpAddr>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let prefix = line.split_whitespace().take(3).find_map(|word| word.parse::<IpNet>().ok());
        if let Some(prefix) = prefix {
            current = line.starts_with("B>").then_some(prefix);
        }
        let Some(prefix) = current else { continue };
        let hops = all.entry(prefix).or_default();
        let Some((before, after)) = line.split_once(" via ") else { continue };
        let hop = after.split([',', ' ']).next().and_then(|word| word.parse::<IpAddr>().ok());
        // The star stands for what is in the forwarding table.
        if let Some(hop) = hop.filter(|_| before.contains('*') && !after.contains("inactive")) {
            hops.push(hop);
        }
    }
    all
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
10.10.30.12     4      64513         0         0        0    0    0    never Idle (Admin)        0 node-c

IPv6 Unicast Summary (VRF default):
Neighbor        V         AS   MsgRcvd   MsgSent   TblVer  InQ OutQ  Up/Down State/PfxRcd   PfxSnt Desc
10.10.30.10     4      64513        92        93        0    0    0 00:01:00            2        1 node-a
";

    const V4: &str = "
BGP table version is 5, local router ID is 10.10.30.1, vrf id 0
Status codes:  s suppressed, d damped, h history, * valid, > best, = multipath,
               i internal, r RIB-failure, S Stale, R Removed
   Network          Next Hop            Metric LocPrf Weight Path
*> 10.10.50.10/32   10.10.30.10                            0 64513 i
*=                  10.10.30.11                            0 64513 i
S> 10.10.50.11/32   10.10.30.12              0             0 64513 i
*  10.10.50.12/32   10.10.30.10                            0 64513 64513 i
*>i10.10.50.13/32   10.10.30.13                   100      0 i

Displayed  4 routes and 5 total paths
";

    const V6: &str = "
     Network          Next Hop            Metric LocPrf Weight Path
 *>  fd10:10:50::10/128
                      fd10:10:30::10                         0 64513 i
 *=                   fd10:10:30::11                         0 64513 i

Displayed 1 routes and 2 total paths
";

    const ROUTES: &str = "
       > - selected route, * - FIB route, q - queued, r - rejected, b - backup

B>* 10.10.50.10/32 [20/0] via 10.10.30.10, eth1, weight 1, 00:00:10
  *                       via 10.10.30.11, eth1, weight 1, 00:00:10
B   10.10.50.11/32 [20/0] via 10.10.30.12 inactive, weight 1, 00:00:10
B>  10.10.50.12/32 [20/0] via 10.10.30.12 inactive, weight 1, 00:00:10
";

    fn hops(prefix: &Prefix) -> Vec<(String, bool, bool)> {
        prefix.paths.iter().map(|one| (one.next_hop.to_string(), one.is_used(), one.stale)).collect()
    }

    #[test]
    fn one_session_of_two_families() {
        let peers = peers(SUMMARY);
        assert_eq!(peers.len(), 3);
        assert_eq!((peers[0].prefixes_received, peers[0].messages), (Some(3), [92, 93]));
        assert_eq!((peers[1].state.as_str(), peers[1].asn), ("idle (admin)", 64513));
        assert_eq!((peers[2].is_established(), peers[2].prefixes_received), (true, None));
    }

    #[test]
    fn paths_of_prefixes_short_and_long() {
        let v4 = prefixes(V4);
        assert_eq!(v4.len(), 4);
        assert_eq!(hops(&v4[3]), [("10.10.30.13".to_owned(), true, false)]);
        let used = |hop: &str| (hop.to_owned(), true, false);
        assert_eq!(hops(&v4[0]), [used("10.10.30.10"), used("10.10.30.11")]);
        assert_eq!(hops(&v4[1]), [("10.10.30.12".to_owned(), true, true)]);
        assert_eq!(hops(&v4[2]), [("10.10.30.10".to_owned(), false, false)]);
        let v6 = prefixes(V6);
        assert_eq!(v6.len(), 1);
        assert_eq!(hops(&v6[0]), [used("fd10:10:30::10"), used("fd10:10:30::11")]);
        assert_eq!(prefixes("No BGP prefixes displayed, 0 exist\n"), []);
    }

    #[test]
    fn what_the_kernel_has() {
        let all = installed(ROUTES);
        let hops = |text: &str| all.get(&text.parse::<IpNet>().unwrap()).map(Vec::len);
        assert_eq!(
            (hops("10.10.50.10/32"), hops("10.10.50.11/32"), hops("10.10.50.12/32")),
            (Some(2), None, Some(0))
        );
    }
}
