//! One router, one pass: gather, compile, plan, apply, report.

use std::{fmt, path::PathBuf, time::Duration};

use jiff::Timestamp;

use crate::{
    apply::{self, Change, Failure, Found, Guard, Policy},
    compile::{self, Compiled, Known},
    config::{Dialect, Schema, Tree},
    crd::{ApiKey as KeyRef, DeadMan, RouterSpec, Tls},
    inputs::{ClusterName, Inputs, Object},
    live::Live,
    pacing::Fight,
    plan::{Class, Ledger, Limits, Plan},
    recording, secret,
    store::Store,
    vyos::{
        ApiError, ApiKey, Client, ClientError, Confirm, Endpoint, Generation, KeySource, Timing, Trust,
        TrustError,
    },
};

/// A router, with what was learned of it.
#[derive(Debug)]
pub struct Session {
    /// Name of the Router object.
    pub name: String,
    live: Live,
    dialect: Dialect,
    version: Option<String>,
    generation: Option<Generation>,
    schema: Schema,
    fight: Fight,
    recordings: Option<Recorder>,
    told: (u64, u64),
}

/// Where passes that do something are recorded.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// The folder of recordings.
    pub folder: PathBuf,
    /// The folder of manifests.
    pub source: PathBuf,
}

/// How a pass ended.
#[derive(Debug)]
pub struct Report {
    /// What was compiled.
    pub compiled: Compiled,
    /// What was planned.
    pub plan: Plan,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a plan.
#[derive(Debug)]
pub enum Outcome {
    /// The router held all that may be done already.
    InSync,
    /// The change is in force.
    Applied(Box<apply::Applied>),
    /// There is something to do and the mode says to leave it.
    Observed,
    /// Somebody else keeps changing what is ours; the repair waits until then.
    Waiting(Timestamp),
    /// This very plan failed before.
    Quarantined(String),
    /// It did not come out.
    Failed(Failure),
}

impl Outcome {
    /// One word, for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::Applied(_) => "applied",
            Self::Observed => "observed",
            Self::Waiting(_) => "waiting",
            Self::Quarantined(_) => "quarantined",
            Self::Failed(Failure::NotSent(_)) => "not_sent",
            Self::Failed(Failure::Refused(_)) => "refused",
            Self::Failed(Failure::RolledBack(_)) => "rolled_back",
            Self::Failed(Failure::Gone(_)) => "gone",
            Self::Failed(Failure::Unknown(_)) => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InSync => f.write_str("in sync: nothing to send"),
            Self::Applied(applied) => write!(f, "applied, verified, saved: {}", applied.record.name),
            Self::Observed => {
                f.write_str("observed only; set spec.mode to Upsert or Sync to have it applied")
            }
            Self::Waiting(until) => {
                write!(f, "somebody keeps changing what is ours; the repair waits until {until}")
            }
            Self::Quarantined(why) => write!(f, "held back: {why}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Why a pass came to no plan, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Router object does not say enough.
    #[error("Router/{router}: {field}: {what}")]
    Router {
        /// Its name.
        router: String,
        /// The field to mend.
        field: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The trust cannot be set up.
    #[error("Router/{router}: spec.tls")]
    Trust {
        /// Its name.
        router: String,
        /// Why.
        source: TrustError,
    },
    /// The client cannot be set up.
    #[error("Router/{router}: spec.endpoints")]
    Client {
        /// Its name.
        router: String,
        /// Why.
        source: ClientError,
    },
    /// The router's API.
    #[error("router `{router}`")]
    Api {
        /// Its name.
        router: String,
        /// What is the matter.
        source: ApiError,
    },
    /// A change that was left open cannot be ended yet.
    #[error("router `{router}`: the change left open is not ended: {why}")]
    Open {
        /// Its name.
        router: String,
        /// Why.
        why: String,
    },
    /// The state folder.
    #[error("the state folder")]
    State(#[from] std::io::Error),
    /// The probes' client.
    #[error("the probes cannot be set up")]
    Probes(#[from] reqwest::Error),
}

impl Error {
    /// One word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => source.reason(),
            Self::Router { .. } | Self::Trust { .. } | Self::Client { .. } => "RouterInvalid",
            Self::Open { .. } => "ChangeOpen",
            Self::State(_) => "StateFolder",
            Self::Probes(_) => "Probes",
        }
    }

    /// Whether the router was reached.
    pub fn reached(&self) -> bool {
        !matches!(self, Self::Api { .. })
    }
}

/// Where the ledger is in the state folder.
const LEDGER: &str = "ledger.json";

/// The endpoints of a Router object, in its order.
///
/// # Errors
/// The field that does not make sense.
pub fn endpoints(router: &Object<RouterSpec>, inputs: &Inputs) -> Result<Vec<Endpoint>, Error> {
    let name = &router.id.name;
    let trust = trust(name, &router.spec.tls)?;
    let key = key(name, &router.spec.api_key, inputs)?;
    let each = |url: &String| Endpoint { url: url.clone(), trust: trust.clone(), key: key.clone() };
    Ok(router.spec.endpoints.iter().map(each).collect())
}

fn trust(router: &str, tls: &Tls) -> Result<Trust, Error> {
    if !tls.spki_pins.is_empty() {
        return Trust::pins(&tls.spki_pins)
            .map_err(|source| Error::Trust { router: router.to_owned(), source });
    }
    let wrong = |field, what: String| Error::Router { router: router.to_owned(), field, what };
    let pem = match (&tls.ca_bundle, &tls.ca_file) {
        (Some(pem), _) => pem.clone(),
        (None, Some(file)) => {
            std::fs::read_to_string(file).map_err(|e| wrong("spec.tls.caFile", format!("{file}: {e}")))?
        }
        (None, None) => return Err(wrong("spec.tls", "give caBundle, caFile or spkiPins".to_owned())),
    };
    Ok(match &tls.server_name {
        Some(name) => Trust::CaNamed(pem, name.clone()),
        None => Trust::Ca(pem),
    })
}

fn key(router: &str, key: &KeyRef, inputs: &Inputs) -> Result<KeySource, Error> {
    let wrong = |what: String| Error::Router { router: router.to_owned(), field: "spec.apiKey", what };
    let named = match (&key.file, &key.secret_ref) {
        (Some(file), _) => return Ok(KeySource::File(file.into())),
        (None, Some(named)) => named,
        (None, None) => return Err(wrong("give secretRef or file".to_owned())),
    };
    let found = inputs.secret(&ClusterName::local(), &named.namespace, &named.name, &named.key);
    let text = found.and_then(|bytes| bytes.text()).and_then(ApiKey::new);
    let missing =
        || wrong(format!("Secret {}/{} has no usable `{}`", named.namespace, named.name, named.key));
    text.map(KeySource::Given).ok_or_else(missing)
}

impl Session {
    /// Finds the first endpoint that answers, and the release's dialect unless it is fixed.
    ///
    /// # Errors
    /// No endpoint answers, or the Router object does not make sense.
    pub async fn open(
        router: &Object<RouterSpec>,
        inputs: &Inputs,
        store: Store,
        dialect: Option<Dialect>,
        schema: Option<Schema>,
    ) -> Result<Self, Error> {
        let name = router.id.name.clone();
        let client = first_to_answer(&name, endpoints(router, inputs)?).await?;
        let fixed = dialect.or_else(|| compile::fixed_dialect(&router.spec));
        let (dialect, version) = match fixed {
            Some(dialect) => (dialect, None),
            None => ask_dialect(&name, &client).await?,
        };
        let schema = schema.unwrap_or_else(|| Schema::built_in(dialect).clone());
        let live = Live::new(client, store, router.spec.probes.clone())?;
        Ok(Self {
            name,
            live,
            dialect,
            version,
            generation: None,
            schema,
            fight: Fight::default(),
            recordings: None,
            told: (0, 0),
        })
    }

    /// Records every pass that has something to do.
    #[must_use]
    pub fn recording(mut self, recorder: Recorder) -> Self {
        self.recordings = Some(recorder);
        self
    }

    /// The router's syntax, and its version's text where it was asked.
    pub fn release(&self) -> (Dialect, Option<&str>) {
        (self.dialect, self.version.as_deref())
    }

    /// Requests and commits so far.
    pub fn sent(&self) -> (u64, u64) {
        self.live.client.sent()
    }

    /// Requests and commits since the last time that this was asked.
    pub fn sent_since(&mut self) -> (u64, u64) {
        let (now, told) = (self.sent(), self.told);
        self.told = now;
        (now.0 - told.0, now.1 - told.1)
    }

    /// What the router holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn running(&self) -> Result<Tree, Error> {
        self.live.running().await.map_err(|source| self.api(source))
    }

    /// Reads the router and plans. Changes nothing.
    ///
    /// # Errors
    /// The router or the state folder cannot be read.
    pub async fn look(&self, router: &Object<RouterSpec>, inputs: &Inputs) -> Result<Seen, Error> {
        let running = self.running().await?;
        let stored: Option<Ledger> = self.live.store.read(LEDGER)?;
        let ledger = stored.unwrap_or_else(|| Ledger::recover(&running));
        let compiled = compile::compile(inputs, router, self.dialect, &running, &ledger);
        let plan = compile::plan(&compiled, &router.spec, self.known(&running, &ledger));
        Ok(Seen { running, ledger, compiled, plan })
    }

    fn known<'a>(&'a self, running: &'a Tree, ledger: &'a Ledger) -> Known<'a> {
        let each = apply::World::pace(&self.live).each.as_secs_f64();
        let limits = Limits::default().at_rate(each, 60.0);
        Known { running, ledger, dialect: self.dialect, schema: &self.schema, limits }
    }

