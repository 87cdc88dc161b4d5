//! What a scrape shows, from a hand-made node.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::sync::watch;
use weir_agent::export::metrics::{Exposition, Scrape, Serving, encode, families, reference};
use weir_agent::export::tally::Tally;
use weir_agent::model::address::Direction;
use weir_agent::model::drops::{DropCounters, DropPlace};
use weir_agent::model::link::{LinkCounters, LinkKind};
use weir_agent::model::loss::{LossLayer, LossLedger, LossRow, Losses};
use weir_agent::model::vip::Vip;
use weir_agent::state::{Event, Snapshot};

mod fixture;
mod openmetrics;

fn scrape() -> Scrape {
    let row = |layer, reason: &str, packets| LossRow { layer, reason: reason.to_owned(), packets };
    let rows = vec![row(LossLayer::Nic, "rx_missed", 7), row(LossLayer::Unexplained, "", 1)];
    Scrape {
        snapshot: Arc::new(fixture::snapshot()),
        measurement: Some(fixture::measurement()),
        host: Some(fixture::host()),
        loss: Some(Losses {
            interfaces: vec![LossLedger { interface: fixture::index(2), rows }],
            backlog_elsewhere: 2,
        }),
        policy: Some(fixture::policy()),
        serving: Serving { scrapes: 1, ..Serving::default() },
    }
}

fn text_of(change: impl FnOnce(&mut Scrape, &mut Snapshot)) -> String {
    let mut scrape = scrape();
    let mut snapshot = Snapshot::clone(&scrape.snapshot);
    change(&mut scrape, &mut snapshot);
    scrape.snapshot = Arc::new(snapshot);
    encode(&Arc::new(scrape))
}

fn value(text: &str, series: &str) -> Option<u64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn golden() {
    insta::assert_snapshot!(encode(&Arc::new(scrape())));
}

