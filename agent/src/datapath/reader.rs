//! Reads the kernel's counts into the model. Nothing is kept between two readings but what names things.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aya::maps::MapData;
use weir_ebpf::*;

use super::btf::Btf;
use super::clock::Ticks;
use super::load::{Datapath, LoadError, PINNED};
use super::pins::Pins;
use super::sys;
use super::table::{Table, TableError};
use crate::model::address::{Direction, IfIndex, Mac, Protocol, from_octets};
use crate::model::class::ClassCounters;
use crate::model::drops::{DropCounters, DropPlace};
use crate::model::flow::Flow;
use crate::model::interface::InterfaceCounters;
use crate::model::measurement::Measurement;
use crate::model::program::{MapFill, ProgramCost, Shortfall};
use crate::model::tcp::{Histogram, TcpCounters, TcpPeer};
use crate::model::vip::{Vip, VipCounters};

/// Bits that every drop reason's name begins with.
const REASON_PREFIX: &str = "SKB_DROP_REASON_";

/// Reads the pinned maps. Needs no loaded object: it reads what any agent of the same layout counts.
pub struct Reader {
    hook_rows: Table<HookKey, u32>,
    row_numbers: Table<RowKey, u32>,
    ledger: Table<u32, Row>,
    retired: Table<RowKey, Row>,
    front: Table<u32, Slot>,
    flows: Table<FlowKey, FlowCount>,
    class_names: Table<u32, ClassName>,
    vips: Table<Address, VipState>,
    tcp_rows: Table<u32, TcpRow>,
    tcp_peers: Table<PeerKey, PeerRow>,
    drops: Table<DropKey, u64>,
    shortfall: Table<u32, u64>,
    clock: Table<u32, Clock>,
    clock_program: OwnedFd,
    programs: Vec<(String, OwnedFd)>,
    map_pins: Vec<(&'static str, std::path::PathBuf)>,
    reasons: HashMap<u32, String>,
    namespace: u32,
}

/// A ledger row with its key; a hook's base row has a key with its hook and nothing else.
type LedgerRow = (RowKey, Row);

impl Reader {
    /// Opens the maps behind a loaded datapath.
    ///
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(datapath: &Datapath, btf: Option<&Btf>) -> Result<Self, LoadError> {
        let pins = datapath.pins();
        let reasons = btf.and_then(|btf| btf.enumeration("skb_drop_reason").ok()).unwrap_or_default();
        Ok(Self {
            hook_rows: Table::shared(&pins.map("HOOK_ROWS"))?,
            row_numbers: Table::shared(&pins.map("ROW_NUMBERS"))?,
            ledger: Table::per_cpu(&pins.map("LEDGER"))?,
            retired: Table::shared(&pins.map("RETIRED"))?,
            front: Table::per_cpu(&pins.map("FRONT"))?,
            flows: Table::shared(&pins.map("FLOW_TABLE"))?,
            class_names: Table::shared(&pins.map("CLASS_NAMES"))?,
            vips: Table::shared(&pins.map("VIP_STATES"))?,
            tcp_rows: Table::per_cpu(&pins.map("TCP_ROWS"))?,
            tcp_peers: Table::shared(&pins.map("TCP_PEER_ROWS"))?,
            drops: Table::per_cpu(&pins.map("DROP_COUNTS"))?,
            shortfall: Table::per_cpu(&pins.map("SHORTFALL"))?,
            clock: Table::shared(&pins.map("CLOCK"))?,
            clock_program: datapath.clock_program()?,
            programs: datapath.program_descriptors(),
            map_pins: map_pins(pins),
            reasons: reasons.into_iter().map(|(number, name)| (number, reason_label(&name))).collect(),
            namespace: own_namespace(),
        })
    }

    /// All counters. With `other` as the class of what no class claims.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn measure(&self) -> Result<Measurement, TableError> {
        let rows = self.rows()?;
        let names = self.names()?;
        let made = self.shortfall()?;
        let maps = self.maps(&made)?;
        Ok(Measurement {
            interfaces: interfaces(&rows),
            vips: self.vip_counters(&rows)?,
            classes: classes(&rows, &names),
            tcp: self.tcp(&names)?,
            tcp_peers: self.peers()?,
            drops: self.drops()?,
            programs: self.costs(),
            shortfall: Shortfall {
                flows_evicted: evicted(&made, &maps),
                flow_insert_failures: made[shortfall::FLOW_FAILED as usize],
                ledger_overflow: made[shortfall::LEDGER_FULL as usize] + made[shortfall::NO_HOOK as usize],
                events_lost: made[shortfall::DROP_KINDS_FULL as usize]
                    + made[shortfall::SOCKETS_FULL as usize],
            },
            maps,
        })
    }

