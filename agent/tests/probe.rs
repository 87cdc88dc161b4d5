//! The prober against real gateways in network namespaces.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken lab fails the test")]

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use weir_agent::model::address::{IfIndex, Mac};
use weir_agent::model::link::{Link, LinkCounters, LinkKind, OperState};
use weir_agent::model::probe::{GatewayProbe, Plan};
use weir_agent::model::route::{Hop, Route};
use weir_agent::probe::{Sockets, run};
use weir_agent::state::{Event, Snapshot};

/// Ten times as fast as in production.
const QUICK: Plan = Plan {
    every: Duration::from_millis(100),
    jitter: Duration::from_millis(20),
    timeout: Duration::from_millis(100),
    path_mtu_every: Duration::from_secs(600),
    gap: Duration::from_millis(1),
    burst: 8,
};

/// Namespaces of one test; gone with it.
struct Lab(&'static str);

impl Lab {
    /// `None`, and a loud line, where namespaces cannot be made.
    fn new(test: &'static str, namespaces: &[&str]) -> Option<Self> {
        let lab = Self(test);
        for one in namespaces {
            let made = Command::new("ip").args(["netns", "add", &lab.name(one)]).output();
            if !made.as_ref().is_ok_and(|output| output.status.success()) {
                #[expect(clippy::print_stderr, reason = "a skip is loud")]
                {
                    eprintln!(
                        "SKIPPED {test}: cannot make a network namespace ({made:?}); run as root with iproute2"
                    );
                }
                return None;
            }
            lab.ip(one, "link set lo up");
        }
        Some(lab)
    }

    fn name(&self, namespace: &str) -> String {
        format!("weirprobe-{}-{}-{namespace}", std::process::id(), self.0)
    }

    fn ip(&self, namespace: &str, command: &str) -> String {
        let name = self.name(namespace);
        run_checked(Command::new("ip").args(["-n", &name]).args(command.split_whitespace()))
    }

    fn sysctl(&self, namespace: &str, setting: &str) {
        let name = self.name(namespace);
        run_checked(Command::new("ip").args(["netns", "exec", &name, "sysctl", "-qw", setting]));
    }

    /// A cable between two namespaces; each end is named after the other side and has the addresses given.
    fn cable(&self, (a, a_addresses): (&str, &[&str]), (b, b_addresses): (&str, &[&str])) {
        self.ip(a, &format!("link add {b} type veth peer name {a} netns {}", self.name(b)));
        for (namespace, device, addresses) in [(a, b, a_addresses), (b, a, b_addresses)] {
            self.ip(namespace, &format!("link set {device} addrgenmode none"));
            self.ip(namespace, &format!("link set {device} up"));
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                self.ip(namespace, &format!("addr add {address} dev {device} {nodad}"));
            }
        }
    }

    /// What netlink would tell the agent in that namespace.
    fn snapshot(&self, namespace: &str, device: &str, gateways: &[&str]) -> Snapshot {
        let links = self.ip(namespace, &format!("-j link show dev {device}"));
        let link: serde_json::Value = serde_json::from_str::<Vec<_>>(&links).unwrap().remove(0);
        let index = IfIndex::try_from(u32::try_from(link["ifindex"].as_u64().unwrap()).unwrap()).unwrap();
        let mtu = u32::try_from(link["mtu"].as_u64().unwrap()).unwrap();
        let mac: Mac = link["address"].as_str().unwrap().parse().unwrap();
        let hop =
            |gateway: &&str| Hop { gateway: Some(gateway.parse().unwrap()), interface: index, weight: 1 };
        Snapshot {
            links: [(index, plain_link(index, device, mac, mtu))].into(),
            routes: vec![Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                hops: gateways.iter().map(hop).collect(),
                metric: 0,
                protocol: 4,
            }],
            ..Snapshot::default()
        }
    }

    /// Runs the prober inside a namespace, on a thread of its own; as in production, without any capability once its sockets
    /// are open.
    fn probe(&self, namespace: &str, snapshot: Snapshot) -> Probing {
        self.probe_with(namespace, snapshot, || {
            let sockets = Sockets::open();
            caps::clear(None, caps::CapSet::Permitted).unwrap();
            sockets
        })
    }

    fn probe_with(
        &self,
        namespace: &str,
        snapshot: Snapshot,
        open: impl FnOnce() -> Sockets + Send + 'static,
    ) -> Probing {
        let (snapshots, watched) = watch::channel(Arc::new(snapshot));
        let (events, received) = mpsc::channel(1024);
        let stop = CancellationToken::new();
        let (path, stopped) = (format!("/run/netns/{}", self.name(namespace)), stop.clone());
        let uplinks = |snapshot: &Snapshot| snapshot.links.keys().copied().collect();
        let thread = std::thread::spawn(move || {
            setns(std::fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let sockets = open();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(sockets, QUICK, watched, uplinks, events, stopped)).unwrap();
        });
        Probing { snapshots, received, stop, thread: Some(thread) }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for one in ["node", "mid", "gw"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(one)]).output();
        }
    }
}

