//! Keys and passwords out of OpenBAO: fetched, renewed, rotated without a lost session, and kept while the server is sealed,
//! away or unwilling; and the injector's file, which is a file like any other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::{path::Path, time::Duration};

use clap::Parser as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use vyos_router::{Generation, Router};
use vyos_sync::{
    args::{Cli, Command},
    bao::{Bao, Options, Pace},
    gather,
    inputs::{Entry, Inputs, StoreState},
};

#[path = "../../../../tls/tests/secret/mod.rs"]
mod secret;
mod stand_in;

use stand_in::{JWT, OpenBao};

const MANIFESTS: &str = "
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: a, namespace: lab}
spec: {routerRef: {name: gw}, vlan: 40, parent: {name: eth1}, subnets: [{cidr: 10.10.40.0/24}]}
---
apiVersion: weir.dev/v1alpha1
kind: BGPPeering
metadata: {name: hand, namespace: lab}
spec:
  routerRef: {name: gw}
  peerASN: 64513
  peers: [{name: node-a, address: 10.10.40.10}]
  accept: [{prefix: 10.99.0.0/24, le: 32}]
  passwordRef: {name: peers, store: OpenBAO}
";

const PASSWORD: [&str; 5] = ["protocols", "bgp", "neighbor", "10.10.40.10", "password"];

/// Asks whenever something is wanted.
const EAGER: Pace = Pace { period: Duration::ZERO, rest: Duration::ZERO };

fn router_object(url: &str, pin: &str, key: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Router\nmetadata: {{name: gw}}\nspec:\n  endpoints: ['{url}']\n  \
         tls: {{spkiPins: ['{pin}']}}\n  apiKey: {key}\n  mode: Sync\n  drift: Revert\n  grants: Open\n  \
         bgp: {{asn: 64512}}\n  commit: {{deadMan: Reboot}}\n"
    )
}

fn inputs() -> Inputs {
    let pin = "A".repeat(43) + "=";
    let router = router_object("https://192.0.2.1", &pin, "{openBao: {name: gw}}");
    gather::text("all.yaml", &format!("{router}---\n{MANIFESTS}"))
}

fn options(server: &OpenBao) -> Options {
    let words = words(server);
    let line = ["vyos-sync", "apply", "--source", "x", "--state-dir", "y"].map(str::to_owned);
    match Cli::try_parse_from(line.into_iter().chain(words)).unwrap().command {
        Command::Apply(args) => args.bao,
        _ => panic!("it is not apply"),
    }
}

fn words(server: &OpenBao) -> Vec<String> {
    let file = |name: &str| server.mounted.path().join(name).display().to_string();
    ["--openbao", &server.url, "--openbao-ca", &file("ca.crt"), "--openbao-jwt", &file("jwt")]
        .map(str::to_owned)
        .to_vec()
}

fn store(server: &OpenBao) -> Bao {
    Bao::new(options(server).settings().unwrap().unwrap(), EAGER)
}

async fn stocked() -> OpenBao {
    let server = OpenBao::start().await;
    server.put("routers/gw", json!({"key": "the-api-key"}));
    server.put("bgp/lab/peers", json!({"password": "correct-horse"}));
    server.put("bgp/other/peers", json!({"password": "not-ours"}));
    server
}

/// What the store gives, and how it stands.
async fn supplied(bao: &Bao) -> (Option<String>, Option<String>, StoreState) {
    let mut inputs = inputs();
    bao.supply(&mut inputs).await;
    let text = |entry: Option<Entry>, key: &str| {
        inputs.stored(&entry.unwrap(), key).and_then(|bytes| bytes.text()).map(str::to_owned)
    };
    assert!(inputs.store.entries.len() <= 2, "nothing is read that nobody names");
    let shown = format!("{inputs:?}");
    for secret in ["the-api-key", "correct-horse", "stand-in-token", JWT] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
    let state = inputs.store.state.clone().unwrap();
    (text(Entry::of_router("gw"), "key"), text(Entry::of_peers("lab", "peers"), "password"), state)
}

fn known() -> (Option<String>, Option<String>) {
    (Some("the-api-key".to_owned()), Some("correct-horse".to_owned()))
}

fn kept(state: StoreState) -> (&'static str, String) {
    let StoreState::Kept { reason, text } = state else { panic!("it answers") };
    assert!(text.ends_with("what was read of it before stays in force"), "{text}");
    assert!(!text.contains("stand-in-token") && !text.contains(JWT), "{text}");
    (reason, text)
}