    /// All flows: the table behind and what the front slots have not passed on yet.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn flows(&self) -> Result<Vec<Flow>, TableError> {
        let mut counts: HashMap<[u8; 56], FlowCount> = HashMap::new();
        self.flows.visit(|key, values| {
            if let Some(count) = values.next() {
                counts.insert(bytemuck::cast(key), count);
            }
        })?;
        self.front.visit(|_, slots| {
            for slot in slots.filter(|slot| slot.count.packets > 0) {
                merge(counts.entry(bytemuck::cast(slot.key)).or_default(), &slot.count);
            }
        })?;
        let ticks = self.ticks()?;
        let classes = self.class_of_rows()?;
        let names = self.names()?;
        let flow = |(key, count): ([u8; 56], FlowCount)| {
            let class = classes.get(&count.row).copied().unwrap_or(0);
            flow(bytemuck::cast(key), &count, names[class].clone(), &ticks)
        };
        Ok(counts.into_iter().filter_map(flow).collect())
    }

    fn rows(&self) -> Result<Vec<LedgerRow>, TableError> {
        let mut keys: HashMap<u32, RowKey> = HashMap::new();
        self.hook_rows.visit(|hook, number| {
            let direction = hook.direction as u8;
            let key = RowKey { interface: hook.interface, direction, ..RowKey::default() };
            keys.extend(number.next().map(|number| (number, key)));
        })?;
        self.row_numbers.visit(|key, number| keys.extend(number.next().map(|number| (number, key))))?;
        let mut rows = Vec::with_capacity(keys.len());
        self.ledger.visit(|number, cpus| {
            if let Some(key) = keys.get(&number) {
                rows.push((*key, cpus.fold(Row::default(), Row::plus)));
            }
        })?;
        self.retired.visit(|key, row| rows.extend(row.next().map(|row| (key, row))))?;
        Ok(rows)
    }

    fn class_of_rows(&self) -> Result<HashMap<u32, usize>, TableError> {
        let mut classes = HashMap::new();
        self.row_numbers.visit(|key, number| {
            classes.extend(number.next().map(|number| (number, usize::from(key.class) % CLASSES as usize)));
        })?;
        Ok(classes)
    }

    /// Rows of addresses that are virtual addresses now; those of former ones stay in the sums.
    fn vip_counters(&self, rows: &[LedgerRow]) -> Result<Vec<VipCounters>, TableError> {
        let mut wanted = Vec::new();
        self.vips.visit(|vip, _| wanted.push(vip))?;
        let mut sums: BTreeMap<[u8; 40], (RowKey, Row)> = BTreeMap::new();
        for (key, row) in rows.iter().filter(|(key, _)| wanted.contains(&key.vip)) {
            // The class splits rows further than this table shows.
            let key = RowKey { class: 0, ..*key };
            let sum = sums.entry(bytemuck::cast(key)).or_insert((key, Row::default()));
            sum.1 = sum.1.plus(*row);
        }
        Ok(sums.into_values().filter_map(|(key, row)| vip_counters(&key, &row)).collect())
    }

    /// Names by number; the class of number 0 is `other`.
    fn names(&self) -> Result<Vec<String>, TableError> {
        let mut names = vec!["other".to_owned(); CLASSES as usize];
        self.class_names.visit(|number, name| {
            let Some(name) = name.next().filter(|name| name[0] != 0) else { return };
            let text = String::from_utf8_lossy(&name);
            if let Some(place) = names.get_mut(number as usize) {
                *place = text.trim_end_matches('\0').to_owned();
            }
        })?;
        Ok(names)
    }

    fn tcp(&self, names: &[String]) -> Result<Vec<TcpCounters>, TableError> {
        let mut all = Vec::new();
        self.tcp_rows.visit(|class, cpus| {
            let sum = cpus.fold([0; size_of::<TcpRow>() / 8], add_words);
            let row: TcpRow = bytemuck::cast(sum);
            if sum.iter().any(|&word| word != 0) {
                all.push(tcp_counters(names[class as usize % names.len()].clone(), &row));
            }
        })?;
        Ok(all)
    }

    fn peers(&self) -> Result<Vec<TcpPeer>, TableError> {
        let mut all = Vec::new();
        self.tcp_peers.visit(|key, rows| all.extend(rows.next().and_then(|row| peer(&key, &row))))?;
        all.sort_by_key(|peer| peer.prefix);
        Ok(all)
    }

    fn drops(&self) -> Result<Vec<DropCounters>, TableError> {
        let mut sums: BTreeMap<(String, DropPlace), u64> = BTreeMap::new();
        self.drops.visit(|key, cpus| {
            let reason =
                self.reasons.get(&key.reason).cloned().unwrap_or_else(|| format!("reason_{}", key.reason));
            *sums.entry((reason, self.place(&key))).or_default() += cpus.sum::<u64>();
        })?;
        Ok(sums
            .into_iter()
            .map(|((reason, place), packets)| DropCounters { reason, place, packets })
            .collect())
    }

    fn place(&self, key: &DropKey) -> DropPlace {
        match IfIndex::try_from(key.interface) {
            Err(_) => DropPlace::NoDevice,
            Ok(index) if key.namespace == self.namespace => DropPlace::Interface(index),
            Ok(_) => DropPlace::OtherNamespace,
        }
    }

    fn shortfall(&self) -> Result<Vec<u64>, TableError> {
        let mut counts = vec![0; shortfall::COUNT as usize];
        self.shortfall.visit(|index, cpus| {
            if let Some(count) = counts.get_mut(index as usize) {
                *count = cpus.sum();
            }
        })?;
        Ok(counts)
    }

    fn ticks(&self) -> Result<Ticks, TableError> {
        if let Err(error) = sys::run_once(self.clock_program.as_fd()) {
            tracing::debug!(%error, "the clock program did not run; times are as of its last run");
        }
        let clock = self.clock.read(&0)?.and_then(|values| values.first().copied()).unwrap_or_default();
        Ok(Ticks::new(clock))
    }

    fn costs(&self) -> Vec<ProgramCost> {
        let cost = |(name, fd): &(String, OwnedFd)| ProgramCost {
            program: name.clone(),
            runs: sys::fdinfo(fd.as_fd(), "run_cnt").unwrap_or(0),
            run_time: Duration::from_nanos(sys::fdinfo(fd.as_fd(), "run_time_ns").unwrap_or(0)),
            memory_bytes: sys::fdinfo(fd.as_fd(), "memlock").unwrap_or(0),
        };
        self.programs.iter().map(cost).collect()
    }

    fn maps(&self, made: &[u64]) -> Result<Vec<MapFill>, TableError> {
        let mut fills = Vec::new();
        for (name, path) in &self.map_pins {
            let Ok(map) = MapData::from_pin(path) else { continue };
            let Ok(info) = map.info() else { continue };
            let capacity = u64::from(info.max_entries());
            let entries = match *name {
                "FLOW_TABLE" => self.flow_entries(made, capacity)?,
                "ROW_NUMBERS" => count(&self.row_numbers)?,
                "TCP_PEER_ROWS" => count(&self.tcp_peers)?,
                "DROP_COUNTS" => count(&self.drops)?,
                "VIP_STATES" => count(&self.vips)?,
                _ => continue,
            };
            fills.push(MapFill {
                map: (*name).to_lowercase(),
                entries,
                capacity,
                memory_bytes: sys::fdinfo(map.fd().as_fd(), "memlock").unwrap_or(0),
            });
        }
        Ok(fills)
    }

    /// Only the programs add flows and only the kernel takes them away, from a full table: below its size none has gone.
    fn flow_entries(&self, made: &[u64], capacity: u64) -> Result<u64, TableError> {
        let made = made[shortfall::FLOWS_MADE as usize];
        if made < capacity / 2 { Ok(made) } else { count(&self.flows) }
    }
}

