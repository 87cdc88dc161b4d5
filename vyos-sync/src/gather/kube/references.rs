//! Which Secrets are named by the objects: only these are read.

use std::collections::BTreeSet;

use crate::crd::SecretStore;
use crate::inputs::{ClusterName, Inputs};

/// A Secret by cluster, namespace and name.
pub(super) type SecretName = (ClusterName, String, String);

/// The namespace in which Cilium keeps its BGP passwords.
const CILIUM_SECRETS: &str = "kube-system";

/// All that are named.
pub(super) fn references(inputs: &Inputs) -> BTreeSet<SecretName> {
    let keys = inputs.routers.iter().filter_map(|router| {
        let named = router.spec.api_key.secret_ref.as_ref()?;
        Some((ClusterName::local(), named.namespace.clone(), named.name.clone()))
    });
    let passwords = inputs.peerings.iter().filter_map(|peering| {
        let named = peering.spec.password_ref.as_ref().filter(|named| named.store == SecretStore::Secret)?;
        Some((peering.id.cluster.clone(), peering.id.namespace.clone()?, named.name.clone()))
    });
    let theirs = inputs.bgp_peer_configs.iter().filter_map(|config| {
        let named = config.spec.auth_secret_ref.as_ref()?;
        Some((config.id.cluster.clone(), CILIUM_SECRETS.to_owned(), named.clone()))
    });
    keys.chain(passwords).chain(theirs).collect()
}