#[tokio::test]
async fn what_objects_name_is_read_and_rotation_is_seen() {
    let server = stocked().await;
    let bao = store(&server);
    let (key, password, state) = supplied(&bao).await;
    assert_eq!(((key, password), state), (known(), StoreState::Answers));
    server.put("bgp/lab/peers", json!({"password": "new-horse"}));
    assert_eq!(supplied(&bao).await.1.as_deref(), Some("new-horse"));
    server.vault().entries.remove("weir/bgp/lab/peers");
    let (_, gone, state) = supplied(&bao).await;
    assert_eq!((gone, state), (None, StoreState::Answers), "that there is none is an answer too");
    assert_eq!(server.vault().logins, 1, "one token for all of it");
    let reading = bao.reading();
    assert_eq!((reading.reachable, reading.asked[0]), (Some(true), 7));
}

#[tokio::test]
async fn entries_are_read_as_often_as_the_period_says() {
    let server = stocked().await;
    let bao = Bao::new(options(&server).settings().unwrap().unwrap(), Pace::default());
    for _ in 0..5 {
        supplied(&bao).await;
    }
    assert_eq!(server.vault().reads, 2);
    server.vault().sealed = true;
    assert_eq!(supplied(&bao).await.2, StoreState::Answers, "nobody asked it");
}

#[tokio::test]
async fn a_sealed_or_absent_server_keeps_what_is_known_and_says_so() {
    let server = stocked().await;
    let bao = store(&server);
    supplied(&bao).await;
    server.vault().sealed = true;
    let (key, password, state) = supplied(&bao).await;
    assert_eq!((key, password), known());
    let (reason, text) = kept(state);
    assert!(reason == "Sealed" && text.contains("it is sealed; unseal it"), "{text}");
    assert_eq!(bao.reading().reachable, Some(false));
    server.vault().sealed = false;
    assert_eq!(supplied(&bao).await.2, StoreState::Answers);
    server.vault().allowed = false;
    let (key, password, state) = supplied(&bao).await;
    assert_eq!((key, password), known());
    let (reason, text) = kept(state);
    assert!(reason == "Denied" && text.contains("secret/data/weir/bgp/lab/peers"), "{text}");
    let fresh = store(&server);
    let _mounted = server.stop().await;
    let (key, password, state) = supplied(&bao).await;
    assert_eq!((key, password), known());
    assert_eq!(kept(state).0, "Unreachable");
    let (key, _, state) = supplied(&fresh).await;
    assert_eq!((key, kept(state).0), (None, "Unreachable"), "who never asked knows nothing");
}

#[tokio::test]
async fn tokens_are_renewed_and_got_anew() {
    let server = stocked().await;
    server.vault().lease = (1, true);
    let bao = store(&server);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while server.vault().renewals == 0 {
        assert!(tokio::time::Instant::now() < deadline, "it was never renewed");
        assert_eq!(supplied(&bao).await.2, StoreState::Answers);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let logins = server.vault().logins;
    server.revoke();
    std::fs::write(server.mounted.path().join("jwt"), "projected-2").unwrap();
    let refused = kept(supplied(&bao).await.2);
    assert_eq!(refused.0, "Denied", "the role does not know that account's token");
    server.vault().jwt = "projected-2".to_owned();
    let (key, password, state) = supplied(&bao).await;
    assert_eq!(((key, password), state), (known(), StoreState::Answers));
    assert_eq!(server.vault().logins, logins + 1, "with the token that the file holds now");
    std::fs::remove_file(server.mounted.path().join("jwt")).unwrap();
    server.revoke();
    assert_eq!(kept(supplied(&bao).await.2).0, "NoLogin");
}

#[tokio::test]
async fn a_token_file_serves_in_place_of_kubernetes() {
    let server = stocked().await;
    let file = server.mounted.path().join("token");
    std::fs::write(&file, server.token(3600)).unwrap();
    let options = Options { openbao_token: Some(file.clone()), ..options(&server) };
    let bao = Bao::new(options.settings().unwrap().unwrap(), EAGER);
    let (key, password, state) = supplied(&bao).await;
    assert_eq!(((key, password), state), (known(), StoreState::Answers));
    server.revoke();
    assert_eq!(kept(supplied(&bao).await.2).0, "Denied");
    std::fs::write(&file, server.token(3600)).unwrap();
    assert_eq!(supplied(&bao).await.2, StoreState::Answers);
    assert_eq!(server.vault().logins, 0);
}

/// vyos-sync as a process would run, on a router and a folder.
struct Rig {
    router: Router,
    folder: tempfile::TempDir,
    running: Option<JoinHandle<()>>,
}

impl Rig {
    async fn new(key: &str) -> Self {
        let router = Router::builder().generation(Generation::G1).key("the-api-key").spawn().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        let rig = Self { router, folder, running: None };
        rig.say("router.yaml", &router_object(&rig.router.url(), rig.router.spki_pin(), key));
        rig
    }

    fn say(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join("source").join(file), text).unwrap();
    }

    async fn run(&mut self, more: Vec<String>) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let line =
            ["vyos-sync", "run", "--source", &path("source"), "--state-dir", &path("state"), "--period", "1"];
        let line = line.map(str::to_owned).into_iter().chain(more);
        let command = Cli::try_parse_from(line).unwrap().command;
        self.running = Some(tokio::spawn(async move { drop(vyos_sync::commands::run(command).await) }));
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(tokio::time::Instant::now() < deadline, "{what}: {}", self.status());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn password(&self) -> Option<String> {
        self.router
            .saved()
            .leaves()
            .into_iter()
            .find_map(|leaf| leaf.path.begins(&PASSWORD).then_some(leaf.value)?)
    }

    /// What the Router would say in a cluster.
    fn status(&self) -> Value {
        let text =
            std::fs::read_to_string(self.folder.path().join("state/gw/status.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn condition(&self, kind: &str) -> Option<(String, String)> {
        let status = self.status();
        let found = status["router"]["conditions"].as_array()?.iter().find(|it| it["type"] == kind)?.clone();
        Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
    }

    fn written(&self) -> String {
        let mut all = String::new();
        read(&self.folder.path().join("state"), &mut all);
        all
    }
}

fn read(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => read(&path, all),
            false => all.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap())),
        }
    }
}

