//! Starts a router and holds it while it runs.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vyos_sync::config::schema::{FileError, Schema};
use vyos_sync::config::{Command, Tree, parse};

use crate::fault::{Fault, Faults};
use crate::http::server::app;
use crate::http::tls::{Identity, IdentityError, Link, Validity, WireListener};
use crate::machine::{Entry, Machine, Settings};
use crate::model::{Extent, Model};
use crate::plant::{Namespace, Plant};
use crate::release::{Generation, Release};

/// What the router is to be. Every setting has a default that suits a test.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Settings,
    listen: SocketAddr,
    names: Vec<String>,
    validity: Validity,
    transport: Transport,
    configuration: Option<Tree>,
    schema: Option<PathBuf>,
    namespace: Option<Namespace>,
    faults: Vec<Fault>,
    control: Option<crate::control::Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tls,
    Plain,
}

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A socket could not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// No certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file could not be read.
    #[error("cannot read {file}")]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The namespace cannot be programmed.
    #[error("cannot program {name}")]
    Namespace {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The schema file is not one.
    #[error("the schema file {file} cannot be used")]
    Schema {
        /// Which.
        file: PathBuf,
        /// Why.
        source: FileError,
    },
    /// The configuration file is not one.
    #[error("the configuration file {file} is not a config.boot")]
    Parse {
        /// Which.
        file: PathBuf,
        /// Why.
        source: parse::BootError,
    },
}

/// A router that runs. Dropping it ends it and all that it started; [`Router::stop`] also waits for that.
#[derive(Debug)]
pub struct Router {
    machine: Arc<Machine>,
    address: SocketAddr,
    control: Option<SocketAddr>,
    key: String,
    identity: Option<Identity>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            settings: Settings {
                release: Release::V1_5,
                generation: Generation::G0,
                key: "stand-in-key".to_owned(),
                minute: Duration::from_secs(60),
                boot_time: Duration::from_millis(300),
                poison: Duration::from_secs(1),
                op_cost: Duration::ZERO,
                ports: (0..8).map(|n| format!("eth{n}")).collect(),
                config_file: None,
            },
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            names: Vec::new(),
            validity: Validity::Good,
            transport: Transport::Tls,
            configuration: None,
            schema: None,
            namespace: None,
            faults: Vec::new(),
            control: None,
        }
    }
}

impl Builder {
    /// The release to play.
    #[must_use]
    pub fn release(mut self, release: Release) -> Self {
        self.settings.release = release;
        self
    }

    /// How commits are confirmed.
    #[must_use]
    pub fn generation(mut self, generation: Generation) -> Self {
        self.settings.generation = generation;
        self
    }

    /// Where the API listens. The default is a free port of 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// The API key that is in the configuration from the start.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.settings.key = key.into();
        self
    }

    /// What the router boots with, in place of a file.
    #[must_use]
    pub fn configuration(mut self, tree: Tree) -> Self {
        self.configuration = Some(tree);
        self
    }

    /// The saved configuration: read at start where it is there, written by `save`.
    #[must_use]
    pub fn config_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.settings.config_file = Some(file.into());
        self
    }

    /// Programs this namespace, and takes its devices as the ports that exist. Without one, nothing is programmed.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// A full schema file (the format that `vyos-sync schema` writes) in place of the built-in model.
    #[must_use]
    pub fn schema_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.schema = Some(file.into());
        self
    }

    /// How long a minute lasts in `confirm_time` and `reboot in`.
    #[must_use]
    pub fn minute(mut self, minute: Duration) -> Self {
        self.settings.minute = minute;
        self
    }

    /// From power off to an API that answers.
    #[must_use]
    pub fn boot_time(mut self, boot_time: Duration) -> Self {
        self.settings.boot_time = boot_time;
        self
    }

    /// How long the paths of a refused request refuse to be set again; about a second on the real router.
    #[must_use]
    pub fn poison(mut self, poison: Duration) -> Self {
        self.settings.poison = poison;
        self
    }

    /// What staging one op takes; 60 to 140 ms on the real router.
    #[must_use]
    pub fn op_cost(mut self, op_cost: Duration) -> Self {
        self.settings.op_cost = op_cost;
        self
    }

    /// The physical ports that exist, `eth0` to `eth7` by default.
    #[must_use]
    pub fn ports(mut self, ports: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.ports = ports.into_iter().map(Into::into).collect::<BTreeSet<_>>();
        self
    }

    /// A fault that is there from the start.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// One more name or address in the certificate, besides `localhost` and the address listened on.
    #[must_use]
    pub fn certificate_name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// How long the certificate is good.
    #[must_use]
    pub fn validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// Serves HTTP without TLS.
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.transport = Transport::Plain;
        self
    }

    /// Opens the control endpoint on this address, which should be loopback.
    #[must_use]
    pub fn control(mut self, address: SocketAddr) -> Self {
        self.control = Some(crate::control::Place::Tcp(address));
        self
    }

    /// Opens the control endpoint on a unix socket.
    #[must_use]
    pub fn control_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.control = Some(crate::control::Place::Unix(path.into()));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When an address is taken or the configuration file cannot be used.
    pub async fn spawn(mut self) -> Result<Router, SpawnError> {
        let tree = self.boot_configuration()?;
        let model = self.model()?;
        let listener = bind(self.listen).await?;
        let address = listener.local_addr().unwrap_or(self.listen);
        let identity = match self.transport {
            Transport::Tls => Some(Identity::generate(&self.certificate_names(address), self.validity)?),
            Transport::Plain => None,
        };
        let key = self.settings.key.clone();
        let plant = match self.namespace.take() {
            Some(namespace) => Some(self.plant(namespace).await?),
            None => None,
        };
        let faults = Faults::new(std::mem::take(&mut self.faults));
        let machine = Machine::new(self.settings, model, faults, tree.clone(), plant);
        machine.reprogram(&tree).await;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        serve(&machine, listener, identity.as_ref(), &stop, &tasks)
            .map_err(|source| SpawnError::Listen { address: address.to_string(), source })?;
        let control = match &self.control {
            Some(place) => crate::control::serve(place, machine.clone(), &stop, &tasks)
                .await
                .map_err(|source| SpawnError::Listen { address: place.to_string(), source })?,
            None => None,
        };
        Ok(Router { machine, address, control, key, identity, stop, tasks })
    }

    fn boot_configuration(&self) -> Result<Tree, SpawnError> {
        let Some(file) = self.settings.config_file.as_ref().filter(|file| file.exists()) else {
            return Ok(self.configuration.clone().unwrap_or_default());
        };
        let text = read(file)?;
        let boot = parse::boot(&text).map_err(|source| SpawnError::Parse { file: file.clone(), source })?;
        Ok(boot.tree)
    }

    async fn plant(&mut self, namespace: Namespace) -> Result<Plant, SpawnError> {
        self.settings.ports = Plant::ports(&namespace).await;
        let name = format!("{namespace:?}");
        Plant::new(namespace).map_err(|source| SpawnError::Namespace { name, source })
    }

    fn model(&self) -> Result<Model, SpawnError> {
        let Some(file) = &self.schema else {
            return Ok(Model::new(
                Schema::built_in(self.settings.release.dialect()).clone(),
                Extent::Managed,
            ));
        };
        let schema = Schema::from_json(read(file)?.as_bytes());
        schema
            .map(|schema| Model::new(schema, Extent::Whole))
            .map_err(|source| SpawnError::Schema { file: file.clone(), source })
    }

    fn certificate_names(&self, address: SocketAddr) -> Vec<String> {
        let own = ["localhost".to_owned(), "vyos".to_owned(), address.ip().to_string()];
        own.into_iter().chain(self.names.clone()).collect()
    }
}

