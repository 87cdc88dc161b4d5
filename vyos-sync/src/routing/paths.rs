//! The paths that the router knows, out of `show bgp ipv4` and `show bgp ipv6`: the API gives them as a table for people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The paths of each prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths(BTreeMap<String, Vec<Path>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    next_hop: IpAddr,
    used: bool,
}

impl Paths {
    /// Adds what a table says. Rows without a prefix belong to the row above; long IPv6 rows are broken after the next hop.
    pub fn read(&mut self, table: &str) {
        let mut prefix: Option<String> = None;
        for line in table.lines() {
            // `*` is a valid path, `>` the best one, `=` one that is used beside it.
            let Some(rest) = line.strip_prefix(['*', ' ']).filter(|_| line.len() > 3) else { continue };
            let valid = line.starts_with('*');
            let flags: String = rest.chars().take_while(|c| "sdhirSRN>= ".contains(*c)).collect();
            let mut words = rest[flags.len()..].split_whitespace();
            let Some(mut word) = words.next() else { continue };
            if word.contains('/') {
                prefix = Some(word.to_owned());
                let Some(next) = words.next() else { continue };
                word = next;
            }
            let (Some(prefix), Ok(next_hop)) = (&prefix, word.parse::<IpAddr>()) else { continue };
            let used = valid && flags.contains(['>', '=']);
            self.0.entry(prefix.clone()).or_default().push(Path { next_hop, used });
        }
    }

    /// Prefixes whose traffic goes to one of these next hops although another path is there.
    pub fn used_beside_others(&self, hops: &BTreeSet<IpAddr>) -> BTreeSet<&str> {
        let stray = |paths: &&Vec<Path>| {
            paths.iter().any(|path| path.used && hops.contains(&path.next_hop))
                && paths.iter().any(|path| !hops.contains(&path.next_hop))
        };
        self.0.iter().filter(|(_, paths)| stray(paths)).map(|(prefix, _)| prefix.as_str()).collect()
    }

    /// Prefixes that only these next hops lead to.
    pub fn only_by(&self, hops: &BTreeSet<IpAddr>) -> BTreeSet<&str> {
        let last = |paths: &&Vec<Path>| paths.iter().all(|path| hops.contains(&path.next_hop));
        self.0.iter().filter(|(_, paths)| last(paths)).map(|(prefix, _)| prefix.as_str()).collect()
    }

    /// Whether there is any path.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "BGP table version is 4, local router ID is 10.30.0.1, vrf id 0
Default local pref 100, local AS 64512
Status codes:  s suppressed, d damped, h history, * valid, > best, = multipath,
               i internal, r RIB-failure, S Stale, R Removed
Nexthop codes: @NNN nexthop's vrf id, < announce-nh-self
Origin codes:  i - IGP, e - EGP, ? - incomplete
RPKI validation codes: V valid, I invalid, N Not found

   Network          Next Hop            Metric LocPrf Weight Path
*= 10.99.1.1/32     10.30.0.11               0             0 64513 i
*>                  10.30.0.10               0             0 64513 i
*                   10.30.0.12               0      0      0 64513 i
*> 10.99.1.2/32     10.30.0.12               0      0      0 64513 i

Displayed  2 routes and 4 total paths
";

    const SIX: &str = "   Network          Next Hop            Metric LocPrf Weight Path
*> fd00:99::1/128   fd00:30::10              0             0 64513 i
*> fd00:99:1111:2222:3333::1/128
                    fd00:30::12              0             0 64513 i
";

    fn hops(text: &[&str]) -> BTreeSet<IpAddr> {
        text.iter().map(|hop| hop.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_used_and_what_is_the_last_path() {
        let mut paths = Paths::default();
        paths.read(TABLE);
        paths.read(SIX);
        assert!(
            paths.used_beside_others(&hops(&["10.30.0.12"])).is_empty(),
            "drained: it is only used where it is the last"
        );
        assert_eq!(paths.only_by(&hops(&["10.30.0.12"])), BTreeSet::from(["10.99.1.2/32"]));
        assert_eq!(paths.used_beside_others(&hops(&["10.30.0.11"])), BTreeSet::from(["10.99.1.1/32"]));
        assert_eq!(paths.only_by(&hops(&["fd00:30::12"])), BTreeSet::from(["fd00:99:1111:2222:3333::1/128"]));
        let mut none = Paths::default();
        none.read("% BGP instance not found\nNo BGP prefixes displayed, 0 exist\n");
        assert!(none.is_empty());
    }
}
