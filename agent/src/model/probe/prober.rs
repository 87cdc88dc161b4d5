//! What to send to which gateway and when, and what answers mean. Time and randomness are arguments.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::mtu::{Search, Step};
use super::{BUCKETS, GatewayProbe, Probe, Target};
use crate::model::address::{IfIndex, Mac};
use crate::model::tcp::Histogram;

/// How often to probe. No gateway gets more than one probe of a kind in `every`.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Between two probes of a kind to a gateway, at least.
    pub every: Duration,
    /// Added at random, so that nodes do not probe in step.
    pub jitter: Duration,
    /// A probe without an answer for this long is lost.
    pub timeout: Duration,
    /// Between two searches for the path MTU.
    pub path_mtu_every: Duration,
    /// Between any two probes of this node, on average: the global budget.
    pub gap: Duration,
    /// How many may go at once before the budget holds them back. A node wakes up once for all of them.
    pub burst: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            jitter: Duration::from_millis(250),
            timeout: Duration::from_secs(1),
            path_mtu_every: Duration::from_secs(600),
            gap: Duration::from_millis(5),
            burst: 8,
        }
    }
}

/// A probe to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To which gateway.
    pub target: Target,
    /// What to send.
    pub request: Request,
    /// A random number that the answer to an echo carries back.
    pub token: u64,
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// An ARP request or a neighbour solicitation.
    LinkLayer {
        /// The address that answered last time, to spare the others on the link a broadcast.
        to: Option<Mac>,
    },
    /// A small echo request.
    Echo,
    /// An echo request of this many octets, IP header included, that must not be fragmented.
    Sized(u32),
}

/// An answer as it came from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An ARP reply or a neighbour advertisement.
    LinkLayer {
        /// On which interface.
        interface: IfIndex,
        /// Whose address it tells.
        gateway: IpAddr,
        /// The link-layer address that it tells, if it does.
        mac: Option<Mac>,
    },
    /// An echo reply.
    Echo {
        /// On which interface.
        interface: IfIndex,
        /// From which address.
        gateway: IpAddr,
        /// The number from the request.
        token: u64,
    },
    /// An ICMP error: a sized request is too big for the path.
    TooBig {
        /// To which gateway the request was sent.
        gateway: IpAddr,
        /// The last 16 bits of the number in the request: more need not come back.
        sequence: u16,
        /// The size that would pass, as the router tells.
        mtu: u32,
    },
}

/// Why a probe could not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The kernel says that it is larger than the link takes.
    TooBig,
    /// It cannot be sent at all: why, and the way out.
    Unable(String),
}

/// Decides what to probe and adds up what came of it.
#[derive(Debug)]
pub struct Prober {
    plan: Plan,
    gateways: BTreeMap<(IfIndex, IpAddr), Gateway>,
    /// When the global budget is whole again.
    free: Duration,
    /// When the next round begins: what was sent in this one is due again then, together.
    round: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    LinkLayer,
    Echo,
    PathMtu,
}

const KINDS: [Kind; 3] = [Kind::LinkLayer, Kind::Echo, Kind::PathMtu];

impl Prober {
    /// A prober without gateways.
    pub fn new(plan: Plan) -> Self {
        Self { plan, gateways: BTreeMap::new(), free: Duration::ZERO, round: Duration::ZERO }
    }

    /// Takes the gateways that there are now; returns those that are no longer probed.
    pub fn follow(
        &mut self,
        targets: Vec<Target>,
        now: Duration,
        random: &mut impl FnMut() -> u64,
    ) -> Vec<(IfIndex, IpAddr)> {
        let wanted: BTreeMap<_, _> =
            targets.into_iter().map(|one| ((one.interface, one.gateway), one)).collect();
        let gone: Vec<_> = self.gateways.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        self.gateways.retain(|key, _| wanted.contains_key(key));
        for (key, target) in wanted {
            match self.gateways.get_mut(&key) {
                Some(gateway) => gateway.relink(target, now),
                None => {
                    let start = now + share(self.plan.every, random());
                    self.gateways.insert(key, Gateway::new(target, start));
                }
            }
        }
        gone
    }

    /// The next probe to send, if one is due; ask again until there is none.
    pub fn poll(&mut self, now: Duration, random: &mut impl FnMut() -> u64) -> Option<Transmit> {
        for gateway in self.gateways.values_mut() {
            gateway.expire(now, self.plan.timeout);
        }
        let (due, key, kind) = self.earliest()?;
        if now < due.max(self.allowed()) {
            return None;
        }
        self.free = self.free.max(now) + self.plan.gap;
        if now >= self.round {
            self.round = now + self.plan.every + share(self.plan.jitter, random());
        }
        let next = self.round.max(now + self.plan.every);
        let search_pause = self.plan.path_mtu_every + share(self.plan.path_mtu_every / 4, random());
        let gateway = self.gateways.get_mut(&key)?;
        gateway.send(kind, Sent { at: now, token: random() }, next, now + search_pause)
    }

