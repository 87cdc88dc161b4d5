//! The passive view of BGP beside real speakers: what it shows is what they say of themselves.
#![allow(clippy::panic, reason = "tests may fail")]

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use weir_netns::speaker::Session;
use weir_netns::wait::until;
use weir_netns::{Agent, Bgpd, Host, Pair, Speaker, bgpd, built};

/// For speakers on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

macro_rules! skip_unless_available {
    ($name:literal) => {
        if let Some(reason) = weir_netns::unavailable().or_else(bgpd::unavailable) {
            writeln!(std::io::stderr(), "SKIPPED {}: {reason}", $name)?;
            return Ok(());
        }
    };
}

const ASNS: [u32; 2] = [64513, 64512];

/// A speaker's side of a pair: its AS, its peer's, its peer's addresses, and lines for its neighbours and families.
struct Frr<'a> {
    asn: u32,
    peer_asn: u32,
    id: &'a str,
    peers: &'a [&'a str],
    neighbour: &'a [&'a str],
    networks: Vec<String>,
}

impl Frr<'_> {
    fn node<'a>(neighbour: &'a [&'a str]) -> Frr<'a> {
        let [asn, peer_asn] = ASNS;
        Frr { asn, peer_asn, id: "10.0.0.2", peers: &["10.0.0.1"], neighbour, networks: Vec::new() }
    }

    fn peer<'a>(neighbour: &'a [&'a str]) -> Frr<'a> {
        let [peer_asn, asn] = ASNS;
        Frr { asn, peer_asn, id: "10.0.0.1", peers: &["10.0.0.2"], neighbour, networks: Vec::new() }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "router bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n timers bgp 3 9\n",
            self.asn, self.id
        );
        for peer in self.peers {
            text +=
                &format!(" neighbor {peer} remote-as {}\n neighbor {peer} timers connect 1\n", self.peer_asn);
            text += &format!(" neighbor {peer} advertisement-interval 0\n");
            self.neighbour.iter().for_each(|line| text += &format!(" neighbor {peer} {line}\n"));
        }
        for (family, v6) in [("ipv4", false), ("ipv6", true)] {
            text += &format!(" address-family {family} unicast\n");
            self.peers.iter().for_each(|peer| text += &format!("  neighbor {peer} activate\n"));
            let networks = self.networks.iter().filter(|network| network.contains(':') == v6);
            networks.for_each(|network| text += &format!("  network {network}\n"));
            text += " exit-address-family\n";
        }
        text
    }
}

/// All that the agent shows of BGP.
#[derive(Debug)]
struct View {
    sessions: Vec<Value>,
    routes: Vec<Value>,
}

impl View {
    fn of(agent: &Agent<'_>) -> Result<Self> {
        let text = agent.weirctl(&["bgp", "--routes", "-o", "json"])?;
        let (mut sessions, mut routes) = (Vec::new(), Vec::new());
        for message in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
            let message = message?;
            sessions.extend(message["sessions"].as_array().cloned().unwrap_or_default());
            routes.extend(message["routes"].as_array().cloned().unwrap_or_default());
        }
        Ok(Self { sessions, routes })
    }

    fn session(&self, peer: &str) -> Result<&Value> {
        let found = self.sessions.iter().find(|session| session["peer"] == peer);
        found.with_context(|| format!("no session with {peer}: {:?}", self.sessions))
    }

    fn state(&self, peer: &str) -> String {
        self.session(peer).map_or("", |session| session["state"].as_str().unwrap_or_default()).to_owned()
    }

    fn routes(&self, peer: &str, direction: &str) -> BTreeSet<String> {
        let ours = self.routes.iter().filter(|it| it["peer"] == peer && it["direction"] == direction);
        ours.filter_map(|route| route["prefix"].as_str().map(str::to_owned)).collect()
    }
}

fn agent(node: &Host) -> Result<Agent<'_>> {
    let mut agent = Agent::new(node, &built("weir-agent")?, &["--interface", "eth0"])?;
    agent.start()?;
    agent.await_interface("eth0")?;
    Ok(agent)
}

fn await_view(agent: &Agent<'_>, what: &str, holds: impl Fn(&View) -> bool) -> Result<View> {
    let mut last = None;
    until(what, LIMIT, || {
        let view = View::of(agent)?;
        let it_does = holds(&view);
        last = Some(view);
        Ok(it_does)
    })
    .with_context(|| {
        let (sessions, routes) = last.as_ref().map_or((&[][..], 0), |it| (&it.sessions[..], it.routes.len()));
        format!("{routes} routes, sessions {sessions:#?}\n{}", agent.log_text())
    })?;
    last.context("nothing was seen")
}

