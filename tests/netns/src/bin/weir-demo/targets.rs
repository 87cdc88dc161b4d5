//! Where a Prometheus finds the demo: a file of targets (`file_sd_configs`), written where `DEMO_TARGETS` says.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_netns::objects::{Manifests, Objects};
use weir_netns::topology::{VIP4, VIP6};

/// The file that is asked for, if any.
pub(crate) fn wanted() -> Option<PathBuf> {
    std::env::var_os("DEMO_TARGETS").map(PathBuf::from)
}

/// What a cluster would say of the virtual addresses, for the dashboards alone: the agents then look for contradictions.
pub(crate) fn objects() -> Result<Option<Manifests>> {
    let objects = || Objects {
        vips: vec![VIP4.to_owned(), VIP6.to_owned()],
        ports: vec!["5432/TCP".to_owned()],
        policy: "Cluster",
        endpoints: vec![1, 2, 3],
        pool: vec!["10.10.50.0/24".to_owned(), "fd10:10:50::/64".to_owned()],
        nodes: vec![1, 2, 3],
        advertised: true,
    };
    wanted().map(|_| Manifests::new(&objects())).transpose()
}

/// Write the agents and vyos-sync as targets. `cluster` and `node` are target labels, as in a real cluster: no metric of
/// ours carries them.
pub(crate) fn write(file: &Path, agents: &[SocketAddr], sync: SocketAddr) -> Result<()> {
    let agent = |(index, place): (usize, &SocketAddr)| {
        let labels = json!({"job": "weir-agent", "cluster": "demo", "node": format!("node{}", index + 1)});
        json!({"targets": [place.to_string()], "labels": labels})
    };
    let mut groups: Vec<Value> = agents.iter().enumerate().map(agent).collect();
    let labels = json!({"job": "vyos-sync", "cluster": "demo"});
    groups.push(json!({"targets": [sync.to_string()], "labels": labels}));
    // Prometheus watches the file: it must never see half of it.
    let part = file.with_extension("part");
    fs::write(&part, serde_json::to_vec_pretty(&groups)?)
        .with_context(|| format!("write {}", part.display()))?;
    fs::rename(&part, file).with_context(|| format!("write {}", file.display()))
}
