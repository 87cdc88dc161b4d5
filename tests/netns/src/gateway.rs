//! The lab's router as a VyOS router: the stand-in `vyos-router`, which programs the namespace for real, and `vyos-sync`
//! beside it, as a container on the router would be.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::namespace::is_installed;
use crate::topology::{INSIDE, OUTSIDE, ROUTER_INSIDE, ROUTER_OUTSIDE, VIP4, VIP6};
use crate::wait::until;
use crate::{Host, Lab, Process, built, http, reap};

/// The manifests of the demo, as a Git repository would hold them.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/manifests");
/// Stands in the manifests where the key of the run belongs.
const KEY_PLACE: &str = "EXAMPLE-KEY";
/// For sessions that come up after a back-off, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const API: &str = "127.0.0.1:8443";
const CONTROL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8444);

/// The reason why the router and its speakers cannot run here; `None` where they can.
pub fn unavailable() -> Option<String> {
    let mut programs = ["gobgpd", "gobgp", "vtysh", "nft", "kea-dhcp4", "dnsmasq"].into_iter();
    programs.find(|program| !is_installed(program)).map(|program| format!("{program} is not installed"))
}

/// A running router, and what it is to follow. On drop the router ends and takes back what it programmed.
#[derive(Debug)]
pub struct Gateway<'lab> {
    host: &'lab Host,
    folder: PathBuf,
    router: Process,
    follower: Option<Process>,
}

