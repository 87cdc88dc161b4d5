//! The truth table in the lab: real speakers, a real router, real packets. Each disagreement by its name, and none where all
//! agree.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_netns::objects::{Manifests, Objects};
use weir_netns::packet::{SYN, Transport};
use weir_netns::topology::{UPLINK, VIP4, VIP6};
use weir_netns::traffic;
use weir_netns::wait::until;
use weir_netns::{Agent, Gateway, Host, Lab, Packet, Process, Speaker, Wire, built, gateway, speaker};

/// From a change to its name: the folder is looked at every 2 s, the router every 2 s, and a finding has to hold for 5 s.
const LIMIT: Duration = Duration::from_secs(100);
/// Longer than a finding takes to be named.
const CALM: Duration = Duration::from_secs(12);
const VIEW: Duration = Duration::from_secs(2);
/// An address on the nodes' own link.
const ON_LINK: &str = "10.10.30.200";
/// An address that is on no node: its ports are translated, as Cilium does.
const TRANSLATED: &str = "10.10.50.20";

macro_rules! skip_unless_available {
    ($name:literal) => {
        if let Some(reason) = weir_netns::unavailable().or_else(gateway::unavailable) {
            eprintln!("SKIPPED {}: {reason}", $name);
            return Ok(());
        }
    };
}

fn objects() -> Objects {
    Objects {
        vips: vec![VIP4.to_owned(), VIP6.to_owned()],
        ports: vec!["5432/TCP".to_owned(), "8472/UDP".to_owned()],
        policy: "Cluster",
        endpoints: vec![1, 2, 3],
        pool: vec!["10.10.50.0/24".to_owned(), "fd10:10:50::/64".to_owned()],
        nodes: vec![1, 2, 3],
        advertised: true,
    }
}

/// The agent of node 1, before it is started.
fn agent<'lab>(node: &'lab Host, manifests: &Manifests, more: &[&str]) -> Result<Agent<'lab>> {
    let folder = manifests.path().display().to_string();
    let options = [&["--interface", UPLINK, "--node", "node1", "--manifests", &folder], more].concat();
    Agent::new(node, &built("weir-agent")?, &options)
}

/// The row of an address.
fn row(agent: &Agent<'_>, vip: &str) -> Result<Value> {
    let table: Value = serde_json::from_str(&agent.weirctl(&["vips", "-o", "json"])?)?;
    let rows = table["vips"].as_array().context("no table")?;
    rows.iter().find(|row| row["address"] == vip).cloned().with_context(|| format!("no {vip} in {table}"))
}

/// The names of what is the matter with an address.
fn states(agent: &Agent<'_>, vip: &str) -> Result<Vec<String>> {
    let row = row(agent, vip)?;
    let findings = row["findings"].as_array().cloned().unwrap_or_default();
    Ok(findings.iter().filter_map(|one| one["state"].as_str()).map(str::to_owned).collect())
}

fn expect(agent: &Agent<'_>, vip: &str, wanted: &[&str]) -> Result<()> {
    let mut seen = Vec::new();
    let waited = until(&format!("{vip} is {wanted:?}"), LIMIT, || {
        seen = states(agent, vip).unwrap_or_default();
        Ok(seen == wanted)
    });
    waited.map(drop).with_context(|| {
        let way = agent.weirctl(&["explain", vip]).unwrap_or_default();
        format!("it is {seen:?}\n{way}\n{}", agent.log_text())
    })
}

/// What an address is called in the metrics, too.
fn shown_in_metrics(agent: &Agent<'_>, vip: &str, state: &str) -> Result<()> {
    let scrape = agent.scrape()?;
    ensure!(
        scrape.sum("weir_vip_state", &[("vip", vip), ("state", state)]) == 1.0,
        "{vip} is not {state} in /metrics"
    );
    Ok(())
}

/// For so long nothing is the matter with any address.
fn stays_healthy(agent: &Agent<'_>, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    until("time passes without a finding", time * 2, || {
        for vip in [VIP4, VIP6] {
            let states = states(agent, vip)?;
            ensure!(states.is_empty(), "{vip} is {states:?}\n{}", agent.weirctl(&["explain", vip])?);
        }
        Ok(Instant::now() > end)
    })
    .map(drop)
}

