//! Manifests to commands, for both dialects, held against committed text.

use crate::support::{DIALECTS, commands, compile, complaints, golden, planned, repository, shared};
use std::path::Path;
use vyos_sync::config::{Dialect, Schema};
use vyos_sync::gather;
use vyos_sync::inputs::Inputs;
use vyos_sync::render::Rendered;

fn check(case: &str, inputs: &Inputs) {
    let folder = repository().join("tests/golden").join(case);
    for dialect in DIALECTS {
        let (intent, rendered) = compile(inputs, "gateway", dialect);
        let found = complaints(&rendered, dialect);
        assert!(found.is_empty(), "{case} {dialect}: {found:#?}");
        full_schema(case, &rendered, dialect);
        golden(&folder.join(format!("commands-{dialect}.txt")), &commands(&rendered));
        let faults = intent.faults.iter().map(ToString::to_string);
        let problems = intent.problems.iter().chain(&rendered.problems);
        let problems = problems.map(|problem| format!("{:?}: {problem}", problem.effect));
        let text: String = faults.chain(problems).map(|line| line + "\n").collect();
        golden(&folder.join(format!("problems-{dialect}.txt")), &text);
        golden(&folder.join(format!("plan-{dialect}.txt")), &planned(inputs, "gateway", dialect));
    }
}

/// The whole schema of the release says the same as our own model of it.
fn full_schema(case: &str, rendered: &Rendered, dialect: Dialect) {
    let file = repository().join(format!("../shared/vyos/schema-{dialect}.json"));
    let Ok(text) = std::fs::read(&file) else {
        eprintln!("SKIPPED full_schema of {case}: there is no {}", file.display());
        return;
    };
    let errors = Schema::from_json(&text).unwrap().validate(rendered.desired.tree());
    let unknown: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert!(unknown.is_empty(), "{case} {dialect}: {unknown:#?}");
}

fn committed(case: &str) {
    check(case, &gather::folder(&repository().join("tests/golden").join(case).join("manifests")));
}

#[test]
fn the_demo() {
    let inputs = gather::folder(&repository().join("tests/netns/demo/manifests"));
    assert_eq!(inputs.faults, []);
    check("demo", &inputs);
}

#[test]
fn everything_a_network_can_have() {
    committed("networks");
}

#[test]
fn peerings() {
    committed("peerings");
}

#[test]
fn peers_that_find_the_router_by_themselves() {
    committed("dynamic");
}

#[test]
fn bad_input_is_named() {
    committed("bad");
}

/// A whole platform with no object of ours but the Router and its networks.
#[test]
fn the_platform() {
    let Some(shared) = shared("the_platform", "platform-fixtures") else { return };
    let mine = repository().join("tests/golden/platform/manifests");
    let both = tempfile::tempdir().unwrap();
    for (name, from) in [("mine", mine.as_path()), ("theirs", shared.as_path())] {
        copy(from, &both.path().join(name));
    }
    check("platform", &gather::folder(both.path()));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}