fn await_established(agent: &Agent<'_>, peer: &str) -> Result<View> {
    await_view(agent, &format!("{peer} is established"), |view| view.state(peer) == "established")
}

/// What FRR says that it has told a neighbour.
fn told(bgpd: &Bgpd<'_>, family: &str, peer: &str) -> Result<BTreeSet<String>> {
    let answer = bgpd.json(&format!("show bgp {family} unicast neighbors {peer} advertised-routes"))?;
    let routes = answer["advertisedRoutes"].as_object();
    Ok(routes.map(|routes| routes.keys().cloned().collect()).unwrap_or_default())
}

fn both_families(bgpd: &Bgpd<'_>, peer: &str) -> Result<BTreeSet<String>> {
    let families = ["ipv4", "ipv6"].into_iter();
    families.map(|family| told(bgpd, family, peer)).try_fold(BTreeSet::new(), |mut all, one| {
        all.extend(one?);
        Ok(all)
    })
}

/// What the view shows and what both speakers say of a session, over IPv4 and over IPv6, with passwords.
#[test]
fn the_view_equals_what_frr_says_of_itself() -> Result<()> {
    skip_unless_available!("the_view_equals_what_frr_says_of_itself");
    let pair = Pair::new()?;
    let agent = agent(&pair.node)?;
    let secret = ["password lab-secret"];
    let mut node = Frr::node(&secret);
    node.peers = &["10.0.0.1", "fd00::1"];
    node.networks = ["10.10.50.10/32", "10.10.50.11/32", "fd10:10:50::10/128"].map(str::to_owned).to_vec();
    let mut peer = Frr::peer(&secret);
    peer.peers = &["10.0.0.2", "fd00::2"];
    // Ten thousand prefixes in one burst.
    peer.networks = (0..10_000).map(|n| format!("100.{}.{}.0/24", 64 + n / 256, n % 256)).collect();
    peer.networks.extend((0..100).map(|n| format!("2001:db8:{n:x}::/48")));
    let node_bgpd = Bgpd::start(&pair.node, &node.text())?;
    let peer_bgpd = Bgpd::start(&pair.peer, &peer.text())?;
    for (peer, node) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        await_established(&agent, peer)?;
        let equal = |view: &View| -> Result<bool> {
            let heard = both_families(&peer_bgpd, node)?;
            let sent = both_families(&node_bgpd, peer)?;
            Ok(heard.len() >= 10_100
                && sent.len() >= 3
                && view.routes(peer, "ingress") == heard
                && view.routes(peer, "egress") == sent)
        };
        let view = await_view(&agent, &format!("the view of {peer} equals the speakers'"), |view| {
            equal(view).unwrap_or(false)
        })?;
        let session = view.session(peer)?;
        assert_eq!(session["knowledge"], "whole");
        assert_eq!(
            (&session["ingress"]["complete"], &session["egress"]["complete"]),
            (&true.into(), &true.into())
        );
        assert_eq!(
            (&session["local_speaker"]["asn"], &session["peer_speaker"]["asn"]),
            (&64513.into(), &64512.into())
        );
        assert_eq!(session["hold_ns"], 9_000_000_000u64);
        assert_eq!(session["authenticated"], true);
        assert_eq!(session["ingress"]["missing_bytes"], 0);
        assert_eq!(session["ingress"]["malformed"], 0);
        assert!(session["ingress"]["ipv4_end_of_rib_ns"].is_number(), "{session:#}");
        let state = node_bgpd.json(&format!("show bgp neighbors {peer}"))?;
        assert_eq!(state[peer]["bgpState"], "Established");
        assert_eq!(state[peer]["bgpTimerHoldTimeMsecs"], 9000);
    }
    // Routes go one by one, too.
    peer_bgpd.configure(&["router bgp 64512", "address-family ipv4 unicast", "no network 100.64.0.0/24"])?;
    let view = await_view(&agent, "a withdrawal is seen", |view| {
        let heard = both_families(&peer_bgpd, "10.0.0.2").unwrap_or_default();
        !heard.contains("100.64.0.0/24") && view.routes("10.0.0.1", "ingress") == heard
    })?;
    assert!(view.routes("10.0.0.1", "ingress").len() >= 10_099);
    let scrape = agent.scrape()?;
    let labels =
        [("peer", "10.0.0.1"), ("local_asn", "64513"), ("peer_asn", "64512"), ("state", "established")];
    assert_eq!(scrape.count("weir_bgp_session_state", &labels), 1);
    let prefixes = |afi| {
        let labels = [("peer", "10.0.0.1"), ("afi", afi), ("direction", "ingress")];
        scrape.count("weir_bgp_prefixes", &labels) as usize
    };
    assert_eq!(prefixes("ipv4") + prefixes("ipv6"), view.routes("10.0.0.1", "ingress").len());
    let margin = scrape.sum("weir_bgp_hold_margin_ratio", &[("peer", "10.0.0.1")]);
    assert!((0.3..=1.0).contains(&margin), "{margin}");
    assert_eq!(scrape.count("weir_bgp_tap_lost_segments_total", &[]), 0);
    Ok(())
}

