//! Words of a policy made values: prefixes, ports, protocols, flags, budgets.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};

use super::kind::{FlagsSpec, Per, RateSpec, Word};
use super::problem::Reason;
use super::rule::{Budget, Unit};

/// A prefix, and what was odd about how it was written.
pub(super) fn prefix(text: &str) -> Result<(IpNet, Option<Reason>), String> {
    let text = text.trim();
    let net: IpNet = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => {
                return Err(format!(
                    "{text:?} is neither a prefix nor an address; write 192.0.2.0/24 or 2001:db8::/32"
                ));
            }
        },
    };
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(net) = Ipv4Net::new(v4, v6.prefix_len() - 96)
    {
        return Ok((IpNet::V4(net.trunc()), Some(Reason::MappedAddress)));
    }
    let odd = (net.trunc() != net).then_some(Reason::HostBits);
    Ok((net.trunc(), odd))
}

pub(super) fn protocol(word: &Word) -> Result<u8, String> {
    let text = word.to_string();
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "sctp" => Ok(132),
        "icmp" => Ok(1),
        "icmpv6" => Ok(58),
        number => number.parse().map_err(|_| {
            format!("{text:?} is no protocol; write TCP, UDP, SCTP, ICMP, ICMPv6 or a number up to 255")
        }),
    }
}

pub(super) fn ports(word: &Word) -> Result<RangeInclusive<u16>, String> {
    let text = word.to_string();
    let bad = || format!("{text:?} is neither a port nor a range of ports; write 443 or 8000-8100");
    let (low, high) = text.split_once('-').unwrap_or((&text, &text));
    let low: u16 = low.trim().parse().map_err(|_| bad())?;
    let high: u16 = high.trim().parse().map_err(|_| bad())?;
    if low > high { Err(bad()) } else { Ok(low..=high) }
}

const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

pub(super) fn flags(spec: &FlagsSpec) -> Result<(u8, u8), String> {
    let bits = |names: &[String]| {
        names.iter().try_fold(0u8, |bits, name| -> Result<u8, String> {
            let bit = FLAGS.iter().position(|flag| flag.eq_ignore_ascii_case(name));
            Ok(bits
                | 1 << bit
                    .ok_or_else(|| format!("{name:?} is no TCP flag; there are {}", FLAGS.join(", ")))?)
        })
    };
    let (set, unset): (u8, u8) = (bits(&spec.set)?, bits(&spec.unset)?);
    if set & unset != 0 { Err("a flag cannot be set and unset".to_owned()) } else { Ok((set, unset)) }
}

/// The longest that a paced packet may wait, in ns: what `fq` calls its horizon is 10 s.
const LONGEST_WAIT: u64 = 2_000_000_000;

/// A budget. `pace` for times of departure instead of a limit.
pub(super) fn budget(spec: &RateSpec, pace: bool) -> Result<Budget, String> {
    let given =
        [(spec.packets, Unit::Packets), (spec.bytes, Unit::Bytes), (spec.connections, Unit::Connections)];
    let mut given = given.into_iter().filter_map(|(number, unit)| Some((number?, unit)));
    let (Some((number, unit)), None) = (given.next(), given.next()) else {
        return Err("give exactly one of packets, bytes and connections".to_owned());
    };
    let time: u64 = match spec.per {
        Per::Second => 1_000_000_000,
        Per::Minute => 60_000_000_000,
    };
    if number == 0 || number > 1_000_000_000_000 {
        return Err(format!("{number} is no rate; 1 to 1000000000000 are (use Deny for nothing at all)"));
    }
    let cost = (u128::from(time) << 16).div_ceil(u128::from(number)) as u64;
    let burst = spec
        .burst
        .unwrap_or_else(|| (number * 100_000_000 / time).max(if unit == Unit::Bytes { 65_536 } else { 1 }));
    let burst = u64::try_from((u128::from(burst) * u128::from(cost)) >> 16).unwrap_or(u64::MAX);
    if burst == 0 || burst > 86_400_000_000_000 {
        return Err("the burst is worth no time, or more than a day; lower it or raise the rate".to_owned());
    }
    if pace && unit == Unit::Connections {
        return Err("connections cannot be paced; give packets or bytes".to_owned());
    }
    if pace && spec.per_source.is_some() {
        return Err("packets are paced for the whole rule; leave perSource out".to_owned());
    }
    let per_source = match spec.per_source {
        Some(bits) if bits.ipv4 > 32 || bits.ipv6 > 128 => {
            return Err("IPv4 prefixes have up to 32 bits, IPv6 prefixes up to 128".to_owned());
        }
        bits => bits.map(|bits| (bits.ipv4, bits.ipv6)),
    };
    Ok(Budget {
        unit,
        cost,
        burst: if pace { LONGEST_WAIT } else { burst },
        per_source,
        per_destination: false,
    })
}

/// Whether a name fits a pattern in which `*` stands for anything.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => {
            let Some(tail) = name.strip_prefix(start) else { return false };
            (0..=tail.len()).any(|skip| tail.is_char_boundary(skip) && fits(rest, &tail[skip..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_prefixes_are_told() {
        let read = |text: &str| prefix(text).map(|(net, odd)| (net.to_string(), odd));
        assert_eq!(read("10.1.2.3/8"), Ok(("10.0.0.0/8".into(), Some(Reason::HostBits))));
        assert_eq!(read("::ffff:10.1.2.3"), Ok(("10.1.2.3/32".into(), Some(Reason::MappedAddress))));
        assert_eq!(read("::ffff:10.0.0.0/104"), Ok(("10.0.0.0/8".into(), Some(Reason::MappedAddress))));
        assert_eq!(read("2001:db8::/32"), Ok(("2001:db8::/32".into(), None)));
        assert!(read("10.0.0.0/33").unwrap_err().contains("10.0.0.0/33"));
    }

    #[test]
    fn patterns() {
        assert!(fits("eth0", "eth0") && fits("bond*", "bond0.50") && fits("*", "") && fits("e*0", "eth0"));
        assert!(!fits("eth0", "eth01") && !fits("bond*", "eth0") && !fits("e*1", "eth0"));
    }

    #[test]
    fn budgets_are_times() {
        let spec = RateSpec { packets: Some(1000), burst: Some(5), ..RateSpec::default() };
        let budget = budget(&spec, false).unwrap();
        assert_eq!((budget.cost >> 16, budget.burst), (1_000_000, 5_000_000));
        assert!(super::budget(&RateSpec::default(), false).is_err());
        assert!(super::budget(&RateSpec { packets: Some(0), ..RateSpec::default() }, false).is_err());
    }
}
