//! DNS forwarding with host entries: dnsmasq.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use vyos_sync::config::{Node, Tree};

use super::Namespace;
use super::daemon::Daemon;

/// dnsmasq's configuration, or nothing where it does not listen.
pub(super) fn configuration(tree: &Tree) -> Option<String> {
    let forwarding = tree.at(&["service", "dns", "forwarding"])?;
    let mut text = String::from("no-resolv\nno-hosts\nbind-dynamic\nkeep-in-foreground\n");
    for address in values(forwarding, "listen-address") {
        let _ = writeln!(text, "listen-address={address}");
    }
    for (server, _) in forwarding.child("name-server").and_then(Node::children).into_iter().flatten() {
        let _ = writeln!(text, "server={server}");
    }
    for server in values(forwarding, "name-server") {
        let _ = writeln!(text, "server={server}");
    }
    for (name, host) in tree.entries(&["system", "static-host-mapping", "host-name"]) {
        let names: Vec<_> = std::iter::once(name).chain(values(host, "alias")).cloned().collect();
        for address in values(host, "inet") {
            let _ = writeln!(text, "host-record={},{address}", names.join(","));
        }
    }
    Some(text)
}

/// Starts it and waits for its pid file.
pub(super) async fn start(
    namespace: &Namespace,
    folder: &Path,
    configuration: &str,
) -> Result<Daemon, String> {
    let (file, pid) = (folder.join("dnsmasq.conf"), folder.join("dnsmasq.pid"));
    std::fs::write(&file, configuration).map_err(|e| format!("{}: {e}", file.display()))?;
    let _ = std::fs::remove_file(&pid);
    let (file, pid_file) =
        (format!("--conf-file={}", file.display()), format!("--pid-file={}", pid.display()));
    let mut command = namespace.command("dnsmasq", &[&file, &pid_file, "--user=root"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Daemon::start(command, || pid.exists()).await
}

fn values<'a>(node: &'a Node, leaf: &str) -> impl Iterator<Item = &'a String> {
    node.child(leaf).and_then(Node::values).into_iter().flatten()
}
