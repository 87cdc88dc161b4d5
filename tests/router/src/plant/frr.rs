//! FRR in the namespace: its daemons, and the differences of its configuration, so that what did not change is not
//! touched and no session flaps for a neighbour's sake.

use std::path::{Path, PathBuf};

use super::daemon::Daemon;
use super::routing::Line;
use super::{Failure, Namespace};

/// The daemons and what they were last told.
#[derive(Debug)]
pub(super) struct Frr {
    namespace: Namespace,
    folder: PathBuf,
    daemons: Vec<Daemon>,
    told: Vec<Line>,
}

const PROGRAMS: [&str; 4] = ["zebra", "staticd", "bfdd", "bgpd"];
const PLACE: &str = "/usr/lib/frr";

impl Frr {
    pub(super) async fn start(namespace: &Namespace, folder: &Path) -> Result<Self, String> {
        let folder = folder.join("frr");
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for file in ["vtysh.conf", "none.conf"] {
            std::fs::write(folder.join(file), "").map_err(|e| format!("{file}: {e}"))?;
        }
        give_to_frr(&folder)?;
        let mut daemons = Vec::new();
        for program in PROGRAMS {
            daemons.push(start(namespace, &folder, program).await?);
        }
        Ok(Self { namespace: namespace.clone(), folder, daemons, told: Vec::new() })
    }

    pub(super) async fn stop(self) {
        // Zebra last: the others take their routes back through it.
        for daemon in self.daemons.into_iter().rev() {
            daemon.stop().await;
        }
    }

    /// Tells it what changed. What it refuses fails with the subtree that it belongs to.
    pub(super) async fn apply(&mut self, wanted: Vec<Line>) -> Vec<Failure> {
        let commands = difference(&self.told, &wanted);
        let mut failures: Vec<Failure> = Vec::new();
        for (owner, commands) in commands {
            if let Err(text) = self.configure(&commands).await {
                tracing::warn!(owner, text, ?commands, "FRR refused");
                failures.push(Failure::of(owner, text));
            }
        }
        self.told = wanted;
        failures
    }

    /// The answer to one command of the operational mode.
    pub(super) async fn ask(&self, command: &str) -> Result<String, String> {
        self.vtysh(&[command]).await
    }

    async fn configure(&self, commands: &[String]) -> Result<(), String> {
        let all: Vec<&str> =
            ["configure terminal"].into_iter().chain(commands.iter().map(String::as_str)).collect();
        let said = self.vtysh(&all).await?;
        match said
            .lines()
            .find(|line| line.starts_with('%') && !line.contains("Can't find") && !line.contains("not found"))
        {
            Some(line) => Err(line.to_owned()),
            None => Ok(()),
        }
    }

    async fn vtysh(&self, commands: &[&str]) -> Result<String, String> {
        let folder = self.folder.to_string_lossy();
        let mut arguments = vec!["--vty_socket", &folder, "--config_dir", &folder];
        commands.iter().for_each(|command| arguments.extend(["-c", command]));
        self.namespace.run("vtysh", &arguments).await
    }
}

/// The daemons drop to this user, who must be of the group `frrvty`; Debian's package sees to that.
const USER: &str = "frr";

fn give_to_frr(folder: &Path) -> Result<(), String> {
    let user = nix::unistd::User::from_name(USER).ok().flatten();
    let user = user.ok_or_else(|| format!("there is no user {USER}: is FRR installed?"))?;
    nix::unistd::chown(folder, Some(user.uid), Some(user.gid))
        .map_err(|e| format!("{}: {e}", folder.display()))
}