/// A lab in which all agree.
struct Healthy<'lab> {
    agent: Agent<'lab>,
    manifests: Manifests,
    gateway: Gateway<'lab>,
    speakers: Vec<Speaker<'lab>>,
    servers: Vec<Process>,
}

impl<'lab> Healthy<'lab> {
    fn start(lab: &'lab Lab) -> Result<Self> {
        let mut gateway = Gateway::start(lab)?;
        gateway.apply()?;
        let servers = lab.nodes.iter().map(|node| traffic::start_server(node, &[VIP4, VIP6]));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let manifests = Manifests::new(&objects())?;
        let view = gateway.view().display().to_string();
        let mut agent = agent(&lab.nodes[0], &manifests, &["--router-view", &view])?;
        // Before the speakers: what a session tells at its start is heard.
        agent.start()?;
        let speakers = speaker::on_all_nodes(lab)?;
        gateway.await_next_hops(3)?;
        gateway.follow_and_publish(Duration::from_secs(60), VIEW)?;
        let all = Self { agent, manifests, gateway, speakers, servers };
        for vip in [VIP4, VIP6] {
            until(&format!("{vip} is learned and answers"), LIMIT, || {
                let row = row(&all.agent, vip)?;
                let hops = row["learned"][0]["next_hops"].as_array().map_or(0, Vec::len);
                Ok(hops == 3 && row["answers"][0]["answer"] == "answers")
            })
            .with_context(|| format!("{}\n{}", all.agent.log_text(), all.gateway.log_text()))?;
        }
        Ok(all)
    }

    fn tell(&self, change: impl FnOnce(&mut Objects)) -> Result<()> {
        let mut objects = objects();
        change(&mut objects);
        self.manifests.write(&objects)
    }

    fn is_well_again(&self) -> Result<()> {
        self.tell(|_| {})?;
        [VIP4, VIP6].into_iter().try_for_each(|vip| expect(&self.agent, vip, &[]))
    }

    /// Where the way of an address breaks.
    fn breaks_at(&self, vip: &str) -> Result<String> {
        let way: Value = serde_json::from_str(&self.agent.weirctl(&["explain", vip, "-o", "json"])?)?;
        let at = way["breaks_at"].as_u64().context("it breaks nowhere")? as usize;
        Ok(way["steps"][at]["place"].as_str().unwrap_or_default().to_owned())
    }
}

#[test]
fn a_healthy_lab_names_none_and_each_disagreement_has_its_name() -> Result<()> {
    skip_unless_available!("a_healthy_lab_names_none_and_each_disagreement_has_its_name");
    let lab = Lab::without_vip_routes()?;
    let mut all = Healthy::start(&lab)?;
    stays_healthy(&all.agent, CALM)?;
    shown_in_metrics(&all.agent, VIP4, "ok")?;
    let [v4, v6]: [IpAddr; 2] = [VIP4.parse()?, VIP6.parse()?];

    // The pool no longer holds it.
    all.tell(|objects| objects.pool = vec!["10.10.51.0/24".to_owned(), "fd10:10:50::/64".to_owned()])?;
    expect(&all.agent, VIP4, &["outside-pools"])?;
    shown_in_metrics(&all.agent, VIP4, "outside-pools")?;
    all.is_well_again()?;

    // The router sends packets to an address that is no node's.
    all.tell(|objects| objects.nodes = vec![1, 2])?;
    expect(&all.agent, VIP4, &["stale-route"])?;
    all.is_well_again()?;

    // One of three paths is longer: the router uses two.
    all.speakers[2].withdraw(v4)?;
    all.speakers[2].announce_longer(v4)?;
    expect(&all.agent, VIP4, &["spread-uneven"])?;
    expect(&all.agent, VIP6, &[])?;
    all.speakers[2].withdraw(v4)?;
    all.speakers[2].announce(v4)?;
    all.is_well_again()?;

    // All speakers take it back.
    all.speakers.iter().try_for_each(|speaker| speaker.withdraw(v6))?;
    expect(&all.agent, VIP6, &["advertised-by-nobody"])?;
    expect(&all.agent, VIP4, &[])?;
    all.speakers.iter().try_for_each(|speaker| speaker.announce(v6))?;
    all.is_well_again()?;

    // Nothing listens on this node any more; the router still sends packets here.
    drop(all.servers.remove(0));
    expect(&all.agent, VIP4, &["black-holed"])?;
    ensure!(all.breaks_at(VIP4)? == "answer");
    all.servers.insert(0, traffic::start_server(&lab.nodes[0], &[VIP4, VIP6])?);
    all.is_well_again()?;

    // Packets to a port that no Service has, from the router.
    let wire = Wire::open(&lab.router, "node1")?;
    let macs = (lab.nodes[0].mac(UPLINK)?, lab.router.mac("node1")?);
    let packet = |destination: IpAddr, tags: &[u16], transport| Packet {
        macs,
        tags: tags.to_vec(),
        source: if destination.is_ipv4() {
            [10, 10, 20, 10].into()
        } else {
            [0xfd10, 0x10, 0x20, 0, 0, 0, 0, 0x10].into()
        },
        destination,
        transport,
        payload: 10,
    };
    wire.repeat(&packet(v4, &[], Transport::Udp { source: 4000, destination: 9999 }).frame(), 20)?;
    expect(&all.agent, VIP4, &["port-unserved"])?;
    expect(&all.agent, VIP6, &[])?;
    // It is forgotten once it is over.
    expect(&all.agent, VIP4, &[])?;

    // Packets on a VLAN that the node does not answer on.
    let syn = Transport::Tcp { source: 4000, destination: 5432, flags: SYN };
    wire.repeat(&packet(v6, &[50], syn).frame(), 20)?;
    expect(&all.agent, VIP6, &["vlan-unanswered"])?;
    expect(&all.agent, VIP4, &[])?;

    // The Service goes, its series with it.
    all.tell(|objects| objects.vips = vec![VIP6.to_owned()])?;
    until("the series of the address are gone", LIMIT, || {
        let scrape = all.agent.scrape()?;
        Ok(scrape.sum("weir_vip_wanted", &[("vip", VIP4), ("wanted", "here")]) == 0.0
            && scrape.select("weir_vip_endpoints", &[("vip", VIP4)]).count() == 0)
    })?;
    Ok(())
}

