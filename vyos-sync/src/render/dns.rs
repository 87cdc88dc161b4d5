//! DNS: the forwarder on the gateway addresses, and the names of published Services.

use super::{Block, Pen, at};
use crate::crd::DnsForwarding;
use crate::intent::{Network, Publication};

pub(super) fn forwarding(pen: &mut Pen<'_>, network: &Network) {
    if network.dns != DnsForwarding::Forward {
        return;
    }
    let path = at("service", &["dns", "forwarding"]);
    for subnet in &network.subnets {
        pen.member(&network.object, &network.owner, &path.join("listen-address"), subnet.gateway);
        pen.member(&network.object, &network.owner, &path.join("allow-from"), subnet.prefix);
    }
}

/// The forwarder answers from the router's host table.
pub(super) fn hosts(pen: &mut Pen<'_>, publication: &Publication) {
    for name in &publication.hostnames {
        let path = at("system", &["static-host-mapping", "host-name", name]);
        let block = Block::new().leaves("inet", &publication.vips);
        pen.subtree(&publication.object, &publication.owner, &path, block);
    }
}
