//! What rules cost: a look-up alone, by size of the lists and number of rules, and the time to load a list.
//!
//! The program that judges is measured without the counts of flows: they have a measurement of their own, and are there
//! without a policy, too.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use ipnet::Ipv4Net;
use weir_netns::Namespace;

use crate::Effort;
use crate::flows;
use crate::kernel::{pin_to_last_cpu, segment, time};
use crate::rules::{Enforced, block_list, deny, nft_elements, sources};
use crate::stats::Rounds;

const PROGRAMS: [&str; 3] = ["bench_parse_flows", "bench_trie_flows", "bench_judge_flows"];
const NAMES: [&str; 4] = [PROGRAMS[0], PROGRAMS[0], PROGRAMS[1], PROGRAMS[2]];
const LABELS: [&str; 4] = ["headers parsed", "headers parsed again (A/A)", "plain trie", "our rules"];
/// The list of the bars.
const BARRED: usize = 10_000;
const LOADED: usize = 100_000;

/// Lists, and whether each of their prefixes has a rule of its own. Every list holds the one before.
const CASES: [(usize, bool); 5] =
    [(10, false), (1_000, false), (1_000, true), (BARRED, false), (1_000_000, false)];

pub(crate) fn measure(effort: Effort) -> Result<()> {
    pin_to_last_cpu()?;
    let mut enforced = Enforced::load("policy", &PROGRAMS)?;
    for (size, each) in CASES {
        let list = block_list(size);
        fill_trie(&mut enforced, &list)?;
        let (rules, title) = if each {
            let one = |(n, net): (usize, &Ipv4Net)| deny(&format!("rule-{n}"), [*net]);
            (list.iter().enumerate().map(one).collect(), format!("{size} rules of one prefix each"))
        } else {
            (vec![deny("list", list.clone())], format!("one rule of {size} prefixes"))
        };
        enforced.enforce(rules)?;
        for hit in [false, true] {
            println!("  {title}, every packet {}", if hit { "a hit" } else { "a miss" });
            let rounds = compare(&mut enforced, effort, &sources(&list, hit), hit)?;
            if size == BARRED && !hit {
                rounds.ratio(3, 0).judge("miss: ours / headers parsed", 1.7);
                rounds.ratio(3, 2).judge("miss: ours / plain trie", 0.4);
            }
        }
    }
    load(&mut enforced, effort)
}

fn compare(enforced: &mut Enforced, effort: Effort, sources: &[u32], hit: bool) -> Result<Rounds> {
    let ebpf = enforced.datapath.object();
    flows::fill(ebpf, sources)?;
    let packet = segment();
    let rounds = Rounds::run(&LABELS, effort.rounds, |n| time(ebpf, NAMES[n], &packet, effort.repeat))?;
    rounds.print("ns/packet");
    rounds.ratio(1, 0).judge_same();
    let before = enforced.dropped()?;
    time(enforced.datapath.object(), PROGRAMS[2], &packet, effort.repeat)?;
    let dropped = enforced.dropped()? - before;
    ensure!(dropped == if hit { u64::from(effort.repeat) } else { 0 }, "{dropped} packets were dropped");
    Ok(rounds)
}

fn fill_trie(enforced: &mut Enforced, list: &[Ipv4Net]) -> Result<()> {
    let map = enforced.datapath.object().map_mut("BENCH_TRIE").context("no map BENCH_TRIE")?;
    let mut trie: LpmTrie<_, [u8; 4], u32> = map.try_into()?;
    for net in list {
        trie.insert(&Key::new(net.prefix_len().into(), net.addr().octets()), 1, 0)?;
    }
    Ok(())
}

const LOADS: [&str; 4] = ["nft -f", "nft -f again (A/A)", "our rules, compiled and filled", "only filled"];

/// The time until a list is in force.
fn load(enforced: &mut Enforced, effort: Effort) -> Result<()> {
    println!("  {LOADED} prefixes put into force");
    let list = block_list(LOADED);
    let namespace = Namespace::new("bench-load")?;
    let text = format!(
        "table ip weir {{ set listed {{ type ipv4_addr; flags interval; elements = {{ {} }}; }}\n\
         chain drops {{ type filter hook input priority 0; ip saddr @listed drop; }}; }}\n",
        nft_elements(&list)?
    );
    let rule = deny("list", list);
    let rounds = Rounds::run(&LOADS, effort.rounds.min(9), |n| {
        let begun;
        match n {
            0 | 1 => {
                begun = Instant::now();
                nft(&namespace, &text)?;
            }
            2 => {
                begun = Instant::now();
                enforced.enforce(vec![rule.clone()])?;
            }
            _ => {
                let contents = enforced.compile(vec![rule.clone()])?;
                begun = Instant::now();
                enforced.put(&contents)?;
            }
        }
        let took = begun.elapsed().as_secs_f64() * 1e3;
        if n < 2 {
            nft(&namespace, "delete table ip weir\n")?;
        }
        anyhow::Ok(took)
    })?;
    rounds.print("ms       ");
    rounds.ratio(1, 0).judge_same();
    rounds.ratio(2, 0).judge("100,000 prefixes: ours / nft -f", 0.6);
    Ok(())
}

/// Gives a text to nft(8) inside a namespace.
pub(crate) fn nft(namespace: &Namespace, text: &str) -> Result<()> {
    namespace.run(|| {
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start nft; `scripts/setup.sh bench` installs it")?;
        nft.stdin.take().context("nft has no input")?.write_all(text.as_bytes())?;
        let ended = nft.wait_with_output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        // Its second line is all of the text.
        ensure!(ended.status.success(), "nft: {}", said.lines().next().unwrap_or_default());
        Ok(())
    })
}
