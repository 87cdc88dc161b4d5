//! Namespaces with cables between them, and routers in them.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use vyos_router::{Namespace, Router};

use crate::client::Client;

/// Two namespaces with a cable between their `eth1`.
pub(crate) struct Cable {
    pub(crate) names: Vec<String>,
}

impl Cable {
    pub(crate) fn lay(test: &str) -> Option<Self> {
        Self::chain(test, 2, &[])
    }

    /// So many namespaces in a row: `eth1` of each leads to `eth1` of the next, `eth2` of the second to `eth2` of the
    /// third. Nothing where a program is missing, which is said.
    pub(crate) fn chain(test: &str, length: usize, more: &[&str]) -> Option<Self> {
        let programs = ["ip", "nft", "vtysh", "kea-dhcp4", "dnsmasq"];
        let missing = programs.iter().chain(more).find(|program| !has(program));
        let root = nix::unistd::geteuid().is_root();
        if let Some(program) = missing {
            eprintln!("SKIPPED {test}: no {program}");
            return None;
        }
        if !root {
            eprintln!("SKIPPED {test}: not root");
            return None;
        }
        let names = ["r", "p", "s"].iter().take(length);
        let cable =
            Self { names: names.map(|end| format!("weir-{test}-{end}-{}", std::process::id())).collect() };
        for name in &cable.names {
            assert!(ip(&format!("netns add {name}")), "ip netns add");
            ip(&format!("-n {name} link set lo up"));
        }
        for (at, pair) in cable.names.windows(2).enumerate() {
            let (one, other, port) = (&pair[0], &pair[1], at + 1);
            let veth = format!("-n {one} link add eth{port} type veth peer name eth{port} netns {other}");
            assert!(ip(&veth), "veth");
        }
        Some(cable)
    }

    pub(crate) fn run(&self, end: usize, command: &str) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.names[end]])
            .args(command.split(' '))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) async fn router(&self, end: usize) -> (Router, Client) {
        let namespace = Namespace::Named(self.names[end].clone());
        let router = Router::builder().namespace(namespace).spawn().await.unwrap();
        let client = Client::of(&router);
        (router, client)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&format!("netns delete {name}"));
        }
    }
}

pub(crate) fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

pub(crate) fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program} > /dev/null")])
        .status()
        .is_ok_and(|s| s.success())
}

pub(crate) fn sets(lines: &str) -> Vec<Value> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let words = |line: &str| line.split(' ').map(|word| word.replace('~', " ")).collect::<Vec<_>>();
    lines.map(|line| json!({"op": "set", "path": words(line)})).collect()
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
