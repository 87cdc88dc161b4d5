//! A BGP speaker on a node, in place of Cilium's: GoBGP, which dials the router and announces the virtual addresses.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::topology::{VIP4, VIP6};
use crate::wait::until;
use crate::{Host, Lab, Process, reap};

const START: Duration = Duration::from_secs(30);
/// Where its gRPC API listens, inside the node's namespace.
const API_PORT: &str = "50051";

/// Whom a speaker dials, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The speaker's own AS number, and the router's.
    pub asns: [u32; 2],
    /// The router's address.
    pub router: IpAddr,
    /// Hold time in seconds; keepalives go out three times as often.
    pub hold_seconds: u16,
}

/// A running `gobgpd`. On drop it ends, and the router sees its session go.
#[derive(Debug)]
pub struct Speaker<'host> {
    host: &'host Host,
    folder: PathBuf,
    process: Process,
    /// The node's own addresses: the next hops of what it announces, IPv4 and IPv6.
    own: [IpAddr; 2],
}

/// As the demo's manifests have it.
const SESSION: Session = Session {
    asns: [64513, 64512],
    router: IpAddr::V4(std::net::Ipv4Addr::new(10, 10, 30, 1)),
    hold_seconds: 9,
};

/// Start a speaker on every node of the lab, which announces both virtual addresses.
pub fn on_all_nodes(lab: &Lab) -> Result<Vec<Speaker<'_>>> {
    let starts = lab.nodes.iter().enumerate();
    starts
        .map(|(index, node)| {
            let speaker = Speaker::start(node, Lab::node_addresses(index), SESSION)?;
            [VIP4, VIP6].into_iter().try_for_each(|vip| speaker.announce(vip.parse()?))?;
            Ok(speaker)
        })
        .collect()
}

impl<'host> Speaker<'host> {
    /// Start the daemon on a node with these addresses, and wait until it takes commands.
    pub fn start(host: &'host Host, own: [IpAddr; 2], session: Session) -> Result<Self> {
        let folder = Path::new(reap::RUN).join(reap::unique("gobgp"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("gobgpd.toml"), configuration(own, session))?;
        let log = File::create(folder.join("gobgpd.log"))?;
        let mut command = host.command("gobgpd");
        command.args(["--api-hosts", &format!("127.0.0.1:{API_PORT}"), "--pprof-disable", "-f"]);
        command.arg(folder.join("gobgpd.toml")).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let process = host.start(&mut command)?;
        let mut speaker = Self { host, folder, process, own };
        until("gobgpd takes commands", START, || {
            if let Some(status) = speaker.process.ended() {
                bail!("gobgpd ended at its start: {status}\n{}", speaker.log_text());
            }
            Ok(speaker.gobgp(&["neighbor"]).is_ok())
        })?;
        Ok(speaker)
    }

    /// Announce an address as a host route to this node.
    pub fn announce(&self, vip: IpAddr) -> Result<()> {
        self.rib("add", vip)
    }

    /// Announce an address with an AS path that is longer by one: the router prefers every other path.
    pub fn announce_longer(&self, vip: IpAddr) -> Result<()> {
        let (family, length, hop) = self.route(vip);
        let route = format!("{vip}/{length}");
        let arguments = ["global", "rib", "add", "-a", family, &route, "nexthop", &hop, "aspath", "64999"];
        self.gobgp(&arguments).map(drop)
    }

    /// Take an announcement back.
    pub fn withdraw(&self, vip: IpAddr) -> Result<()> {
        self.rib("del", vip)
    }

    /// Run `gobgp` against it and return what it printed.
    pub fn gobgp(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("gobgp");
        command.args(["-p", API_PORT]).args(arguments);
        Ok(String::from_utf8(self.host.output(&mut command)?.stdout)?)
    }

    /// The running daemon.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has logged.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.folder.join("gobgpd.log")).unwrap_or_default()
    }

    fn route(&self, vip: IpAddr) -> (&'static str, u8, String) {
        match vip {
            IpAddr::V4(_) => ("ipv4", 32, self.own[0].to_string()),
            IpAddr::V6(_) => ("ipv6", 128, self.own[1].to_string()),
        }
    }

    fn rib(&self, verb: &str, vip: IpAddr) -> Result<()> {
        let (family, length, hop) = self.route(vip);
        let route = format!("{vip}/{length}");
        self.gobgp(&["global", "rib", verb, "-a", family, &route, "nexthop", &hop])
            .map(drop)
            .with_context(|| format!("{verb} {route} on {}", self.host.name()))
    }
}

impl Drop for Speaker<'_> {
    fn drop(&mut self) {
        self.process.stop().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// As Cilium's: it only dials, and offers both families over one session.
fn configuration(own: [IpAddr; 2], session: Session) -> String {
    let Session { asns: [asn, peer_asn], router, hold_seconds } = session;
    let (id, keepalive) = (own[0], hold_seconds / 3);
    let families: String = ["ipv4-unicast", "ipv6-unicast"]
        .map(|family| {
            format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n")
        })
        .concat();
    format!(
        "[global.config]\nas = {asn}\nrouter-id = \"{id}\"\nport = -1\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{router}\"\npeer-as = {peer_asn}\n\
         [neighbors.timers.config]\nconnect-retry = 5\nhold-time = {hold_seconds}\nkeepalive-interval = {keepalive}\n\
         idle-hold-time-after-reset = 1\n{families}"
    )
}
