//! Targets of vyos-sync: everything that it reads from a router, from a source of objects, or from a file.

use vyos_sync::compile::{self, Known};
use vyos_sync::config::{Command, Dialect, Schema, Tree, Untyped, parse, print, rules};
use vyos_sync::inputs::Inputs;
use vyos_sync::plan::{Ledger, Limits};
use vyos_sync::vyos::{ApiError, Redactor, Sessions, read_answer};
use vyos_sync::{gather, intent, render, secret};

/// Any text is read as `config.boot` or refused; what is read is printed and read back the same.
pub(crate) fn config_boot(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(boot) = parse::boot(text) else { return };
    let again = parse::boot(&print::block(&boot.tree, &Untyped));
    assert_eq!(again.map(|boot| boot.tree).as_ref(), Ok(&boot.tree));
    judge(&boot.tree);
}

/// A status on the first line and a document below it are read as an answer of OpenBAO or refused; nothing that was read shows.
pub(crate) fn bao_answer(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let status = std::str::from_utf8(&bytes[..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let read = vyos_sync::bao::read_entry(status, &bytes[end + 1..]);
    let shown = format!("{read:?}");
    let document: serde_json::Value = serde_json::from_slice(&bytes[end + 1..]).unwrap_or_default();
    for value in document["data"]["data"].as_object().into_iter().flatten().filter_map(|(_, it)| it.as_str())
    {
        // A short value may well be a part of something else.
        assert!(value.len() < 24 || !shown.contains(value) || document["errors"].to_string().contains(value));
    }
}

/// Any bytes are read as the API's JSON or refused; what is read is printed and read back the same.
pub(crate) fn config_json(bytes: &[u8]) {
    let Ok(tree) = parse::json_text(bytes) else { return };
    assert_eq!(parse::json(&print::json(&tree)).ok().as_ref(), Some(&tree));
    judge(&tree);
}

/// A tree from outside is judged by every rule of both releases, read for marks, and imported.
fn judge(tree: &Tree) {
    for dialect in Dialect::ALL {
        let _ = Schema::built_in(dialect).validate(tree);
        let _ = rules::check(tree, dialect);
    }
    let _ = Ledger::recover(tree);
    let _ = vyos_sync::import::import(tree, "gw", "lab", &gather::text("none", ""));
    let shown = format!("{:?}", secret::hidden(tree));
    for leaf in tree.leaves().iter().filter(|leaf| secret::is_secret(&leaf.path)) {
        let value = leaf.value.as_deref().unwrap_or_default();
        // A short value may well be a part of something else.
        assert!(value.len() < 24 || !shown.contains(&format!("{value:?}")) || is_elsewhere(tree, value));
    }
}

fn is_elsewhere(tree: &Tree, value: &str) -> bool {
    tree.leaves().iter().any(|leaf| {
        leaf.path.iter().any(|word| word == value)
            || !secret::is_secret(&leaf.path) && leaf.value.as_deref() == Some(value)
    })
}

/// Any text is read as manifests. Whatever they say, intent is derived and rendered for both releases without a path or
/// value that the router would refuse.
pub(crate) fn manifests(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let inputs = gather::text("input", text);
    for router in &inputs.routers {
        for dialect in Dialect::ALL {
            sound(&inputs, &router.id.name, dialect);
        }
    }
}

fn sound(inputs: &Inputs, router: &str, dialect: Dialect) {
    let Some(object) = inputs.router(router) else { return };
    let (nothing, ledger) = (Tree::new(), Ledger::default());
    let compiled = compile::compile(inputs, object, dialect, &nothing, &ledger);
    let schema = Schema::built_in(dialect);
    let raw = !compiled.intent.raw.is_empty();
    let refused = schema.validate(compiled.rendered.desired.tree());
    // Raw configuration is a person's own; the planner refuses what is wrong with it.
    assert!(raw || refused.is_empty(), "{dialect}: {refused:?}");
    let known = Known { running: &nothing, ledger: &ledger, dialect, schema, limits: Limits::default() };
    let plan = compile::plan(&compiled, &object.spec, known);
    let mut after = Tree::new();
    for command in plan.batches.iter().flat_map(|batch| &batch.commands) {
        after.apply(command, schema).expect("a planned command can be applied");
    }
    assert!(rules::check(&after, dialect).is_empty(), "{dialect}: a plan that the router would refuse");
    let again = intent::derive(inputs, &router.into());
    assert_eq!(again.problems, compiled.intent.problems, "the same inputs say the same");
    let _ = render::wishes(&again, dialect);
}

/// A status and any body: an answer or an error, never a panic, and never with the key in it.
pub(crate) fn api_answer(bytes: &[u8]) {
    let Some((status, body)) = bytes.split_at_checked(2) else { return };
    let status = u16::from_be_bytes([status[0], status[1]]);
    let secret = "a-secret-that-may-not-show";
    let clean = Redactor::new([secret.to_owned()]);
    let said = match read_answer(status, body, &clean) {
        Ok(value) => {
            let _ = parse::json(&value);
            return;
        }
        Err(error) => error,
    };
    assert!(!format!("{said} {said:?}").contains(secret));
    let _ = (said.fate(), said.read_is_retryable(), said.change_is_retryable(), said.reason());
    assert!(!matches!(said, ApiError::Unreachable { .. }), "it answered");
}

/// Texts of op-mode commands.
pub(crate) fn show(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let sessions = Sessions::parse(&text);
    assert!(sessions.up.is_disjoint(&sessions.down), "up or down, not both");
    let _ = vyos_sync::vyos::Release::parse(&text);
    let _ = vyos_sync::vyos::reboot_is_scheduled(&text);
}

/// Any bytes are read as a schema file or refused; what is read judges a tree.
pub(crate) fn schema_file(bytes: &[u8]) {
    let Ok(schema) = Schema::from_json(bytes) else { return };
    let mut tree = Tree::new();
    for (path, value) in [("interfaces ethernet eth1 vif 5 address", "10.0.0.1/24"), ("a b", "c")] {
        if let Ok(path) = path.parse() {
            let _ = tree.add(&path, value);
        }
    }
    let _ = schema.validate(&tree);
}

/// Two configurations as `set` lines, apart by a line `--`: the difference turns one into the other, and back.
pub(crate) fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((from, to)) = text.split_once("\n--\n") else { return };
    let read = |text| parse::set_lines(text, Schema::built_in(Dialect::V1_5));
    let (Ok(from), Ok(to)) = (read(from), read(to)) else { return };
    let kinds = Schema::built_in(Dialect::V1_5);
    turns(&from, &to, &vyos_sync::config::diff(&from, &to, kinds));
    turns(&to, &from, &vyos_sync::config::diff(&to, &from, kinds));
}

fn turns(from: &Tree, to: &Tree, commands: &[Command]) {
    let kinds = Schema::built_in(Dialect::V1_5);
    let mut tree = from.clone();
    for command in commands {
        tree.apply(command, kinds).expect("a difference can be applied");
    }
    assert!(vyos_sync::config::diff(&tree, to, kinds).is_empty(), "{from:?}\n{to:?}\n{commands:?}");
}
