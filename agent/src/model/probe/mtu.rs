//! The search for the largest packet that reaches a gateway with fragmentation forbidden (after RFC 8899, in small).

use std::net::IpAddr;

/// How often a size must go unanswered, while small probes are answered, before it counts as too big.
const TRIES: u8 = 3;
/// The MTU of plain Ethernet.
const ETHERNET: u32 = 1500;

/// A search for the path MTU between a floor that every path carries and the link's own MTU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    link_mtu: u32,
    floor: u32,
    /// What an earlier search found, or a router told: tried before the bisection.
    known: Option<u32>,
    /// The largest size answered in this search.
    works: Option<u32>,
    /// The smallest size that counts as too big in this search.
    fails: Option<u32>,
    misses: u8,
}

/// What a search knows so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send a packet of this many octets, IP header included.
    Try(u32),
    /// The path MTU.
    Found(u32),
    /// Not even the smallest packet that counts is answered.
    NotAnswered,
}

impl Search {
    pub(super) fn new(gateway: IpAddr, link_mtu: u32, known: Option<u32>) -> Self {
        // No IPv4 packet is larger, whatever a loopback or tunnel device claims.
        let link_mtu = link_mtu.min(65_535);
        let floor = smallest(gateway).min(link_mtu);
        // Beyond a link for larger frames there is most often Ethernet of the usual size.
        let known = known.or(Some(ETHERNET)).filter(|size| (floor..link_mtu).contains(size));
        Self { link_mtu, floor, known, works: None, fails: None, misses: 0 }
    }

    /// What to do next. The link's MTU comes first: on most paths it is the answer.
    pub(super) fn step(&self) -> Step {
        match (self.works, self.fails) {
            (Some(works), _) if works >= self.link_mtu => Step::Found(works),
            (None, None) => Step::Try(self.link_mtu),
            (None, Some(fails)) if fails <= self.floor => Step::NotAnswered,
            (None, Some(fails)) => Step::Try(self.known.filter(|known| *known < fails).unwrap_or(self.floor)),
            (Some(works), None) => Step::Found(works),
            (Some(works), Some(fails)) if works + 1 >= fails => Step::Found(works),
            (Some(works), Some(fails)) if self.known.is_some_and(|known| works < known && known < fails) => {
                Step::Try(self.known.unwrap_or(works + 1))
            }
            (Some(works), Some(_)) if self.known == Some(works) => Step::Try(works + 1),
            (Some(works), Some(fails)) => Step::Try(works + (fails - works) / 2),
        }
    }

    pub(super) fn answered(&mut self, size: u32) {
        self.misses = 0;
        self.works = self.works.max(Some(size));
    }

    /// A size went unanswered although the gateway answers small probes.
    pub(super) fn missed(&mut self, size: u32) {
        self.misses += 1;
        if self.misses >= TRIES {
            self.too_big(size);
        }
    }

    /// The gateway is silent altogether: what went unanswered says nothing of the size.
    pub(super) fn interrupted(&mut self) {
        self.misses = 0;
    }

    /// A size does not even leave this host, or a router says that it is too big.
    pub(super) fn too_big(&mut self, size: u32) {
        self.misses = 0;
        self.fails = Some(self.fails.map_or(size, |fails| fails.min(size)));
    }

    /// A router says that a size is too big and which one is not (RFC 1191 section 4, RFC 8201 section 4). It is a hint: the
    /// size is tried, and so is the next larger one, for anybody can send such a message.
    pub(super) fn told(&mut self, size: u32, mtu: u32) {
        self.too_big(size);
        let sensible = (self.floor..size).contains(&mtu) && self.works.is_none_or(|works| works < mtu);
        if sensible {
            self.known = Some(mtu);
        }
    }
}

/// What every path must carry: RFC 8200 section 5 for IPv6, RFC 1122 section 3.3.3 for IPv4.
fn smallest(gateway: IpAddr) -> u32 {
    if gateway.is_ipv6() { 1280 } else { 576 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn run(mut search: Search, path: u32) -> (Step, u32) {
        for sent in 0..200 {
            match search.step() {
                Step::Try(size) if size <= path => search.answered(size),
                Step::Try(size) => search.missed(size),
                done => return (done, sent),
            }
        }
        panic!("no end of the search: {search:?}");
    }

    #[test]
    fn an_open_path_takes_one_packet() {
        assert_eq!(run(Search::new(V4, 9000, None), 9000), (Step::Found(9000), 1));
    }

    #[test]
    fn an_unchanged_bottleneck_is_confirmed_without_a_new_search() {
        assert_eq!(run(Search::new(V4, 9000, Some(1500)), 1500), (Step::Found(1500), 7));
        assert_eq!(run(Search::new(V4, 9000, None), 1500), (Step::Found(1500), 7), "the usual one");
    }

    #[test]
    fn a_bottleneck_that_moved_is_found_again() {
        for path in [1400, 1501, 8999] {
            assert_eq!(run(Search::new(V4, 9000, Some(1500)), path).0, Step::Found(path));
        }
    }

    #[test]
    fn a_gateway_that_drops_big_echoes_leaves_it_unknown() {
        assert_eq!(run(Search::new(V6, 1500, None), 200).0, Step::NotAnswered);
    }

    /// As `run`, with routers that tell what they take.
    fn run_told(mut search: Search, path: u32, told: impl Fn(u32) -> u32) -> (Step, u32) {
        for sent in 0..200 {
            match search.step() {
                Step::Try(size) if size <= path => search.answered(size),
                Step::Try(size) => search.told(size, told(path)),
                done => return (done, sent),
            }
        }
        panic!("no end of the search: {search:?}");
    }

    #[test]
    fn a_router_that_tells_saves_the_search() {
        assert_eq!(run_told(Search::new(V4, 1500, None), 1420, |path| path), (Step::Found(1420), 3));
        assert_eq!(run_told(Search::new(V6, 9000, None), 1280, |path| path), (Step::Found(1280), 3));
        assert_eq!(run_told(Search::new(V4, 9000, Some(4000)), 1400, |path| path), (Step::Found(1400), 3));
    }

    #[test]
    fn a_router_that_lies_misleads_nobody() {
        for lie in [|_: u32| 0, |path: u32| path / 2, |path: u32| path + 50, |_: u32| 65_535] {
            let (found, sent) = run_told(Search::new(V4, 1500, None), 1400, lie);
            assert_eq!(found, Step::Found(1400));
            assert!(sent < 30, "{sent}");
        }
    }

    #[test]
    fn a_single_loss_does_not_shrink_the_path() {
        let mut search = Search::new(V4, 1500, None);
        search.missed(1500);
        search.answered(1500);
        assert_eq!(search.step(), Step::Found(1500));
    }

    proptest! {
        #[test]
        fn finds_any_path_exactly(link in 576_u32..=65_535, below in 0_u32..=65_535, known in proptest::option::of(0_u32..70_000)) {
            let path = link.saturating_sub(below).max(576);
            let found = run(Search::new(V4, link, known), path).0;
            prop_assert_eq!(found, Step::Found(path));
        }
    }
}