const SESSION: Session = Session {
    asns: ASNS,
    router: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    hold_seconds: 9,
};

fn vip(n: u8) -> String {
    format!("10.10.50.{n}")
}

fn prefixes(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<String> {
    numbers.into_iter().map(|n| format!("{}/32", vip(n))).collect()
}

/// GoBGP on the node, as Cilium has it. The agent goes and comes: in order, and by a crash.
#[test]
fn gobgp_is_followed_across_restarts_of_the_agent() -> Result<()> {
    skip_unless_available!("gobgp_is_followed_across_restarts_of_the_agent");
    let pair = Pair::new()?;
    let mut agent = agent(&pair.node)?;
    let peer = Bgpd::start(&pair.peer, &Frr::peer(&[]).text())?;
    let own = ["10.0.0.2".parse()?, "fd00::2".parse()?];
    let speaker = Speaker::start(&pair.node, own, SESSION)?;
    await_established(&agent, "10.0.0.1")?;
    speaker.announce(vip(1).parse()?)?;
    let seen = |agent: &Agent<'_>, what: &str, wanted: BTreeSet<String>| {
        await_view(agent, what, |view| view.routes("10.0.0.1", "egress") == wanted)
    };
    let before = seen(&agent, "the first route", prefixes([1]))?;

    // In order: the next one knows all, what came in between included.
    agent.process()?.stop()?;
    speaker.announce(vip(2).parse()?)?;
    until("the peer has the route", LIMIT, || {
        Ok(peer.ask("show bgp ipv4 unicast")?.contains(&format!("{}/32", vip(2))))
    })?;
    agent.start()?;
    let after = seen(&agent, "the route told between two agents", prefixes([1, 2]))?;
    let (old, new) = (before.session("10.0.0.1")?, after.session("10.0.0.1")?);
    assert_eq!((&new["since_ns"], &new["knowledge"]), (&old["since_ns"], &Value::from("whole")), "{new:#}");
    assert_eq!((&new["hold_ns"], &new["drops"]), (&old["hold_ns"], &Value::Array(Vec::new())));

    // By a crash, with what was known lost too: it says so, and shows what it sees from then on.
    agent.forget()?;
    agent.start()?;
    let joined = await_established(&agent, "10.0.0.1")?;
    let session = joined.session("10.0.0.1")?;
    assert_eq!((&session["knowledge"], &session["since_exact"]), (&"joined".into(), &false.into()));
    assert_eq!(session["egress"]["complete"], false);
    assert_eq!(joined.routes("10.0.0.1", "egress"), prefixes([]));
    speaker.announce(vip(3).parse()?)?;
    seen(&agent, "what was told since", prefixes([3]))?;
    speaker.withdraw(vip(3).parse()?)?;
    seen(&agent, "what was taken back since", prefixes([]))?;
    let peers_view: Value = serde_json::from_str(&speaker.gobgp(&["neighbor", "-j"])?)?;
    assert_eq!(peers_view[0]["state"]["session_state"], 6, "GoBGP's own word: established");

    // The session begins anew, and with it everything is known again.
    peer.ask("clear bgp 10.0.0.2")?;
    let whole = seen(&agent, "all routes", prefixes([1, 2]))?;
    assert_eq!(whole.session("10.0.0.1")?["knowledge"], "whole");
    let advertised = speaker.gobgp(&["neighbor", "10.0.0.1", "adj-out", "-j"])?;
    let adj_out: Value = serde_json::from_str(&advertised)?;
    let own: BTreeSet<String> =
        adj_out.as_object().map(|it| it.keys().cloned().collect()).unwrap_or_default();
    assert_eq!(own, prefixes([1, 2]), "GoBGP's own list");
    Ok(())
}

