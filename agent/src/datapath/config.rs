//! Tells the programs which virtual addresses and classes there are. Every change starts a new epoch, in which
//! flows find their rows again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytemuck::Pod;
use thiserror::Error;
use weir_ebpf::{Address, CLASSES, ClassName, Row, RowKey, Settings, VipPort, VipState};

use super::load::Datapath;
use super::settings;
use super::sys;
use super::table::{Table, TableError};
use crate::model::address::{from_octets, octets};
use crate::model::class::Class;
use crate::model::cluster::ServicePort;
use crate::model::vip::Vip;

/// What the programs look for.
pub struct Targets {
    settings: Table<u32, Settings>,
    free: Table<[u8; 0], u32>,
    vips: Table<Address, VipState>,
    vip_ports: Table<VipPort, u32>,
    served: Table<VipPort, u32>,
    row_numbers: Table<RowKey, u32>,
    ledger: Table<u32, Row>,
    retired: Table<RowKey, Row>,
    class_names: Table<u32, ClassName>,
    by_address: Table<[u8; 20], u32>,
    by_port: Table<u32, u32>,
    by_protocol: Table<u32, u32>,
    tap_ports: Table<u32, u64>,
}

/// A configuration cannot be told to the programs.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A map refused.
    #[error("cannot tell the datapath its configuration")]
    Table(#[from] TableError),
    /// Too many classes over the life of the pinned maps.
    #[error(
        "no number is left for traffic class {0}: {most} classes have been used since the maps were pinned; \
         `weir-agent detach` frees them",
        most = CLASSES - 1
    )]
    Classes(String),
    /// A class's name does not fit.
    #[error("the name of traffic class {0:?} must have 1 to 31 octets")]
    Name(String),
}

impl Targets {
    /// Opens the maps; ones that have just been made get their first contents.
    ///
    /// # Errors
    /// When a map cannot be used.
    pub fn open(datapath: &Datapath) -> Result<Self, ConfigError> {
        let pins = datapath.pins();
        let targets = Self {
            settings: Table::shared(&pins.map("SETTINGS"))?,
            free: Table::shared(&pins.map("FREE_ROWS"))?,
            vips: Table::shared(&pins.map("VIP_STATES"))?,
            vip_ports: Table::shared(&pins.map("VIP_PORTS_SEEN"))?,
            served: Table::shared(&pins.map("VIP_SERVED"))?,
            row_numbers: Table::shared(&pins.map("ROW_NUMBERS"))?,
            ledger: Table::per_cpu(&pins.map("LEDGER"))?,
            retired: Table::shared(&pins.map("RETIRED"))?,
            class_names: Table::shared(&pins.map("CLASS_NAMES"))?,
            by_address: Table::shared(&pins.map("CLASS_BY_ADDRESS"))?,
            by_port: Table::shared(&pins.map("CLASS_BY_PORT"))?,
            by_protocol: Table::shared(&pins.map("CLASS_BY_PROTOCOL"))?,
            tap_ports: Table::shared(&pins.map("TAP_PORTS"))?,
        };
        if settings::epoch(&targets.settings)? == 0 {
            // Row 0 is for packets of hooks that nobody announced.
            (1..targets.free.capacity()).try_for_each(|row| targets.free.push(&row))?;
            settings::begin_epoch(&targets.settings)?;
        }
        Ok(targets)
    }