    /// One pass.
    ///
    /// # Errors
    /// The router or the state folder cannot be read, or an open change cannot be ended. A plan that does not come
    /// out is no error: see [`Outcome::Failed`].
    pub async fn reconcile(
        &mut self,
        router: &Object<RouterSpec>,
        inputs: &Inputs,
        again: Again,
    ) -> Result<Report, Error> {
        let mut seen = self.look(router, inputs).await?;
        if self.end_open_change(&seen).await? {
            seen = self.look(router, inputs).await?;
        }
        let outcome = self.act(&router.spec, &seen, again).await?;
        Ok(Report { compiled: seen.compiled, plan: seen.plan, outcome })
    }

    /// Ends a change that a restart or a lost router left open. Says whether there was one.
    async fn end_open_change(&mut self, seen: &Seen) -> Result<bool, Error> {
        let Some(record) = self.live.store.open_record()? else { return Ok(false) };
        let found = if seen.plan.commands.is_empty() { Found::InForce } else { Found::Wanting };
        tracing::warn!(
            router = self.name,
            change = record.name,
            ?found,
            "ending a change that was left open"
        );
        let ended = apply::resume(&self.live, record, found).await;
        ended.map_err(|e| Error::Open { router: self.name.clone(), why: e.to_string() })?;
        Ok(true)
    }

