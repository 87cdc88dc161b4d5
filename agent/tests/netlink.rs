//! Links, routes and neighbours of the real kernel, each test in a network namespace of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use weir_agent::model::address::{IfIndex, Mac};
use weir_agent::model::link::{Link, LinkKind, OperState};
use weir_agent::model::neighbour::NeighbourState;
use weir_agent::model::route::Route;
use weir_agent::model::uplink::uplinks;
use weir_agent::netlink::{self, Limits};
use weir_agent::state::{Event, Snapshot};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a thread in a network namespace of its own, which goes with the thread.
fn in_namespace<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return Err(format!("no network namespace: {error}"));
        }
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
        Ok(())
    };
    match std::thread::spawn(run).join() {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => skipped(name, &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Past the test harness, which holds back what a test prints.
fn skipped(name: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}

fn try_ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn ip(arguments: &str) {
    try_ip(arguments).unwrap_or_else(|error| panic!("ip {arguments}: {error}"));
}

fn ip_batch(lines: impl IntoIterator<Item = String>) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What one who watches knows.
struct Watched {
    batches: mpsc::Receiver<Vec<Event>>,
    snapshot: Snapshot,
    _cancel: tokio_util::sync::DropGuard,
}

impl Watched {
    async fn begin(limits: Limits) -> Self {
        let (sender, batches) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        tokio::spawn(netlink::watch_within(limits, sender, cancel.clone()));
        let mut watched = Self { batches, snapshot: Snapshot::default(), _cancel: cancel.drop_guard() };
        watched.until("everything at first", |snapshot| !snapshot.links.is_empty()).await;
        watched
    }

    /// Takes in events until the snapshot is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Snapshot) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.snapshot) {
            match timeout_at(deadline, self.batches.recv()).await {
                Ok(Some(batch)) => batch.into_iter().for_each(|event| self.snapshot.apply(event)),
                Ok(None) => panic!("the watch ended while waiting for {what}"),
                Err(_) => panic!("waited in vain for {what}; known: {:#?}", self.snapshot),
            }
        }
    }

    async fn until_link(&mut self, what: &str, name: &str, wanted: impl Fn(&Link) -> bool) -> Link {
        self.until(what, |snapshot| named(snapshot, name).is_some_and(&wanted)).await;
        named(&self.snapshot, name).unwrap().clone()
    }
}

fn named<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Link> {
    snapshot.links.values().find(|link| link.name == name)
}

fn route_to<'a>(snapshot: &'a Snapshot, destination: &str) -> Option<&'a Route> {
    snapshot.routes.iter().find(|route| route.destination.to_string() == destination)
}

#[test]
fn links_appear_change_flap_and_go() {
    in_namespace("links_appear_change_flap_and_go", async || {
        let mut watched = Watched::begin(Limits::default()).await;
        let lo = named(&watched.snapshot, "lo").unwrap();
        assert_eq!((&lo.kind, lo.mac, lo.changed), (&LinkKind::Loopback, None, None));

        ip("link add va mtu 1400 txqueuelen 77 address 02:00:00:00:00:01 type veth peer name vb");
        let made = watched.until_link("a veth", "va", |_| true).await;
        assert_eq!((&made.kind, made.mtu, made.queue_length), (&LinkKind::Veth, 1400, 77));
        assert_eq!((made.mac, made.parent), (Some(Mac([2, 0, 0, 0, 0, 1])), None));
        assert!(!made.is_up() && made.changed.is_some());

        ip("link set va up");
        ip("link set vb up");
        let up = watched.until_link("its carrier", "va", Link::is_up).await;
        assert_eq!((up.flaps, up.state, up.speed), (0, OperState::Up, Some(10_000_000_000)));

        for round in 1..=3 {
            ip("link set vb down");
            let down = watched.until_link("a loss of carrier", "va", |link| !link.is_up()).await;
            assert_eq!((down.flaps, down.carrier), (round, false));
            assert!(down.changed > up.changed);
            ip("link set vb up");
            watched.until_link("the carrier again", "va", Link::is_up).await;
        }
        ip_batch((0..5).flat_map(|_| ["link set vb down".to_owned(), "link set vb up".to_owned()]));
        let after = watched
            .until_link("flaps faster than one looks", "va", |link| link.flaps == 8 && link.is_up())
            .await;
        assert_eq!(after.counters.carrier_losses, up.counters.carrier_losses + 8);

        ip("link set va mtu 1300");
        watched.until_link("another MTU", "va", |link| link.mtu == 1300).await;

        ip("link add lan type bridge");
        ip("link set va master lan");
        let bridge = watched.until_link("a bridge", "lan", |_| true).await;
        assert_eq!(bridge.kind, LinkKind::Bridge);
        watched.until_link("a port", "va", |link| link.master == Some(bridge.index)).await;
        ip("link set va nomaster");
        let free = watched.until_link("a port that left", "va", |link| link.master.is_none()).await;
        assert_eq!(free.flaps, 8);

        ip("link del va");
        watched
            .until("no veth", |snapshot| named(snapshot, "va").is_none() && named(snapshot, "vb").is_none())
            .await;
        assert!(named(&watched.snapshot, "lan").is_some());
        assert_eq!(watched.snapshot.missed, BTreeMap::new());
    });
}

