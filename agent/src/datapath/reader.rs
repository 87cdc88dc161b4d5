//! Reads the kernel's counts into the model. Nothing is kept between two readings but what names things.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aya::maps::MapData;
use weir_ebpf::rules::{RuleDropKey, RuleName};
use weir_ebpf::vlan::CARRIED;
use weir_ebpf::*;

use super::btf::DropTypes;
use super::clock::Ticks;
use super::front::Front;
use super::guard::rule_name;
use super::load::{Datapath, LoadError, PINNED};
use super::pins::Pins;
use super::sys;
use super::table::{Table, TableError};
use super::vlan;
use crate::model::address::{Direction, IfIndex, Mac, Protocol, from_octets};
use crate::model::class::ClassCounters;
use crate::model::drops::{DropCounters, DropPlace, RuleDrops};
use crate::model::flow::Flow;
use crate::model::interface::InterfaceCounters;
use crate::model::measurement::Measurement;
use crate::model::program::{MapFill, ProgramCost, Shortfall};
use crate::model::tcp::{Histogram, TcpCounters, TcpPeer};
use crate::model::vip::{Vip, VipCounters};

/// Bits that every drop reason's name begins with.
const REASON_PREFIX: &str = "SKB_DROP_REASON_";

/// So many rows are read one by one sooner than the whole ledger at once.
const FEW_ROWS: usize = 256;

/// Reads the pinned maps. Needs no loaded object: it reads what any agent of the same layout counts.
pub struct Reader {
    hook_rows: Table<HookKey, u32>,
    row_numbers: Table<RowKey, u32>,
    ledger: Table<u32, Row>,
    retired: Table<RowKey, Row>,
    front: Table<u32, Slot>,
    flows: Table<FlowKey, FlowCount>,
    own_vlans: Table<u32, u32>,
    class_names: Table<u32, ClassName>,
    vips: Table<Address, VipState>,
    tcp_rows: Table<u32, TcpRow>,
    tcp_peers: Table<PeerKey, PeerRow>,
    drops: Table<DropKey, u64>,
    rule_drops: Table<RuleDropKey, u64>,
    rule_names: Table<u32, RuleName>,
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
    pub fn open(datapath: &Datapath, types: Option<DropTypes>) -> Result<Self, LoadError> {
        let pins = datapath.pins();
        let reasons = types.map(|types| types.reasons).unwrap_or_default();
        Ok(Self {
            hook_rows: Table::shared(&pins.map("HOOK_ROWS"))?,
            row_numbers: Table::shared(&pins.map("ROW_NUMBERS"))?,
            ledger: Table::per_cpu(&pins.map("LEDGER"))?,
            retired: Table::shared(&pins.map("RETIRED"))?,
            front: Table::shared(&pins.map("FRONT"))?,
            flows: Table::shared(&pins.map("FLOW_TABLE"))?,
            own_vlans: Table::shared(&pins.map("OWN_VLANS"))?,
            class_names: Table::shared(&pins.map("CLASS_NAMES"))?,
            vips: Table::shared(&pins.map("VIP_STATES"))?,
            tcp_rows: Table::per_cpu(&pins.map("TCP_ROWS"))?,
            tcp_peers: Table::shared(&pins.map("TCP_PEER_ROWS"))?,
            drops: Table::per_cpu(&pins.map("DROP_COUNTS"))?,
            rule_drops: Table::per_cpu(&pins.map("RULE_DROPS"))?,
            rule_names: Table::shared(&pins.map("RULE_NAMES"))?,
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
            // Before the kernel's own, which count the same packets: so none of them is without its rule.
            rule_drops: self.rule_drops()?,
            drops: self.drops()?,
            programs: self.costs(),
            shortfall: Shortfall {
                flows_evicted: evicted(&made, &maps),
                flow_insert_failures: made[shortfall::FLOW_FAILED as usize],
                ledger_overflow: made[shortfall::LEDGER_FULL as usize] + made[shortfall::NO_HOOK as usize],
                events_lost: made[shortfall::DROP_KINDS_FULL as usize]
                    + made[shortfall::SOCKETS_FULL as usize]
                    + made[shortfall::TAP_SEGMENTS_LOST as usize],
            },
            maps,
        })
    }