async fn start(namespace: &Namespace, folder: &Path, program: &str) -> Result<Daemon, String> {
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let socket = folder.join(format!("{program}.vty"));
    let log = format!("file:{}", file(&format!("{program}.log")));
    let mut arguments = vec![
        "-u".to_owned(),
        USER.to_owned(),
        "-g".to_owned(),
        USER.to_owned(),
        "-f".to_owned(),
        file("none.conf"),
        "-i".to_owned(),
        file(&format!("{program}.pid")),
        "-z".to_owned(),
        file("zserv.api"),
        "--vty_socket".to_owned(),
        folder.to_string_lossy().into_owned(),
        "-P".to_owned(),
        "0".to_owned(),
        "--log".to_owned(),
        log,
    ];
    if program == "bfdd" {
        arguments.extend(["--bfdctl".to_owned(), file("bfdd.sock")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = namespace.command(&format!("{PLACE}/{program}"), &arguments);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    Daemon::start(command, || socket.exists()).await
}

/// The commands from one configuration to another, by the subtree that they belong to: removals first, in reverse.
pub(super) fn difference(told: &[Line], wanted: &[Line]) -> Vec<(&'static str, Vec<String>)> {
    let mut batches: Vec<(&'static str, Vec<String>)> = Vec::new();
    let mut push = |owner: &'static str, commands: Vec<String>| match batches.last_mut() {
        Some((last, all)) if *last == owner => all.extend(commands),
        _ => batches.push((owner, commands)),
    };
    for line in told.iter().filter(|line| is_gone(line, told, wanted)).rev() {
        push(owner(line), removal(line));
    }
    for line in wanted.iter().filter(|line| !told.contains(line)) {
        let mut commands = line.context.clone();
        commands.extend((!line.text.is_empty()).then(|| line.text.clone()));
        commands.extend(line.context.iter().map(|_| "exit".to_owned()));
        push(owner(line), commands);
    }
    batches
}

/// Gone, and not merely given another value, which overwrites the old one; nor inside of a context that is gone.
fn is_gone(line: &Line, told: &[Line], wanted: &[Line]) -> bool {
    if wanted.contains(line) {
        return false;
    }
    let overwritten =
        wanted.iter().any(|new| new.context == line.context && slot(&new.text) == slot(&line.text));
    let outer_gone = (1..=line.context.len()).any(|depth| {
        let is_opening = line.text.is_empty() && depth == line.context.len();
        let opening = Line { context: line.context[..depth].to_vec(), text: String::new() };
        !is_opening && told.contains(&opening) && !wanted.contains(&opening)
    });
    let peer_gone = peer_of(line)
        .is_some_and(|peer| !line.text.contains(" remote-as ") && is_peer_gone(peer, told, wanted));
    (line.text.is_empty() || !overwritten) && !outer_gone && !peer_gone
}

/// Whether the neighbour or group itself goes, and with it all its lines.
fn is_peer_gone(peer: &str, told: &[Line], wanted: &[Line]) -> bool {
    let defines = |line: &Line| {
        let opening = [format!("neighbor {peer} remote-as "), format!("neighbor {peer} peer-group")];
        opening.iter().any(|opening| line.text.starts_with(opening.as_str()))
    };
    told.iter().any(|line| defines(line) && line.text.contains(" remote-as ")) && !wanted.iter().any(defines)
}

fn peer_of(line: &Line) -> Option<&str> {
    line.text.strip_prefix("neighbor ")?.split(' ').next()
}

/// Two lines of the same slot exclude each other: the later overwrites.
fn slot(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["neighbor", peer, filter @ ("prefix-list" | "route-map"), _, way] => {
            format!("neighbor {peer} {filter} {way}")
        }
        ["neighbor", peer, "timers", "connect", ..] => format!("neighbor {peer} timers connect"),
        ["neighbor", peer, "peer-group"] => format!("neighbor {peer} is a group"),
        [
            "neighbor",
            peer,
            word @ ("remote-as" | "description" | "update-source" | "ebgp-multihop" | "password" | "port"
            | "timers" | "maximum-prefix" | "weight" | "bfd"),
            ..,
        ] => format!("neighbor {peer} {word}"),
        [first @ ("receive-interval" | "transmit-interval" | "detect-multiplier" | "echo-interval"), _] => {
            (*first).to_owned()
        }
        ["bgp", "router-id", _] => "bgp router-id".to_owned(),
        ["set", what, ..] => format!("set {what}"),
        [family @ ("ip" | "ipv6"), "prefix-list", name, "seq", seq, ..] => {
            format!("{family} prefix-list {name} {seq}")
        }
        _ => text.to_owned(),
    }
}

fn removal(line: &Line) -> Vec<String> {
    if line.text.is_empty() {
        let (last, above) =
            line.context.split_last().map_or(("", &[][..]), |(last, above)| (last.as_str(), above));
        let mut commands = above.to_vec();
        // An address family cannot be removed: it is only emptied.
        commands.extend((!last.starts_with("address-family")).then(|| format!("no {last}")));
        commands.extend(above.iter().map(|_| "exit".to_owned()));
        return commands;
    }
    let mut commands = line.context.clone();
    commands.push(match (line.text.strip_prefix("no "), peer_of(line)) {
        (Some(positive), _) => positive.to_owned(),
        (None, Some(peer)) if line.text.contains(" remote-as ") => format!("no neighbor {peer}"),
        _ => format!("no {}", line.text),
    });
    commands.extend(line.context.iter().map(|_| "exit".to_owned()));
    commands
}

/// The script that the line comes from.
fn owner(line: &Line) -> &'static str {
    let first = line.context.first().map_or(line.text.as_str(), String::as_str);
    match first {
        first if first.starts_with("router bgp") => "protocols bgp",
        "bfd" => "protocols bfd",
        first if first.starts_with("ip route ") || first.starts_with("ipv6 route ") => "protocols static",
        _ => "policy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::routing::lines;
    use vyos_sync::config::parse;

    fn commands(told: &str, wanted: &str) -> Vec<String> {
        let lines = |text: &str| lines(&parse::boot(text).unwrap().tree);
        difference(&lines(told), &lines(wanted)).into_iter().flat_map(|(_, all)| all).collect()
    }

    fn bgp(neighbors: &[(&str, &str)]) -> String {
        let each =
            |(name, options): &(&str, &str)| format!("neighbor {name} {{ {options}\n remote-as 65001 }}\n");
        format!(
            "protocols {{ bgp {{ system-as 64512\n {} }} }}",
            neighbors.iter().map(each).collect::<String>()
        )
    }

    #[test]
    fn an_unchanged_neighbour_is_not_mentioned() {
        let (one, two) = (bgp(&[("10.0.0.1", "")]), bgp(&[("10.0.0.1", ""), ("10.0.0.2", "")]));
        assert!(commands(&two, &two).is_empty());
        for (from, to) in [(&one, &two), (&two, &one)] {
            let all = commands(from, to).join("\n");
            assert!(all.contains("10.0.0.2") && !all.contains("10.0.0.1"), "{all}");
        }
        assert!(commands(&two, &one).contains(&"no neighbor 10.0.0.2".to_owned()));
    }

    #[test]
    fn a_new_value_overwrites_and_a_lost_one_is_removed() {
        let (a, b) = (bgp(&[("10.0.0.1", "description a")]), bgp(&[("10.0.0.1", "description b")]));
        assert_eq!(commands(&a, &b), ["router bgp 64512", "neighbor 10.0.0.1 description b", "exit"]);
        let none = bgp(&[("10.0.0.1", "")]);
        assert_eq!(commands(&a, &none), ["router bgp 64512", "no neighbor 10.0.0.1 description a", "exit"]);
    }

    #[test]
    fn a_router_that_goes_takes_its_lines_along() {
        assert_eq!(commands(&bgp(&[("10.0.0.1", "description a")]), ""), ["no router bgp 64512"]);
    }
}
