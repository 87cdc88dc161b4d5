//! The command line and the configuration file, made one [`Config`] at the start.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use thiserror::Error;

use crate::cluster::kube::Access;
use crate::model::bfd::{self, BadPeer, PeerConfig, Settings};
use crate::model::class::{self, Class};
use crate::model::vip::Vip;
use crate::oidc;

/// Weir's node agent: measures a node's datapath with eBPF, beside Cilium.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure until stopped. Programs and counts stay in the kernel when the agent ends.
    Run(Box<RunArgs>),
    /// Tell what works on this node, what is degraded, and why.
    Check {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
        /// Where the pins would be.
        #[arg(long, default_value = DEFAULT_PINS)]
        pin_dir: PathBuf,
    },
    /// Print the kinds that the agent reads, as CustomResourceDefinitions (JSON, which kubectl takes too).
    Crds,
    /// Remove the agent's programs, links and maps from the kernel.
    Detach {
        /// Where the pins are.
        #[arg(long, default_value = DEFAULT_PINS)]
        pin_dir: PathBuf,
    },
}

/// How to print a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where the agent looks for a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kube {
    /// Use the cluster: by `--kubeconfig`, or by the account of the Pod that this is. Outside a Pod, and without one, none.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Which ports of virtual addresses are probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VipProbe {
    /// None; nobody is asked who has an address either.
    Off,
    /// TCP ports, by a connection that is closed at once.
    #[default]
    Tcp,
    /// UDP ports as well, by an empty datagram.
    All,
}

const DEFAULT_PINS: &str = "/sys/fs/bpf/weir";
const DEFAULT_STATE: &str = "/var/lib/weir";
const DEFAULT_SOCKET: &str = "/run/weir/agent.sock";
const DEFAULT_METRICS: &str = "127.0.0.1:9780";
/// BGP's port (RFC 4271 section 1).
const BGP: u16 = 179;

/// Options of `run`. What the command line gives wins over the file.
#[derive(Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Configuration file (YAML); read again on SIGHUP for virtual addresses and traffic classes.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Interface to measure, may be repeated [default: the uplinks, see docs/uplinks.md]
    #[arg(long = "interface", value_name = "NAME")]
    pub interfaces: Vec<String>,
    /// Virtual address to keep a ledger of, may be repeated.
    #[arg(long = "vip", value_name = "ADDRESS")]
    pub vips: Vec<IpAddr>,
    /// TCP port on which BGP sessions are accepted, besides 179; may be repeated.
    #[arg(long = "bgp-port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub bgp_ports: Vec<u16>,
    /// Folder of Kubernetes manifests with Services, EndpointSlices and Cilium's objects, in place of the cluster's; read again
    /// when it changes.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// View of a router as `vyos-sync run --view-period` writes it, may be repeated.
    #[arg(long = "router-view", value_name = "FILE")]
    pub router_views: Vec<PathBuf>,
    /// Which ports of virtual addresses are probed from this node; `all` sends empty datagrams to UDP ports [default: tcp]
    #[arg(long, value_enum)]
    pub vip_probe: Option<VipProbe>,
    /// Where /metrics, /livez and /readyz listen [default: 127.0.0.1:9780]
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Folder in a BPF file system for pinned maps and links [default: /sys/fs/bpf/weir]
    #[arg(long, value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,
    /// Folder for what must outlive a reboot: confirmed policies, and what is known of BGP [default: /var/lib/weir]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Whether to use a cluster [default: auto]
    #[arg(long, value_enum)]
    pub kube: Option<Kube>,
    /// How to reach the cluster [default: the account of the Pod]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Unix socket for weirctl [default: /run/weir/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// TCP address for weirctl as well; guard it with --tls-clients or --oidc-issuer [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub grpc: Option<SocketAddr>,
    /// TLS for --metrics and --grpc.
    #[command(flatten)]
    pub tls: weir_tls::Options,
    /// Tokens for --grpc.
    #[command(flatten)]
    pub oidc: oidc::Options,
    /// Cgroup (version 2) whose sockets are measured [default: the root, wherever it is mounted]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Name of this node [default: the host name]
    #[arg(long, env = "NODE_NAME")]
    pub node: Option<String>,
    /// Enforce the policies of this file or folder (kind DatapathPolicy); read again when it changes.
    #[arg(long, value_name = "PATH")]
    pub policy: Option<PathBuf>,
    /// Enforce the DatapathPolicies of the cluster, too; they outlive its API server.
    #[arg(long)]
    pub policy_from_cluster: bool,
    /// Seconds in which a new policy must be confirmed, or the kernel goes back by itself [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub policy_deadline: Option<u64>,
    /// Server that must take connections before a new policy is confirmed, besides the API server; may be repeated.
    #[arg(long = "policy-check", value_name = "ADDR:PORT")]
    pub policy_checks: Vec<SocketAddr>,
    /// Interface on which rules drop by XDP too, native or generic, where no other program has it; may be repeated.
    #[arg(long = "policy-xdp", value_name = "NAME")]
    pub policy_xdp: Vec<String>,
    /// Keep the kernel's run-time statistics of BPF programs on: about 40 ns a run, needs CAP_SYS_ADMIN at the start.
    #[arg(long)]
    pub program_stats: bool,
    /// BFD session to have, may be repeated: ADDRESS or PREFIX, then any of tx=300ms rx=300ms mult=3 passive interface=NAME
    /// multihop min-ttl=N source=ADDRESS echo=50ms admin-down admin-down=now; see docs/bfd.md [default: no BFD]
    #[arg(long = "bfd-peer", value_name = "ADDRESS[,OPTION]...")]
    pub bfd_peers: Vec<PeerConfig>,
    /// How long BFD peers are asked to wait for the next agent when this one ends in order, in seconds; 0 for not at all [default: 15]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u8).range(0..=120))]
    pub bfd_handover: Option<u8>,
    /// Whether what the agent measures takes BFD sessions down: gateways, or ignore [default: ignore]
    #[arg(long, value_name = "WHAT", value_parser = health)]
    pub bfd_health: Option<bfd::Health>,
}

