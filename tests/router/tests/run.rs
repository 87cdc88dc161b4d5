//! `vyos-sync run` follows every Router of its source; one that is away holds up no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use vyos_router::{Generation, Router};
use vyos_sync::args::Cli;

async fn router() -> Router {
    Router::builder().generation(Generation::G1).key("the-api-key").spawn().await.unwrap()
}

fn say(folder: &Path, name: &str, router: &Router, vlan: u16) {
    let key = folder.join("key");
    std::fs::write(&key, "the-api-key").unwrap();
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Router\nmetadata: {{name: {name}}}\nspec:\n  endpoints: ['{}']\n  \
         tls: {{spkiPins: ['{}']}}\n  apiKey: {{file: '{}'}}\n  mode: Sync\n  grants: Open\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: RouterNetwork\nmetadata: {{name: {name}-net, namespace: lab}}\nspec:\n  \
         routerRef: {{name: {name}}}\n  vlan: {vlan}\n  parent: {{name: eth1}}\n  subnets: [{{cidr: 10.10.{vlan}.0/24}}]\n",
        router.url(),
        router.spki_pin(),
        key.display(),
    );
    std::fs::write(folder.join("source").join(format!("{name}.yaml")), text).unwrap();
}

async fn until_saved(router: &Router, vlan: u16) {
    let path = ["interfaces", "ethernet", "eth1", "vif", &vlan.to_string()].map(str::to_owned);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !router.saved().exists(&path) {
        assert!(tokio::time::Instant::now() < deadline, "VLAN {vlan} never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_router_is_followed_and_none_waits_for_another() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("source")).unwrap();
    let (one, two) = (router().await, router().await);
    say(folder.path(), "one", &one, 41);
    say(folder.path(), "two", &two, 42);
    let (source, state) = (folder.path().join("source"), folder.path().join("state"));
    let (source, state) = (source.display().to_string(), state.display().to_string());
    let words = ["vyos-sync", "run", "--source", &source, "--state-dir", &state, "--period", "1"];
    let command = Cli::try_parse_from(words).unwrap().command;
    let running = tokio::spawn(vyos_sync::commands::run(command));
    until_saved(&one, 41).await;
    until_saved(&two, 42).await;

    // The first goes away; the second gets its change, and a third one that is new is followed too.
    one.stop().await;
    let three = router().await;
    say(folder.path(), "three", &three, 43);
    say(folder.path(), "two", &two, 44);
    until_saved(&two, 44).await;
    until_saved(&three, 43).await;

    // A Router that is no longer there is left alone: nothing is taken from it.
    let commits = two.commits();
    std::fs::remove_file(folder.path().join("source/two.yaml")).unwrap();
    say(folder.path(), "three", &three, 45);
    until_saved(&three, 45).await;
    assert_eq!(two.commits(), commits);
    assert!(two.running().exists(&["interfaces", "ethernet", "eth1", "vif", "44"]));
    assert!(!running.is_finished(), "the loops go on");
    running.abort();
    two.stop().await;
    three.stop().await;
}
