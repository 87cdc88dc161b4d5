//! Reading all objects of a kind.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::socket::SockProtocol;
use tracing::debug;

use super::qdisc::Queue;
use super::socket::{Consistency, Requests};
use super::speed::Speeds;
use super::{Error, link, neighbour, qdisc, route};
use crate::clock::since_boot;
use crate::model::address::IfIndex;
use crate::model::link::{Link, LinkCounters};
use crate::model::neighbour::Neighbour;
use crate::model::route::Route;

/// All links of this network namespace, with fresh counters.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn links() -> Result<Vec<Link>, Error> {
    Reader::open()?.links()
}

/// The counters of all links of this network namespace.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn counters() -> Result<BTreeMap<IfIndex, LinkCounters>, Error> {
    let mut reader = Reader::open()?;
    let queues = reader.queues()?;
    let links = reader.bare_links()?.into_iter().map(|link| with_queue(link, &queues));
    Ok(links.map(|link| (link.index, link.counters)).collect())
}

/// All routes of the main tables, both families, in the order of their destinations.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn routes() -> Result<Vec<Route>, Error> {
    Reader::open()?.routes()
}

/// All entries of the ARP and ND tables.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn neighbours() -> Result<Vec<Neighbour>, Error> {
    Reader::open()?.neighbours()
}

/// Asks the kernel for everything that it has of a kind.
pub(super) struct Reader {
    requests: Requests,
    speeds: Option<Speeds>,
}

/// How often a dump is begun anew when what it walks through changes.
const ATTEMPTS: usize = 3;

impl Reader {
    pub(super) fn open() -> Result<Self, Error> {
        let speeds = Speeds::open().inspect_err(|error| debug!(%error, "speeds of links stay unknown")).ok();
        Ok(Self { requests: Requests::open(SockProtocol::NetlinkRoute)?, speeds })
    }

    pub(super) fn links(&mut self) -> Result<Vec<Link>, Error> {
        let links = self.bare_links()?;
        let queues = self.queues()?;
        let speeds = self.speeds.as_mut().and_then(|speeds| speeds.all().ok()).unwrap_or_default();
        Ok(links
            .into_iter()
            .map(|link| Link { speed: speeds.get(&link.index).copied(), ..with_queue(link, &queues) })
            .collect())
    }

    pub(super) fn speed(&mut self, interface: IfIndex) -> Option<u64> {
        self.speeds.as_mut()?.one(interface)
    }

    // Routes are gathered in a set, because the kernel repeats those of IPv6 by the ten thousand when they change
    // during a dump.

    pub(super) fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let routes: BTreeSet<Route> =
            self.all("routes", libc::RTM_GETROUTE, &route::REQUEST, route::route)?;
        Ok(routes.into_iter().collect())
    }

    /// Routes as one dump tells of them; when it was interrupted, they are to be read again.
    pub(super) fn routes_once(&mut self) -> Result<(Vec<Route>, Consistency), Error> {
        let (routes, consistency): (BTreeSet<Route>, _) =
            self.once("routes", libc::RTM_GETROUTE, &route::REQUEST, route::route)?;
        Ok((routes.into_iter().collect(), consistency))
    }

    pub(super) fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        let now = since_boot();
        self.all("neighbours", libc::RTM_GETNEIGH, &neighbour::REQUEST, |body| {
            neighbour::neighbour(body, now)
        })
    }

    fn bare_links(&mut self) -> Result<Vec<Link>, Error> {
        let now = since_boot();
        self.all("links", libc::RTM_GETLINK, &link::REQUEST, |body| link::link(body, now))
    }

    fn queues(&mut self) -> Result<BTreeMap<IfIndex, Queue>, Error> {
        self.all("queueing disciplines", libc::RTM_GETQDISC, &qdisc::REQUEST, qdisc::root)
    }

    /// A dump that was interrupted is begun anew. After some attempts the last one has to do: what changed meanwhile is
    /// told to those who watch.
    fn all<T, All: Default + Extend<T>>(
        &mut self,
        what: &'static str,
        kind: u16,
        body: &[u8],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<All, Error> {
        let mut attempt = self.once(what, kind, body, &parse)?;
        for _ in 1..ATTEMPTS {
            if attempt.1 == Consistency::Whole {
                break;
            }
            attempt = self.once(what, kind, body, &parse)?;
        }
        Ok(attempt.0)
    }

    fn once<T, All: Default + Extend<T>>(
        &mut self,
        what: &'static str,
        kind: u16,
        body: &[u8],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<(All, Consistency), Error> {
        let mut found = All::default();
        let dump = self.requests.dump(kind, body, |body| found.extend(parse(body)));
        let consistency = dump.map_err(|source| Error::Read { what, source })?;
        Ok((found, consistency))
    }
}

fn with_queue(mut link: Link, queues: &BTreeMap<IfIndex, Queue>) -> Link {
    let queue = queues.get(&link.index).copied().unwrap_or_default();
    link.counters.qdisc_drops = queue.drops;
    link.counters.qdisc_backlog = queue.waiting;
    link
}