fn health(text: &str) -> Result<bfd::Health, String> {
    match text {
        "ignore" => Ok(bfd::Health::Ignore),
        "gateways" => Ok(bfd::Health::Gateways),
        _ => Err("write gateways or ignore".to_owned()),
    }
}

/// The configuration file. Every field may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct File {
    interfaces: Vec<String>,
    vips: Vec<IpAddr>,
    bgp_ports: Vec<std::num::NonZeroU16>,
    manifests: Option<PathBuf>,
    router_views: Vec<PathBuf>,
    vip_probe: Option<VipProbe>,
    metrics: Option<SocketAddr>,
    pin_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    kube: Option<Kube>,
    kubeconfig: Option<PathBuf>,
    socket: Option<PathBuf>,
    grpc: Option<SocketAddr>,
    tls: weir_tls::Options,
    oidc: oidc::Options,
    cgroup: Option<PathBuf>,
    node: Option<String>,
    policy: Option<PathBuf>,
    policy_from_cluster: bool,
    policy_deadline: Option<u64>,
    policy_checks: Vec<SocketAddr>,
    policy_xdp: Vec<String>,
    program_stats: bool,
    classes: Option<Vec<Class>>,
    flows: Option<u32>,
    bfd: BfdFile,
}

/// BFD in the configuration file. Peers are written as on the command line, and add up with those.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct BfdFile {
    peers: Vec<PeerConfig>,
    handover_seconds: Option<u8>,
    health: Option<bfd::Health>,
}

