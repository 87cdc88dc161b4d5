//! What a router has learned, from the texts of its `show` commands. Pure: texts in, one document out.
//!
//! The API gives these in no other form that every router has: JSON needs its GraphQL service, which is off by default, and
//! BFD has none at all.

mod bfd;
mod bgp;
mod link;
mod sighting;

use std::net::IpAddr;

use jiff::Timestamp;
use weir_router_view::{API_VERSION, KIND, PREFIXES, Prefix, RouterView};

pub use sighting::{SIGHTINGS, sightings};

/// The commands whose texts make a view, in the order in which they are asked.
pub const COMMANDS: [&[&str]; 9] = [
    &["bgp", "summary"],
    &["bgp", "ipv4"],
    &["bgp", "ipv6"],
    &["ip", "route", "bgp"],
    &["ipv6", "route", "bgp"],
    &["bfd", "peers"],
    &["arp"],
    &["ipv6", "neighbors"],
    &["interfaces", "counters"],
];

/// What a command said, or why it said nothing.
pub type Said = Result<String, String>;

/// Who was asked, and when.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Name of the Router object.
    pub router: String,
    /// Its addresses towards its peers.
    pub addresses: Vec<IpAddr>,
    /// When.
    pub at: Timestamp,
    /// Seconds until it is asked again.
    pub period_seconds: u32,
}

/// Makes a view of what the router said to each of [`COMMANDS`].
#[must_use]
pub fn assemble(asked: Asked, said: [Said; COMMANDS.len()]) -> RouterView {
    let mut problems = Vec::new();
    let mut heard = said.into_iter().zip(COMMANDS).map(|(said, command)| {
        said.inspect_err(|why| problems.push(format!("`show {}` was not answered: {why}", command.join(" "))))
            .ok()
    });
    let mut next = || heard.next().flatten();
    let [summary, v4, v6, routes4, routes6, bfd, arp, nd, counters] = std::array::from_fn(|_| next());
    let mut peers = summary.as_deref().map(bgp::peers);
    if let (Some(peers), Some(text)) = (&mut peers, &bfd) {
        for (address, session) in bfd::sessions(text) {
            if let Some(peer) = peers.iter_mut().find(|peer| peer.address == address) {
                peer.bfd = Some(session);
            }
        }
    }
    let mut prefixes = joined(v4.as_deref().map(bgp::prefixes), v6.as_deref().map(bgp::prefixes));
    let installed = [routes4.as_deref().map(bgp::installed), routes6.as_deref().map(bgp::installed)];
    for prefix in prefixes.iter_mut().flatten() {
        let of_family = &installed[usize::from(prefix.prefix.addr().is_ipv6())];
        prefix.installed = of_family.as_ref().map(|all| all.get(&prefix.prefix).cloned().unwrap_or_default());
    }
    let truncated = prefixes.as_ref().is_some_and(|all| all.len() > PREFIXES);
    if let Some(all) = &mut prefixes {
        all.sort_by_key(|one: &Prefix| one.prefix);
        all.truncate(PREFIXES);
    }
    RouterView {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        router: asked.router,
        observed_at: asked.at,
        period_seconds: asked.period_seconds,
        addresses: asked.addresses,
        peers,
        prefixes,
        neighbours: joined(arp.as_deref().map(link::neighbours), nd.as_deref().map(link::neighbours)),
        interfaces: counters.as_deref().map(link::counters),
        truncated,
        problems,
    }
}

/// Both halves; a half that is missing makes the whole missing: half a table must not pass for a table.
fn joined<T>(a: Option<Vec<T>>, b: Option<Vec<T>>) -> Option<Vec<T>> {
    let (mut a, b) = (a?, b?);
    a.extend(b);
    Some(a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked() -> Asked {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        Asked { router: "gw".to_owned(), addresses: vec![], at, period_seconds: 30 }
    }

    #[test]
    fn a_command_that_is_refused_is_told_and_hides_no_other() {
        let mut said: [Said; COMMANDS.len()] = std::array::from_fn(|_| Ok(String::new()));
        said[2] = Err("Invalid command".to_owned());
        said[6] = Err("Invalid command".to_owned());
        let view = assemble(asked(), said);
        assert_eq!((view.prefixes, view.neighbours), (None, None));
        assert_eq!(view.peers, Some(vec![]));
        assert!(view.problems[0].contains("`show bgp ipv6`") && view.problems[1].contains("`show arp`"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(?s).{0,400}", words in "([*>=S ]{0,4}|[0-9.:/]{1,18}|via|peer|[a-z]{1,9}|[\n\t ]){0,80}") {
            for text in [text, words] {
                let _ = assemble(asked(), std::array::from_fn(|_| Ok(text.clone())));
                let _ = sightings([&text, &text, &text]);
            }
        }
    }
}
