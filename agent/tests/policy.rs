//! Policies in the real kernel: the programs decide what the rules say, whatever the packet.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what cannot be done fails the test"
)]

mod kernel;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::rules::{counts, dropped, enforce, fill, lo, policy, tcp, world};
use kernel::{Kernel, LOOPBACK, bpffs, chain};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use weir_agent::datapath::drops_early;
use weir_agent::model::address::{Direction, IfIndex, Mac};
use weir_agent::model::class::Class;
use weir_agent::model::policy::kind::Mode;
use weir_agent::model::policy::reference::{Budgets, Surroundings};
use weir_agent::model::policy::{
    Action, Addresses, Budget, Claim, Packet, Rule, RuleSet, Unit, Vital, failsafe, read, read_frame,
};
use weir_agent::model::vip::Vip;
use weir_ebpf::parse::Parsed;
use weir_ebpf::rules::Control;

const BLOCK: &str = "
apiVersion: weir.dev/v1alpha1
kind: DatapathPolicy
metadata: {name: edge}
spec:
  sets: [{name: bad, file: bad.txt, cidrs: ['2001:db8:bad::/48']}]
  rules:
  - {name: look, mode: Audit, action: Deny, match: {source: {sets: [bad]}}}
  - {name: block, mode: Enforce, action: Deny, match: {source: {sets: [bad]}, destination: {except: [10.0.0.99]}}}
";

#[test]
fn a_rule_by_prefix_from_a_file_is_audited_and_enforced() {
    let Some(fs) = bpffs("a_rule_by_prefix_from_a_file_is_audited_and_enforced") else { return };
    let mut kernel = Kernel::load(&fs);
    let source = policy(BLOCK, &[("bad.txt", "# a list\n192.0.2.0/24\n198.51.100.7 # one host\n")]);
    let (set, problems) = read(&[source], &world());
    assert!(problems.is_empty(), "{problems:?}");
    enforce(&mut kernel, &set);
    for (from, to, expected) in [
        ("192.0.2.9", "10.0.0.1", true),
        ("198.51.100.7", "10.0.0.1", true),
        ("198.51.100.8", "10.0.0.1", false),
        ("192.0.2.9", "10.0.0.99", false),
        ("2001:db8:bad::1", "2001:db8::1", true),
        ("2001:db8:bae::1", "2001:db8::1", false),
    ] {
        let frame = tcp(from, to, 80, 2).to_frame();
        assert_eq!(dropped(&kernel, Direction::Ingress, &frame), expected, "{from} to {to}");
        assert!(!dropped(&kernel, Direction::Egress, &frame), "the rule is for ingress");
    }
    assert_eq!(counts(&kernel, &set), [(0, 4, 0), (0, 3, 0)]);
}

#[test]
fn without_a_policy_and_after_one_everything_passes() {
    let Some(fs) = bpffs("without_a_policy_and_after_one_everything_passes") else { return };
    let mut kernel = Kernel::load(&fs);
    let frame = tcp("192.0.2.9", "10.0.0.1", 80, 2).to_frame();
    assert!(!dropped(&kernel, Direction::Ingress, &frame));
    let deny = Rule::new("p", "all", Mode::Enforce, Direction::Ingress, Action::Deny);
    enforce(&mut kernel, &RuleSet { rules: vec![deny], ..RuleSet::default() });
    assert!(dropped(&kernel, Direction::Ingress, &frame));
    kernel.guard.set_control(Control::new(0, 0, None, false)).unwrap();
    assert!(!dropped(&kernel, Direction::Ingress, &frame));
}