impl<'lab> Gateway<'lab> {
    /// Where `vyos-sync run` serves its metrics, inside the router's namespace.
    pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9790);

    /// Start the router with nothing but its addresses, and wait until its API answers.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        let folder = Path::new(reap::RUN).join(reap::unique("gateway"));
        let key = key()?;
        copy_manifests(&folder.join("source"), &key)?;
        fs::write(folder.join("config.boot"), fresh_configuration())?;
        write_secret(&folder.join("key"), &key)?;
        let log = File::create(folder.join("vyos-router.log"))?;
        let mut command = lab.router.command(built("vyos-router")?);
        command.args(["--release", "1.5", "--api-generation", "g3", "--netns", "self", "--listen", API]);
        command.args(["--control", &CONTROL.to_string()]);
        for (option, file) in
            [("--config", "config.boot"), ("--api-key-file", "key"), ("--ca-out", "source/ca.pem")]
        {
            command.arg(option).arg(folder.join(file));
        }
        command.env("TMPDIR", &folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let router = lab.router.start(&mut command)?;
        let mut gateway = Self { host: &lab.router, folder, router, follower: None };
        gateway.await_announcement()?;
        Ok(gateway)
    }

    /// What `vyos-sync validate` prints; an error in any manifest is an error.
    pub fn validate(&self) -> Result<String> {
        let mut command = Command::new(built("vyos-sync")?);
        let output =
            self.host.output(command.arg("validate").arg("--source").arg(self.folder.join("source")))?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `vyos-sync plan` prints.
    pub fn plan(&self) -> Result<String> {
        self.sync(&["plan"], &[0, 2])
    }

    /// What `vyos-sync apply` prints.
    pub fn apply(&self) -> Result<String> {
        self.sync(&["apply"], &[0])
    }

    /// Start `vyos-sync run`, which looks at the router every `period`.
    pub fn follow(&mut self, period: Duration) -> Result<()> {
        self.run(&["run", "--period", &period.as_secs().to_string()])
    }

    /// The same, and every `view` it publishes what the router has learned.
    pub fn follow_and_publish(&mut self, period: Duration, view: Duration) -> Result<()> {
        let [period, view] = [period, view].map(|time| time.as_secs().to_string());
        self.run(&["run", "--period", &period, "--view-period", &view])
    }

    /// Where the view is published.
    pub fn view(&self) -> PathBuf {
        self.folder.join("state/gateway/router-view.json")
    }

    fn run(&mut self, arguments: &[&str]) -> Result<()> {
        let log = File::create(self.log())?;
        let listen = Self::METRICS.to_string();
        let mut command = self.command(&[arguments, &["--listen", &listen]].concat(), Host::command)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.follower = Some(self.host.start(&mut command)?);
        Ok(())
    }

    /// End `vyos-sync run`; the router keeps what it has.
    pub fn leave_alone(&mut self) {
        drop(self.follower.take());
    }

    /// `set` and `delete` lines, typed and committed on the router's own command line.
    pub fn edit(&self, lines: &str) -> Result<()> {
        let (status, words) = http::post(self.host, CONTROL, "/edit", lines)?;
        ensure!(status == 200, "the router refuses {lines:?}: {words}");
        Ok(())
    }

    /// The running configuration as `set` commands.
    pub fn running(&self) -> Result<String> {
        Ok(http::get(self.host, CONTROL, "/running")?.1)
    }

    /// How many commits came through the router's API.
    pub fn commits(&self) -> Result<u64> {
        let state: Value = serde_json::from_str(&http::get(self.host, CONTROL, "/state")?.1)?;
        state["commits"].as_u64().context("the router's state has no commits")
    }

    /// Over how many next hops the router's kernel spreads an address now.
    pub fn next_hops(&self, address: IpAddr) -> Result<usize> {
        let family = if address.is_ipv6() { "-6" } else { "-4" };
        let arguments = ["-n", self.host.name(), "-j", family, "route", "show", &address.to_string()];
        let output = crate::namespace::succeed(Command::new("ip").args(arguments))?;
        let routes: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        Ok(routes.iter().map(|route| route["nexthops"].as_array().map_or(1, Vec::len)).sum())
    }

    /// The addresses that it is to learn from the nodes.
    pub fn vips() -> Result<[IpAddr; 2]> {
        Ok([VIP4.parse()?, VIP6.parse()?])
    }

    /// Wait until the router's kernel spreads both virtual addresses over this many next hops; returns how long that took.
    pub fn await_next_hops(&self, count: usize) -> Result<Duration> {
        let vips = Self::vips()?;
        let spread = || vips.iter().try_fold(true, |all, vip| Ok(all & (self.next_hops(*vip)? == count)));
        until(&format!("{count} next hops of {VIP4} and {VIP6}"), LIMIT, spread)
            .with_context(|| self.log_text())
    }

    /// How many connections its destination NAT has translated since the rules last changed.
    pub fn translated(&self) -> Result<u64> {
        let mut command = Command::new("nft");
        command.args(["-j", "list", "chain", "ip", "vyos_nat", "PREROUTING"]);
        let listed: Value = serde_json::from_slice(&self.host.output(&mut command)?.stdout)?;
        let rules = listed["nftables"].as_array().into_iter().flatten();
        let expressions = rules.flat_map(|it| it["rule"]["expr"].as_array().into_iter().flatten());
        Ok(expressions.filter_map(|it| it["counter"]["packets"].as_u64()).sum())
    }

    /// What the router and `vyos-sync run` have logged.
    pub fn log_text(&self) -> String {
        let files = [self.folder.join("vyos-router.log"), self.log()];
        files.map(|file| fs::read_to_string(file).unwrap_or_default()).concat()
    }

    fn await_announcement(&mut self) -> Result<()> {
        let stdout = self.router.child().stdout.take().context("the router has no stdout")?;
        for line in BufReader::new(stdout).lines() {
            // The last of what it says at its start.
            if line?.starts_with("control=") {
                return Ok(());
            }
        }
        bail!("the router did not start\n{}", self.log_text())
    }

    fn sync(&self, arguments: &[&str], good: &[i32]) -> Result<String> {
        let mut command = self.command(arguments, |_, program| Command::new(program))?;
        let Output { status, stdout, stderr } = self.host.run(|| Ok(command.output()?))?;
        let good = status.code().is_some_and(|code| good.contains(&code));
        ensure!(good, "vyos-sync {arguments:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8(stdout)?)
    }

    fn command(&self, arguments: &[&str], start: impl Fn(&Host, PathBuf) -> Command) -> Result<Command> {
        let source = self.folder.join("source");
        let mut command = start(self.host, built("vyos-sync")?);
        command.args(arguments).arg("--source").arg(&source);
        command.arg("--state-dir").arg(self.folder.join("state")).current_dir(source);
        Ok(command)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("vyos-sync.log")
    }
}

impl Drop for Gateway<'_> {
    fn drop(&mut self) {
        drop(self.follower.take());
        self.router.stop().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// A new key for this run, so that none stands in the repository.
fn key() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn copy_manifests(to: &Path, key: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(MANIFESTS).with_context(|| format!("read {MANIFESTS}"))? {
        let from = entry?.path();
        let name = from.file_name().context("a manifest has no name")?;
        write_secret(&to.join(name), &fs::read_to_string(&from)?.replace(KEY_PLACE, key))?;
    }
    Ok(())
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// What a router has before anybody asked it for more: its ports and their addresses.
fn fresh_configuration() -> String {
    let port = |name: &str, addresses: [&str; 2]| {
        let addresses = addresses.map(|address| format!("        address {address}\n")).concat();
        format!("    ethernet {name} {{\n{addresses}    }}\n")
    };
    let ports = port(OUTSIDE, ROUTER_OUTSIDE) + &port(INSIDE, ROUTER_INSIDE);
    format!("interfaces {{\n{ports}    loopback lo {{\n    }}\n}}\nsystem {{\n    host-name gateway\n}}\n")
}
