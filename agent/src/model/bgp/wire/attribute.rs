//! Path attributes (RFC 4271 section 4.3), with RFC 7606's rules for faulty ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Malformed;
use super::octets::Octets;
use crate::model::bgp::capability::Family;
use crate::model::bgp::rib::{Attributes, Hop, Origin, PathSegment};

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED_LENGTH: u8 = 0x10;

/// All attributes of an UPDATE.
#[derive(Debug, Default)]
pub(super) struct Parsed<'a> {
    /// What applies to all routes, without a next hop.
    pub(super) attributes: Attributes,
    /// NEXT_HOP: that of the routes at the UPDATE's end.
    pub(super) next_hop: Option<Ipv4Addr>,
    /// MP_REACH_NLRI.
    pub(super) reach: Option<Reach<'a>>,
    /// MP_UNREACH_NLRI.
    pub(super) unreach: Option<(Option<Family>, Octets<'a>)>,
    /// The routes are to be treated as withdrawn.
    pub(super) withdraw: bool,
    /// What was wrong.
    pub(super) faults: Vec<Malformed>,
    /// Whether AS numbers had four octets, where a path told.
    pub(super) four_octet: Option<bool>,
    as4_path: Vec<PathSegment>,
    seen: Vec<u8>,
}

/// MP_REACH_NLRI (RFC 4760 section 3).
#[derive(Debug)]
pub(super) struct Reach<'a> {
    /// Which family; `None` for those that are not looked into.
    pub(super) family: Option<Family>,
    pub(super) hop: Option<Hop>,
    pub(super) prefixes: Octets<'a>,
}

/// What to do about a fault.
enum Fault {
    /// The routes are taken for withdrawn.
    Withdraw(Malformed),
    /// The attribute is left out.
    Discard(Malformed),
    /// The UPDATE cannot be understood.
    Refuse(Malformed),
}

impl<'a> Parsed<'a> {
    /// Reads all attributes. `four_octet` tells how AS numbers are written, where that is known.
    pub(super) fn read(mut octets: Octets<'a>, four_octet: Option<bool>) -> Result<Self, Malformed> {
        let mut parsed = Parsed { four_octet, ..Parsed::default() };
        while !octets.is_empty() {
            let (flags, code, value) = match next(&mut octets) {
                Ok(found) => found,
                // RFC 7606 section 4: the routes can still be told, and are taken for withdrawn.
                Err(fault) => {
                    parsed.note(Fault::Withdraw(fault))?;
                    break;
                }
            };
            if let Err(fault) = parsed.take(flags, code, value) {
                parsed.note(fault)?;
            }
        }
        parsed.join_as4_path();
        Ok(parsed)
    }