/// The view after a join at any moment of a session's life equals what the speaker says, as far as it can be known.
#[test]
fn joins_at_any_moment() -> Result<()> {
    skip_unless_available!("joins_at_any_moment");
    let pair = Pair::new()?;
    let mut agent = agent(&pair.node)?;
    let peer = Bgpd::start(&pair.peer, &Frr::peer(&[]).text())?;
    let mut node = Frr::node(&[]);
    node.networks = prefixes(1..=200).into_iter().collect();
    let mut known = 0;
    for moment in [0u64, 30, 120, 400, 1100, 2500] {
        agent.forget()?;
        let speaker = Bgpd::start(&pair.node, &node.text())?;
        // The moment is a delay on purpose: what happens meanwhile differs from run to run, and every outcome must hold.
        std::thread::sleep(Duration::from_millis(moment));
        agent.start()?;
        let view = await_established(&agent, "10.0.0.1")?;
        let complete = view.session("10.0.0.1")?["egress"]["complete"] == true;
        known += u32::from(complete);
        speaker.configure(&["router bgp 64513", "address-family ipv4 unicast", "network 10.10.51.1/32"])?;
        let late: BTreeSet<String> = ["10.10.51.1/32".to_owned()].into();
        await_view(&agent, &format!("the view after {moment} ms"), |view| {
            let seen = view.routes("10.0.0.1", "egress");
            let own = told(&speaker, "ipv4", "10.0.0.1").unwrap_or_default();
            let matches =
                if complete { seen == own } else { seen.is_subset(&own) && seen.is_superset(&late) };
            own.len() == 201 && matches
        })?;
        drop(speaker);
        let _ = &peer;
    }
    ensure!(known < 6, "no run joined in the middle");
    Ok(())
}

/// Every way to lose a session, for real, and its name.
#[test]
fn losses_are_named() -> Result<()> {
    skip_unless_available!("losses_are_named");
    let pair = Pair::new()?;
    let agent = agent(&pair.node)?;
    let mut peer = Bgpd::start(&pair.peer, &Frr::peer(&[]).text())?;
    let mut node = Bgpd::start(&pair.node, &Frr::node(&[]).text())?;
    let losses = |view: &View, cause: &str| {
        let drops = view.session("10.0.0.1").map(|session| session["drops"].clone()).unwrap_or_default();
        let of = drops.as_array().into_iter().flatten().find(|one| one["cause"] == cause).cloned();
        of.map_or(0, |one| one["times"].as_u64().unwrap_or_default())
    };
    let lost = |cause: &str, times: u64| {
        let view =
            await_view(&agent, &format!("{times} losses by {cause}"), |view| losses(view, cause) == times)?;
        let last = view.session("10.0.0.1")?["last_drop"].clone();
        ensure!(last["cause"] == cause, "{cause}: {last:#}");
        anyhow::Ok(last)
    };

    await_established(&agent, "10.0.0.1")?;
    node.configure(&["router bgp 64513", "neighbor 10.0.0.1 shutdown message drained by controller"])?;
    let last = lost("notification-sent", 1)?;
    assert_eq!((&last["code"], &last["subcode"], &last["by"]), (&6.into(), &2.into(), &"local".into()));
    assert_eq!(last["text"], "drained by controller");
    node.configure(&["router bgp 64513", "no neighbor 10.0.0.1 shutdown"])?;

    await_established(&agent, "10.0.0.1")?;
    peer.ask("clear bgp 10.0.0.2")?;
    let last = lost("notification-received", 1)?;
    assert_eq!((&last["code"], &last["subcode"], &last["by"]), (&6.into(), &4.into(), &"peer".into()));

    await_established(&agent, "10.0.0.1")?;
    peer.process().kill()?;
    let last = lost("fin", 1)?;
    assert_eq!(last["by"], "peer");
    peer = Bgpd::start(&pair.peer, &Frr::peer(&[]).text())?;

    await_established(&agent, "10.0.0.1")?;
    let reset = "add table inet cut\nadd chain inet cut in { type filter hook input priority 0; }\n\
                 add rule inet cut in tcp sport 179 reject with tcp reset\n\
                 add rule inet cut in tcp dport 179 reject with tcp reset\n";
    nft(&pair.node, reset)?;
    let last = lost("rst", 1)?;
    assert_eq!(last["by"], "local");
    nft(&pair.node, "delete table inet cut\n")?;

    // A silent cut: neither side hears of the other, and neither can say so. TCP repeats what is not acknowledged, and sends
    // nothing new.
    await_established(&agent, "10.0.0.1")?;
    let cut = "add table inet cut\nadd chain inet cut in { type filter hook input priority 0; policy drop; }\n\
               add chain inet cut out { type filter hook output priority 0; policy drop; }\n";
    nft(&pair.peer, cut)?;
    let last = lost("hold-timer", 1)?;
    assert!(last["reason"].as_str().is_some_and(|reason| reason.contains("hold time")), "{last:#}");
    nft(&pair.peer, "delete table inet cut\n")?;

    // A peer that hangs: its kernel acknowledges everything.
    await_established(&agent, "10.0.0.1")?;
    peer.process().signal(Signal::SIGSTOP)?;
    let last = lost("hold-timer", 2)?;
    assert_eq!((&last["reason"], &last["by"]), (&"hold timer expired".into(), &"local".into()));
    peer.process().signal(Signal::SIGCONT)?;

    await_established(&agent, "10.0.0.1")?;
    pair.peer.ip("link set eth0 down")?;
    lost("link", 1)?;
    pair.peer.ip("link set eth0 up")?;
    await_established(&agent, "10.0.0.1")?;
    // After such treatment speakers now and then lose one more by themselves, so theirs is the number that must be met.
    let mut seen = String::new();
    until("each was counted once, as the speaker did", LIMIT, || {
        let own = node.json("show bgp neighbors 10.0.0.1")?["10.0.0.1"].take();
        let own = ["connectionsDropped", "connectionsEstablished"].map(|field| own[field].as_u64());
        let scrape = agent.scrape()?;
        let ours = ["weir_bgp_session_drops_total", "weir_bgp_sessions_established_total"]
            .map(|name| Some(scrape.count(name, &[("peer", "10.0.0.1")])));
        seen = format!("drops and ups: ours {ours:?}, the speaker's {own:?}");
        Ok(ours == own && own[0] >= Some(7))
    })
    .context(seen)?;
    node.process().stop()?;
    Ok(())
}

