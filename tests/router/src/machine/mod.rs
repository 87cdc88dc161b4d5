//! The router itself: one session, one lock, its saved configuration, its timers, its power.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use vyos_sync::config::{Node, Tree};

use crate::fault::{Faults, Kind};
use crate::http::call::{self, Call, Endpoint};
use crate::http::decode::{self, Encoded};
use crate::http::reply::{Refusal, Reply};
use crate::model::Model;
use crate::plant::Plant;
use crate::release::{Generation, Release};
use crate::session::Session;

mod change;
mod confirm;
mod file;
mod foreign;
mod graphql;
mod operation;
mod power;
mod read;

/// What does not change while the router runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) release: Release,
    pub(crate) generation: Generation,
    pub(crate) key: String,
    /// How long a minute of `confirm_time` and of `reboot in` lasts.
    pub(crate) minute: Duration,
    /// From power off to an API that answers.
    pub(crate) boot_time: Duration,
    /// How long the paths of a discarded request refuse to be set again.
    pub(crate) poison: Duration,
    /// What staging one op takes.
    pub(crate) op_cost: Duration,
    /// Physical ports.
    pub(crate) ports: BTreeSet<String>,
    /// Where `save` writes to.
    pub(crate) config_file: Option<PathBuf>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    /// A page of nginx.
    Page(StatusCode),
    /// FastAPI's own words.
    Detail(StatusCode),
    /// The connection ends without an answer.
    Cut,
}

/// Whether anybody can reach the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    /// Restarting: connections are refused.
    Off,
    /// It runs, but packets no longer arrive.
    CutOff,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    model: Model,
    faults: Faults,
    /// One commit at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    power: watch::Sender<Power>,
    plant: Option<tokio::sync::Mutex<Plant>>,
}

#[derive(Debug)]
struct State {
    session: Session,
    saved: Tree,
    /// Files written by `save` under other names.
    files: BTreeMap<String, String>,
    /// A /configure is at work: `showConfig` fails meanwhile.
    configuring: bool,
    pending: Option<confirm::Pending>,
    reboot: Option<AbortHandle>,
    /// Counts restarts: work begun before one is void after it.
    boots: u32,
    commits: u32,
    journal: Vec<Entry>,
    log: Vec<String>,
    operations: BTreeMap<u64, Value>,
}

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path of the URL's endpoint.
    pub endpoint: String,
    /// What it asked for, without keys.
    pub call: String,
    /// The status that was answered, or `None` where there was no answer.
    pub status: Option<u16>,
}

impl Machine {
    pub(crate) fn new(
        settings: Settings,
        model: Model,
        faults: Faults,
        running: Tree,
        plant: Option<Plant>,
    ) -> Arc<Self> {
        let running = with_api(running, &settings);
        let state = State {
            session: Session::new(running.clone(), settings.poison),
            saved: running,
            files: BTreeMap::new(),
            configuring: false,
            pending: None,
            reboot: None,
            boots: 0,
            commits: 0,
            journal: Vec::new(),
            log: Vec::new(),
            operations: BTreeMap::new(),
        };
        let (power, _) = watch::channel(Power::On);
        let turn = Arc::default();
        let plant = plant.map(tokio::sync::Mutex::new);
        Arc::new(Self { settings, model, faults, turn, state: Mutex::new(state), power, plant })
    }

    pub(crate) fn release(&self) -> Release {
        self.settings.release
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// nginx's limit, from the configuration; 1 MB when it says nothing.
    pub(crate) fn body_limit(&self) -> usize {
        let state = self.state();
        let limit = state.session.running().at(&["service", "https"]);
        let megabytes =
            limit.and_then(|https| https.text("request-body-size-limit")).and_then(|n| n.parse().ok());
        megabytes.unwrap_or(1usize) * 1024 * 1024
    }

    /// Answers one request, whatever its key.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        endpoint: Endpoint,
        encoded: Encoded,
        background: bool,
    ) -> Answer {
        if let Some(answer) = self.misbehave().await {
            self.note(endpoint, "", &answer);
            return answer;
        }
        let call = match self.admit(endpoint, encoded) {
            Ok(call) => call,
            Err(answer) => {
                self.note(endpoint, "", &answer);
                return answer;
            }
        };
        let shown = shown(&call);
        let answer = self.carry_out(call, background).await;
        self.note(endpoint, &shown, &answer);
        answer
    }

    /// The faults that strike before anything is read.
    async fn misbehave(&self) -> Option<Answer> {
        if self.reachable().await.is_err() {
            return Some(Answer::Cut);
        }
        if self.faults.strikes(Kind::Hang) {
            self.faults.cleared().await;
            return Some(Answer::Cut);
        }
        if self.faults.strikes(Kind::Html) || !self.api_enabled() {
            return Some(Answer::Page(StatusCode::BAD_GATEWAY));
        }
        if self.faults.strikes(Kind::Error500) {
            return Some(Answer::Reply(Refusal::internal().into()));
        }
        tokio::time::sleep(self.faults.delay()).await;
        None
    }

