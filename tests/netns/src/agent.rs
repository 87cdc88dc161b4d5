//! A `weir-agent` on a host of the lab, with pins, state, socket and metrics of its own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

use crate::openmetrics::Scrape;
use crate::wait::until;
use crate::{Follower, Host, Process, http, reap};

/// How long an agent may take until it is ready; on a busy machine the verifier takes its time.
const START: Duration = Duration::from_secs(60);

/// What an agent on a host is started with. Its pins outlive the process, so that the next one can take over.
#[derive(Debug)]
pub struct Agent<'host> {
    host: &'host Host,
    program: PathBuf,
    pins: PathBuf,
    state: PathBuf,
    options: Vec<String>,
    process: Option<Process>,
}

impl<'host> Agent<'host> {
    /// Where the metrics listener is, inside the host's namespace.
    pub const METRICS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9780);

    /// Prepare an agent: `program` is the `weir-agent` to run. Nothing runs before [`Agent::start`].
    pub fn new(host: &'host Host, program: &Path, options: &[&str]) -> Result<Self> {
        ensure_bpffs()?;
        let name = reap::unique("agent");
        let agent = Self {
            host,
            program: program.to_owned(),
            pins: Path::new(reap::BPFFS).join(&name),
            state: Path::new(reap::RUN).join(&name),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            process: None,
        };
        fs::create_dir_all(&agent.state)?;
        Ok(agent)
    }

    /// Start it and wait until it is ready.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.await_ready()
    }

    /// Start it without waiting.
    pub fn launch(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.host.command(&self.program);
        // Whatever this machine is, an agent of a lab has only the cluster that a test gives it.
        let kube = if self.options.iter().any(|option| option == "--kubeconfig") { "auto" } else { "off" };
        command.args(["run", "--metrics", &Self::METRICS.to_string(), "--kube", kube, "--cgroup"]);
        command
            .arg(self.host.cgroup().path())
            .arg("--pin-dir")
            .arg(&self.pins)
            .arg("--socket")
            .arg(self.socket());
        command.arg("--state-dir").arg(&self.state).args(&self.options);
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
        self.process = Some(self.host.start(&mut command)?);
        Ok(())
    }

    /// Wait until `/readyz` says so.
    pub fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            let process = self.process.as_mut().context("the agent was not started")?;
            if let Some(status) = process.wait(Duration::from_millis(50)) {
                bail!("the agent ended at its start: {status}\n{}", self.log_text());
            }
            if matches!(http::get(self.host, Self::METRICS, "/readyz"), Ok((200, _))) {
                return Ok(());
            }
        }
        bail!("the agent was not ready after {} s\n{}", START.as_secs(), self.log_text())
    }

    /// Wait until it measures an interface: the series of both directions are there.
    pub fn await_interface(&self, interface: &str) -> Result<()> {
        self.await_series(interface, 2)
    }

    /// Wait until the series of a removed interface are gone.
    pub fn await_no_interface(&self, interface: &str) -> Result<()> {
        self.await_series(interface, 0)
    }

    /// Wait until it reports this state of an interface's ingress hook.
    pub fn await_hook(&self, interface: &str, state: &str) -> Result<()> {
        let labels = [("interface", interface), ("direction", "ingress"), ("state", state)];
        self.await_scrape(&format!("{interface} is {state}"), |scrape| {
            scrape.sum("weir_hook_state", &labels) == 1.0
        })
    }

    /// Wait until it knows so many links.
    pub fn await_links(&self, links: u64) -> Result<()> {
        self.await_scrape(&format!("{links} links"), |scrape| scrape.count("weir_links", &[]) == links)
    }

    fn await_series(&self, interface: &str, wanted: usize) -> Result<()> {
        self.await_scrape(&format!("{interface} has {wanted} series"), |scrape| {
            scrape.select("weir_interface_packets_total", &[("interface", interface)]).count() == wanted
        })
    }

    fn await_scrape(&self, what: &str, holds: impl Fn(&Scrape) -> bool) -> Result<()> {
        until(what, START, || Ok(holds(&self.scrape()?))).map(drop).with_context(|| self.log_text())
    }

    /// The running process.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the agent does not run")
    }

    /// What `/readyz` says.
    pub fn readiness(&self) -> Result<(u16, String)> {
        http::get(self.host, Self::METRICS, "/readyz")
    }

    /// Everything it measures, now.
    pub fn scrape(&self) -> Result<Scrape> {
        let (status, body) = http::get(self.host, Self::METRICS, "/metrics")?;
        if status != 200 {
            bail!("/metrics answered {status}: {body}");
        }
        Ok(Scrape::parse(&body))
    }

    /// Run `weirctl` against it and return what it printed.
    pub fn weirctl(&self, arguments: &[&str]) -> Result<String> {
        let program = self.program.with_file_name("weirctl");
        let mut command = Command::new(program);
        command.arg("--socket").arg(self.socket()).args(arguments);
        Ok(String::from_utf8(self.host.output(&mut command)?.stdout)?)
    }

    /// Start a `weirctl` against it that goes on printing.
    pub fn follow(&self, arguments: &[&str]) -> Result<Follower> {
        let mut command = self.host.command(self.program.with_file_name("weirctl"));
        command.arg("--socket").arg(self.socket()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Follower::new(self.host.start(&mut command)?)
    }

    /// End it, with everything that would outlive it: the next one begins like the first.
    pub fn forget(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        self.detach()?;
        fs::remove_file(self.state.join("bgp.json")).ok();
        Ok(())
    }

    /// Remove its programs, links and maps from the kernel.
    pub fn detach(&self) -> Result<Output> {
        self.host.output(Command::new(&self.program).arg("detach").arg("--pin-dir").arg(&self.pins))
    }

    /// Be another program from the next start on, as after an upgrade.
    pub fn run_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Have other options from the next start on; its state stays.
    pub fn run_with(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
    }

    /// Use another folder for its pins; what was in the old one stays there.
    pub fn pin_to(&mut self, pins: &Path) {
        pins.clone_into(&mut self.pins);
    }

    /// The folder of its pins.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// What it has logged since it was first started.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    fn log(&self) -> PathBuf {
        self.state.join("agent.log")
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        drop(self.process.take());
        if self.pins.exists() && self.detach().is_err() {
            // An agent that cannot even detach must not leave programs behind.
            fs::remove_dir_all(&self.pins).ok();
        }
        fs::remove_dir_all(&self.state).ok();
    }
}

/// Mount the BPF file system where it belongs, if this machine has not done so.
fn ensure_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(reap::BPFFS)) {
        return Ok(());
    }
    mount(Some("bpf"), reap::BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .context("mount the BPF file system on /sys/fs/bpf")
}