fn nft(host: &Host, rules: &str) -> Result<()> {
    let mut command = std::process::Command::new("nft");
    command.arg("-f").arg("-").stdin(std::process::Stdio::piped());
    host.run(|| {
        let mut child = command.spawn()?;
        child.stdin.take().context("nft reads no rules")?.write_all(rules.as_bytes())?;
        ensure!(child.wait()?.success(), "nft refused:\n{rules}");
        Ok(())
    })
}

/// Two passwords: no connection comes about, and the view says why.
#[test]
fn different_passwords_are_suspected() -> Result<()> {
    skip_unless_available!("different_passwords_are_suspected");
    let pair = Pair::new()?;
    let agent = agent(&pair.node)?;
    let _peer = Bgpd::start(&pair.peer, &Frr::peer(&["password one"]).text())?;
    let _node = Bgpd::start(&pair.node, &Frr::node(&["password other"]).text())?;
    let view = await_view(&agent, "passwords are suspected", |view| {
        view.session("10.0.0.1").is_ok_and(|session| session["password_suspect"] == true)
    })?;
    assert_ne!(view.state("10.0.0.1"), "established");
    let text = agent.weirctl(&["bgp"])?;
    assert!(text.contains("compare both ends' passwords"), "{text}");
    assert_eq!(agent.scrape()?.count("weir_bgp_password_suspect", &[("peer", "10.0.0.1")]), 1);
    Ok(())
}

