//! `weirctl policy`: rules, what they did, what others would do, and the set that waits to be confirmed.

use std::path::PathBuf;

use clap::Subcommand;

use super::connect::Client;
use super::number::count;
use super::screen::{Colour, Screen};
use super::table::{Cell, Table, number, text};
use super::{Failure, Printer};
use crate::enforce::read_policies;
use crate::export::proto::{
    PolicyDiffRequest, PolicyDiffResponse, PolicyEvent, PolicyEventsRequest, PolicyRequest, PolicyResponse,
    PolicyRuling, PolicySettleRequest, PolicySettleResponse, PolicyTraceRequest, PolicyTraceResponse,
};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Rules, what they did, and which set of them is in force.
    List,
    /// What other policies would have done to the flows recorded on this node.
    Diff {
        /// File or folder of policies.
        path: PathBuf,
    },
    /// Which rule decides on a packet, by the rules and by the program in the kernel. The program really runs: counters move.
    Trace(TraceArgs),
    /// Packets that rules drop, or would drop, as they come: of each rule a few a second.
    Events {
        /// End after so many.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Confirm the set that waits to be confirmed.
    Confirm,
    /// Give up the set that waits to be confirmed.
    Revert,
}

/// A packet.
#[derive(Debug, clap::Args)]
pub(super) struct TraceArgs {
    /// Interface at which it is seen.
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// ingress or egress.
    #[arg(long, default_value = "ingress")]
    direction: String,
    /// Source address.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "claims")]
    from: Option<String>,
    /// Destination address.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "claims")]
    to: Option<String>,
    /// The packet claims this address, by ARP or a neighbour advertisement, and is nothing else.
    #[arg(long, value_name = "ADDRESS", requires = "mac", conflicts_with_all = ["from", "to", "vlan"])]
    claims: Option<String>,
    /// Link-layer address of the claimant.
    #[arg(long, value_name = "MAC", requires = "claims")]
    mac: Option<String>,
    /// A name such as tcp, or a number.
    #[arg(long, default_value = "tcp")]
    protocol: String,
    /// Destination port.
    #[arg(long, default_value_t = 0)]
    port: u32,
    /// Source port.
    #[arg(long, default_value_t = 40_000)]
    source_port: u32,
    /// VLAN identifier.
    #[arg(long, value_name = "ID")]
    vlan: Option<u32>,
    /// TCP flags as letters, such as S for the first packet of a connection.
    #[arg(long, default_value = "S")]
    flags: String,
    /// ICMP type.
    #[arg(long, default_value_t = 8)]
    icmp_type: u32,
}

pub(super) async fn run(client: &mut Client, mut printer: Printer, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            let list = client.policy(PolicyRequest {}).await?.into_inner();
            printer.print(&list, view_list)
        }
        Command::Diff { path } => {
            let read = read_policies(&path)?;
            let sources: Result<Vec<_>, _> = read.sources.iter().map(serde_json::to_string).collect();
            let mut difference =
                client.policy_diff(PolicyDiffRequest { sources: sources? }).await?.into_inner();
            let problems = read.problems.into_iter().map(|problem| crate::export::proto::PolicyProblem {
                policy: problem.policy,
                field: problem.field,
                reason: problem.reason.as_str().to_owned(),
                text: problem.text,
            });
            difference.policy_problems.extend(problems);
            printer.print(&difference, view_diff)
        }
        Command::Trace(args) => {
            let request = PolicyTraceRequest {
                interface: args.interface,
                direction: args.direction,
                source: args.from.unwrap_or_default(),
                destination: args.to.unwrap_or_default(),
                protocol: args.protocol,
                source_port: args.source_port,
                destination_port: args.port,
                vlan: args.vlan,
                tcp_flags: args.flags,
                icmp_type: args.icmp_type,
                claims: args.claims.unwrap_or_default(),
                mac: args.mac.unwrap_or_default(),
            };
            let trace = client.policy_trace(request).await?.into_inner();
            printer.print(&trace, view_trace)
        }
        Command::Events { count } => {
            let mut events = client.policy_events(PolicyEventsRequest {}).await?.into_inner();
            let mut left = count.unwrap_or(u64::MAX);
            while left > 0 {
                let Some(event) = events.message().await? else { break };
                printer.print(&event, view_event)?;
                left -= 1;
            }
            Ok(())
        }
        Command::Confirm => settle(client, printer, true).await,
        Command::Revert => settle(client, printer, false).await,
    }
}

