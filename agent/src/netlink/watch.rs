//! Following the kernel: subscribe, read everything, then tell of every change.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc::{Permit, Sender};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Error;
use super::batch::{Batch, carrying};
use super::read::Reader;
use super::socket::{Consistency, Monitor};
use crate::clock::since_boot;
use crate::model::address::IfIndex;
use crate::model::link::Link;
use crate::model::route::Route;
use crate::state::Event;

/// What bounds the watching.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets that the kernel may hold for us. One change of a link takes about 2 KiB of it.
    pub receive_buffer: usize,
    /// Changes that may wait for the receiver; with more, everything is read again instead.
    pub pending: usize,
    /// How long changes are gathered into one batch.
    pub settle: Duration,
    /// How often links are read again, for counters change without a word.
    pub refresh: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_buffer: 16 << 20,
            pending: 32_768,
            settle: Duration::from_millis(50),
            refresh: Duration::from_secs(30),
        }
    }
}

/// Sends all links, routes and neighbours of this network namespace, and then every change, until cancelled or until the
/// receiver is gone.
///
/// Changes come in batches, each worth one snapshot, at most one a [`Limits::settle`]. When changes may have been missed,
/// the next batch begins with [`Event::Missed`] and holds everything again. It never gives up: while the kernel does not
/// answer, it tries again, ever more slowly.
pub async fn watch(sender: Sender<Vec<Event>>, cancel: CancellationToken) {
    watch_within(Limits::default(), sender, cancel).await;
}

/// As [`watch`], within other limits.
pub async fn watch_within(limits: Limits, sender: Sender<Vec<Event>>, cancel: CancellationToken) {
    cancel.run_until_cancelled(follow(limits, sender)).await;
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

async fn follow(limits: Limits, sender: Sender<Vec<Event>>) {
    let mut missed = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let session = match Session::open(limits, &sender) {
            Ok(session) => session.run(missed.take()).await,
            Err(error) => Err(error),
        };
        match session {
            Ok(()) => return,
            Err(Error::Overrun) => {
                debug!("changes came faster than they were taken in; reading everything again")
            }
            Err(error) => warn!(error = &error as &dyn std::error::Error, "netlink broke; trying again"),
        }
        missed = Some(Event::Missed { what: "netlink" });
        if begun.elapsed() > 2 * LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// What one subscription lives through.
struct Session<'a> {
    limits: Limits,
    sender: &'a Sender<Vec<Event>>,
    ear: Ear,
    source: Source,
    routes_at: Instant,
    refresh_at: Instant,
}

impl<'a> Session<'a> {
    fn open(limits: Limits, sender: &'a Sender<Vec<Event>>) -> Result<Self, Error> {
        // Subscribed first: what changes while everything is read is told afterwards.
        let monitor = Monitor::open(limits.receive_buffer)?;
        let ear = Ear { monitor, coming: Batch::default(), pending: limits.pending };
        let source = Source { reader: Some(Reader::open()?), known: HashMap::new() };
        let now = Instant::now();
        Ok(Self { limits, sender, ear, source, routes_at: now, refresh_at: now + limits.refresh })
    }

    /// Ends well when the receiver is gone.
    async fn run(mut self, missed: Option<Event>) -> Result<(), Error> {
        let everything = self.ear.while_listening(self.source.everything()).await?;
        if self.sender.send(missed.into_iter().chain(everything).collect()).await.is_err() {
            return Ok(());
        }
        loop {
            self.wait().await?;
            let Some(permit) = self.gather().await? else { return Ok(()) };
            let batch = self.complete().await?;
            if !batch.is_empty() {
                permit.send(batch.into_events());
            }
        }
    }

    /// Waits for the first change, or until something is due.
    async fn wait(&mut self) -> Result<(), Error> {
        let routes_due = self.ear.coming.routes_changed().then_some(self.routes_at);
        let due = routes_due.map_or(self.refresh_at, |routes_at| routes_at.min(self.refresh_at));
        tokio::select! {
            () = self.sender.closed() => Ok(()),
            () = sleep_until(due) => Ok(()),
            heard = self.ear.listen() => heard,
        }
    }

    /// Takes in what comes until changes have settled and the receiver has room; `None` when the receiver is gone.
    async fn gather(&mut self) -> Result<Option<Permit<'a, Vec<Event>>>, Error> {
        let settled = Instant::now() + self.limits.settle;
        while let Ok(heard) = timeout_at(settled, self.ear.listen()).await {
            heard?;
        }
        let sender = self.sender;
        self.ear.while_listening(async { Ok(sender.reserve().await.ok()) }).await
    }

    /// What has been gathered, with all that only asking tells. What comes meanwhile is newer than what is read for this
    /// batch, so it goes into the next.
    async fn complete(&mut self) -> Result<Batch, Error> {
        let batch = std::mem::take(&mut self.ear.coming);
        let routes_changed = batch.routes_changed();
        let mut batch = self.ear.while_listening(self.source.complete(batch)).await?;
        if Instant::now() >= self.refresh_at {
            batch.add(Event::Links(self.ear.while_listening(self.source.links()).await?));
            self.refresh_at = Instant::now() + self.limits.refresh;
        }
        if routes_changed && Instant::now() >= self.routes_at {
            batch.add(Event::Routes(self.routes().await?));
        } else if routes_changed {
            self.ear.coming.routes_are_to_be_read();
        }
        Ok(batch)
    }

    /// Reading a large table again and again may take a tenth of the time, no more.
    async fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let begun = Instant::now();
        let (routes, consistency) = self.ear.while_listening(self.source.routes()).await?;
        if consistency == Consistency::Interrupted {
            self.ear.coming.routes_are_to_be_read();
        }
        self.routes_at = Instant::now() + self.limits.settle.max(10 * begun.elapsed());
        Ok(routes)
    }
}

