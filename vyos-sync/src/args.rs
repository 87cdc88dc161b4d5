//! The command line, parsed once.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{bao, config::Dialect};

/// Makes a VyOS router follow the clusters: planned, verified, owned.
#[derive(Debug, Parser)]
#[command(name = "vyos-sync", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the manifests without a router: intent, then every rendered path and value.
    Validate(ValidateArgs),
    /// Show what would be done. Exit code 0: nothing, 2: changes, 1: error.
    Plan(PlanArgs),
    /// Plan, and apply the plan: armed, verified, confirmed, saved.
    Apply(LiveArgs),
    /// Do so again and again for every router, whenever the manifests or the router change.
    Run(Box<RunArgs>),
    /// Read a router and print our kinds for what it has, with a report of what they cover. Changes nothing.
    Import(ImportArgs),
    /// Print our part of the configuration, as `set` commands or as a block.
    Render(RenderArgs),
    /// Look for contradictions between manifests, router and documents of intent.
    Doctor(DoctorArgs),
    /// Plan again what a recorded reconcile planned, offline.
    Replay(ReplayArgs),
    /// Print the CustomResourceDefinitions.
    Crds,
    /// Print the ValidatingAdmissionPolicies: who may write what.
    Admission(AdmissionArgs),
    /// Make a schema file from a vyos-1x source tree.
    Schema(SchemaArgs),
}

/// Where the manifests are, and which router is meant.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Folder of Kubernetes manifests.
    #[arg(long)]
    pub source: PathBuf,
    /// Name of the Router object, where there are several; `run` follows all of them unless one is named.
    #[arg(long)]
    pub router: Option<String>,
}

/// What is known about the router's release.
#[derive(Debug, Clone, Args)]
pub struct DialectArgs {
    /// The release's syntax, where no router is asked; the Router object's own choice is the default.
    #[arg(long)]
    pub dialect: Option<Dialect>,
    /// A full schema file to check against, besides our own model.
    #[arg(long)]
    pub schema: Option<PathBuf>,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// `validate`
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The manifests.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The release.
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The manifests.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The release.
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Plan against this config.boot or showConfig JSON in place of the router.
    #[arg(long)]
    pub against: Option<PathBuf>,
    /// Folder with the ledger and the RouterChanges.
    #[arg(long)]
    pub state_dir: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Where secrets are.
    #[command(flatten)]
    pub bao: bao::Options,
}

/// `apply`
#[derive(Debug, Clone, Args)]
pub struct LiveArgs {
    /// The manifests.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The release.
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Folder with the ledger and the RouterChanges.
    #[arg(long)]
    pub state_dir: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Where secrets are.
    #[command(flatten)]
    pub bao: bao::Options,
}

/// `run`
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Folder of Kubernetes manifests to follow.
    #[arg(long, required_unless_present = "kube", conflicts_with = "kube")]
    pub source: Option<PathBuf>,
    /// The one Router to look after, where there are several. From a cluster all are looked after.
    #[arg(long)]
    pub router: Option<String>,
    /// The release.
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Folder with the ledger and the RouterChanges. With --kube it is a cache, /run/vyos-sync by default.
    #[arg(long, required_unless_present = "kube")]
    pub state_dir: Option<PathBuf>,
    /// Seconds between two looks at the router when nothing changes.
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub period: Duration,
    /// Seconds between two looks at what the router has learned (BGP, BFD, neighbours, counters), kept as router-view.json in
    /// the state folder. Each look is 9 requests; without this option there is none.
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    pub view_period: Option<Duration>,
    /// Where to serve /metrics, /livez and /readyz.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// TLS for --listen.
    #[command(flatten)]
    pub tls: weir_tls::Options,
    /// Where secrets are.
    #[command(flatten)]
    pub bao: bao::Options,
    /// The cluster.
    #[command(flatten)]
    pub cluster: KubeArgs,
}

