//! The real programs in the real kernel, on crafted packets (BPF_PROG_TEST_RUN): what goes in is what is counted.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what cannot be done fails the test, and a skip is told"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::{TestRun, TestRunOptions};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use weir_agent::datapath::{Datapath, DropTypes, Hooks, Options, PinError, Pins, Reader, Targets, TcMode};
use weir_agent::model::address::{Direction, IfIndex};
use weir_agent::model::class::Class;
use weir_agent::model::interface::InterfaceCounters;
use weir_agent::model::link::{Link, LinkCounters, LinkKind, OperState};
use weir_agent::model::vip::Vip;

/// The loopback interface: crafted packets come through it.
const LOOPBACK: u32 = 1;

/// A BPF file system of the test's own.
struct BpfFs(PathBuf);

impl BpfFs {
    fn mount() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-bpffs-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).ok()?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>).ok()?;
        Some(Self(path))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

struct Loaded {
    datapath: Datapath,
    reader: Reader,
    targets: Targets,
}

fn load(root: &Path) -> Loaded {
    load_with(root, Options::default())
}

fn load_with(root: &Path, options: Options) -> Loaded {
    let types = DropTypes::running().unwrap();
    let pins = Pins::hold(&root.join("weir")).unwrap();
    let datapath =
        Datapath::load(pins, options, Some(&types)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let targets = Targets::open(&datapath).unwrap();
    let hooks = Hooks::open(&datapath, TcMode::Tcx).unwrap();
    // Gives the hook its rows; real packets of the loopback interface must not come in between.
    let loopback = IfIndex::try_from(LOOPBACK).unwrap();
    hooks.announce(loopback, "lo").unwrap();
    let reader = Reader::open(&datapath, Some(types)).unwrap();
    Loaded { datapath, reader, targets }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!("\n  because: {error}");
        source = error.source();
    }
    text
}

/// `None`, with a line that says so, where this machine cannot run BPF programs.
fn bpffs(test: &str) -> Option<BpfFs> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED {test}: needs root");
        return None;
    }
    let mounted = BpfFs::mount();
    if mounted.is_none() {
        eprintln!("SKIPPED {test}: no BPF file system can be mounted here");
    }
    mounted
}

/// Ethernet, then what is given; cut or filled to what the kernel takes.
struct Packet(Vec<u8>);

const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NODE: [u8; 6] = [2, 0, 0, 0, 0, 1];

impl Packet {
    fn new(tag: Option<u16>, ethertype: u16, parts: &[&[u8]]) -> Self {
        let mut octets = [NODE, ROUTER].concat();
        if let Some(vlan) = tag {
            octets.extend([0x81, 0x00]);
            octets.extend(vlan.to_be_bytes());
        }
        octets.extend(ethertype.to_be_bytes());
        parts.iter().for_each(|part| octets.extend(*part));
        Self(octets)
    }

    fn v4(tag: Option<u16>, protocol: u8, to: [u8; 4], fragment: u16, rest: &[u8]) -> Self {
        let mut header = vec![0x45, 0, 0, 20 + rest.len() as u8, 0, 1];
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0, 10, 77, 0, 1]);
        header.extend(to);
        Self::new(tag, 0x0800, &[&header, rest])
    }

    fn v6(tag: Option<u16>, next: u8, to: &str, rest: &[u8]) -> Self {
        let mut header = vec![0x60, 0, 0, 0, 0, rest.len() as u8, next, 64];
        header.extend("fd77::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        header.extend(to.parse::<std::net::Ipv6Addr>().unwrap().octets());
        Self::new(tag, 0x86dd, &[&header, rest])
    }
}

fn tcp(port: u16, flags: u8) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![0x30, 0x39, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]
}

fn udp(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![0x30, 0x39, high, low, 0, 8, 0, 0]
}