#[test]
fn contract_names_and_labels() {
    let text = encode(&Arc::new(scrape()));
    for (series, expected) in [
        (r#"weir_interface_packets_total{interface="eth0",direction="ingress"}"#, 1000),
        (r#"weir_interface_bytes_total{interface="eth0",direction="egress"}"#, 36_000),
        (r#"weir_vip_packets_total{vip="10.10.50.10",port="443",protocol="tcp",direction="ingress"}"#, 100),
        (r#"weir_vip_bytes_total{vip="10.10.50.10",port="other",protocol="tcp",direction="ingress"}"#, 200),
        (r#"weir_vip_packets_total{vip="fd10:10:50::10",port="443",protocol="tcp",direction="ingress"}"#, 9),
        (r#"weir_drops_total{reason="no_socket",source="kernel"}"#, 15),
        (r#"weir_drops_total{reason="rx_missed",source="nic"}"#, 7),
        (r#"weir_drops_total{reason="backlog_full",source="softnet"}"#, 2),
        (r#"weir_drops_total{reason="queue_full",source="qdisc"}"#, 3),
        (r#"weir_tcp_rtt_seconds_count{class="k8s-api"}"#, 100),
        (r#"weir_gateway_probe_seconds_count{interface="eth0",gateway="10.10.30.1",kind="arp"}"#, 100),
        (&format!(r#"weir_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION")), 1),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
}

#[test]
fn a_strict_reader_takes_it_and_every_family_is_known() {
    let text = encode(&Arc::new(Scrape { serving: full_serving(), ..scrape() }));
    let read = openmetrics::parse(&text).unwrap();
    let shown: BTreeSet<&str> = read.keys().map(String::as_str).collect();
    let name = |family: &weir_agent::export::metrics::Family| {
        let sample = family.sample_name();
        sample.strip_suffix("_total").or(sample.strip_suffix("_info")).unwrap_or(&sample).to_owned()
    };
    let known: Vec<String> = families().map(name).collect();
    let known_set: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(known.len(), known_set.len(), "a family is listed twice");
    assert_eq!(shown, known_set);
}

fn full_serving() -> Serving {
    let (_, snapshot) = watch::channel(Arc::new(Snapshot::default()));
    let serving = Exposition::new(snapshot, fixture::Bench::new(), Arc::default()).scrape().serving;
    Serving { tls: Some(Default::default()), access: Some(Default::default()), ..serving }
}

#[test]
fn promtool_takes_it() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        let _ = writeln!(std::io::stderr(), "SKIPPED promtool_takes_it: promtool is not installed");
        return;
    };
    // promtool reads the older text format, where metadata name the samples of counters and infos.
    let text = encode(&Arc::new(scrape()));
    let older: String = families().fold(text.replace("# EOF\n", ""), |text, family| {
        let sample = family.sample_name();
        let Some(name) = sample.strip_suffix("_total").or(sample.strip_suffix("_info")) else { return text };
        text.replace(&format!("# HELP {name} "), &format!("# HELP {sample} "))
            .replace(&format!("# TYPE {name} info"), &format!("# TYPE {sample} gauge"))
            .replace(&format!("# TYPE {name} "), &format!("# TYPE {sample} "))
    });
    let older: String =
        older.lines().filter(|line| !line.starts_with("# UNIT")).map(|l| format!("{l}\n")).collect();
    promtool.stdin.take().unwrap().write_all(older.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn series_end_with_their_object() {
    let mentions =
        |text: &str, word: &str| text.lines().filter(|l| !l.starts_with('#') && l.contains(word)).count();
    let gone = text_of(|_, snapshot| snapshot.apply(Event::LinkGone(fixture::index(2))));
    assert_eq!(mentions(&gone, r#"interface="eth0""#), 0);
    openmetrics::parse(&gone).unwrap();
    let fewer = text_of(|_, snapshot| {
        let left = fixture::address("10.10.50.10");
        let mut table = weir_agent::model::vip::Table::clone(&snapshot.vip_table);
        table.rows.retain(|row| row.vip == left);
        snapshot.apply(Event::Vips(vec![Vip(left)]));
        snapshot.apply(Event::VipTable(Arc::new(table)));
    });
    assert_eq!(mentions(&fewer, "fd10:10:50::10"), 0);
    assert!(mentions(&fewer, r#"vip="10.10.50.10""#) > 0);
    let unhooked =
        text_of(|_, snapshot| snapshot.apply(Event::HookGone(fixture::index(2), Direction::Egress)));
    assert_eq!(mentions(&unhooked, r#"weir_hook_programs{interface="eth0",direction="egress"}"#), 0);
    let unprobed = text_of(|_, snapshot| {
        snapshot.apply(Event::GatewayGone(fixture::index(2), fixture::address("10.10.30.1")));
    });
    assert_eq!(mentions(&unprobed, "weir_gateway_probe"), 0);
}

#[test]
fn unwanted_addresses_have_no_series() {
    assert!(!encode(&Arc::new(scrape())).contains("10.10.99.99"));
}

#[test]
fn a_failed_source_is_absent_and_counted() {
    let bench = fixture::Bench::new();
    bench.change(|readings| readings.measurement = None);
    let (_keep, snapshot) = watch::channel(Arc::new(fixture::snapshot()));
    let exposition = Exposition::new(snapshot, bench.clone(), Arc::<Tally>::default());
    exposition.render();
    let text = exposition.render();
    assert!(!text.contains("weir_interface_packets") && !text.contains("weir_vip_packets"));
    assert_eq!(value(&text, r#"weir_source_errors_total{source="datapath"}"#), Some(2));
    assert_eq!(value(&text, "weir_conntrack_entries"), Some(120), "the other source still shows");
    bench.change(|readings| readings.measurement = Some(fixture::measurement()));
    assert!(exposition.render().contains("weir_interface_packets_total{"));
}

#[test]
fn losses_count_from_the_first_scrape() {
    let bench = fixture::Bench::new();
    let missed = |rx_missed| {
        move |readings: &mut fixture::Readings| {
            let counters = LinkCounters { rx_missed, ..LinkCounters::default() };
            readings.host.as_mut().unwrap().links.insert(fixture::index(2), counters);
        }
    };
    let (_keep, snapshot) = watch::channel(Arc::new(fixture::snapshot()));
    let exposition = Exposition::new(snapshot, bench.clone(), Arc::<Tally>::default());
    bench.change(missed(1000));
    let begun = exposition.render();
    assert!(!begun.contains("weir_loss_packets_total"), "what was lost before is not told");
    bench.change(missed(1004));
    let read = openmetrics::parse(&exposition.render()).unwrap();
    let lost: Vec<f64> = read["weir_loss_packets"].samples.iter().map(|sample| sample.value).collect();
    assert_eq!(lost, [4.0]);
    assert_eq!(read["weir_loss_packets"].samples[0].labels["layer"], "nic");
}

#[test]
fn words_from_outside_cannot_break_the_text() {
    let text = text_of(|scrape, snapshot| {
        let odd = "a\"b\\c\n} 1\nevil{".to_owned() + &"x".repeat(200);
        let drops = &mut scrape.measurement.as_mut().unwrap().drops;
        drops.push(DropCounters { reason: odd.clone(), place: DropPlace::NoDevice, packets: 1 });
        drops.push(DropCounters { reason: String::new(), place: DropPlace::NoDevice, packets: 5 });
        snapshot.apply(Event::Link(Box::new(fixture::link(20, "odd\"name", LinkKind::Other(odd)))));
    });
    openmetrics::parse(&text).unwrap();
    assert_eq!(value(&text, r#"weir_drops_total{reason="unknown",source="kernel"}"#), Some(5));
}

#[test]
fn labels_stay_within_their_bounds() {
    let text = text_of(|scrape, snapshot| {
        for number in 100..10_100 {
            let name = format!("lxc{number}");
            snapshot.links.insert(fixture::index(number), fixture::link(number, &name, LinkKind::Veth));
        }
        let rows = &mut scrape.measurement.as_mut().unwrap().vips;
        for number in 0..200 {
            let mut row = fixture::vip_row("10.10.50.10", Some(443), None, number);
            row.hop.0[5] = u8::try_from(number).unwrap();
            rows.push(row);
        }
    });
    let read = openmetrics::parse(&text).unwrap();
    assert_eq!(read["weir_link_up"].samples.len(), 256);
    assert_eq!(read["weir_vip_hop_packets"].samples.len(), 16 + 1, "16 of one address, 1 of the other");
    assert_eq!(value(&text, r#"weir_links{kind="veth",state="up"}"#), Some(10_001));
    assert_eq!(value(&text, r#"weir_link_up{interface="eth0"}"#), Some(1), "watched ones come first");
}

#[test]
fn fifty_thousand_series() {
    let mut expected = 0;
    let text = text_of(|scrape, snapshot| {
        let vips: Vec<Vip> = (0..50).map(|n| Vip(fixture::address(&format!("10.10.50.{n}")))).collect();
        let rows = &mut scrape.measurement.as_mut().unwrap().vips;
        rows.clear();
        for vip in &vips {
            rows.extend((1..=250).map(|port| fixture::vip_row(&vip.0.to_string(), Some(port), Some(50), 7)));
        }
        expected = rows.len();
        snapshot.apply(Event::Vips(vips));
    });
    let read = openmetrics::parse(&text).unwrap();
    assert_eq!(read["weir_vip_packets"].samples.len(), expected);
    let series: usize = read.values().map(|family| family.samples.len()).sum();
    assert!(series >= 50_000, "{series}");
}

#[test]
fn the_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let current = reference::markdown();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), current, "run it again with WRITE_DOCS=1");
    assert_eq!(reference::unmatched_labels(), [""; 0], "labels without a bound, or bounds without a label");
}