fn network(name: &str, vlan: u16) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: RouterNetwork\nmetadata: {{name: {name}, namespace: lab}}\n\
         spec: {{routerRef: {{name: gw}}, vlan: {vlan}, parent: {{name: eth1}}, subnets: [{{cidr: 10.10.{vlan}.0/24}}]}}\n"
    )
}

fn has_vlan(rig: &Rig, vlan: u16) -> bool {
    rig.router
        .saved()
        .exists(&["interfaces", "ethernet", "eth1", "vif", &vlan.to_string()].map(str::to_owned))
}

const STORE: &str = "SecretStoreReachable";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_passwords_rotate_on_the_router_and_a_sealed_store_stops_nothing() {
    let server = stocked().await;
    let mut rig = Rig::new("{openBao: {name: gw}}").await;
    rig.say("all.yaml", MANIFESTS);
    rig.run(words(&server)).await;
    rig.until("the password comes", |rig| rig.password().as_deref() == Some("correct-horse")).await;
    server.put("bgp/lab/peers", json!({"password": "new-horse"}));
    rig.until("the password rotates", |rig| rig.password().as_deref() == Some("new-horse")).await;

    server.put("routers/gw", json!({"key": "the-new-key"}));
    rig.router.edit_lines("set service https api keys id next key the-new-key").await.unwrap();
    rig.say("b.yaml", &network("b", 50));
    rig.until("a change with the new key", |rig| has_vlan(rig, 50)).await;

    server.vault().sealed = true;
    let said = |status: &'static str, reason: &'static str| {
        move |rig: &Rig| rig.condition(STORE) == Some((status.to_owned(), reason.to_owned()))
    };
    rig.until("the seal is told", said("False", "Sealed")).await;
    rig.say("c.yaml", &network("c", 60));
    rig.until("a change while it is sealed", |rig| has_vlan(rig, 60)).await;
    assert_eq!(rig.password().as_deref(), Some("new-horse"));

    // A new process knows nothing; it leaves the router as it is, and says why.
    let commits = rig.router.commits();
    rig.run(words(&server)).await;
    rig.say("d.yaml", &network("d", 70));
    let waits = |rig: &Rig| rig.condition("Synced") == Some(("Unknown".to_owned(), "Sealed".to_owned()));
    rig.until("the new process waits", waits).await;
    assert_eq!((rig.router.commits(), has_vlan(&rig, 70)), (commits, false));
    server.vault().sealed = false;
    rig.until("it goes on", |rig| has_vlan(rig, 70)).await;
    rig.until("the store answers", said("True", "Answers")).await;

    let written = rig.written();
    for secret in ["the-api-key", "the-new-key", "correct-horse", "new-horse", "stand-in-token", JWT] {
        assert!(!written.contains(secret), "{secret} was written");
    }
    rig.running.unwrap().abort();
    rig.router.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_injector_renews_is_a_file_like_any_other() {
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("gateway");
    // As the injector's agent does: a new file is moved over the old one.
    let render = |key: &str| {
        std::fs::write(secrets.path().join(".tmp"), key).unwrap();
        std::fs::rename(secrets.path().join(".tmp"), &file).unwrap();
    };
    render("the-api-key");
    let mut rig = Rig::new(&format!("{{file: '{}'}}", file.display())).await;
    rig.say("a.yaml", &network("a", 40));
    rig.run(Vec::new()).await;
    rig.until("the first change", |rig| has_vlan(rig, 40)).await;
    rig.router.edit_lines("set service https api keys id next key the-new-key").await.unwrap();
    render("the-new-key");
    rig.say("b.yaml", &network("b", 50));
    rig.until("a change with the new key", |rig| has_vlan(rig, 50)).await;
    assert_eq!(rig.condition(STORE), None, "no store was asked for");
    rig.running.unwrap().abort();
    rig.router.stop().await;
}
