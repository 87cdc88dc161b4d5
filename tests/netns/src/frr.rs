//! FRR on a host of the lab: the router at the other end of BFD and BGP, as Debian ships it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::namespace::is_installed;
use crate::wait::until;
use crate::{Host, Process, reap};

const START: Duration = Duration::from_secs(30);
const PLACE: &str = "/usr/lib/frr";
/// The daemons drop to this user.
const USER: &str = "frr";

/// The reason why FRR cannot run here; `None` where it can.
pub fn unavailable() -> Option<String> {
    let there = is_installed("vtysh") && Path::new(PLACE).join("bfdd").is_file();
    (!there).then(|| "FRR is not installed (apt install frr)".to_owned())
}

/// Some of FRR's daemons. On drop they end.
#[derive(Debug)]
pub struct Frr<'host> {
    host: &'host Host,
    folder: PathBuf,
    // Zebra is last to go: the others take their routes back through it.
    daemons: BTreeMap<&'static str, Process>,
}

impl<'host> Frr<'host> {
    /// Start zebra, bfdd and bgpd, and wait until they take commands. They have real-time priority: a router is another machine,
    /// and the load of this one is the node's.
    pub fn start(host: &'host Host) -> Result<Self> {
        Self::start_daemons(host, &["zebra", "bfdd", "bgpd"])
    }

    /// The same without bfdd, where another program has BFD.
    pub fn without_bfd(host: &'host Host) -> Result<Self> {
        Self::start_daemons(host, &["zebra", "bgpd"])
    }

    fn start_daemons(host: &'host Host, daemons: &[&'static str]) -> Result<Self> {
        let folder = Path::new(reap::RUN).join(reap::unique("frr"));
        fs::create_dir_all(&folder)?;
        for file in ["vtysh.conf", "none.conf"] {
            fs::write(folder.join(file), "")?;
        }
        let user = nix::unistd::User::from_name(USER)?.context("there is no user frr: is FRR installed?")?;
        nix::unistd::chown(&folder, Some(user.uid), Some(user.gid))?;
        let mut frr = Self { host, folder, daemons: BTreeMap::new() };
        daemons.iter().try_for_each(|daemon| frr.start_daemon(daemon))?;
        Ok(frr)
    }

    /// Start one of the daemons, with an empty configuration.
    pub fn start_daemon(&mut self, daemon: &'static str) -> Result<()> {
        let file = |name: String| self.folder.join(name).to_string_lossy().into_owned();
        let socket = self.folder.join(format!("{daemon}.vty"));
        fs::remove_file(&socket).ok();
        let mut command = self.host.command("chrt");
        command.args(["-f", "20"]);
        command.arg(format!("{PLACE}/{daemon}")).args(["-u", USER, "-g", USER, "-P", "0"]);
        command.args(["-f", &file("none.conf".into()), "-i", &file(format!("{daemon}.pid"))]);
        command.args(["-z", &file("zserv.api".into()), "--vty_socket", &self.folder.to_string_lossy()]);
        command.arg("--log").arg(format!("file:{}", file(format!("{daemon}.log"))));
        if daemon == "bfdd" {
            command.args(["--bfdctl", &file("bfdd.sock".into())]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = self.host.start(&mut command)?;
        until(&format!("{daemon} takes commands"), START, || {
            if let Some(status) = process.ended() {
                bail!("{daemon} ended at its start: {status}\n{}", self.log_text(daemon));
            }
            Ok(socket.exists())
        })?;
        self.daemons.insert(daemon, process);
        Ok(())
    }

    /// One of the daemons, for signals.
    pub fn daemon(&mut self, daemon: &str) -> Result<&mut Process> {
        self.daemons.get_mut(daemon).with_context(|| format!("{daemon} was not started"))
    }

    /// Lines of the configuration, in order, each in the context that the lines before it opened.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        let said = self.vtysh(["configure terminal"].into_iter().chain(lines))?;
        // Some of its warnings begin like its refusals.
        let refuses = |line: &&str| line.starts_with('%') && !line.contains("Echo mode works correctly");
        match said.lines().find(refuses) {
            Some(line) => bail!("FRR refuses: {line}"),
            None => Ok(()),
        }
    }

    /// The answer to a command of the operational mode that ends in `json`.
    pub fn ask(&self, command: &str) -> Result<Value> {
        let said = self.vtysh([command])?;
        serde_json::from_str(&said).with_context(|| format!("{command}: {said:?}"))
    }

    /// FRR's version, major and minor.
    pub fn version(&self) -> Result<(u32, u32)> {
        let said = self.vtysh(["show version"])?;
        let text = said.split_whitespace().find(|word| word.contains('.')).context("FRR tells no version")?;
        let mut numbers = text.split('.').map_while(|number| number.parse().ok());
        Ok((numbers.next().context("no major version")?, numbers.next().unwrap_or(0)))
    }

    /// What it knows of its BFD session with a peer; null when it has none.
    pub fn bfd(&self, peer: IpAddr) -> Result<Value> {
        self.of_peer("show bfd peers json", peer)
    }

    /// What it counted of its BFD session with a peer.
    pub fn bfd_counters(&self, peer: IpAddr) -> Result<Value> {
        self.of_peer("show bfd peers counters json", peer)
    }

    /// Wait until its BFD session with a peer has this status; returns how long that took.
    pub fn await_bfd(&self, peer: IpAddr, status: &str, limit: Duration) -> Result<Duration> {
        until(&format!("BFD with {peer} is {status}"), limit, || Ok(self.bfd(peer)?["status"] == status))
            .with_context(|| format!("{:?}\n{}", self.bfd(peer), self.log_text("bfdd")))
    }

    /// What it knows of its BGP session with a neighbour.
    pub fn bgp(&self, neighbour: IpAddr) -> Result<Value> {
        Ok(self.ask("show bgp neighbors json")?[neighbour.to_string()].take())
    }

    /// Wait until its BGP session with a neighbour is established; returns how long that took.
    pub fn await_bgp(&self, neighbour: IpAddr, limit: Duration) -> Result<Duration> {
        until(&format!("BGP with {neighbour} is established"), limit, || {
            Ok(self.bgp(neighbour)?["bgpState"] == "Established")
        })
        .with_context(|| self.log_text("bgpd"))
    }

    /// How often its BGP session with a neighbour ended.
    pub fn bgp_drops(&self, neighbour: IpAddr) -> Result<u64> {
        self.bgp(neighbour)?["connectionsDropped"].as_u64().context("bgpd counts no drops")
    }

    /// What a daemon has logged.
    pub fn log_text(&self, daemon: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{daemon}.log"))).unwrap_or_default()
    }

    fn of_peer(&self, command: &str, peer: IpAddr) -> Result<Value> {
        let all = self.ask(command)?;
        let mut found = all.as_array().into_iter().flatten();
        Ok(found.find(|one| one["peer"] == peer.to_string().as_str()).cloned().unwrap_or(Value::Null))
    }

    fn vtysh<'a>(&self, commands: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.folder).arg("--config_dir").arg(&self.folder);
        commands.into_iter().for_each(|line| {
            command.args(["-c", line]);
        });
        Ok(String::from_utf8(self.host.output(&mut command)?.stdout)?)
    }
}

impl Drop for Frr<'_> {
    fn drop(&mut self) {
        for daemon in ["bgpd", "bfdd", "zebra"] {
            drop(self.daemons.remove(daemon));
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}
