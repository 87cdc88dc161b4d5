//! The order of commands, and how many go into one request.
//!
//! One request is one commit. A plan that fits is one batch. A larger one is cut between units (a rule, a network, a
//! neighbor), in the router's own order, where the configuration so far breaks no commit rule.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::Inputs;
use crate::config::rules::{self, Violation};
use crate::config::{Command, ConfigPath, Kind, Kinds, Tree};

/// How much one request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of JSON; the router's web server takes 1 MB unless told otherwise.
    pub bytes: usize,
    /// Commands: what the router works off in the time that a request may take, as measured.
    pub commands: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 0.08 s a command as seen on slow machines makes this 160 s, and the web server waits for 600 s.
        Self { bytes: 1_000_000, commands: 2_000 }
    }
}

impl Limits {
    /// As many commands as a router works off in `aim` seconds, at this many seconds each.
    #[must_use]
    pub fn at_rate(self, seconds_each: f64, aim: f64) -> Self {
        let commands = (aim / seconds_each.max(0.001)).clamp(10.0, 100_000.0);
        // The clamp keeps it well inside the range.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 10..=100000")]
        let commands = commands as usize;
        Self { commands, ..self }
    }
}

/// One request, one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// In order.
    pub commands: Vec<Command>,
}

/// There is no place to cut at which the router would accept what came before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the change is larger than one request may be and cannot be cut safely here: {broken}; raise the router's request size limit"
)]
pub(super) struct Stuck {
    pub(super) path: ConfigPath,
    broken: String,
}

/// A run of commands that must stay together.
struct Unit {
    commands: Vec<Command>,
    bytes: usize,
}

/// Orders the commands and cuts them into batches.
pub(super) fn order(commands: Vec<Command>, inputs: &Inputs<'_>) -> Result<Vec<Batch>, Stuck> {
    let limits = inputs.policy.limits;
    let bytes: usize = commands.iter().map(size).sum();
    let fits = commands.len() <= limits.commands && bytes + ENVELOPE <= limits.bytes;
    let units = units(commands, inputs);
    if fits {
        let all: Vec<Command> = units.into_iter().flat_map(|unit| unit.commands).collect();
        return Ok(if all.is_empty() { Vec::new() } else { vec![Batch { commands: all }] });
    }
    cut(units, inputs)
}

/// What a request holds besides its commands: the key, field names, encoding.
const ENVELOPE: usize = 1_024;

/// The bytes of one command in a request's JSON, with a reserve for escapes.
fn size(command: &Command) -> usize {
    let words: usize = command.path().iter().map(|word| word.len() + 4).sum();
    words + command.value().map_or(0, |value| value.len() + 16) + 40
}

/// Commands by unit, units in the order of the router's scripts: what is set upwards, then what only goes downwards.
fn units(commands: Vec<Command>, inputs: &Inputs<'_>) -> Vec<Unit> {
    let mut by_unit = BTreeMap::<Vec<String>, Vec<Command>>::new();
    for command in commands {
        by_unit.entry(unit_of(command.path(), inputs.schema)).or_default().push(command);
    }
    let mut sorted: Vec<_> = by_unit.into_iter().collect();
    sorted.sort_by_key(|(path, commands)| {
        let priority = priority(path);
        if commands.iter().all(Command::is_delete) { (1, u32::MAX - priority) } else { (0, priority) }
    });
    let unit = |(_, commands): (_, Vec<Command>)| Unit { bytes: commands.iter().map(size).sum(), commands };
    sorted.into_iter().map(unit).collect()
}

/// The first tag instance on the way, but for interfaces the VLAN, whose parent carries it.
fn unit_of(path: &ConfigPath, kinds: &impl Kinds) -> Vec<String> {
    let depth = if path.begins(&["interfaces"]) { 5 } else { path.len() };
    let instance = (1..=path.len().min(depth)).filter(|n| kinds.kind(&path[..*n]) == Some(Kind::Instance));
    let end = if depth == 5 { instance.last() } else { instance.min() };
    path[..end.unwrap_or(path.len().min(3))].to_vec()
}

