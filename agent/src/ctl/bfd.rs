//! BFD's sessions as text for people. Pure.

use super::number::{count, time};
use super::screen::{Colour, Screen};
use super::table::{Cell, Table, number, text};
use crate::export::proto::{BfdResponse, BfdSession};

/// All that is known of BFD.
pub(super) fn bfd(bfd: &BfdResponse, screen: &Screen) -> String {
    let mut facts = match bfd.mode.as_str() {
        "off" => return "BFD is off: start the agent with --bfd-peer (see docs/bfd.md)\n".to_owned(),
        "speaking" => vec![format!("speaking   own packets late by {} at worst", time(bfd.lateness_ns))],
        mode => vec![screen.paint(mode, Some(Colour::Yellow))],
    };
    let warnings = [bfd.reason.as_ref(), bfd.priority.as_ref()].into_iter().flatten();
    facts.extend(warnings.map(|warning| screen.paint(warning, Some(Colour::Yellow))));
    if let Some(held) = &bfd.held {
        let text = format!("all sessions are held down: the node's gateways do not answer ({held})");
        facts.push(screen.paint(&text, Some(Colour::Red)));
    }
    let tables = [sessions(&bfd.sessions), details(&bfd.sessions), drops(&bfd.sessions), rejected(bfd)];
    let tables = tables.iter().map(|table| table.render(screen)).filter(|table| !table.is_empty());
    std::iter::once(facts.join("\n") + "\n").chain(tables).collect::<Vec<_>>().join("\n")
}

fn state(word: &str) -> Cell {
    let colour = match word {
        "up" => Colour::Green,
        "init" | "admin-down" => Colour::Yellow,
        _ => Colour::Red,
    };
    Cell::coloured(word, Some(colour))
}

fn sessions(sessions: &[BfdSession]) -> Table {
    let columns = [
        text("PEER"),
        text("STATE"),
        number("FOR"),
        text("PEER'S"),
        number("SENT EVERY"),
        number("DETECTS IN"),
        number("IS DETECTED IN"),
        number("MARGIN"),
    ];
    let mut table = Table::new("SESSIONS", columns);
    for one in sessions {
        let margin = one.margin.map_or_else(|| "-".to_owned(), |margin| format!("{:.0}%", margin * 100.0));
        let known = one.remote.is_some();
        let or_dash = |nanoseconds| if known { time(nanoseconds) } else { "-".to_owned() };
        table.row([
            one.peer.as_str().into(),
            state(&one.state),
            time(one.age_ns).into(),
            one.remote.as_ref().map_or("-", |remote| remote.state.as_str()).into(),
            one.transmit_interval_ns.map_or_else(|| "-".to_owned(), time).into(),
            or_dash(one.detection_time_ns).into(),
            or_dash(one.remote_detection_time_ns).into(),
            margin.into(),
        ]);
    }
    table
}

fn details(sessions: &[BfdSession]) -> Table {
    let mut table = Table::new(
        "",
        [text("PEER"), number("RECEIVED"), number("SENT"), number("ECHOES"), text("WHAT IS WRONG")],
    );
    for one in sessions {
        let mut wrong: Vec<String> = one.problem.iter().cloned().collect();
        if one.state != "up" && one.diagnostic != "none" {
            wrong.push(format!("it told {}", one.diagnostic));
        }
        let remote = one.remote.as_ref().filter(|remote| one.state != "up" && remote.diagnostic != "none");
        wrong.extend(remote.map(|remote| format!("the peer tells {}", remote.diagnostic)));
        table.row([
            one.peer.as_str().into(),
            count(one.received).into(),
            count(one.sent).into(),
            count(one.echoes).into(),
            Cell::from(wrong.join("; ")),
        ]);
    }
    table
}

fn drops(sessions: &[BfdSession]) -> Table {
    let mut table = Table::new("TIMES THAT A SESSION LEFT UP", [text("PEER"), text("WHY"), number("TIMES")]);
    for one in sessions {
        for drops in &one.drops {
            table.row([
                one.peer.as_str().into(),
                drops.diagnostic.as_str().into(),
                Cell::from(count(drops.times)),
            ]);
        }
    }
    table
}

fn rejected(bfd: &BfdResponse) -> Table {
    let mut table = Table::new("PACKETS NOT BELIEVED", [text("WHY"), number("PACKETS")]);
    for one in &bfd.rejected {
        table.row([one.reason.as_str().into(), Cell::from(count(one.packets))]);
    }
    table
}
