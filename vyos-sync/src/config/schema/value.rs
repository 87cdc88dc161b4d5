//! The router's validators. What can only be judged on the router itself, such as a file's existence, passes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Judges a value by the validator of that name. The error is what the router's validator prints, maybe nothing.
pub fn judge(name: &str, arg: &str, value: &str) -> Result<(), String> {
    if let Some(base) = name.strip_suffix("-exclude") {
        return judge(base, arg, value.strip_prefix('!').unwrap_or(value));
    }
    match name {
        "numeric" => numeric(arg, value),
        "port-range" => {
            said(port_range(value), || format!("Error: {value} is not a valid port or port range"))
        }
        "port-multi" => {
            said(port_multi(value), || format!("Error: {value} is not a valid port, range or service"))
        }
        "fqdn" => said(fqdn(value), String::new),
        "mac-address" => said(mac(value), String::new),
        "ip-protocol" => said(protocol(value.strip_prefix('!').unwrap_or(value)), || {
            format!("Error: {value} is not a valid IP protocol")
        }),
        "vrf-name" => said(vrf_name(value), String::new),
        "as-number-list" => {
            said(value.split_whitespace().all(|n| n.parse::<u32>().is_ok_and(|n| n > 0)), String::new)
        }
        "base64" => said(
            value.len().is_multiple_of(4)
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)),
            String::new,
        ),
        "bgp-large-community" => said(parts(value, 3), String::new),
        "url" => said(value.contains("://"), String::new),
        "file-path" => said(interface_like(arg, value), || {
            format!("Incorrect path {}{value}: no such file or directory", directory(arg))
        }),
        _ => address(name, arg, value),
    }
}

fn address(name: &str, arg: &str, value: &str) -> Result<(), String> {
    let (good, what) = match name {
        "ip-address" => (value.parse::<IpAddr>().is_ok(), "IP address"),
        "ipv4-address" => (v4(value), "IPv4 address"),
        "ipv6-address" => (v6(value), "IPv6 address"),
        "ipv6-link-local" => {
            (value.parse::<Ipv6Addr>().is_ok_and(|a| a.is_unicast_link_local()), "IPv6 link-local address")
        }
        "ipv4-multicast" => {
            (value.parse::<Ipv4Addr>().is_ok_and(|a| a.is_multicast()), "IPv4 multicast address")
        }
        "ipv6-multicast" => {
            (value.parse::<Ipv6Addr>().is_ok_and(|a| a.is_multicast()), "IPv6 multicast address")
        }
        "ip-prefix" => (prefix4(value) || prefix6(value), "IP prefix"),
        "ipv4-prefix" => (prefix4(value), "IPv4 prefix"),
        "ipv6-prefix" => (prefix6(value), "IPv6 prefix"),
        "ip-host" => (host4(value) || host6(value), "IP host"),
        "ipv4-host" => (host4(value), "IPv4 host"),
        "ipv6-host" => (host6(value), "IPv6 host"),
        "ip-cidr" => (value.parse::<IpNet>().is_ok(), "IP CIDR"),
        "ipv4" => (v4(value) || value.parse::<Ipv4Net>().is_ok(), "IPv4 address or prefix"),
        "ipv6" => (v6(value) || value.parse::<Ipv6Net>().is_ok(), "IPv6 address or prefix"),
        "ipv6-eui64-prefix" => {
            (value.parse::<Ipv6Net>().is_ok_and(|net| net.prefix_len() == 64), "EUI-64 prefix")
        }
        "ipv4-range" => (range::<Ipv4Addr>(value), "IPv4 address range"),
        "ipv6-range" => (range::<Ipv6Addr>(value), "IPv6 address range"),
        "ipv4-range-mask" => (range::<Ipv4Addr>(value) && same_24(arg, value), "IPv4 address range"),
        _ => return Ok(()),
    };
    said(good, || format!("Error: {value} is not a valid {what}"))
}

fn said(good: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(text()) }
}

fn numeric(arg: &str, value: &str) -> Result<(), String> {
    let words: Vec<&str> = arg.split_whitespace().collect();
    let has = |flag: &str| words.contains(&flag);
    let ranges: Vec<(f64, f64)> =
        words.windows(2).filter(|pair| pair[0] == "--range").filter_map(|pair| bounds(pair[1])).collect();
    let digits = value.strip_prefix(['+', '-']).filter(|_| has("--relative")).unwrap_or(value);
    let parts: Vec<&str> = match digits.split_once('-') {
        Some((low, high)) if has("--allow-range") => vec![low, high],
        _ => vec![digits],
    };
    let numbers: Option<Vec<f64>> = parts.iter().map(|part| number(part, has("--float"))).collect();
    let Some(numbers) = numbers else { return Err(format!("{value} is not a number")) };
    if has("--positive") && numbers.iter().any(|n| *n <= 0.0) {
        return Err("Number should be positive".to_owned());
    }
    let inside = |n: &f64| ranges.is_empty() || ranges.iter().any(|(low, high)| low <= n && n <= high);
    let ordered = numbers.windows(2).all(|pair| pair[0] <= pair[1]);
    said(ordered && numbers.iter().all(inside), || "Number is not in any of allowed ranges".to_owned())
}

fn bounds(range: &str) -> Option<(f64, f64)> {
    let at = range.get(1..)?.find('-')? + 1;
    Some((range[..at].parse().ok()?, range[at + 1..].parse().ok()?))
}

