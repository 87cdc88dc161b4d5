//! What a network is.

use crate::crd::{self, DnsForwarding, ParentKind, V6Addressing};
use crate::inputs::ObjectId;
use crate::intent::dhcp::{Dhcp4, Dhcp6};
use crate::intent::subnet::Subnet;
use crate::intent::values::{Interface, PlainText, VlanId};
use crate::plan::Owner;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// One VLAN of the router.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The object it comes from.
    pub object: ObjectId,
    /// Whose configuration it is.
    pub owner: Owner,
    /// The VLAN.
    pub vlan: VlanId,
    /// The interface that carries it.
    pub parent: Parent,
    /// A bridge that the VLAN interface is a member of, and that has the addresses.
    pub bridge: Option<Interface>,
    /// MTU in bytes.
    pub mtu: Option<u16>,
    /// Words for people.
    pub description: Option<PlainText>,
    /// Its subnets, IPv4 first.
    pub subnets: Vec<Subnet>,
    /// DHCP for IPv4.
    pub dhcp: Option<Dhcp4>,
    /// DHCP for IPv6.
    pub dhcp6: Option<Dhcp6>,
    /// Router advertisements.
    pub advertisement: Option<Advertisement>,
    /// Source NAT.
    pub snat: Option<SourceNat>,
    /// Source NAT for IPv6.
    pub nat66: Option<SourceNat66>,
    /// One-to-one NAT.
    pub one_to_one: Vec<OneToOne>,
    /// Whether the router answers DNS here.
    pub dns: DnsForwarding,
    /// Which machines get a reservation.
    pub reservations: crd::Reservations,
    /// The Harvester network that it is.
    pub attachment: Option<ObjectId>,
}

/// The interface that carries a VLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its sort.
    pub kind: ParentKind,
    /// Its name.
    pub name: Interface,
    /// Members of a VLAN-aware bridge on which the VLAN is allowed.
    pub members: Vec<Interface>,
}

/// Router advertisements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// How hosts get their addresses.
    pub addressing: V6Addressing,
    /// Longest time between advertisements, in seconds.
    pub interval: Option<u16>,
    /// DNS servers.
    pub name_servers: Vec<Ipv6Addr>,
}

/// Source NAT of the IPv4 subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceNat {
    /// Where the traffic leaves.
    pub outbound: Interface,
    /// Its new address; `None` is the interface's own.
    pub address: Option<Ipv4Addr>,
    /// Destinations that are left alone.
    pub exclude: Vec<Ipv4Net>,
}

/// Source NAT of the IPv6 subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceNat66 {
    /// Where the traffic leaves.
    pub outbound: Interface,
    /// The new prefix; `None` is the interface's own address.
    pub prefix: Option<Ipv6Net>,
}

/// One outside address for one inside address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneToOne {
    /// Outside.
    pub external: Ipv4Addr,
    /// Inside.
    pub internal: Ipv4Addr,
    /// Where the outside traffic comes in.
    pub inbound: Interface,
}

impl Network {
    /// The interface that has the addresses.
    pub fn interface(&self) -> Interface {
        self.bridge.clone().unwrap_or_else(|| self.parent.name.vif(self.vlan))
    }

    /// Its IPv4 prefixes.
    pub fn prefixes4(&self) -> impl Iterator<Item = Ipv4Net> {
        self.subnets.iter().filter_map(|subnet| match subnet.prefix {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        })
    }

    /// Its IPv6 prefixes.
    pub fn prefixes6(&self) -> impl Iterator<Item = Ipv6Net> {
        self.subnets.iter().filter_map(|subnet| match subnet.prefix {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        })
    }
}