/// What takes the wire: what this node tells its peer, against what it should tell and what the router learned.
#[test]
fn what_a_node_announces_is_held_against_what_it_should() -> Result<()> {
    skip_unless_available!("what_a_node_announces_is_held_against_what_it_should");
    let lab = Lab::without_vip_routes()?;
    let all = Healthy::start(&lab)?;
    let seen = until("the agent sees BGP on the wire", Duration::from_secs(20), || {
        Ok(row(&all.agent, VIP4)?["announced_known"] == true)
    });
    if seen.is_err() {
        eprintln!(
            "SKIPPED what_a_node_announces_is_held_against_what_it_should: this agent does not see BGP on the wire"
        );
        return Ok(());
    }
    stays_healthy(&all.agent, CALM)?;
    let [v4, v6]: [IpAddr; 2] = [VIP4.parse()?, VIP6.parse()?];
    let row4 = row(&all.agent, VIP4)?;
    assert_eq!((&row4["wanted"], &row4["announced"][0]), (&"here".into(), &"10.10.30.1".into()), "{row4}");

    // Policy Local, and the endpoints are elsewhere (cilium#44803).
    all.tell(|objects| (objects.policy, objects.endpoints) = ("Local", vec![2, 3]))?;
    expect(&all.agent, VIP4, &["without-endpoint"])?;
    ensure!(all.breaks_at(VIP4)? == "wire");
    all.is_well_again()?;

    // This node takes it back, the others do not.
    all.speakers[0].withdraw(v4)?;
    expect(&all.agent, VIP4, &["not-advertised"])?;
    all.speakers[0].announce(v4)?;
    all.is_well_again()?;

    // The Service is gone, the announcement is not.
    all.tell(|objects| objects.vips = vec![VIP4.to_owned()])?;
    expect(&all.agent, VIP6, &["advertised-unwanted"])?;
    expect(&all.agent, VIP4, &[])?;
    all.is_well_again()?;

    // An address that the router does not let in: its filter knows other pools.
    let filtered = "10.10.77.7";
    all.speakers[0].announce(filtered.parse()?)?;
    all.tell(|objects| {
        objects.vips = vec![filtered.to_owned()];
        objects.pool = vec!["10.10.77.0/24".to_owned()];
        objects.ports = vec!["8472/UDP".to_owned()];
    })?;
    expect(&all.agent, filtered, &["not-learned"])?;
    all.speakers[0].withdraw(filtered.parse()?)?;
    all.is_well_again()?;
    all.speakers[0].withdraw(v6)?;
    expect(&all.agent, VIP6, &["not-advertised"])
}

