//! The rules against what the real scripts said: the recorded exchanges, where they are at hand, and cases of our own.

use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::config::{Command, Schema, parse};

fn tree(lines: &str, dialect: Dialect) -> Tree {
    parse::set_lines(lines, Schema::built_in(dialect)).unwrap()
}

fn texts(lines: &str) -> Vec<String> {
    check(&tree(lines, Dialect::V1_5), Dialect::V1_5).into_iter().map(|violation| violation.text).collect()
}

#[test]
fn wraps_as_the_scripts_do() {
    let text = "None of the configured subnets have an appropriate primary IP address on any broadcast interface configured, nor was there an explicit listen-address configured for serving DHCP relay packets!";
    let want = "None of the configured subnets have an appropriate primary IP address on\nany broadcast interface configured, nor was there an explicit listen-\naddress configured for serving DHCP relay packets!";
    assert_eq!(wrap(text), want);
}

#[test]
fn dhcp_needs_sound_ranges_and_mappings() {
    let base = "interfaces ethernet eth5 vif 20 address 10.0.20.1/24\n";
    let subnet = "service dhcp-server shared-network-name A subnet 10.0.20.0/24";
    let case = |lines: &[&str]| {
        texts(&lines.iter().fold(base.to_owned(), |all, line| format!("{all}{subnet} {line}\n")))
    };
    let id = "subnet-id 20";
    assert_eq!(case(&[id, "range a start 10.0.20.10", "range a stop 10.0.20.20"]), [""; 0]);
    assert_eq!(case(&[id]), ["subnet 10.0.20.0/24 needs a range or a static-mapping"]);
    assert_eq!(
        case(&["range a start 10.0.20.10", "range a stop 10.0.20.20"]),
        ["subnet 10.0.20.0/24 needs a subnet-id"]
    );
    assert_eq!(
        case(&[id, "range a start 10.0.20.10"]),
        ["range a of subnet 10.0.20.0/24 needs both start and stop"]
    );
    assert_eq!(
        case(&[id, "range a start 10.0.20.10", "range a stop 10.0.21.20"]),
        ["range a (10.0.20.10 to 10.0.21.20) is not inside subnet 10.0.20.0/24"]
    );
    let two = [
        id,
        "range a start 10.0.20.10",
        "range a stop 10.0.20.20",
        "range b start 10.0.20.20",
        "range b stop 10.0.20.30",
    ];
    assert_eq!(case(&two), ["ranges a and b of subnet 10.0.20.0/24 overlap"]);
    assert_eq!(
        case(&[id, "static-mapping x ip-address 10.0.20.5"]),
        ["static-mapping x of subnet 10.0.20.0/24 needs a MAC address"]
    );
    let twins = [id, "static-mapping x mac 52:54:00:00:00:0a", "static-mapping y mac 52:54:00:00:00:0A"];
    assert_eq!(
        case(&twins),
        ["static-mapping y of subnet 10.0.20.0/24: 52:54:00:00:00:0A is another mapping's"]
    );
}

#[test]
fn a_subnet_needs_an_interface() {
    let lines = "service dhcp-server shared-network-name A subnet 10.0.20.0/24 subnet-id 1\nservice dhcp-server shared-network-name A subnet 10.0.20.0/24 range a start 10.0.20.10\nservice dhcp-server shared-network-name A subnet 10.0.20.0/24 range a stop 10.0.20.20";
    assert!(texts(lines)[0].starts_with("None of the configured subnets"));
    assert_eq!(texts(&format!("{lines}\nservice dhcp-server listen-address 10.9.9.9")), [""; 0]);
}

/// The configuration that the recorded verify exchanges began from, as far as they need it.
fn before(dialect: Dialect) -> Tree {
    tree(
        "interfaces ethernet eth4 address 192.168.0.2/24\ninterfaces ethernet eth5 vif 30 address 10.10.30.1/24\nprotocols bgp system-as 64512\nprotocols bgp neighbor 10.10.30.10 remote-as 64513\nprotocols bgp neighbor 10.10.30.10 address-family ipv4-unicast\nprotocols bfd peer 10.10.30.10 interval receive 300",
        dialect,
    )
}

/// What each recorded exchange names needs something that only the real machine knows.
const NOT_OURS: &[&str] =
    &["bgp delete pg used by listen", "bgp no system-as", "bgp change system-as", "bgp restore system-as"];

#[test]
fn agrees_with_what_the_real_scripts_said() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vyos/samples/rest-1.5.json");
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vyos/schema-1.5.json");
    let (Ok(text), Ok(full)) = (std::fs::read(file), std::fs::read(full)) else {
        eprintln!("SKIPPED agrees_with_what_the_real_scripts_said: no ../shared/vyos beside the repository");
        return;
    };
    let (samples, schema): (Value, _) =
        (serde_json::from_slice(&text).unwrap(), Schema::from_json(&full).unwrap());
    let mut seen = 0;
    for sample in samples["requests"].as_array().unwrap() {
        let (group, name) = (sample["group"].as_str().unwrap(), sample["name"].as_str().unwrap());
        if !group.starts_with("verify-") || NOT_OURS.contains(&name) {
            continue;
        }
        let commands = match &sample["request"]["data"] {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        let said = sample["body"]["error"].as_str().unwrap_or_default();
        let mut tree = before(Dialect::V1_5);
        let mut refused = None;
        for command in &commands {
            let words: Vec<String> = serde_json::from_value(command["path"].clone()).unwrap_or_default();
            match schema.resolve(&words, command["value"].as_str()) {
                Ok(leaf) => {
                    tree.apply(&Command::Set { path: leaf.path, value: leaf.value }, &schema).unwrap()
                }
                Err(error) => refused = refused.or(Some(error.router_text())),
            }
        }
        match refused {
            Some(text) => assert!(
                said.ends_with(text.split("\n\n").last().unwrap()),
                "{name}: {text:?} is not {said:?}"
            ),
            None => {
                let violations = check(&tree, Dialect::V1_5);
                assert_eq!(
                    violations.is_empty(),
                    sample["status"] == 200,
                    "{name}: {violations:?}, real: {said:?}"
                );
                let first = violations.first().map_or_else(String::new, |v| wrap(&v.text));
                assert!(said.contains(&first), "{name}: {first:?} is not in {said:?}");
            }
        }
        seen += 1;
    }
    assert!(seen > 60, "only {seen} exchanges");
}
