//! `weirctl`: a person's view of what the agent knows, over its gRPC interface.
//!
//! Exit codes: 0 done, 1 the agent refused or broke off, 2 wrong usage, 3 the agent cannot be reached.

mod bfd;
mod bgp;
mod connect;
mod number;
mod policy;
mod screen;
mod table;
mod view;
mod vips;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use thiserror::Error;
use tonic::Streaming;

use crate::export::proto::{
    BfdRequest, BgpRequest, DropsRequest, ExplainRequest, FlowFilter, FlowsRequest, LinksRequest,
    StatusRequest, TopRequest, TopResponse, VipsRequest,
};
use connect::{Client, ConnectError};
use screen::Screen;

/// Where the agent listens unless told otherwise.
pub const SOCKET: &str = "/run/weir/agent.sock";

/// Shows what the agent of this node measures.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version, about)]
pub struct Args {
    #[command(flatten)]
    way: connect::Way,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// What to show.
    #[command(subcommand)]
    command: Command,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Tables for people.
    Table,
    /// JSON; one line a message where there are several.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the agent and the node are: hooks, features, gateways, cost.
    Status,
    /// Rates, renewed at an interval.
    Top {
        #[command(flatten)]
        pace: Pace,
        /// End after so many intervals.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Most rows of each table.
        #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Flows, largest first.
    Flows {
        #[command(flatten)]
        filter: FilterArgs,
        /// Most flows of the first list.
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Show the addresses of Pods on this node, not their workloads.
        #[arg(short = 'n', long)]
        addresses: bool,
        #[command(flatten)]
        follow: Follow,
    },
    /// Packets that were dropped, by reason and place.
    Drops {
        #[command(flatten)]
        follow: Follow,
    },
    /// Network interfaces.
    Links,
    /// Policies: rules and what they did, what others would do, and the set that waits to be confirmed.
    #[command(subcommand)]
    Policy(policy::Command),
    /// BGP sessions as the wire shows them: state, prefixes, margin to the hold time, and why they were lost.
    Bgp {
        /// Only sessions with this peer.
        #[arg(long, value_name = "ADDRESS")]
        peer: Option<String>,
        /// List the routes in force too.
        #[arg(long)]
        routes: bool,
        #[command(flatten)]
        follow: Follow,
    },
    /// Sessions of Bidirectional Forwarding Detection.
    Bfd,
    /// Virtual addresses: wanted, advertised, learned, answered, seen, and what disagrees.
    Vips {
        /// Only those with this state, such as black-holed, or ok.
        #[arg(long)]
        state: Option<String>,
    },
    /// The whole way of one virtual address, object by object and hop by hop, and where it breaks.
    Explain {
        /// Which address.
        vip: String,
    },
}

#[derive(clap::Args, Debug)]
struct Pace {
    /// Time between looks: 100ms to 60s.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = interval)]
    interval: Duration,
}

#[derive(clap::Args, Debug)]
struct Follow {
    /// Go on with what moves.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    pace: Pace,
}

#[derive(clap::Args, Debug)]
struct FilterArgs {
    /// From or to this address, or an address in this prefix.
    // Not `address`: clap would take it for the agent's own, which is global.
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// From or to this port.
    #[arg(long)]
    port: Option<u32>,
    /// Of this protocol: a name such as tcp, or a number.
    #[arg(long)]
    protocol: Option<String>,
    /// From or to this virtual address.
    #[arg(long, value_name = "ADDRESS")]
    vip: Option<String>,
    /// Seen at this interface.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// In this direction: ingress or egress.
    #[arg(long)]
    direction: Option<String>,
    /// With this VLAN identifier; 0 is untagged.
    #[arg(long, value_name = "ID")]
    vlan: Option<u32>,
    /// Of this traffic class.
    #[arg(long)]
    class: Option<String>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 1.0),
    };
    let seconds = number.parse::<f64>().map_err(|_| "write a time such as 500ms or 2s".to_owned())? * unit;
    if (0.1..=60.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("choose 100ms to 60s".to_owned())
    }
}

