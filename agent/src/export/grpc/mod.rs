//! The agent's own gRPC interface: what `weirctl` shows.

mod bfd;
mod bgp;
mod convert;
mod filter;
mod listen;
mod pace;
mod policy;
mod rate;
mod vips;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Request, Response, Status};

pub use listen::{BindError, UnixSocket, serve_tcp, serve_unix};

use super::proto;
use super::tally::Tally;
use crate::clock::since_boot;
use crate::enforce::Listeners;
use crate::model::measurement::{Source, SourceError};
use crate::model::policy::Enforcement;
use crate::oidc::Deadline;
use crate::state::Snapshot;
use convert::Drops;
use filter::Filter;
use pace::Pace;
use rate::Reading;

/// Streams served at a time; further ones are refused.
pub const STREAMS: usize = 16;

/// Flows in one message.
const CHUNK: usize = 256;

type Stream<T> = BoxStream<'static, Result<T, Status>>;

/// Answers from what the agent knows and what it reads at that moment. It reads only when somebody asks, and holds nothing
/// for slow clients: a stream looks again once its client has taken the last message.
#[derive(Clone)]
pub struct Service {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    source: Arc<dyn Source>,
    tally: Arc<Tally>,
    streams: Arc<Semaphore>,
    shutdown: CancellationToken,
    policy: Option<Arc<dyn Enforcement>>,
    listeners: Option<Listeners>,
}

impl Service {
    /// A service of a source; `tally` is shared with all that serve, and `shutdown` ends streams.
    pub fn new(
        snapshot: watch::Receiver<Arc<Snapshot>>,
        source: Arc<dyn Source>,
        tally: Arc<Tally>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            snapshot,
            source,
            tally,
            streams: Arc::new(Semaphore::new(STREAMS)),
            shutdown,
            policy: None,
            listeners: None,
        }
    }

    /// The same with enforcement, where there is any.
    pub fn with_policy(self, policy: Option<Arc<dyn Enforcement>>, listeners: Listeners) -> Self {
        Self { listeners: policy.is_some().then_some(listeners), policy, ..self }
    }

    fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Reads where blocking is allowed.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Source) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let source = Arc::clone(&self.source);
        match tokio::task::spawn_blocking(move || read(source.as_ref())).await {
            Ok(result) => result,
            Err(broken) => Err(SourceError { what: "the source".to_owned(), source: Box::new(broken) }),
        }
    }

    async fn flows(&self) -> Result<Vec<crate::model::flow::Flow>, SourceError> {
        self.read(|source| source.flows()).await.inspect_err(|_| self.tally.flow_errors.one())
    }

    async fn reading(&self) -> Reading {
        let measurement =
            self.read(|source| source.measure()).await.inspect_err(|_| self.tally.datapath_errors.one());
        Reading { at: Instant::now(), measurement, flows: self.flows().await }
    }

    async fn drops(&self) -> Result<(Drops, Vec<proto::Loss>), SourceError> {
        let tally = Arc::clone(&self.tally);
        let read = self.read(move |source| {
            let mut book = tally.losses();
            let host = source.host().inspect_err(|_| tally.host_errors.one()).ok();
            let measurement = source.measure().inspect_err(|_| tally.datapath_errors.one())?;
            if let Some(host) = &host {
                book.see(&host.links, &measurement.drops, &host.softnet);
                book.see_rules(&measurement.rule_drops);
            }
            Ok((measurement, host, book.losses()))
        });
        let ((measurement, host, losses), now) = (read.await?, self.now());
        Ok((convert::drops(&now, &measurement, host.as_ref()), convert::losses(&now, &losses)))
    }

    /// Makes a stream of looks until the client or the agent goes, or the token that opened it ends.
    fn stream<T: Send + 'static>(
        &self,
        opened: &Extensions,
        looks: Stream<T>,
    ) -> Result<Response<Stream<T>>, Status> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit
            .map_err(|_| Status::resource_exhausted(format!("{STREAMS} streams are served already")))?;
        let served = Served { tally: Arc::clone(&self.tally), _permit: permit };
        self.tally.streams_begun.one();
        let looks = looks.map(move |look| {
            let _served = &served;
            look
        });
        let looks = looks.take_until(self.shutdown.clone().cancelled_owned()).boxed();
        Ok(Response::new(match opened.get() {
            Some(Deadline(end)) => cut(looks, *end),
            None => looks,
        }))
    }
}

