//! Values that the router accepts: parsed once, normal in spelling, and without room for nonsense.

use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;

/// Why a value is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {wanted}")]
pub struct Invalid {
    value: String,
    wanted: &'static str,
}

/// A value that is not what is wanted there.
pub(super) fn not(value: &str, wanted: &'static str) -> Invalid {
    invalid(value, wanted)
}

fn invalid(value: impl fmt::Display, wanted: &'static str) -> Invalid {
    Invalid { value: value.to_string(), wanted }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty) in $range:expr, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// The plain number.
            pub fn number(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<$inner> for $name {
            type Error = Invalid;
            fn try_from(number: $inner) -> Result<Self, Invalid> {
                if $range.contains(&number) { Ok(Self(number)) } else { Err(invalid(number, $wanted)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// An IEEE 802.1Q VLAN id.
    VlanId(u16) in 1..=4094, "a VLAN id (1 to 4094)"
}
number! {
    /// An AS number that a speaker may have (RFC 6793, RFC 7300, RFC 7607).
    Asn(u32) in 1..=4_294_967_294, "an AS number (1 to 4294967294)"
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text! {
    /// A MAC address, lower case with colons.
    Mac
}
text! {
    /// A network interface of the router, such as `eth1` or `bond0.40`.
    Interface
}
text! {
    /// A host name of letters, digits, hyphens and dots (RFC 1123), lower case.
    HostName
}
text! {
    /// Text that a VyOS value can hold: no quotes and no control characters.
    PlainText
}

impl TryFrom<&str> for Mac {
    type Error = Invalid;
    fn try_from(text: &str) -> Result<Self, Invalid> {
        let octets: Vec<_> = text.trim().split([':', '-']).collect();
        let fine = octets.len() == 6
            && octets
                .iter()
                .all(|octet| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if fine {
            Ok(Self(octets.join(":").to_ascii_lowercase()))
        } else {
            Err(invalid(text, "a MAC address"))
        }
    }
}

impl Interface {
    /// The VLAN interface on top of this one.
    #[must_use]
    pub fn vif(&self, vlan: VlanId) -> Self {
        Self(format!("{}.{vlan}", self.0))
    }
}

/// The interface names that VyOS knows begin with one of these (interface-name constraint of 1.4 and 1.5).
const INTERFACE_KINDS: [&str; 15] = [
    "bond", "br", "dum", "en", "eth", "gnv", "lan", "lo", "ppp", "tun", "veth", "vti", "vtun", "vxlan", "wg",
];

impl TryFrom<&str> for Interface {
    type Error = Invalid;
    fn try_from(text: &str) -> Result<Self, Invalid> {
        let known = INTERFACE_KINDS.iter().any(|kind| {
            let rest = text.strip_prefix(kind);
            rest.is_some_and(|rest| {
                rest.is_empty() && *kind == "lo" || rest.bytes().any(|byte| byte.is_ascii_digit())
            })
        });
        let plain = text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        if known && plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid(text, "an interface name that VyOS knows"))
        }
    }
}

impl TryFrom<&str> for HostName {
    type Error = Invalid;
    fn try_from(text: &str) -> Result<Self, Invalid> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // An all-numeric name would read as an address.
        let fine = text.len() <= 253 && text.split('.').all(label) && text.parse::<Ipv4Addr>().is_err();
        if fine { Ok(Self(text.to_ascii_lowercase())) } else { Err(invalid(text, "a host name (RFC 1123)")) }
    }
}

impl TryFrom<&str> for PlainText {
    type Error = Invalid;
    fn try_from(text: &str) -> Result<Self, Invalid> {
        let fine = text.chars().count() <= 190
            && !text.is_empty()
            && text.chars().all(|c| c != '"' && c != '\'' && c != '\\' && !c.is_control());
        if fine {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid(
                text.escape_debug(),
                "plain text of at most 190 characters without quotes, backslashes or line breaks",
            ))
        }
    }
}

/// An IP address; IPv6 in any spelling.
pub(super) fn address(text: &str) -> Result<IpAddr, Invalid> {
    text.trim().parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| invalid(text, "an IP address"))
}

/// An IPv4 address.
pub(super) fn address4(text: &str) -> Result<Ipv4Addr, Invalid> {
    text.trim().parse().map_err(|_| invalid(text, "an IPv4 address"))
}

/// A prefix without host bits; IPv6 in any spelling.
pub(super) fn prefix(text: &str) -> Result<IpNet, Invalid> {
    let net: IpNet = text.trim().parse().map_err(|_| invalid(text, "a prefix such as 10.0.0.0/24"))?;
    if net == net.trunc() {
        Ok(net)
    } else {
        Err(invalid(text, "a prefix: it has bits set behind its length"))
    }
}

/// An IPv4 prefix without host bits.
pub(super) fn prefix4(text: &str) -> Result<Ipv4Net, Invalid> {
    match prefix(text)? {
        IpNet::V4(net) => Ok(net),
        IpNet::V6(_) => Err(invalid(text, "an IPv4 prefix")),
    }
}

/// An address, or a host name.
pub(super) fn host(text: &str) -> Result<String, Invalid> {
    match address(text) {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => HostName::try_from(text).map(|name| name.to_string()),
    }
}

/// `a`, or `a-b`, as a closed range.
pub(super) fn numbers(text: &str) -> Result<std::ops::RangeInclusive<u32>, Invalid> {
    let wanted = "a number or a range such as 100-110";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| part.trim().parse::<u32>().map_err(|_| invalid(text, wanted));
    let range = number(first)?..=number(last)?;
    if range.is_empty() { Err(invalid(text, wanted)) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_become_one() {
        assert_eq!(&*Mac::try_from("02-00-00-00-40-AB").unwrap(), "02:00:00:00:40:ab");
        assert_eq!(prefix("FD10:0010:0040:0::/64").unwrap().to_string(), "fd10:10:40::/64");
        assert_eq!(address("::ffff:10.0.0.1").unwrap().to_string(), "10.0.0.1");
        assert_eq!(&*HostName::try_from("Node-1.Lab").unwrap(), "node-1.lab");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(VlanId::try_from(0).is_err() && VlanId::try_from(4095).is_err());
        assert!(Asn::try_from(0).is_err());
        assert!(prefix("10.0.0.1/24").unwrap_err().to_string().contains("behind its length"));
        assert!(["a_b", "-a", "10.0.0.1", "", "a..b"].iter().all(|name| HostName::try_from(*name).is_err()));
        assert!(
            ["eth", "eth0;reboot", "swp1", "eth0.100000000000"]
                .iter()
                .all(|name| Interface::try_from(*name).is_err())
        );
        assert!(
            ["eth1", "bond0.40", "br0", "lo", "enp3s0"].iter().all(|name| Interface::try_from(*name).is_ok())
        );
        assert!(
            ["say \"hi\"", "it's", "two\nlines", "a\\b"]
                .iter()
                .all(|text| PlainText::try_from(*text).is_err())
        );
        assert!(numbers("7-3").is_err() && numbers("x").is_err());
    }
}
