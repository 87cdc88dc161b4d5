//! Which flows a client wants.

use std::net::IpAddr;

use ipnet::IpNet;
use tonic::Status;

use crate::export::proto::FlowFilter;
use crate::model::address::{Direction, IfIndex, Protocol};
use crate::model::flow::Flow;
use crate::state::Snapshot;

/// A filter that can be asked; what is `None` matches all.
#[derive(Default)]
pub(super) struct Filter {
    network: Option<IpNet>,
    port: Option<u16>,
    protocol: Option<Protocol>,
    vip: Option<IpAddr>,
    interface: Option<IfIndex>,
    direction: Option<Direction>,
    vlan: Option<Option<u16>>,
    class: Option<String>,
}

impl Filter {
    /// Reads a client's filter.
    pub(super) fn parse(filter: FlowFilter, snapshot: &Snapshot) -> Result<Self, Status> {
        Ok(Self {
            network: filter.address.as_deref().map(network).transpose()?,
            port: filter.port.map(port).transpose()?,
            protocol: filter.protocol.as_deref().map(protocol).transpose()?,
            vip: filter.vip.as_deref().map(vip).transpose()?,
            interface: filter.interface.as_deref().map(|name| interface(name, snapshot)).transpose()?,
            direction: filter.direction.as_deref().map(direction).transpose()?,
            vlan: filter.vlan.map(vlan).transpose()?,
            class: filter.class,
        })
    }

    /// Whether a flow is wanted.
    pub(super) fn matches(&self, flow: &Flow) -> bool {
        let ends = [flow.source, flow.destination];
        self.network.is_none_or(|network| ends.iter().any(|end| network.contains(end)))
            && self.port.is_none_or(|port| [flow.source_port, flow.destination_port].contains(&port))
            && self.protocol.is_none_or(|protocol| flow.protocol == protocol)
            && self.vip.is_none_or(|vip| ends.contains(&vip))
            && self.interface.is_none_or(|interface| flow.interface == interface)
            && self.direction.is_none_or(|direction| flow.direction == direction)
            && self.vlan.is_none_or(|vlan| flow.vlan == vlan)
            && self.class.as_ref().is_none_or(|class| *flow.class == **class)
    }
}

fn bad(field: &str, value: impl std::fmt::Display, way_out: &str) -> Status {
    Status::invalid_argument(format!("filter {field} is {value}; {way_out}"))
}

fn network(text: &str) -> Result<IpNet, Status> {
    let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    parsed.map_err(|_| {
        bad("address", text, "write an address such as 10.10.50.10, or a prefix such as fd10::/64")
    })
}

fn vip(text: &str) -> Result<IpAddr, Status> {
    text.parse().map_err(|_| bad("vip", text, "write an address such as 10.10.50.10"))
}

fn port(number: u32) -> Result<u16, Status> {
    u16::try_from(number).map_err(|_| bad("port", number, "choose 0 to 65535"))
}

fn vlan(number: u32) -> Result<Option<u16>, Status> {
    match u16::try_from(number) {
        Ok(0) => Ok(None),
        Ok(number @ 1..=4094) => Ok(Some(number)),
        _ => Err(bad("vlan", number, "choose 1 to 4094, or 0 for untagged")),
    }
}

fn direction(text: &str) -> Result<Direction, Status> {
    let known = Direction::ALL.into_iter().find(|direction| direction.as_str() == text);
    known.ok_or_else(|| bad("direction", text, "choose ingress or egress"))
}

fn protocol(text: &str) -> Result<Protocol, Status> {
    let named =
        (0..=u8::MAX).map(Protocol).find(|protocol| protocol.to_string() == text.to_ascii_lowercase());
    let protocol = named.or_else(|| text.parse().ok().map(Protocol));
    protocol.ok_or_else(|| bad("protocol", text, "write a name such as tcp, or an IANA number from 0 to 255"))
}

fn interface(name: &str, snapshot: &Snapshot) -> Result<IfIndex, Status> {
    let link = snapshot.links.values().find(|link| link.name == name);
    link.map(|link| link.index)
        .ok_or_else(|| bad("interface", name, "no such interface on this node; see weirctl links"))
}