fn number(text: &str, float: bool) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || (float && b == b'.'));
    plain.then(|| text.parse().ok()).flatten()
}

/// A port or a range of ports.
fn port_range(value: &str) -> bool {
    let port =
        |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    match value.split_once('-') {
        Some((low, high)) => port(low).zip(port(high)).is_some_and(|(low, high)| low <= high),
        None => port(value).is_some(),
    }
}

/// Ports, ranges and names of services, with commas between; `!` in front negates.
fn port_multi(value: &str) -> bool {
    let service = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    value.strip_prefix('!').unwrap_or(value).split(',').all(|part| port_range(part) || service(part))
}

/// Labels of letters, digits and hyphens, the whole not longer than 253 (RFC 1123 section 2.1).
fn fqdn(value: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    value.len() <= 253 && value.strip_suffix('.').unwrap_or(value).split('.').all(label)
}

fn mac(value: &str) -> bool {
    let octets: Vec<_> = value.split(':').collect();
    octets.len() == 6 && octets.iter().all(|o| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn protocol(value: &str) -> bool {
    let name = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
    !value.is_empty() && (value.parse::<u8>().is_ok() || (name && !value.bytes().all(|b| b.is_ascii_digit())))
}

fn vrf_name(value: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let reserved =
        ["add", "all", "broadcast", "default", "delete", "dev", "get", "inet", "mtu", "link", "type", "vrf"];
    (1..=15).contains(&value.len()) && value.bytes().all(good) && !reserved.contains(&value)
}

fn parts(value: &str, count: usize) -> bool {
    value.split(':').count() == count && value.split(':').all(|n| n.parse::<u32>().is_ok())
}

/// An interface's name may stand where it does not exist yet; what is clearly no name does not pass.
fn interface_like(arg: &str, value: &str) -> bool {
    let name = value.len() <= 15
        && value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.ends_with(|c: char| c.is_ascii_digit())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    !arg.contains("/sys/class/net") || name
}

fn directory(arg: &str) -> &'static str {
    if arg.contains("/sys/class/net") { "/sys/class/net/" } else { "" }
}

fn v4(value: &str) -> bool {
    value.parse::<Ipv4Addr>().is_ok()
}

fn v6(value: &str) -> bool {
    value.parse::<Ipv6Addr>().is_ok()
}

/// A network: no bit of the host part set.
fn prefix4(value: &str) -> bool {
    value.parse::<Ipv4Net>().is_ok_and(|net| net.trunc() == net)
}

fn prefix6(value: &str) -> bool {
    value.parse::<Ipv6Net>().is_ok_and(|net| net.trunc() == net)
}

/// An address with its length, which is not that of the network itself.
fn host4(value: &str) -> bool {
    value.parse::<Ipv4Net>().is_ok_and(|net| net.prefix_len() >= 31 || net.trunc() != net)
}

fn host6(value: &str) -> bool {
    value.parse::<Ipv6Net>().is_ok_and(|net| net.prefix_len() >= 127 || net.trunc() != net)
}

fn range<A: std::str::FromStr + PartialOrd>(value: &str) -> bool {
    let ends =
        value.split_once('-').and_then(|(low, high)| Some((low.parse::<A>().ok()?, high.parse::<A>().ok()?)));
    ends.is_some_and(|(low, high)| low <= high)
}

fn same_24(arg: &str, value: &str) -> bool {
    let Some((low, high)) = value.split_once('-') else { return false };
    let net = |text: &str| text.parse::<Ipv4Addr>().map(|a| u32::from(a) >> 8).ok();
    !arg.contains("24") || net(low) == net(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_as_the_router_does() {
        let good = [
            ("numeric", "--range 1-4094", "100"),
            ("numeric", "--range -10-10", "-3"),
            ("numeric", "--range 1-9 --range 20-30", "25"),
            ("numeric", "--allow-range --range 0-10", "2-7"),
            ("ip-host", "", "10.0.0.1/24"),
            ("ip-host", "", "2001:db8::1/64"),
            ("ipv4-prefix", "", "10.0.0.0/24"),
            ("ipv4-prefix-exclude", "", "!10.0.0.0/24"),
            ("ipv4-range", "", "10.0.0.1-10.0.0.9"),
            ("fqdn", "", "node-a.lab.example"),
            ("mac-address", "", "52:54:00:00:00:0A"),
            ("port-multi", "", "80,443,8000-8080,https"),
            ("script", "--anything", "x"),
        ];
        for (name, arg, value) in good {
            assert_eq!(judge(name, arg, value), Ok(()), "{name} {value}");
        }
        let bad = [
            ("numeric", "--range 1-4094", "0"),
            ("numeric", "", "1e3"),
            ("ip-host", "", "10.91.0.0/24"),
            ("ip-host", "", "10.91.0.1"),
            ("ipv4-prefix", "", "10.0.0.1/24"),
            ("ipv4-range", "", "10.0.0.9-10.0.0.1"),
            ("fqdn", "", "node_a"),
            ("mac-address", "", "52-54-00-00-00-0A"),
            ("port-range", "", "0"),
            ("port-range", "", "9-1"),
        ];
        for (name, arg, value) in bad {
            assert!(judge(name, arg, value).is_err(), "{name} {value}");
        }
    }
}
