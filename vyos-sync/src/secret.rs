//! Which leaves of a router's configuration are secrets, and how they are kept out of what people read.

use crate::config::{Command, ConfigPath, Tree};

/// Last words of paths whose value is a secret, in any VyOS release read so far.
const NAMES: [&str; 12] = [
    "password",
    "plaintext-password",
    "encrypted-password",
    "pre-shared-secret",
    "shared-secret",
    "secret",
    "psk",
    "passphrase",
    "private-key",
    "private",
    "md5-key",
    "community-key",
];

/// Whether the value at this path is a secret.
pub fn is_secret(path: &[String]) -> bool {
    let Some((last, above)) = path.split_last() else { return false };
    let of_a_key =
        last == "key" && above.iter().any(|w| matches!(w.as_str(), "api" | "tsig" | "md5" | "wep"));
    of_a_key || NAMES.contains(&last.as_str())
}

/// The command as people may read it.
pub fn redacted(command: &Command) -> Command {
    let hidden = |path: &ConfigPath, value: &Option<String>| {
        (
            path.clone(),
            value.as_ref().map(|v| if is_secret(path) { "[hidden]".to_owned() } else { v.clone() }),
        )
    };
    match command {
        Command::Set { path, value } => {
            let (path, value) = hidden(path, value);
            Command::Set { path, value }
        }
        Command::Delete { path, value } => {
            let (path, value) = hidden(path, value);
            Command::Delete { path, value }
        }
    }
}

/// The secrets that these commands carry.
pub fn of_commands(commands: &[Command]) -> Vec<String> {
    let secret = commands.iter().filter(|c| is_secret(c.path()));
    secret.filter_map(|c| c.value().map(str::to_owned)).collect()
}

/// Replaces the secrets that are none of ours (API keys, logins) by a fingerprint: an edit is still seen, the value is
/// not kept. BGP passwords stay, since they must be compared with what they should be.
pub fn masked(mut tree: Tree) -> Tree {
    use sha2::{Digest, Sha256};
    let strangers =
        tree.leaves().into_iter().filter(|leaf| is_secret(&leaf.path) && !leaf.path.begins(&["protocols"]));
    for leaf in strangers.collect::<Vec<_>>() {
        let digest = Sha256::digest(leaf.value.unwrap_or_default());
        let mask: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        // The path is a leaf of this very tree, so it can be set.
        let _ = tree.set(&leaf.path, format!("sha256:{mask}"));
    }
    tree
}

/// The tree as people may read it: every secret is hidden.
pub fn hidden(tree: &Tree) -> Tree {
    let mut shown = tree.clone();
    for leaf in tree.leaves().into_iter().filter(|leaf| is_secret(&leaf.path)) {
        // The path is a leaf of this very tree, so it can be set.
        let _ = shown.set(&leaf.path, "[hidden]");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &str, value: &str) -> Command {
        Command::Set { path: path.parse().unwrap(), value: Some(value.to_owned()) }
    }

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        let command = set("protocols bgp neighbor 10.0.0.1 password", "hunter2");
        assert_eq!(redacted(&command).to_string(), "set protocols bgp neighbor 10.0.0.1 password '[hidden]'");
        assert_eq!(of_commands(&[command]), ["hunter2"]);
        let plain = set("protocols bgp neighbor 10.0.0.1 description", "password");
        assert_eq!(redacted(&plain), plain);
        assert!(is_secret(set("service https api keys id ctl key", "x").path()));
    }

    #[test]
    fn strangers_secrets_become_fingerprints() {
        let mut tree = Tree::new();
        let key: ConfigPath = "service https api keys id ctl key".parse().unwrap();
        tree.set(&key, "EXAMPLE-KEY").unwrap();
        let one = masked(tree.clone());
        assert!(!format!("{one:?}").contains("EXAMPLE-KEY"));
        tree.set(&key, "OTHER").unwrap();
        assert_ne!(one, masked(tree));
    }
}