/// The order of the router's scripts. Deletions go the other way.
fn priority(path: &[String]) -> u32 {
    let word = |n: usize| path.get(n).map_or("", String::as_str);
    match (word(0), word(1)) {
        ("vrf", _) => 11,
        ("firewall", "group") => 190,
        ("policy", _) => 200,
        ("nat", _) => 220,
        ("interfaces", "bridge") => 310,
        ("interfaces", _) if word(3) == "vif" => 319,
        ("interfaces", _) => 318,
        ("system", _) => 400,
        ("protocols", "static") => 450,
        ("firewall", _) => 489,
        ("nat66", _) => 500,
        ("protocols", "bgp") if word(2) != "neighbor" && word(2) != "listen" => 819,
        ("protocols", _) => 820,
        ("service", "router-advert") => 900,
        ("service", "dhcp-relay" | "dhcpv6-relay") => 910,
        ("service", "dhcp-server" | "dhcpv6-server") => 911,
        ("service", "dns") => 918,
        _ => 950,
    }
}

fn cut(units: Vec<Unit>, inputs: &Inputs<'_>) -> Result<Vec<Batch>, Stuck> {
    let limits = inputs.policy.limits;
    let mut cutter = Cutter {
        inputs,
        sent: inputs.running.clone(),
        broken: rules::check(inputs.running, inputs.dialect).into_iter().collect(),
        batches: Vec::new(),
    };
    let mut waiting = VecDeque::from(units);
    while !waiting.is_empty() {
        let filled = fill(&mut waiting, limits);
        if waiting.is_empty() {
            cutter.push(filled);
        } else {
            cutter.close(filled)?.into_iter().rev().for_each(|unit| waiting.push_front(unit));
        }
    }
    Ok(cutter.batches)
}

/// As many units as one request may hold, and at least one.
fn fill(waiting: &mut VecDeque<Unit>, limits: Limits) -> Vec<Unit> {
    let (mut filled, mut count, mut bytes) = (Vec::new(), 0, ENVELOPE);
    while let Some(unit) = waiting.pop_front() {
        count += unit.commands.len();
        bytes += unit.bytes;
        if !filled.is_empty() && (count > limits.commands || bytes > limits.bytes) {
            waiting.push_front(unit);
            break;
        }
        filled.push(unit);
    }
    filled
}

struct Cutter<'a> {
    inputs: &'a Inputs<'a>,
    sent: Tree,
    broken: BTreeSet<Violation>,
    batches: Vec<Batch>,
}

impl Cutter<'_> {
    /// Makes a batch of as many of the units as leave the configuration sound, and gives back the others.
    fn close(&mut self, mut units: Vec<Unit>) -> Result<Vec<Unit>, Stuck> {
        let mut rest = Vec::new();
        let first = units[0].commands[0].path().clone();
        let mut last_broken = String::new();
        while !units.is_empty() {
            apply(&mut self.sent, &units, self.inputs);
            match self.breaks(&self.sent) {
                None => {
                    self.push(units);
                    rest.reverse();
                    return Ok(rest);
                }
                Some(broken) => last_broken = broken.to_string(),
            }
            self.go_back();
            // Halving finds a sound place soon. What is taken back comes first in the next batch.
            let keep = units.len() / 2;
            rest.extend(units.drain(keep..).rev());
        }
        Err(Stuck { path: first, broken: last_broken })
    }

    /// Makes `sent` what the closed batches make it. Rare, so it costs more than keeping a copy for each batch would.
    fn go_back(&mut self) {
        self.sent = self.inputs.running.clone();
        for command in self.batches.iter().flat_map(|batch| &batch.commands) {
            let _ = self.sent.apply(command, self.inputs.schema);
        }
    }

    fn push(&mut self, units: Vec<Unit>) {
        self.batches.push(Batch { commands: units.into_iter().flat_map(|unit| unit.commands).collect() });
    }

    fn breaks(&self, tree: &Tree) -> Option<Violation> {
        rules::check(tree, self.inputs.dialect).into_iter().find(|violation| !self.broken.contains(violation))
    }
}

fn apply(tree: &mut Tree, units: &[Unit], inputs: &Inputs<'_>) {
    for command in units.iter().flat_map(|unit| &unit.commands) {
        // The whole of the commands was made from a tree of the right shape.
        let _ = tree.apply(command, inputs.schema);
    }
}