async fn settle(client: &mut Client, mut printer: Printer, confirm: bool) -> Result<(), Failure> {
    let settled = client.policy_settle(PolicySettleRequest { confirm }).await?.into_inner();
    printer.print(&settled, |PolicySettleResponse { generation }, _| {
        let word = if confirm { "confirmed" } else { "given up; in force again is" };
        format!("{word} set {generation}\n")
    })
}

fn view_list(list: &PolicyResponse, screen: &Screen) -> String {
    if !list.enforcing {
        return "nothing is enforced: the agent was started without --policy and --policy-from-cluster\n"
            .to_owned();
    }
    let mut out = format!("set {} in force, set {} confirmed\n", list.active, list.confirmed);
    if let Some(pending) = &list.pending {
        let left = pending.left_ns / 1_000_000_000;
        out +=
            &format!("set {} waits to be confirmed; the kernel goes back in {left} s\n", pending.generation);
        out.extend(pending.waits_for.iter().map(|check| format!("  waits for {check}\n")));
    }
    out.extend(
        list.reverts.iter().map(|revert| format!("given up {} times: {}\n", revert.times, revert.cause)),
    );
    out += &match list.early.as_slice() {
        [] => "judged at the TCX hooks\n".to_owned(),
        early => format!("judged at the TCX hooks, and by XDP on {}\n", early.join(", ")),
    };
    if let Some(why) = &list.unkept {
        out += &format!("NOT KEPT over a reboot: {why}\n");
    }
    let columns = [
        text("RULE"),
        text("MODE"),
        text("ACTION"),
        text("DIRECTION"),
        number("PASSED"),
        number("DROPPED"),
        number("SAVED"),
        number("IDLE S"),
    ];
    let mut rules = Table::new("RULES", columns);
    for rule in &list.rules {
        let idle = rule.idle_ns.map_or_else(|| "never".to_owned(), |idle| (idle / 1_000_000_000).to_string());
        rules.row([
            format!("{}/{}", rule.policy, rule.rule).into(),
            rule.mode.as_str().into(),
            rule.action.as_deref().unwrap_or("gone").into(),
            rule.direction.as_deref().unwrap_or("").into(),
            count(rule.passed).into(),
            Cell::coloured(count(rule.dropped), (rule.dropped > 0).then_some(Colour::Yellow)),
            count(rule.saved).into(),
            idle.into(),
        ]);
    }
    let mut pairs =
        Table::new("PAIRS OUTSIDE THEIR NETWORK", [text("RULE"), text("FROM"), text("TO"), number("PKTS")]);
    for pair in &list.pairs {
        pairs.row([
            pair.rule.as_str().into(),
            pair.source.as_str().into(),
            pair.destination.as_str().into(),
            count(pair.packets).into(),
        ]);
    }
    out += &(rules.render(screen) + &talks(list).render(screen) + &pairs.render(screen));
    out + &problems(&list.policy_problems).render(screen)
}

fn talks(list: &PolicyResponse) -> Table {
    let columns = [
        text("HERE"),
        text("PEER"),
        number("MTLS PKTS"),
        number("PLAIN PKTS"),
        number("MTLS BYTES"),
        number("PLAIN BYTES"),
        number("MTLS %"),
    ];
    let mut table = Table::new("WORKLOADS OF THE MESH", columns);
    let name = |name: &str| if name.is_empty() { "(not known)".to_owned() } else { name.to_owned() };
    for talk in &list.talks {
        let all = talk.mtls_bytes.saturating_add(talk.plain_bytes).max(1);
        // Rounded down: 100 means that nothing was in clear.
        let share = u128::from(talk.mtls_bytes) * 100 / u128::from(all);
        table.row([
            name(&talk.here).into(),
            name(&talk.peer).into(),
            count(talk.mtls_packets).into(),
            Cell::coloured(count(talk.plain_packets), (talk.plain_packets > 0).then_some(Colour::Yellow)),
            count(talk.mtls_bytes).into(),
            count(talk.plain_bytes).into(),
            share.to_string().into(),
        ]);
    }
    table
}

