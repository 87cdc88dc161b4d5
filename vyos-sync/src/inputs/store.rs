//! What a store of secrets (OpenBAO) holds for us, and how it answers. Which entries are read follows from the objects that
//! name them, and an object can name none but its own namespace's.

use std::collections::{BTreeMap, BTreeSet};

use super::{Inputs, Secret, SecretBytes};
use crate::crd::{PasswordRef, SecretStore};

/// An entry of the store, by its path below our prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry(String);

impl Entry {
    /// The entry of a router's API key, `routers/NAME`; none where that is no plain name.
    pub fn of_router(name: &str) -> Option<Self> {
        is_plain(name).then(|| Self(format!("routers/{name}")))
    }

    /// The entry of a password of BGP peers, `bgp/NAMESPACE/NAME`; none where one is no plain name.
    pub fn of_peers(namespace: &str, name: &str) -> Option<Self> {
        (is_plain(namespace) && is_plain(name)).then(|| Self(format!("bgp/{namespace}/{name}")))
    }

    /// The path below our prefix.
    pub fn path(&self) -> &str {
        &self.0
    }
}

/// A name that stays one part of a path, whoever reads the path.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=253).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.')
}

/// What is known of the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Entries as they were read last.
    pub entries: BTreeMap<Entry, Secret>,
    /// How it answers; nothing where there is no store, or nothing is wanted of it.
    pub state: Option<StoreState>,
}

/// How the store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// Everything that is wanted was read.
    Answers,
    /// It does not. What was read before stays in force.
    Kept {
        /// One word.
        reason: &'static str,
        /// What is the matter, and the way out.
        text: String,
    },
}

impl Inputs {
    /// The value of one key of an entry of the store.
    pub fn stored(&self, entry: &Entry, key: &str) -> Option<&SecretBytes> {
        self.store.entries.get(entry)?.0.get(key)
    }

    /// The entries that objects name.
    pub fn wanted_of_store(&self) -> BTreeSet<Entry> {
        let keys = self
            .routers
            .iter()
            .filter_map(|router| Entry::of_router(&router.spec.api_key.open_bao.as_ref()?.name));
        let passwords = self.peerings.iter().filter_map(|peering| {
            let PasswordRef { name, store: SecretStore::OpenBAO, .. } = peering.spec.password_ref.as_ref()?
            else {
                return None;
            };
            Entry::of_peers(peering.id.namespace.as_deref()?, name)
        });
        keys.chain(passwords).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_place() {
        let path = |namespace, name| Entry::of_peers(namespace, name).map(|entry| entry.path().to_owned());
        assert_eq!(path("media", "bgp").as_deref(), Some("bgp/media/bgp"));
        for name in ["", ".", "..", "../other/bgp", "a/b", "a%2fb", "a b", "a?b", "a#b", "a\\b", "ä"] {
            assert_eq!((path("media", name), path(name, "bgp")), (None, None), "{name}");
            assert!(Entry::of_router(name).is_none(), "{name}");
        }
    }
}
