//! DHCP relays: each network adds its interface and servers to lists that others use too.

use super::{Pen, at};
use crate::intent::{Dhcp4, Dhcp6, Network};

pub(super) fn render(pen: &mut Pen<'_>, network: &Network) {
    let (object, owner) = (&network.object, &network.owner);
    if let Some(Dhcp4::Relay(relay)) = &network.dhcp {
        let path = at("service", &["dhcp-relay"]);
        pen.member(object, owner, &path.join("listen-interface"), network.interface());
        pen.member(object, owner, &path.join("upstream-interface"), &relay.upstream);
        for server in &relay.servers {
            pen.member(object, owner, &path.join("server"), server);
        }
    }
    if let Some(Dhcp6::Relay(relay)) = &network.dhcp6 {
        let path = at("service", &["dhcpv6-relay"]);
        pen.flag(object, owner, &path.join("listen-interface").join(network.interface()));
        for server in &relay.servers {
            let upstream = path.join("upstream-interface").join(&relay.upstream).join("address");
            pen.member(object, owner, &upstream, server);
        }
    }
}