impl Loaded {
    /// Sends a packet through a hook so many times.
    fn send(&mut self, direction: Direction, packet: &Packet, times: u32) {
        let name = if direction == Direction::Ingress { "weir_ingress" } else { "weir_egress" };
        let program = self.datapath.classifier(name).unwrap();
        let options = TestRunOptions { data_in: Some(&packet.0), repeat: times, ..TestRunOptions::default() };
        let result = program.test_run(options).unwrap();
        assert_eq!(result.return_value as i32, -1, "the next program in the chain must run");
    }

    fn interface(&self, direction: Direction) -> InterfaceCounters {
        let all = self.reader.measure().unwrap().interfaces;
        all.into_iter().find(|one| one.direction == direction).unwrap()
    }
}

#[test]
fn every_kind_of_packet_is_counted_exactly() {
    let Some(fs) = bpffs("every_kind_of_packet_is_counted_exactly") else { return };
    let mut loaded = load(&fs.0);
    let kinds = [
        Packet::v4(None, 6, [10, 0, 0, 2], 0, &tcp(443, 0x02)),
        Packet::v4(Some(40), 6, [10, 0, 0, 2], 0, &tcp(443, 0x10)),
        Packet::v4(None, 17, [10, 0, 0, 2], 0, &udp(53)),
        Packet::v4(None, 17, [10, 0, 0, 2], 0x2000, &udp(54)),
        Packet::v4(None, 17, [10, 0, 0, 2], 0x0010, &udp(55)),
        Packet::v4(None, 1, [10, 0, 0, 2], 0, &[8, 0, 0, 0, 0, 1, 0, 1]),
        Packet::v6(None, 6, "fd77::2", &tcp(443, 0x02)),
        Packet::v6(Some(41), 17, "fd77::2", &udp(53)),
        Packet::v6(None, 58, "fd77::2", &[128, 0, 0, 0, 0, 1, 0, 1]),
        Packet::v6(None, 44, "fd77::2", &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &udp(56)].concat()),
    ];
    for direction in Direction::ALL {
        for (n, packet) in kinds.iter().enumerate() {
            loaded.send(direction, packet, n as u32 + 1);
        }
    }
    let flows = loaded.reader.flows().unwrap();
    assert_eq!(flows.len(), kinds.len() * 2, "{flows:#?}");
    let packets: u64 = (1..=kinds.len() as u64).sum();
    let bytes: u64 = kinds.iter().zip(1u64..).map(|(packet, times)| packet.0.len() as u64 * times).sum();
    for direction in Direction::ALL {
        let seen = loaded.interface(direction);
        assert_eq!((seen.packets, seen.bytes, seen.segments), (packets, bytes, packets), "{direction}");
        let of_flows = flows.iter().filter(|flow| flow.direction == direction);
        assert_eq!(of_flows.clone().map(|flow| flow.packets).sum::<u64>(), packets);
        assert_eq!(of_flows.map(|flow| flow.bytes).sum::<u64>(), bytes);
    }
    let found =
        |port, vlan| flows.iter().filter(|flow| flow.destination_port == port && flow.vlan == vlan).count();
    assert_eq!(
        (found(443, Some(40)), found(53, Some(41)), found(55, None)),
        (2, 2, 0),
        "later fragments have no port"
    );
    let hops: Vec<_> = flows.iter().map(|flow| (flow.direction, flow.hop.0)).collect();
    assert!(hops.iter().all(|hop| matches!(hop, (Direction::Ingress, ROUTER) | (Direction::Egress, NODE))));
}

#[test]
fn what_is_no_flow_is_counted_by_kind() {
    let Some(fs) = bpffs("what_is_no_flow_is_counted_by_kind") else { return };
    let mut loaded = load(&fs.0);
    loaded.send(Direction::Ingress, &Packet::new(None, 0x0806, &[&[0; 28]]), 3);
    loaded.send(Direction::Ingress, &Packet::new(None, 0x0800, &[&[0x65; 20]]), 4);
    loaded.send(Direction::Ingress, &Packet::v4(None, 6, [10, 0, 0, 2], 0, &[0x30, 0x39]), 5);
    loaded.send(Direction::Ingress, &Packet::v6(None, 6, "fd77::2", &[0x30]), 6);
    let seen = loaded.interface(Direction::Ingress);
    assert_eq!((seen.packets, seen.not_ip, seen.malformed), (18, 3, 15));
    assert!(loaded.reader.flows().unwrap().is_empty());
}

