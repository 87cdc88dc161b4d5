//! What the documents and the Makefile promise is there.

use std::collections::BTreeSet;
use std::fs;

use weir_repo::{Source, root, sources};

fn targets() -> BTreeSet<String> {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap_or_default();
    let rules = makefile.lines().filter(|line| line.contains(":.*") || line.contains(": ##"));
    rules.filter_map(|line| line.split(':').next()).map(str::to_owned).collect()
}

/// The words that follow `marker` in a text.
fn words_after<'a>(text: &'a str, marker: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(marker).skip(1).filter_map(|rest| {
        let word = rest
            .split(|character: char| !(character.is_ascii_alphanumeric() || "-_./".contains(character)))
            .next()?;
        (!word.is_empty()).then_some(word)
    })
}

#[test]
fn every_make_command_in_the_documents_exists() {
    let targets = targets();
    assert!(targets.contains("demo") && targets.contains("test"), "{targets:?}");
    for Source { path, text } in sources(&[".md", ".ci/run"]) {
        // In code: `make demo`, or a line of a code block.
        let code = words_after(&text, "`make ").chain(words_after(&text, "\nmake "));
        for target in code {
            assert!(targets.contains(target), "{path}: there is no `make {target}`");
        }
    }
}

#[test]
fn every_script_in_the_documents_exists() {
    for Source { path, text } in sources(&[".md", "Makefile", ".ci/run"]) {
        for script in words_after(&text, "scripts/") {
            let script = script.trim_end_matches('.');
            assert!(root().join("scripts").join(script).exists(), "{path}: there is no scripts/{script}");
        }
    }
}

#[test]
fn every_local_link_leads_somewhere() {
    for Source { path, text } in sources(&[".md"]) {
        let folder = root().join(&path).parent().expect("a file has a folder").to_owned();
        for rest in text.split("](").skip(1) {
            let link = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let local = !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:");
            assert!(!local || folder.join(link).exists(), "{path}: the link {link} leads nowhere");
        }
    }
}

#[test]
fn every_document_is_in_the_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).expect("docs/README.md");
    for Source { path, .. } in sources(&[".md"]) {
        let Some(page) = path.strip_prefix("docs/").filter(|page| *page != "README.md") else { continue };
        assert!(index.contains(&format!("({page})")), "docs/README.md does not name {page}");
    }
}

/// Names of metrics in a text: words with a prefix of ours and at least one more part.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words.filter(|word| word.starts_with("weir_") && !word.ends_with('_')).collect()
}

#[test]
fn every_metric_that_is_named_is_documented() {
    let reference = fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md");
    let known = metrics(&reference);
    assert!(known.contains("weir_interface_packets_total") && known.contains("weir_build_info"), "{known:?}");
    // A histogram's samples have an ending of their own.
    let is_known = |name: &str| {
        let family = ["_sum", "_count", "_bucket"].iter().find_map(|end| name.strip_suffix(end));
        known.contains(name) || family.is_some_and(|family| known.contains(family))
    };
    let crates = ["weir_agent", "weir_ebpf", "weir_netns", "weir_repo", "weir_bench"];
    let mut unknown = Vec::new();
    for source in sources(&[".md", ".json", ".yaml", "src/view.rs", "src/bin/weir-demo.rs"]) {
        let metrics = metrics(&source.text).into_iter().map(str::to_owned);
        let strange = metrics.filter(|name| !is_known(name) && !crates.contains(&name.as_str()));
        unknown.extend(strange.map(|name| format!("{}: {name}", source.path)));
    }
    assert!(unknown.is_empty(), "not in docs/metrics.md:\n{}", unknown.join("\n"));
}