/// CloudNativePG: the Service `-rw` has one endpoint, which moves with the primary; with policy Local its node alone is to announce.
#[test]
fn the_address_of_a_database_follows_its_primary() -> Result<()> {
    skip_unless_available!("the_address_of_a_database_follows_its_primary");
    let lab = Lab::without_vip_routes()?;
    let all = Healthy::start(&lab)?;
    let vips: [IpAddr; 2] = [VIP4.parse()?, VIP6.parse()?];
    let primary = |node| all.tell(|objects| (objects.policy, objects.endpoints) = ("Local", vec![node]));
    let only = |node: usize| -> Result<()> {
        for (at, speaker) in all.speakers.iter().enumerate() {
            let tell = |vip| if at + 1 == node { speaker.announce(vip) } else { speaker.withdraw(vip) };
            vips.into_iter().try_for_each(tell)?;
        }
        Ok(())
    };
    let shows = |wanted: &str, node: usize| {
        until(&format!("the table shows the primary on node {node}"), LIMIT, || {
            let row = row(&all.agent, VIP4)?;
            let hop = &row["learned"][0]["next_hops"];
            Ok(row["wanted"] == wanted && *hop == serde_json::json!([Lab::node_addresses(node - 1)[0]]))
        })
        .with_context(|| all.agent.weirctl(&["explain", VIP4]).unwrap_or_default())
    };
    only(1)?;
    primary(1)?;
    shows("here", 1)?;
    [VIP4, VIP6].into_iter().try_for_each(|vip| expect(&all.agent, vip, &[]))?;

    // The switch: the primary is on node 2, and node 1 still announces what it has no endpoint for.
    primary(2)?;
    expect(&all.agent, VIP4, &["without-endpoint"])?;
    only(2)?;
    shows("elsewhere", 2)?;
    [VIP4, VIP6].into_iter().try_for_each(|vip| expect(&all.agent, vip, &[]))
}

#[test]
fn a_routing_loop_is_proved_by_falling_times_to_live() -> Result<()> {
    skip_unless_available!("a_routing_loop_is_proved_by_falling_times_to_live");
    let lab = Lab::without_vip_routes()?;
    let node = &lab.nodes[0];
    node.sysctl("ipv4/ip_forward", "1")?;
    // The Service's port is translated; all else to the address goes to the default gateway: as on a node with Cilium.
    let rule = format!("ip daddr {TRANSLATED} tcp dport 5432 dnat to 10.10.30.10");
    let hook = |name, hook| format!("chain {name} {{ type nat hook {hook} priority -100; {rule}; }};");
    let rules = format!("table ip service {{ {} {} }}", hook("pre", "prerouting"), hook("out", "output"));
    node.output(std::process::Command::new("nft").arg(rules))?;
    let _server = traffic::start_server(node, &["10.10.30.10"])?;
    lab.router.ip(&format!("route add {TRANSLATED}/32 via 10.10.30.10"))?;
    let manifests = Manifests::new(&Objects {
        vips: vec![TRANSLATED.to_owned()],
        ports: vec!["5432/TCP".to_owned()],
        ..objects()
    })?;
    let mut agent = agent(node, &manifests, &[])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    until("the port answers", LIMIT, || {
        Ok(row(&agent, TRANSLATED).is_ok_and(|row| row["answers"][0]["answer"] == "answers"))
    })
    .with_context(|| agent.log_text())?;
    expect(&agent, TRANSLATED, &[])?;
    lab.client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        Ok(socket.send_to(b"around", (TRANSLATED, 9999))?)
    })?;
    expect(&agent, TRANSLATED, &["routing-loop"])?;
    let row = row(&agent, TRANSLATED)?;
    let what = row["findings"][0]["what"].as_str().unwrap_or_default();
    ensure!(what.contains("9999/udp") && what.contains("falling from"), "{what}");
    Ok(())
}

