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
