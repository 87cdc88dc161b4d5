//! The lock file obeys deny.toml: licences and bans, checked without a network on every test run.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use weir_repo::root;

/// The quoted words of a list in deny.toml.
fn listed(key: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap_or_default();
    let list = text.split(&format!("\n{key} = [")).nth(1).and_then(|rest| rest.split("\n]").next());
    list.unwrap_or_default().split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Everything that is built into programs or tests on Linux, with its licence expression.
fn packages() -> Option<Vec<(String, String)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .ok()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).ok()?;
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or("none").to_owned();
    let packages = metadata["packages"].as_array()?.iter();
    Some(packages.map(|package| (text(package, "name"), text(package, "license"))).collect())
}

/// SPDX: `AND` binds closer than `OR`; `/` is an old way to write `OR`.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.trim();
    if let Some((group, rest)) = expression.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
        let group = satisfied(group, allowed);
        return match rest.trim().split_once(' ') {
            Some(("AND", rest)) => group && satisfied(rest, allowed),
            Some(("OR", rest)) => group || satisfied(rest, allowed),
            _ => group,
        };
    }
    if let Some((one, other)) = expression.split_once(" OR ") {
        return satisfied(one, allowed) || satisfied(other, allowed);
    }
    if let Some((one, other)) = expression.split_once(" AND ") {
        return satisfied(one, allowed) && satisfied(other, allowed);
    }
    expression.split('/').any(|licence| allowed.contains(licence.trim()))
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed =
        BTreeSet::from(["MIT".to_owned(), "ISC".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()]);
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "MIT AND ISC",
        "(GPL-3.0 OR MIT) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(satisfied(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "none", ""] {
        assert!(!satisfied(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let Some(packages) = packages() else {
        eprintln!("SKIPPED every_licence_is_allowed: without a network cargo metadata has not all packages");
        return;
    };
    let allowed = listed("allow");
    let refused: Vec<_> = packages.iter().filter(|(_, licence)| !satisfied(licence, &allowed)).collect();
    assert!(packages.len() > 100 && refused.is_empty(), "deny.toml does not allow: {refused:?}");
}

#[test]
fn nothing_banned_is_locked() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    for name in ["openssl-sys", "native-tls", "aws-lc-sys", "serde_yaml"] {
        assert!(!lock.contains(&format!("name = \"{name}\"\n")), "{name} came in: see the bans in deny.toml");
    }
    assert!(!lock.contains("source = \"git+"), "a dependency comes from git");
}