#[test]
fn the_failsafe_saves_what_a_deny_of_everything_would_drop() {
    let Some(fs) = bpffs("the_failsafe_saves_what_a_deny_of_everything_would_drop") else { return };
    let mut kernel = Kernel::load(&fs);
    let resolver: IpAddr = "10.0.0.53".parse().unwrap();
    kernel.guard.resolve_by(&[resolver]).unwrap();
    let deny = |way| {
        Rule::new("p", if way == Direction::Ingress { "in" } else { "out" }, Mode::Enforce, way, Action::Deny)
    };
    let extra = Vital { protocol: 6, port: 9_345, direction: Direction::Ingress };
    let rules = Direction::ALL.map(deny).to_vec();
    enforce(&mut kernel, &RuleSet { rules, failsafe: vec![extra], ..RuleSet::default() });
    for row in failsafe::BUILT_IN {
        for (way, wanted) in [(Direction::Ingress, row.served), (Direction::Egress, row.used)] {
            let mut packet = tcp("192.0.2.9", "10.0.0.1", row.port, 2);
            (packet.direction, packet.protocol) = (way, row.protocol);
            packet.flags = (row.protocol == 6).then_some(2);
            assert_eq!(!dropped(&kernel, way, &packet.to_frame()), wanted, "{} {way}", row.purpose);
        }
    }
    assert!(
        !dropped(&kernel, Direction::Ingress, &tcp("192.0.2.9", "10.0.0.1", 9_345, 2).to_frame()),
        "added"
    );
    assert!(dropped(&kernel, Direction::Ingress, &tcp("192.0.2.9", "10.0.0.1", 22, 2).to_frame()));
    let answer = |flags, from: u16| {
        let mut packet = tcp("192.0.2.9", "10.0.0.1", 40_001, flags);
        packet.ports = Some((from, 40_001));
        packet.to_frame()
    };
    assert!(!dropped(&kernel, Direction::Ingress, &answer(0x12, 6_443)), "an answer of the API server");
    assert!(dropped(&kernel, Direction::Ingress, &answer(0x02, 6_443)), "a connection from its port");
    let mut dns = tcp("10.0.0.53", "10.0.0.1", 40_001, 0);
    (dns.protocol, dns.ports, dns.flags) = (17, Some((53, 40_001)), None);
    assert!(!dropped(&kernel, Direction::Ingress, &dns.to_frame()), "an answer of the resolver");
    dns.source = "192.0.2.9".parse().unwrap();
    assert!(dropped(&kernel, Direction::Ingress, &dns.to_frame()), "port 53 of anybody else");
    let mut echo = tcp("192.0.2.9", "10.0.0.1", 0, 0);
    (echo.protocol, echo.icmp) = (1, Some((8, 0)));
    assert!(!dropped(&kernel, Direction::Ingress, &echo.to_frame()));
    echo.icmp = Some((13, 0));
    assert!(dropped(&kernel, Direction::Ingress, &echo.to_frame()));
    // Not IP: no rule is asked.
    let mut arp = vec![255; 6];
    arp.extend([2, 0, 0, 0, 0, 2, 8, 6]);
    arp.resize(60, 0);
    assert!(!dropped(&kernel, Direction::Ingress, &arp));
}

#[test]
fn the_kernel_goes_back_at_the_deadline_without_anybody() {
    let Some(fs) = bpffs("the_kernel_goes_back_at_the_deadline_without_anybody") else { return };
    let mut kernel = Kernel::load(&fs);
    let frame = tcp("192.0.2.9", "10.0.0.1", 80, 2).to_frame();
    let rule = |name: &str, source: &str| Rule {
        source: Some(Arc::new(Addresses { inside: Some(vec![source.parse().unwrap()]), except: vec![] })),
        ..Rule::new("p", name, Mode::Enforce, Direction::Ingress, Action::Deny)
    };
    let set = |rule| RuleSet { rules: vec![rule], ..RuleSet::default() };
    enforce(&mut kernel, &set(rule("good", "203.0.113.0/24")));
    let confirmed = kernel.guard.control().confirmed();
    let slot = fill(&mut kernel, &set(rule("bad", "192.0.2.0/24")));
    let (now, rate) = kernel.guard.jiffies().unwrap();
    kernel.guard.set_control(Control::new(slot, confirmed, Some(now + rate / 2), false)).unwrap();
    let begun = Instant::now();
    assert!(dropped(&kernel, Direction::Ingress, &frame), "in force until the deadline");
    // Nothing is told to the kernel from here on; only packets come.
    while dropped(&kernel, Direction::Ingress, &frame) {
        assert!(begun.elapsed() < Duration::from_secs(5), "the kernel did not go back");
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(400) && took < Duration::from_millis(700), "{took:?}");
    let stranger = tcp("203.0.113.9", "10.0.0.1", 80, 2).to_frame();
    assert!(dropped(&kernel, Direction::Ingress, &stranger), "the confirmed set is in force again");
}

