//! How the repository reads: sizes, names, first lines, and words that have no place in it.

use weir_repo::{Source, sources};

/// No file is longer. (The median is far below; a file near this limit wants to be a folder.)
const LONGEST: usize = 800;

fn breaches(sources: Vec<Source>, breach: impl Fn(&Source) -> Option<String>) -> Vec<String> {
    sources
        .iter()
        .filter_map(|source| breach(source).map(|what| format!("{}: {what}", source.path)))
        .collect()
}

#[test]
fn no_rust_file_is_too_long() {
    let long = breaches(sources(&[".rs"]), |source| {
        (source.lines() > LONGEST).then(|| format!("{} lines, at most {LONGEST}", source.lines()))
    });
    assert!(long.is_empty(), "make it a folder of nouns:\n{}", long.join("\n"));
}

#[test]
fn every_rust_file_says_what_it_is() {
    let silent = breaches(sources(&[".rs"]), |source| {
        // A crate root may begin with attributes.
        let first = source.text.lines().find(|line| !line.starts_with("#!["));
        let says = first.is_some_and(|line| line.starts_with("//! ") && line.len() > 15);
        let generated = source.path.contains("/snapshots/") || source.text.is_empty();
        (!says && !generated).then(|| "its first line is no //! sentence".to_owned())
    });
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn names_are_those_of_the_field() {
    let banned = |line: &str| {
        let code = line.split("//").next().unwrap_or_default().trim_start();
        let word =
            code.trim_start_matches("pub ").trim_start_matches("pub(crate) ").trim_start_matches("async ");
        let name = |keyword: &str| {
            let rest = word.strip_prefix(keyword)?;
            rest.split(|character: char| !(character.is_alphanumeric() || character == '_')).next()
        };
        let kind = ["struct ", "enum ", "trait "].into_iter().find_map(name);
        kind.is_some_and(|it| it.ends_with("Manager") || it.ends_with("Helper"))
            || name("mod ").is_some_and(|it| ["util", "utils", "common", "helpers", "misc"].contains(&it))
            || name("fn ").is_some_and(|it| it.starts_with("get_"))
    };
    let poor = breaches(sources(&[".rs"]), |source| {
        source.shipped().lines().find(|it| banned(it)).map(str::to_owned)
    });
    assert!(poor.is_empty(), "say what it is:\n{}", poor.join("\n"));
}

#[test]
fn no_path_of_one_machine_is_committed() {
    // Put together here, so that this file is not its own breach.
    let words =
        [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("bash", "_jobs")];
    let local = breaches(
        sources(&[".rs", ".toml", ".md", ".sh", ".awk", ".yaml", ".yml", ".json", "Makefile", "run"]),
        |source| {
            let line = source.text.lines().find(|line| words.iter().any(|word| line.contains(word)))?;
            Some(line.trim().chars().take(100).collect())
        },
    );
    assert!(local.is_empty(), "a path that only one machine has:\n{}", local.join("\n"));
}

#[test]
fn the_datapath_leaves_packets_alone() {
    let words = ["set_mark(", "->mark", ".mark =", "bpf_skb_store_bytes", "TCX_PASS", "TC_ACT_OK"];
    let writes = breaches(sources(&[".rs"]), |source| {
        let datapath = source.path.starts_with("ebpf/src/");
        let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
        let hit =
            source.shipped().lines().map(code).find(|line| words.iter().any(|word| line.contains(word)))?;
        // Only what a rule rejects is written anew: it becomes the answer, and nobody sees the packet any more.
        let answers = source.path == "ebpf/src/guard/answer.rs" && hit.contains("bpf_skb_store_bytes");
        (datapath && !answers).then_some(hit)
    });
    assert!(writes.is_empty(), "Cilium runs after us and owns mark and verdict:\n{}", writes.join("\n"));
}
