//! Whom to have sessions with, and how: `ADDRESS[,tx=300ms,rx=300ms,mult=3][,multihop][,passive][,interface=NAME]...`.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;

use super::{Micros, TTL};

/// A peer, or peers, as given on the command line or in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PeerConfig {
    /// Who.
    pub address: PeerAddress,
    /// Over which interface alone; link-local addresses need one.
    pub interface: Option<String>,
    /// How many hops away.
    pub hops: Hops,
    /// Who speaks first.
    pub role: Role,
    /// How fast.
    pub timing: Timing,
    /// The fastest rate at which the peer's echoes are sent back; none are without it.
    pub echo: Option<Micros>,
    /// The node's own address; the kernel chooses one without it.
    pub source: Option<IpAddr>,
    /// Whether its owner takes the session away.
    pub admin_down: AdminDown,
}

/// One peer, or all of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerAddress {
    /// One address.
    One(IpAddr),
    /// Whoever of a prefix asks for a session.
    Any(IpNet),
}

/// How many hops away a peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hops {
    /// On the link (RFC 5881): nothing else is believed.
    Single,
    /// Behind routers (RFC 5883), at least with this time to live left.
    Multi {
        /// What must be left of 255.
        min_ttl: u8,
    },
}

/// Who speaks first (RFC 5880, 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This end asks for a session.
    Active,
    /// This end waits until it is asked.
    Passive,
}

/// Whether a session is taken away by its owner. Routers with FRR before 10.7 end BGP when they are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminDown {
    /// It is wanted.
    #[default]
    No,
    /// It is told to the peer once the peer is drained.
    WhenDrained,
    /// It is told to the peer now: its owner has drained it, or takes the loss.
    Now,
}

/// How fast packets come and go, and how many may go missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// This end sends no faster.
    pub tx: Micros,
    /// This end wants packets no faster.
    pub rx: Micros,
    /// The peer takes this end for gone after so many of its intervals.
    pub multiplier: NonZeroU8,
}

impl Default for Timing {
    fn default() -> Self {
        Self { tx: Micros(300_000), rx: Micros(300_000), multiplier: NonZeroU8::MIN.saturating_add(2) }
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whom to have sessions with; none means that BFD is off.
    pub peers: Vec<PeerConfig>,
    /// For how long an agent that ends in order asks its peers to wait for the next one; zero for not at all.
    pub handover: Duration,
    /// Whether a failure that the agent measures is told to the peers.
    pub health: Health,
}

/// Whether the node's own measurements take sessions down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// They do not.
    #[default]
    Ignore,
    /// Sessions are Down while the node's gateways are silent or its uplinks have no carrier.
    Gateways,
}

/// The text names no peer.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("BFD peer {text:?}: {why}")]
pub struct BadPeer {
    text: String,
    why: String,
}

impl TryFrom<String> for PeerConfig {
    type Error = BadPeer;

    fn try_from(text: String) -> Result<Self, BadPeer> {
        text.parse()
    }
}

impl FromStr for PeerConfig {
    type Err = BadPeer;

