//! The API over the wire: encodings, confirm, faults, restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

use std::time::Duration;

use serde_json::{Value, json};
use vyos_router::{Fault, FaultKind, Generation, Release, Router};

mod client;
use client::Client;

fn set(path: &str, value: &str) -> Value {
    json!({"op": "set", "path": path.split(' ').collect::<Vec<_>>(), "value": value})
}

const PLACE: &str = "interfaces ethernet eth5 description";

async fn start(generation: Generation) -> (Router, Client) {
    let router = Router::builder()
        .generation(generation)
        .poison(Duration::from_millis(80))
        .minute(Duration::from_millis(150))
        .boot_time(Duration::from_millis(50))
        .spawn()
        .await
        .unwrap();
    let client = Client::of(&router);
    (router, client)
}

#[tokio::test]
async fn sets_reads_and_saves_over_tls() {
    let (router, client) = start(Generation::G0).await;
    assert_eq!(client.configure(&[set(PLACE, "a b")]).await, (200, json!(null)));
    let shown = client.show_config(&["interfaces"]).await;
    assert_eq!(shown, (200, json!({"ethernet": {"eth5": {"description": "a b"}}})));
    assert_ne!(router.saved(), router.running());
    assert_eq!(client.json("/config-file", json!({"op": "save"})).await, (200, json!("")));
    assert_eq!(router.saved(), router.running());
    router.stop().await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_get_is_not_allowed() {
    let (router, client) = start(Generation::G0).await;
    let wrong = client.clone().with_key("nope");
    assert_eq!(wrong.show_config(&["service"]).await, (401, json!("Valid API key is required")));
    assert_eq!(client.get("/retrieve").await.0, 405);
    assert_eq!(client.get("/nothing").await.0, 404);
    router.stop().await;
}

#[tokio::test]
async fn an_unconfirmed_commit_restarts_into_what_is_saved() {
    let (router, client) = start(Generation::G2).await;
    let body = json!({"commands": [set(PLACE, "x")], "confirm_time": 1});
    let (status, data) = client.json("/configure", body).await;
    assert_eq!(
        (status, data),
        (200, json!("Initialized commit-confirm; 1 minutes to confirm before reboot\n"))
    );
    client.until_boots(&router, 1).await;
    assert_eq!(client.exists(PLACE).await, json!(false));
    router.stop().await;
}

#[tokio::test]
async fn a_confirmed_commit_stays() {
    for generation in [Generation::G1, Generation::G2, Generation::G3] {
        let (router, client) = start(generation).await;
        client.json("/configure", json!({"commands": [set(PLACE, "x")], "confirm_time": 1})).await;
        let confirmed = client.json("/configure", json!({"op": "confirm", "path": []})).await;
        assert_eq!(confirmed, (200, json!("Reboot timer stopped\n")));
        assert_eq!(
            client.json("/config-file", json!({"op": "confirm"})).await,
            (200, json!("No confirm pending\n"))
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!((router.boots(), client.exists(PLACE).await), (0, json!(true)));
        router.stop().await;
    }
}

#[tokio::test]
async fn the_first_generation_commits_for_good_and_knows_no_confirm() {
    let (router, client) = start(Generation::G0).await;
    let body = json!({"commands": [set(PLACE, "x")], "confirm_time": 1});
    assert_eq!(client.json("/configure", body).await, (200, json!(null)));
    assert_eq!(client.json("/configure", json!({"op": "confirm", "path": []})).await.0, 400);
    router.stop().await;
}

#[tokio::test]
async fn a_second_confirm_is_refused_before_or_after_committing() {
    for (generation, committed) in [(Generation::G1, false), (Generation::G2, true)] {
        let (router, client) = start(generation).await;
        let with = |value: &str| json!({"commands": [set(PLACE, value)], "confirm_time": 100});
        client.json("/configure", with("x")).await;
        let refused = client.json("/configure", with("y")).await;
        assert_eq!(refused, (400, json!("Another confirm is pending\n")));
        let value = client.json("/retrieve", json!({"op": "returnValue", "path": path(PLACE)})).await.1;
        assert_eq!(value, if committed { json!("y") } else { json!("x") });
        router.stop().await;
    }
}

#[tokio::test]
async fn a_dropped_reply_is_applied_all_the_same() {
    let (router, client) = start(Generation::G0).await;
    router.add_fault(Fault::once(FaultKind::DropReply));
    assert!(client.try_configure(&[set(PLACE, "x")]).await.is_err());
    assert_eq!(client.exists(PLACE).await, json!(true));
    router.stop().await;
}

#[tokio::test]
async fn refused_paths_stay_poisoned_for_a_while() {
    let (router, client) = start(Generation::G0).await;
    router.add_fault(Fault::once(FaultKind::Refuse));
    assert_eq!(client.configure(&[set(PLACE, "x")]).await, (400, json!("Set failed\n")));
    assert_eq!(client.configure(&[set(PLACE, "x")]).await, (400, json!("Set failed\n")));
    let other = [set("interfaces ethernet eth4 description", "x")];
    assert_eq!(client.configure(&other).await.0, 200);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.configure(&[set(PLACE, "x")]).await.0, 200);
    router.stop().await;
}

#[tokio::test]
async fn half_applied_is_seen_as_such() {
    let (router, client) = start(Generation::G0).await;
    router.add_fault(Fault::once(FaultKind::HalfApply));
    let both = [set(PLACE, "x"), set("system host-name", "r1")];
    let (status, error) = client.configure(&both).await;
    assert_eq!(status, 400);
    assert!(error.as_str().unwrap().contains("failed\nCommit failed\n"), "{error}");
    assert_eq!(client.exists(PLACE).await, json!(true));
    assert_eq!(client.exists("system host-name").await, json!(false));
    router.stop().await;
}

#[tokio::test]
async fn a_scheduled_reboot_warns_of_what_is_unsaved_and_can_be_cancelled() {
    let (router, client) = start(Generation::G0).await;
    client.configure(&[set(PLACE, "x")]).await;
    let (_, text) = client.json("/reboot", json!({"op": "reboot", "path": ["in", "1"]})).await;
    assert!(text.as_str().unwrap().starts_with("Warning: there are unsaved"), "{text}");
    client.json("/reboot", json!({"op": "reboot", "path": ["cancel"]})).await;
    client.json("/config-file", json!({"op": "save"})).await;
    let (_, text) = client.json("/reboot", json!({"op": "reboot", "path": ["now"]})).await;
    assert!(text.as_str().unwrap().starts_with("Reboot is scheduled"), "{text}");
    client.until_boots(&router, 1).await;
    assert_eq!(client.exists(PLACE).await, json!(true));
    router.stop().await;
}

#[tokio::test]
async fn a_lost_link_comes_back_with_the_roll_back() {
    let (router, client) = start(Generation::G1).await;
    router.add_fault(Fault::once(FaultKind::LoseLink));
    let body = json!({"commands": [set(PLACE, "x")], "confirm_time": 1});
    assert!(client.try_json("/configure", body).await.is_err());
    client.until_boots(&router, 1).await;
    assert_eq!(client.exists(PLACE).await, json!(false));
    router.stop().await;
}

#[tokio::test]
async fn the_control_endpoint_sets_faults_and_edits() {
    let router = Router::builder().control("127.0.0.1:0".parse().unwrap()).spawn().await.unwrap();
    let client = Client::of(&router);
    let control = format!("http://{}", router.control_address().unwrap());
    assert_eq!(client.post_text(&format!("{control}/faults"), "html=1").await, 200);
    assert_eq!(client.show_config(&["service"]).await.0, 502);
    assert_eq!(client.post_text(&format!("{control}/faults"), "nonsense").await, 400);
    assert_eq!(client.post_text(&format!("{control}/reboot"), "").await, 200);
    client.until_boots(&router, 1).await;
    router.stop().await;
}

#[tokio::test]
async fn reads_fail_while_somebody_configures() {
    let router = Router::builder().op_cost(Duration::from_millis(300)).spawn().await.unwrap();
    let client = Client::of(&router);
    let writes = client.clone();
    let write = tokio::spawn(async move { writes.configure(&[set(PLACE, "x")]).await });
    while client.exists(PLACE).await == json!(false) {
        tokio::task::yield_now().await;
    }
    let read = client.show_config(&["interfaces"]).await;
    assert_eq!(read, (500, json!("An internal error occured. Check the logs for details.")));
    assert_eq!(write.await.unwrap().0, 200);
    assert_eq!(client.show_config(&["interfaces"]).await.0, 200);
    router.stop().await;
}

#[tokio::test]
async fn a_change_of_the_api_is_committed_in_the_background() {
    let router = Router::builder().release(Release::V1_4).spawn().await.unwrap();
    let client = Client::of(&router);
    let (status, text) = client.configure(&[set("service https listen-address", "127.0.0.1")]).await;
    assert_eq!(status, 200);
    assert!(text.as_str().unwrap().ends_with("in the background"));
    assert_eq!(client.exists("service https listen-address").await, json!(true));
    router.stop().await;
}

fn path(words: &str) -> Vec<&str> {
    words.split(' ').collect()
}