fn problems(problems: &[crate::export::proto::PolicyProblem]) -> Table {
    let mut table =
        Table::new("PROBLEMS", [text("POLICY"), text("FIELD"), text("REASON"), text("WHAT TO DO")]);
    for problem in problems {
        table.row([
            problem.policy.as_str().into(),
            problem.field.as_str().into(),
            Cell::coloured(&problem.reason, Some(Colour::Yellow)),
            problem.text.as_str().into(),
        ]);
    }
    table
}

fn view_diff(difference: &PolicyDiffResponse, screen: &Screen) -> String {
    let changed = difference.changes.len();
    let columns = [
        text("FROM"),
        text("TO"),
        text("PROTO"),
        number("PORT"),
        number("PKTS"),
        text("NOW"),
        text("THEN"),
        text("RULE"),
    ];
    let mut table = Table::new("", columns);
    for change in &difference.changes {
        let Some(flow) = &change.flow else { continue };
        let rule = change.after_rule.as_ref().or(change.before_rule.as_ref());
        table.row([
            flow.source.as_str().into(),
            flow.destination.as_str().into(),
            flow.protocol.as_str().into(),
            flow.destination_port.to_string().into(),
            count(flow.packets).into(),
            change.before.as_str().into(),
            Cell::coloured(&change.after, (change.after == "drop").then_some(Colour::Red)),
            rule.cloned().unwrap_or_default().into(),
        ]);
    }
    let end = format!("{changed} of {} flows would change\n", difference.flows);
    table.render(screen)
        + &end
        + &view_claims(difference, screen)
        + &problems(&difference.policy_problems).render(screen)
}

/// Claims of virtual addresses, where there are any.
fn view_claims(difference: &PolicyDiffResponse, screen: &Screen) -> String {
    if difference.claims == 0 {
        return String::new();
    }
    let columns = [text("CLAIMED"), text("BY"), text("INTERFACE"), text("NOW"), text("THEN"), text("RULE")];
    let mut table = Table::new("", columns);
    for change in &difference.claim_changes {
        let rule = change.after_rule.as_ref().or(change.before_rule.as_ref());
        table.row([
            change.address.as_str().into(),
            change.mac.as_str().into(),
            change.interface.as_str().into(),
            change.before.as_str().into(),
            Cell::coloured(&change.after, (change.after == "drop").then_some(Colour::Red)),
            rule.cloned().unwrap_or_default().into(),
        ]);
    }
    let changed = difference.claim_changes.len();
    table.render(screen) + &format!("{changed} of {} claims would change\n", difference.claims)
}

fn view_event(event: &PolicyEvent, _: &Screen) -> String {
    let octets: String = event.octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let early = if event.early { " by XDP" } else { "" };
    let PolicyEvent { rule, mode, interface, direction, verdict, length, .. } = event;
    format!("{interface} {direction} {verdict}{early} {rule} ({mode}) {length} octets {octets}\n")
}

fn view_trace(trace: &PolicyTraceResponse, _: &Screen) -> String {
    let line = |who: &str, ruling: &Option<PolicyRuling>| {
        let Some(ruling) = ruling else { return String::new() };
        let by =
            ruling.rule.as_ref().map_or_else(|| "no rule decides".to_owned(), |rule| format!("by {rule}"));
        let matched = if ruling.matched.is_empty() { "none".to_owned() } else { ruling.matched.join(", ") };
        format!("{who}: {}, {by}; matched: {matched}\n", ruling.verdict)
    };
    let agree = if trace.agree { "both agree\n" } else { "THEY DO NOT AGREE: please report this\n" };
    line("rules ", &trace.reference) + &line("kernel", &trace.kernel) + agree
}