#[test]
fn virtual_addresses_have_a_ledger_by_port_vlan_and_hop() {
    let Some(fs) = bpffs("virtual_addresses_have_a_ledger_by_port_vlan_and_hop") else { return };
    let mut loaded = load(&fs.0);
    let syn = Packet::v4(None, 6, [10, 10, 50, 10], 0, &tcp(443, 0x02));
    // Counted before the address is a virtual one: not in its ledger, and the flow changes over in mid-stream.
    loaded.send(Direction::Ingress, &syn, 2);
    let vips = ["10.10.50.10", "fd10:10:50::10"].map(|text| Vip(text.parse().unwrap()));
    loaded.targets.aim_at_vips(&vips).unwrap();
    loaded.send(Direction::Ingress, &syn, 5);
    loaded.send(Direction::Ingress, &Packet::v4(Some(40), 6, [10, 10, 50, 10], 0, &tcp(443, 0x14)), 7);
    loaded.send(Direction::Ingress, &Packet::v6(None, 17, "fd10:10:50::10", &udp(53)), 9);
    loaded.send(Direction::Egress, &syn, 1);
    let measured = loaded.reader.measure().unwrap();
    let row = |port, direction, vlan| {
        let mut rows = measured
            .vips
            .iter()
            .filter(|row| (row.port, row.direction, row.vlan) == (Some(port), direction, vlan));
        rows.next().unwrap().clone()
    };
    let plain = row(443, Direction::Ingress, None);
    assert_eq!((plain.packets, plain.bytes, plain.syn, plain.rst), (5, 5 * syn.0.len() as u64, 5, 0));
    assert_eq!(plain.hop.0, ROUTER);
    let tagged = row(443, Direction::Ingress, Some(40));
    assert_eq!((tagged.packets, tagged.syn, tagged.rst), (7, 0, 7));
    assert_eq!(row(53, Direction::Ingress, None).packets, 9);
    assert_eq!(row(443, Direction::Egress, None).packets, 1);
    assert_eq!(loaded.interface(Direction::Ingress).packets, 23, "the sum over all rows is the interface");

    loaded.targets.aim_at_vips(&vips[1..]).unwrap();
    let measured = loaded.reader.measure().unwrap();
    assert!(measured.vips.iter().all(|row| row.vip == vips[1]), "rows go with their address");
    assert_eq!(loaded.interface(Direction::Ingress).packets, 23, "but not out of the sum");
}

#[test]
fn a_scan_of_all_ports_of_a_virtual_address_stays_bounded() {
    let Some(fs) = bpffs("a_scan_of_all_ports_of_a_virtual_address_stays_bounded") else { return };
    let mut loaded = load(&fs.0);
    loaded.targets.aim_at_vips(&[Vip("10.10.50.10".parse().unwrap())]).unwrap();
    for port in 1..=300 {
        loaded.send(Direction::Ingress, &Packet::v4(None, 6, [10, 10, 50, 10], 0, &tcp(port, 0x02)), 1);
    }
    let rows = loaded.reader.measure().unwrap().vips;
    let own = rows.iter().filter(|row| row.port.is_some()).count() as u64;
    assert_eq!(own, weir_ebpf::VIP_PORTS);
    assert_eq!(rows.iter().map(|row| row.packets).sum::<u64>(), 300, "the others share a row");
}