#[test]
fn links_of_other_kinds_name_what_is_below() {
    in_namespace("links_of_other_kinds_name_what_is_below", async || {
        let mut watched = Watched::begin(Limits::default()).await;
        ip("link add va type veth peer name vb");
        let a = watched.until_link("a veth", "va", |_| true).await;
        for (arguments, name, kind) in [
            ("link add link va name va.50 type vlan id 50", "va.50", LinkKind::Vlan(50)),
            ("link add bond7 type bond", "bond7", LinkKind::Bond),
            ("link add dm type dummy", "dm", LinkKind::Other("dummy".into())),
            ("link add ib type ifb", "ib", LinkKind::Other("ifb".into())),
            ("link add link va name mv type macvlan", "mv", LinkKind::Other("macvlan".into())),
        ] {
            if let Err(reason) = try_ip(arguments) {
                skipped(&format!("a link by `ip {arguments}`"), &reason);
                continue;
            }
            let link = watched.until_link(name, name, |_| true).await;
            assert_eq!(link.kind, kind);
            assert_eq!(link.parent, arguments.contains("link va ").then_some(a.index));
        }
        if named(&watched.snapshot, "mv").is_some() {
            // There, the number of the link below would name a stranger.
            let links = links_elsewhere(|thread| ip(&format!("link set mv netns {thread}")));
            assert_eq!(links.iter().find(|link| link.name == "mv").unwrap().parent, None);
            watched.until("no macvlan", |snapshot| named(snapshot, "mv").is_none()).await;
        }

        ip("link del va");
        watched.until("no veth", |snapshot| named(snapshot, "va").is_none()).await;
    });
}

/// The links of another network namespace, made for this and reached by its thread's number.
fn links_elsewhere(prepare: impl FnOnce(nix::unistd::Pid)) -> Vec<Link> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ready.send(nix::unistd::gettid()).unwrap();
        may_go.recv().unwrap();
        netlink::links().unwrap()
    });
    prepare(is_ready.recv().unwrap());
    go.send(()).unwrap();
    other.join().unwrap()
}

