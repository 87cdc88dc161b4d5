//! Starting, stopping and asking the server.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::UnixDatagram;

use crate::assets::Assets;
use crate::identity::{Authority, User, kubeconfig};
use crate::process::Process;

/// How long a start may take on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(120);

/// What the server is to be.
#[derive(Clone, Debug)]
pub struct Builder {
    users: Vec<User>,
    flags: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { users: vec![User::admin()], flags: Vec::new() }
    }
}

impl Builder {
    /// Lets one more user in.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// One more flag of kube-apiserver, such as `--max-requests-inflight=5`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Starts it. `None`, with a word on stderr, where the programs are not there.
    pub async fn start(self, test: &str) -> Option<ApiServer> {
        let assets = match Assets::find() {
            Ok(assets) => assets,
            Err(why) => {
                skipped(test, &why);
                return None;
            }
        };
        let mut last = None;
        // Somebody else may take a port between the look and the start.
        for _ in 0..3 {
            match ApiServer::run(&assets, &self).await {
                Ok(server) => return Some(server),
                Err(error) => last = Some(error),
            }
        }
        let why = last.map(|error| format!("{error:#}")).unwrap_or_default();
        unreachable!("{test}: the API server is there and does not start: {why}")
    }
}

#[expect(clippy::print_stderr, reason = "the word that a skipped test says")]
fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}

/// A server that runs. Dropping it ends it.
#[derive(Debug)]
pub struct ApiServer {
    // Dropped in this order: the server before its store, the folder last.
    server: Option<Process>,
    etcd: Process,
    authority: Authority,
    start: Command,
    port: u16,
    etcd_port: u16,
    folder: tempfile::TempDir,
}

impl ApiServer {
    /// What can be chosen.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts one with the defaults: the administrator of [`User::admin`], RBAC, no CRDs.
    pub async fn start(test: &str) -> Option<Self> {
        Builder::default().start(test).await
    }

    async fn run(assets: &Assets, wanted: &Builder) -> Result<Self> {
        sweep();
        let folder =
            tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let authority = Authority::new("test cluster")?;
        authority.server(&at("server.crt"), &at("server.key"))?;
        fs::write(at("ca.crt"), &authority.pem)?;
        let accounts = rcgen::KeyPair::generate()?;
        fs::write(at("accounts.key"), accounts.serialize_pem())?;
        fs::write(at("accounts.pub"), accounts.public_key_pem())?;
        fs::write(at("tokens"), wanted.users.iter().map(User::line).collect::<String>())?;
        let [port, etcd_port, peer_port] = free_ports()?;
        let etcd = Process::spawn(etcd(assets, folder.path(), etcd_port, peer_port), &at("etcd.log"))?;
        let start = server(assets, folder.path(), port, etcd_port, &wanted.flags);
        let mut api = Self { server: None, etcd, authority, start, port, etcd_port, folder };
        api.resume().await?;
        Ok(api)
    }

    /// Starts the server (again) and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time: the end of its log.
    pub async fn resume(&mut self) -> Result<()> {
        let socket = self.folder.path().join("notify");
        fs::remove_file(&socket).ok();
        let notify = UnixDatagram::bind(&socket)?;
        let command = copy(&self.start);
        let log = self.folder.path().join("server.log");
        let mut server = Process::spawn(command, &log)?;
        let said = async {
            // systemd's protocol: the server says itself that it serves (sd_notify(3)).
            let mut word = [0; 64];
            tokio::select! {
                said = notify.recv(&mut word) => said.map(drop).map_err(anyhow::Error::from),
                () = ended(&mut server) => bail!("kube-apiserver ended at once"),
            }
        };
        let late = || anyhow::anyhow!("not ready in {START:?}");
        let said = tokio::time::timeout(START, said).await.unwrap_or_else(|_| Err(late()));
        said.with_context(|| tail(&log))?;
        self.server = Some(server);
        let ready = tokio::time::timeout(START, self.until_ready()).await;
        ready.unwrap_or_else(|_| Err(late())).with_context(|| tail(&log))
    }