    /// The virtual addresses that are looked for, as an agent before this one may have left them.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn vips(&self) -> Result<Vec<Vip>, ConfigError> {
        let mut vips = Vec::new();
        self.vips.visit(|vip: Address, _| vips.push(Vip(from_octets(vip.octets()))))?;
        vips.sort();
        Ok(vips)
    }

    /// Makes the virtual addresses exactly these. Returns those that were taken away.
    ///
    /// # Errors
    /// When a map refuses; addresses before that one are in force.
    pub fn aim_at_vips(&self, wanted: &[Vip]) -> Result<(), ConfigError> {
        let wanted: Vec<Address> = wanted.iter().map(|vip| Address::from(octets(vip.0))).collect();
        let mut present = Vec::new();
        self.vips.visit(|vip, _| present.push(vip))?;
        let gone = |vip: &Address| present.contains(vip) && !wanted.contains(vip);
        let mut ports = Vec::new();
        self.vip_ports.visit(|port, _| ports.push(port))?;
        for vip in present.iter().filter(|vip| gone(vip)) {
            self.vips.remove(vip)?;
        }
        for port in ports.iter().filter(|port| gone(&port.vip)) {
            self.vip_ports.remove(port)?;
        }
        for vip in wanted.iter().filter(|vip| !present.contains(vip)) {
            self.vips.write(vip, &VipState::default())?;
        }
        settings::begin_epoch(&self.settings)?;
        self.retire(|key| key.vip != Address::default() && !wanted.contains(&key.vip))
    }

    /// Tells which ports Services have at virtual addresses. Packets to other ports of these addresses are looked into; an
    /// address that is left out is not judged. Beyond what the map holds, whole addresses are left out; returns how many.
    ///
    /// # Errors
    /// When a map refuses; what was told before that one is in force.
    pub fn serve(&self, ports: &BTreeMap<IpAddr, Vec<ServicePort>>) -> Result<usize, ConfigError> {
        let mut wanted: Vec<VipPort> = Vec::new();
        let mut left_out = 0;
        for (vip, ports) in ports {
            let vip = Address::from(octets(*vip));
            let served = ports.iter().map(|one| VipPort {
                vip,
                port: one.port,
                protocol: one.protocol.0,
                reserved: 0,
                reserved_last: 0,
            });
            if wanted.len() + ports.len() < self.served.capacity() as usize {
                wanted.extend(served.chain([VipPort::known(vip)]));
            } else {
                left_out += 1;
            }
        }
        let key = |port: &VipPort| bytemuck::cast::<VipPort, [u8; 24]>(*port);
        let keys: BTreeSet<[u8; 24]> = wanted.iter().map(key).collect();
        let mut present = Vec::new();
        self.served.visit(|port, _| present.push(port))?;
        let known: BTreeSet<[u8; 24]> = present.iter().map(key).collect();
        if keys == known {
            return Ok(left_out);
        }
        // What goes, goes first; a new address is judged only once all its ports are told: its own entry is the last.
        for port in present.iter().filter(|port| !keys.contains(&key(port))) {
            self.served.remove(port)?;
        }
        for port in wanted.iter().filter(|port| !known.contains(&key(port))) {
            self.served.write(port, &1)?;
        }
        settings::begin_epoch(&self.settings)?;
        Ok(left_out)
    }

    /// Gives back the rows that no flow can find any more; their counts go on in the sums of their hook and class.
    fn retire(&self, gone: impl Fn(&RowKey) -> bool) -> Result<(), ConfigError> {
        let mut rows = Vec::new();
        self.row_numbers.visit(|key, number| {
            if gone(&key) {
                rows.extend(number.next().map(|number| (key, number)));
            }
        })?;
        if rows.is_empty() {
            return Ok(());
        }
        sys::await_running_programs();
        for (key, number) in rows {
            let counted =
                self.ledger.read(&number)?.unwrap_or_default().into_iter().fold(Row::default(), Row::plus);
            let (interface, direction, class) = (key.interface, key.direction, key.class);
            let sum = RowKey { interface, direction, class, ..RowKey::default() };
            let before = self.retired.read(&sum)?.and_then(|rows| rows.first().copied()).unwrap_or_default();
            self.retired.write(&sum, &before.plus(counted))?;
            self.row_numbers.remove(&key)?;
            self.ledger.write(&number, &Row::default())?;
            self.free.push(&number)?;
        }
        Ok(())
    }

    /// Makes the traffic classes exactly these. A class keeps its number for as long as the maps live.
    ///
    /// # Errors
    /// When a name does not fit, numbers run out or a map refuses.
    pub fn sort_into(&self, classes: &[Class]) -> Result<(), ConfigError> {
        let mut names = self.names()?;
        let mut ports = vec![0u32; 2 << 16];
        let mut protocols = [0u32; 256];
        let mut prefixes = Vec::new();
        for class in classes {
            let number = self.number(&mut names, &class.name)?;
            for (base, ranges) in [(0, &class.tcp), (1 << 16, &class.udp)] {
                for port in ranges.iter().flat_map(|ports| ports.0.clone()) {
                    ports[base + usize::from(port)] = number;
                }
            }
            class.protocols.iter().for_each(|&protocol| protocols[usize::from(protocol)] = number);
            prefixes
                .extend(class.addresses.iter().map(|net| (prefix_key(net.addr(), net.prefix_len()), number)));
        }
        write_changed(&self.by_port, &ports)?;
        write_changed(&self.by_protocol, &protocols)?;
        let mut old = Vec::new();
        self.by_address.visit(|key, _| old.push(key))?;
        for (key, number) in &prefixes {
            self.by_address.write(key, number)?;
        }
        for key in old.iter().filter(|old| !prefixes.iter().any(|(key, _)| key == *old)) {
            self.by_address.remove(key)?;
        }
        Ok(settings::begin_epoch(&self.settings)?)
    }

    /// Makes the ports whose segments the agent gets exactly these.
    ///
    /// # Errors
    /// When a map refuses.
    pub fn tap(&self, ports: &[u16]) -> Result<(), ConfigError> {
        let mut words = vec![0u64; weir_ebpf::record::PORT_WORDS as usize];
        for port in ports {
            words[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        write_changed(&self.tap_ports, &words)?;
        Ok(settings::begin_epoch(&self.settings)?)
    }

    /// Numbers of the classes by name.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn class_numbers(&self) -> Result<std::collections::BTreeMap<String, u8>, ConfigError> {
        let named = (0u8..).zip(self.names()?).filter(|(_, name)| name[0] != 0);
        let text = |name: ClassName| String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
        let numbers = named.map(|(number, name)| (text(name), number));
        Ok(numbers.chain([("other".to_owned(), 0)]).collect())
    }

    fn names(&self) -> Result<Vec<ClassName>, TableError> {
        let mut names = vec![[0; 32]; CLASSES as usize];
        self.class_names.visit(|number, name| {
            if let (Some(place), Some(name)) = (names.get_mut(number as usize), name.next()) {
                *place = name;
            }
        })?;
        Ok(names)
    }

    /// The number of a class: the one that it has, or the first free one.
    fn number(&self, names: &mut [ClassName], name: &str) -> Result<u32, ConfigError> {
        let mut wanted = [0; 32];
        if name.is_empty() || name.len() >= wanted.len() {
            return Err(ConfigError::Name(name.to_owned()));
        }
        wanted[..name.len()].copy_from_slice(name.as_bytes());
        let known = names.iter().skip(1).position(|known| *known == wanted);
        let free = || names.iter().skip(1).position(|known| *known == [0; 32]);
        let place = known.or_else(free).ok_or_else(|| ConfigError::Classes(name.to_owned()))? + 1;
        names[place] = wanted;
        self.class_names.write(&(place as u32), &wanted)?;
        Ok(place as u32)
    }
}

/// Writes the elements of an array that differ.
fn write_changed<V: Pod + PartialEq>(table: &Table<u32, V>, wanted: &[V]) -> Result<(), TableError> {
    let mut changed = Vec::new();
    table.visit(|index, value| {
        if let Some(&number) = wanted.get(index as usize)
            && value.next() != Some(number)
        {
            changed.push((index, number));
        }
    })?;
    changed.iter().try_for_each(|(index, number)| table.write(index, number))
}

/// The key of a prefix in a trie of mapped addresses: its length in bits, then the address.
fn prefix_key(address: IpAddr, length: u8) -> [u8; 20] {
    let bits = u32::from(length) + if address.is_ipv4() { 96 } else { 0 };
    let mut key = [0; 20];
    key[..4].copy_from_slice(&bits.to_ne_bytes());
    key[4..].copy_from_slice(&octets(address));
    key
}