#[test]
fn a_stale_heartbeat_opens_where_it_is_to() {
    let Some(fs) = bpffs("a_stale_heartbeat_opens_where_it_is_to") else { return };
    let mut kernel = Kernel::load(&fs);
    let deny = Rule::new("p", "all", Mode::Enforce, Direction::Ingress, Action::Deny);
    let slot = fill(&mut kernel, &RuleSet { rules: vec![deny], ..RuleSet::default() });
    let frame = tcp("192.0.2.9", "10.0.0.1", 80, 2).to_frame();
    let (now, rate) = kernel.guard.jiffies().unwrap();
    for (open, beat, expected) in [(true, now + 60 * rate, true), (true, now, false), (false, now, true)] {
        kernel.guard.set_control(Control::new(slot, slot, None, open)).unwrap();
        kernel.guard.beat(beat);
        assert_eq!(dropped(&kernel, Direction::Ingress, &frame), expected, "open {open}, beat {beat}");
    }
}

#[test]
fn marks_change_the_dscp_and_nothing_else() {
    use aya::programs::{TestRun, TestRunOptions};
    let Some(fs) = bpffs("marks_change_the_dscp_and_nothing_else") else { return };
    let mut kernel = Kernel::load(&fs);
    let mark = Rule::new("p", "ef", Mode::Enforce, Direction::Egress, Action::Mark(46));
    enforce(&mut kernel, &RuleSet { rules: vec![mark], ..RuleSet::default() });
    for (from, to, tag) in [
        ("192.0.2.9", "10.0.0.1", None),
        ("192.0.2.9", "10.0.0.1", Some(7)),
        ("2001:db8::9", "2001:db8::1", None),
    ] {
        let frame = Packet { vlan: tag, ..tcp(from, to, 80, 2) }.to_frame();
        let mut out = vec![0; frame.len()];
        let program = kernel.datapath.classifier("weir_egress").unwrap();
        let options =
            TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        assert_eq!(program.test_run(options).unwrap().return_value as i32, -1);
        let at = if tag.is_some() { 18 } else { 14 };
        let mut expected = frame.clone();
        if from.contains(':') {
            expected[at] = 0x60 | 46 >> 2;
            expected[at + 1] = (46 & 3) << 6;
        } else {
            expected[at + 1] = 46 << 2;
            expected[at + 10..at + 12].copy_from_slice(&out[at + 10..at + 12]);
            assert_ne!(out[at + 10..at + 12], frame[at + 10..at + 12], "the checksum follows");
        }
        assert_eq!(out, expected, "{from} {tag:?}");
    }
}

// --- random rules and packets ---

const V4: [&str; 6] = ["10.0.0.1", "10.0.0.2", "10.0.1.7", "10.200.3.4", "192.0.2.9", "0.0.0.0"];
const V6: [&str; 5] = ["2001:db8::1", "2001:db8::2", "2001:db8:1::9", "fe80::1", "::"];
const PORTS: [u16; 8] = [22, 53, 80, 443, 179, 6443, 40_000, 65_535];
const NETS: [&str; 14] = [
    "10.0.0.1/32",
    "10.0.0.0/31",
    "10.0.0.0/24",
    "10.0.0.0/8",
    "10.200.0.0/14",
    "192.0.2.9/32",
    "0.0.0.0/0",
    "0.0.0.0/1",
    "2001:db8::1/128",
    "2001:db8::/64",
    "2001:db8::/32",
    "::/0",
    "fe80::/10",
    "2000::/3",
];

fn nets() -> impl Strategy<Value = Vec<ipnet::IpNet>> {
    proptest::collection::vec(proptest::sample::select(&NETS[..]).prop_map(|net| net.parse().unwrap()), 1..4)
}

fn addresses() -> impl Strategy<Value = Option<Arc<Addresses>>> {
    let some = (proptest::option::weighted(0.85, nets()), prop_oneof![3 => Just(vec![]), 1 => nets()]);
    proptest::option::weighted(0.6, some.prop_map(|(inside, except)| Arc::new(Addresses { inside, except })))
}

