//! Edge: who acts, among several controllers. Leader election by a Lease (coordination.k8s.io/v1).

mod rules;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use rules::{Observed, Step, Word};

/// How the election goes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are; no other process may have the same.
    pub identity: String,
    /// So long without a word of the leader, and another one takes its place.
    pub duration: Duration,
}

impl Settings {
    /// The leader acts no longer than this after its last word: earlier than others take its place.
    fn deadline(&self) -> Duration {
        self.duration.mul_f64(0.6)
    }

    fn retry(&self) -> Duration {
        self.duration / 6
    }
}

/// Whether we lead. Clones say the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: Arc<Mutex<Option<Instant>>>,
    changed: watch::Sender<bool>,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { until: Arc::default(), changed: watch::Sender::new(false) }
    }
}

impl Leadership {
    /// Whether we lead at this moment. It ends by itself, whatever the network does.
    pub fn holds(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Leads for ever: there is no election.
    pub fn alone(&self) {
        let century = Duration::from_secs(100 * 365 * 86_400);
        self.set(Some(Instant::now() + century));
    }

    /// Tells when leadership comes and goes.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.changed.subscribe()
    }

    fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.changed.send_if_modified(|held| std::mem::replace(held, until.is_some()) != until.is_some());
    }
}

/// Campaigns, leads, and campaigns again until it is stopped; then the Lease is given back, so that another one need not wait.
pub async fn campaign(client: Client, settings: Settings, leadership: Leadership, stop: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let mut observed: Option<Observed> = None;
    while !stop.is_cancelled() {
        let wait = match turn(&api, &settings, &leadership, &mut observed).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::debug!(%error, "the Lease cannot be asked for");
                settings.retry()
            }
        };
        if !leadership.holds() {
            leadership.set(None);
        }
        tokio::select! {
            () = tokio::time::sleep(wait.min(settings.retry())) => {}
            () = stop.cancelled() => {}
        }
    }
    if leadership.holds() {
        leadership.set(None);
        if let Err(error) = give_back(&api, &settings).await {
            tracing::warn!(%error, "the Lease is not given back; others wait until it ends");
        }
    }
}

/// One look, and what follows from it.
async fn turn(
    api: &Api<Lease>,
    settings: &Settings,
    leadership: &Leadership,
    observed: &mut Option<Observed>,
) -> Result<Duration, Error> {
    let limit = settings.deadline();
    let lease = within(limit, api.get_opt(&settings.name)).await?;
    let now = Instant::now();
    *observed = lease.as_ref().map(|lease| Observed::after(observed.take(), word(lease), now));
    let step = rules::step(observed.as_ref(), &settings.identity, now);
    let renews = step == Step::Renew;
    if let Step::Wait(wait) = step {
        leadership.set(None);
        return Ok(wait);
    }
    match within(limit, write(api, settings, lease)).await {
        Ok(()) => {
            if !renews {
                tracing::info!(identity = settings.identity, "leading");
            }
            // Counted from before the write: nobody else can have seen it earlier.
            leadership.set(Some(now + limit));
            Ok(settings.retry())
        }
        // Somebody was faster.
        Err(Error::Api(status)) if status.code == 409 => Ok(Duration::from_millis(100)),
        Err(error) => Err(error),
    }
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = || Error::Service("no answer in time".into());
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(late()))
}

fn word(lease: &Lease) -> Word {
    let spec = lease.spec.clone().unwrap_or_default();
    Word {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
        duration: Duration::from_secs(
            spec.lease_duration_seconds.and_then(|s| s.try_into().ok()).unwrap_or(0),
        ),
    }
}

/// Writes that we hold it. With the resource version that was read, so that of two only one comes through.
async fn write(api: &Api<Lease>, settings: &Settings, lease: Option<Lease>) -> Result<(), Error> {
    let now = MicroTime(Timestamp::now());
    let before = lease.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let ours = before.holder_identity.as_deref() == Some(&settings.identity);
    let spec = LeaseSpec {
        holder_identity: Some(settings.identity.clone()),
        lease_duration_seconds: i32::try_from(settings.duration.as_secs().max(1)).ok(),
        acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
        renew_time: Some(now),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours && lease.is_some())),
        ..LeaseSpec::default()
    };
    let how = PostParams { field_manager: Some("vyos-sync".to_owned()), ..PostParams::default() };
    match lease {
        Some(lease) => {
            api.replace(&settings.name, &how, &Lease { spec: Some(spec), ..lease }).await.map(drop)
        }
        None => {
            let metadata = ObjectMeta { name: Some(settings.name.clone()), ..ObjectMeta::default() };
            api.create(&how, &Lease { metadata, spec: Some(spec) }).await.map(drop)
        }
    }
}

async fn give_back(api: &Api<Lease>, settings: &Settings) -> Result<(), Error> {
    let Some(mut lease) = within(settings.deadline(), api.get_opt(&settings.name)).await? else {
        return Ok(());
    };
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(&settings.identity) {
        return Ok(());
    }
    spec.holder_identity = None;
    within(settings.deadline(), api.replace(&settings.name, &PostParams::default(), &lease)).await.map(drop)
}
