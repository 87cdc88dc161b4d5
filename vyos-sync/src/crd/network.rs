//! `RouterNetwork`: one VLAN with its subnets and the services the router gives it.

use super::refs::{IntentStatus, NamespacedRef, RouterRef};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One VLAN on a router, with its subnets, DHCP, router advertisements and address translation.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "RouterNetwork",
    namespaced,
    status = "IntentStatus",
    category = "weir",
    doc = "One VLAN on a router, with its subnets, DHCP, router advertisements and address translation.",
    printcolumn(name = "Router", type_ = "string", json_path = ".spec.routerRef.name"),
    printcolumn(name = "VLAN", type_ = "integer", json_path = ".spec.vlan"),
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnets[0].cidr"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.vlan) || has(self.harvesterRef)").message("give vlan or harvesterRef"))]
pub struct RouterNetworkSpec {
    /// The router.
    pub router_ref: RouterRef,
    /// Words for people, shown in the router's descriptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 190))]
    pub description: Option<String>,
    /// The VLAN id. May be left to `harvesterRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// The router's interface that carries the VLAN.
    pub parent: Parent,
    /// A bridge that gets the VLAN interface as a member; the addresses then sit on the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The subnets of the VLAN, IPv4 and IPv6. May be left to `harvesterRef`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<NetworkSubnet>,
    /// MTU of the VLAN interface, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 16000))]
    pub mtu: Option<u16>,
    /// DHCP for IPv4: a server on the router, or a relay to another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("has(self.server) != has(self.relay)").message("give exactly one of server and relay"))]
    pub dhcp: Option<Dhcp<DhcpServer>>,
    /// DHCP for IPv6: a server on the router, or a relay to another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("has(self.server) != has(self.relay)").message("give exactly one of server and relay"))]
    pub dhcp6: Option<Dhcp<Dhcp6Server>>,
    /// Router advertisements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_advertisement: Option<RouterAdvertisement>,
    /// Source NAT of the IPv4 subnets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snat: Option<SourceNat>,
    /// Source NAT of the IPv6 subnets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat66: Option<Nat66>,
    /// One-to-one NAT between an outside and an inside IPv4 address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_to_one: Vec<NatOneToOne>,
    /// Whether the router answers DNS on the gateway addresses.
    #[serde(default)]
    pub dns: DnsForwarding,
    /// Which machines get a DHCP reservation in this network.
    #[serde(default)]
    pub reservations: Reservations,
    /// A Harvester NetworkAttachmentDefinition that gives the VLAN id, and in `manual` mode subnet and gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harvester_ref: Option<NamespacedRef>,
}

/// The router's interface that carries a VLAN.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.members) || self.kind == 'Bridge'").message("only a Bridge has members"))]
pub struct Parent {
    /// What sort of interface it is.
    #[serde(default)]
    pub kind: ParentKind,
    /// Its name, such as `eth1`, `bond0` or `br0`.
    pub name: String,
    /// For a VLAN-aware bridge: the members on which the VLAN is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
}

/// The sort of a parent interface.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum ParentKind {
    /// `interfaces ethernet`.
    #[default]
    Ethernet,
    /// `interfaces bonding`.
    Bonding,
    /// `interfaces bridge`, VLAN-aware.
    Bridge,
}

/// One subnet and the router's address in it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NetworkSubnet {
    /// The prefix, such as `10.10.40.0/24`.
    pub cidr: String,
    /// The router's address in it, by default the first host address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// A DHCP server on the router, or a relay: never both on one segment.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Dhcp<Server> {
    /// The router is the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// The router relays to another server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Relay>,
}

/// A DHCP relay.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Relay {
    /// Addresses of the servers.
    pub servers: Vec<String>,
    /// The interface towards the servers.
    pub upstream_interface: String,
}

/// A DHCPv4 server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DhcpServer {
    /// Addresses that are handed out; without a range only reservations are served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<AddressRange>,
    /// Single addresses that are never handed out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Lease time in seconds, by default one day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60))]
    pub lease_seconds: Option<u32>,
    /// DNS servers, by default the gateway where `dns` is `Forward`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<String>,
    /// Domain name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains to search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domain_search: Vec<String>,
    /// NTP servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp_servers: Vec<String>,
    /// Network boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pxe: Option<Pxe>,
    /// Fixed addresses by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<StaticReservation>,
}

/// A DHCPv6 server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Dhcp6Server {
    /// Addresses that are handed out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<AddressRange>,
    /// DNS servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<String>,
    /// Domains to search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domain_search: Vec<String>,
    /// Lease time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60))]
    pub lease_seconds: Option<u32>,
}

/// A closed range of addresses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// First address.
    pub start: String,
    /// Last address.
    pub end: String,
}

/// Network boot options.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Pxe {
    /// Boot file, such as `ipxe.efi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootfile_name: Option<String>,
    /// Server of the boot file, an address or a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootfile_server: Option<String>,
    /// TFTP server, an address or a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tftp_server: Option<String>,
}

/// A fixed address by hand.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StaticReservation {
    /// Host name.
    pub name: String,
    /// MAC address.
    pub mac: String,
    /// IPv4 address.
    pub ip: String,
}

/// Router advertisements on the VLAN (RFC 4861).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouterAdvertisement {
    /// How hosts get their addresses.
    #[serde(default)]
    pub addressing: V6Addressing,
    /// Longest time between advertisements, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4, max = 1800))]
    pub interval_seconds: Option<u16>,
    /// DNS servers (RDNSS).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<String>,
}

/// How hosts get their IPv6 addresses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum V6Addressing {
    /// By themselves (RFC 4862).
    #[default]
    Slaac,
    /// By themselves, other settings from DHCPv6 (the O flag).
    SlaacWithDhcp,
    /// From DHCPv6 only (the M flag; the prefix is not autonomous).
    Dhcp,
}

/// Source NAT of a network.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceNat {
    /// The interface that the traffic leaves by.
    pub outbound_interface: String,
    /// The address it gets, by default that of the interface (masquerade).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Destinations that are not translated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// Source NAT of a network's IPv6 subnets.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Nat66 {
    /// The interface that the traffic leaves by.
    pub outbound_interface: String,
    /// The prefix it gets (RFC 6296), by default the interface's address (masquerade).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// One outside address for one inside address.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NatOneToOne {
    /// The outside IPv4 address.
    pub external: String,
    /// The inside IPv4 address, in one of the network's subnets.
    pub internal: String,
    /// The interface that the outside traffic comes in by.
    pub inbound_interface: String,
}

/// Whether the router answers DNS on the gateway addresses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsForwarding {
    /// No.
    #[default]
    None,
    /// Yes, to the network's own subnets.
    Forward,
}

/// Which machines get a DHCP reservation.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Reservations {
    /// The sources that are looked at; empty means those that the Router follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<ReservationSource>,
    /// Labels that a machine must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// A source of reservations.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationSource {
    /// Tinkerbell's Hardware.
    Hardware,
    /// KubeVirt's VirtualMachineInstances.
    VirtualMachineInstance,
}
