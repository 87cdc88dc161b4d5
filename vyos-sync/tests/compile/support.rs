//! What the tests here share: where fixtures are, numbers for rules, and the tree as text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use vyos_sync::compile::{self, Known};
use vyos_sync::config::{Dialect, Leaf, Schema, rules};
use vyos_sync::inputs::{ClusterName, Collector, Inputs};
use vyos_sync::intent::{self, Intent, RouterName};
use vyos_sync::plan::{Ledger, Limits, sample};
use vyos_sync::render::{self, Allocations, Rendered, SpaceId};
use vyos_sync::secret::is_secret;

pub(crate) const DIALECTS: [Dialect; 2] = [Dialect::V1_4, Dialect::V1_5];

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of examples that lies beside the repository, or a loud word that it is not there.
pub(crate) fn shared(test: &str, folder: &str) -> Option<PathBuf> {
    let path = repository().join("../shared/examples").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED {test}: there is no ../shared/examples/{folder} beside the repository");
    None
}

/// Numbers as the planner would give them on an empty router.
pub(crate) fn numbers(intent: &Intent, dialect: Dialect) -> Allocations {
    let mut given = Allocations::default();
    for (space, keys) in render::wishes(intent, dialect) {
        let start = match space {
            SpaceId::Exclude => 10_000,
            SpaceId::Destination => 20_000,
            SpaceId::Hairpin => 30_000,
            _ => 40_000,
        };
        let mut taken = BTreeSet::new();
        for (at, (key, offset)) in (0u32..).zip(keys) {
            // Two parents may have the same VLAN: only one of them can have its number.
            let offset = offset.filter(|offset| taken.insert(*offset)).unwrap_or(5_000 + at);
            given.give(space, key, start + offset);
        }
    }
    given
}

pub(crate) fn compile(inputs: &Inputs, router: &str, dialect: Dialect) -> (Intent, Rendered) {
    let intent = intent::derive(inputs, &RouterName::from(router));
    let rendered = render::render(&intent, dialect, &numbers(&intent, dialect));
    (intent, rendered)
}

/// The plan against a router that has an uplink, a trunk, and a few things of other people.
pub(crate) fn planned(inputs: &Inputs, router: &str, dialect: Dialect) -> String {
    let (running, schema) = (sample::base().unwrap(), Schema::built_in(dialect));
    let ledger = Ledger::recover(&running);
    let object = inputs.router(router).unwrap();
    let compiled = compile::compile(inputs, object, dialect, &running, &ledger);
    let known = Known { running: &running, ledger: &ledger, dialect, schema, limits: Limits::default() };
    compile::plan(&compiled, &object.spec, known).shown().to_string()
}

pub(crate) fn commands(rendered: &Rendered) -> String {
    let line = |leaf: &Leaf| {
        let shown = if is_secret(&leaf.path) {
            leaf.value.as_ref().map(|_| "[hidden]".to_owned())
        } else {
            leaf.value.clone()
        };
        format!("set {}\n", Leaf { path: leaf.path.clone(), value: shown })
    };
    rendered.desired.tree().leaves().iter().map(line).collect()
}

/// Every path and value must be one that the router knows, and the whole one that its scripts would commit.
pub(crate) fn complaints(rendered: &Rendered, dialect: Dialect) -> Vec<String> {
    let tree = rendered.desired.tree();
    let unknown = Schema::built_in(dialect).validate(tree).into_iter().map(|error| error.to_string());
    unknown.chain(rules::check(tree, dialect).iter().map(ToString::to_string)).collect()
}

/// The documents of several texts, as inputs of the local cluster.
pub(crate) fn inputs(texts: &[&str]) -> Inputs {
    let mut collector = Collector::default();
    for (at, text) in texts.iter().enumerate() {
        for document in serde_saphyr::from_multiple::<serde_json::Value>(text).unwrap() {
            collector.document(&format!("text {at}"), &ClusterName::local(), document);
        }
    }
    collector.finish()
}

/// Compares with a committed text. `UPDATE_GOLDEN=1` writes it instead.
pub(crate) fn golden(file: &Path, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, found).unwrap();
        return;
    }
    let wanted = fs::read_to_string(file).unwrap_or_default();
    assert!(
        wanted == found,
        "{} differs (UPDATE_GOLDEN=1 writes it).\n--- wanted\n{wanted}\n--- found\n{found}",
        file.display()
    );
}
