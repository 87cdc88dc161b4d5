//! Replays exchanges recorded from the real server and compares status, content type and body, error texts included.
//!
//! `replay/exceptions.txt` lists those that differ, each with its reason. One that differs and is not listed fails, and
//! so does one that is listed and no longer differs. The recordings are looked for beside the repository; a small set
//! of own exchanges is in `replay/own.json`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use vyos_router::{Release, Router};
use vyos_sync::config::parse;

mod client;
use client::Client;

#[derive(Clone, Debug, Deserialize)]
struct Exchange {
    group: String,
    name: String,
    endpoint: String,
    request: Option<Request>,
    status: u16,
    content_type: String,
    body: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct Request {
    encoding: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    body: Value,
}

#[derive(Deserialize)]
struct Recording {
    requests: Vec<Exchange>,
}

/// What the recordings began with, and what was done in between by other means than the API.
const BASE: &str = "
    interfaces {
        ethernet eth1 { address 10.0.10.1/24
            description \"lab net\" }
    }
    service { https { api { keys { id ctl { key EXAMPLE-KEY } } } } }
    system { }
";

/// The router on which the `verify` groups tried one case after the other.
const LAB: &str = "
    interfaces {
        ethernet eth4 { address 192.0.2.2/30 }
        ethernet eth5 {
            vif 10 { address 10.10.10.1/24 }
            vif 20 { address 10.10.20.1/24 }
            vif 30 { address 10.10.30.1/24 }
        }
    }
    service { https { api { keys { id ctl { key EXAMPLE-KEY } } } } }
";

const BGP: &str = "
    protocols { bgp {
        neighbor 10.10.30.10 { address-family { ipv4-unicast { } }
            remote-as 64513 }
        system-as 64512
    } }
";

/// What the command line did before these exchanges.
const EDITS: [(&str, &str); 4] = [
    ("leaf path", BEFORE_LOCKS),
    ("API sees CLI committed", "set interfaces ethernet eth5 vif 83 address 10.8.83.1/24"),
    ("winner", "set interfaces ethernet eth5 vif 84 description CLI"),
    ("vif84 after", "set interfaces ethernet eth5 vif 84 description CLI2"),
];

const BEFORE_LOCKS: &str = "
    set interfaces ethernet eth5 description TRUNK2
    set interfaces ethernet eth5 vif 80 address 10.8.80.1/24
    set interfaces ethernet eth5 vif 81 address 10.8.81.1/24
    delete interfaces ethernet eth5 vif 10 address fd00:10::1/64
    delete service https listen-address
";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Model {
    BuiltIn,
    Full,
}

#[tokio::test]
async fn the_real_1_4_is_matched() {
    replay_shared(Release::V1_4, Model::BuiltIn).await;
}

#[tokio::test]
async fn the_real_1_5_is_matched() {
    replay_shared(Release::V1_5, Model::BuiltIn).await;
}

#[tokio::test]
async fn the_real_1_4_is_matched_with_its_whole_schema() {
    replay_shared(Release::V1_4, Model::Full).await;
}

#[tokio::test]
async fn the_real_1_5_is_matched_with_its_whole_schema() {
    replay_shared(Release::V1_5, Model::Full).await;
}

/// Our own exchanges, so that something is compared where the recordings are not at hand.
#[tokio::test]
async fn our_own_exchanges_are_matched() {
    let text = std::fs::read(folder().join("own.json")).unwrap();
    let recording: Recording = serde_json::from_slice(&text).unwrap();
    assert!(recording.requests.len() > 20);
    let differences = replay(Release::V1_5, None, &recording.requests).await;
    assert!(differences.is_empty(), "{differences:#?}");
}

async fn replay_shared(release: Release, model: Model) {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vyos");
    let Ok(text) = std::fs::read(shared.join(format!("samples/rest-{release}.json"))) else {
        eprintln!("SKIPPED replay of {release}: no recordings at ../shared/vyos/samples");
        return;
    };
    let recording: Recording = serde_json::from_slice(&text).unwrap();
    let schema = (model == Model::Full).then(|| shared.join(format!("schema-{release}.json")));
    let found = replay(release, schema, &recording.requests).await;
    let listed = exceptions(release, model);
    let unlisted: Vec<_> = found.iter().filter(|(name, _)| !listed.contains_key(*name)).collect();
    let healed: Vec<_> = listed.keys().filter(|name| !found.contains_key(*name)).collect();
    assert!(unlisted.is_empty(), "{release} {model:?}: differ and are not listed: {unlisted:#?}");
    assert!(healed.is_empty(), "{release} {model:?}: listed, and no longer differ: {healed:#?}");
}

/// Lines of `release | model | group / name | reason`; `*` is any release or model.
fn exceptions(release: Release, model: Model) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder().join("exceptions.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let mut listed = BTreeMap::new();
    for line in lines {
        let fields: Vec<_> = line.split('|').map(str::trim).collect();
        let [of, with, name, reason] = fields[..] else { panic!("exceptions.txt: {line}") };
        assert!(!reason.is_empty(), "exceptions.txt: no reason: {line}");
        let with_matches = with == "*" || with == if model == Model::Full { "full" } else { "built-in" };
        if (of == "*" || of == release.to_string()) && with_matches {
            listed.insert(name.to_owned(), reason.to_owned());
        }
    }
    listed
}

/// What differs, by name.
async fn replay(
    release: Release,
    schema: Option<PathBuf>,
    exchanges: &[Exchange],
) -> BTreeMap<String, String> {
    let mut differences = BTreeMap::new();
    let start = |text: String| {
        let mut builder = Router::builder()
            .release(release)
            .key("EXAMPLE-KEY")
            .poison(Duration::ZERO)
            .plain_http()
            .configuration(parse::boot(&text).unwrap().tree);
        if let Some(file) = &schema {
            builder = builder.schema_file(file);
        }
        builder.spawn()
    };
    let mut router = start(BASE.to_owned()).await.unwrap();
    for exchange in exchanges {
        if exchange.group.starts_with("verify") {
            let fresh = release == Release::V1_4 && exchange.name == "bgp no system-as";
            let bgp = if fresh { "" } else { BGP };
            router = start(format!("{LAB}{bgp}")).await.unwrap();
        }
        if let Some((_, lines)) = EDITS.iter().find(|(name, _)| *name == exchange.name) {
            router.edit_lines(lines).await.unwrap();
        }
        let client = Client::of(&router);
        let (kind, body) = encode(exchange);
        let (status, content_type, text) = client.raw(&exchange.endpoint, kind.as_deref(), body).await;
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text));
        let wanted = (exchange.status, &exchange.content_type, &exchange.body);
        if (status, &content_type, &body) != wanted {
            let name = format!("{} / {}", exchange.group, exchange.name);
            differences
                .insert(name, format!("\nwanted {wanted:?}\n   got {:?}", (status, content_type, body)));
        }
    }
    differences
}