#[test]
fn routes_of_both_families_come_and_go() {
    in_namespace("routes_of_both_families_come_and_go", async || {
        for (link, peer, net) in [("va", "pa", 1), ("vb", "pb", 2)] {
            ip(&format!("link add {link} type veth peer name {peer}"));
            ip(&format!("link set {link} up"));
            ip(&format!("link set {peer} up"));
            ip(&format!("addr add 10.9.{net}.2/24 dev {link}"));
            ip(&format!("addr add fd09:{net}::2/64 dev {link} nodad"));
        }
        let mut watched = Watched::begin(Limits::default()).await;
        let a = named(&watched.snapshot, "va").unwrap().index;
        let b = named(&watched.snapshot, "vb").unwrap().index;
        let connected = route_to(&watched.snapshot, "10.9.1.0/24").unwrap();
        assert_eq!(
            (connected.hops[0].interface, connected.hops[0].gateway, connected.protocol),
            (a, None, 2)
        );
        assert!(watched.snapshot.routes.iter().all(|route| !route.destination.addr().is_loopback()));
        assert!(uplinks(watched.snapshot.links.values(), &watched.snapshot.routes).is_empty());

        ip("route add default via 10.9.1.1 metric 50 proto 186");
        watched.until("a default route", |snapshot| route_to(snapshot, "0.0.0.0/0").is_some()).await;
        let default = route_to(&watched.snapshot, "0.0.0.0/0").unwrap();
        assert_eq!(
            (default.metric, default.protocol, default.hops[0].gateway),
            (50, 186, address("10.9.1.1"))
        );
        assert_eq!(uplinks(watched.snapshot.links.values(), &watched.snapshot.routes), [a]);

        for (destination, one, two) in
            [("10.50.0.0/16", "10.9.1.1", "10.9.2.1"), ("fd50::/48", "fd09:1::1", "fd09:2::1")]
        {
            let hops = format!("nexthop via {one} dev va weight 1 nexthop via {two} dev vb weight 3");
            ip(&format!("route add {destination} {hops}"));
            watched.until(destination, |snapshot| route_to(snapshot, destination).is_some()).await;
            let hops = &route_to(&watched.snapshot, destination).unwrap().hops;
            let told: Vec<_> = hops.iter().map(|hop| (hop.gateway, hop.interface, hop.weight)).collect();
            assert_eq!(told, [(address(one), a, 1), (address(two), b, 3)], "{destination}");
        }

        ip("-6 route add default via fd09:2::1 dev vb");
        watched.until("an IPv6 default route", |snapshot| route_to(snapshot, "::/0").is_some()).await;
        assert_eq!(uplinks(watched.snapshot.links.values(), &watched.snapshot.routes), [a, b]);

        ip("route add 10.77.0.0/16 via inet6 fd09:1::1 dev va");
        watched.until("IPv4 by IPv6", |snapshot| route_to(snapshot, "10.77.0.0/16").is_some()).await;
        let mixed = route_to(&watched.snapshot, "10.77.0.0/16").unwrap();
        assert_eq!(mixed.hops[0].gateway, address("fd09:1::1"));

        ip("route add blackhole 10.66.0.0/16");
        ip("route add 10.67.0.0/16 via 10.9.1.1 table 77");
        ip("route del 10.50.0.0/16");
        watched.until("a route less", |snapshot| route_to(snapshot, "10.50.0.0/16").is_none()).await;
        assert!(route_to(&watched.snapshot, "10.66.0.0/16").is_none());
        assert!(route_to(&watched.snapshot, "10.67.0.0/16").is_none());

        // The kernel tells nothing of the IPv4 routes that leave with the address that is their source, or with their link.
        ip("addr add 10.50.0.1/32 dev lo");
        ip("route add 10.68.0.0/16 via 10.9.2.1 src 10.50.0.1");
        watched.until("a route by source", |snapshot| route_to(snapshot, "10.68.0.0/16").is_some()).await;
        ip("addr del 10.50.0.1/32 dev lo");
        watched.until("no route by source", |snapshot| route_to(snapshot, "10.68.0.0/16").is_none()).await;
        ip("link set va down");
        watched.until("no route by a", |snapshot| route_to(snapshot, "0.0.0.0/0").is_none()).await;
        assert_eq!(uplinks(watched.snapshot.links.values(), &watched.snapshot.routes), [b]);
        assert_eq!(watched.snapshot.routes, netlink::routes().unwrap());
    });
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn neighbours_move_and_fail() {
    in_namespace("neighbours_move_and_fail", async || {
        ip("link add va type veth peer name vb");
        ip("link set va up");
        ip("link set vb up");
        ip("addr add 10.9.1.2/24 dev va");
        ip("addr add fd09:1::2/64 dev va nodad");
        let mut watched = Watched::begin(Limits::default()).await;
        let a = named(&watched.snapshot, "va").unwrap().index;
        for gateway in ["10.9.1.1", "fd09:1::1"] {
            let key = (a, gateway.parse().unwrap());
            ip(&format!("neigh add {gateway} lladdr 02:00:00:00:00:07 dev va nud permanent"));
            watched.until("a neighbour", |snapshot| snapshot.neighbours.contains_key(&key)).await;
            let known = &watched.snapshot.neighbours[&key];
            assert_eq!((known.state, known.mac), (NeighbourState::Permanent, Some(Mac([2, 0, 0, 0, 0, 7]))));
            assert_eq!((known.moves, known.failures, known.changed.is_some()), (0, 0, true));

            ip(&format!("neigh replace {gateway} lladdr 02:00:00:00:00:08 dev va nud permanent"));
            watched.until("a move", |snapshot| snapshot.neighbours[&key].moves == 1).await;
            assert_eq!(watched.snapshot.neighbours[&key].mac, Some(Mac([2, 0, 0, 0, 0, 8])));

            ip(&format!("neigh del {gateway} dev va"));
            watched.until("no neighbour", |snapshot| !snapshot.neighbours.contains_key(&key)).await;
        }

        // Nobody answers for these addresses, so the kernel gives up after three questions.
        for silent in ["10.9.1.9", "fd09:1::9"] {
            let key = (a, silent.parse().unwrap());
            let socket = UdpSocket::bind(if silent.contains(':') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            socket.send_to(b"?", (key.1, 9)).unwrap();
            watched
                .until("a failure", |snapshot| {
                    snapshot.neighbours.get(&key).is_some_and(|known| known.failures == 1)
                })
                .await;
            assert_eq!(watched.snapshot.neighbours[&key].state, NeighbourState::Failed);
        }
        ip("link del va");
        watched
            .until("no neighbour at all", |snapshot| snapshot.neighbours.keys().all(|(index, _)| *index != a))
            .await;
    });
}

#[test]
fn a_queue_that_drops_is_counted() {
    in_namespace("a_queue_that_drops_is_counted", async || {
        ip("link add va type veth peer name vb");
        ip("link set va up");
        ip("link set vb up");
        ip("addr add 10.9.1.2/24 dev va");
        ip("neigh add 10.9.1.1 lladdr 02:00:00:00:00:07 dev va nud permanent");
        let tbf = "qdisc add dev va root tbf rate 8kbit burst 1600 limit 3200".split(' ');
        let output = Command::new("tc").args(tbf).output().unwrap();
        if !output.status.success() {
            return skipped("a_queue_that_drops_is_counted", String::from_utf8_lossy(&output.stderr).trim());
        }
        let index = netlink::links().unwrap().into_iter().find(|link| link.name == "va").unwrap().index;
        let before = netlink::counters().unwrap()[&index];
        let socket = UdpSocket::bind("10.9.1.2:0").unwrap();
        for _ in 0..20 {
            let _ = socket.send_to(&[0; 1000], "10.9.1.1:9");
        }
        let after = netlink::counters().unwrap()[&index];
        let sent = after.tx_packets - before.tx_packets;
        assert!(after.qdisc_drops >= 10 && after.qdisc_backlog > 0, "{after:?}");
        // A few packets of IPv6's own may have joined ours.
        let seen = sent + after.qdisc_backlog + after.qdisc_drops - before.qdisc_drops;
        assert!((20..30).contains(&seen), "{before:?} {after:?}");
    });
}

#[test]
fn counters_are_refreshed_without_a_word_of_the_kernel() {
    in_namespace("counters_are_refreshed_without_a_word_of_the_kernel", async || {
        let refresh = Duration::from_millis(100);
        let mut watched = Watched::begin(Limits { refresh, ..Limits::default() }).await;
        let before = named(&watched.snapshot, "lo").unwrap().counters;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            socket.send_to(b"!", socket.local_addr().unwrap()).unwrap();
        }
        let enough = |link: &Link| link.counters.rx_packets >= before.rx_packets + 100;
        let after = watched.until_link("the packets", "lo", enough).await;
        assert!(after.counters.tx_bytes >= before.tx_bytes + 100 * 29, "{:?}", after.counters);
        assert_eq!(netlink::counters().unwrap()[&after.index].rx_packets, after.counters.rx_packets);
    });
}

/// What two readings of the same links must agree on.
type Told = (String, LinkKind, OperState, bool, bool, u32, Option<IfIndex>, Option<Mac>, Option<u64>);

fn told<'a>(links: impl IntoIterator<Item = &'a Link>) -> BTreeMap<IfIndex, Told> {
    let told = |link: &Link| {
        let Link { name, kind, state, admin_up, carrier, mtu, master, mac, speed, .. } = link.clone();
        (link.index, (name, kind, state, admin_up, carrier, mtu, master, mac, speed))
    };
    links.into_iter().map(told).collect()
}

