//! What Cilium says of its sessions beside what the wire shows, with a real session between GoBGP and FRR.
#![allow(clippy::panic, reason = "tests may fail")]

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_netns::objects::Manifests;
use weir_netns::speaker::Session;
use weir_netns::wait::until;
use weir_netns::{Agent, Bgpd, Pair, Speaker, bgpd, built};

const LIMIT: Duration = Duration::from_secs(60);
const PEER: &str = "10.0.0.1";
const ASNS: [u32; 2] = [64513, 64512];

/// What Cilium would write of a session (CiliumBGPNodeConfig, cilium.io/v2).
fn node_config(state: &str, advertised: u64) -> Value {
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": {"name": "node1"},
        "spec": {"bgpInstances": [{"name": "lab", "localASN": ASNS[0],
                                   "peers": [{"name": "router", "peerASN": ASNS[1], "peerAddress": PEER}]}]},
        "status": {"bgpInstances": [{"name": "lab", "localASN": ASNS[0], "peers": [{
            "name": "router", "peerASN": ASNS[1], "peerAddress": PEER, "peeringState": state,
            "timers": {"appliedHoldTimeSeconds": 9, "appliedKeepaliveSeconds": 3},
            "routeCount": [{"afi": "ipv4", "safi": "unicast", "advertised": advertised, "received": 0}]}]}]}})
}

/// The wire's session, Cilium's word of it, and what differs.
fn view(agent: &Agent<'_>) -> Result<(Value, Value, Vec<String>)> {
    let answer: Value = serde_json::from_str(&agent.weirctl(&["bgp", "-o", "json"])?)?;
    let one = |list: &str| answer[list].as_array().and_then(|all| all.first()).cloned().unwrap_or_default();
    let differences = answer["differences"].as_array().cloned().unwrap_or_default();
    let about = differences.iter().filter_map(|one| one["about"].as_str().map(str::to_owned));
    Ok((one("sessions"), one("reported"), about.collect()))
}

/// Waits until Cilium's word is in the table as it was told, and exactly these facts differ.
fn expect(agent: &Agent<'_>, state: &str, advertised: u64, about: &[&str]) -> Result<()> {
    let what = format!("{state} with {advertised} routes differs about {about:?}");
    until(&what, LIMIT, || {
        let (_, reported, differences) = view(agent)?;
        let told = reported["state"] == state && reported["advertised"] == advertised;
        Ok(told && differences == about)
    })
    .with_context(|| format!("{:#?}\n{}", view(agent), agent.log_text()))?;
    let scrape = agent.scrape()?;
    let told = [("peer", PEER), ("state", state)];
    assert_eq!(scrape.count("weir_bgp_reported_session_state", &told), 1);
    let routes = [("peer", PEER), ("afi", "ipv4"), ("direction", "egress")];
    assert_eq!(scrape.count("weir_bgp_reported_prefixes", &routes), advertised);
    let named =
        |about: &str| scrape.count("weir_bgp_status_differences", &[("peer", PEER), ("about", about)]);
    for each in ["session", "state", "asn", "hold-time", "advertised", "received"] {
        assert_eq!(named(each), u64::from(about.contains(&each)), "{each}");
    }
    Ok(())
}

#[test]
fn the_speakers_own_word_is_held_against_the_wire() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable().or_else(bgpd::unavailable) {
        writeln!(std::io::stderr(), "SKIPPED the_speakers_own_word_is_held_against_the_wire: {reason}")?;
        return Ok(());
    }
    let pair = Pair::new()?;
    let manifests = Manifests::with_text(&node_config("established", 1).to_string())?;
    let folder = manifests.path().display().to_string();
    let options = ["--interface", "eth0", "--node", "node1", "--manifests", &folder];
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &options)?;
    agent.start()?;
    agent.await_interface("eth0")?;
    // Before any session: Cilium speaks of one that the wire does not show.
    expect(&agent, "established", 1, &["session"])?;

    let [node, router] = ASNS;
    // FRR would tell the node its own route again, and the counts of what is heard would depend on when.
    let neighbour = format!(
        "ip prefix-list none deny any\nrouter bgp {router}\n bgp router-id {PEER}\n no bgp ebgp-requires-policy\n \
         timers bgp 3 9\n neighbor 10.0.0.2 remote-as {node}\n neighbor 10.0.0.2 passive\n \
         address-family ipv4 unicast\n  neighbor 10.0.0.2 prefix-list none out\n exit-address-family\n"
    );
    let mut peer = Bgpd::start(&pair.peer, &neighbour)?;
    let session = Session { asns: ASNS, router: PEER.parse()?, hold_seconds: 9 };
    let speaker = Speaker::start(&pair.node, ["10.0.0.2".parse()?, "fd00::2".parse()?], session)?;
    speaker.announce("10.10.50.10".parse()?)?;

    // They agree, and both are shown.
    expect(&agent, "established", 1, &[])?;
    let (session, reported, _) = view(&agent)?;
    assert_eq!((&session["state"], &reported["state"]), (&json!("established"), &json!("established")));
    assert_eq!((&session["egress"]["ipv4_prefixes"], &reported["advertised"]), (&json!(1), &json!(1)));
    let text = agent.weirctl(&["bgp"])?;
    ensure!(text.contains("10.0.0.1: Cilium reports established, 1 told, 0 heard"), "{text}");
    ensure!(!text.contains("the wire shows"), "{text}");

    // Cilium counts another route than the wire has.
    manifests.write_text(&node_config("established", 2).to_string())?;
    expect(&agent, "established", 2, &["advertised"])?;
    let text = agent.weirctl(&["bgp"])?;
    ensure!(text.contains("advertised: the wire shows 1 ipv4, Cilium reports 2 ipv4"), "{text}");

    // Cilium still waits for a session that is up.
    manifests.write_text(&node_config("active", 1).to_string())?;
    expect(&agent, "active", 1, &["state"])?;

    // The session is lost, and Cilium does not know yet: the cause stands beside its word.
    manifests.write_text(&node_config("established", 1).to_string())?;
    expect(&agent, "established", 1, &[])?;
    peer.process().kill()?;
    until("the loss is named", LIMIT, || Ok(view(&agent)?.2.iter().any(|about| about == "state")))?;
    let text = agent.weirctl(&["bgp"])?;
    ensure!(text.contains(", lost by ") && text.contains("Cilium reports established"), "{text}");

    // Without the object nobody reports.
    manifests.write_text("{}")?;
    until("the word is gone", LIMIT, || {
        let (_, reported, differences) = view(&agent)?;
        let series = agent.scrape()?.select("weir_bgp_status_differences", &[]).count();
        Ok(reported.is_null() && differences.is_empty() && series == 0)
    })
    .map(drop)
}