/// What `run` does.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interfaces by name; none means the uplinks.
    pub interfaces: Vec<String>,
    /// Virtual addresses.
    pub vips: Vec<Vip>,
    /// TCP ports on which BGP sessions are accepted.
    pub bgp_ports: Vec<u16>,
    /// Folder of manifests.
    pub manifests: Option<PathBuf>,
    /// Views of routers.
    pub router_views: Vec<PathBuf>,
    /// Which ports of virtual addresses are probed.
    pub vip_probe: VipProbe,
    /// Where metrics are served.
    pub metrics: SocketAddr,
    /// Where the pins are.
    pub pin_dir: PathBuf,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// How to reach a cluster; none is used without.
    pub cluster: Option<Access>,
    /// Unix socket for weirctl.
    pub socket: PathBuf,
    /// TCP address for weirctl.
    pub grpc: Option<SocketAddr>,
    /// TLS of the TCP listeners.
    pub tls: weir_tls::Options,
    /// Tokens that callers over TCP must have; none are asked for without.
    pub oidc: Option<oidc::Settings>,
    /// Cgroup whose sockets are measured; the root where none is given.
    pub cgroup: Option<PathBuf>,
    /// Name of this node.
    pub node: String,
    /// File or folder of policies; nothing is enforced without.
    pub policy: Option<PathBuf>,
    /// Whether the cluster's policies are enforced.
    pub policy_from_cluster: bool,
    /// Seconds in which a new policy must be confirmed.
    pub policy_deadline: u64,
    /// Servers that must answer before a policy is confirmed.
    pub policy_checks: Vec<SocketAddr>,
    /// Interfaces on which rules drop by XDP too.
    pub policy_xdp: Vec<String>,
    /// Whether the kernel's statistics of programs are kept on.
    pub program_stats: bool,
    /// Traffic classes.
    pub classes: Vec<Class>,
    /// Flows in the flow table.
    pub flows: u32,
    /// BFD; off without peers.
    pub bfd: Settings,
}

/// The configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("configuration {path} is not valid")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What and where.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// The shipped classes are broken.
    #[error("the shipped traffic classes are not valid; this is a fault of the release")]
    Classes(#[source] Box<serde_saphyr::Error>),
    /// A time is out of bounds.
    #[error("policyDeadline is {0}: 3 to 3600 seconds are possible")]
    Deadline(u64),
    /// There is no cluster to take policies from.
    #[error(
        "policyFromCluster needs a cluster: give --kubeconfig, or run as a Pod with an account and kube: auto"
    )]
    NoCluster,
    /// A number is out of bounds.
    #[error("flows is {0}: the flow table takes 1024 to 4194304 flows")]
    Flows(u32),
    /// Two BFD peers are one.
    #[error(transparent)]
    Bfd(#[from] BadPeer),
    /// What is asked of tokens does not go together.
    #[error(transparent)]
    Oidc(#[from] oidc::SettingsError),
}

impl Config {
    /// Joins command line and file.
    ///
    /// # Errors
    /// When the file cannot be read or is not valid; the text names the field.
    pub fn new(args: &RunArgs) -> Result<Self, ConfigError> {
        let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let path = |given: &Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            given.clone().or(file).unwrap_or_else(|| PathBuf::from(default))
        };
        let classes = match file.classes {
            Some(classes) => classes,
            None => class::shipped().map_err(|error| ConfigError::Classes(Box::new(error)))?,
        };
        let vips = args.vips.iter().chain(&file.vips).map(|address| Vip(address.to_canonical()));
        let ports = [BGP].into_iter().chain(args.bgp_ports.iter().copied());
        let ports = ports.chain(file.bgp_ports.iter().map(|port| port.get()));
        let default_metrics = SocketAddr::from(([127, 0, 0, 1], 9780));
        debug_assert_eq!(default_metrics.to_string(), DEFAULT_METRICS);
        let peers = args.bfd_peers.iter().chain(&file.bfd.peers).cloned().collect();
        let handover = args.bfd_handover.or(file.bfd.handover_seconds);
        let handover = handover.map_or(Settings::HANDOVER, |seconds| Duration::from_secs(seconds.into()));
        let health = args.bfd_health.or(file.bfd.health).unwrap_or_default();
        let cluster = match args.kube.or(file.kube).unwrap_or_default() {
            Kube::Auto => Access::find(args.kubeconfig.clone().or(file.kubeconfig)),
            Kube::Off => None,
        };
        let policy_from_cluster = args.policy_from_cluster || file.policy_from_cluster;
        if policy_from_cluster && cluster.is_none() {
            return Err(ConfigError::NoCluster);
        }
        Ok(Self {
            bfd: Settings::new(peers, handover, health)?,
            interfaces: if args.interfaces.is_empty() { file.interfaces } else { args.interfaces.clone() },
            vips: vips.collect::<std::collections::BTreeSet<_>>().into_iter().collect(),
            bgp_ports: ports.collect::<std::collections::BTreeSet<_>>().into_iter().collect(),
            manifests: args.manifests.clone().or(file.manifests),
            router_views: match args.router_views.is_empty() {
                true => file.router_views,
                false => args.router_views.clone(),
            },
            vip_probe: args.vip_probe.or(file.vip_probe).unwrap_or_default(),
            metrics: args.metrics.or(file.metrics).unwrap_or(default_metrics),
            pin_dir: path(&args.pin_dir, file.pin_dir, DEFAULT_PINS),
            state_dir: path(&args.state_dir, file.state_dir, DEFAULT_STATE),
            cluster,
            socket: path(&args.socket, file.socket, DEFAULT_SOCKET),
            grpc: args.grpc.or(file.grpc),
            tls: args.tls.clone().or(file.tls),
            oidc: args.oidc.clone().or(file.oidc).settings()?,
            cgroup: args.cgroup.clone().or(file.cgroup),
            node: args.node.clone().or(file.node).unwrap_or_else(host_name),
            policy: args.policy.clone().or(file.policy),
            policy_from_cluster,
            policy_deadline: deadline(args.policy_deadline.or(file.policy_deadline))?,
            policy_checks: if args.policy_checks.is_empty() {
                file.policy_checks
            } else {
                args.policy_checks.clone()
            },
            policy_xdp: if args.policy_xdp.is_empty() { file.policy_xdp } else { args.policy_xdp.clone() },
            program_stats: args.program_stats || file.program_stats,
            classes,
            flows: flows(file.flows)?,
        })
    }
}

