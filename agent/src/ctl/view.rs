//! Messages as text for people. Pure.

use super::number::{count, si, time, time_or_dash};
use super::screen::{Colour, Screen};
use super::table::{Cell, Table, number, room, text};
use crate::export::proto::{
    Cluster, DropsResponse, Feature, Flow, FlowsResponse, Gateway, Hook, LinkDifference, LinksResponse,
    MeshPeer, Probe, Problem, Rate, StatusResponse, TopResponse,
};

/// Virtual addresses that `status` names.
const VIPS_SHOWN: usize = 6;

/// How the agent and the node are.
pub(super) fn status(status: &StatusResponse, screen: &Screen) -> String {
    let lockdown = status.lockdown.as_deref().unwrap_or("unknown");
    let mut facts = vec![format!(
        "node {}   agent {}   kernel {}   lockdown {lockdown}",
        status.node, status.version, status.kernel
    )];
    let neighbours: Vec<String> =
        status.neighbours.iter().map(|one| format!("{} {}", one.count, one.state)).collect();
    let neighbours = if neighbours.is_empty() { "none".to_owned() } else { neighbours.join(", ") };
    if !status.held.is_empty() {
        facts.push(format!("capabilities {}", status.held.join(" ")));
    }
    facts.push(format!("routes {}   neighbours {neighbours}", status.routes));
    if let Some(table) = &status.conntrack {
        facts.push(format!("conntrack {} of {}", count(table.entries), count(table.limit)));
    }
    if !status.vips.is_empty() {
        let shown = status.vips.iter().take(VIPS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(" ");
        let more = status.vips.len().saturating_sub(VIPS_SHOWN);
        let more = if more > 0 { format!(" and {more} more; see weirctl vips") } else { String::new() };
        facts.push(format!("virtual addresses {shown}{more}"));
    }
    facts.extend(status.cluster.as_ref().map(|cluster| cluster_line(cluster, screen)));
    if status.unobserved_ns > 0 {
        facts.push(
            screen.paint(&format!("not observed for {}", time(status.unobserved_ns)), Some(Colour::Yellow)),
        );
    }
    for missed in &status.missed {
        facts.push(
            screen.paint(
                &format!("{} events missed {} times", missed.kind, missed.times),
                Some(Colour::Yellow),
            ),
        );
    }
    facts.extend(shortfalls(status).map(|text| screen.paint(&text, Some(Colour::Yellow))));
    let tables = [
        problems(&status.problems),
        hooks(&status.hooks),
        link_differences(&status.link_differences),
        features(&status.features),
        gateways(&status.gateways),
        mesh(&status.mesh),
        tcp(status),
        programs(status),
        maps(status),
    ];
    sections(facts.join("\n") + "\n", &tables, screen)
}

fn cluster_line(cluster: &Cluster, screen: &Screen) -> String {
    if let Some(trouble) = &cluster.trouble {
        return screen.paint(&format!("cluster {trouble}"), Some(Colour::Yellow));
    }
    let missing = match cluster.missing.is_empty() {
        true => String::new(),
        false => format!("   it has no {}", cluster.missing.join(", ")),
    };
    let (kinds, addresses) = (cluster.following.len(), cluster.addresses);
    format!("cluster {}   {kinds} kinds followed   {addresses} Pod addresses{missing}", cluster.server)
}

fn sections(head: String, tables: &[Table], screen: &Screen) -> String {
    let tables = tables.iter().map(|table| table.render(screen)).filter(|table| !table.is_empty());
    std::iter::once(head).filter(|head| !head.is_empty()).chain(tables).collect::<Vec<_>>().join("\n")
}

fn shortfalls(status: &StatusResponse) -> impl Iterator<Item = String> {
    let counts = status.shortfall.map(|one| {
        [
            (one.flows_evicted, "flows made room for newer ones"),
            (one.flow_insert_failures, "packets found no room in the flow table"),
            (one.ledger_overflow, "packets went to the ledger's overflow row"),
            (one.events_lost, "events were lost"),
        ]
    });
    counts
        .into_iter()
        .flatten()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(number)))
}