/// Why `weirctl` cannot show what was asked.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the agent answered: {0}")]
    Answer(String),
    #[error("the connection to the agent broke: {0}")]
    Broken(String),
    #[error("cannot print")]
    Print(#[from] io::Error),
    #[error(transparent)]
    Policies(#[from] crate::enforce::FolderError),
    #[error("cannot write JSON")]
    Json(#[from] serde_json::Error),
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        // Only what the transport made up has a cause.
        match connect::causes(&status).last() {
            Some(cause) => Self::Broken(cause.to_string()),
            None => Self::Answer(status.message().to_owned()),
        }
    }
}

/// Does what was asked and tells how it went.
pub async fn main(args: Args) -> ExitCode {
    let failure = match run(args).await {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    match &failure {
        // Whoever read our output has seen enough.
        Failure::Print(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Failure::Json(error) if error.io_error_kind() == Some(io::ErrorKind::BrokenPipe) => {
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let mut text = format!("weirctl: {failure}");
    for cause in connect::causes(&failure) {
        text = format!("{text}: {cause}");
    }
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(if matches!(failure, Failure::Connect(_)) { 3 } else { 1 })
}

async fn run(args: Args) -> Result<(), Failure> {
    let mut client = connect::connect(&args.way).await?;
    let mut printer = Printer { output: args.output, screen: Screen::of_stdout() };
    match args.command {
        Command::Status => {
            let status = client.status(StatusRequest {}).await?.into_inner();
            printer.print(&status, view::status)
        }
        Command::Links => {
            let links = client.links(LinksRequest {}).await?.into_inner();
            printer.print(&links, view::links)
        }
        Command::Policy(command) => policy::run(&mut client, printer, command).await,
        Command::Bfd => {
            let sessions = client.bfd(BfdRequest {}).await?.into_inner();
            printer.print(&sessions, bfd::bfd)
        }
        Command::Vips { state } => {
            let table = client.vips(VipsRequest { state }).await?.into_inner();
            printer.print(&table, vips::vips)
        }
        Command::Explain { vip } => {
            let way = client.explain(ExplainRequest { address: vip }).await?.into_inner();
            printer.print(&way, vips::explain)
        }
        Command::Top { pace, count, limit } => top(&mut client, printer, pace, count, limit).await,
        Command::Flows { filter, limit, addresses, follow } => {
            let request = FlowsRequest {
                filter: Some(filter.into()),
                limit,
                follow: follow.follow,
                interval_ms: follow.pace.milliseconds(),
            };
            let ends = if addresses { view::Ends::Addresses } else { view::Ends::Workloads };
            flows(&mut client, printer, request, ends).await
        }
        Command::Bgp { peer, routes, follow } => bgp(&mut client, printer, peer, routes, follow).await,
        Command::Drops { follow } => {
            let request = DropsRequest { follow: follow.follow, interval_ms: follow.pace.milliseconds() };
            let mut answers = client.drops(request).await?.into_inner();
            let mut first = true;
            while let Some(answer) = answers.message().await? {
                if first || !answer.drops.is_empty() || !answer.problems.is_empty() {
                    printer.print(&answer, |drops, screen| view::drops(drops, screen, first))?;
                }
                first = false;
            }
            Ok(())
        }
    }
}

async fn top(
    client: &mut Client,
    mut printer: Printer,
    pace: Pace,
    count: Option<u64>,
    limit: u32,
) -> Result<(), Failure> {
    let request = TopRequest { interval_ms: pace.milliseconds(), limit };
    let mut answers: Streaming<TopResponse> = client.top(request).await?.into_inner();
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(answer) = answers.message().await? else { break };
        printer.renew()?;
        printer.print(&answer, view::top)?;
        left -= 1;
    }
    Ok(())
}

async fn flows(
    client: &mut Client,
    mut printer: Printer,
    request: FlowsRequest,
    ends: view::Ends,
) -> Result<(), Failure> {
    let mut answers = client.flows(request).await?.into_inner();
    let mut first = true;
    while let Some(answer) = answers.message().await? {
        if first || !answer.flows.is_empty() || !answer.problems.is_empty() {
            printer.print(&answer, |flows, screen| view::flows(flows, screen, first, ends))?;
        }
        first = false;
    }
    Ok(())
}

async fn bgp(
    client: &mut Client,
    mut printer: Printer,
    peer: Option<String>,
    routes: bool,
    Follow { follow, pace }: Follow,
) -> Result<(), Failure> {
    let request = BgpRequest { follow, interval_ms: pace.milliseconds(), peer, routes };
    let mut answers = client.bgp(request).await?.into_inner();
    let mut first = true;
    while let Some(answer) = answers.message().await? {
        if first || !answer.routes.is_empty() {
            printer.print(&answer, |answer, screen| bgp::bgp(answer, screen, first))?;
        } else if !answer.changes.is_empty() {
            printer.print(&answer, bgp::changes)?;
        }
        first = false;
    }
    Ok(())
}

impl Pace {
    fn milliseconds(&self) -> u32 {
        u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX)
    }
}

impl From<FilterArgs> for FlowFilter {
    fn from(args: FilterArgs) -> Self {
        let FilterArgs { host, port, protocol, vip, interface, direction, vlan, class } = args;
        Self { address: host, port, protocol, vip, interface, direction, vlan, class }
    }
}

/// Prints messages as asked.
struct Printer {
    output: Output,
    screen: Screen,
}

impl Printer {
    fn print<T: Serialize>(
        &mut self,
        message: &T,
        view: impl FnOnce(&T, &Screen) -> String,
    ) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.output {
            Output::Json => {
                serde_json::to_writer(&mut out, message)?;
                writeln!(out)?;
            }
            Output::Table => out.write_all(view(message, &self.screen).as_bytes())?,
        }
        Ok(out.flush()?)
    }

    /// Clears a terminal for the next picture; elsewhere pictures follow one another.
    fn renew(&self) -> io::Result<()> {
        if self.output == Output::Table && self.screen.is_terminal() {
            io::stdout().lock().write_all(b"\x1b[H\x1b[2J")?;
        }
        Ok(())
    }
}
