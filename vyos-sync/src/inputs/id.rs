//! Who an object is: its kind, cluster, namespace and name.

use crate::checksum::checksum;
use std::collections::BTreeMap;
use std::fmt;

/// As long as a DNS label, which a Cluster API name is too.
const LONGEST_NAME: usize = 63;

/// The Cluster API name of the cluster that an object lives in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The cluster that holds the Router objects.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the cluster that holds the Router objects.
    pub fn is_local(&self) -> bool {
        self.0 == "local"
    }
}

/// A name goes into names and descriptions on the router, so it holds letters, digits, hyphens, dots and underscores. Of
/// another one (Argo CD allows any, and an address in its place) the rest becomes hyphens, with a checksum that keeps two
/// such names apart.
impl From<&str> for ClusterName {
    fn from(name: &str) -> Self {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(fits) {
            return Self(name.to_owned());
        }
        let plain = name.chars().take(LONGEST_NAME - 9).map(|c| if fits(c) { c } else { '-' });
        Self(format!("{}-{:08x}", plain.collect::<String>(), checksum(name.as_bytes())))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! kinds {
    ($($variant:ident $group:literal $text:literal,)+) => {
        /// A kind that is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
        }

        impl Kind {
            /// The kind as it is written in a manifest.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Its API group; empty for the core.
            pub const fn group(self) -> &'static str {
                match self { $(Self::$variant => $group,)+ }
            }

            /// The kind that is written so; those that are read have different names.
            pub fn named(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The kind of an API group and kind; versions are not looked at, since every field is optional to us.
            pub fn of(group: &str, kind: &str) -> Option<Self> {
                match (group, kind) {
                    $(($group, $text) => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    Router "weir.dev" "Router",
    RouterGrant "weir.dev" "RouterGrant",
    RouterNetwork "weir.dev" "RouterNetwork",
    BgpPeering "weir.dev" "BGPPeering",
    PortPublication "weir.dev" "PortPublication",
    RouterConfig "weir.dev" "RouterConfig",
    CiliumBgpClusterConfig "cilium.io" "CiliumBGPClusterConfig",
    CiliumBgpPeerConfig "cilium.io" "CiliumBGPPeerConfig",
    CiliumBgpNodeConfig "cilium.io" "CiliumBGPNodeConfig",
    CiliumBgpNodeConfigOverride "cilium.io" "CiliumBGPNodeConfigOverride",
    CiliumBgpAdvertisement "cilium.io" "CiliumBGPAdvertisement",
    CiliumBgpPeeringPolicy "cilium.io" "CiliumBGPPeeringPolicy",
    CiliumLoadBalancerIpPool "cilium.io" "CiliumLoadBalancerIPPool",
    CiliumNode "cilium.io" "CiliumNode",
    Node "" "Node",
    Service "" "Service",
    ConfigMap "" "ConfigMap",
    Namespace "" "Namespace",
    Secret "" "Secret",
    NetworkAttachmentDefinition "k8s.cni.cncf.io" "NetworkAttachmentDefinition",
    Hardware "tinkerbell.org" "Hardware",
    VirtualMachine "kubevirt.io" "VirtualMachine",
    VirtualMachineInstance "kubevirt.io" "VirtualMachineInstance",
    CapiCluster "cluster.x-k8s.io" "Cluster",
    CapiMachine "cluster.x-k8s.io" "Machine",
    NodeDatapath "weir.dev" "NodeDatapath",
}

/// Who an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind.
    pub kind: Kind,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its namespace, for kinds that have one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.as_str())?;
        if !self.cluster.is_local() {
            write!(f, "{}:", self.cluster)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// An object: who it is, and what we need of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<T> {
    /// Who it is.
    pub id: ObjectId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The parts of it that we need.
    pub spec: T,
}

impl<T> Object<T> {
    /// Whether it has all these labels.
    pub fn has_labels(&self, wanted: &BTreeMap<String, String>) -> bool {
        wanted.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_fit_the_router() {
        let name = |text: &str| ClusterName::from(text).as_str().to_owned();
        assert_eq!(name("prod-eu.example_1"), "prod-eu.example_1");
        assert_ne!(name("prod eu"), name("prod:eu"));
        for odd in ["", "prod eu", "https://10.0.0.1:6443", "\n", &"é".repeat(90)] {
            let name = name(odd);
            assert!(name.len() <= LONGEST_NAME && !name.contains([' ', ':', '/', '\n']), "{name}");
            assert_eq!(ClusterName::from(name.as_str()).as_str(), name, "it stays as it is");
        }
    }
}
