//! The schema's own tests, and its agreement with the full schema files where those are at hand.

use std::path::PathBuf;

use super::*;
use crate::config::{Kind, parse};

fn full(dialect: Dialect) -> Option<Schema> {
    let file = format!("../../shared/vyos/schema-{dialect}.json");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read(&path).ok()?;
    Some(Schema::from_json(&text).unwrap())
}

fn skipped(test: &str) {
    eprintln!("SKIPPED {test}: no ../shared/vyos/schema-*.json beside the repository");
}

fn words(text: &str) -> Vec<String> {
    crate::config::path::words(text).unwrap()
}

/// Values of every sort, of which each leaf should take the same ones by our model and by the full schema.
const PROBES: &[&str] = &[
    "0",
    "1",
    "10",
    "33",
    "64",
    "100",
    "128",
    "255",
    "256",
    "1500",
    "4094",
    "4095",
    "65535",
    "65536",
    "999999",
    "1000000",
    "4294967294",
    "4294967295",
    "4294967296",
    "-1",
    "1-5",
    "80,443",
    "text",
    "a b",
    "permit",
    "deny",
    "masquerade",
    "any",
    "10.0.0.1",
    "10.0.0.1/24",
    "10.0.0.0/24",
    "10.0.0.1-10.0.0.9",
    "!10.0.0.1",
    "2001:db8::1",
    "2001:db8::1/64",
    "2001:db8::/64",
    "fe80::1",
    "eth0",
    "eth5.10",
    "br0",
    "bond0",
    "lo",
    "dhcp",
    "52:54:00:00:00:01",
    "00:01:02",
    "node-a.lab.example",
    "node_a",
    "UPPER",
    "tcp",
    "tcp_udp",
    "infinity",
    "external",
    "enable",
    "append",
    "auto",
    "64512:1:2",
];

fn compare(
    ours: &BTreeMap<String, Rule>,
    full: &BTreeMap<String, Rule>,
    at: &mut Vec<String>,
    wrong: &mut Vec<String>,
) {
    for (name, rule) in ours {
        at.push(name.clone());
        match full.get(name) {
            None => wrong.push(format!("{}: not in the full schema", at.join(" "))),
            Some(theirs) if theirs.kind != rule.kind => {
                wrong.push(format!("{}: {:?}, not {:?}", at.join(" "), theirs.kind, rule.kind))
            }
            Some(theirs) => {
                for probe in PROBES {
                    let (our, their) = (rule.accept(at, probe).is_ok(), theirs.accept(at, probe).is_ok());
                    let takes_values = matches!(rule.kind, Kind::Tag | Kind::Leaf | Kind::Multi);
                    if takes_values && our != their && !(our && rule.checks.is_empty()) {
                        wrong.push(format!(
                            "{}: `{probe}` is {our} by us, {their} by the full schema",
                            at.join(" ")
                        ));
                    }
                }
                compare(&rule.children, &theirs.children, at, wrong);
            }
        }
        at.pop();
    }
}

#[test]
fn our_model_agrees_with_the_full_schemas() {
    for dialect in Dialect::ALL {
        let Some(full) = full(dialect) else { return skipped("our_model_agrees_with_the_full_schemas") };
        let mut wrong = Vec::new();
        compare(Schema::built_in(dialect).roots(), full.roots(), &mut Vec::new(), &mut wrong);
        assert!(wrong.is_empty(), "{dialect}: {} differences\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[test]
fn the_lab_configuration_is_valid_by_the_full_schema_and_by_ours() {
    for dialect in Dialect::ALL {
        let Some(full) = full(dialect) else { return skipped("the_lab_configuration_is_valid") };
        let file = format!("../../shared/vyos/samples/config-{dialect}.json");
        let text = std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let sample: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let tree = parse::json(&sample["showConfig_json"]).unwrap();
        assert_eq!(full.validate(&tree), []);
        let lines: Vec<&str> =
            sample["set_lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        let from_lines = parse::set_lines(&lines.join("\n"), &full).unwrap();
        for leaf in from_lines.leaves() {
            assert!(tree.states(&leaf.path, leaf.value.as_deref()), "{leaf}");
        }
        let ours = Schema::built_in(dialect);
        let managed = |error: &SchemaError| ours.rule(&error.path()[..2.min(error.path().len())]).is_some();
        let errors: Vec<_> = ours.validate(&tree).into_iter().filter(managed).collect();
        assert_eq!(errors, []);
    }
}

#[test]
fn every_pattern_of_the_full_schemas_is_understood() {
    fn walk(rules: &BTreeMap<String, Rule>, at: &mut Vec<String>, odd: &mut Vec<String>) {
        for (name, rule) in rules {
            at.push(name.clone());
            odd.extend(
                rule.checks.iter().filter(|c| !c.is_understood()).map(|c| format!("{} {c:?}", at.join(" "))),
            );
            walk(&rule.children, at, odd);
            at.pop();
        }
    }
    for dialect in Dialect::ALL {
        let Some(full) = full(dialect) else {
            return skipped("every_pattern_of_the_full_schemas_is_understood");
        };
        let mut odd = Vec::new();
        walk(full.roots(), &mut Vec::new(), &mut odd);
        assert!(odd.is_empty(), "{}\n{}", odd.len(), odd.join("\n"));
    }
}

#[test]
fn refuses_in_the_router_s_own_words() {
    let schema = Schema::built_in(Dialect::V1_5);
    let text =
        |line: &str, value: Option<&str>| schema.resolve(&words(line), value).unwrap_err().router_text();
    assert_eq!(text("foo bar baz", None), "Configuration path: [foo bar baz] is not valid\n\nSet failed\n");
    assert_eq!(
        text("interfaces ethernet eth5 vif 4099 address 10.1.1.1/24", None),
        "Number is not in any of allowed ranges\n\n\n\nVLAN ID must be between 0 and 4094\nValue validation failed\nSet failed\n"
    );
    assert_eq!(
        text("interfaces ethernet eth5 vif 91 address 10.91.0.0/24", None),
        "Error: 10.91.0.0/24 is not a valid IP host\n\n\n\nInvalid value\nValue validation failed\nSet failed\n"
    );
    assert_eq!(
        text("interfaces ethernet eth5 description", Some("it's")),
        "Cannot use the single quote (') character in a value string\nValue validation failed\nSet failed\n"
    );
    assert_eq!(
        text("nat source rule 200 outbound-interface eth4", None),
        "Configuration path: [nat source rule 200 outbound-interface eth4] is not valid\n\nSet failed\n"
    );
}

#[test]
fn knows_dialects_kinds_and_scripts() {
    let (old, new) = (Schema::built_in(Dialect::V1_4), Schema::built_in(Dialect::V1_5));
    let subnet = words("service dhcp-server shared-network-name A subnet 10.0.0.0/24 subnet-id");
    assert_eq!((old.kind(&subnet), new.kind(&subnet)), (None, Some(Kind::Leaf)));
    let vif = words("interfaces ethernet eth5 vif 10");
    assert_eq!((new.kind(&vif), new.kind(&vif[..4])), (Some(Kind::Instance), Some(Kind::Tag)));
    assert_eq!(new.script(&vif), Some(("interfaces ethernet", 318)));
    assert_eq!(new.script(&words("service dns forwarding port")), Some(("service dns forwarding", 918)));
}