    /// When [`Self::poll`] has something to do next.
    pub fn next(&self) -> Option<Duration> {
        let send = self.earliest().map(|(due, ..)| due.max(self.allowed()));
        let lost = self.gateways.values().flat_map(|gateway| &gateway.series);
        let lost = lost.filter_map(|series| Some(series.pending?.at + self.plan.timeout)).min();
        [send, lost].into_iter().flatten().min()
    }

    /// Takes an answer that arrived at `at`. What answers no open probe is ignored.
    pub fn answer(&mut self, answer: Answer, at: Duration) {
        match answer {
            Answer::LinkLayer { interface, gateway, mac } => {
                let Some(gateway) = self.gateways.get_mut(&(interface, gateway)) else { return };
                if gateway.answered(Kind::LinkLayer, at, self.plan.timeout) {
                    gateway.mac = mac;
                }
            }
            Answer::TooBig { gateway, sequence, mtu } => {
                let asked = self.gateways.iter_mut().filter(|((_, address), _)| *address == gateway);
                asked.for_each(|(_, gateway)| gateway.told(sequence, mtu));
            }
            Answer::Echo { interface, gateway, token } => {
                let Some(gateway) = self.gateways.get_mut(&(interface, gateway)) else { return };
                for kind in [Kind::Echo, Kind::PathMtu] {
                    if gateway.one(kind).pending.is_some_and(|sent| sent.token == token) {
                        gateway.answered(kind, at, self.plan.timeout);
                    }
                }
            }
        }
    }

    /// A probe of [`Self::poll`] could not be sent: it counts neither as sent nor as lost.
    pub fn refused(&mut self, transmit: &Transmit, refusal: Refusal) {
        let key = (transmit.target.interface, transmit.target.gateway);
        if let Some(gateway) = self.gateways.get_mut(&key) {
            gateway.refused(transmit.request, refusal);
        }
    }

    /// What has changed since the last call.
    pub fn changed(&mut self) -> Vec<GatewayProbe> {
        let gateways = self.gateways.values_mut();
        gateways.filter_map(|one| std::mem::take(&mut one.changed).then(|| one.shown())).collect()
    }

    /// When the global budget allows the next probe.
    fn allowed(&self) -> Duration {
        self.free.saturating_sub(self.plan.gap * self.plan.burst.saturating_sub(1))
    }

    /// The probe that has waited longest; every gateway and kind gets its turn even when the budget is short.
    fn earliest(&self) -> Option<(Duration, (IfIndex, IpAddr), Kind)> {
        let ready = self.gateways.iter().flat_map(|(key, gateway)| {
            KINDS.into_iter().filter_map(move |kind| Some((gateway.due(kind)?, *key, kind)))
        });
        ready.min_by_key(|(due, ..)| *due)
    }
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Duration,
    token: u64,
}

#[derive(Debug)]
struct Series {
    shown: Probe,
    due: Duration,
    pending: Option<Sent>,
    /// Whether the last probe that was sent and decided was answered; `None` before the first.
    alive: Option<bool>,
}

impl Series {
    fn new(due: Duration) -> Self {
        let shown = Probe { latency: Histogram::with_buckets(BUCKETS), ..Probe::default() };
        Self { shown, due, pending: None, alive: None }
    }

    fn expired(&mut self, now: Duration, timeout: Duration) -> bool {
        let expired = self.pending.take_if(|sent| now >= sent.at + timeout).is_some();
        if expired {
            self.shown.lost += 1;
            self.alive = Some(false);
        }
        expired
    }

    fn answered(&mut self, at: Duration, timeout: Duration) -> bool {
        // An answer from before the request belongs to an earlier one; one after the time-out is a loss.
        let latency = self.pending.and_then(|sent| at.checked_sub(sent.at));
        let Some(latency) = latency.filter(|latency| *latency < timeout) else { return false };
        self.pending = None;
        self.alive = Some(true);
        self.shown.last = Some(latency);
        self.shown.latency.record(latency);
        true
    }

    fn unable(&mut self, reason: Option<String>) {
        self.pending = None;
        self.shown.sent = self.shown.sent.saturating_sub(1);
        self.shown.unable = reason;
    }
}

#[derive(Debug)]
struct Gateway {
    target: Target,
    series: [Series; 3],
    search: Search,
    /// The size of the open or last sized probe.
    size: u32,
    path_mtu: Option<u32>,
    mac: Option<Mac>,
    changed: bool,
}

impl Gateway {
    fn new(target: Target, start: Duration) -> Self {
        let search = Search::new(target.gateway, target.link_mtu, None);
        let series = KINDS.map(|_| Series::new(start));
        Self { target, series, search, size: 0, path_mtu: None, mac: None, changed: true }
    }

