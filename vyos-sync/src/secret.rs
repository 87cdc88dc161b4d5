//! Which leaves of a router's configuration are secrets, and how they are kept out of what people read.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

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

/// Replaces API keys and logins, which are never ours, by a fingerprint: an edit is still seen, the value is not kept.
/// Other secrets stay, since they must be compared with what they should be; [`Seal`] keeps them out of files.
pub fn masked(mut tree: Tree) -> Tree {
    let strangers =
        |path: &ConfigPath| path.begins(&["service", "https"]) || path.begins(&["system", "login"]);
    for leaf in tree.leaves().into_iter().filter(|leaf| is_secret(&leaf.path) && strangers(&leaf.path)) {
        let digest = Sha256::digest(leaf.value.unwrap_or_default());
        // The path is a leaf of this very tree, so it can be set.
        let _ = tree.set(&leaf.path, format!("sha256:{}", hex(&digest[..8])));
    }
    tree
}

/// The key under which secrets are remembered: as digests (HMAC-SHA256, RFC 2104) that tell whether a value is the one
/// that was, and nothing more to whoever lacks the key.
#[derive(Clone)]
pub struct Seal([u8; 32]);

/// A sealed value begins so.
const SEALED: &str = "hmac-sha256:";

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// A seal with this key, which should be random.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The tree with a digest in place of every secret. What is a digest already stays.
    #[must_use]
    pub fn close(&self, tree: &Tree) -> Tree {
        let mut closed = tree.clone();
        for (path, value) in secrets(tree).filter(|(_, value)| !is_sealed(value)) {
            swap(&mut closed, &path, &value, &self.digest(&value));
        }
        closed
    }

    /// The tree with the secrets that are known elsewhere in place of their digests. A digest of none of them stays: it
    /// is not what is there now, and that is all that has to be known of it.
    #[must_use]
    pub fn open(&self, tree: &Tree, known: &[&Tree]) -> Tree {
        let mut open = tree.clone();
        let sealed: Vec<_> = secrets(tree).filter(|(_, value)| is_sealed(value)).collect();
        if sealed.is_empty() {
            return open;
        }
        let values =
            known.iter().flat_map(|tree| secrets(tree)).map(|(_, value)| (self.digest(&value), value));
        let values: BTreeMap<String, String> = values.collect();
        for (path, digest) in sealed {
            if let Some(value) = values.get(&digest) {
                swap(&mut open, &path, &digest, value);
            }
        }
        open
    }

    fn digest(&self, value: &str) -> String {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return SEALED.to_owned() };
        mac.update(value.as_bytes());
        format!("{SEALED}{}", hex(&mac.finalize().into_bytes()))
    }
}

fn secrets(tree: &Tree) -> impl Iterator<Item = (ConfigPath, String)> {
    let leaves = tree.leaves().into_iter().filter(|leaf| is_secret(&leaf.path));
    leaves.filter_map(|leaf| Some((leaf.path, leaf.value?)))
}

fn swap(tree: &mut Tree, path: &ConfigPath, old: &str, new: &str) {
    tree.remove_value(path, old);
    // The path was a leaf of this very tree, so it can be one again.
    let _ = tree.add(path, new);
}

fn is_sealed(value: &str) -> bool {
    let digest = value.strip_prefix(SEALED);
    digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
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

    const PASSWORD: &str = "protocols bgp neighbor 10.0.0.1 password";

    fn tree(path: &str, value: &str) -> Tree {
        let mut tree = Tree::new();
        tree.set(&path.parse().unwrap(), value).unwrap();
        tree.set(&"system host-name".parse().unwrap(), "gw").unwrap();
        tree
    }

    #[test]
    fn what_is_sealed_is_known_again_and_not_told() {
        let (seal, plain) = (Seal::new([1; 32]), tree(PASSWORD, "hunter2"));
        let closed = seal.close(&plain);
        assert!(!format!("{closed:?}").contains("hunter2"));
        assert!(format!("{closed:?}").contains("gw"), "what is no secret stays");
        assert_eq!(seal.close(&closed), closed, "sealed once is sealed");
        // The value may be known from another place, and the place may be spelt otherwise.
        let elsewhere = tree("protocols bgp neighbor 10.0.0.2 password", "hunter2");
        assert_eq!(seal.open(&closed, &[&Tree::new(), &elsewhere]), plain);
        assert_eq!(seal.open(&closed, &[&tree(PASSWORD, "other")]), closed);
        assert_eq!(Seal::new([2; 32]).open(&closed, &[&plain]), closed, "another key tells nothing");
        assert_ne!(Seal::new([2; 32]).close(&plain), closed);
    }

    #[test]
    fn a_password_that_looks_like_a_digest_is_still_compared() {
        let seal = Seal::new([1; 32]);
        let odd = tree(PASSWORD, "hmac-sha256:abc");
        let closed = seal.close(&odd);
        assert_ne!(closed, odd, "too short for a digest: it is sealed");
        assert_eq!(seal.open(&closed, &[&odd]), odd);
    }

    #[test]
    fn secrets_of_raw_configuration_stay_comparable() {
        let wireguard = tree("interfaces wireguard wg0 private-key", "c2VjcmV0");
        assert_eq!(masked(wireguard.clone()), wireguard);
        assert!(!hidden(&wireguard).leaves().iter().any(|leaf| leaf.value.as_deref() == Some("c2VjcmV0")));
    }
}