/// Makes and unmakes links, and changes them all the time: some 3,000 links made, 3,000 gone, 12,000 changes.
fn storm() {
    const PAIRS: usize = 250;
    for round in 0..6 {
        ip_batch((0..PAIRS).map(|n| format!("link add s{n} group 7 type veth peer name p{n} group 7")));
        ip_batch((0..4 * PAIRS).map(|n| format!("link set s{} mtu {}", n % PAIRS, 1280 + n % 7)));
        ip_batch((0..PAIRS).map(|n| format!("link set s{n} up")));
        ip_batch((0..PAIRS).map(|n| format!("link set p{n} up")));
        if round < 5 {
            ip("link del group 7");
        }
    }
}

async fn weather(limits: Limits) -> Snapshot {
    let mut watched = Watched::begin(limits).await;
    let begun = Instant::now();
    let storm = std::thread::spawn(storm);
    while !storm.is_finished() {
        if let Ok(Some(batch)) = tokio::time::timeout(Duration::from_millis(20), watched.batches.recv()).await
        {
            batch.into_iter().for_each(|event| watched.snapshot.apply(event));
        }
    }
    storm.join().unwrap();
    watched
        .until("the state after the storm", |snapshot| {
            told(snapshot.links.values()) == told(&netlink::links().unwrap())
                && snapshot.routes == netlink::routes().unwrap()
        })
        .await;
    assert_eq!(watched.snapshot.links.len(), 501);
    assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    watched.snapshot
}

#[test]
fn a_storm_is_weathered() {
    in_namespace("a_storm_is_weathered", async || {
        weather(Limits::default()).await;
    });
}

#[test]
fn a_storm_that_overruns_is_read_again() {
    in_namespace("a_storm_that_overruns_is_read_again", async || {
        let snapshot = weather(Limits { receive_buffer: 32 << 10, ..Limits::default() }).await;
        assert!(snapshot.missed["netlink"] > 0);
    });
}

#[test]
fn a_storm_that_outgrows_a_batch_is_read_again() {
    in_namespace("a_storm_that_outgrows_a_batch_is_read_again", async || {
        let snapshot = weather(Limits { pending: 20, ..Limits::default() }).await;
        assert!(snapshot.missed["netlink"] > 0);
    });
}
