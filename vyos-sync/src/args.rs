//! The command line, parsed once.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Dialect;

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
    /// Do so again and again, whenever the manifests or the router change.
    Run(RunArgs),
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
    /// Make a schema file from a vyos-1x source tree.
    Schema(SchemaArgs),
}

/// Where the manifests are, and which router is meant.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Folder of Kubernetes manifests.
    #[arg(long)]
    pub source: PathBuf,
    /// Name of the Router object, where there are several.
    #[arg(long)]
    pub router: Option<String>,
}

/// What is known about the router's release.
#[derive(Debug, Args)]
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
}

/// `apply`
#[derive(Debug, Args)]
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
}

/// `run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What `apply` takes.
    #[command(flatten)]
    pub live: LiveArgs,
    /// Seconds between two looks at the router when nothing changes.
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub period: Duration,
    /// Where to serve /metrics, /livez and /readyz.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
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

/// `schema`
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Root of a vyos-1x source tree.
    pub tree: PathBuf,
    /// The release's line that it is.
    #[arg(long)]
    pub release: Dialect,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(n) if n > 0 => Ok(Duration::from_secs(n)),
        _ => Err("give a whole number of seconds, at least 1".to_owned()),
    }
}