    /// Whether there were none.
    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.faults.is_empty()
    }

    /// Notes that routes came without the attributes that each must have (RFC 7606 section 3 d).
    pub(super) fn demand(&mut self, next_hop: bool) {
        for (code, field) in [(1, "ORIGIN"), (2, "AS_PATH"), (3, "NEXT_HOP")] {
            if !self.seen.contains(&code) && (code != 3 || next_hop) {
                self.withdraw = true;
                self.faults.push(Malformed::Short { field, wanted: 1, have: 0 });
            }
        }
    }

    fn note(&mut self, fault: Fault) -> Result<(), Malformed> {
        match fault {
            Fault::Withdraw(what) => {
                self.withdraw = true;
                self.faults.push(what);
            }
            Fault::Discard(what) => self.faults.push(what),
            Fault::Refuse(what) => return Err(what),
        }
        Ok(())
    }

    fn take(&mut self, flags: u8, code: u8, value: Octets<'a>) -> Result<(), Fault> {
        if self.seen.contains(&code) {
            let twice = Malformed::Value { field: "an attribute that came before", value: code.into() };
            // RFC 7606 section 3 g.
            return Err(if matches!(code, 14 | 15) { Fault::Refuse(twice) } else { Fault::Discard(twice) });
        }
        self.seen.push(code);
        if let Some(expected) = kind(code)
            && flags & (OPTIONAL | TRANSITIVE) != expected
        {
            let wrong = Malformed::Value { field: "attribute flags", value: flags.into() };
            return Err(Fault::Withdraw(wrong));
        }
        let found = &mut self.attributes;
        match code {
            1 => found.origin = Some(origin(value).map_err(Fault::Withdraw)?),
            2 => {
                let (path, four_octet) = as_path(value, self.four_octet).map_err(Fault::Withdraw)?;
                found.as_path = path;
                self.four_octet = self.four_octet.or(four_octet);
            }
            3 => self.next_hop = Some(Ipv4Addr::from(exactly(value, "NEXT_HOP").map_err(Fault::Withdraw)?)),
            4 => found.med = Some(number(value, "MULTI_EXIT_DISC").map_err(Fault::Withdraw)?),
            // RFC 7606 section 7.5: of a peer in another AS, as most here are, it is left out.
            5 => found.local_preference = Some(number(value, "LOCAL_PREF").map_err(Fault::Discard)?),
            6 => drop(exactly::<0>(value, "ATOMIC_AGGREGATE").map_err(Fault::Discard)?),
            8 => found.communities = numbers(value, "COMMUNITIES").map_err(Fault::Withdraw)?,
            14 => self.reach = Some(reach(value).map_err(Fault::Refuse)?),
            15 => self.unreach = Some(unreach(value).map_err(Fault::Refuse)?),
            17 => self.as4_path = as_path(value, Some(true)).map_err(Fault::Discard)?.0,
            32 => {
                let all = numbers(value, "LARGE_COMMUNITY").map_err(Fault::Withdraw)?;
                if all.len() % 3 != 0 {
                    let wanted = all.len().next_multiple_of(3) * 4;
                    let short = Malformed::Short { field: "LARGE_COMMUNITY", wanted, have: all.len() * 4 };
                    return Err(Fault::Withdraw(short));
                }
                found.large_communities = all.chunks_exact(3).map(|one| [one[0], one[1], one[2]]).collect();
            }
            // Known, and of no use here: AGGREGATOR, route reflection, extended communities.
            7 | 9 | 10 | 16 | 18 => {}
            other => found.unknown.push(other),
        }
        Ok(())
    }

    /// Of a speaker with AS numbers of two octets: the true ones (RFC 6793 section 4.2.3).
    fn join_as4_path(&mut self) {
        if self.four_octet != Some(false) || self.as4_path.is_empty() {
            return;
        }
        let (long, short) = (hops(&self.attributes.as_path), hops(&self.as4_path));
        let Some(mut ahead) = long.checked_sub(short) else { return };
        let mut joined = Vec::new();
        for segment in std::mem::take(&mut self.attributes.as_path) {
            match segment {
                _ if ahead == 0 => break,
                PathSegment::Sequence(mut numbers) => {
                    numbers.truncate(ahead);
                    ahead -= numbers.len();
                    joined.push(PathSegment::Sequence(numbers));
                }
                PathSegment::Set(numbers) => {
                    ahead -= 1;
                    joined.push(PathSegment::Set(numbers));
                }
                confederation => joined.push(confederation),
            }
        }
        for segment in std::mem::take(&mut self.as4_path) {
            match (joined.last_mut(), segment) {
                (Some(PathSegment::Sequence(front)), PathSegment::Sequence(back)) => front.extend(back),
                (_, segment) => joined.push(segment),
            }
        }
        self.attributes.as_path = joined;
    }
}

/// Flags, code and value of the next attribute.
fn next<'a>(octets: &mut Octets<'a>) -> Result<(u8, u8, Octets<'a>), Malformed> {
    let (flags, code) = (octets.u8("attribute flags")?, octets.u8("attribute type")?);
    let length = if flags & EXTENDED_LENGTH != 0 {
        octets.u16("attribute length")?.into()
    } else {
        usize::from(octets.u8("attribute length")?)
    };
    Ok((flags, code, octets.part(length, "attribute")?))
}

/// The flags of a known attribute, as far as they are fixed.
fn kind(code: u8) -> Option<u8> {
    match code {
        1 | 2 | 3 | 5 | 6 => Some(TRANSITIVE),
        4 | 9 | 10 | 14 | 15 => Some(OPTIONAL),
        7 | 8 | 16 | 17 | 18 | 32 => Some(OPTIONAL | TRANSITIVE),
        _ => None,
    }
}

fn exactly<const N: usize>(mut value: Octets<'_>, field: &'static str) -> Result<[u8; N], Malformed> {
    let octets = value.array(field)?;
    if value.is_empty() { Ok(octets) } else { Err(Malformed::Trailing(value.len())) }
}

fn number(value: Octets<'_>, field: &'static str) -> Result<u32, Malformed> {
    exactly(value, field).map(u32::from_be_bytes)
}

