//! The cost of writing a scrape, against prometheus-client with the same series in plain families and nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Result, ensure};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use weir_agent::export::metrics::{Scrape, encode};
use weir_agent::model::address::{Direction, IfIndex, Mac, Protocol};
use weir_agent::model::measurement::Measurement;
use weir_agent::model::vip::{Vip, VipCounters};
use weir_agent::state::{Event, Snapshot};

use crate::Effort;
use crate::stats::{Rounds, cpu_nanos};

type Labels = Vec<(String, String)>;

pub(crate) fn measure(effort: Effort) -> Result<()> {
    let scrape = Arc::new(full());
    let page = encode(&scrape);
    let (registry, series) = the_same(&page);
    ensure!(series >= 50_000, "only {series} series");
    println!("  {series} series, {} KiB of text; CPU time of the encoding alone", page.len() / 1024);
    let labels = ["prometheus-client", "prometheus-client again (A/A)", "ours"];
    let rounds = Rounds::run(&labels, effort.rounds, |n| -> Result<f64> {
        let before = cpu_nanos();
        let written = if n == 2 { encode(&scrape).len() } else { bare(&registry)? };
        ensure!(written > page.len() / 2, "nothing was written");
        Ok((cpu_nanos() - before) / series as f64)
    })?;
    rounds.print("ns/series");
    rounds.ratio(1, 0).judge_same();
    rounds.ratio(2, 0).judge("ours / prometheus-client", 1.25);
    Ok(())
}

/// Virtual addresses with so many ports, protocols and hops that the page has 50,000 series.
fn full() -> Scrape {
    let mut snapshot = Snapshot::default();
    let mut vips = Vec::new();
    for number in 0..100u8 {
        for port in 0..64u16 {
            for direction in Direction::ALL {
                vips.push(row(number, port, direction));
            }
        }
    }
    let wanted = (0..100u8).map(|number| Vip(address(number))).collect();
    snapshot.apply(Event::Vips(wanted));
    let measurement = Measurement { vips, ..Measurement::default() };
    Scrape { snapshot: Arc::new(snapshot), measurement: Some(measurement), ..Scrape::default() }
}

fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 10, 50, number))
}

fn row(number: u8, port: u16, direction: Direction) -> VipCounters {
    VipCounters {
        vip: Vip(address(number)),
        port: Some(1000 + port),
        protocol: Protocol(6),
        direction,
        // One interface in all: series differ by address, port and direction.
        interface: IfIndex::try_from(2).unwrap_or_else(|_| unreachable!("2 is not 0")),
        vlan: None,
        hop: Mac([2, 0, 0, 0, 0, 1]),
        packets: 123_456_789,
        bytes: 98_765_432_100,
        syn: 1234,
        rst: 56,
    }
}

/// A registry with a counter for each sample of a page.
fn the_same(page: &str) -> (Registry, usize) {
    let mut families: BTreeMap<String, Family<Labels, Counter>> = BTreeMap::new();
    let mut series = 0;
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let Some((labels, value)) = rest.split_once("} ") else { continue };
        let labels = labels.split(',').filter_map(|pair| pair.split_once('='));
        let labels =
            labels.map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned())).collect();
        let family = families.entry(name.trim_end_matches("_total").to_owned()).or_default();
        family.get_or_create(&labels).inc_by(value.parse().unwrap_or(1));
        series += 1;
    }
    let mut registry = Registry::default();
    for (name, family) in families {
        registry.register(name, "A family of the page", family);
    }
    (registry, series)
}

fn bare(registry: &Registry) -> Result<usize> {
    let mut page = String::with_capacity(64 * 1024);
    text::encode(&mut page, registry)?;
    Ok(page.len())
}