fn deadline(given: Option<u64>) -> Result<u64, ConfigError> {
    match given.unwrap_or(60) {
        seconds @ 3..=3600 => Ok(seconds),
        seconds => Err(ConfigError::Deadline(seconds)),
    }
}

fn flows(given: Option<u32>) -> Result<u32, ConfigError> {
    match given {
        None => Ok(weir_ebpf::FLOWS),
        Some(flows @ 1024..=4_194_304) => Ok(flows),
        Some(flows) => Err(ConfigError::Flows(flows)),
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    serde_saphyr::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn config(text: &str, args: RunArgs) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, text).unwrap();
        Config::new(&RunArgs { config: Some(path), ..args })
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_command_line_wins_and_vips_add_up() {
        let args = RunArgs {
            interfaces: vec!["eth1".into()],
            vips: vec!["10.10.50.10".parse().unwrap(), "::ffff:10.10.50.11".parse().unwrap()],
            ..RunArgs::default()
        };
        let config =
            config("interfaces: [eth0]\nvips: [10.10.50.10, 'fd10:10:50::10']\nflows: 4096\n", args).unwrap();
        assert_eq!(config.interfaces, ["eth1"]);
        let vips: Vec<String> = config.vips.iter().map(|vip| vip.0.to_string()).collect();
        assert_eq!(vips, ["10.10.50.10", "10.10.50.11", "fd10:10:50::10"]);
        assert_eq!(config.flows, 4096);
    }

    #[test]
    fn bfd_is_off_unless_asked_for_and_peers_add_up() {
        assert!(config("{}", RunArgs::default()).unwrap().bfd.peers.is_empty());
        let text = "bfd:\n  peers: ['10.0.0.1,tx=50ms', 'fe80::1,interface=eth0']\n  handoverSeconds: 0\n  health: gateways\n";
        let args = RunArgs { bfd_peers: vec!["10.0.0.2,passive".parse().unwrap()], ..RunArgs::default() };
        let bfd = config(text, args).unwrap().bfd;
        assert_eq!((bfd.peers.len(), bfd.handover, bfd.health), (3, Duration::ZERO, bfd::Health::Gateways));
        let error = config("bfd:\n  peers: ['10.0.0.1,mult=0']\n", RunArgs::default()).unwrap_err();
        assert!(format!("{:#}", anyhow::Error::from(error)).contains("mult=0"));
    }

    #[test]
    fn mistakes_are_named() {
        let chain = |error: ConfigError| format!("{:#}", anyhow::Error::from(error));
        let text = chain(config("interfces: [eth0]\n", RunArgs::default()).unwrap_err());
        assert!(text.contains("interfces") && text.contains("weir.yaml"), "{text}");
        assert!(chain(config("flows: 7\n", RunArgs::default()).unwrap_err()).contains("1024"));
    }
}