#[test]
fn two_hosts_with_one_address_are_seen_by_their_answers() -> Result<()> {
    skip_unless_available!("two_hosts_with_one_address_are_seen_by_their_answers");
    let lab = Lab::without_vip_routes()?;
    let v6 = "fd10:10:30::200";
    let manifests = Manifests::new(&Objects {
        vips: vec![ON_LINK.to_owned(), v6.to_owned()],
        pool: vec!["10.10.30.128/25".to_owned(), "fd10:10:30::/64".to_owned()],
        ..objects()
    })?;
    let mut agent = agent(&lab.nodes[0], &manifests, &["--vip-probe", "tcp"])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    lab.nodes[1].address(UPLINK, &format!("{ON_LINK}/32"))?;
    lab.nodes[1].address(UPLINK, &format!("{v6}/128"))?;
    let one_owner =
        |vip: &str| -> Result<bool> { Ok(!states(&agent, vip)?.iter().any(|state| state == "two-macs")) };
    // One owner is nothing to tell: for longer than it would take to be named.
    let end = Instant::now() + Duration::from_secs(30);
    until("one owner", Duration::from_secs(60), || {
        ensure!(one_owner(ON_LINK)? && one_owner(v6)?, "one owner, two names");
        Ok(Instant::now() > end)
    })?;
    lab.nodes[2].address(UPLINK, &format!("{ON_LINK}/32"))?;
    lab.nodes[2].address(UPLINK, &format!("{v6}/128"))?;
    for vip in [ON_LINK, v6] {
        until("two owners are told", LIMIT, || Ok(!one_owner(vip)?)).with_context(|| agent.log_text())?;
    }
    Ok(())
}

/// What the agent's own probes of another node show, by family: sent, lost, path MTU.
fn asked(agent: &Agent<'_>, node: &str, family: &str) -> Result<[u64; 3]> {
    let (scrape, labels) = (agent.scrape()?, [("peer_node", node), ("family", family)]);
    let count = |name| scrape.count(name, &labels);
    let path_mtu = scrape.sum("weir_mesh_path_mtu_bytes", &labels) as u64;
    Ok([count("weir_mesh_probes_total"), count("weir_mesh_probes_lost_total"), path_mtu])
}

#[test]
fn nodes_ask_each_other_for_latency_loss_and_path_mtu() -> Result<()> {
    skip_unless_available!("nodes_ask_each_other_for_latency_loss_and_path_mtu");
    let lab = Lab::without_vip_routes()?;
    let manifests = Manifests::new(&objects())?;
    let mut agent = agent(&lab.nodes[0], &manifests, &[])?;
    // A smaller link at one of them: larger packets are not answered.
    lab.nodes[2].ip(&format!("link set {UPLINK} mtu 1400"))?;
    agent.start()?;
    let families = ["ipv4", "ipv6"];
    // A veth device takes in a VLAN tag's four octets more than its MTU.
    for (node, mtu) in [("node2", 1500..=1500), ("node3", 1400..=1404)] {
        until(&format!("{node} answers in both families, up to its MTU"), Duration::from_secs(120), || {
            let all = families.map(|family| asked(&agent, node, family));
            let all = all.into_iter().collect::<Result<Vec<_>>>()?;
            Ok(all.iter().all(|[sent, _, path_mtu]| *sent > 1 && mtu.contains(path_mtu)))
        })
        .with_context(|| agent.weirctl(&["status"]).unwrap_or_default())?;
    }
    ensure!(asked(&agent, "node1", "ipv4")? == [0; 3], "a node asks itself");
    lab.nodes[1].ip(&format!("link set {UPLINK} down"))?;
    let lost = |node| -> Result<u64> {
        let all =
            families.map(|family| asked(&agent, node, family)).into_iter().collect::<Result<Vec<_>>>()?;
        Ok(all.iter().map(|[_, lost, _]| *lost).min().unwrap_or(0))
    };
    let (before, other) = (lost("node2")?, lost("node3")?);
    until("the node that is away is told", LIMIT, || Ok(lost("node2")? >= before + 3))?;
    ensure!(lost("node3")? <= other + 1, "the other one answers on");
    let text = agent.weirctl(&["status"])?;
    ensure!(text.contains("OTHER NODES") && text.contains("node3"), "{text}");
    // A node that is no longer one is not asked any more.
    manifests.write(&Objects { nodes: vec![1, 3], ..objects() })?;
    until("its series are gone", LIMIT, || Ok(asked(&agent, "node2", "ipv4")? == [0; 3]))?;
    ensure!(asked(&agent, "node3", "ipv6")?[0] > 0);
    Ok(())
}

