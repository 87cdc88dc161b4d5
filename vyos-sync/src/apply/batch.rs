//! Cuts a list of commands into commits that fit: by the API's size limit, and by the router's measured speed so that
//! no request outlives its time-outs. One batch is the rule; several are for bootstraps.

use std::{collections::BTreeMap, time::Duration};

use crate::config::Command;

/// How fast a router takes commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time for one command, commit included.
    pub each: Duration,
}

impl Default for Pace {
    /// A slow machine: 80 ms for each `set`.
    fn default() -> Self {
        Self { each: Duration::from_millis(80) }
    }
}

impl Pace {
    /// Aimed-at time for one commit.
    const COMMIT: Duration = Duration::from_secs(60);

    /// The pace after a batch of so many commands took so long. Small batches say little: a commit has a fixed cost.
    #[must_use]
    pub fn after(self, commands: usize, took: Duration) -> Self {
        match u32::try_from(commands) {
            Ok(n) if n >= 20 => Self { each: (self.each + took / n) / 2 },
            _ => self,
        }
    }

    fn commands_a_commit(self) -> usize {
        let fit = Self::COMMIT.as_micros() / self.each.as_micros().max(1);
        usize::try_from(fit).unwrap_or(usize::MAX).max(50)
    }
}

/// Bytes of commands in one request: below nginx's default limit of 1 MB, with room for key and envelope.
const BYTES: usize = 900_000;

/// The commands as commits, in an order that is safe at each step.
///
/// Commands of one node (a VLAN, a rule, a neighbor) stay together, because a half node fails its commit script.
/// What others refer to is made before them and removed after them.
pub fn batches(commands: &[Command], pace: Pace) -> Vec<Vec<Command>> {
    let limit = pace.commands_a_commit();
    if commands.len() <= limit && commands.iter().map(size).sum::<usize>() <= BYTES {
        return if commands.is_empty() { Vec::new() } else { vec![commands.to_vec()] };
    }
    let mut cut: Vec<Vec<Command>> = vec![Vec::new()];
    let mut bytes = 0;
    for unit in units(commands) {
        let unit_bytes: usize = unit.iter().map(size).sum();
        let full = cut.last().is_some_and(|b| !b.is_empty() && b.len() + unit.len() > limit);
        if full || bytes + unit_bytes > BYTES && bytes > 0 {
            cut.push(Vec::new());
            bytes = 0;
        }
        bytes += unit_bytes;
        if let Some(batch) = cut.last_mut() {
            batch.extend(unit);
        }
    }
    cut
}

/// Upper bound of a command's bytes in a request body.
fn size(command: &Command) -> usize {
    let word =
        |w: &str| w.len() + w.bytes().filter(|b| *b < 0x20 || matches!(b, b'"' | b'\\')).count() * 5 + 3;
    40 + command.path().iter().map(|w| word(w)).sum::<usize>() + command.value().map_or(0, word)
}

/// Groups the commands by node, makers in the order of need, pure removals last and in reverse.
fn units(commands: &[Command]) -> Vec<Vec<Command>> {
    let mut by_node: BTreeMap<&[String], Vec<Command>> = BTreeMap::new();
    for command in commands {
        by_node.entry(node(command.path())).or_default().push(command.clone());
    }
    let (mut removals, mut makers): (Vec<_>, Vec<_>) =
        by_node.into_iter().partition(|(_, commands)| commands.iter().all(Command::is_delete));
    makers.sort_by_key(|(node, _)| need(node));
    removals.sort_by_key(|(node, _)| std::cmp::Reverse(need(node)));
    makers.into_iter().chain(removals).map(|(_, commands)| commands).collect()
}

/// The node that must not be cut.
fn node(path: &[String]) -> &[String] {
    let word = |i: usize| path.get(i).map_or("", String::as_str);
    let depth = match (word(0), word(1)) {
        ("interfaces", _) if word(3) == "vif" => 5,
        ("interfaces" | "policy", _) => 3,
        ("nat" | "nat66", _) => 4,
        ("service", "dhcp-server" | "dhcpv6-server") if word(2) == "shared-network-name" => 4,
        ("protocols", "bgp") if word(2) == "neighbor" || word(2) == "peer-group" => 4,
        ("protocols", "bfd") => 4,
        _ => 2,
    };
    &path[..depth.min(path.len())]
}

/// Lower is needed by higher.
fn need(node: &[String]) -> u8 {
    let word = |i: usize| node.get(i).map_or("", String::as_str);
    match (word(0), word(1), word(2)) {
        ("interfaces", ..) if word(3) == "vif" => 1,
        ("interfaces", "bridge", _) => 2,
        ("firewall" | "vrf" | "interfaces", ..) => 0,
        ("policy", "route-map", _) => 4,
        ("policy", ..) => 3,
        ("nat" | "nat66", ..) => 5,
        ("protocols", "bfd", _) => 6,
        ("protocols", "bgp", "neighbor") => 9,
        ("protocols", "bgp", "listen") => 9,
        ("protocols", "bgp", "peer-group") => 8,
        ("protocols", ..) => 7,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: String) -> Command {
        Command::Set { path: path.parse().unwrap(), value: None }
    }

    fn delete(path: String) -> Command {
        Command::Delete { path: path.parse().unwrap(), value: None }
    }

    #[test]
    fn little_is_one_commit_in_the_given_order() {
        let commands = [delete("b".into()), set("a".into())];
        assert_eq!(batches(&commands, Pace::default()), [commands.to_vec()]);
        assert!(batches(&[], Pace::default()).is_empty());
    }

    #[test]
    fn much_is_cut_between_nodes_and_ordered() {
        let mut commands = Vec::new();
        for i in 0..1_000 {
            commands.push(set(format!("service dhcp-server shared-network-name n{i} a")));
            commands.push(set(format!("service dhcp-server shared-network-name n{i} b")));
            commands.push(set(format!("interfaces ethernet eth1 vif {i} address")));
            commands.push(delete(format!("interfaces ethernet eth2 vif {i}")));
        }
        let cut = batches(&commands, Pace::default());
        assert!(cut.len() >= 6, "{}", cut.len());
        assert_eq!(cut.iter().map(Vec::len).sum::<usize>(), commands.len());
        assert!(cut.iter().all(|b| b.len() <= 751));
        for batch in &cut {
            for i in 0..1_000 {
                let prefix = format!("service dhcp-server shared-network-name n{i} ");
                let here = batch.iter().filter(|c| c.path().to_string().starts_with(&prefix)).count();
                assert!(here == 0 || here == 2, "n{i} was cut");
            }
        }
        assert_eq!(cut[0][0].path().to_string(), "interfaces ethernet eth1 vif 0 address");
        assert!(cut.last().unwrap().last().unwrap().is_delete());
    }

    #[test]
    fn a_fast_router_gets_larger_commits() {
        let pace = (0..10).fold(Pace::default(), |p, _| p.after(1_000, Duration::from_secs(5)));
        assert!(pace.commands_a_commit() > 10_000);
        assert_eq!(Pace::default().after(1, Duration::from_secs(9)), Pace::default());
    }
}