    /// Serving is announced, the hooks after it are not: the server is asked until they are through.
    async fn until_ready(&self) -> Result<()> {
        let client = self.client()?;
        loop {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(request).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the server and keeps its store.
    pub fn pause(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop();
        }
    }

    /// Ends the server as a crash does, and keeps its store.
    pub fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Forgets all history of the store up to now, as etcd's compaction does in time (etcd API, `kv/compaction`).
    ///
    /// # Errors
    /// etcd refuses, or does not answer.
    pub async fn compact(&self) -> Result<()> {
        let range = self.etcd("kv/range", &json!({"key": "AA==", "limit": 1})).await?;
        let revision = range["header"]["revision"].clone();
        self.etcd("kv/compaction", &json!({"revision": revision, "physical": true})).await.map(drop)
    }

    async fn etcd(&self, call: &str, body: &Value) -> Result<Value> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut wire = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.etcd_port)).await?;
        let body = body.to_string();
        let head = format!(
            "POST /v3/{call} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.write_all(format!("{head}{body}").as_bytes()).await?;
        let mut answer = String::new();
        wire.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        if !head.contains(" 200 ") {
            bail!("etcd {call}: {head}: {body}");
        }
        Ok(serde_json::from_str(body)?)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its CA in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }

    /// The CA that signs client certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A kubeconfig of a user.
    pub fn kubeconfig(&self, user: &User) -> String {
        kubeconfig(&self.url(), &self.authority.pem, &format!("token: {}", user.token))
    }

    /// The same as a file, which goes with the server.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig_file(&self, user: &User) -> io::Result<PathBuf> {
        let file = self.folder.path().join(format!("kubeconfig-{}", user.token));
        fs::write(&file, self.kubeconfig(user))?;
        Ok(file)
    }

    /// A client of the administrator.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn client(&self) -> Result<Client> {
        self.client_of(&User::admin())
    }

    /// A client of a user.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn client_of(&self, user: &User) -> Result<Client> {
        let mut config = Config::new(self.url().parse()?);
        config.root_cert = Some(vec![der(&self.authority.pem)?]);
        config.auth_info = AuthInfo { token: Some(user.token.clone().into()), ..AuthInfo::default() };
        Ok(Client::try_from(config)?)
    }

    /// A client out of a kubeconfig's text.
    ///
    /// # Errors
    /// It cannot be set up.
    pub async fn client_from(&self, kubeconfig: &str) -> Result<Client> {
        let config = Kubeconfig::from_yaml(kubeconfig)?;
        let options = KubeConfigOptions::default();
        Ok(Client::try_from(Config::from_custom_kubeconfig(config, &options).await?)?)
    }

    /// The process ids of the server and of etcd.
    pub fn processes(&self) -> (Option<u32>, u32) {
        (self.server.as_ref().map(Process::id), self.etcd.id())
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// A folder that goes with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

const PREFIX: &str = "weir-apiserver-";

/// Removes what processes that are gone have left.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn free_ports() -> io::Result<[u16; 3]> {
    let listeners: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn etcd(assets: &Assets, folder: &Path, port: u16, peer_port: u16) -> Command {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let mut command = Command::new(&assets.etcd);
    command.arg("--data-dir").arg(folder.join("etcd")).args(["--unsafe-no-fsync", "--logger=zap"]).args([
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]);
    command
}

fn server(assets: &Assets, folder: &Path, port: u16, etcd_port: u16, flags: &[String]) -> Command {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let mut command = Command::new(&assets.server);
    command.env("NOTIFY_SOCKET", folder.join("notify")).args([
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        file("tls-cert-file", "server.crt"),
        file("tls-private-key-file", "server.key"),
        file("client-ca-file", "ca.crt"),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
        "--service-account-issuer=https://test.invalid".to_owned(),
        file("token-auth-file", "tokens"),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
        // No controller makes the accounts that this plugin asks for.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--allow-privileged=true".to_owned(),
    ]);
    command.args(flags);
    command
}

fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    copy
}

async fn ended(process: &mut Process) {
    while process.ended().is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn der(pem: &str) -> Result<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(STANDARD.decode(lines)?)
}
