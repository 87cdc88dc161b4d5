//! What a cluster says of its virtual addresses, as a folder of manifests that a test may change.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{Lab, reap};

/// A folder of manifests: one Service with endpoints, a pool, and Cilium's BGP objects for the nodes of a [`Lab`].
#[derive(Clone, Debug)]
pub struct Objects {
    /// The Service's addresses; no Service where there are none.
    pub vips: Vec<String>,
    /// Its ports, such as `5432/TCP`.
    pub ports: Vec<String>,
    /// Its externalTrafficPolicy.
    pub policy: &'static str,
    /// Nodes with a ready endpoint, from 1.
    pub endpoints: Vec<usize>,
    /// The pool's prefixes.
    pub pool: Vec<String>,
    /// Which nodes there are, from 1.
    pub nodes: Vec<usize>,
    /// Whether an advertisement selects the Service.
    pub advertised: bool,
}

/// A folder that the agent reads; it goes with this value.
#[derive(Debug)]
pub struct Manifests(PathBuf);

impl Manifests {
    /// Makes the folder and fills it.
    pub fn new(objects: &Objects) -> Result<Self> {
        Self::with_text(&objects.yaml())
    }

    /// Makes the folder with documents of the test's own.
    pub fn with_text(text: &str) -> Result<Self> {
        let folder = Path::new(reap::RUN).join(reap::unique("manifests"));
        fs::create_dir_all(&folder)?;
        let manifests = Self(folder);
        manifests.write_text(text)?;
        Ok(manifests)
    }

    /// Replaces what it holds.
    pub fn write(&self, objects: &Objects) -> Result<()> {
        self.write_text(&objects.yaml())
    }

    /// Replaces what it holds, as one file at once.
    pub fn write_text(&self, text: &str) -> Result<()> {
        let beside = self.0.join(".objects.yaml");
        fs::write(&beside, text)?;
        Ok(fs::rename(beside, self.0.join("objects.yaml"))?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Manifests {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Objects {
    fn yaml(&self) -> String {
        let mut text = String::new();
        let list = |all: Vec<String>| all.join(", ");
        if !self.vips.is_empty() {
            let ports = self.ports.iter().enumerate().map(|(at, port)| {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "TCP"));
                format!("{{name: p{at}, port: {number}, protocol: {protocol}}}")
            });
            let vips = self.vips.iter().map(|vip| format!("{{ip: \"{vip}\"}}"));
            writeln!(
                text,
                "apiVersion: v1\nkind: Service\nmetadata: {{name: orders-db, namespace: platform}}\nspec:\n  type: \
                 LoadBalancer\n  externalTrafficPolicy: {}\n  clusterIP: 10.96.0.80\n  ports: [{}]\nstatus: {{loadBalancer: \
                 {{ingress: [{}]}}}}\n---",
                self.policy,
                list(ports.collect()),
                list(vips.collect())
            )
            .ok();
        }
        let endpoints = self.endpoints.iter().map(|node| {
            format!("{{addresses: [10.0.{node}.10], nodeName: node{node}, conditions: {{ready: true}}}}")
        });
        writeln!(
            text,
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: orders-db-x, namespace: platform, \
             labels: {{kubernetes.io/service-name: orders-db}}}}\naddressType: IPv4\nendpoints: [{}]\n---",
            list(endpoints.collect())
        )
        .ok();
        let blocks = self.pool.iter().map(|prefix| format!("{{cidr: \"{prefix}\"}}"));
        writeln!(
            text,
            "apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {{name: vip}}\nspec: {{blocks: [{}]}}\n---",
            list(blocks.collect())
        )
        .ok();
        let selector = if self.advertised { "{}" } else { "{matchLabels: {no: such}}" };
        writeln!(
            text,
            "apiVersion: cilium.io/v2\nkind: CiliumBGPAdvertisement\nmetadata: {{name: vip, labels: {{advertise: vip}}}}\n\
             spec: {{advertisements: [{{advertisementType: Service, service: {{addresses: [LoadBalancerIP]}}, selector: \
             {selector}}}]}}\n---"
        )
        .ok();
        let family = |afi| {
            format!("{{afi: {afi}, safi: unicast, advertisements: {{matchLabels: {{advertise: vip}}}}}}")
        };
        writeln!(
            text,
            "apiVersion: cilium.io/v2\nkind: CiliumBGPPeerConfig\nmetadata: {{name: gateway}}\nspec: {{families: [{}, {}]}}",
            family("ipv4"),
            family("ipv6")
        )
        .ok();
        for node in &self.nodes {
            let [v4, v6] = Lab::node_addresses(node - 1);
            writeln!(
                text,
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node{node}}}\nstatus: {{addresses: [{{type: InternalIP, \
                 address: {v4}}}, {{type: InternalIP, address: \"{v6}\"}}]}}\n---\napiVersion: cilium.io/v2\nkind: \
                 CiliumBGPNodeConfig\nmetadata: {{name: node{node}}}\nspec: {{bgpInstances: [{{name: lab, localASN: 64513, \
                 peers: [{{name: gateway, peerASN: 64512, peerAddress: 10.10.30.1, peerConfigRef: {{name: gateway}}}}]}}]}}"
            )
            .ok();
        }
        text
    }
}