/// The looks until this time, and then why there are no more.
fn cut<T: Send + 'static>(looks: Stream<T>, end: tokio::time::Instant) -> Stream<T> {
    let state = (looks, Box::pin(tokio::time::sleep_until(end)));
    let cut = stream::unfold(Some(state), |state| async {
        let (mut looks, mut end) = state?;
        tokio::select! {
            biased;
            () = &mut end => Some((Err(expired()), None)),
            look = looks.next() => Some((look?, Some((looks, end)))),
        }
    });
    cut.boxed()
}

fn expired() -> Status {
    Status::unauthenticated("the token that opened this stream has expired; get a new one, and call again")
}

/// Held while a stream is served.
struct Served {
    tally: Arc<Tally>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tally.streams_ended.one();
    }
}

fn unavailable(error: &SourceError) -> Status {
    Status::unavailable(convert::problem("", error).text)
}

#[tonic::async_trait]
impl proto::weir_server::Weir for Service {
    type TopStream = Stream<proto::TopResponse>;
    type FlowsStream = Stream<proto::FlowsResponse>;
    type DropsStream = Stream<proto::DropsResponse>;
    type PolicyEventsStream = Stream<proto::PolicyEvent>;
    type BgpStream = Stream<proto::BgpResponse>;

    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let measurement =
            self.read(|source| source.measure()).await.inspect_err(|_| self.tally.datapath_errors.one());
        let host = self.read(|source| source.host()).await.inspect_err(|_| self.tally.host_errors.one());
        Ok(Response::new(convert::status(&self.now(), &measurement, &host)))
    }

    async fn links(&self, _: Request<proto::LinksRequest>) -> Result<Response<proto::LinksResponse>, Status> {
        let host = self.read(|source| source.host()).await.inspect_err(|_| self.tally.host_errors.one());
        Ok(Response::new(convert::links(&self.now(), host.ok().as_ref())))
    }

    async fn policy(
        &self,
        _: Request<proto::PolicyRequest>,
    ) -> Result<Response<proto::PolicyResponse>, Status> {
        policy::list(self).await.map(Response::new)
    }

    async fn policy_diff(
        &self,
        request: Request<proto::PolicyDiffRequest>,
    ) -> Result<Response<proto::PolicyDiffResponse>, Status> {
        policy::diff(self, request.into_inner()).await.map(Response::new)
    }

    async fn policy_trace(
        &self,
        request: Request<proto::PolicyTraceRequest>,
    ) -> Result<Response<proto::PolicyTraceResponse>, Status> {
        policy::trace(self, request.into_inner()).await.map(Response::new)
    }

    async fn policy_settle(
        &self,
        request: Request<proto::PolicySettleRequest>,
    ) -> Result<Response<proto::PolicySettleResponse>, Status> {
        policy::settle(self, request.into_inner()).await.map(Response::new)
    }

    async fn policy_events(
        &self,
        request: Request<proto::PolicyEventsRequest>,
    ) -> Result<Response<Self::PolicyEventsStream>, Status> {
        self.stream(request.extensions(), policy::events(self)?)
    }

    async fn bfd(&self, _: Request<proto::BfdRequest>) -> Result<Response<proto::BfdResponse>, Status> {
        Ok(Response::new(bfd::answer(&self.now())))
    }

    async fn vips(
        &self,
        request: Request<proto::VipsRequest>,
    ) -> Result<Response<proto::VipsResponse>, Status> {
        let table = Arc::clone(&self.now().vip_table);
        vips::table(&table, request.into_inner().state.as_deref()).map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let table = Arc::clone(&self.now().vip_table);
        vips::explanation(&table, &request.into_inner().address).map(Response::new)
    }

    async fn top(&self, request: Request<proto::TopRequest>) -> Result<Response<Self::TopStream>, Status> {
        let (_, opened, request) = request.into_parts();
        let pace = Pace::new(request.interval_ms)?;
        let limit = if request.limit == 0 { 20 } else { request.limit.min(1000) as usize };
        let state = (self.clone(), pace, None::<Reading>);
        let looks = stream::unfold(state, move |(service, mut pace, earlier)| async move {
            let earlier = match earlier {
                Some(reading) => reading,
                None => service.reading().await,
            };
            let skipped = pace.wait().await;
            service.tally.skipped.add(skipped);
            let later = service.reading().await;
            let top = rate::top(&service.now(), &earlier, &later, skipped, limit);
            Some((Ok(top), (service, pace, Some(later))))
        });
        self.stream(&opened, looks.boxed())
    }

    async fn flows(
        &self,
        request: Request<proto::FlowsRequest>,
    ) -> Result<Response<Self::FlowsStream>, Status> {
        let (_, opened, request) = request.into_parts();
        let pace = Pace::new(request.interval_ms)?;
        let filter = Filter::parse(request.filter.unwrap_or_default(), &self.now())?;
        let limit = if request.limit == 0 { 100 } else { request.limit as usize };
        let all = Service::flows(self).await.map_err(|error| unavailable(&error))?;
        let mut moves = Moves::default();
        let matching: Vec<_> = all.into_iter().filter(|flow| filter.matches(flow)).collect();
        for flow in &matching {
            moves.since(convert::flow_key(flow), [flow.packets, flow.bytes]);
        }
        let first = stream::iter(convert::flow_pages(&self.now(), matching, limit)).map(Ok);
        if !request.follow {
            return self.stream(&opened, first.boxed());
        }
        let state = (self.clone(), pace, filter, moves);
        let looks = stream::unfold(state, |(service, mut pace, filter, moves)| async move {
            let skipped = pace.wait().await;
            service.tally.skipped.add(skipped);
            let (pages, moves) = match Service::flows(&service).await {
                Ok(flows) => {
                    let (pages, moves) = convert::moving(&service.now(), &filter, flows, moves, skipped);
                    (pages.into_iter().map(Ok).collect(), moves)
                }
                Err(error) => (vec![Ok(convert::flows_problem(&error, skipped))], moves),
            };
            Some((stream::iter(pages), (service, pace, filter, moves)))
        });
        self.stream(&opened, first.chain(looks.flatten()).boxed())
    }

    async fn drops(
        &self,
        request: Request<proto::DropsRequest>,
    ) -> Result<Response<Self::DropsStream>, Status> {
        let (_, opened, request) = request.into_parts();
        let pace = Pace::new(request.interval_ms)?;
        let (known, losses) = Service::drops(self).await.map_err(|error| unavailable(&error))?;
        let first = proto::DropsResponse { drops: known.listed(), losses, ..Default::default() };
        let first = stream::once(std::future::ready(Ok(first)));
        if !request.follow {
            return self.stream(&opened, first.boxed());
        }
        let state = (self.clone(), pace, known);
        let looks = stream::unfold(state, |(service, mut pace, known)| async move {
            let skipped = pace.wait().await;
            service.tally.skipped.add(skipped);
            let (answer, known) = match Service::drops(&service).await {
                Ok((now, _)) => (convert::grown(&now, &known, skipped), now),
                Err(error) => (convert::drops_problem(&error, skipped), known),
            };
            Some((Ok(answer), (service, pace, known)))
        });
        self.stream(&opened, first.chain(looks).boxed())
    }

    async fn bgp(&self, request: Request<proto::BgpRequest>) -> Result<Response<Self::BgpStream>, Status> {
        let (_, opened, request) = request.into_parts();
        let pace = Pace::new(request.interval_ms)?;
        let wanted = bgp::Wanted::parse(request.peer.as_deref(), request.routes)?;
        let now = self.now();
        let first = stream::iter(bgp::pages(&now, &wanted, since_boot())).map(Ok);
        if !request.follow {
            return self.stream(&opened, first.boxed());
        }
        let state = (self.clone(), pace, wanted, Arc::clone(&now.bgp));
        let looks = stream::unfold(state, |(service, mut pace, wanted, before)| async move {
            let skipped = pace.wait().await;
            service.tally.skipped.add(skipped);
            let now = service.now();
            let answer = bgp::changes(&now, &before, &wanted, since_boot(), skipped);
            Some((Ok(answer), (service, pace, wanted, Arc::clone(&now.bgp))))
        });
        self.stream(&opened, first.chain(looks).boxed())
    }
}

/// Counters at the last look, to tell what moved since.
pub(super) struct Moves<K>(HashMap<K, [u64; 2]>);

impl<K> Default for Moves<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Moves<K> {
    /// Remembers the counters and tells by how much they grew. A counter that began anew grew by all that it shows.
    fn since(&mut self, key: K, now: [u64; 2]) -> [u64; 2] {
        let before = self.0.insert(key, now).unwrap_or_default();
        let grown = [now[0].checked_sub(before[0]), now[1].checked_sub(before[1])];
        if let [Some(packets), Some(bytes)] = grown { [packets, bytes] } else { now }
    }

    fn before(&self, key: &K) -> [u64; 2] {
        self.0.get(key).copied().unwrap_or_default()
    }
}
