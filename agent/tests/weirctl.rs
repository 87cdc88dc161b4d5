//! The real `weirctl` against a real server.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use weir_agent::export::grpc;
use weir_tls::{Listener, Protocol};

mod fixture;
#[path = "fixture/serve.rs"]
mod serve;

use serve::Served;

fn weirctl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    command.env_remove("WEIR_ADDRESS").arg("--socket").arg(socket).args(arguments).kill_on_drop(true);
    command
}

async fn output(socket: &Path, arguments: &[&str]) -> Output {
    weirctl(socket, arguments).output().await.unwrap()
}

async fn shown(socket: &Path, arguments: &[&str]) -> String {
    let output = output(socket, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables() {
    let served = Served::start();
    for name in ["status", "flows", "drops", "links", "bfd", "vips"] {
        let text = shown(&served.socket, &[name]).await;
        assert!(!text.contains('\x1b'), "no colours where there is no terminal");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        insta::assert_snapshot!(name, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bgp_tells_what_a_table_has_no_room_for() {
    let served = Served::start();
    let text = shown(&served.socket, &["bgp"]).await;
    for part in [
        "10.10.30.1  64512  64513  established",
        "by the peer: cease: administrative shutdown, saying \"drained\"",
        "10.10.30.2: connections are tried with the MD5 option and never answered",
        "10.10.30.1: advertised: the wire shows 1 ipv4, Cilium reports 2 ipv4",
        "1 segments (4.10k octets) of BGP's ports did not reach the agent",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let routes = shown(&served.socket, &["bgp", "--routes", "--peer", "10.10.30.1"]).await;
    assert!(routes.contains("10.10.50.10/32") && routes.contains("65535:0"), "{routes}");
    assert!(!routes.contains("10.10.30.2"));
    let wrong = output(&served.socket, &["bgp", "--peer", "gateway"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("gateway is no address of a peer"));
}

#[tokio::test]
async fn ways_of_virtual_addresses() {
    let served = Served::start();
    for (name, vip) in [
        ("explain-without-endpoint", "10.10.50.10"),
        ("explain-loop", "10.10.50.11"),
        ("explain-by-nobody", "10.10.51.7"),
        ("explain-unknown", "10.9.9.9"),
    ] {
        let text = shown(&served.socket, &["explain", vip]).await;
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        insta::assert_snapshot!(name, text);
    }
    let text = shown(&served.socket, &["explain", "10.10.51.7", "-o", "json"]).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    let at = value["breaks_at"].as_u64().unwrap();
    assert_eq!(value["steps"][at as usize]["verdict"], "broken");
    let text = shown(&served.socket, &["vips", "--state", "routing-loop", "-o", "json"]).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["vips"].as_array().unwrap().len(), 1);
    assert_eq!(value["vips"][0]["address"], "10.10.50.11");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_line_a_message() {
    let served = Served::start();
    for name in ["status", "flows", "drops", "links", "bgp", "bfd", "vips"] {
        let text = shown(&served.socket, &[name, "-o", "json"]).await;
        assert_eq!(text.lines().count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value.is_object());
    }
    let top = shown(&served.socket, &["top", "--interval", "100ms", "--count", "3", "-o", "json"]).await;
    let lines: Vec<Value> = top.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_piped_prints_a_picture_an_interval() {
    let served = Served::start();
    let text = shown(&served.socket, &["top", "--interval", "100ms", "--count", "2"]).await;
    assert_eq!(text.matches("rates over").count(), 2);
    assert_eq!(text.matches("INTERFACE").count(), 2);
    assert!(!text.contains('\x1b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_colours_unless_refused() {
    let served = Served::start();
    let program = env!("CARGO_BIN_EXE_weirctl");
    let command = format!("{program} --socket {} status", served.socket.display());
    let on_terminal = |no_colour: &'static str| {
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("TERM", "xterm").env("NO_COLOR", no_colour);
        script.stdin(Stdio::null()).output()
    };
    let Ok(coloured) = on_terminal("").await else {
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED a_terminal_gets_colours_unless_refused: script(1) is missing"
        );
        return;
    };
    assert!(String::from_utf8_lossy(&coloured.stdout).contains("\x1b[32mhead\x1b[0m"));
    let plain = on_terminal("1").await.unwrap();
    assert!(!String::from_utf8_lossy(&plain.stdout).contains('\x1b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_until_the_agent_ends() {
    let served = Served::start();
    let arguments = ["flows", "--follow", "--interval", "100ms", "-o", "json", "--direction", "egress"];
    let mut child = weirctl(&served.socket, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    served.bench.change(|readings| readings.flows.iter_mut().flatten().for_each(|flow| flow.packets += 7));
    let moved: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(moved["flows"][0]["new_packets"], 7);
    served.shutdown.cancel();
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_when_asked() {
    let served = Served::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let listener = Listener::new(listener, None, Protocol::Calls);
    let serving = tokio::spawn(grpc::serve_tcp(listener, served.service.clone(), None));
    let text = shown(Path::new("/nonexistent"), &["--address", &address, "links"]).await;
    assert!(text.contains("eth0.50"));
    served.shutdown.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_way_out_and_have_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let absent = output(&socket, &["status"]).await;
    let says = String::from_utf8(absent.stderr).unwrap();
    let expected = format!("no agent answers at {}; start weir-agent, or name its socket", socket.display());
    assert!(says.contains(&expected), "{says}");
    assert_eq!((absent.status.code(), absent.stdout.len()), (Some(3), 0));

    let served = Served::start();
    let refused = output(&served.socket, &["flows", "--interface", "eth9"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let says = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(
        says.trim(),
        "weirctl: the agent answered: filter interface is eth9; no such interface on this node; see weirctl links"
    );

    for (arguments, way_out) in [
        (["vips", "--state=dead"], "state is dead; it is one of ok, advertised-by-nobody"),
        (["explain", "shop"], "address is \"shop\"; write one such as 10.10.50.10"),
    ] {
        let refused = output(&served.socket, &arguments).await;
        let says = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(says.contains(way_out), "{says}");
    }

    let usage = output(&served.socket, &["top", "--interval", "5ms"]).await;
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8(usage.stderr).unwrap().contains("choose 100ms to 60s"));
}
