//! The truth table of virtual addresses, and the way of one, as text for people. Pure.

use super::number::{count, time};
use super::screen::{Colour, Screen};
use super::table::{Cell, Table, number, room, text};
use super::view::problems;
use crate::export::proto::{ExplainResponse, Finding, PortAnswer, Vip, VipsResponse};

/// States by which no packet is lost now.
const MILD: [&str; 5] =
    ["not-advertised", "advertised-unwanted", "spread-uneven", "port-unserved", "outside-pools"];

/// The table, then what is the matter, address by address.
pub(super) fn vips(response: &VipsResponse, screen: &Screen) -> String {
    let sources = match response.sources.is_empty() {
        true => "known from nothing yet: give the agent --vip or --manifests".to_owned(),
        false => format!("known from {}", response.sources.join(", ")),
    };
    let mut sections = vec![sources + "\n"];
    sections.push(problems(&response.problems).render(screen));
    sections.push(table(&response.vips).render(screen));
    for vip in response.vips.iter().filter(|vip| !vip.findings.is_empty()) {
        sections.push(findings(vip, screen));
    }
    if response.vips.is_empty() {
        sections.push("no virtual addresses\n".to_owned());
    }
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

fn table(vips: &[Vip]) -> Table {
    let columns = [
        room("ADDRESS", 15),
        room("SERVICE", 16),
        text("WANTED"),
        text("PEERS"),
        text("LEARNED"),
        text("READY"),
        text("PORTS"),
        number("IN"),
        text("STATE"),
    ];
    let mut table = Table::new("", columns);
    for vip in vips {
        table.row([
            vip.address.as_str().into(),
            service(vip).into(),
            wanted(vip).into(),
            announced(vip).into(),
            learned(vip).into(),
            ready(vip).into(),
            ports(vip).into(),
            count(vip.packets_in).into(),
            state(vip),
        ]);
    }
    table
}

fn service(vip: &Vip) -> String {
    match vip.services.as_slice() {
        [] => "-".to_owned(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} +{}", others.len()),
    }
}

fn wanted(vip: &Vip) -> &str {
    match vip.wanted.as_str() {
        "elsewhere" => "else",
        "somewhere" => "some",
        "unknown" => "?",
        other => other,
    }
}

/// Peers to which this node announces it.
fn announced(vip: &Vip) -> String {
    if vip.announced_known { vip.announced.len().to_string() } else { "?".to_owned() }
}

/// Next hops of each router, and whether one of them is this node.
fn learned(vip: &Vip) -> String {
    if vip.learned.is_empty() {
        return "?".to_owned();
    }
    let each = vip.learned.iter().map(|one| match (one.next_hops.len(), one.here) {
        (0, _) => "no".to_owned(),
        (hops, true) => format!("{hops} here"),
        (hops, false) => hops.to_string(),
    });
    each.collect::<Vec<_>>().join(",")
}

/// Usable endpoints here and in all.
fn ready(vip: &Vip) -> String {
    match (vip.endpoints_here, vip.endpoints) {
        (Some(here), Some(all)) => format!("{here}/{all}"),
        _ => "?".to_owned(),
    }
}

/// Ports that answer, of those that were probed.
fn ports(vip: &Vip) -> String {
    let good = |one: &&PortAnswer| one.answer == "answers";
    match (vip.answers.iter().filter(good).count(), vip.answers.len()) {
        (_, 0) => "-".to_owned(),
        (good, all) => format!("{good}/{all}"),
    }
}

fn state(vip: &Vip) -> Cell {
    let words: Vec<&str> = vip.findings.iter().map(|finding| finding.state.as_str()).collect();
    match words.as_slice() {
        [] => Cell::coloured("ok", Some(Colour::Green)),
        words => Cell::coloured(words.join(" "), Some(colour(words))),
    }
}

fn colour(states: &[&str]) -> Colour {
    if states.iter().all(|state| MILD.contains(state)) { Colour::Yellow } else { Colour::Red }
}

/// What is the matter with an address, and what to do.
fn findings(vip: &Vip, screen: &Screen) -> String {
    let title = match vip.services.is_empty() {
        true => vip.address.clone(),
        false => format!("{} of {}", vip.address, vip.services.join(", ")),
    };
    let mut table = Table::new(title, [text("STATE"), text("")]);
    for finding in &vip.findings {
        let name = Cell::coloured(&finding.state, Some(colour(&[&finding.state])));
        table.row([name, told(finding).into()]);
        table.row([Cell::from(""), Cell::from(format!("do: {}", finding.action))]);
    }
    table.render_without_head(screen)
}

fn told(finding: &Finding) -> String {
    let age = if finding.age_ns > 0 { format!(", for {}", time(finding.age_ns)) } else { String::new() };
    format!("{} (from {}{age})", finding.what, finding.basis.join(", "))
}

/// The way of an address, step by step.
pub(super) fn explain(response: &ExplainResponse, screen: &Screen) -> String {
    let Some(vip) = &response.vip else { return "the agent tells nothing\n".to_owned() };
    let mut way = Table::new(
        format!("the way of {}", vip.address),
        [text(""), text("PLACE"), room("WHAT", 34), text("IS SO")],
    );
    for (at, step) in response.steps.iter().enumerate() {
        let breaks = response.breaks_at.is_some_and(|broken| broken as usize == at);
        let (mark, colour) = match step.verdict.as_str() {
            "good" => ("ok", Some(Colour::Green)),
            "broken" if breaks => (">>", Some(Colour::Red)),
            "broken" => ("!!", Some(Colour::Red)),
            "odd" => ("!", Some(Colour::Yellow)),
            "aside" => ("-", None),
            _ => ("?", None),
        };
        way.row([
            Cell::coloured(mark, colour),
            step.place.as_str().into(),
            step.subject.as_str().into(),
            step.text.as_str().into(),
        ]);
    }
    let end = match response.breaks_at.and_then(|at| response.steps.get(at as usize)) {
        Some(step) => {
            let place = if step.subject == "-" {
                step.place.clone()
            } else {
                format!("{} ({})", step.place, step.subject)
            };
            screen.paint(&format!("it breaks at {place}"), Some(Colour::Red)) + "\n"
        }
        None if response.steps.iter().any(|step| step.verdict == "unknown") => {
            "it breaks nowhere that is known; `?` is what nobody tells\n".to_owned()
        }
        None => screen.paint("it breaks nowhere", Some(Colour::Green)) + "\n",
    };
    let mut sections = vec![way.render(screen), end];
    if !vip.findings.is_empty() {
        sections.push(findings(vip, screen));
    }
    sections.join("\n")
}