    async fn act(&mut self, spec: &RouterSpec, seen: &Seen, again: Again) -> Result<Outcome, Error> {
        let plan = &seen.plan;
        if plan.batches.is_empty() {
            self.remember(seen)?;
            return Ok(if plan.commands.is_empty() { Outcome::InSync } else { Outcome::Observed });
        }
        if let (Again::No, Some(why)) = (again, self.live.store.quarantine(&plan.id)?) {
            return Ok(Outcome::Quarantined(why));
        }
        let drifted = plan.count(Class::Drift) > 0;
        if let (true, Again::No, Err(until)) = (drifted, again, self.fight.may_repair(Timestamp::now())) {
            return Ok(Outcome::Waiting(until));
        }
        if drifted {
            self.say_drift(seen);
            self.fight.repaired(Timestamp::now());
        }
        self.send(spec, seen).await
    }

    async fn send(&mut self, spec: &RouterSpec, seen: &Seen) -> Result<Outcome, Error> {
        let policy = match self.policy(spec).await? {
            Ok(policy) => policy,
            Err(why) => return Ok(Outcome::Failed(Failure::NotSent(why))),
        };
        let ledger = Ledger { numbers: seen.compiled.numbers.clone(), ..seen.ledger.clone() };
        self.live.store.write(LEDGER, &ledger.begun(&seen.plan))?;
        let change = self.change(seen);
        self.record(&change.name, seen);
        match apply::apply(&self.live, change, policy, &self.schema).await {
            Ok(applied) => {
                self.live.store.write(LEDGER, &ledger.settled(&seen.plan))?;
                Ok(Outcome::Applied(Box::new(applied)))
            }
            Err(failure) => Ok(Outcome::Failed(failure)),
        }
    }

    /// A recording that fails is no reason to leave the router as it is.
    fn record(&self, name: &str, seen: &Seen) {
        let Some(to) = &self.recordings else { return };
        if let Err(error) = recording::record(&to.folder, name, &self.name, &to.source, seen) {
            tracing::warn!(router = self.name, %error, "the pass is not recorded");
        }
    }

    fn change(&self, seen: &Seen) -> Change {
        let now = Timestamp::now();
        let mark: String = seen.plan.id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let owners = seen.plan.entries.iter().map(|e| e.by.clone()).filter(|by| !by.is_empty());
        let mut owners: Vec<String> = owners.collect();
        owners.sort();
        owners.dedup();
        Change {
            name: format!("{}-{}-{}", self.name, now.strftime("%Y%m%d%H%M%S%3f"), mark.to_lowercase()),
            router: self.name.clone(),
            plan_hash: seen.plan.id.clone(),
            batches: seen.plan.batches.iter().map(|b| b.commands.clone()).collect(),
            before: seen.running.clone(),
            owners,
        }
    }

