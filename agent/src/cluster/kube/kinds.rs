//! Which kinds are read, and what of each.

use super::{Objects, Wanted};
use crate::model::policy::kind::KIND;

/// A kind that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Its name.
    pub(super) name: &'static str,
    /// The name by which its objects are kept and told of; another one for other objects of the same kind.
    pub(super) told: &'static str,
    /// Its group.
    pub(super) group: &'static str,
    /// The versions that can be read, the best first.
    pub(super) versions: &'static [&'static str],
    /// Its name in paths.
    pub(super) plural: &'static str,
    /// Which objects.
    pub(super) which: Which,
}

/// What the server is asked to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Nothing.
    All,
    /// All but the object of the node's name.
    OwnName,
    /// All but Pods of this node that have not ended.
    OwnPods,
    /// All but Pods of other nodes that have not ended.
    OtherPods,
    /// All but load balancers.
    Balancers,
    /// Slices of headless Services, which have no address of their own.
    WithAddress,
}

const fn cilium(name: &'static str, plural: &'static str, which: Which) -> Kind {
    Kind { name, told: name, group: "cilium.io", versions: &["v2", "v2alpha1"], plural, which }
}

const fn core(name: &'static str, plural: &'static str, which: Which) -> Kind {
    Kind { name, told: name, group: "", versions: &["v1"], plural, which }
}

const NODE: Kind = core("Node", "nodes", Which::OwnName);
pub(super) const POD: Kind = core("Pod", "pods", Which::OwnPods);
/// Followed only on a node with Pods in Istio's ambient mesh: with whom they speak may be enrolled, too.
pub(super) const OTHER_POD: Kind =
    Kind { told: "Pod of another node", ..core("Pod", "pods", Which::OtherPods) };

/// Virtual machines that move: only their objects tell the ports.
pub(super) const MACHINE: Kind = Kind {
    name: "VirtualMachineInstance",
    told: "VirtualMachineInstance",
    group: "kubevirt.io",
    versions: &["v1"],
    plural: "virtualmachineinstances",
    which: Which::All,
};

/// What virtual addresses depend on, and what Harvester says of links.
const OBJECTS: [Kind; 9] = [
    core("Service", "services", Which::Balancers),
    Kind {
        name: "EndpointSlice",
        told: "EndpointSlice",
        group: "discovery.k8s.io",
        versions: &["v1"],
        plural: "endpointslices",
        which: Which::WithAddress,
    },
    cilium("CiliumLoadBalancerIPPool", "ciliumloadbalancerippools", Which::All),
    cilium("CiliumBGPAdvertisement", "ciliumbgpadvertisements", Which::All),
    cilium("CiliumBGPPeerConfig", "ciliumbgppeerconfigs", Which::All),
    cilium("CiliumBGPNodeConfig", "ciliumbgpnodeconfigs", Which::OwnName),
    cilium("CiliumBGPClusterConfig", "ciliumbgpclusterconfigs", Which::All),
    cilium("CiliumL2AnnouncementPolicy", "ciliuml2announcementpolicies", Which::All),
    Kind {
        name: "LinkMonitor",
        told: "LinkMonitor",
        group: "network.harvesterhci.io",
        versions: &["v1beta1"],
        plural: "linkmonitors",
        which: Which::All,
    },
];

/// What is enforced.
pub(super) const POLICY: Kind = Kind {
    name: KIND,
    told: KIND,
    group: "weir.dev",
    versions: &["v1alpha1"],
    plural: "datapathpolicies",
    which: Which::All,
};

/// The kinds that are read.
pub(super) fn read(wanted: &Wanted) -> Vec<Kind> {
    let objects = (wanted.objects == Objects::Api).then_some(OBJECTS);
    let policies = wanted.policies.as_ref().map(|_| POLICY);
    [NODE, POD, MACHINE].into_iter().chain(objects.into_iter().flatten()).chain(policies).collect()
}

impl Which {
    /// The field selector.
    pub(super) fn fields(self, node: &str) -> Option<String> {
        match self {
            Which::OwnName => Some(format!("metadata.name={node}")),
            Which::OwnPods => {
                Some(format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"))
            }
            Which::OtherPods => {
                Some(format!("spec.nodeName!={node},status.phase!=Succeeded,status.phase!=Failed"))
            }
            Which::Balancers => Some("spec.type=LoadBalancer".to_owned()),
            Which::All | Which::WithAddress => None,
        }
    }

    /// The label selector; kube-proxy has the same.
    pub(super) fn labels(self) -> Option<&'static str> {
        (self == Which::WithAddress).then_some("!service.kubernetes.io/headless")
    }
}