/// Somebody speaks something else on BGP's port, beside a good session.
#[test]
fn garbage_on_the_port_is_counted_and_not_believed() -> Result<()> {
    skip_unless_available!("garbage_on_the_port_is_counted_and_not_believed");
    let pair = Pair::new()?;
    let agent = agent(&pair.node)?;
    let _peer = Bgpd::start(&pair.peer, &Frr::peer(&[]).text())?;
    let mut node = Frr::node(&[]);
    node.networks = vec!["10.10.50.10/32".to_owned()];
    let _node = Bgpd::start(&pair.node, &node.text())?;
    await_view(&agent, "the route is told", |view| view.routes("10.0.0.1", "egress") == prefixes([10]))?;
    // From an address that is a neighbour's, so that the daemon takes the connection: a second one of the same peer.
    let garbage: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..5 {
        pair.peer.run(|| {
            let mut stream = std::net::TcpStream::connect("10.0.0.2:179")?;
            stream.write_all(&garbage).ok();
            Ok(())
        })?;
    }
    let view = await_view(&agent, "garbage is counted", |view| {
        view.session("10.0.0.1").is_ok_and(|it| it["ingress"]["garbage_bytes"].as_u64() > Some(0))
    })?;
    assert_eq!(view.state("10.0.0.1"), "established");
    assert_eq!(view.routes("10.0.0.1", "egress"), prefixes([10]));
    let drops = &view.session("10.0.0.1")?["drops"];
    assert_eq!(drops, &Value::Array(Vec::new()), "the good session goes on");
    Ok(())
}

/// The programs are taken off the interface for a while: the view says that it has a gap, and is right again after it.
#[test]
fn a_capture_that_misses_segments_says_so() -> Result<()> {
    skip_unless_available!("a_capture_that_misses_segments_says_so");
    let pair = Pair::new()?;
    let agent = agent(&pair.node)?;
    let peer = Bgpd::start(&pair.peer, &Frr::peer(&[]).text())?;
    let node = Bgpd::start(&pair.node, &Frr::node(&[]).text())?;
    await_established(&agent, "10.0.0.1")?;
    let ingress = agent.pins().join("links").join(format!("{}-ingress", pair.node.index("eth0")?));
    std::fs::remove_file(&ingress).context("the pinned link of the ingress hook")?;
    peer.configure(&["router bgp 64512", "address-family ipv4 unicast", "network 100.64.1.0/24"])?;
    until("the node has the route", LIMIT, || {
        Ok(node.ask("show bgp ipv4 unicast")?.contains("100.64.1.0/24"))
    })?;
    until("the agent is back on the interface", LIMIT, || Ok(ingress.exists()))?;
    peer.configure(&["router bgp 64512", "address-family ipv4 unicast", "network 100.64.2.0/24"])?;
    let view = await_view(&agent, "the route behind the gap", |view| {
        view.routes("10.0.0.1", "ingress").contains("100.64.2.0/24")
    })?;
    let session = view.session("10.0.0.1")?;
    assert_eq!(
        (&session["state"], &session["knowledge"]),
        (&"established".into(), &"gap".into()),
        "{session:#}"
    );
    assert_eq!(
        (&session["ingress"]["complete"], &session["egress"]["complete"]),
        (&false.into(), &true.into())
    );
    assert!(session["ingress"]["missing_bytes"].as_u64() > Some(0));
    assert!(!view.routes("10.0.0.1", "ingress").contains("100.64.1.0/24"), "nobody can know");
    peer.ask("clear bgp 10.0.0.2")?;
    await_view(&agent, "everything is known again", |view| {
        view.routes("10.0.0.1", "ingress").len() == 2
            && view.session("10.0.0.1").is_ok_and(|session| session["knowledge"] == "whole")
    })?;
    Ok(())
}

/// `weirctl bgp --follow` tells what happens, as it happens.
#[test]
fn a_follower_is_told_what_happens() -> Result<()> {
    skip_unless_available!("a_follower_is_told_what_happens");
    let pair = Pair::new()?;
    let agent = agent(&pair.node)?;
    let peer = Bgpd::start(&pair.peer, &Frr::peer(&[]).text())?;
    let node = Bgpd::start(&pair.node, &Frr::node(&[]).text())?;
    await_established(&agent, "10.0.0.1")?;
    let mut follower = agent.follow(&["bgp", "--follow", "--interval", "100ms"])?;
    follower.await_line("established")?;
    node.configure(&["router bgp 64513", "address-family ipv4 unicast", "network 10.10.50.10/32"])?;
    let line = follower.await_line("announced")?;
    assert!(line.contains("10.10.50.10/32") && line.contains("via 10.0.0.2, path 64513"), "{line}");
    node.configure(&["router bgp 64513", "address-family ipv4 unicast", "no network 10.10.50.10/32"])?;
    assert!(follower.await_line("withdrawn")?.contains("10.10.50.10/32"));
    peer.configure(&["router bgp 64512", "neighbor 10.0.0.2 shutdown message see you"])?;
    assert!(follower.await_line("notification-received")?.contains("\"see you\""));
    Ok(())
}
