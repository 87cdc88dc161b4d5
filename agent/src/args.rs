//! The command line and the configuration file, made one [`Config`] at the start.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use thiserror::Error;

use crate::model::class::{self, Class};
use crate::model::vip::Vip;

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
    /// Use the cluster where there is one. This version has no cluster source yet and runs without.
    #[default]
    Auto,
    /// Never.
    Off,
}

const DEFAULT_PINS: &str = "/sys/fs/bpf/weir";
const DEFAULT_STATE: &str = "/var/lib/weir";
const DEFAULT_SOCKET: &str = "/run/weir/agent.sock";
const DEFAULT_METRICS: &str = "127.0.0.1:9780";

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
    /// Where /metrics, /livez and /readyz listen [default: 127.0.0.1:9780]
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Folder in a BPF file system for pinned maps and links [default: /sys/fs/bpf/weir]
    #[arg(long, value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,
    /// Folder for what must outlive a restart [default: /var/lib/weir]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Whether to use a cluster [default: auto]
    #[arg(long, value_enum)]
    pub kube: Option<Kube>,
    /// Unix socket for weirctl [default: /run/weir/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// TCP address for weirctl as well; it has no authentication yet [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub grpc: Option<SocketAddr>,
    /// Cgroup (version 2) whose sockets are measured [default: the root, wherever it is mounted]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Name of this node [default: the host name]
    #[arg(long, env = "NODE_NAME")]
    pub node: Option<String>,
    /// Keep the kernel's run-time statistics of BPF programs on: about 40 ns a run, needs CAP_SYS_ADMIN at the start.
    #[arg(long)]
    pub program_stats: bool,
}

/// The configuration file. Every field may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct File {
    interfaces: Vec<String>,
    vips: Vec<IpAddr>,
    metrics: Option<SocketAddr>,
    pin_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    kube: Option<Kube>,
    socket: Option<PathBuf>,
    grpc: Option<SocketAddr>,
    cgroup: Option<PathBuf>,
    node: Option<String>,
    program_stats: bool,
    classes: Option<Vec<Class>>,
    flows: Option<u32>,
}

/// What `run` does.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interfaces by name; none means the uplinks.
    pub interfaces: Vec<String>,
    /// Virtual addresses.
    pub vips: Vec<Vip>,
    /// Where metrics are served.
    pub metrics: SocketAddr,
    /// Where the pins are.
    pub pin_dir: PathBuf,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Whether to use a cluster.
    pub kube: Kube,
    /// Unix socket for weirctl.
    pub socket: PathBuf,
    /// TCP address for weirctl.
    pub grpc: Option<SocketAddr>,
    /// Cgroup whose sockets are measured; the root where none is given.
    pub cgroup: Option<PathBuf>,
    /// Name of this node.
    pub node: String,
    /// Whether the kernel's statistics of programs are kept on.
    pub program_stats: bool,
    /// Traffic classes.
    pub classes: Vec<Class>,
    /// Flows in the flow table.
    pub flows: u32,
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
    /// A number is out of bounds.
    #[error("flows is {0}: the flow table takes 1024 to 4194304 flows")]
    Flows(u32),
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
        let default_metrics = SocketAddr::from(([127, 0, 0, 1], 9780));
        debug_assert_eq!(default_metrics.to_string(), DEFAULT_METRICS);
        Ok(Self {
            interfaces: if args.interfaces.is_empty() { file.interfaces } else { args.interfaces.clone() },
            vips: vips.collect::<std::collections::BTreeSet<_>>().into_iter().collect(),
            metrics: args.metrics.or(file.metrics).unwrap_or(default_metrics),
            pin_dir: path(&args.pin_dir, file.pin_dir, DEFAULT_PINS),
            state_dir: path(&args.state_dir, file.state_dir, DEFAULT_STATE),
            kube: args.kube.or(file.kube).unwrap_or_default(),
            socket: path(&args.socket, file.socket, DEFAULT_SOCKET),
            grpc: args.grpc.or(file.grpc),
            cgroup: args.cgroup.clone().or(file.cgroup),
            node: args.node.clone().or(file.node).unwrap_or_else(host_name),
            program_stats: args.program_stats || file.program_stats,
            classes,
            flows: flows(file.flows)?,
        })
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
    fn mistakes_are_named() {
        let chain = |error: ConfigError| format!("{:#}", anyhow::Error::from(error));
        let text = chain(config("interfces: [eth0]\n", RunArgs::default()).unwrap_err());
        assert!(text.contains("interfces") && text.contains("weir.yaml"), "{text}");
        assert!(chain(config("flows: 7\n", RunArgs::default()).unwrap_err()).contains("1024"));
    }
}
