//! Where the router sees machines: its neighbours and its DHCP leases, by MAC address.

use std::net::IpAddr;

/// What a look at the router brought, or why it brought nothing.
pub type Look<T> = Result<Vec<T>, String>;

/// A MAC address in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// The MAC address, in lower case with colons.
    pub mac: String,
    /// Where.
    pub place: Place,
    /// How much it is worth.
    pub worth: Worth,
}

/// Where something is seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// As a neighbour on an interface of the router.
    Interface(String),
    /// With a lease of this address.
    Lease(IpAddr),
}

/// How much a sighting is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// It was there once: the kernel keeps an entry, and the DHCP server a lease, long after the machine has left.
    Remembered,
    /// It has answered just now.
    Answers,
}