/// Hears what the kernel tells, and keeps it until it is taken.
struct Ear {
    monitor: Monitor,
    coming: Batch,
    /// How many changes it keeps at most.
    pending: usize,
}

impl Ear {
    /// Takes in the next that comes.
    async fn listen(&mut self) -> Result<(), Error> {
        match self.monitor.receive().await {
            Ok(datagram) => self.coming.take_in(datagram, since_boot()),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Err(Error::Overrun),
            Err(error) => return Err(Error::Listen(error)),
        }
        if self.coming.len() > self.pending { Err(Error::Overrun) } else { Ok(()) }
    }

    /// Takes in what comes while something else is done, so that the kernel need not hold it.
    async fn while_listening<T>(&mut self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                heard = self.listen() => heard?,
            }
        }
    }
}

/// Reads what the kernel tells only when asked, on a thread that may block.
struct Source {
    /// Away while a reading runs.
    reader: Option<Reader>,
    known: HashMap<IfIndex, Known>,
}

/// What a change of a link does not tell, as last read.
struct Known {
    carrying: (bool, bool, bool),
    speed: Option<u64>,
    qdisc_drops: u64,
    qdisc_backlog: u64,
}

impl Known {
    fn of(link: &Link) -> Self {
        let (qdisc_drops, qdisc_backlog) = (link.counters.qdisc_drops, link.counters.qdisc_backlog);
        Self { carrying: carrying(link), speed: link.speed, qdisc_drops, qdisc_backlog }
    }
}

impl Source {
    async fn everything(&mut self) -> Result<[Event; 3], Error> {
        let links = self.links().await?;
        let routes = self.off_thread(Reader::routes).await?;
        let neighbours = self.off_thread(Reader::neighbours).await?;
        Ok([Event::Links(links), Event::Routes(routes), Event::Neighbours(neighbours)])
    }

    async fn routes(&mut self) -> Result<(Vec<Route>, Consistency), Error> {
        self.off_thread(Reader::routes_once).await
    }

    async fn links(&mut self) -> Result<Vec<Link>, Error> {
        let links = self.off_thread(Reader::links).await?;
        self.known = links.iter().map(|link| (link.index, Known::of(link))).collect();
        Ok(links)
    }

    /// Adds to the links of a batch what only asking tells: a driver is asked when a link is new or changed its state.
    async fn complete(&mut self, mut batch: Batch) -> Result<Batch, Error> {
        if batch.links_mut().next().is_none() {
            return Ok(batch);
        }
        let known = std::mem::take(&mut self.known);
        let (batch, known) = self
            .off_thread(move |reader| {
                let mut known = known;
                for link in batch.links_mut() {
                    complete(link, &mut known, reader);
                }
                Ok((batch, known))
            })
            .await?;
        self.known = known;
        Ok(batch)
    }

    async fn off_thread<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::open()?,
        };
        let task = tokio::task::spawn_blocking(move || (read(&mut reader), reader));
        let (result, reader) = task.await.map_err(|error| Error::Listen(io::Error::other(error)))?;
        self.reader = Some(reader);
        result
    }
}

fn complete(link: &mut Link, known: &mut HashMap<IfIndex, Known>, reader: &mut Reader) {
    if let Some(known) = known.get(&link.index) {
        link.counters.qdisc_drops = known.qdisc_drops;
        link.counters.qdisc_backlog = known.qdisc_backlog;
        link.speed = known.speed;
    }
    if known.get(&link.index).is_none_or(|known| known.carrying != carrying(link)) {
        link.speed = reader.speed(link.index);
    }
    known.insert(link.index, Known::of(link));
}