fn origin(value: Octets<'_>) -> Result<Origin, Malformed> {
    match exactly(value, "ORIGIN")? {
        [0] => Ok(Origin::Igp),
        [1] => Ok(Origin::Egp),
        [2] => Ok(Origin::Incomplete),
        [other] => Err(Malformed::Value { field: "ORIGIN", value: other.into() }),
    }
}

/// At least one number; none at all is a fault (RFC 7606 section 7.8).
fn numbers(mut value: Octets<'_>, field: &'static str) -> Result<Vec<u32>, Malformed> {
    let mut all = vec![value.u32(field)?];
    while !value.is_empty() {
        all.push(value.u32(field)?);
    }
    Ok(all)
}

type Path = Vec<PathSegment>;

/// An AS path. Where the width of a number is not known, the one that fits is taken: of the same octets only one does.
fn as_path(value: Octets<'_>, four_octet: Option<bool>) -> Result<(Path, Option<bool>), Malformed> {
    if value.is_empty() {
        return Ok((Vec::new(), None));
    }
    let widths = match four_octet {
        Some(known) => vec![known],
        None => vec![true, false],
    };
    let mut result = Err(Malformed::Value { field: "AS_PATH", value: 0 });
    for four_octet in widths {
        result = path_of(value, four_octet).map(|path| (path, Some(four_octet)));
        if result.is_ok() {
            break;
        }
    }
    result
}

fn path_of(mut value: Octets<'_>, four_octet: bool) -> Result<Path, Malformed> {
    let mut path = Vec::new();
    while !value.is_empty() {
        let (kind, count) = (value.u8("AS_PATH segment type")?, value.u8("AS_PATH segment length")?);
        if count == 0 {
            return Err(Malformed::Value { field: "AS_PATH segment length", value: 0 });
        }
        let mut numbers = Vec::with_capacity(count.into());
        for _ in 0..count {
            let number = if four_octet { value.u32("AS_PATH")? } else { u32::from(value.u16("AS_PATH")?) };
            numbers.push(number);
        }
        path.push(match kind {
            1 => PathSegment::Set(numbers),
            2 => PathSegment::Sequence(numbers),
            3 => PathSegment::ConfederationSequence(numbers),
            4 => PathSegment::ConfederationSet(numbers),
            other => return Err(Malformed::Value { field: "AS_PATH segment type", value: other.into() }),
        });
    }
    Ok(path)
}

/// The length of a path as RFC 4271 section 9.1.2.2 counts it.
fn hops(path: &[PathSegment]) -> usize {
    let length = |segment: &PathSegment| match segment {
        PathSegment::Sequence(numbers) => numbers.len(),
        PathSegment::Set(_) => 1,
        PathSegment::ConfederationSequence(_) | PathSegment::ConfederationSet(_) => 0,
    };
    path.iter().map(length).sum()
}

fn reach(mut value: Octets<'_>) -> Result<Reach<'_>, Malformed> {
    let family = Family::from_numbers(value.u16("AFI")?, value.u8("SAFI")?);
    let length = value.u8("next hop's length")?;
    let mut hop = value.part(length.into(), "next hop")?;
    value.u8("reserved octet")?;
    let hop = match (family, length) {
        (None, _) => None,
        (Some(Family::Ipv4), 4) => Some(Hop { address: IpAddr::V4(hop.ipv4("next hop")?), link_local: None }),
        (Some(_), 16) => Some(Hop { address: IpAddr::V6(hop.ipv6("next hop")?), link_local: None }),
        (Some(_), 32) => Some(pair(hop.ipv6("next hop")?, hop.ipv6("link-local next hop")?)),
        (Some(_), other) => {
            return Err(Malformed::Value { field: "next hop's length", value: other.into() });
        }
    };
    Ok(Reach { family, hop, prefixes: value })
}

/// RFC 2545 section 3; some speakers write the link-local address twice.
fn pair(address: Ipv6Addr, second: Ipv6Addr) -> Hop {
    Hop { address: IpAddr::V6(address), link_local: Some(second).filter(|it| it.is_unicast_link_local()) }
}

fn unreach(mut value: Octets<'_>) -> Result<(Option<Family>, Octets<'_>), Malformed> {
    let family = Family::from_numbers(value.u16("AFI")?, value.u8("SAFI")?);
    Ok((family, value))
}