    fn from_str(text: &str) -> Result<Self, BadPeer> {
        parse(text).map_err(|why| BadPeer { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<PeerConfig, String> {
    let mut words = text.split(',').map(str::trim);
    let (address, scope) = address(words.next().unwrap_or_default())?;
    let mut peer = PeerConfig {
        address,
        interface: scope,
        hops: Hops::Single,
        role: Role::Active,
        timing: Timing::default(),
        echo: None,
        source: None,
        admin_down: AdminDown::No,
    };
    let mut given: Vec<&str> = Vec::new();
    let mut min_ttl = None;
    for word in words {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        if given.contains(&name) {
            return Err(format!("{name} is given twice"));
        }
        given.push(name);
        match (name, value) {
            ("tx", Some(value)) => peer.timing.tx = interval(name, value)?,
            ("rx", Some(value)) => peer.timing.rx = interval(name, value)?,
            ("mult", Some(value)) => {
                let wrong = || format!("mult={value} is no number from 1 to 255");
                peer.timing.multiplier = value.parse().map_err(|_| wrong())?;
            }
            ("multihop", None) => peer.hops = Hops::Multi { min_ttl: 1 },
            ("min-ttl", Some(value)) => {
                let number: NonZeroU8 =
                    value.parse().map_err(|_| format!("min-ttl={value} is no number from 1 to 255"))?;
                min_ttl = Some(number.get());
            }
            ("passive", None) => peer.role = Role::Passive,
            ("interface", Some(value)) if !value.is_empty() => peer.interface = Some(value.to_owned()),
            ("echo", Some(value)) => peer.echo = Some(interval(name, value)?),
            ("source", Some(value)) => {
                let source = value.parse::<IpAddr>().map_err(|_| format!("source={value} is no address"))?;
                peer.source = Some(source.to_canonical());
            }
            ("admin-down", None) => peer.admin_down = AdminDown::WhenDrained,
            ("admin-down", Some("now")) => peer.admin_down = AdminDown::Now,
            _ => return Err(format!("{word:?} is unknown; {KNOWN}")),
        }
    }
    if let Some(least) = min_ttl {
        match &mut peer.hops {
            Hops::Multi { min_ttl } => *min_ttl = least,
            Hops::Single => return Err(format!("min-ttl needs multihop: one hop away it is always {TTL}")),
        }
    }
    check(peer)
}

const KNOWN: &str = "write ADDRESS or PREFIX, then any of tx=300ms rx=300ms mult=3 passive interface=NAME multihop \
    min-ttl=N source=ADDRESS echo=50ms admin-down admin-down=now";

fn check(peer: PeerConfig) -> Result<PeerConfig, String> {
    let multihop = matches!(peer.hops, Hops::Multi { .. });
    let link_local = match peer.address {
        PeerAddress::One(IpAddr::V6(address)) => address.is_unicast_link_local(),
        PeerAddress::Any(IpNet::V6(prefix)) => prefix.addr().is_unicast_link_local(),
        PeerAddress::One(IpAddr::V4(_)) | PeerAddress::Any(IpNet::V4(_)) => false,
    };
    let wrong = match (&peer.address, &peer.interface) {
        (PeerAddress::Any(_), _) if peer.role == Role::Active => {
            "a prefix needs passive: nobody can ask all of it"
        }
        (PeerAddress::Any(_), _) if peer.admin_down != AdminDown::No => {
            "admin-down is of one peer, not of a prefix"
        }
        (PeerAddress::One(address), _) if address.is_unspecified() || address.is_multicast() => {
            "no host has this address"
        }
        (_, Some(_)) if multihop => "multihop takes no interface: the routes choose it",
        (_, None) if link_local => "a link-local address needs its interface, as in fe80::1,interface=eth0",
        _ if link_local && multihop => "a link-local address is never more than one hop away",
        _ if multihop && peer.echo.is_some() => "echo goes with single hop only (RFC 5883, 4)",
        _ if peer.source.is_some_and(|source| source.is_ipv4() != peer.address.is_ipv4()) => {
            "source is of the other address family"
        }
        _ => return Ok(peer),
    };
    Err(wrong.to_owned())
}

fn address(word: &str) -> Result<(PeerAddress, Option<String>), String> {
    if word.contains('/') {
        let prefix: IpNet = word.parse().map_err(|_| format!("{word:?} is no prefix; {KNOWN}"))?;
        return Ok((PeerAddress::Any(prefix.trunc()), None));
    }
    let (word, scope) =
        word.split_once('%').map_or((word, None), |(word, scope)| (word, Some(scope.to_owned())));
    let address: IpAddr = word.parse().map_err(|_| format!("{word:?} is no address; {KNOWN}"))?;
    Ok((PeerAddress::One(address.to_canonical()), scope))
}

/// 10 ms to 60 s, as FRR and VyOS take it.
fn interval(name: &str, value: &str) -> Result<Micros, String> {
    let (digits, unit) = match (value.strip_suffix("ms"), value.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => return Err(format!("{name}={value} has no unit; write it as 300ms or 1s")),
    };
    let milliseconds = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    match milliseconds {
        Some(milliseconds @ 10..=60_000) => Ok(Micros(milliseconds * 1000)),
        _ => Err(format!("{name}={value} is not from 10ms to 60s")),
    }
}

impl PeerAddress {
    /// Whether an address is meant.
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            PeerAddress::One(one) => *one == address,
            PeerAddress::Any(prefix) => prefix.contains(&address),
        }
    }

    /// Whether it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        match self {
            PeerAddress::One(one) => one.is_ipv4(),
            PeerAddress::Any(prefix) => prefix.addr().is_ipv4(),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::One(address) => address.fmt(f),
            PeerAddress::Any(prefix) => prefix.fmt(f),
        }
    }
}

