//! FRR's `bgpd` on a host of the lab, with the `zebra` that tells it of links and routes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::{User, chown};

use crate::wait::until;
use crate::{Host, Process, reap};

const START: Duration = Duration::from_secs(30);
/// Where Debian's package has the daemons.
const PLACE: &str = "/usr/lib/frr";
/// The daemons drop to this user.
const USER: &str = "frr";

/// A running `bgpd`. On drop it ends.
#[derive(Debug)]
pub struct Bgpd<'host> {
    host: &'host Host,
    folder: PathBuf,
    /// First, so that it ends while `zebra` still runs.
    bgpd: Process,
    _zebra: Process,
}

/// The reason why it cannot run here; `None` where it can.
pub fn unavailable() -> Option<String> {
    let installed = Path::new(PLACE).join("bgpd").is_file() && crate::namespace::is_installed("vtysh");
    (!installed).then(|| "FRR is not installed".into())
}

impl<'host> Bgpd<'host> {
    /// Start it with a configuration, as its file has it, and wait until it takes commands.
    pub fn start(host: &'host Host, configuration: &str) -> Result<Self> {
        let folder = Path::new(reap::RUN).join(reap::unique("frr"));
        fs::create_dir_all(&folder)?;
        for (file, text) in [("vtysh.conf", ""), ("zebra.conf", ""), ("bgpd.conf", configuration)] {
            fs::write(folder.join(file), text)?;
        }
        let user = User::from_name(USER)?.with_context(|| format!("there is no user {USER}"))?;
        chown(&folder, Some(user.uid), Some(user.gid))?;
        let zebra = daemon(host, &folder, "zebra")?;
        until("zebra takes commands", START, || Ok(folder.join("zebra.vty").exists()))?;
        let bgpd = daemon(host, &folder, "bgpd")?;
        let speaker = Self { host, folder, bgpd, _zebra: zebra };
        until("bgpd takes commands", START, || Ok(speaker.ask("show bgp summary").is_ok()))?;
        Ok(speaker)
    }

    /// The daemon, to stop or kill.
    pub fn process(&mut self) -> &mut Process {
        &mut self.bgpd
    }

    /// What a command of the operational mode answers.
    pub fn ask(&self, command: &str) -> Result<String> {
        self.vtysh(&[command])
    }

    /// The same as JSON.
    pub fn json(&self, command: &str) -> Result<serde_json::Value> {
        let text = self.ask(&format!("{command} json"))?;
        serde_json::from_str(&text).with_context(|| format!("{command}: {text}"))
    }

    /// Commands of the configuration mode, one behind the other.
    pub fn configure(&self, commands: &[&str]) -> Result<()> {
        let all: Vec<&str> = ["configure terminal"].into_iter().chain(commands.iter().copied()).collect();
        let said = self.vtysh(&all)?;
        match said.lines().find(|line| line.starts_with('%')) {
            Some(line) => bail!("{commands:?}: {line}"),
            None => Ok(()),
        }
    }

    fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.folder).arg("--config_dir").arg(&self.folder);
        commands.iter().for_each(|one| {
            command.args(["-c", one]);
        });
        Ok(String::from_utf8(self.host.output(&mut command)?.stdout)?)
    }
}

impl Drop for Bgpd<'_> {
    fn drop(&mut self) {
        self.bgpd.stop().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

fn daemon(host: &Host, folder: &Path, program: &str) -> Result<Process> {
    let mut command = host.command(Path::new(PLACE).join(program));
    command.args(["-u", USER, "-g", USER, "-P", "0", "-f"]).arg(folder.join(format!("{program}.conf")));
    command.arg("-i").arg(folder.join(format!("{program}.pid"))).arg("-z").arg(folder.join("zserv.api"));
    command.arg("--vty_socket").arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    host.start(&mut command)
}