#[test]
fn rows_of_former_virtual_addresses_are_used_again_and_stay_in_the_sums() {
    let Some(fs) = bpffs("rows_of_former_virtual_addresses_are_used_again_and_stay_in_the_sums") else {
        return;
    };
    let mut loaded = load(&fs.0);
    // More rows in all than the ledger has.
    let (addresses, ports) = (90u8, 60u16);
    assert!(u32::from(addresses) * u32::from(ports) > weir_ebpf::ROWS);
    for last in 0..addresses {
        loaded.targets.aim_at_vips(&[Vip(std::net::Ipv4Addr::new(10, 10, 50, last).into())]).unwrap();
        for port in 1..=ports {
            loaded.send(Direction::Ingress, &Packet::v4(None, 6, [10, 10, 50, last], 0, &tcp(port, 0x02)), 1);
        }
    }
    let measured = loaded.reader.measure().unwrap();
    assert_eq!(measured.shortfall.ledger_overflow, 0);
    assert_eq!(measured.vips.len(), usize::from(ports));
    assert_eq!(loaded.interface(Direction::Ingress).packets, u64::from(addresses) * u64::from(ports));
}

#[test]
fn classes_by_address_before_port() {
    let Some(fs) = bpffs("classes_by_address_before_port") else { return };
    let mut loaded = load(&fs.0);
    let class = |text: &str| serde_saphyr::from_str::<Class>(text).unwrap();
    let classes = [
        class("{ name: etcd, tcp: [2379-2380] }"),
        class("{ name: dns, udp: [53] }"),
        class("{ name: storage, addresses: [10.60.0.0/16, 'fd60::/64'] }"),
        class("{ name: backup, addresses: [10.60.7.0/24] }"),
    ];
    loaded.targets.sort_into(&classes).unwrap();
    let ingress = Direction::Ingress;
    loaded.send(ingress, &Packet::v4(None, 6, [10, 0, 0, 2], 0, &tcp(2380, 0x10)), 1);
    loaded.send(ingress, &Packet::v4(None, 17, [10, 0, 0, 2], 0, &udp(53)), 2);
    loaded.send(ingress, &Packet::v4(None, 6, [10, 60, 0, 2], 0, &tcp(2380, 0x10)), 4);
    loaded.send(ingress, &Packet::v4(None, 6, [10, 60, 7, 2], 0, &tcp(2380, 0x10)), 8);
    loaded.send(ingress, &Packet::v6(None, 6, "fd60::5", &tcp(80, 0x10)), 16);
    loaded.send(ingress, &Packet::v4(None, 6, [10, 0, 0, 2], 0, &tcp(81, 0x10)), 32);
    let counted = |loaded: &Loaded, name: &str| {
        let classes = loaded.reader.measure().unwrap().classes;
        classes
            .iter()
            .filter(|one| one.class == name && one.direction == ingress)
            .map(|one| one.packets)
            .sum::<u64>()
    };
    let all = ["etcd", "dns", "storage", "backup", "other"].map(|name| counted(&loaded, name));
    assert_eq!(all, [1, 2, 4 + 16, 8, 32]);

    // Another order and one class less: what was counted keeps its name.
    loaded.targets.sort_into(&[classes[1].clone(), classes[0].clone()]).unwrap();
    loaded.send(ingress, &Packet::v4(None, 6, [10, 60, 0, 2], 0, &tcp(2380, 0x10)), 100);
    assert_eq!((counted(&loaded, "etcd"), counted(&loaded, "storage")), (101, 20));
}

#[test]
fn more_flows_than_the_table_holds_are_evicted_and_counted() {
    let Some(fs) = bpffs("more_flows_than_the_table_holds_are_evicted_and_counted") else { return };
    let mut loaded = load_with(&fs.0, Options { flows: 1024 });
    let mut packet = Packet::v4(None, 17, [10, 0, 0, 2], 0, &udp(9));
    const FLOWS: u32 = 40_000;
    for flow in 0..FLOWS {
        packet.0[26..30].copy_from_slice(&(0x0b00_0000 + flow).to_be_bytes());
        loaded.send(Direction::Ingress, &packet, 1);
    }
    let measured = loaded.reader.measure().unwrap();
    assert_eq!(measured.interfaces[0].packets, u64::from(FLOWS), "no packet is lost with its flow");
    assert!(measured.shortfall.flows_evicted > 0, "{:?}", measured.shortfall);
    let table = measured.maps.iter().find(|map| map.map == "flow_table").unwrap();
    assert!(table.entries <= 1024, "{table:?}");
}

