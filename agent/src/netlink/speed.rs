//! Speeds of links by the ethtool family of generic netlink (linux/ethtool_netlink.h). Reading them needs no capability.

use std::collections::BTreeMap;
use std::io;

use nix::sys::socket::SockProtocol;

use super::Error;
use super::attribute::{after, attribute, attributes, u16_at, u32_at};
use super::socket::Requests;
use crate::model::address::IfIndex;

/// `struct genlmsghdr`.
const HEADER: usize = 4;
const CTRL_CMD_GETFAMILY: u8 = 3;
const ETHTOOL_MSG_LINKMODES_GET: u8 = 4;
const ETHTOOL_A_LINKMODES_HEADER: u16 = 1;
const ETHTOOL_A_LINKMODES_SPEED: u16 = 5;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
const ETHTOOL_FLAG_COMPACT_BITSETS: u32 = 1;
/// `SPEED_UNKNOWN`.
const UNKNOWN: u32 = u32::MAX;

/// Asks drivers for the speed of their links.
pub(super) struct Speeds {
    requests: Requests,
    family: u16,
}

impl Speeds {
    /// Finds the ethtool family; kernels before 5.6 and some small ones have none.
    pub(super) fn open() -> Result<Self, Error> {
        let mut requests = Requests::open(SockProtocol::NetlinkGeneric)?;
        let mut family = None;
        let body = [
            &[CTRL_CMD_GETFAMILY, 1, 0, 0],
            &attribute(libc::CTRL_ATTR_FAMILY_NAME as u16, b"ethtool\0")[..],
        ];
        let asked = requests.one(libc::GENL_ID_CTRL as u16, &body.concat(), |answer| {
            let id = attributes(after(answer, HEADER))
                .find(|(number, _)| i32::from(*number) == libc::CTRL_ATTR_FAMILY_ID);
            family = id.and_then(|(_, value)| u16_at(value, 0));
        });
        asked.map_err(|source| Error::Read { what: "the ethtool family", source })?;
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let family = family.ok_or_else(|| Error::Read { what: "the ethtool family", source: absent() })?;
        Ok(Self { requests, family })
    }

    /// The speeds of all links whose drivers tell, in bits a second.
    pub(super) fn all(&mut self) -> io::Result<BTreeMap<IfIndex, u64>> {
        let mut speeds = BTreeMap::new();
        self.requests.dump(self.family, &request(None), |answer| speeds.extend(speed(answer)))?;
        Ok(speeds)
    }

    /// The speed of one link in bits a second, if its driver tells and it has not gone.
    pub(super) fn one(&mut self, interface: IfIndex) -> Option<u64> {
        let mut found = None;
        self.requests.one(self.family, &request(Some(interface)), |answer| found = speed(answer)).ok()?;
        found.map(|(_, speed)| speed)
    }
}

fn request(interface: Option<IfIndex>) -> Vec<u8> {
    let mut header = attribute(ETHTOOL_A_HEADER_FLAGS, &ETHTOOL_FLAG_COMPACT_BITSETS.to_ne_bytes());
    if let Some(interface) = interface {
        header.extend(attribute(ETHTOOL_A_HEADER_DEV_INDEX, &u32::from(interface).to_ne_bytes()));
    }
    let header = attribute(ETHTOOL_A_LINKMODES_HEADER | libc::NLA_F_NESTED as u16, &header);
    [&[ETHTOOL_MSG_LINKMODES_GET, 1, 0, 0], &header[..]].concat()
}

pub(super) fn speed(answer: &[u8]) -> Option<(IfIndex, u64)> {
    let find =
        |bytes, wanted| attributes(bytes).find(|(number, _)| *number == wanted).map(|(_, value)| value);
    let header = find(after(answer, HEADER), ETHTOOL_A_LINKMODES_HEADER)?;
    let interface = u32_at(find(header, ETHTOOL_A_HEADER_DEV_INDEX)?, 0)?;
    let megabits = u32_at(find(after(answer, HEADER), ETHTOOL_A_LINKMODES_SPEED)?, 0)?;
    let known = megabits != 0 && megabits != UNKNOWN;
    Some((IfIndex::try_from(interface).ok()?, known.then_some(u64::from(megabits) * 1_000_000)?))
}
