//! DHCP relays: ISC dhcrelay, once for each family, as on the real router.

use std::path::Path;
use std::process::Stdio;

use vyos_sync::config::{Node, Tree};

use super::Namespace;
use super::daemon::{Daemon, log_says, new_log};

/// The arguments for IPv4, one a line; nothing where no server is named.
pub(super) fn arguments4(tree: &Tree) -> Option<String> {
    let relay = tree.at(&["service", "dhcp-relay"]).filter(|relay| relay.child("disable").is_none())?;
    let servers: Vec<_> = values(relay, "server").collect();
    if servers.is_empty() {
        return None;
    }
    let option = |leaf: &str| relay.child("relay-options").and_then(|options| options.text(leaf));
    let mut all = vec!["-4".to_owned(), "-a".to_owned()];
    for (flag, leaf, default) in
        [("-c", "hop-count", "10"), ("-A", "max-size", "576"), ("-m", "relay-agents-packets", "forward")]
    {
        all.extend([flag.to_owned(), option(leaf).unwrap_or(default).to_owned()]);
    }
    for (flag, leaf) in [("-i", "interface"), ("-id", "listen-interface"), ("-iu", "upstream-interface")] {
        all.extend(values(relay, leaf).flat_map(|name| [flag.to_owned(), name.clone()]));
    }
    all.extend(servers.into_iter().cloned());
    Some(all.join("\n"))
}

/// The arguments for IPv6, one a line; nothing where no server is named.
pub(super) fn arguments6(tree: &Tree) -> Option<String> {
    let relay = tree.at(&["service", "dhcpv6-relay"]).filter(|relay| relay.child("disable").is_none())?;
    let mut all = vec!["-6".to_owned()];
    for (name, listen) in children(relay, "listen-interface") {
        let address = listen.text("address").map(|address| format!("{address}%")).unwrap_or_default();
        all.extend(["-l".to_owned(), format!("{address}{name}")]);
    }
    let before = all.len();
    for (name, upstream) in children(relay, "upstream-interface") {
        all.extend(values(upstream, "address").flat_map(|to| ["-u".to_owned(), format!("{to}%{name}")]));
    }
    (all.len() > before).then(|| all.join("\n"))
}

/// Starts it and waits until it has all its sockets.
pub(super) async fn start(namespace: &Namespace, folder: &Path, arguments: &str) -> Result<Daemon, String> {
    let four = arguments.starts_with("-4");
    let log = folder.join(if four { "relay4.log" } else { "relay6.log" });
    let mut words = vec!["-d", "--no-pid"];
    words.extend(arguments.lines());
    let mut command = namespace.command("dhcrelay", &words);
    let file = new_log(&log)?;
    command.stdout(Stdio::null()).stderr(file);
    // The last line before it serves: the fallback socket, or for IPv6 one line for each interface.
    let last = if four { "Socket/fallback" } else { "Sending on" };
    let interfaces = arguments.lines().filter(|word| matches!(*word, "-l" | "-u")).count();
    let lines = if four { 1 } else { interfaces.max(1) };
    Daemon::start(command, move || log_says(&log, last) >= lines).await
}

fn values<'a>(node: &'a Node, leaf: &str) -> impl Iterator<Item = &'a String> {
    node.child(leaf).and_then(Node::values).into_iter().flatten()
}

fn children<'a>(node: &'a Node, tag: &str) -> impl Iterator<Item = (&'a String, &'a Node)> {
    node.child(tag).and_then(Node::children).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyos_sync::config::parse;

    #[test]
    fn the_arguments_are_those_of_the_real_router() {
        let text = "service { dhcp-relay { listen-interface eth1.40\n server 10.9.0.1\n upstream-interface eth0\n }\n\
            dhcpv6-relay { listen-interface eth1.40 { }\n upstream-interface eth0 { address fd00::1\n address fd00::2\n }\n }\n }\n";
        let tree = parse::boot(text).unwrap().tree;
        let four = "-4 -a -c 10 -A 576 -m forward -id eth1.40 -iu eth0 10.9.0.1";
        assert_eq!(arguments4(&tree).unwrap().replace('\n', " "), four);
        let six = "-6 -l eth1.40 -u fd00::1%eth0 -u fd00::2%eth0";
        assert_eq!(arguments6(&tree).unwrap().replace('\n', " "), six);
        assert_eq!((arguments4(&Tree::new()), arguments6(&Tree::new())), (None, None));
    }
}