impl Settings {
    /// How long `handover` is when nobody says otherwise.
    pub const HANDOVER: Duration = Duration::from_secs(15);

    /// Joins what was given; a peer that is given twice is an error, because only one session can be had with it.
    ///
    /// # Errors
    /// When two entries mean the same peer.
    pub fn new(peers: Vec<PeerConfig>, handover: Duration, health: Health) -> Result<Self, BadPeer> {
        for (index, peer) in peers.iter().enumerate() {
            let same =
                |other: &PeerConfig| other.address == peer.address && other.interface == peer.interface;
            if peers[..index].iter().any(same) {
                return Err(BadPeer { text: peer.address.to_string(), why: "is given twice".to_owned() });
            }
        }
        Ok(Self { peers, handover, health })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(text: &str) -> PeerConfig {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn why(text: &str) -> String {
        text.parse::<PeerConfig>().unwrap_err().to_string()
    }

    #[test]
    fn a_bare_address_has_the_defaults() {
        let one = peer("10.10.30.1");
        assert_eq!(one.address, PeerAddress::One("10.10.30.1".parse().unwrap()));
        assert_eq!((one.timing.tx, one.timing.rx), (Micros(300_000), Micros(300_000)));
        assert_eq!((one.timing.multiplier.get(), one.hops, one.role), (3, Hops::Single, Role::Active));
        assert_eq!((one.echo, one.source, one.admin_down), (None, None, AdminDown::No));
    }

    #[test]
    fn every_option_is_read() {
        let one = peer(
            "10.0.0.1, tx=50ms,rx=1s,mult=5,passive,echo=20ms,source=10.0.0.2,admin-down=now,interface=eth0",
        );
        assert_eq!((one.timing.tx.0, one.timing.rx.0, one.timing.multiplier.get()), (50_000, 1_000_000, 5));
        assert_eq!(
            (one.role, one.echo, one.admin_down),
            (Role::Passive, Some(Micros(20_000)), AdminDown::Now)
        );
        assert_eq!((one.source, one.interface.as_deref()), ("10.0.0.2".parse().ok(), Some("eth0")));
        assert_eq!(peer("10.0.0.1,multihop,min-ttl=254").hops, Hops::Multi { min_ttl: 254 });
        assert_eq!(peer("fe80::1%eth0").interface.as_deref(), Some("eth0"));
        assert_eq!(peer("10.10.30.7/24,passive").address, PeerAddress::Any("10.10.30.0/24".parse().unwrap()));
        assert_eq!(peer("10.0.0.1,admin-down").admin_down, AdminDown::WhenDrained);
    }

    #[test]
    fn mistakes_name_the_peer_and_the_way_out() {
        for (text, words) in [
            ("router", "is no address"),
            ("10.0.0.0/33,passive", "is no prefix"),
            ("10.0.0.1,tx=300", "has no unit"),
            ("10.0.0.1,tx=5ms", "10ms to 60s"),
            ("10.0.0.1,rx=61s", "10ms to 60s"),
            ("10.0.0.1,tx=99999999999s", "10ms to 60s"),
            ("10.0.0.1,mult=0", "1 to 255"),
            ("10.0.0.1,mult=256", "1 to 255"),
            ("10.0.0.1,min-ttl=250", "needs multihop"),
            ("10.0.0.1,multihop,min-ttl=0", "1 to 255"),
            ("10.0.0.1,multihop,interface=eth0", "takes no interface"),
            ("10.0.0.1,multihop,echo=50ms", "single hop"),
            ("10.0.0.0/24", "needs passive"),
            ("10.0.0.0/24,passive,admin-down", "of one peer"),
            ("fe80::1", "needs its interface"),
            ("10.0.0.1,source=fd00::1", "other address family"),
            ("10.0.0.1,tx=1s,tx=2s", "twice"),
            ("10.0.0.1,fast", "unknown"),
            ("0.0.0.0", "no host"),
            ("", "is no address"),
        ] {
            let said = why(text);
            assert!(said.contains(words) && said.contains("BFD peer"), "{text}: {said}");
        }
        let twice = vec![peer("10.0.0.1"), peer("10.0.0.1,tx=1s")];
        assert!(Settings::new(twice, Duration::ZERO, Health::Ignore).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<PeerConfig>();
        }
    }
}