    fn one(&mut self, kind: Kind) -> &mut Series {
        &mut self.series[kind as usize]
    }

    fn relink(&mut self, target: Target, now: Duration) {
        if target.link_mtu != self.target.link_mtu {
            self.path_mtu = self.path_mtu.filter(|size| *size <= target.link_mtu);
            self.search = Search::new(target.gateway, target.link_mtu, self.path_mtu);
            let path = self.one(Kind::PathMtu);
            path.pending = None;
            // A search that has ended waits for minutes; one under way keeps its pace.
            path.due = path.due.min(now + Duration::from_secs(1));
            self.changed = true;
        }
        self.target = target;
    }

    /// When a kind may be sent next; sized probes wait until small ones are answered.
    fn due(&self, kind: Kind) -> Option<Duration> {
        let series = &self.series[kind as usize];
        let ready = match kind {
            Kind::LinkLayer => self.target.neighbour,
            Kind::Echo => true,
            Kind::PathMtu => self.series[Kind::Echo as usize].alive == Some(true),
        };
        (ready && series.pending.is_none()).then_some(series.due)
    }

    fn expire(&mut self, now: Duration, timeout: Duration) {
        for kind in KINDS {
            if self.one(kind).expired(now, timeout) {
                self.changed = true;
                if kind == Kind::PathMtu {
                    self.missed();
                }
            }
        }
        if self.series[Kind::LinkLayer as usize].alive == Some(false) {
            self.mac = None;
        }
    }

    fn missed(&mut self) {
        if self.series[Kind::Echo as usize].alive == Some(true) {
            self.search.missed(self.size);
        } else {
            self.search.interrupted();
        }
    }

    fn send(&mut self, kind: Kind, sent: Sent, next: Duration, next_search: Duration) -> Option<Transmit> {
        let request = match kind {
            Kind::LinkLayer => Request::LinkLayer { to: self.mac },
            Kind::Echo => Request::Echo,
            Kind::PathMtu => match self.next_size(next_search) {
                Some(size) => Request::Sized(size),
                None => return None,
            },
        };
        self.changed = true;
        let series = self.one(kind);
        series.due = next;
        series.pending = Some(sent);
        series.shown.sent += 1;
        series.shown.unable = None;
        Some(Transmit { target: self.target.clone(), request, token: sent.token })
    }

    /// The size to try, or `None` when the search has just ended.
    fn next_size(&mut self, next_search: Duration) -> Option<u32> {
        let found = match self.search.step() {
            Step::Try(size) => {
                self.size = size;
                return Some(size);
            }
            Step::Found(size) => Some(size),
            Step::NotAnswered => None,
        };
        self.path_mtu = found;
        self.changed = true;
        self.search = Search::new(self.target.gateway, self.target.link_mtu, found);
        self.one(Kind::PathMtu).due = next_search;
        None
    }

    fn answered(&mut self, kind: Kind, at: Duration, timeout: Duration) -> bool {
        let answered = self.one(kind).answered(at, timeout);
        if answered {
            self.changed = true;
            if kind == Kind::PathMtu {
                self.search.answered(self.size);
                if !matches!(self.search.step(), Step::Try(_)) {
                    self.one(kind).due = at;
                }
            }
        }
        answered
    }

    /// A router tells of a request; one that is not open is none of ours.
    fn told(&mut self, sequence: u16, mtu: u32) {
        let size = self.size;
        let open = self.one(Kind::PathMtu).pending.take_if(|sent| sent.token as u16 == sequence);
        if open.is_some() {
            self.search.told(size, mtu);
        }
    }

    fn refused(&mut self, request: Request, refusal: Refusal) {
        self.changed = true;
        match (request, refusal) {
            (Request::Sized(size), Refusal::TooBig) => {
                self.search.too_big(size);
                self.one(Kind::PathMtu).unable(None);
            }
            (Request::Sized(_), Refusal::Unable(reason)) => self.one(Kind::PathMtu).unable(Some(reason)),
            (Request::Echo, refusal) => self.one(Kind::Echo).unable(Some(refusal.text())),
            (Request::LinkLayer { .. }, refusal) => self.one(Kind::LinkLayer).unable(Some(refusal.text())),
        }
    }

    fn shown(&self) -> GatewayProbe {
        let [link_layer, echo, _] = &self.series;
        GatewayProbe {
            interface: self.target.interface,
            gateway: self.target.gateway,
            link_layer: link_layer.shown.clone(),
            echo: echo.shown.clone(),
            path_mtu: self.path_mtu,
        }
    }
}

impl Refusal {
    fn text(self) -> String {
        match self {
            Refusal::TooBig => "larger than the link takes; look at the link's MTU".to_owned(),
            Refusal::Unable(reason) => reason,
        }
    }
}

/// A random part of a span of time.
fn share(span: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.checked_rem(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests;
