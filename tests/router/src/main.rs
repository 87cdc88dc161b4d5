//! `vyos-router`: the stand-in router as a program.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use vyos_router::{Fault, Generation, Namespace, Release, Router};

/// A stand-in VyOS router: the HTTP API over a real configuration tree.
#[derive(Debug, Parser)]
#[command(name = "vyos-router", version)]
struct Args {
    /// The release to play: 1.4 or 1.5.
    #[arg(long, default_value = "1.5")]
    release: Release,
    /// How commits are confirmed: g0, g1, g2, g3 or vyconf.
    #[arg(long, default_value = "g0")]
    api_generation: Generation,
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// The API key.
    #[arg(long, conflicts_with = "api_key_file", env = "VYOS_ROUTER_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A file with the API key.
    #[arg(long)]
    api_key_file: Option<PathBuf>,
    /// The saved configuration (config.boot): read at start if it is there, written by save.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The network namespace to program, or `self` for the one that this runs in. Without it nothing is programmed.
    #[arg(long)]
    netns: Option<String>,
    /// A full schema file in place of the built-in model.
    #[arg(long)]
    schema: Option<PathBuf>,
    /// A way to misbehave: KIND or KIND=TIMES; may be given several times, or as a list with commas.
    #[arg(long, value_delimiter = ',')]
    fault: Vec<Fault>,
    /// Where the control endpoint listens (faults, state, edits): a loopback ADDR:PORT or the path of a unix socket.
    #[arg(long)]
    control: Option<String>,
    /// Where to write the CA certificate (PEM).
    #[arg(long)]
    ca_out: Option<PathBuf>,
    /// One more name or address in the certificate.
    #[arg(long)]
    certificate_name: Vec<String>,
    /// Serve HTTP without TLS.
    #[arg(long)]
    plain_http: bool,
    /// How long a minute of confirm_time lasts, in milliseconds.
    #[arg(long, default_value_t = 60_000)]
    minute_ms: u64,
    /// From power off to an API that answers, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    boot_ms: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter()).init();
    let args = Args::parse();
    let ca_out = args.ca_out.clone();
    let router = builder(args)?.spawn().await?;
    if let Some(file) = ca_out {
        std::fs::write(&file, router.ca_pem()).with_context(|| format!("write {}", file.display()))?;
    }
    announce(&router);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
    }
    router.stop().await;
    Ok(())
}

/// What a client needs to know, one `name=value` a line.
#[expect(clippy::print_stdout, reason = "it is what the program is asked for")]
fn announce(router: &Router) {
    println!("url={}", router.url());
    println!("spki-pin={}", router.spki_pin());
    if let Some(address) = router.control_address() {
        println!("control=http://{address}");
    }
}

fn builder(args: Args) -> anyhow::Result<vyos_router::Builder> {
    let key = match (args.api_key, args.api_key_file) {
        (Some(key), _) => key,
        (None, Some(file)) => std::fs::read_to_string(&file)
            .with_context(|| format!("read {}", file.display()))?
            .trim()
            .to_owned(),
        (None, None) => anyhow::bail!("give --api-key or --api-key-file"),
    };
    let mut builder = Router::builder()
        .release(args.release)
        .generation(args.api_generation)
        .listen(args.listen)
        .key(key)
        .minute(std::time::Duration::from_millis(args.minute_ms))
        .boot_time(std::time::Duration::from_millis(args.boot_ms));
    if let Some(file) = args.config {
        builder = builder.config_file(file);
    }
    if let Some(name) = args.netns {
        builder = builder.namespace(if name == "self" { Namespace::Own } else { Namespace::Named(name) });
    }
    if let Some(file) = args.schema {
        builder = builder.schema_file(file);
    }
    if args.plain_http {
        builder = builder.plain_http();
    }
    if let Some(place) = args.control {
        builder = match place.parse() {
            Ok(address) => builder.control(address),
            Err(_) => builder.control_socket(place),
        };
    }
    builder = args.fault.into_iter().fold(builder, vyos_router::Builder::fault);
    Ok(args.certificate_name.into_iter().fold(builder, vyos_router::Builder::certificate_name))
}

fn filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into())
}
