//! The cost of reading all flows.

use anyhow::{Context, Result};
use aya::maps::{HashMap, Map, MapData};
use weir_agent::datapath::{Datapath, Options, Pins, Reader, Table, Targets};
use weir_ebpf::{FlowCount, FlowKey};

use crate::Effort;
use crate::kernel::BpfFs;
use crate::stats::{Rounds, cpu_nanos};

const FLOWS: u32 = 100_000;

/// Keys and values as plain octets: all that an iteration needs.
type Octets = HashMap<MapData, [u8; 56], [u8; 48]>;

const LABELS: [&str; 4] =
    ["a key at a time", "a key at a time again (A/A)", "batches, nothing made of them", "our snapshot"];

pub(crate) fn measure(effort: Effort) -> Result<()> {
    let fs = BpfFs::mount("drain")?;
    let pins = Pins::hold(&fs.0.join("weir"))?;
    let datapath = Datapath::load(pins, Options { flows: FLOWS * 2 }, None)?;
    let _targets = Targets::open(&datapath)?;
    let reader = Reader::open(&datapath, None)?;
    let path = datapath.pins().map("FLOW_TABLE");
    let mut table: Octets = Map::LruHashMap(MapData::from_pin(&path)?).try_into()?;
    for flow in 0..FLOWS {
        let mut key = [0u8; 56];
        key[12..16].copy_from_slice(&flow.to_be_bytes());
        key[36] = 1;
        table.insert(key, [1u8; 48], 0).context("cannot fill the flow table")?;
    }
    let batches = Table::shared(&path)?;
    let rounds = effort.rounds.min(9);
    let measured = Rounds::run(&LABELS, rounds, |n| {
        let before = cpu_nanos();
        let read = match n {
            0 | 1 => table.iter().flatten().count(),
            2 => entries(&batches)?,
            _ => reader.flows()?.len(),
        };
        let spent = cpu_nanos() - before;
        anyhow::ensure!(read > FLOWS as usize * 9 / 10, "only {read} flows were read");
        Ok(spent / f64::from(FLOWS))
    })?;
    measured.print("ns/flow  ");
    measured.ratio(1, 0).judge_same();
    measured.ratio(3, 0).judge("our snapshot / a key at a time", 0.25);
    Ok(())
}

fn entries(table: &Table<FlowKey, FlowCount>) -> Result<usize> {
    let mut entries = 0;
    table.visit(|_, _| entries += 1)?;
    Ok(entries)
}