fn ranges() -> impl Strategy<Value = Vec<std::ops::RangeInclusive<u16>>> {
    let range = (proptest::sample::select(&PORTS[..]), 0u16..500)
        .prop_map(|(low, more)| low..=low.saturating_add(more));
    prop_oneof![2 => Just(vec![]), 1 => proptest::collection::vec(range, 1..3)]
}

fn action() -> impl Strategy<Value = Action> {
    let unit = prop_oneof![Just(Unit::Packets), Just(Unit::Connections), Just(Unit::Bytes)];
    let budget = (unit, 1u64..4, proptest::option::of((8u8..=32, 16u8..=128)), any::<bool>());
    let rate = budget.prop_map(|(unit, burst, per_source, per_destination)| {
        // One a minute, or for octets 60 a minute: the test is over before the next.
        let cost = if unit == Unit::Bytes { 1_000_000_000u64 } else { 60_000_000_000 };
        Action::Rate(Budget {
            unit,
            cost: cost << 16,
            burst: burst * 60_000_000_000,
            per_source,
            per_destination,
        })
    });
    prop_oneof![3 => Just(Action::Allow), 4 => Just(Action::Deny), 2 => rate, 1 => (0u8..64).prop_map(Action::Mark)]
}

fn rule() -> impl Strategy<Value = Rule> {
    let what =
        (any::<bool>(), action(), addresses(), addresses(), any::<bool>(), proptest::bits::u8::masked(31));
    let which = (
        proptest::option::weighted(0.4, proptest::sample::select(&[6u8, 17, 1, 58, 132, 50][..])),
        ranges(),
        ranges(),
        prop_oneof![3 => Just(vec![]), 1 => proptest::collection::vec(proptest::option::of(1u16..4), 1..3)],
        proptest::option::weighted(
            0.3,
            (any::<u8>(), any::<u8>()).prop_map(|(a, b)| (a & 0x17 & b, !a & 0x17 & b)),
        ),
        proptest::option::weighted(0.2, prop_oneof![Just(vec![1u32]), Just(vec![7]), Just(vec![1, 7])]),
        proptest::collection::vec(prop_oneof![4 => 0u8..20, 1 => 133u8..138], 0..3),
        (any::<bool>(), claimants()),
    );
    (what, which).prop_map(|((egress, action, source, destination, audit, bits), which)| {
        let (protocol, ports, source_ports, vlans, flags, interfaces, icmp_types, (web, claimants)) = which;
        let direction = if egress { Direction::Egress } else { Direction::Ingress };
        let mode = if audit { Mode::Audit } else { Mode::Enforce };
        let index =
            |list: Vec<u32>| list.into_iter().map(|index| IfIndex::try_from(index).unwrap()).collect();
        let mut rule = Rule::new("p", "r", mode, direction, action);
        (rule.source, rule.destination, rule.protocol) = (source, destination, protocol);
        (rule.vlans, rule.other_vlans) = (vlans.clone(), !vlans.is_empty() && bits & 1 != 0);
        (rule.past_failsafe, rule.pairs) = (bits & 2 != 0, bits & 28 == 28);
        rule.interfaces = interfaces.map(index);
        match protocol {
            Some(6) => (rule.flags, rule.ports, rule.source_ports) = (flags, ports, source_ports),
            Some(17 | 132) | None => (rule.ports, rule.source_ports) = (ports, source_ports),
            Some(1 | 58) => rule.icmp_types = icmp_types,
            _ => {}
        }
        rule.claimants = claimants.filter(|_| !matches!(protocol, Some(6 | 17 | 132)));
        if rule.claimants.is_some() && !web {
            // ARP has none of these, so most such rules would never match.
            (rule.source, rule.destination, rule.protocol) = (None, None, None);
            (rule.ports, rule.source_ports, rule.icmp_types, rule.vlans) = (vec![], vec![], vec![], vec![]);
            rule.other_vlans = false;
        }
        rule.classes = if web && protocol == Some(6) { vec![1] } else { vec![] };
        rule
    })
}

/// Addresses of the above that are virtual, and link-layer addresses that claim them.
const VIPS: [&str; 2] = [V4[1], V6[1]];
const CLAIMANTS: [Mac; 3] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 3])];