#[test]
fn counts_outlive_the_agent_and_an_upgrade() {
    let Some(fs) = bpffs("counts_outlive_the_agent_and_an_upgrade") else { return };
    let packet = Packet::v4(None, 17, [10, 10, 50, 10], 0, &udp(53));
    let vips = [Vip("10.10.50.10".parse().unwrap())];
    let mut loaded = load(&fs.0);
    loaded.targets.aim_at_vips(&vips).unwrap();
    loaded.send(Direction::Ingress, &packet, 10);
    drop(loaded);
    let mut loaded = load(&fs.0);
    loaded.targets.aim_at_vips(&vips).unwrap();
    loaded.send(Direction::Ingress, &packet, 7);
    let measured = loaded.reader.measure().unwrap();
    assert_eq!(measured.interfaces[0].packets, 17);
    assert_eq!(measured.vips.iter().map(|row| row.packets).collect::<Vec<_>>(), [17]);
    assert_eq!(loaded.reader.flows().unwrap()[0].packets, 17);
}

#[test]
fn one_agent_a_pin_folder_and_nothing_left_behind() {
    let Some(fs) = bpffs("one_agent_a_pin_folder_and_nothing_left_behind") else { return };
    let loaded = load(&fs.0);
    assert!(matches!(Pins::hold(&fs.0.join("weir")), Err(PinError::Held(_))));
    drop(loaded);
    Pins::hold(&fs.0.join("weir")).unwrap().remove_all().unwrap();
    assert!(!fs.0.join("weir").exists());
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(matches!(Pins::hold(elsewhere.path()), Err(PinError::NotBpf(_))));
}

/// Runs in a network namespace of its own, whose loopback interface nobody else uses.
fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            work()
        });
        thread.join().unwrap()
    })
}

fn send_to_oneself(datagrams: usize) {
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..datagrams {
        sender.send_to(&[0; 100], receiver.local_addr().unwrap()).unwrap();
        receiver.recv(&mut [0; 100]).unwrap();
    }
}

#[test]
fn without_tcx_legacy_filters_count_outlive_the_agent_and_go() {
    let Some(fs) = bpffs("without_tcx_legacy_filters_count_outlive_the_agent_and_go") else { return };
    let loopback = IfIndex::try_from(LOOPBACK).unwrap();
    let attached = || {
        let mut loaded = load(&fs.0);
        let hooks = Hooks::open(&loaded.datapath, TcMode::Legacy).unwrap();
        hooks
            .attach(&mut loaded.datapath, loopback, "lo")
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        loaded
    };
    alone(|| {
        let first = attached();
        send_to_oneself(10);
        drop(first);
        send_to_oneself(5);
        let second = attached();
        send_to_oneself(7);
        assert_eq!(second.interface(Direction::Ingress).packets, 22, "each packet once, by one filter");
        assert_eq!(second.interface(Direction::Egress).packets, 22);
        Hooks::detach_legacy("lo");
        send_to_oneself(3);
        assert_eq!(second.interface(Direction::Ingress).packets, 22);
    });
}

fn vlan_link(index: u32, vlan: u16, parent: u32) -> Link {
    Link {
        index: IfIndex::try_from(index).unwrap(),
        name: format!("eth{parent}.{vlan}"),
        kind: LinkKind::Vlan(vlan),
        state: OperState::Up,
        admin_up: true,
        carrier: true,
        mac: None,
        mtu: 1500,
        speed: None,
        master: None,
        parent: Some(IfIndex::try_from(parent).unwrap()),
        queue_length: 1000,
        counters: LinkCounters::default(),
        flaps: 0,
        changed: None,
    }
}

