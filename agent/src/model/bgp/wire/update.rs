//! UPDATE (RFC 4271 section 4.3): routes that are told and taken back.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Malformed;
use super::attribute::{Parsed, Reach};
use super::octets::Octets;
use crate::model::bgp::capability::Family;
use crate::model::bgp::rib::{Attributes, Hop, RouteKey};

/// How routes are written in one direction of a session. Both speakers' OPENs decide it; a reader that has not seen them takes
/// what fits, and keeps to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Whether AS numbers have four octets.
    pub four_octet: Encoding,
    /// Whether routes of IPv4 come with a path's number (RFC 7911).
    pub add_path_v4: Encoding,
    /// Whether routes of IPv6 come with a path's number.
    pub add_path_v6: Encoding,
}

/// Whether something is written so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Nobody has told.
    #[default]
    Unknown,
}

impl From<bool> for Encoding {
    fn from(yes: bool) -> Self {
        if yes { Encoding::Yes } else { Encoding::No }
    }
}

impl Encoding {
    fn known(self) -> Option<bool> {
        match self {
            Encoding::Yes => Some(true),
            Encoding::No => Some(false),
            Encoding::Unknown => None,
        }
    }

    fn learn(&mut self, found: Option<bool>) {
        if let (Encoding::Unknown, Some(found)) = (*self, found) {
            *self = found.into();
        }
    }
}

impl Reading {
    fn add_path(&mut self, family: Family) -> &mut Encoding {
        match family {
            Family::Ipv4 => &mut self.add_path_v4,
            Family::Ipv6 => &mut self.add_path_v6,
        }
    }
}

/// UPDATE. What RFC 7606 calls "treat as withdraw" has been done: such routes are among the withdrawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Routes taken back.
    pub withdrawn: Vec<RouteKey>,
    /// Routes told, by what was told with them.
    pub announced: Vec<(Arc<Attributes>, Vec<RouteKey>)>,
    /// The first exchange of this family is over (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// What was wrong with it.
    pub faults: Vec<Malformed>,
    /// How it was read.
    pub reading: Reading,
}

impl Update {
    pub(super) fn decode(body: &[u8], mut reading: Reading) -> Result<Self, Malformed> {
        let mut octets = Octets::new(body);
        let length = octets.u16("withdrawn routes' length")?;
        let withdrawn = octets.part(length.into(), "withdrawn routes")?;
        let length = octets.u16("attributes' length")?;
        let mut parsed = Parsed::read(octets.part(length.into(), "attributes")?, reading.four_octet.known())?;
        reading.four_octet.learn(parsed.four_octet);

        let mut update = Update { reading, ..Update::default() };
        let plain = octets;
        let taken_back = update.prefixes(withdrawn, Family::Ipv4)?;
        let told = update.prefixes(plain, Family::Ipv4)?;
        update.end_of_rib = end_of_rib(&parsed, taken_back.is_empty() && told.is_empty());
        update.withdrawn = taken_back;
        if let Some((Some(family), prefixes)) = parsed.unreach {
            let routes = update.prefixes(prefixes, family)?;
            update.withdrawn.extend(routes);
        }
        let reach = parsed.reach.take();
        if reach.is_some() || !told.is_empty() {
            parsed.demand(!told.is_empty());
        }
        if let Some(Reach { family: Some(family), hop, prefixes }) = reach {
            let routes = update.prefixes(prefixes, family)?;
            update.announce(&parsed, hop, routes);
        }
        let hop = parsed.next_hop.map(|address| Hop { address: IpAddr::V4(address), link_local: None });
        update.announce(&parsed, hop, told);
        update.faults = parsed.faults;
        Ok(update)
    }

    fn announce(&mut self, parsed: &Parsed<'_>, next_hop: Option<Hop>, routes: Vec<RouteKey>) {
        if parsed.withdraw {
            self.withdrawn.extend(routes);
        } else if !routes.is_empty() {
            self.announced.push((Arc::new(Attributes { next_hop, ..parsed.attributes.clone() }), routes));
        }
    }

    fn prefixes(&mut self, octets: Octets<'_>, family: Family) -> Result<Vec<RouteKey>, Malformed> {
        if octets.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = self.reading.add_path(family);
        let (routes, add_path) = routes(octets, family, encoding.known())?;
        encoding.learn(Some(add_path));
        Ok(routes)
    }
}

fn end_of_rib(parsed: &Parsed<'_>, no_ipv4: bool) -> Option<Family> {
    match &parsed.unreach {
        _ if !no_ipv4 || parsed.reach.is_some() => None,
        Some((family, prefixes)) if prefixes.is_empty() => *family,
        None if parsed.is_empty() => Some(Family::Ipv4),
        _ => None,
    }
}

/// Routes, and whether they were read with numbers of paths. Where that is not known, they are read without, unless that gives
/// what nobody sends: a prefix twice, or bits behind its length.
fn routes(
    octets: Octets<'_>,
    family: Family,
    add_path: Option<bool>,
) -> Result<(Vec<RouteKey>, bool), Malformed> {
    if let Some(add_path) = add_path {
        return Ok((list(octets, family, add_path)?.routes, add_path));
    }
    let without = list(octets, family, false);
    if without.as_ref().is_ok_and(List::plausible) {
        return without.map(|found| (found.routes, false));
    }
    match (list(octets, family, true), without) {
        (Ok(with), _) if with.plausible() => Ok((with.routes, true)),
        (_, Ok(without)) => Ok((without.routes, false)),
        (Ok(with), Err(_)) => Ok((with.routes, true)),
        (Err(_), Err(fault)) => Err(fault),
    }
}

struct List {
    routes: Vec<RouteKey>,
    /// Whether there were bits behind a prefix's length.
    stray: bool,
}

impl List {
    fn plausible(&self) -> bool {
        !self.stray && self.routes.iter().collect::<BTreeSet<_>>().len() == self.routes.len()
    }
}

fn list(mut octets: Octets<'_>, family: Family, add_path: bool) -> Result<List, Malformed> {
    let mut list = List { routes: Vec::new(), stray: false };
    while !octets.is_empty() {
        let path = if add_path { Some(octets.u32("path identifier")?) } else { None };
        let length = octets.u8("prefix length")?;
        let most = match family {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        };
        if length > most {
            return Err(Malformed::Value { field: "prefix length", value: length.into() });
        }
        let bits = octets.take(usize::from(length).div_ceil(8), "prefix")?;
        let mut address = [0; 16];
        for (to, from) in address.iter_mut().zip(bits) {
            *to = *from;
        }
        let [a, b, c, d, ..] = address;
        let address = match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(address)),
        };
        let Ok(whole) = IpNet::new(address, length) else {
            return Err(Malformed::Value { field: "prefix length", value: length.into() });
        };
        let prefix = whole.trunc();
        list.stray |= prefix != whole;
        list.routes.push(RouteKey { prefix, path });
    }
    Ok(list)
}
