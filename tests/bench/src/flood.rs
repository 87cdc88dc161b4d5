//! What dropping a packet costs, by where it is dropped: a flood out of one end of a veth pair, dropped at the other.

mod field;
mod offload;

use anyhow::Result;
use ipnet::Ipv4Net;
use weir_netns::namespace::is_installed;

use crate::Effort;
use crate::kernel::pin_to_last_cpu;
use crate::rules::{block_list, nft_elements, sources};
use crate::stats::Rounds;
use field::{Drops, Field};

/// Where packets are dropped.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    BareXdp,
    OurXdp,
    OurHook,
    NftIngress,
    IptablesRaw,
    NftInput,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::BareXdp => "bare XDP_DROP",
            Self::OurXdp => "ours, XDP",
            Self::OurHook => "ours, TCX",
            Self::NftIngress => "nft, ingress",
            Self::IptablesRaw => "iptables, raw",
            Self::NftInput => "nft, input",
        }
    }
}

/// The source of the flood, and what a rule says of it.
const SOURCE: &str = "10.0.0.0/24";
/// Source addresses of the list that is dropped by.
const LISTED: usize = 100_000;

pub(crate) fn measure(effort: Effort) -> Result<()> {
    pin_to_last_cpu()?;
    let mut field = Field::new()?;
    one_rule(&mut field, effort)?;
    many_sources(&mut field, effort)?;
    a_list(&mut field, effort)
}

fn one_rule(field: &mut Field, effort: Effort) -> Result<()> {
    println!("  one source, one rule");
    let mut places = vec![Place::BareXdp, Place::BareXdp, Place::OurXdp, Place::OurHook, Place::NftIngress];
    if is_installed("iptables") {
        places.push(Place::IptablesRaw);
    } else {
        println!("  not compared with iptables, which is not installed (apt-get install iptables)");
    }
    places.push(Place::NftInput);
    let drops = Drops { generator: "bench_send", ours: vec![SOURCE.parse()?], nft: SOURCE.to_owned() };
    let rounds = compare(field, effort, &places, &drops)?;
    rounds.ratio(1, 0).judge_same();
    rounds.ratio(2, 0).judge("ours, XDP / bare XDP_DROP", 1.15);
    for (place, bar) in [(Place::NftIngress, 2.1), (Place::IptablesRaw, 2.3), (Place::NftInput, 2.9)] {
        if let Some(at) = places.iter().position(|one| *one == place) {
            rounds.ratio(at, 2).judge_least(&format!("{} / ours, XDP", place.name()), bar);
            rounds.ratio(at, 3).tell(&format!("{} / ours, TCX", place.name()));
        }
    }
    Ok(())
}

/// The same rule, where no packet is like the one before: its verdict is found anew.
fn many_sources(field: &mut Field, effort: Effort) -> Result<()> {
    println!("  256 sources, one rule");
    let net: Ipv4Net = SOURCE.parse()?;
    field.walk_through(&sources(&[net], true))?;
    let drops = Drops { generator: "bench_send_flows", ours: vec![net], nft: SOURCE.to_owned() };
    let places = [Place::BareXdp, Place::BareXdp, Place::OurXdp, Place::NftIngress];
    let rounds = compare(field, effort, &places, &drops)?;
    rounds.ratio(1, 0).judge_same();
    rounds.ratio(2, 0).tell("ours, XDP / bare XDP_DROP");
    rounds.ratio(3, 2).tell("nft, ingress / ours, XDP");
    Ok(())
}

/// Drops by a list, with a source of it in every packet.
fn a_list(field: &mut Field, effort: Effort) -> Result<()> {
    println!("  {LISTED} sources, all in a list");
    let whole = |net: &Ipv4Net| net.prefix_len() == 32;
    let list: Vec<Ipv4Net> = block_list(LISTED * 2).into_iter().filter(whole).take(LISTED).collect();
    field.walk_through(&sources(&list, true))?;
    let nft = format!("{{ {} }}", nft_elements(&list)?);
    let drops = Drops { generator: "bench_send_flows", ours: list, nft };
    let places = [Place::NftIngress, Place::NftIngress, Place::OurXdp, Place::OurHook];
    let rounds = compare(field, effort, &places, &drops)?;
    rounds.ratio(1, 0).judge_same();
    rounds.ratio(2, 0).judge("ours, XDP / nft hash set", 0.75);
    rounds.ratio(3, 0).tell("ours, TCX / nft hash set");
    Ok(())
}

fn compare(field: &mut Field, effort: Effort, places: &[Place], drops: &Drops) -> Result<Rounds> {
    let mut names: Vec<&str> = places.iter().map(|place| place.name()).collect();
    names[1] = "the same again (A/A)";
    field.enforce(drops)?;
    let rounds = Rounds::run(&names, effort.rounds * 2, |n| field.slice(places[n], drops))?;
    rounds.print("ns/packet");
    Ok(rounds)
}