/// What could not be read.
pub(super) fn problems(problems: &[Problem]) -> Table {
    let mut table = Table::new("PROBLEMS", [text("SOURCE"), text("WHY")]);
    for one in problems {
        table.row([Cell::coloured(&one.source, Some(Colour::Red)), one.text.as_str().into()]);
    }
    table
}

fn state(word: &str) -> Cell {
    let colour = match word {
        "head" | "works" | "up" => Colour::Green,
        "not-head" | "legacy-tc" | "degraded" | "dormant" | "unknown" => Colour::Yellow,
        _ => Colour::Red,
    };
    Cell::coloured(word, Some(colour))
}

fn hooks(hooks: &[Hook]) -> Table {
    let columns = [text("INTERFACE"), text("DIRECTION"), text("STATE"), number("PROGRAMS"), text("WHY")];
    let mut table = Table::new("HOOKS", columns);
    for one in hooks {
        let why = one.reason.as_deref().unwrap_or_default();
        let programs = one.programs.len().to_string();
        table.row([
            one.interface.as_str().into(),
            one.direction.as_str().into(),
            state(&one.state),
            programs.into(),
            why.into(),
        ]);
    }
    table
}

fn link_differences(differences: &[LinkDifference]) -> Table {
    let columns = [text("INTERFACE"), text("LINKMONITOR"), text("SAYS"), text("IT IS")];
    let mut table = Table::new("WHAT HARVESTER HAS WRONG", columns);
    for one in differences {
        table.row([
            one.interface.as_str().into(),
            one.monitor.as_str().into(),
            Cell::coloured(&one.says, Some(Colour::Yellow)),
            one.is.as_deref().map_or_else(|| "not there".into(), state),
        ]);
    }
    table
}

fn features(features: &[Feature]) -> Table {
    let mut table = Table::new("FEATURES", [text("NAME"), text("STATE"), text("WHAT, AND WHY NOT")]);
    for one in features {
        let more = [&one.found, &one.reason].into_iter().flatten();
        let what = more.fold(one.purpose.clone(), |what, more| format!("{what}; {more}"));
        table.row([one.name.as_str().into(), state(&one.state), what.into()]);
    }
    table
}

fn gateways(gateways: &[Gateway]) -> Table {
    let rows = gateways.iter().flat_map(|one| {
        let place = [one.interface.as_str(), one.address.as_str()];
        one.probes.iter().map(move |probe| ([place[0], place[1], probe.kind.as_str()], probe, one.path_mtu))
    });
    probes("GATEWAYS", ["INTERFACE", "GATEWAY", "PROBE"], rows)
}

fn mesh(peers: &[MeshPeer]) -> Table {
    let mut peers: Vec<&MeshPeer> = peers.iter().collect();
    peers.sort_by_key(|one| (&one.node, one.address.contains(':')));
    let rows = peers.into_iter().filter_map(|one| {
        let place = [one.node.as_str(), one.address.as_str(), one.interface.as_str()];
        Some((place, one.echo.as_ref()?, one.path_mtu))
    });
    probes("OTHER NODES", ["NODE", "ADDRESS", "INTERFACE"], rows)
}