fn run_checked(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct Probing {
    snapshots: watch::Sender<Arc<Snapshot>>,
    received: mpsc::Receiver<Event>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Probing {
    /// Waits until an event is what the test waits for; panics after half a minute.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut last = None;
        let found = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(30), async {
                while let Some(event) = self.received.recv().await {
                    if let Some(found) = wanted(&event) {
                        return Some(found);
                    }
                    last = Some(event);
                }
                None
            })
            .await
        });
        found.ok().flatten().unwrap_or_else(|| panic!("{what}: last seen {last:#?}"))
    }

    fn until_gateway(&mut self, address: &str, wanted: impl Fn(&GatewayProbe) -> bool) -> GatewayProbe {
        let address: IpAddr = address.parse().unwrap();
        self.until(&format!("gateway {address}"), |event| match event {
            Event::Gateway(probe) if probe.gateway == address && wanted(probe) => Some(probe.clone()),
            _ => None,
        })
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the prober's thread died");
    }
}

fn plain_link(index: IfIndex, name: &str, mac: Mac, mtu: u32) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: LinkKind::Veth,
        state: OperState::Up,
        admin_up: true,
        carrier: true,
        mac: Some(mac),
        mtu,
        speed: None,
        master: None,
        parent: None,
        queue_length: 1000,
        counters: LinkCounters::default(),
        flaps: 0,
        changed: None,
    }
}

const NODE: [&str; 3] = ["192.0.2.2/24", "2001:db8:1::2/64", "fe80::2/64"];
const GATEWAY: [&str; 3] = ["192.0.2.1/24", "2001:db8:1::1/64", "fe80::1/64"];

#[test]
fn gateways_of_both_families_and_link_local_answer() {
    let Some(lab) = Lab::new("answers", &["node", "gw"]) else { return };
    lab.cable(("node", &NODE), ("gw", &GATEWAY));
    let gateways = ["192.0.2.1", "2001:db8:1::1", "fe80::1"];
    let mut probing = lab.probe("node", lab.snapshot("node", "gw", &gateways));
    for address in gateways {
        let shown = probing.until_gateway(address, |shown| {
            shown.path_mtu.is_some()
                && shown.echo.latency.count() >= 3
                && shown.link_layer.latency.count() >= 3
        });
        assert_eq!(shown.path_mtu, Some(1500), "{shown:#?}");
        assert_eq!((&shown.echo.unable, &shown.link_layer.unable), (&None, &None));
        let last = shown.echo.last.unwrap();
        assert!(last > Duration::ZERO && last < QUICK.timeout, "{last:?}");
        assert!(shown.echo.lost <= 1 && shown.link_layer.lost <= 1, "a wire without loss: {shown:#?}");
    }
}

#[test]
fn ping_sockets_need_no_privilege_at_all() {
    let Some(lab) = Lab::new("ping", &["node", "gw"]) else { return };
    lab.cable(("node", &NODE), ("gw", &GATEWAY));
    lab.sysctl("node", "net.ipv4.ping_group_range=0 2147483647");
    let gateways = ["192.0.2.1", "2001:db8:1::1", "fe80::1"];
    let mut probing = lab.probe_with("node", lab.snapshot("node", "gw", &gateways), || {
        caps::clear(None, caps::CapSet::Permitted).unwrap();
        Sockets::open()
    });
    for address in gateways {
        let shown = probing.until_gateway(address, |shown| {
            shown.path_mtu.is_some() && shown.echo.latency.count() >= 3 && shown.link_layer.unable.is_some()
        });
        assert_eq!((shown.path_mtu, shown.link_layer.sent), (Some(1500), 0));
        assert!(shown.link_layer.unable.unwrap().ends_with("grant CAP_NET_RAW"));
    }
}

#[test]
fn a_gateway_that_vanishes_is_lost_and_found_again() {
    let Some(lab) = Lab::new("blackhole", &["node", "gw"]) else { return };
    lab.cable(("node", &NODE), ("gw", &GATEWAY));
    let mut probing = lab.probe("node", lab.snapshot("node", "gw", &["192.0.2.1", "2001:db8:1::1"]));
    let answered = |shown: &GatewayProbe| shown.echo.last.is_some() && shown.link_layer.last.is_some();
    let before = probing.until_gateway("192.0.2.1", answered);
    lab.ip("gw", "addr del 192.0.2.1/24 dev node");
    lab.ip("gw", "addr del 2001:db8:1::1/64 dev node");
    let lost = |shown: &GatewayProbe| {
        shown.echo.lost >= before.echo.lost + 5 && shown.link_layer.lost >= before.link_layer.lost + 5
    };
    let v4 = probing.until_gateway("192.0.2.1", lost);
    assert!(v4.echo.sent >= v4.echo.lost + v4.echo.latency.count());
    let v6 = probing.until_gateway("2001:db8:1::1", lost);
    lab.ip("gw", "addr add 192.0.2.1/24 dev node");
    lab.ip("gw", "addr add 2001:db8:1::1/64 dev node nodad");
    let back = |old: GatewayProbe| {
        move |shown: &GatewayProbe| {
            shown.echo.latency.count() > old.echo.latency.count() + 3
                && shown.link_layer.latency.count() > old.link_layer.latency.count() + 3
        }
    };
    probing.until_gateway("192.0.2.1", back(v4));
    probing.until_gateway("2001:db8:1::1", back(v6));
}