    /// The counters of virtual addresses alone.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn vips(&self) -> Result<Vec<VipCounters>, TableError> {
        self.vip_counters(&self.rows()?)
    }

    /// All flows: the table behind and what the front slots have not passed on yet. The slots are read last: counts that
    /// move on meanwhile are missed until the next reading, and none is seen twice. Flows of a VLAN sub-interface that is
    /// measured are those of its own hook, not those of the interface below.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn flows(&self) -> Result<Vec<Flow>, TableError> {
        let context = self.flow_context()?;
        let front = Front::map(&self.front)?;
        let mut places: HashMap<FlowKey, Option<usize>> =
            front.held().map(|slot| (slot.key(), None)).collect();
        let mut flows = Vec::with_capacity(self.expected_flows()?);
        self.flows.visit(|key, values| {
            let Some(flow) = values.next().and_then(|count| context.flow(&key, &count)) else { return };
            if let Some(place) = places.get_mut(&key) {
                *place = Some(flows.len());
            }
            flows.push(flow);
        })?;
        for slot in front.held() {
            let (key, count) = (slot.key(), slot.count());
            let Some(place) = places.get_mut(&key) else { continue };
            match place.and_then(|at| flows.get_mut(at)) {
                Some(flow) => context.merge(flow, &count),
                None => {
                    let Some(flow) = context.flow(&key, &count) else { continue };
                    *place = Some(flows.len());
                    flows.push(flow);
                }
            }
        }
        Ok(flows)
    }

    /// About as many as there are, so that room is made once.
    fn expected_flows(&self) -> Result<usize, TableError> {
        let made = self.shortfall()?[shortfall::FLOWS_MADE as usize];
        Ok(made.min(self.flows.capacity().into()) as usize + 1024)
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
        if keys.len() <= FEW_ROWS {
            for (number, key) in &keys {
                let cpus = self.ledger.read(number)?.unwrap_or_default();
                rows.push((*key, cpus.into_iter().fold(Row::default(), Row::plus)));
            }
        } else {
            self.ledger.visit(|number, cpus| {
                if let Some(key) = keys.get(&number) {
                    rows.push((*key, cpus.fold(Row::default(), Row::plus)));
                }
            })?;
        }
        self.retired.visit(|key, row| rows.extend(row.next().map(|row| (key, row))))?;
        Ok(rows)
    }

    fn flow_context(&self) -> Result<FlowContext, TableError> {
        let names: Vec<Arc<str>> = self.names()?.into_iter().map(Arc::from).collect();
        let mut classes = vec![names.first().cloned(); ROWS as usize];
        self.row_numbers.visit(|key, number| {
            if let Some(class) = number.next().and_then(|number| classes.get_mut(number as usize)) {
                *class = names.get(usize::from(key.class)).cloned();
            }
        })?;
        Ok(FlowContext { classes, vlans: vlan::own(&self.own_vlans)?, ticks: self.ticks()? })
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

    fn rule_drops(&self) -> Result<Vec<RuleDrops>, TableError> {
        let mut sums: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        self.rule_drops
            .visit(|key, cpus| *sums.entry((key.interface, key.counter)).or_default() += cpus.sum::<u64>())?;
        let mut drops = Vec::with_capacity(sums.len());
        for ((interface, counter), packets) in sums {
            let direction = if counter >> 31 != 0 { Direction::Egress } else { Direction::Ingress };
            let name =
                self.rule_names.read(&(counter & !(1 << 31)))?.and_then(|names| names.first().copied());
            if let (Ok(interface), Some(name)) = (IfIndex::try_from(interface), name) {
                drops.push(RuleDrops { interface, direction, rule: rule_name(&name), packets });
            }
        }
        Ok(drops)
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
        if let Err(error) = sys::test_run(self.clock_program.as_fd(), &[0; 64]) {
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

/// What turns a flow's count into a flow.
struct FlowContext {
    /// The class of each ledger row, by the row's number; none for [`CARRIED`] packets, which have no name.
    classes: Vec<Option<Arc<str>>>,
    /// The VLAN of each measured sub-interface.
    vlans: BTreeMap<IfIndex, u16>,
    ticks: Ticks,
}

impl FlowContext {
    /// `None` for a flow that the hook of a VLAN sub-interface has, too.
    fn flow(&self, key: &FlowKey, count: &FlowCount) -> Option<Flow> {
        let interface = IfIndex::try_from(key.interface()).ok()?;
        Some(Flow {
            interface,
            direction: direction(key.direction()),
            vlan: tag(key.vlan()).or_else(|| self.vlans.get(&interface).copied()),
            hop: Mac(key.hop()),
            source: from_octets(key.source.octets()),
            destination: from_octets(key.destination.octets()),
            protocol: Protocol(key.protocol()),
            source_port: key.source_port(),
            destination_port: key.destination_port(),
            class: self.class(count.row)?,
            packets: count.packets,
            bytes: count.bytes,
            tcp_flags: count.flags as u8,
            first: self.ticks.since_boot(count.first),
            last: self.ticks.since_boot(count.last),
        })
    }

    /// Adds what a front slot holds to its flow.
    fn merge(&self, flow: &mut Flow, front: &FlowCount) {
        flow.packets += front.packets;
        flow.bytes += front.bytes;
        flow.first = flow.first.min(self.ticks.since_boot(front.first));
        flow.last = flow.last.max(self.ticks.since_boot(front.last));
        flow.tcp_flags |= front.flags as u8;
        if let Some(class) = self.class(front.row) {
            flow.class = class;
        }
    }

    fn class(&self, row: u32) -> Option<Arc<str>> {
        self.classes.get((row % ROWS) as usize)?.clone()
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

fn direction(number: u8) -> Direction {
    if number == EGRESS { Direction::Egress } else { Direction::Ingress }
}

fn tag(number: u16) -> Option<u16> {
    (number != UNTAGGED).then_some(number)
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
    for (key, row) in rows.iter().filter(|(key, _)| key.class != CARRIED) {
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
        vlan: tag(key.vlan),
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
