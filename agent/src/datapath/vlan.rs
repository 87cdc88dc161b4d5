//! Tells the programs which VLAN sub-interfaces are measured, so that each packet gets into the ledger once.

use std::collections::BTreeMap;

use bytemuck::Pod;
use weir_ebpf::Settings;
use weir_ebpf::vlan::VlanKey;

use super::pins::Pins;
use super::settings;
use super::table::{Table, TableError};
use crate::model::address::IfIndex;
use crate::model::link::{Link, LinkKind};

/// What the programs know of VLAN sub-interfaces.
pub(super) struct Vlans {
    sub_interfaces: Table<VlanKey, u32>,
    own: Table<u32, u32>,
    settings: Table<u32, Settings>,
}

impl Vlans {
    pub(super) fn open(pins: &Pins) -> Result<Self, TableError> {
        Ok(Self {
            sub_interfaces: Table::shared(&pins.map("SUB_INTERFACES"))?,
            own: Table::shared(&pins.map("OWN_VLANS"))?,
            settings: Table::shared(&pins.map("SETTINGS"))?,
        })
    }

    /// Makes the measured sub-interfaces exactly those among these links.
    ///
    /// # Errors
    /// When a map refuses; it can be told again.
    pub(super) fn tell<'a>(&self, measured: impl Iterator<Item = &'a Link>) -> Result<(), TableError> {
        let (mut sub_interfaces, mut own) = (BTreeMap::new(), BTreeMap::new());
        for link in measured {
            let LinkKind::Vlan(vlan) = link.kind else { continue };
            own.insert(u32::from(link.index), u32::from(vlan));
            if let Some(below) = link.parent {
                let key = VlanKey { interface: below.into(), vlan: vlan.into() };
                sub_interfaces.insert(key, u32::from(link.index));
            }
        }
        let changed = make(&self.own, &own)? | make(&self.sub_interfaces, &sub_interfaces)?;
        if changed { settings::begin_epoch(&self.settings) } else { Ok(()) }
    }
}

/// The VLAN of each measured sub-interface.
pub(super) fn own(table: &Table<u32, u32>) -> Result<BTreeMap<IfIndex, u16>, TableError> {
    let mut vlans = BTreeMap::new();
    table.visit(|index, vlan| {
        if let (Ok(index), Some(vlan)) = (IfIndex::try_from(index), vlan.next()) {
            vlans.insert(index, vlan as u16);
        }
    })?;
    Ok(vlans)
}

/// Makes a map have exactly these entries; whether it had others.
fn make<K: Pod + Ord>(table: &Table<K, u32>, wanted: &BTreeMap<K, u32>) -> Result<bool, TableError> {
    let mut present = BTreeMap::new();
    table.visit(|key, value| present.extend(value.next().map(|value| (key, value))))?;
    for key in present.keys().filter(|key| !wanted.contains_key(key)) {
        table.remove(key)?;
    }
    for (key, value) in wanted.iter().filter(|(key, value)| present.get(key) != Some(value)) {
        table.write(key, value)?;
    }
    Ok(present != *wanted)
}