fn claimants() -> impl Strategy<Value = Option<Vec<Mac>>> {
    let some = proptest::sample::subsequence(CLAIMANTS.to_vec(), 0..CLAIMANTS.len());
    proptest::option::weighted(0.4, some)
}

/// A claim of an address, virtual or not, with an octet that says something else.
fn claim() -> impl Strategy<Value = Vec<u8>> {
    let address = prop_oneof![4 => proptest::sample::select(&VIPS[..]), 1 => Just(V4[2]), 1 => Just(V6[2])];
    let mac = proptest::sample::select(&CLAIMANTS[..]);
    let wrong = proptest::option::weighted(0.3, (14usize..86, any::<u8>()));
    (address, mac, wrong).prop_map(|(address, mac, wrong)| {
        let claim = Claim { address: address.parse().unwrap(), mac };
        let mut frame = Packet::claiming(claim, lo()).to_frame();
        if let Some((at, octet)) = wrong
            && let Some(place) = frame.get_mut(at)
        {
            *place = octet;
        }
        frame
    })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => ip_frame(), 1 => claim()]
}

/// A frame of many kinds: tags, options, extension headers, fragments, cut short.
fn ip_frame() -> impl Strategy<Value = Vec<u8>> {
    let v4 = (
        proptest::sample::select(&V4[..]),
        proptest::sample::select(&V4[..]),
        0usize..4,
        any::<u16>(),
        any::<bool>(),
    );
    let v6 = (
        proptest::sample::select(&V6[..]),
        proptest::sample::select(&V6[..]),
        proptest::collection::vec(
            (proptest::sample::select(&[0u8, 43, 44, 51, 60, 135][..]), 0u8..2, any::<u16>()),
            0..9,
        ),
        any::<bool>(),
    );
    let ip = prop_oneof![
        3 => v4.prop_map(|(from, to, options, fragment, whole)| {
            let fragment = if whole { 0 } else { fragment & 0x2003 };
            let mut header = vec![0x45 + options as u8, 0, 0, 60, 0, 1];
            header.extend(fragment.to_be_bytes());
            header.extend([64, 0, 0, 0]);
            for address in [from, to] {
                header.extend(address.parse::<std::net::Ipv4Addr>().unwrap().octets());
            }
            header.resize(20 + options * 4, 1);
            (0x0800u16, header, 9)
        }),
        3 => v6.prop_map(|(from, to, extensions, mapped)| {
            let mut header = vec![0x60, 0, 0, 0, 0, 60, 0, 64];
            for address in [from, to] {
                let mut octets = address.parse::<std::net::Ipv6Addr>().unwrap().octets();
                if mapped {
                    octets = "10.0.0.1".parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets();
                }
                header.extend(octets);
            }
            let mut next = 6;
            for (kind, size, word) in extensions {
                header[next] = kind;
                next = header.len();
                let (size, word) = if kind == 44 { (0, word & 9) } else { (size, word) };
                header.extend([0, size]);
                header.extend(word.to_be_bytes());
                header.extend([0; 4]);
                let units = if kind == 51 { 4 } else { 8 };
                header.extend(vec![0; usize::from(size) * units]);
            }
            (0x86dd, header, next)
        }),
    ];
    let tags = proptest::collection::vec((proptest::sample::select(&[0x8100u16, 0x88a8][..]), 0u16..4), 0..4);
    let ports = (proptest::sample::select(&PORTS[..]), proptest::sample::select(&PORTS[..]));
    let protocol = proptest::sample::select(&[6u8, 6, 6, 17, 17, 1, 58, 132, 50][..]);
    let cut = prop_oneof![6 => Just(200usize), 1 => 14usize..80];
    (ip, tags, ports, protocol, any::<u8>(), 0u8..20, cut).prop_map(
        |(ip, tags, ports, protocol, flags, kind, cut)| {
            let (ethertype, mut header, next) = ip;
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
            for (kind, vlan) in tags {
                frame.extend(kind.to_be_bytes());
                frame.extend(vlan.to_be_bytes());
            }
            frame.extend(ethertype.to_be_bytes());
            header[next] = protocol;
            frame.extend(header);
            let (from, to) = ports;
            match protocol {
                1 | 58 => frame.extend([kind, 0, 0, 0, 0, 1, 0, 1]),
                _ => {
                    frame.extend(from.to_be_bytes());
                    frame.extend(to.to_be_bytes());
                    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags & 0x17, 255, 255, 0, 0, 0, 0]);
                }
            }
            frame.truncate(cut.max(15));
            frame
        },
    )
}