#[test]
fn a_bottleneck_behind_a_router_is_the_path_mtu() {
    let Some(lab) = Lab::new("bottleneck", &["node", "mid", "gw"]) else { return };
    // A router without link-local addresses cannot resolve neighbours for the packets that it forwards.
    let near = ["10.1.0.1/24", "2001:db8:1::1/64", "fe80::1/64"];
    let far = ["10.2.0.1/24", "2001:db8:2::1/64", "fe80::1/64"];
    lab.cable(("node", &["10.1.0.2/24", "2001:db8:1::2/64"]), ("mid", &near));
    lab.cable(("mid", &far), ("gw", &["10.2.0.2/24", "2001:db8:2::2/64", "fe80::2/64"]));
    for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        lab.sysctl("mid", setting);
    }
    lab.ip("node", "route add 10.2.0.0/24 via 10.1.0.1");
    lab.ip("node", "-6 route add 2001:db8:2::/64 via 2001:db8:1::1");
    lab.ip("gw", "route add default via 10.2.0.1");
    lab.ip("gw", "-6 route add default via 2001:db8:2::1");
    lab.ip("mid", "link set gw mtu 1420");
    lab.ip("gw", "link set mid mtu 1420");
    let gateways = ["10.2.0.2", "2001:db8:2::2"];
    let mut probing = lab.probe("node", lab.snapshot("node", "mid", &gateways));
    for address in gateways {
        let shown = probing.until_gateway(address, |shown| shown.path_mtu.is_some());
        assert_eq!(shown.path_mtu, Some(1420), "{shown:#?}");
        // The router tells what it takes: a few rounds, and up to ten until it is published. A search takes 25 and more.
        assert!(shown.echo.sent <= 20, "{shown:#?}");
    }
    lab.ip("node", "link set mid mtu 1380");
    probing.snapshots.send_replace(Arc::new(lab.snapshot("node", "mid", &gateways)));
    for address in gateways {
        probing.until_gateway(address, |shown| shown.path_mtu == Some(1380));
    }
}

#[test]
fn a_gateway_that_filters_echoes_still_shows_its_link_layer() {
    let Some(lab) = Lab::new("filtered", &["node", "gw"]) else { return };
    lab.cable(("node", &NODE), ("gw", &GATEWAY));
    lab.sysctl("gw", "net.ipv4.icmp_echo_ignore_all=1");
    lab.sysctl("gw", "net.ipv6.icmp.echo_ignore_all=1");
    let mut probing = lab.probe("node", lab.snapshot("node", "gw", &["192.0.2.1", "2001:db8:1::1"]));
    for address in ["192.0.2.1", "2001:db8:1::1"] {
        let shown = probing.until_gateway(address, |shown| shown.echo.lost >= 5);
        assert_eq!((shown.echo.latency.count(), shown.path_mtu), (0, None));
        assert!(shown.link_layer.latency.count() >= 3 && shown.link_layer.lost <= 1, "{shown:#?}");
    }
}

#[test]
fn a_link_removed_under_the_prober_is_told_and_forgotten() {
    let Some(lab) = Lab::new("removed", &["node", "gw"]) else { return };
    lab.cable(("node", &NODE), ("gw", &GATEWAY));
    let mut probing = lab.probe("node", lab.snapshot("node", "gw", &["192.0.2.1", "2001:db8:1::1"]));
    probing.until_gateway("192.0.2.1", |shown| shown.echo.last.is_some());
    lab.ip("node", "link del gw");
    for address in ["192.0.2.1", "2001:db8:1::1"] {
        let unable = |shown: &GatewayProbe| shown.echo.unable.is_some() && shown.link_layer.unable.is_some();
        probing.until_gateway(address, unable);
    }
    probing.snapshots.send_replace(Arc::default());
    let gone = probing.until("a gateway gone", |event| match event {
        Event::GatewayGone(_, gateway) => Some(*gateway),
        _ => None,
    });
    assert_eq!(gone, "192.0.2.1".parse::<IpAddr>().unwrap());
}