/// A table of series of probes: where each goes, what it has shown, and the path MTU.
fn probes<'a>(
    title: &'static str,
    [first, second, third]: [&'static str; 3],
    rows: impl Iterator<Item = ([&'a str; 3], &'a Probe, Option<u32>)>,
) -> Table {
    let columns = [
        text(first),
        text(second),
        text(third),
        number("SENT"),
        number("LOST"),
        number("LAST"),
        number("MEDIAN"),
        number("PATH MTU"),
        text("WHY NOT"),
    ];
    let mut table = Table::new(title, columns);
    for ([first, second, third], probe, path_mtu) in rows {
        table.row([
            first.into(),
            second.into(),
            third.into(),
            count(probe.sent).into(),
            Cell::coloured(count(probe.lost), (probe.lost > 0).then_some(Colour::Yellow)),
            time_or_dash(probe.last_ns).into(),
            probe.median_ns.map_or("-".to_owned(), |bound| format!("<{}", time(bound))).into(),
            path_mtu.map_or("-".to_owned(), |octets| octets.to_string()).into(),
            probe.unable.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

fn tcp(status: &StatusResponse) -> Table {
    let columns = [
        text("CLASS"),
        number("RTT P50"),
        number("RTT P99"),
        number("OPENED"),
        number("ACCEPTED"),
        number("FAILED"),
        number("RESET"),
        number("RETRANSMITS"),
    ];
    let mut table = Table::new("TCP OF LOCAL SOCKETS", columns);
    for one in &status.tcp {
        let bound =
            |time_ns: Option<u64>| time_ns.map_or("-".to_owned(), |bound| format!("<{}", time(bound)));
        let counts = [one.connects, one.accepts, one.failed_connects, one.resets, one.retransmits];
        let mut cells: Vec<Cell> =
            vec![one.class.as_str().into(), bound(one.rtt_median_ns).into(), bound(one.rtt_p99_ns).into()];
        cells.extend(counts.map(|number| Cell::from(count(number))));
        table.row(cells);
    }
    table
}

fn programs(status: &StatusResponse) -> Table {
    let columns = [text("PROGRAM"), number("RUNS"), number("TIME/RUN"), number("MEMORY")];
    let mut table = Table::new("PROGRAMS", columns);
    for one in &status.programs {
        let each = one.run_time_ns.checked_div(one.runs).map_or("-".to_owned(), time);
        table.row([
            one.name.as_str().into(),
            count(one.runs).into(),
            each.into(),
            bytes(one.memory_bytes).into(),
        ]);
    }
    table
}

fn maps(status: &StatusResponse) -> Table {
    let columns = [text("MAP"), number("ENTRIES"), number("CAPACITY"), number("FILL"), number("MEMORY")];
    let mut table = Table::new("MAPS", columns);
    for one in &status.maps {
        let percent = (one.entries * 100).checked_div(one.capacity).unwrap_or_default();
        table.row([
            one.name.as_str().into(),
            count(one.entries).into(),
            count(one.capacity).into(),
            Cell::coloured(format!("{percent}%"), (percent >= 90).then_some(Colour::Yellow)),
            bytes(one.memory_bytes).into(),
        ]);
    }
    table
}

fn bytes(number: u64) -> String {
    count(number) + "B"
}

/// Rates over the last interval.
pub(super) fn top(top: &TopResponse, screen: &Screen) -> String {
    let skipped =
        if top.skipped > 0 { format!("   {} intervals skipped", top.skipped) } else { String::new() };
    let head = format!("rates over {}{skipped}\n", time(top.interval_ns));
    let both = |first: Vec<Cell>, ingress: &Option<Rate>, egress: &Option<Rate>| {
        let mut cells = first;
        for rate in [ingress, egress] {
            let rate = rate.unwrap_or_default();
            cells.extend([Cell::from(si(rate.packets)), Cell::from(si(rate.bytes * 8.0))]);
        }
        cells
    };
    let rates = || [number("IN PKT/S"), number("IN BIT/S"), number("OUT PKT/S"), number("OUT BIT/S")];
    let mut interfaces =
        Table::new("", std::iter::once(text("INTERFACE")).chain(rates()).collect::<Vec<_>>());
    for one in &top.interfaces {
        interfaces.row(both(vec![one.interface.as_str().into()], &one.ingress, &one.egress));
    }
    let columns =
        [room("VIRTUAL ADDRESS", 24), text("PORT")].into_iter().chain(rates()).chain([number("SYN/S")]);
    let mut vips = Table::new("", columns.collect::<Vec<_>>());
    for one in &top.vips {
        let port = one.port.map_or("other".to_owned(), |port| format!("{port}/{}", one.protocol));
        let mut cells = both(vec![one.vip.as_str().into(), port.into()], &one.ingress, &one.egress);
        cells.push(si(one.syn).into());
        vips.row(cells);
    }
    let mut classes = Table::new("", std::iter::once(text("CLASS")).chain(rates()).collect::<Vec<_>>());
    for one in &top.classes {
        classes.row(both(vec![one.class.as_str().into()], &one.ingress, &one.egress));
    }
    let tables = [problems(&top.problems), interfaces, vips, classes, flow_rates(top), drop_rates(top)];
    sections(head, &tables, screen)
}

fn flow_rates(top: &TopResponse) -> Table {
    let columns = flow_columns().into_iter().chain([number("PKT/S"), number("BIT/S")]);
    let mut table = Table::new("", columns.collect::<Vec<_>>());
    for one in &top.flows {
        let (Some(flow), Some(rate)) = (&one.flow, &one.rate) else { continue };
        let mut cells = flow_cells(flow, Ends::Workloads);
        cells.extend([Cell::from(si(rate.packets)), Cell::from(si(rate.bytes * 8.0))]);
        table.row(cells);
    }
    table
}

fn drop_rates(top: &TopResponse) -> Table {
    let mut table = Table::new("", [text("DROP REASON"), text("PLACE"), number("PKT/S")]);
    for one in &top.drops {
        let rate = Cell::coloured(si(one.packets), Some(Colour::Red));
        table.row([one.reason.as_str().into(), one.place.as_str().into(), rate]);
    }
    table
}

fn flow_columns() -> [super::table::Column; 7] {
    [
        text("INTERFACE"),
        text("DIR"),
        number("VLAN"),
        text("PROTO"),
        room("SOURCE", 21),
        room("DESTINATION", 21),
        text("CLASS"),
    ]
}

/// How the ends of a flow are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// By their workload, where one is known.
    Workloads,
    /// By their address.
    Addresses,
}

impl Ends {
    fn of<'a>(self, workload: &'a Option<String>, address: &'a str) -> &'a str {
        match (self, workload) {
            (Ends::Workloads, Some(workload)) => workload,
            _ => address,
        }
    }
}

fn flow_cells(flow: &Flow, ends: Ends) -> Vec<Cell> {
    let source = ends.of(&flow.source_workload, &flow.source);
    let destination = ends.of(&flow.destination_workload, &flow.destination);
    let direction = match flow.direction.as_str() {
        "ingress" => "in",
        "egress" => "out",
        other => other,
    };
    vec![
        flow.interface.as_str().into(),
        direction.into(),
        flow.vlan.map_or("-".to_owned(), |vlan| vlan.to_string()).into(),
        flow.protocol.as_str().into(),
        end(&flow.protocol, source, flow.source_port).into(),
        end(&flow.protocol, destination, flow.destination_port).into(),
        flow.class.as_str().into(),
    ]
}

/// An address with its port, where the protocol has ports.
fn end(protocol: &str, address: &str, port: u32) -> String {
    match protocol {
        "tcp" | "udp" | "sctp" if address.contains(':') => format!("[{address}]:{port}"),
        "tcp" | "udp" | "sctp" => format!("{address}:{port}"),
        _ => address.to_owned(),
    }
}

/// Flows; the first list shows totals, later ones what is new.
pub(super) fn flows(flows: &FlowsResponse, screen: &Screen, first: bool, ends: Ends) -> String {
    let numbers = if first { [number("PKTS"), number("BYTES")] } else { [number("+PKTS"), number("+BYTES")] };
    let columns = flow_columns().into_iter().chain(numbers).chain([text("FLAGS")]);
    let mut table = Table::new("", columns.collect::<Vec<_>>());
    for flow in &flows.flows {
        let numbers = if first { [flow.packets, flow.bytes] } else { [flow.new_packets, flow.new_bytes] };
        let mut cells = flow_cells(flow, ends);
        cells.extend(numbers.map(|number| Cell::from(count(number))));
        cells.push(flow.tcp_flags.as_str().into());
        table.row(cells);
    }
    let mut out = table.render(screen) + &problems(&flows.problems).render(screen);
    if out.is_empty() {
        out.push_str("no flows match\n");
    }
    if flows.left_out > 0 {
        out += &format!("{} more match; see them with --limit\n", flows.left_out);
    }
    out
}

/// Drops; the first list shows totals, later ones what is new.
pub(super) fn drops(drops: &DropsResponse, screen: &Screen, first: bool) -> String {
    let packets = number(if first { "PKTS" } else { "+PKTS" });
    let mut table = Table::new("", [text("SOURCE"), text("REASON"), text("PLACE"), packets]);
    for one in &drops.drops {
        let packets = if first { one.packets } else { one.new_packets };
        table.row([
            one.source.as_str().into(),
            one.reason.as_str().into(),
            one.place.as_str().into(),
            count(packets).into(),
        ]);
    }
    let out = table.render(screen);
    if out.is_empty() && drops.problems.is_empty() {
        return "nothing was dropped\n".to_owned();
    }
    sections(out, &[losses(drops), problems(&drops.problems)], screen)
}

fn losses(drops: &DropsResponse) -> Table {
    let columns = [text("INTERFACE"), text("LAYER"), text("REASON"), number("PKTS")];
    let mut table = Table::new("LOST ON THE WAY, SINCE THE AGENT STARTED", columns);
    for one in &drops.losses {
        let colour = (one.layer == "unexplained").then_some(Colour::Yellow);
        table.row([
            one.interface.as_str().into(),
            Cell::coloured(&one.layer, colour),
            one.reason.as_str().into(),
            count(one.packets).into(),
        ]);
    }
    table
}

/// Network interfaces.
pub(super) fn links(links: &LinksResponse, screen: &Screen) -> String {
    let columns = [
        text("NAME"),
        text("KIND"),
        text("STATE"),
        number("MTU"),
        number("BIT/S"),
        number("IN PKTS"),
        number("OUT PKTS"),
        number("ERRORS"),
        number("DROPS"),
        number("FLAPS"),
        text("MEASURED"),
    ];
    let mut table = Table::new("", columns);
    for one in &links.links {
        let kind = one.vlan.map_or(one.kind.clone(), |vlan| format!("{} {vlan}", one.kind));
        let trouble = |number: u64| Cell::coloured(count(number), (number > 0).then_some(Colour::Yellow));
        table.row([
            one.name.as_str().into(),
            kind.into(),
            if one.admin_up { state(&one.state) } else { Cell::coloured("off", Some(Colour::Yellow)) },
            one.mtu.to_string().into(),
            one.speed.map_or("-".to_owned(), count).into(),
            count(one.rx_packets).into(),
            count(one.tx_packets).into(),
            trouble(one.rx_errors + one.tx_errors),
            trouble(one.rx_dropped + one.tx_dropped),
            trouble(one.flaps),
            if one.measured { "yes" } else { "" }.into(),
        ]);
    }
    table.render(screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::proto::{ClassRate, DropRate, FlowRate, InterfaceRate, VipRate};

    #[test]
    fn words_are_coloured_only_where_there_are_colours() {
        let hook = Hook { interface: "eth0".into(), state: "detached".into(), ..Hook::default() };
        let status = StatusResponse { hooks: vec![hook], ..StatusResponse::default() };
        assert!(!super::status(&status, &Screen::plain()).contains('\x1b'));
        assert!(super::status(&status, &Screen::coloured()).contains("\x1b[31mdetached\x1b[0m"));
    }

    #[test]
    fn rates_in_one_picture() {
        let rate = |packets, bytes| Some(Rate { packets, bytes });
        let flow = Flow {
            interface: "eth0".into(),
            direction: "ingress".into(),
            protocol: "tcp".into(),
            source: "203.0.113.5".into(),
            source_port: 40_000,
            destination: "10.10.50.10".into(),
            destination_port: 443,
            class: "other".into(),
            ..Flow::default()
        };
        let vip = VipRate {
            vip: "fd10:10:50::10".into(),
            port: Some(443),
            protocol: "tcp".into(),
            ingress: rate(9.0, 1200.0),
            syn: 0.5,
            ..VipRate::default()
        };
        let interface = InterfaceRate {
            interface: "eth0".into(),
            ingress: rate(81_234.5, 1.2e8),
            egress: rate(1e6, 1.25e9),
        };
        let picture = TopResponse {
            interval_ns: 1_000_200_000,
            skipped: 2,
            interfaces: vec![interface],
            vips: vec![vip],
            classes: vec![ClassRate { class: "bgp".into(), ingress: rate(2.0, 170.0), egress: None }],
            flows: vec![FlowRate { flow: Some(flow), rate: rate(60.0, 6e6) }],
            drops: vec![DropRate { reason: "no_socket".into(), place: "eth0".into(), packets: 3.0 }],
            problems: vec![Problem { source: "flows".into(), text: "cannot read map FLOWS".into() }],
        };
        let text = super::top(&picture, &Screen::plain());
        assert!(text.lines().all(|line| line.chars().count() <= 100));
        insta::assert_snapshot!(text);
    }
}