fn read(file: &Path) -> Result<String, SpawnError> {
    std::fs::read_to_string(file).map_err(|source| SpawnError::Read { file: file.to_owned(), source })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, SpawnError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| SpawnError::Listen { address: address.to_string(), source })
}

fn serve(
    machine: &Arc<Machine>,
    listener: TcpListener,
    identity: Option<&Identity>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> io::Result<()> {
    let router = machine.clone();
    let wires = WireListener::new(listener, identity, move || router.is_off(), stop.clone())?;
    let service = app(machine.clone()).into_make_service_with_connect_info::<Link>();
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            // It ends only with the process.
            _ = axum::serve(wires, service) => {}
        }
    });
    Ok(())
}

impl Router {
    /// Begins a router.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the control endpoint listens, if it is on TCP.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The base URL of the API.
    pub fn url(&self) -> String {
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The API key of the start configuration.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The CA that signed the server's certificate; empty with plain HTTP.
    pub fn ca_pem(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.ca_pem)
    }

    /// Base64 of SHA-256 of the server's public key (RFC 7469 section 2.4); empty with plain HTTP.
    pub fn spki_pin(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.spki_pin)
    }

    /// Adds a fault now.
    pub fn add_fault(&self, fault: Fault) {
        self.machine.faults().add(fault);
    }

    /// Ends all faults, and a lost link.
    pub fn clear_faults(&self) {
        self.machine.faults().clear();
        self.machine.restore_link();
    }

    /// What runs now.
    pub fn running(&self) -> Tree {
        self.machine.running()
    }

    /// What a restart would bring.
    pub fn saved(&self) -> Tree {
        self.machine.saved()
    }

    /// Every request so far, in order of its end.
    pub fn journal(&self) -> Vec<Entry> {
        self.machine.journal()
    }

    /// How many commits changed anything.
    pub fn commits(&self) -> u32 {
        self.machine.commits()
    }

    /// How often it restarted.
    pub fn boots(&self) -> u32 {
        self.machine.boot_count()
    }

    /// A commit by somebody else, from the router's own command line.
    ///
    /// # Errors
    /// The refusal, in words.
    pub async fn edit(&self, commands: &[Command]) -> Result<(), String> {
        self.machine.edit(commands).await
    }

    /// The same from `set` and `delete` lines.
    ///
    /// # Errors
    /// The refusal, in words.
    pub async fn edit_lines(&self, lines: &str) -> Result<(), String> {
        self.machine.edit_lines(lines).await
    }

    /// Restarts the router with its saved configuration, as a power cut does.
    pub fn restart(&self) {
        self.machine.restart();
    }

    /// Ends it and all that it started.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.machine.shut_down().await;
    }

    /// Waits until somebody ends it by the control endpoint.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
