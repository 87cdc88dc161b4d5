//! The program as a person runs it, without a router: what it prints, and its exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const MANIFESTS: &str = "
apiVersion: weir.dev/v1alpha1
kind: Router
metadata: {name: gw}
spec: {endpoints: ['https://192.0.2.1'], tls: {caFile: ca.pem}, apiKey: {file: key}, mode: Sync, drift: Revert, \
                         grants: Open, bgp: {asn: 64512}}
---
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: nodes, namespace: lab}
spec: {routerRef: {name: gw}, vlan: 30, parent: {name: eth1}, subnets: [{cidr: 10.10.30.0/24}]}
---
apiVersion: weir.dev/v1alpha1
kind: BGPPeering
metadata: {name: node, namespace: lab}
spec: {routerRef: {name: gw}, peerASN: 64513, peers: [{name: a, address: 10.10.30.10}], accept: [{prefix: 10.99.0.0/16}], \
                         passwordRef: {name: bgp}}
---
apiVersion: v1
kind: Secret
metadata: {name: bgp, namespace: lab}
stringData: {password: correct-horse}
";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.0.path().join("source")).unwrap();
        place.say("source/all.yaml", MANIFESTS);
        place
    }

    fn say(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = program(self.0.path()).args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vyos-sync"));
    command.current_dir(folder).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

#[test]
fn plan_ends_with_two_for_changes_with_none_for_none_and_with_one_for_errors() {
    let place = Place::new();
    place.say("empty.boot", "system { host-name gw\n }\n");
    let (code, planned, _) = place.run(&["plan", "--source", "source", "--against", "empty.boot"]);
    assert_eq!(code, 2, "{planned}");
    assert!(planned.contains("set interfaces ethernet eth1 vif 30 address 10.10.30.1/24"), "{planned}");
    assert!(planned.contains("[hidden]") && !planned.contains("correct-horse"), "{planned}");
    let (code, block, _) = place.run(&["render", "--source", "source", "--form", "block", "--with-secrets"]);
    assert_eq!(code, 0);
    place.say("full.boot", &block);
    let (code, planned, _) = place.run(&["plan", "--source", "source", "--against", "full.boot"]);
    assert_eq!(code, 0, "{planned}");
    let (code, _, said) = place.run(&["plan", "--source", "source", "--against", "nowhere.boot"]);
    assert_eq!(code, 1);
    assert!(said.contains("nowhere.boot"), "{said}");
    let (code, _, said) = place.run(&["plan", "--source", "nowhere", "--against", "empty.boot"]);
    assert_eq!(code, 1);
    assert!(said.contains("no Router"), "{said}");
}

#[test]
fn json_is_json_and_tells_no_secret() {
    let place = Place::new();
    place.say("empty.boot", "system { host-name gw\n }\n");
    for words in [
        &["plan", "--source", "source", "--against", "empty.boot", "-o", "json"][..],
        &["validate", "--source", "source", "-o", "json"],
        &["doctor", "--source", "source", "--against", "empty.boot", "-o", "json"],
        &["import", "--against", "empty.boot", "-o", "json"],
        &["render", "--source", "source", "--form", "json"],
    ] {
        let (code, out, said) = place.run(words);
        assert!(code != 1 || words[0] == "doctor", "{words:?}: {said}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap_or_else(|e| panic!("{words:?}: {e}: {out}"));
        assert!(!out.contains("correct-horse") && !said.contains("correct-horse"), "{words:?}");
    }
}

#[test]
fn what_is_imported_is_a_manifest_that_validates() {
    let place = Place::new();
    let (_, block, _) = place.run(&["render", "--source", "source", "--form", "block", "--with-secrets"]);
    place.say("router.boot", &block);
    let (code, manifests, _) =
        place.run(&["import", "--against", "router.boot", "--router", "gw", "--namespace", "lab"]);
    assert_eq!(code, 0);
    assert!(!manifests.contains("correct-horse"), "{manifests}");
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: node-bgp, namespace: lab}\nstringData: {password: correct-horse}\n";
    place.say("imported/all.yaml", &format!("{manifests}{secret}"));
    let (code, said, _) = place.run(&["validate", "--source", "imported"]);
    assert_eq!(code, 0, "{said}\n{manifests}");
    let (code, planned, _) = place.run(&["plan", "--source", "imported", "--against", "router.boot"]);
    assert_eq!(code, 0, "nothing is left to do: {planned}\n{manifests}");
}

#[test]
fn doctor_reads_documents() {
    let place = Place::new();
    place.say("docs/net.md", "# Network\n\n| VLAN | Subnet |\n|--|--|\n| 30 | 10.10.31.0/24 |\n");
    let words = ["doctor", "--source", "source", "--against", "all.boot", "--documents", "docs"];
    let (_, block, _) = place.run(&["render", "--source", "source", "--form", "block", "--with-secrets"]);
    place.say("all.boot", &block);
    let (code, said, _) = place.run(&words);
    assert_eq!(code, 1);
    assert!(
        said.contains("net.md:5: VLAN 30 has 10.10.31.0/24, but the objects say 10.10.30.1/24"),
        "{said}"
    );
    place.say("docs/net.md", "VLAN 30 is 10.10.30.0/24\n");
    let (code, said, _) = place.run(&words);
    assert_eq!((code, said.trim()), (0, "no contradictions found"));
    let (code, _, said) =
        place.run(&["doctor", "--source", "source", "--against", "all.boot", "--documents", "nowhere"]);
    assert_eq!(code, 1);
    assert!(said.contains("documents nowhere"), "{said}");
}

#[test]
fn a_router_must_be_named_where_there_are_several() {
    let place = Place::new();
    place
        .say("source/other.yaml", &MANIFESTS.split("---").next().unwrap().replace("name: gw", "name: other"));
    let (code, _, said) = place.run(&["validate", "--source", "source"]);
    assert_eq!(code, 1);
    assert!(said.contains("--router: gw, other"), "{said}");
    let (code, said, _) = place.run(&["validate", "--source", "source", "--router", "gw"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_running_process_dumps_no_core() {
    let place = Place::new();
    let mut child = program(place.0.path());
    child.args(["run", "--source", "source", "--state-dir", "state"]).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut said = String::new();
    let stderr = child.stderr.take().unwrap();
    // The router of the manifests is not there, so it says so; by then it has begun.
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut said).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{said}");
}

#[test]
fn how_a_router_is_reached_is_judged_without_it() {
    let place = Place::new();
    for (from, to, named) in [
        ("https://192.0.2.1", "http://192.0.2.1", "spec.endpoints"),
        ("caFile: ca.pem", "spkiPins: [AAAA]", "`AAAA` is no SPKI pin"),
        ("caFile: ca.pem", "caBundle: no PEM", "spec.tls"),
        ("mode: Sync", "protectedPath: [service], mode: Sync", "spec.protectedPath is no field"),
    ] {
        place.say("source/all.yaml", &MANIFESTS.replace(from, to));
        let (code, said, warned) = place.run(&["validate", "--source", "source"]);
        assert!(code == 1 && format!("{said}{warned}").contains(named), "{to}: {code} {said}{warned}");
    }
}