#[test]
fn a_stranger_that_claims_an_address_is_told_and_not_believed() -> Result<()> {
    skip_unless_available!("a_stranger_that_claims_an_address_is_told_and_not_believed");
    let lab = Lab::without_vip_routes()?;
    let manifests = Manifests::new(&Objects {
        vips: vec![ON_LINK.to_owned()],
        pool: vec!["10.10.30.128/25".to_owned()],
        ..objects()
    })?;
    let [owner, stranger] = [1, 2].map(|n| &lab.nodes[n]);
    let mac = |host: &Host| -> Result<String> {
        Ok(host.mac(UPLINK)?.map(|octet| format!("{octet:02x}")).join(":"))
    };
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.yaml");
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {{name: link}}\n\
         spec: {{linkGuard: {{mode: Enforce, claimants: ['{}']}}}}\n",
        mac(owner)?
    );
    std::fs::write(&policy, text)?;
    let policy = policy.to_str().context("a plain path")?;
    let more = ["--vip-probe", "tcp", "--policy", policy, "--policy-deadline", "600"];
    let mut agent = agent(&lab.nodes[0], &manifests, &more)?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    until("the address and the policy are known", LIMIT, || {
        let active = agent.scrape()?.sum("weir_policy_generation", &[("state", "active")]);
        Ok(active == 1.0 && row(&agent, ON_LINK).is_ok())
    })
    .with_context(|| agent.log_text())?;
    let trace = |host: &Host| -> Result<serde_json::Value> {
        let claim = ["policy", "trace", "--interface", UPLINK, "--claims", ON_LINK, "--mac", &mac(host)?];
        Ok(serde_json::from_str(&agent.weirctl(&[&claim[..], &["-o", "json"]].concat())?)?)
    };
    // The programs know the address a moment before the rules that are asked beside them.
    until("rules and programs know the address", LIMIT, || Ok(trace(stranger)?["agree"] == true))?;
    for (host, verdict) in [(stranger, "drop"), (owner, "pass")] {
        let traced = trace(host)?;
        ensure!(traced["agree"] == true && traced["kernel"]["verdict"] == verdict, "{traced}");
    }
    let drops = || -> Result<u64> {
        let labels = [("policy", "link"), ("rule", "guard-claim"), ("verdict", "drop"), ("mode", "enforce")];
        Ok(agent.scrape()?.count("weir_policy_packets_total", &labels))
    };
    // A trace counts too.
    let traced = drops()?;
    stranger.address(UPLINK, &format!("{ON_LINK}/32"))?;
    until("the stranger's answers end here", LIMIT, || Ok(drops()? > traced))
        .with_context(|| agent.log_text())?;
    let believed = |host: &Host| -> Result<bool> {
        let mut command = std::process::Command::new("ip");
        command.args(["-n", lab.nodes[0].name(), "neigh", "show", "to", ON_LINK]);
        let output = weir_netns::namespace::succeed(&mut command)?;
        Ok(String::from_utf8(output.stdout)?.contains(&mac(host)?))
    };
    owner.address(UPLINK, &format!("{ON_LINK}/32"))?;
    until("the owner is believed", LIMIT, || {
        ensure!(!believed(stranger)?, "the stranger is believed");
        believed(owner)
    })
    .with_context(|| agent.log_text())?;
    until("both are told", LIMIT, || {
        ensure!(!believed(stranger)?, "the stranger is believed");
        Ok(states(&agent, ON_LINK)?.iter().any(|state| state == "two-macs"))
    })
    .with_context(|| agent.log_text())?;
    // Without the guard both would be believed.
    let other = folder.path().join("other");
    std::fs::create_dir(&other)?;
    let text = agent.weirctl(&["policy", "diff", other.to_str().context("a plain path")?, "-o", "json"])?;
    let difference: serde_json::Value = serde_json::from_str(&text)?;
    let changes = difference["claim_changes"].as_array().context("changes")?;
    ensure!(difference["claims"].as_u64() >= Some(2) && changes.len() == 1, "{difference}");
    let change = &changes[0];
    ensure!(change["address"] == ON_LINK && change["mac"] == mac(stranger)?.as_str(), "{difference}");
    ensure!(change["before"] == "drop" && change["after"] == "pass", "{difference}");
    ensure!(change["before_rule"] == "link/guard-claim", "{difference}");
    Ok(())
}
