//! Guards in the real kernel: what the short forms of a policy say is what the programs do.
#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod kernel;

use kernel::rules::{counts, dropped, enforce, policy, tcp, world};
use kernel::{Kernel, bpffs};
use weir_agent::model::address::Direction;
use weir_agent::model::policy::kind::Mode;
use weir_agent::model::policy::{Packet, Pair, Rule, RuleSet, read};
use weir_agent::model::vip::Vip;

/// ARP that says who has an address: a reply, an announcement, or a question.
fn arp(operation: u8, sender: &str, mac: [u8; 6], target: &str) -> Vec<u8> {
    let [sender, target]: [std::net::Ipv4Addr; 2] = [sender.parse().unwrap(), target.parse().unwrap()];
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let ethernet = [[0xff; 6].as_slice(), &mac, &[8, 6]].concat();
    [&ethernet[..], &head, &mac, &sender.octets(), &[0; 6], &target.octets()].concat()
}

/// A neighbour advertisement with the target's link-layer address.
fn advertisement(target: &str, mac: [u8; 6]) -> Vec<u8> {
    let target: std::net::Ipv6Addr = target.parse().unwrap();
    let packet = Packet {
        protocol: 58,
        ports: None,
        icmp: Some((136, 0)),
        flags: None,
        ..tcp("fe80::9", "ff02::1", 0, 0)
    };
    let mut frame = packet.to_frame();
    frame.truncate(14 + 40);
    frame[18..20].copy_from_slice(&[0, 32]);
    frame.extend([136, 0, 0, 0, 0x20, 0, 0, 0]);
    frame.extend(target.octets());
    frame.extend([2, 1]);
    frame.extend(mac);
    frame
}

#[test]
fn claims_of_virtual_addresses_by_strangers_are_dropped_and_nothing_else() {
    let Some(fs) = bpffs("claims_of_virtual_addresses_by_strangers_are_dropped_and_nothing_else") else {
        return;
    };
    let mut kernel = Kernel::load(&fs);
    let (vip4, vip6) = ("10.0.0.50", "2001:db8::50");
    kernel.targets.aim_at_vips(&[vip4, vip6].map(|vip| Vip(vip.parse().unwrap()))).unwrap();
    let guard = "{linkGuard: {mode: Enforce, claimants: ['02:00:00:00:00:01', '02:00:00:00:00:02']},
                  rules: [{name: all, mode: Audit, action: Deny}]}";
    let text =
        format!("apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {{name: l}}\nspec: {guard}");
    let (set, problems) = read(&[policy(&text, &[])], &world());
    assert_eq!(problems, []);
    enforce(&mut kernel, &set);
    let mac = |last| [2, 0, 0, 0, 0, last];
    for (what, frame, expected) in [
        ("a reply of the owner", arp(2, vip4, mac(1), "10.0.0.1"), false),
        ("a reply of a stranger", arp(2, vip4, mac(9), "10.0.0.1"), true),
        ("an announcement of the other owner", arp(1, vip4, mac(2), vip4), false),
        ("an announcement of a stranger", arp(1, vip4, mac(9), vip4), true),
        ("a stranger's question in the address's name", arp(1, vip4, mac(9), "10.0.0.1"), true),
        ("an owner's question", arp(1, vip4, mac(1), "10.0.0.1"), false),
        ("a stranger's own address", arp(2, "10.0.0.9", mac(9), "10.0.0.1"), false),
        ("an advertisement of the owner", advertisement(vip6, mac(2)), false),
        ("an advertisement of a stranger", advertisement(vip6, mac(9)), true),
        ("an advertisement of another address", advertisement("2001:db8::9", mac(9)), false),
        ("a packet to the address", tcp("10.0.0.9", vip4, 80, 2).to_frame(), false),
    ] {
        assert_eq!(dropped(&kernel, Direction::Ingress, &frame), expected, "{what}");
        assert!(!dropped(&kernel, Direction::Egress, &frame), "{what}: the rule is for ingress");
    }
    // The other rule looks at IP packets alone, and at those that the first let pass: failsafe for two, one to be dropped.
    assert_eq!(counts(&kernel, &set), [(0, 4, 0), (0, 1, 2)]);
    // In audit mode the same is counted and passes.
    let audit = RuleSet {
        rules: set.rules.iter().cloned().map(|rule| Rule { mode: Mode::Audit, ..rule }).collect(),
        ..set
    };
    enforce(&mut kernel, &audit);
    assert!(!dropped(&kernel, Direction::Ingress, &arp(2, vip4, mac(9), "10.0.0.1")));
    assert_eq!(counts(&kernel, &audit)[0], (0, 1, 0));
}