/// Following a living cluster.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Following clusters")]
pub struct KubeArgs {
    /// Follow the objects of a cluster in place of a folder.
    #[arg(long)]
    pub kube: bool,
    /// The kubeconfig, in place of KUBECONFIG, ~/.kube/config or the account of the pod.
    #[arg(long, requires = "kube")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, in place of its current one.
    #[arg(long, requires = "kube")]
    pub context: Option<String>,
    /// Namespace of the Lease and of the ledgers, by default that of the kubeconfig or of the pod.
    #[arg(long, requires = "kube")]
    pub namespace: Option<String>,
    /// Name of the Lease by which one of several controllers leads.
    #[arg(long, requires = "kube", default_value = "vyos-sync")]
    pub lease: String,
    /// Act without a Lease. Only where no other controller can be there.
    #[arg(long, requires = "kube", conflicts_with = "lease")]
    pub no_lease: bool,
    /// Seconds that a leader may be silent before another one takes its place.
    #[arg(long, requires = "kube", default_value = "10", value_parser = seconds)]
    pub lease_seconds: Duration,
    /// Another cluster with a kubeconfig file, as NAME=FILE. The file is read again when it changes.
    #[arg(long = "cluster", requires = "kube", value_name = "NAME=FILE", value_parser = cluster)]
    pub clusters: Vec<(String, PathBuf)>,
    /// Follow only cluster Secrets (Cluster API's and Argo CD's) of this namespace. May be given several times.
    #[arg(long = "cluster-namespace", requires = "kube", value_name = "NAMESPACE")]
    pub cluster_namespaces: Vec<String>,
    /// Follow no cluster Secrets at all.
    #[arg(long, requires = "kube", conflicts_with = "cluster_namespaces")]
    pub no_cluster_secrets: bool,
}

/// `import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Folder of manifests with the Router object.
    #[arg(long, required_unless_present = "against")]
    pub source: Option<PathBuf>,
    /// Name of the Router object.
    #[arg(long)]
    pub router: Option<String>,
    /// Read this config.boot or showConfig JSON in place of the router.
    #[arg(long)]
    pub against: Option<PathBuf>,
    /// Namespace of the printed objects.
    #[arg(long, default_value = "default")]
    pub namespace: String,
    /// How to print the report.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// The form of a rendered configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// `set` commands.
    #[default]
    Set,
    /// A block as in config.boot.
    Block,
    /// JSON as showConfig gives it.
    Json,
}

/// `render`
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// The manifests.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The release.
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Folder with the ledger, for rule numbers once given.
    #[arg(long)]
    pub state_dir: Option<PathBuf>,
    /// The form.
    #[arg(long, value_enum, default_value_t)]
    pub form: Form,
    /// Print passwords too, for a template of your own.
    #[arg(long)]
    pub with_secrets: bool,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The manifests.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The release.
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Look at this config.boot or showConfig JSON in place of the router.
    #[arg(long)]
    pub against: Option<PathBuf>,
    /// Folder of documents of intent: Markdown, text and YAML with VLANs, subnets, AS numbers, neighbors, manifests.
    #[arg(long)]
    pub documents: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The recording: a file of the state folder's `recordings`.
    pub recording: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `admission`
#[derive(Debug, Args)]
pub struct AdmissionArgs {
    /// The account that vyos-sync runs as.
    #[arg(long, default_value = "system:serviceaccount:weir-system:vyos-sync", value_parser = account)]
    pub account: String,
    /// The account that weir-agent runs as.
    #[arg(long, default_value = "system:serviceaccount:weir-system:weir-agent", value_parser = account)]
    pub agent: String,
}

/// `schema`
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Root of a vyos-1x source tree.
    pub tree: PathBuf,
    /// The release's line that it is.
    #[arg(long)]
    pub release: Dialect,
}

/// It becomes part of an expression.
fn account(text: &str) -> Result<String, String> {
    match text.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.@".contains(c)) && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("give the name of a user or of a service account".to_owned()),
    }
}

fn cluster(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() && name != "local" => {
            Ok((name.to_owned(), file.into()))
        }
        Some(("local", _)) => Err("`local` is the cluster that holds the Router objects".to_owned()),
        _ => Err("give NAME=FILE".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(n) if n > 0 => Ok(Duration::from_secs(n)),
        _ => Err("give a whole number of seconds, at least 1".to_owned()),
    }
}
