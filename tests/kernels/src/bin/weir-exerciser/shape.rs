//! A node with one uplink of some kind, and a peer at its other end.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_netns::namespace::succeed;
use weir_netns::topology::{VIP4, VIP6};
use weir_netns::wait::until;
use weir_netns::{Host, Namespace};

/// For what a bond does within a few of its looks at its links.
const LIMIT: Duration = Duration::from_secs(20);

/// The port to which datagrams go.
pub(crate) const PORT: u16 = 5000;

/// How an uplink is made: commands for each side, `eth0` and `eth1` are two links that join them.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    node: &'static str,
    peer: &'static str,
    /// The device that carries addresses and routes.
    pub(crate) uplink: &'static str,
    /// All devices that are to be measured, the uplink and what lies below it.
    pub(crate) watched: &'static [&'static str],
    /// The VLAN under which the ledger of virtual addresses is to have the packets.
    pub(crate) vlan: &'static str,
}

const BOND: &str = "link add bond0 type bond mode active-backup miimon 100
    link set eth0 down
    link set eth1 down
    link set eth0 master bond0
    link set eth1 master bond0
    link set eth0 up
    link set eth1 up
    link set bond0 type bond primary eth0
    link set bond0 up";

pub(crate) const SHAPES: [Shape; 5] = [
    Shape { name: "veth", node: "", peer: "", uplink: "eth0", watched: &["eth0"], vlan: "none" },
    Shape {
        name: "vlan",
        node: "link add link eth0 name eth0.40 type vlan id 40\nlink set eth0.40 up",
        peer: "link add link eth0 name eth0.40 type vlan id 40\nlink set eth0.40 up",
        uplink: "eth0.40",
        watched: &["eth0", "eth0.40"],
        vlan: "40",
    },
    Shape { name: "bond", node: BOND, peer: BOND, uplink: "bond0", watched: &["bond0"], vlan: "none" },
    Shape {
        name: "vlan-on-bond",
        node: VLAN_ON_BOND,
        peer: VLAN_ON_BOND,
        uplink: "bond0.40",
        watched: &["bond0", "bond0.40"],
        vlan: "40",
    },
    Shape {
        name: "bridge",
        node: "link add br0 type bridge\nlink set eth0 master br0\nlink set br0 up",
        peer: "link add br0 type bridge\nlink set eth0 master br0\nlink set br0 up",
        uplink: "br0",
        watched: &["br0"],
        vlan: "none",
    },
];

const VLAN_ON_BOND: &str = "link add bond0 type bond mode active-backup miimon 100
    link set eth0 down
    link set eth1 down
    link set eth0 master bond0
    link set eth1 master bond0
    link set eth0 up
    link set eth1 up
    link set bond0 type bond primary eth0
    link set bond0 up
    link add link bond0 name bond0.40 type vlan id 40
    link set bond0.40 up";

/// A shape that was built.
pub(crate) struct Built {
    pub(crate) node: Host,
    pub(crate) peer: Host,
}

impl Shape {
    /// Builds both sides. Neighbours are written down, so that nothing but datagrams passes.
    pub(crate) fn build(&self) -> Result<Built> {
        let (node, peer) = (Host::new("node")?, Host::new("peer")?);
        for link in ["eth0", "eth1"] {
            node.veth(link, &peer, link)?;
        }
        node.ip_all(self.node).context("on the node")?;
        peer.ip_all(self.peer).context("on the peer")?;
        for (host, last) in [(&peer, 1), (&node, 2)] {
            host.address(self.uplink, &format!("10.0.0.{last}/24"))?;
            host.address(self.uplink, &format!("fd00::{last}/64"))?;
        }
        node.address("lo", &format!("{VIP4}/32"))?;
        node.address("lo", &format!("{VIP6}/128"))?;
        self.neighbour(&peer, &node, 2)?;
        self.neighbour(&node, &peer, 1)?;
        peer.ip_all(&format!("route add {VIP4} via 10.0.0.2\n-6 route add {VIP6} via fd00::2"))?;
        node.ip_all("route add default via 10.0.0.1\n-6 route add default via fd00::1")?;
        for host in [&node, &peer] {
            self.settle(host)?;
        }
        Ok(Built { node, peer })
    }

    /// While the other side was built, a bond may have gone over to its second link: both must use the same one.
    fn settle(&self, host: &Host) -> Result<()> {
        if !self.uplink.starts_with("bond") {
            return Ok(());
        }
        until("the bond uses its first link", LIMIT, || {
            let mut show = Command::new("ip");
            show.args(["-n", host.name(), "-d", "link", "show", "bond0"]);
            Ok(String::from_utf8_lossy(&succeed(&mut show)?.stdout).contains("active_slave eth0"))
        })
        .map(drop)
    }

    fn neighbour(&self, of: &Host, other: &Host, last: u8) -> Result<()> {
        let [a, b, c, d, e, f] = other.mac(self.uplink)?;
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        for address in [format!("10.0.0.{last}"), format!("fd00::{last}")] {
            of.ip(&format!("neigh replace {address} lladdr {mac} dev {} nud permanent", self.uplink))?;
        }
        Ok(())
    }
}

impl Built {
    /// So many datagrams from the peer to each virtual address, where nobody listens.
    pub(crate) fn send(&self, datagrams: usize) -> Result<()> {
        send(&self.peer, VIP4, datagrams)?;
        send(&self.peer, VIP6, datagrams)
    }
}

fn send(from: &Namespace, to: &str, datagrams: usize) -> Result<()> {
    from.run(|| {
        let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any)?;
        // Not connected: refusals of the other side are nobody's to read.
        (0..datagrams).try_for_each(|_| socket.send_to(&[7; 64], (to, PORT)).map(drop))?;
        Ok(())
    })
    .with_context(|| format!("cannot send to {to}"))
}