#[test]
fn traffic_of_enrolled_pods_outside_the_mesh_is_counted_by_pair_and_denied() {
    let Some(fs) = bpffs("traffic_of_enrolled_pods_outside_the_mesh_is_counted_by_pair_and_denied") else {
        return;
    };
    let mut kernel = Kernel::load(&fs);
    let (a, b, a6, b6) = ("10.1.0.1", "10.1.0.2", "fd00:1::1", "fd00:1::2");
    let answer = |packet: Packet| Packet { ports: packet.ports.map(|(from, to)| (to, from)), ..packet };
    let udp = |packet: Packet| Packet { protocol: 17, flags: None, ..packet };
    for (mode, denied) in [("Audit", false), ("Enforce", true)] {
        let text = format!(
            "{{apiVersion: weir.dev/v1alpha1, kind: DatapathPolicy, metadata: {{name: m}}, spec: {{\
             sets: [{{name: pods, cidrs: [10.1.0.0/24, 'fd00:1::/64']}}], meshGuard: {{mode: {mode}, sets: [pods]}}}}}}"
        );
        let (set, problems) = read(&[policy(&text, &[])], &world());
        assert_eq!(problems, []);
        enforce(&mut kernel, &set);
        for (what, packet, outside) in [
            ("HBONE", tcp(a, b, 15_008, 2), false),
            ("an answer of HBONE", answer(tcp(b, a, 15_008, 0x12)), false),
            ("HBONE by IPv6", tcp(a6, b6, 15_008, 2), false),
            ("plain TCP", tcp(a, b, 8080, 2), true),
            ("plain TCP by IPv6", tcp(a6, b6, 8080, 2), true),
            ("UDP", udp(tcp(a, b, 8080, 0)), true),
            ("a probe by the kubelet", tcp("10.0.0.2", b, 8080, 2), false),
            ("a probe as ambient has it", tcp("169.254.7.127", b, 8080, 2), false),
            ("traffic to a pod that is not enrolled", tcp(a, "10.2.0.2", 8080, 2), false),
        ] {
            for direction in Direction::ALL {
                let fate = dropped(&kernel, direction, &packet.to_frame());
                assert_eq!(fate, denied && outside, "{mode}: {what}, {direction:?}");
            }
        }
    }
    // One packet of each kind, way and mode.
    let mut pairs: Vec<_> = kernel.guard.pairs().unwrap();
    pairs.sort_by_key(|pair| (pair.rule.clone(), pair.source));
    let seen = |rule: &str, from: &str, to: &str| -> u64 {
        let of = |pair: &&_| -> bool {
            let Pair { rule: name, source, destination, .. } = pair;
            name == rule && source.to_string() == from && destination.to_string() == to
        };
        pairs.iter().filter(of).map(|pair| pair.packets).sum()
    };
    for rule in ["m/guard-mesh-in", "m/guard-mesh-out"] {
        assert_eq!((seen(rule, a, b), seen(rule, a6, b6), seen(rule, b, a)), (2, 2, 0), "{rule}");
    }
    assert_eq!(seen("m/guard-mesh-udp-in", a, b), 2);
    for way in ["in", "out"] {
        let (asks, answers) =
            (format!("m/guard-mesh-hbone-{way}"), format!("m/guard-mesh-hbone-answer-{way}"));
        assert_eq!((seen(&asks, a, b), seen(&asks, a6, b6)), (2, 2), "{asks}");
        assert_eq!((seen(&answers, b, a), seen(&asks, b, a)), (2, 0), "{answers}");
    }
}