    /// How a change is guarded, by the API's generation and by what the Router object allows.
    async fn policy(&mut self, spec: &RouterSpec) -> Result<Result<Policy, String>, Error> {
        let generation = match self.generation {
            Some(generation) => generation,
            None => {
                let asked = self.live.client.generation().await.map_err(|source| self.api(source))?;
                tracing::info!(router = self.name, generation = asked.name(), "the API's generation");
                *self.generation.insert(asked)
            }
        };
        let guard = match (generation.confirm(), spec.commit.dead_man) {
            (Confirm::Timed, _) => Guard::Confirm,
            (Confirm::Absent, DeadMan::Reboot) => Guard::Reboot,
            (Confirm::Absent, DeadMan::Forbidden) => {
                let why = "this router's API has no commit-confirm; set spec.commit.deadMan to Reboot to let a set \
                           reboot stand in for it";
                return Ok(Err(why.to_owned()));
            }
        };
        Ok(Ok(Policy { guard, minutes: spec.commit.confirm_minutes, settle: Duration::from_secs(30) }))
    }

    /// Keeps what a plan without commands teaches: adoptions, and what is gone already.
    fn remember(&self, seen: &Seen) -> Result<(), Error> {
        let ledger = Ledger { numbers: seen.compiled.numbers.clone(), ..seen.ledger.clone() };
        let settled = match seen.plan.commands.is_empty() {
            true => ledger.settled(&seen.plan),
            // Observed only: nothing of it came true.
            false => return Ok(()),
        };
        let stored: Option<Ledger> = self.live.store.read(LEDGER)?;
        match stored.as_ref() == Some(&settled) {
            true => Ok(()),
            false => Ok(self.live.store.write(LEDGER, &settled)?),
        }
    }

    fn say_drift(&self, seen: &Seen) {
        let (drifted, owned) = (seen.plan.count(Class::Drift), seen.ledger.owned.weight());
        match drifted * 2 > owned {
            true => tracing::warn!(
                router = self.name,
                drifted,
                owned,
                "somebody has loaded a whole configuration over ours; repairing"
            ),
            false => tracing::warn!(router = self.name, drifted, "others changed what is ours; repairing"),
        }
    }

    fn api(&self, source: ApiError) -> Error {
        Error::Api { router: self.name.clone(), source }
    }
}

/// What was seen of a router, and what follows.
#[derive(Debug)]
pub struct Seen {
    /// What it holds.
    pub running: Tree,
    /// What we applied last.
    pub ledger: Ledger,
    /// What it should hold.
    pub compiled: Compiled,
    /// What to do.
    pub plan: Plan,
}

/// Whether a person asks to try again what failed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// A person asks.
    Yes,
    /// The loop does not.
    No,
}

/// The plan as people may read it: without secrets.
pub fn shown(plan: &Plan) -> Plan {
    let clean = |commands: &[crate::config::Command]| commands.iter().map(secret::redacted).collect();
    let mut plan = plan.clone();
    plan.commands = clean(&plan.commands);
    plan.inverse = clean(&plan.inverse);
    plan.batches.iter_mut().for_each(|batch| batch.commands = clean(&batch.commands));
    for entry in plan.entries.iter_mut().filter(|e| secret::is_secret(&e.path)) {
        let values = [&mut entry.want, &mut entry.have, &mut entry.had];
        values.into_iter().flatten().for_each(|value| *value = "[hidden]".to_owned());
    }
    plan
}

async fn first_to_answer(name: &str, endpoints: Vec<Endpoint>) -> Result<Client, Error> {
    let mut last = None;
    let several = endpoints.len() > 1;
    for endpoint in endpoints {
        let client = Client::new(endpoint, Timing::default());
        let client = client.map_err(|source| Error::Client { router: name.to_owned(), source })?;
        if !several {
            return Ok(client);
        }
        match client.show(&["version"]).await {
            Err(e @ ApiError::Unreachable { .. }) => last = Some(e),
            _ => return Ok(client),
        }
    }
    let source = last.unwrap_or(ApiError::Unreachable { why: "no endpoint is given".to_owned() });
    Err(Error::Api { router: name.to_owned(), source })
}

async fn ask_dialect(name: &str, client: &Client) -> Result<(Dialect, Option<String>), Error> {
    let release = client.release().await.map_err(|source| Error::Api { router: name.to_owned(), source })?;
    let dialect = match release.number() {
        Some((1, 4)) => Dialect::V1_4,
        Some((1, minor)) if minor < 4 => {
            let what =
                format!("VyOS {} is older than 1.4, which is the oldest that is known here", release.version);
            return Err(Error::Router { router: name.to_owned(), field: "spec.dialect", what });
        }
        _ => Dialect::V1_5,
    };
    Ok((dialect, Some(release.version)))
}