#[test]
fn a_packet_of_a_measured_sub_interface_is_in_the_ledger_once() {
    let Some(fs) = bpffs("a_packet_of_a_measured_sub_interface_is_in_the_ledger_once") else { return };
    let mut loaded = load(&fs.0);
    let hooks = Hooks::open(&loaded.datapath, TcMode::Tcx).unwrap();
    loaded.targets.aim_at_vips(&[Vip("10.10.50.10".parse().unwrap())]).unwrap();
    let tagged = |vlan| Packet::v4(Some(vlan), 17, [10, 10, 50, 10], 0, &udp(53));
    let ledger = |loaded: &Loaded| {
        let measured = loaded.reader.measure().unwrap();
        let vips = measured.vips.iter().map(|row| (row.vlan, row.packets)).collect::<Vec<_>>();
        let classes = measured.classes.iter().map(|class| class.packets).sum::<u64>();
        let flows = loaded.reader.flows().unwrap();
        let flows = flows.iter().map(|flow| (flow.vlan, flow.packets)).collect::<Vec<_>>();
        (vips, classes, flows, measured.interfaces[0].packets)
    };
    // The sub-interface of VLAN 40 is measured: its own hook sorts the packets, this one counts them and no more.
    hooks.tell_measured([vlan_link(2, 40, LOOPBACK)].iter()).unwrap();
    loaded.send(Direction::Ingress, &tagged(40), 3);
    assert_eq!(ledger(&loaded), (vec![], 0, vec![], 3));
    loaded.send(Direction::Ingress, &tagged(41), 5);
    assert_eq!(ledger(&loaded), (vec![(Some(41), 5)], 5, vec![(Some(41), 5)], 8), "another VLAN");
    // It is gone: from now on this hook sorts them, in the middle of a flow.
    hooks.tell_measured(std::iter::empty()).unwrap();
    loaded.send(Direction::Ingress, &tagged(40), 7);
    let (vips, classes, flows, packets) = ledger(&loaded);
    assert_eq!((vips, classes, packets), (vec![(Some(40), 7), (Some(41), 5)], 12, 15));
    assert_eq!(flows.len(), 2);
}

#[test]
fn what_a_sub_interface_untagged_keeps_its_vlan() {
    let Some(fs) = bpffs("what_a_sub_interface_untagged_keeps_its_vlan") else { return };
    let mut loaded = load(&fs.0);
    let hooks = Hooks::open(&loaded.datapath, TcMode::Tcx).unwrap();
    loaded.targets.aim_at_vips(&[Vip("10.10.50.10".parse().unwrap())]).unwrap();
    hooks.tell_measured([vlan_link(LOOPBACK, 40, 7)].iter()).unwrap();
    loaded.send(Direction::Ingress, &Packet::v4(None, 17, [10, 10, 50, 10], 0, &udp(53)), 4);
    assert_eq!(loaded.reader.measure().unwrap().vips[0].vlan, Some(40));
    assert_eq!(loaded.reader.flows().unwrap()[0].vlan, Some(40));
}

#[test]
fn a_full_ledger_is_counted_and_loses_no_packet() {
    let Some(fs) = bpffs("a_full_ledger_is_counted_and_loses_no_packet") else { return };
    let mut loaded = load(&fs.0);
    // All at once, and more rows than the ledger has.
    let (addresses, ports) = (72u8, 60u16);
    let all = u64::from(addresses) * u64::from(ports);
    assert!(all > u64::from(weir_ebpf::ROWS));
    let vips: Vec<_> =
        (0..addresses).map(|last| Vip(std::net::Ipv4Addr::new(10, 10, 50, last).into())).collect();
    loaded.targets.aim_at_vips(&vips).unwrap();
    for last in 0..addresses {
        for port in 1..=ports {
            loaded.send(Direction::Ingress, &Packet::v4(None, 6, [10, 10, 50, last], 0, &tcp(port, 0x02)), 1);
        }
    }
    let measured = loaded.reader.measure().unwrap();
    let in_ledger: u64 = measured.vips.iter().map(|row| row.packets).sum();
    assert!(measured.shortfall.ledger_overflow > 0 && in_ledger < all, "{:?}", measured.shortfall);
    assert_eq!(loaded.interface(Direction::Ingress).packets, all, "they are in the hook's base row");
    let rows = measured.maps.iter().find(|map| map.map == "row_numbers").unwrap();
    assert!(rows.entries < u64::from(weir_ebpf::ROWS) && rows.entries > 4000, "{rows:?}");
}
