//! OPEN (RFC 4271 section 4.2) and the capabilities in it (RFC 5492, RFC 9072).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Malformed;
use super::octets::Octets;
use crate::model::bgp::capability::{AddPath, Capabilities, Family, GracefulRestart};

/// Stands in the two octets of an AS number that needs four (RFC 6793).
const AS_TRANS: u16 = 23456;
/// Characters kept of a name.
const NAME: usize = 64;

/// OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The AS number: that of capability 65 where there is one.
    pub asn: u32,
    /// The proposed hold time; zero asks for none.
    pub hold_time: Duration,
    /// The BGP identifier.
    pub identifier: Ipv4Addr,
    /// What else the speaker can do.
    pub capabilities: Capabilities,
}

impl Open {
    pub(super) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut octets = Octets::new(body);
        let version = octets.u8("version")?;
        if version != 4 {
            return Err(Malformed::Value { field: "version", value: version.into() });
        }
        let short_asn = octets.u16("AS number")?;
        let hold_time = octets.u16("hold time")?;
        if matches!(hold_time, 1 | 2) {
            return Err(Malformed::Value { field: "hold time", value: hold_time.into() });
        }
        let identifier = octets.ipv4("BGP identifier")?;
        let capabilities = parameters(&mut octets)?;
        if !octets.is_empty() {
            return Err(Malformed::Trailing(octets.len()));
        }
        let asn = match capabilities.four_octet_asn {
            Some(asn) if short_asn == AS_TRANS || asn == u32::from(short_asn) => asn,
            Some(asn) => return Err(Malformed::Value { field: "AS number in capability 65", value: asn }),
            None => short_asn.into(),
        };
        if asn == 0 {
            return Err(Malformed::Value { field: "AS number", value: 0 });
        }
        Ok(Self { asn, hold_time: Duration::from_secs(hold_time.into()), identifier, capabilities })
    }
}

/// Optional parameters. With a first type of 255, lengths take two octets (RFC 9072 section 2).
fn parameters(octets: &mut Octets<'_>) -> Result<Capabilities, Malformed> {
    let length = octets.u8("optional parameters' length")?;
    let extended = length != 0 && octets.rest().first() == Some(&255);
    let length = if extended {
        octets.u8("extended optional parameters")?;
        octets.u16("extended optional parameters' length")?.into()
    } else {
        usize::from(length)
    };
    let mut parameters = octets.part(length, "optional parameters")?;
    let mut capabilities = Capabilities::default();
    while !parameters.is_empty() {
        let kind = parameters.u8("parameter type")?;
        let length = if extended {
            parameters.u16("parameter length")?.into()
        } else {
            usize::from(parameters.u8("parameter length")?)
        };
        let value = parameters.part(length, "parameter")?;
        if kind == 2 {
            read_capabilities(value, &mut capabilities)?;
        }
    }
    Ok(capabilities)
}

fn read_capabilities(mut octets: Octets<'_>, into: &mut Capabilities) -> Result<(), Malformed> {
    while !octets.is_empty() {
        let code = octets.u8("capability code")?;
        let length = octets.u8("capability length")?;
        let value = octets.part(length.into(), "capability")?;
        capability(code, value, into)?;
    }
    Ok(())
}

fn capability(code: u8, mut value: Octets<'_>, into: &mut Capabilities) -> Result<(), Malformed> {
    match code {
        1 => {
            let (afi, _, safi) = (value.u16("AFI")?, value.u8("reserved")?, value.u8("SAFI")?);
            match Family::from_numbers(afi, safi) {
                Some(family) if !into.families.contains(&family) => into.families.push(family),
                None if !into.other_families.contains(&(afi, safi)) => into.other_families.push((afi, safi)),
                _ => {}
            }
        }
        2 | 128 => into.route_refresh = true,
        5 => into.extended_next_hop = true,
        6 => into.extended_message = true,
        64 => {
            let word = value.u16("restart flags and time")?;
            into.graceful_restart = Some(GracefulRestart {
                restarted: word & 0x8000 != 0,
                notification: word & 0x4000 != 0,
                restart_time: Duration::from_secs((word & 0x0fff).into()),
            });
        }
        65 => into.four_octet_asn = Some(value.u32("four-octet AS number")?),
        69 => add_path(value, into)?,
        70 => into.enhanced_route_refresh = true,
        71 => into.long_lived_graceful_restart = true,
        73 => into.host_name = host_name(value)?,
        other if !into.unknown.contains(&other) => into.unknown.push(other),
        _ => {}
    }
    Ok(())
}

fn add_path(mut value: Octets<'_>, into: &mut Capabilities) -> Result<(), Malformed> {
    while !value.is_empty() {
        let (afi, safi, mode) = (value.u16("AFI")?, value.u8("SAFI")?, value.u8("send or receive")?);
        let mode = match mode {
            1 => AddPath::Receive,
            2 => AddPath::Send,
            3 => AddPath::Both,
            // RFC 7911 section 4: ignored.
            _ => continue,
        };
        if let Some(family) = Family::from_numbers(afi, safi) {
            into.add_path.retain(|(known, _)| *known != family);
            into.add_path.push((family, mode));
        }
    }
    Ok(())
}

/// Host and domain name, each with its length in front (draft-walton-bgp-hostname-capability).
fn host_name(mut value: Octets<'_>) -> Result<Option<String>, Malformed> {
    let length = value.u8("host name's length")?;
    let host = plain(value.take(length.into(), "host name")?);
    let length = value.u8("domain name's length").unwrap_or(0);
    let domain = plain(value.take(length.into(), "domain name")?);
    let name = if domain.is_empty() { host } else { format!("{host}.{domain}") };
    let name: String = name.chars().take(NAME).collect();
    Ok((!name.is_empty()).then_some(name))
}

/// Octets as text without control characters.
pub(super) fn plain(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).chars().filter(|c| !c.is_control()).collect()
}
