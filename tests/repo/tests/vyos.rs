//! vyos-sync on the router: the snippet is configuration that VyOS takes, and its arguments are ours.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "a test")]

use std::fs;

use clap::Parser;
use vyos_sync::config::{ConfigPath, Schema};
use vyos_sync::crd::Router;
use weir_repo::{objects, root};

fn snippet() -> String {
    fs::read_to_string(root().join("deploy/vyos/container.set")).expect("container.set")
}

#[test]
fn vyos_takes_the_snippet() {
    let Ok(schema) = fs::read(root().join("../shared/vyos/schema-1.5.json")) else {
        eprintln!("SKIPPED vyos_takes_the_snippet: ../shared/vyos/schema-1.5.json is not here");
        return;
    };
    let schema = Schema::from_json(&schema).expect("a schema");
    let tree =
        vyos_sync::config::parse::set_lines(&snippet(), &schema).expect("every line is a set command of 1.5");
    let faults: Vec<String> = schema.validate(&tree).iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn its_arguments_are_ours() {
    let text = snippet();
    let line = text.lines().find_map(|line| line.split_once(" arguments '")).expect("arguments").1;
    let words = std::iter::once("vyos-sync").chain(line.trim_end_matches('\'').split(' '));
    if let Err(error) = vyos_sync::args::Cli::try_parse_from(words) {
        panic!("{error}");
    }
}

#[test]
fn the_router_that_goes_with_it_is_one() {
    let object = objects("deploy/vyos/").expect("YAML").remove(0).1;
    let router: Router = serde_json::from_value(object).expect("a Router");
    let protected = &router.spec.protected_paths;
    for path in protected.iter().chain(router.spec.management_path.iter()) {
        let words: Vec<String> = path.split(' ').map(str::to_owned).collect();
        assert!(ConfigPath::try_from(words).is_ok(), "{path}");
    }
    let container = "container name vyos-sync";
    assert!(snippet().contains(container) && protected.iter().any(|path| path == container));
    assert_eq!(router.spec.api_key.file.as_deref(), Some("/secrets/key"));
}