/// The bytes that were sent. Those of a few exchanges were not recorded; their names say what they were.
fn encode(exchange: &Exchange) -> (Option<String>, Vec<u8>) {
    let key = match exchange.name.as_str() {
        name if name.ends_with("bad key") => Some("wrong"),
        name if name.ends_with("no key") => None,
        _ => Some("EXAMPLE-KEY"),
    };
    let Some(request) = &exchange.request else { return unrecorded(&exchange.name) };
    let data = match &request.data {
        Value::String(text) => text.clone(),
        data => data.to_string(),
    };
    match request.encoding.as_str() {
        "multipart" => multipart(&[("data", Some(data.as_str())), ("key", key)]),
        "urlencoded" => {
            let text = format!("data={}&key={}", percent(&data), percent(key.unwrap_or("")));
            (Some("application/x-www-form-urlencoded".to_owned()), text.into_bytes())
        }
        _ => {
            let mut body = request.body.clone();
            match key {
                Some(key) => body["key"] = key.into(),
                None => {
                    body.as_object_mut().map(|fields| fields.remove("key"));
                }
            }
            (Some("application/json".to_owned()), body.to_string().into_bytes())
        }
    }
}

fn unrecorded(name: &str) -> (Option<String>, Vec<u8>) {
    match name {
        "json without content-type" => {
            let body = r#"{"op": "exists", "path": ["service", "https"], "key": "EXAMPLE-KEY"}"#;
            (None, body.into())
        }
        "empty body" => (None, Vec::new()),
        "form no data" => multipart(&[("key", Some("EXAMPLE-KEY"))]),
        "big body 2MB" => {
            let filler = "x".repeat(2 * 1024 * 1024);
            multipart(&[("data", Some(filler.as_str())), ("key", Some("EXAMPLE-KEY"))])
        }
        other => panic!("no request is recorded for {other:?}"),
    }
}

fn multipart(fields: &[(&str, Option<&str>)]) -> (Option<String>, Vec<u8>) {
    let mut body = String::new();
    for (name, value) in fields.iter().filter_map(|(name, value)| value.map(|value| (name, value))) {
        body += &format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    body += "--XyZ--\r\n";
    (Some("multipart/form-data; boundary=XyZ".to_owned()), body.into_bytes())
}

fn percent(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~".contains(b);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay")
}
