//! Following the kernel: subscribe, read everything, then tell of every change.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Error;
use super::batch::{Batch, carrying};
use super::read::{Reader, since_boot};
use super::socket::Monitor;
use crate::model::address::IfIndex;
use crate::model::link::Link;
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
        let session = Session { limits, sender: &sender };
        match session.run(missed.take()).await {
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

/// What one subscription lives through. Ends well when the receiver is gone.
struct Session<'a> {
    limits: Limits,
    sender: &'a Sender<Vec<Event>>,
}

impl Session<'_> {
    async fn run(self, missed: Option<Event>) -> Result<(), Error> {
        // Subscribed first: what changes while reading is told afterwards.
        let mut monitor = Monitor::open(self.limits.receive_buffer)?;
        let mut source = Source { reader: Some(Reader::open()?), known: HashMap::new() };
        let everything = source.everything().await?;
        if self.sender.send(missed.into_iter().chain(everything).collect()).await.is_err() {
            return Ok(());
        }
        let mut batch = Batch::default();
        let mut routes_at = Instant::now();
        let mut refresh_at = Instant::now() + self.limits.refresh;
        loop {
            self.wait(&mut monitor, &mut batch, routes_at, refresh_at).await?;
            let Some(permit) = self.gather(&mut monitor, &mut batch).await? else { return Ok(()) };
            if Instant::now() >= refresh_at {
                batch.add(Event::Links(source.links().await?));
                refresh_at = Instant::now() + self.limits.refresh;
            }
            batch = source.complete(batch).await?;
            if batch.routes_changed() && Instant::now() >= routes_at {
                let begun = Instant::now();
                batch.add(Event::Routes(source.routes().await?));
                batch.routes_read();
                // Reading a large table again and again may take a tenth of the time, no more.
                routes_at = Instant::now() + self.limits.settle.max(10 * begun.elapsed());
            }
            if !batch.is_empty() {
                permit.send(batch.drain());
            }
        }
    }

    /// Waits for the first change, or until something is due.
    async fn wait(
        &self,
        monitor: &mut Monitor,
        batch: &mut Batch,
        routes_at: Instant,
        refresh_at: Instant,
    ) -> Result<(), Error> {
        let due = if batch.routes_changed() { routes_at.min(refresh_at) } else { refresh_at };
        tokio::select! {
            () = self.sender.closed() => Ok(()),
            () = sleep_until(due) => Ok(()),
            datagram = monitor.receive() => self.take_in(batch, datagram),
        }
    }

    /// Takes in what comes until changes have settled and the receiver has room; `None` when the receiver is gone.
    async fn gather(
        &self,
        monitor: &mut Monitor,
        batch: &mut Batch,
    ) -> Result<Option<tokio::sync::mpsc::Permit<'_, Vec<Event>>>, Error> {
        let settled = Instant::now() + self.limits.settle;
        while let Ok(datagram) = timeout_at(settled, monitor.receive()).await {
            self.take_in(batch, datagram)?;
        }
        let reserve = self.sender.reserve();
        tokio::pin!(reserve);
        loop {
            tokio::select! {
                biased;
                permit = &mut reserve => return Ok(permit.ok()),
                datagram = monitor.receive() => self.take_in(batch, datagram)?,
            }
        }
    }

    fn take_in(&self, batch: &mut Batch, datagram: io::Result<&[u8]>) -> Result<(), Error> {
        match datagram {
            Ok(datagram) => batch.take_in(datagram, since_boot()),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Err(Error::Overrun),
            Err(error) => return Err(Error::Listen(error)),
        }
        if batch.len() > self.limits.pending { Err(Error::Overrun) } else { Ok(()) }
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
        let routes = self.routes().await?;
        let neighbours = self.off_thread(Reader::neighbours).await?;
        Ok([Event::Links(links), Event::Routes(routes), Event::Neighbours(neighbours)])
    }

    async fn routes(&mut self) -> Result<Vec<crate::model::route::Route>, Error> {
        self.off_thread(Reader::routes).await
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