fn count<K: bytemuck::Pod, V: bytemuck::Pod>(table: &Table<K, V>) -> Result<u64, TableError> {
    let mut entries = 0;
    table.visit(|_, _| entries += 1)?;
    Ok(entries)
}

fn evicted(made: &[u64], maps: &[MapFill]) -> u64 {
    let entries = maps.iter().find(|fill| fill.map == "flow_table").map_or(0, |fill| fill.entries);
    made[shortfall::FLOWS_MADE as usize].saturating_sub(entries)
}

fn map_pins(pins: &Pins) -> Vec<(&'static str, std::path::PathBuf)> {
    PINNED.into_iter().map(|name| (name, pins.map(name))).collect()
}

fn own_namespace() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino() as u32)
}

fn reason_label(name: &str) -> String {
    name.strip_prefix(REASON_PREFIX).unwrap_or(name).to_lowercase()
}

fn add_words<const N: usize>(sum: [u64; N], row: TcpRow) -> [u64; N] {
    let row = bytemuck::cast_slice::<TcpRow, u64>(std::slice::from_ref(&row)).to_vec();
    std::array::from_fn(|n| sum[n].wrapping_add(row[n]))
}

fn merge(into: &mut FlowCount, front: &FlowCount) {
    let known = into.packets > 0;
    into.packets += front.packets;
    into.bytes += front.bytes;
    into.first = if known { into.first.min(front.first) } else { front.first };
    into.last = into.last.max(front.last);
    into.flags |= front.flags;
    into.row = front.row;
}