    fn admit(&self, endpoint: Endpoint, encoded: Encoded) -> Result<Call, Answer> {
        let refuse = |refusal: Refusal| Answer::Reply(refusal.into());
        let absent = endpoint == Endpoint::Background && self.settings.generation != Generation::G3;
        if absent {
            return Err(Answer::Detail(StatusCode::NOT_FOUND));
        }
        let decoded = decode::decode(endpoint, encoded).map_err(refuse)?;
        if !decoded.key.as_deref().is_some_and(|key| self.knows_key(key)) {
            return Err(refuse(Refusal { status: 401, error: "Valid API key is required".to_owned() }));
        }
        call::parse(endpoint, &decoded, self.settings.generation).map_err(refuse)
    }

    async fn carry_out(self: &Arc<Self>, call: Call, background: bool) -> Answer {
        match call {
            Call::ShowConfig(path, format) => Answer::Reply(self.show_config(&path, format)),
            Call::Exists(path) => Answer::Reply(self.exists(&path)),
            Call::ReturnValue(path) => Answer::Reply(self.return_value(&path)),
            Call::ReturnValues(path) => Answer::Reply(self.return_values(&path)),
            Call::Background => Answer::Reply(self.operations()),
            Call::Save(file) => self.save(file),
            Call::Confirm => self.confirm(),
            Call::Show(path) => self.show(&path).await,
            Call::Generate(path) => self.generate(&path),
            Call::Reset(path) => self.reset(&path).await,
            Call::Reboot(path) | Call::Poweroff(path) => self.reboot_command(&path),
            change if background && self.settings.generation == Generation::G3 => self.in_background(change),
            change => self.change(change).await,
        }
    }

    fn knows_key(&self, key: &str) -> bool {
        let state = self.state();
        let keys = ["service", "https", "api", "keys", "id"];
        state.session.running().entries(&keys).any(|(_, id)| id.text("key") == Some(key))
    }

    /// 1.5 wants `rest` as well.
    fn api_enabled(&self) -> bool {
        let state = self.state();
        let api = state.session.running().at(&["service", "https", "api"]);
        api.is_some_and(|api| self.settings.release == Release::V1_4 || api.child("rest").is_some())
    }

    fn note(&self, endpoint: Endpoint, call: &str, answer: &Answer) {
        let status = match answer {
            Answer::Reply(Reply::Refused(refusal)) => Some(refusal.status),
            Answer::Reply(_) => Some(200),
            Answer::Page(status) | Answer::Detail(status) => Some(status.as_u16()),
            Answer::Cut => None,
        };
        tracing::debug!(?endpoint, call, status, "request");
        let entry = Entry { endpoint: endpoint.url().to_owned(), call: call.to_owned(), status };
        self.state().journal.push(entry);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the journal keeps: no values, since they may be secrets.
fn shown(call: &Call) -> String {
    match call {
        Call::Configure(ops, _) => format!("{} ops", ops.len()),
        Call::Section(..) => "section".to_owned(),
        Call::Load(..) => "load".to_owned(),
        Call::Merge(..) => "merge".to_owned(),
        Call::ShowConfig(path, _) => format!("showConfig {}", path.join(" ")),
        Call::Exists(path) => format!("exists {}", path.join(" ")),
        Call::ReturnValue(path) | Call::ReturnValues(path) => format!("returnValues {}", path.join(" ")),
        Call::Show(path) | Call::Reset(path) | Call::Reboot(path) => path.join(" "),
        Call::Generate(_) | Call::Poweroff(_) | Call::Background => String::new(),
        Call::Confirm => "confirm".to_owned(),
        Call::Save(_) => "save".to_owned(),
    }
}

/// The configuration with the API in it, as a router has that answers at all.
fn with_api(mut tree: Tree, settings: &Settings) -> Tree {
    let keys = ["service", "https", "api", "keys", "id"];
    let present = tree.entries(&keys).any(|(_, id)| id.text("key") == Some(settings.key.as_str()));
    let path = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    if let (false, Some(key)) = (present, call::path(&path(&[&keys[..], &["ctl", "key"]].concat()))) {
        // A file with values where branches belong is refused when it is read.
        let _ = tree.set(&key, settings.key.as_str());
    }
    let rest = path(&["service", "https", "api", "rest"]);
    if let (Release::V1_5, None, Some(rest)) = (settings.release, tree.at(&rest), call::path(&rest)) {
        let _ = tree.put(&rest, Node::bare());
    }
    tree
}
