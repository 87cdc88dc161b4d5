//! Router advertisements: radvd.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use vyos_sync::config::{Node, Tree};

use super::Namespace;
use super::daemon::{Daemon, log_says, new_log};

/// radvd's configuration, or nothing where no interface advertises.
pub(super) fn configuration(tree: &Tree) -> Option<String> {
    let mut text = String::new();
    for (name, interface) in tree.entries(&["service", "router-advert", "interface"]) {
        let _ = writeln!(text, "interface {name} {{\n  IgnoreIfMissing on;");
        write_interface(&mut text, interface);
        text.push_str("};\n");
    }
    (!text.is_empty()).then_some(text)
}

fn write_interface(text: &mut String, node: &Node) {
    let flag = |leaf: &str| if node.child(leaf).is_some() { "on" } else { "off" };
    let sends = if node.child("no-send-advert").is_some() { "off" } else { "on" };
    let _ = writeln!(text, "  AdvSendAdvert {sends};");
    let _ = writeln!(text, "  AdvManagedFlag {};", flag("managed-flag"));
    let _ = writeln!(text, "  AdvOtherConfigFlag {};", flag("other-config-flag"));
    let interval = |leaf: &str| node.at(&["interval", leaf]).and_then(Node::first);
    let longest = interval("max").and_then(|max| max.parse::<u32>().ok()).unwrap_or(600);
    let _ = writeln!(text, "  MaxRtrAdvInterval {longest};");
    // radvd wants three quarters of the longest at most, and VyOS a third of it where nothing is said.
    let shortest = interval("min").and_then(|min| min.parse::<u32>().ok()).unwrap_or(longest / 3).max(3);
    let _ = writeln!(text, "  MinRtrAdvInterval {shortest};");
    for (leaf, word) in [
        ("default-lifetime", "AdvDefaultLifetime"),
        ("default-preference", "AdvDefaultPreference"),
        ("hop-limit", "AdvCurHopLimit"),
        ("link-mtu", "AdvLinkMTU"),
        ("reachable-time", "AdvReachableTime"),
        ("retrans-timer", "AdvRetransTimer"),
    ] {
        if let Some(value) = node.text(leaf) {
            let _ = writeln!(text, "  {word} {value};");
        }
    }
    for (prefix, options) in node.child("prefix").and_then(Node::children).into_iter().flatten() {
        let off = |leaf: &str| if options.child(leaf).is_some() { "off" } else { "on" };
        let _ = writeln!(text, "  prefix {prefix} {{");
        let _ = writeln!(text, "    AdvAutonomous {};", off("no-autonomous-flag"));
        let _ = writeln!(text, "    AdvOnLink {};", off("no-on-link-flag"));
        for (leaf, word) in
            [("valid-lifetime", "AdvValidLifetime"), ("preferred-lifetime", "AdvPreferredLifetime")]
        {
            if let Some(value) = options.text(leaf) {
                let _ = writeln!(text, "    {word} {value};");
            }
        }
        text.push_str("  };\n");
    }
    let servers: Vec<_> =
        node.child("name-server").and_then(Node::values).into_iter().flatten().cloned().collect();
    if !servers.is_empty() {
        let _ = writeln!(text, "  RDNSS {} {{ }};", servers.join(" "));
    }
}

/// Starts it and waits for its first look at the interfaces.
pub(super) async fn start(
    namespace: &Namespace,
    folder: &Path,
    configuration: &str,
) -> Result<Daemon, String> {
    let (file, pid, log) = (folder.join("radvd.conf"), folder.join("radvd.pid"), folder.join("radvd.log"));
    std::fs::write(&file, configuration).map_err(|e| format!("{}: {e}", file.display()))?;
    let (file, pid) = (file.to_string_lossy(), pid.to_string_lossy());
    let words = ["-n", "-C", &file, "-p", &pid, "-m", "stderr", "-d", "1"];
    let mut command = namespace.command("radvd", &words);
    command.stdout(Stdio::null()).stderr(new_log(&log)?);
    Daemon::start(command, move || log_says(&log, "syntax ok") > 0).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyos_sync::config::parse;

    #[test]
    fn flags_and_prefixes_are_told() {
        let text = "service { router-advert { interface eth1.40 { interval { max 30\n }\n managed-flag\n \
            name-server fd00::53\n prefix fd00:40::/64 { no-autonomous-flag\n }\n }\n }\n }\n";
        let told = configuration(&parse::boot(text).unwrap().tree).unwrap();
        for line in [
            "AdvSendAdvert on;",
            "AdvManagedFlag on;",
            "AdvOtherConfigFlag off;",
            "MaxRtrAdvInterval 30;",
            "MinRtrAdvInterval 10;",
            "AdvAutonomous off;",
            "RDNSS fd00::53 { };",
        ] {
            assert!(told.contains(line), "{line} in\n{told}");
        }
        assert_eq!(configuration(&Tree::new()), None);
    }
}