/// A frame, the same again, which programs may know from the time before, and then others that differ from it in a bit or an octet.
fn alike(frame: &[u8]) -> impl Strategy<Value = Vec<Vec<u8>>> + use<> {
    let frame = frame.to_vec();
    let last = frame.len() - 1;
    // Ports decide often, and are few octets: 34 to 37 of the shortest headers.
    let place = prop_oneof![2 => 0..=last, 1 => last.min(34)..=last.min(37)];
    let change = (place, prop_oneof![(0u32..8).prop_map(|bit| 1 << bit), any::<u8>()]);
    proptest::collection::vec(change, 24).prop_map(move |changes| {
        let mut all = vec![frame.clone(), frame.clone()];
        for (at, change) in changes {
            let mut other = frame.clone();
            other[at] ^= change;
            all.extend([other, frame.clone()]);
        }
        all
    })
}

/// Whether XDP drops a packet: where the first rule that matches does so for sure, and nothing else must be counted.
fn is_dropped_early(set: &RuleSet, packet: &Packet, around: &Surroundings) -> bool {
    // The tag may be gone before the program sees the frame, and only the hook knows who claims an address.
    let (vlans, claims) = set.rules.iter().fold((false, false), |(vlans, claims), rule| {
        (vlans || !rule.vlans.is_empty(), claims || rule.claimants.is_some())
    });
    let is_arp = packet.protocol == 0 && packet.claim.is_some();
    let advertises = packet.protocol == 58 && packet.icmp.is_some_and(|(kind, _)| kind == 136);
    if vlans || is_arp || claims && advertises {
        return false;
    }
    let decision = set.decide(&Ok(packet.clone()), around, &mut Budgets::default(), 0);
    decision.acted.first().is_some_and(|(number, dropped)| {
        let rule = &set.rules[*number];
        *dropped && rule.mode == Mode::Enforce && rule.action == Action::Deny && !rule.reject && !rule.pairs
    })
}

#[test]
fn what_xdp_has_just_dropped_is_judged_anew_by_another_set() {
    let Some(fs) = bpffs("what_xdp_has_just_dropped_is_judged_anew_by_another_set") else { return };
    let mut kernel = Kernel::load(&fs);
    let frame = tcp("192.0.2.9", "10.0.0.1", 80, 2).to_frame();
    for action in [Action::Deny, Action::Allow, Action::Deny] {
        let rule = Rule::new("p", "r", Mode::Enforce, Direction::Ingress, action);
        let set = RuleSet { rules: vec![rule], ..RuleSet::default() };
        enforce(&mut kernel, &set);
        let before = counts(&kernel, &set)[0].1;
        for _ in 0..3 {
            assert_eq!(drops_early(&mut kernel.datapath, &frame).unwrap(), action == Action::Deny);
        }
        let dropped = counts(&kernel, &set)[0].1 - before;
        assert_eq!(dropped, if action == Action::Deny { 3 } else { 0 }, "each is counted once");
    }
}

/// Rule sets, and packets for each.
const SETS: usize = 80;
const PACKETS: usize = 60;

