//! Reads what the programs watch of virtual addresses: strays and claims.

use std::net::IpAddr;
use std::time::Duration;

use weir_ebpf::vips::{ClaimKey, Claims, STRAYS, Strays};
use weir_ebpf::{Address, EGRESS, INGRESS, VipPort};

use super::load::Datapath;
use super::table::{Table, TableError};
use crate::model::address::{IfIndex, Mac, Protocol, from_octets, octets};
use crate::model::cluster::ServicePort;
use crate::model::policy;
use crate::model::vip::{Claim, StrayCount, Watched};

/// Reads the maps.
pub struct Watcher {
    strays: Table<VipPort, Strays>,
    claims: Table<ClaimKey, Claims>,
}

impl Watcher {
    /// Opens the maps behind a loaded datapath.
    ///
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(datapath: &Datapath) -> Result<Self, TableError> {
        let pins = datapath.pins();
        Ok(Self {
            strays: Table::shared(&pins.map("VIP_STRAYS"))?,
            claims: Table::shared(&pins.map("VIP_CLAIMS"))?,
        })
    }

    /// All that was watched.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn read(&self) -> Result<Watched, TableError> {
        let mut watched = Watched::default();
        self.strays.visit(|port, values| {
            if let Some((key, count)) = values.next().and_then(|value| stray(&port, &value)) {
                watched.strays.insert(key, count);
            }
        })?;
        debug_assert!(watched.strays.len() <= STRAYS as usize);
        self.claims.visit(|key, values| {
            watched.claims.extend(values.next().and_then(|value| claim(&key, &value)));
        })?;
        Ok(watched)
    }

    /// Runs something that makes a claim nobody has made: it is not known afterwards, unless it was before.
    pub(super) fn untold<T, E: From<TableError>>(
        &self,
        claim: policy::Claim,
        interface: u32,
        run: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let vip = Address::from(octets(claim.address));
        let key =
            ClaimKey { vip, interface, mac: claim.mac.0, direction: INGRESS, reserved: 0, reserved_last: 0 };
        let known = self.claims.read(&key)?.is_some();
        let done = run();
        if !known {
            self.claims.remove(&key)?;
        }
        done
    }
}

fn stray(port: &VipPort, value: &Strays) -> Option<((IpAddr, ServicePort), StrayCount)> {
    let key = ServicePort { port: port.port, protocol: Protocol(port.protocol) };
    let count = StrayCount {
        packets: value.packets,
        looped: value.looped,
        ttl: [value.ttl_high, value.ttl_low],
        hop: Mac(value.hop),
        interface: IfIndex::try_from(value.interface).ok()?,
        last: Duration::from_nanos(value.last),
    };
    Some(((from_octets(port.vip.octets()), key), count))
}

fn claim(key: &ClaimKey, value: &Claims) -> Option<Claim> {
    Some(Claim {
        vip: from_octets(key.vip.octets()),
        mac: Mac(key.mac),
        interface: IfIndex::try_from(key.interface).ok()?,
        own: key.direction == EGRESS,
        first: Duration::from_nanos(value.first),
        last: Duration::from_nanos(value.last),
    })
}
