//! The fence around the pure rooms: they import only each other, std's pure parts and data crates.

use weir_repo::{Source, sources};

/// Pure rooms, as the start of a path or a whole file, and the names of their neighbours within the crate.
const PURE: &[(&str, &[&str])] = &[
    ("agent/src/model/", &["model"]),
    ("vyos-sync/src/checksum.rs", PURE_IN_SYNC),
    ("vyos-sync/src/config/", PURE_IN_SYNC),
    ("vyos-sync/src/intent/", PURE_IN_SYNC),
    ("vyos-sync/src/render/", PURE_IN_SYNC),
    ("vyos-sync/src/intent.rs", PURE_IN_SYNC),
    ("vyos-sync/src/plan/", PURE_IN_SYNC),
    ("vyos-sync/src/plan.rs", PURE_IN_SYNC),
    ("vyos-sync/src/routing/", PURE_IN_SYNC),
    ("vyos-sync/src/secret.rs", PURE_IN_SYNC),
    ("vyos-sync/src/view/", PURE_IN_SYNC),
    ("router-view/src/", &[]),
];
/// `crd` and `inputs` are data: the kinds, and what was gathered.
const PURE_IN_SYNC: &[&str] = &["checksum", "config", "crd", "inputs", "intent", "plan", "render", "secret"];

/// Crates that are data and computation only. `weir_ebpf` is the contract of records with the datapath,
/// `weir_router_view` that of the document between vyos-sync and the agent.
const DATA_CRATES: &[&str] = &[
    "base64",
    "bytemuck",
    "hmac",
    "indexmap",
    "ipnet",
    "jiff",
    "k8s_openapi",
    "prefix_trie",
    "regex",
    "schemars",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "weir_api",
    "weir_ebpf",
    "weir_router_view",
];

/// Parts of std that read the world or the clock, or act on it.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "weir_api::manifest",
    "std::io::std",
    "std::os",
    "std::process",
    "std::thread",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "File::open",
    "println!",
    "eprintln!",
    "tracing::",
    "tokio::",
];

fn pure_rooms() -> Vec<(Source, &'static [&'static str])> {
    let sources = sources(&[".rs"]).into_iter();
    sources
        .filter_map(|source| {
            let room = PURE.iter().find(|(room, _)| source.path.starts_with(room))?;
            Some((source, room.1))
        })
        .filter(|(source, _)| !source.path.ends_with("tests.rs") && !source.path.contains("/tests/"))
        .collect()
}

/// `use` declarations in the shipped part of a file, each up to its semicolon.
fn imports(source: &Source) -> Vec<String> {
    let mut imports = Vec::new();
    let mut lines = source.shipped().lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        if let Some(import) = line.strip_prefix("use ") {
            let mut import = import.to_owned();
            while let Some(line) = (!import.contains(';')).then(|| lines.next()).flatten() {
                import.push_str(line.trim());
            }
            imports.push(import);
        }
    }
    imports
}

fn allowed(import: &str, neighbours: &[&str]) -> bool {
    let first = import.split([':', ';', ' ']).next().unwrap_or_default();
    match first {
        "std" | "core" | "super" | "self" => true,
        "crate" => {
            let rest = import.trim_start_matches("crate::");
            let rooms = rest.strip_prefix('{').map_or_else(|| vec![rest], |list| list.split(", ").collect());
            rooms.iter().all(|room| neighbours.iter().any(|neighbour| room.starts_with(neighbour)))
        }
        other => DATA_CRATES.contains(&other) || other.chars().next().is_some_and(char::is_uppercase),
    }
}

#[test]
fn there_are_pure_rooms() {
    let rooms = pure_rooms();
    for room in ["agent/src/model/", "vyos-sync/src/config/"] {
        assert!(
            rooms.iter().any(|(source, _)| source.path.starts_with(room)),
            "{room} is gone: mend this test"
        );
    }
}

#[test]
fn pure_rooms_import_only_pure_rooms_and_data_crates() {
    let mut breaches = Vec::new();
    for (source, neighbours) in pure_rooms() {
        // A module of the room itself may be imported by its bare name.
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for import in imports(&source).iter().filter(|import| !allowed(import, neighbours)) {
            let first = import.split([':', ';']).next().unwrap_or_default();
            let sibling = weir_repo::root().join(folder).join(first);
            if !sibling.with_extension("rs").exists() && !sibling.is_dir() {
                breaches.push(format!("{}: use {import}", source.path));
            }
        }
    }
    assert!(breaches.is_empty(), "a pure room imports what it may not:\n{}", breaches.join("\n"));
}

#[test]
fn pure_rooms_touch_neither_the_world_nor_the_clock() {
    let mut breaches = Vec::new();
    for (source, _) in pure_rooms() {
        for (number, line) in source.shipped().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in IMPURE.iter().filter(|word| code.contains(*word)) {
                breaches.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    assert!(
        breaches.is_empty(),
        "time, randomness and I/O are arguments in a pure room:\n{}",
        breaches.join("\n")
    );
}

#[test]
fn edges_of_the_agent_do_not_import_each_other() {
    let edges = ["datapath", "netlink", "cluster", "probe"];
    let mut breaches = Vec::new();
    for source in sources(&[".rs"]) {
        let Some(own) = edges.iter().find(|edge| source.path.starts_with(&format!("agent/src/{edge}")))
        else {
            continue;
        };
        for import in imports(&source) {
            let other =
                edges.iter().find(|edge| *edge != own && import.starts_with(&format!("crate::{edge}")));
            breaches.extend(other.map(|_| format!("{}: use {import}", source.path)));
        }
    }
    assert!(breaches.is_empty(), "only main.rs sees all edges:\n{}", breaches.join("\n"));
}