#[test]
fn random_rules_decide_on_random_packets_as_the_reference_does() {
    let Some(fs) = bpffs("random_rules_decide_on_random_packets_as_the_reference_does") else { return };
    let mut kernel = Kernel::load(&fs);
    let web: Class = serde_saphyr::from_str("{ name: web, tcp: [443] }").unwrap();
    let classes = [web];
    kernel.targets.sort_into(&classes).unwrap();
    assert_eq!(kernel.targets.class_numbers().unwrap()["web"], 1);
    let vips = VIPS.map(|vip| vip.parse().unwrap());
    kernel.targets.aim_at_vips(&vips.map(Vip)).unwrap();
    let around = |read: &Result<Packet, Parsed>| {
        let web = read.as_ref().is_ok_and(|packet| packet.class(&classes) == Some("web"));
        Surroundings { class: u8::from(web), vips: vips.to_vec(), resolvers: Vec::new() }
    };
    let mut runner = TestRunner::new(Config::default());
    let (mut drops, mut early, mut decided, mut claims, mut refused) = (0, 0, 0, 0, Vec::new());
    for number in 0..SETS {
        let rules = proptest::collection::vec(rule(), 1..if number % 4 == 0 { 200 } else { 14 });
        let mut rules = rules.new_tree(&mut runner).unwrap().current();
        for (n, rule) in rules.iter_mut().enumerate() {
            (rule.policy, rule.name) = (format!("p{number}"), format!("r{n}"));
        }
        if number % 2 == 0 {
            // XDP has no part in sets that look at VLANs.
            rules.iter_mut().for_each(|rule| (rule.vlans, rule.other_vlans) = (vec![], false));
        }
        let set = RuleSet { rules, drop_unparsable: number % 3 == 0, ..RuleSet::default() };
        enforce(&mut kernel, &set);
        let mut budgets = Budgets::default();
        for _ in 0..PACKETS {
            let frame = frame().new_tree(&mut runner).unwrap().current();
            let direction =
                Direction::ALL[usize::from(any::<bool>().new_tree(&mut runner).unwrap().current())];
            let before = counts(&kernel, &set);
            let verdict = match kernel.guard.drops(direction, LOOPBACK, &frame) {
                Ok(dropped) => dropped,
                // The kernel does not run a program on every frame that a link may carry.
                Err(error) if chain(&error).contains("os error 22") => {
                    refused.push(frame);
                    continue;
                }
                Err(error) => panic!("{}", chain(&error)),
            };
            let read = read_frame(&frame, direction, lo());
            let decision = set.decide(&read, &around(&read), &mut budgets, 1_000_000_000_000);
            let told = || {
                format!("set {number}: {set:#?}\nframe {frame:02x?}\nread {read:?}\ndecision {decision:?}")
            };
            assert_eq!(verdict, decision.dropped, "{}", told());
            let moved = counts(&kernel, &set).into_iter().zip(before).enumerate().filter_map(
                |(n, (after, before))| {
                    let (passed, dropped, saved) =
                        (after.0 - before.0, after.1 - before.1, after.2 - before.2);
                    assert!(passed + dropped + saved <= 1, "{}", told());
                    (passed + dropped + saved > 0).then_some((n, dropped > 0))
                },
            );
            assert_eq!(moved.collect::<Vec<_>>(), decision.acted, "{}", told());
            for (n, frame) in alike(&frame).new_tree(&mut runner).unwrap().current().into_iter().enumerate() {
                let read = read_frame(&frame, Direction::Ingress, lo());
                let expected =
                    read.as_ref().is_ok_and(|packet| is_dropped_early(&set, packet, &around(&read)));
                let dropped = drops_early(&mut kernel.datapath, &frame).unwrap();
                assert_eq!(
                    dropped, expected,
                    "XDP, set {number}: {set:#?}\nframe {frame:02x?}\nread {read:?}"
                );
                early += u64::from(dropped);
                if n == 0 && !dropped {
                    break;
                }
            }
            drops += u64::from(verdict);
            claims += u64::from(decision.rule.is_some_and(|rule| set.rules[rule].claimants.is_some()));
            decided += u64::from(decision.rule.is_some());
        }
    }
    // The generators must reach both verdicts often, or this shows nothing.
    let all = (SETS * PACKETS - refused.len()) as u64;
    eprintln!(
        "{all} packets, {drops} dropped, {claims} by claim, {early} frames by XDP; {} frames the kernel does not run on: {:02x?}",
        refused.len(),
        refused.first()
    );
    assert!(refused.len() < SETS * PACKETS / 5, "{} frames were refused", refused.len());
    assert!(early > all / 2, "{early} frames dropped by XDP");
    assert!(claims > 10, "{claims} claims decided of {all} packets");
    assert!(
        drops > all / 15 && drops < all * 9 / 10 && decided > all / 10,
        "{drops} dropped, {decided} decided of {all}"
    );
}
