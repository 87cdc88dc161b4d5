//! Which of the kinds that we read a cluster has, and in which version.

use std::collections::BTreeMap;

use kube::Client;
use kube::core::discovery::v2::{APIGroupDiscovery, APIGroupDiscoveryList};
use kube::core::{ApiResource, GroupVersionKind};

use super::kinds;
use crate::inputs::Kind;

/// Asks once for all groups (aggregated discovery, Kubernetes 1.27 and newer).
///
/// # Errors
/// The API server's.
pub(super) async fn discover(
    client: &Client,
    local: bool,
) -> Result<BTreeMap<Kind, ApiResource>, kube::Error> {
    let groups = client.list_api_groups_aggregated().await?;
    let mut found = served(&groups, local);
    // The core group has one version, and is never without these.
    for (kind, plural) in
        [(Kind::Node, "nodes"), (Kind::Service, "services"), (Kind::Namespace, "namespaces")]
    {
        if kinds::read_in(local).any(|read| read.kind == kind) {
            let gvk = GroupVersionKind::gvk("", "v1", kind.as_str());
            found.insert(kind, ApiResource::from_gvk_with_plural(&gvk, plural));
        }
    }
    Ok(found)
}

/// The resource behind each kind: in the first version, in the server's own order of preference, that has it.
fn served(groups: &APIGroupDiscoveryList, local: bool) -> BTreeMap<Kind, ApiResource> {
    let of = |kind: Kind| {
        let name = |group: &&APIGroupDiscovery| {
            group.metadata.as_ref().and_then(|meta| meta.name.as_deref()) == Some(kind.group())
        };
        let group = groups.items.iter().find(name)?;
        group.versions.iter().find_map(|version| {
            let named = |kind_: Option<&str>| kind_ == Some(kind.as_str());
            let resource = version.resources.iter().find(|resource| {
                named(resource.response_kind.as_ref().and_then(|gvk| gvk.kind.as_deref()))
            })?;
            let gvk = GroupVersionKind::gvk(kind.group(), version.version.as_deref()?, kind.as_str());
            Some(ApiResource::from_gvk_with_plural(&gvk, resource.resource.as_deref()?))
        })
    };
    kinds::read_in(local).filter_map(|read| Some((read.kind, of(read.kind)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_servers_own_order_of_versions_counts() {
        let resource = |plural: &str, kind: &str| json!({"resource": plural, "responseKind": {"group": "cilium.io", "version": "", "kind": kind}, "verbs": []});
        let groups = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [
            {"metadata": {"name": "cilium.io"}, "versions": [
                {"version": "v2", "resources": [resource("ciliumnodes", "CiliumNode")]},
                {"version": "v2alpha1", "resources": [resource("ciliumnodes", "CiliumNode"),
                                                       resource("ciliumloadbalancerippools", "CiliumLoadBalancerIPPool")]}]}]});
        let found = served(&serde_json::from_value(groups).unwrap(), false);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&Kind::CiliumNode].api_version, "cilium.io/v2");
        assert_eq!(found[&Kind::CiliumLoadBalancerIpPool].api_version, "cilium.io/v2alpha1");
    }
}