fn direction(number: u8) -> Direction {
    if number == EGRESS { Direction::Egress } else { Direction::Ingress }
}

fn vlan(number: u16) -> Option<u16> {
    (number != UNTAGGED).then_some(number)
}

fn flow(key: FlowKey, count: &FlowCount, class: String, ticks: &Ticks) -> Option<Flow> {
    Some(Flow {
        interface: IfIndex::try_from(key.interface()).ok()?,
        direction: direction(key.direction()),
        vlan: vlan(key.vlan()),
        hop: Mac(key.hop()),
        source: from_octets(key.source.octets()),
        destination: from_octets(key.destination.octets()),
        protocol: Protocol(key.protocol()),
        source_port: key.source_port(),
        destination_port: key.destination_port(),
        class,
        packets: count.packets,
        bytes: count.bytes,
        tcp_flags: count.flags as u8,
        first: ticks.since_boot(count.first),
        last: ticks.since_boot(count.last),
    })
}

fn interfaces(rows: &[LedgerRow]) -> Vec<InterfaceCounters> {
    let mut sums: BTreeMap<(u32, u8), Row> = BTreeMap::new();
    for (key, row) in rows {
        let sum = sums.entry((key.interface, key.direction)).or_default();
        *sum = sum.plus(*row);
    }
    let counters = |((interface, number), row): ((u32, u8), Row)| {
        Some(InterfaceCounters {
            interface: IfIndex::try_from(interface).ok()?,
            direction: direction(number),
            packets: row.packets,
            bytes: row.bytes,
            segments: row.segments,
            not_ip: row.not_ip,
            malformed: row.malformed,
        })
    };
    sums.into_iter().filter_map(counters).collect()
}

fn classes(rows: &[LedgerRow], names: &[String]) -> Vec<ClassCounters> {
    let mut sums: BTreeMap<(u8, u8), Row> = BTreeMap::new();
    for (key, row) in rows {
        let sum = sums.entry((key.class, key.direction)).or_default();
        *sum = sum.plus(*row);
    }
    let counters = |((class, number), row): ((u8, u8), Row)| ClassCounters {
        class: names[usize::from(class) % names.len()].clone(),
        direction: direction(number),
        packets: row.packets,
        bytes: row.bytes,
    };
    sums.into_iter().map(counters).collect()
}

fn vip_counters(key: &RowKey, row: &Row) -> Option<VipCounters> {
    Some(VipCounters {
        vip: Vip(from_octets(key.vip.octets())),
        port: (key.port != 0).then_some(key.port),
        protocol: Protocol(key.protocol),
        direction: direction(key.direction),
        interface: IfIndex::try_from(key.interface).ok()?,
        vlan: vlan(key.vlan),
        hop: Mac(key.hop),
        packets: row.packets,
        bytes: row.bytes,
        syn: row.syn,
        rst: row.rst,
    })
}

fn tcp_counters(class: String, row: &TcpRow) -> TcpCounters {
    let histogram = |buckets: &[u64; BUCKETS], sum| Histogram {
        buckets: buckets.to_vec(),
        sum: Duration::from_micros(sum),
    };
    TcpCounters {
        class,
        connects: row.connects,
        accepts: row.accepts,
        failed_connects: row.failed_connects,
        resets: row.resets,
        retransmits: row.retransmits,
        rtt: histogram(&row.rtt, row.rtt_sum),
        connect: histogram(&row.connect, row.connect_sum),
    }
}

fn peer(key: &PeerKey, row: &PeerRow) -> Option<TcpPeer> {
    let address = from_octets(key.prefix.octets());
    Some(TcpPeer {
        prefix: ipnet::IpNet::new(address, key.bits as u8).ok()?,
        rtt: Duration::from_micros(row.rtt),
        rtt_min: Duration::from_micros(row.rtt_min),
        connections: row.connections,
        failed_connects: row.failed_connects,
        resets: row.resets,
        retransmits: row.retransmits,
    })
}
