//! The lab: a client, a router, and three nodes that share virtual addresses.
//!
//! ```text
//! client eth0 10.10.20.10 -- eth0 10.10.20.1 [router] eth1 10.10.30.1 -- eth0 10.10.30.{10,11,12} node1..3
//! ```
//! and the same in IPv6: fd10:10:20::/64, fd10:10:30::/64. The router's eth1 is a bridge; node N's port on it is `nodeN`.

use std::net::IpAddr;
use std::process::Command;

use anyhow::Result;

use crate::Host;

/// The address that all nodes answer on.
pub const VIP4: &str = "10.10.50.10";
/// The same in IPv6.
pub const VIP6: &str = "fd10:10:50::10";
/// The router's address that the demo's manifests publish the virtual address on.
pub const PUBLIC: &str = "10.10.20.1";
/// The client's addresses.
pub const CLIENT: [&str; 2] = ["10.10.20.10", "fd10:10:20::10"];

/// The router's port to the client, and its addresses there.
pub const OUTSIDE: &str = "eth0";
/// See [`OUTSIDE`].
pub const ROUTER_OUTSIDE: [&str; 2] = ["10.10.20.1/24", "fd10:10:20::1/64"];
/// The router's port to the nodes, and its addresses there.
pub const INSIDE: &str = "eth1";
/// See [`INSIDE`].
pub const ROUTER_INSIDE: [&str; 2] = ["10.10.30.1/24", "fd10:10:30::1/64"];

/// The uplink of every node.
pub const UPLINK: &str = "eth0";
const NODES: usize = 3;

/// Five hosts, wired, with addresses and routes. On drop all of it goes.
#[derive(Debug)]
pub struct Lab {
    /// Sends requests to the virtual addresses.
    pub client: Host,
    /// Forwards, and spreads the virtual addresses over the nodes by ECMP.
    pub router: Host,
    /// Have the virtual addresses on loopback, and the router as their gateway.
    pub nodes: Vec<Host>,
}

impl Lab {
    /// Build the lab with static routes to the virtual addresses.
    pub fn new() -> Result<Self> {
        let lab = Self::without_vip_routes()?;
        lab.route_vips()?;
        Ok(lab)
    }

    /// Build the lab; the routes to the virtual addresses are left to a routing protocol.
    pub fn without_vip_routes() -> Result<Self> {
        let client = Host::new("client")?;
        let router = Host::new("router")?;
        let nodes =
            (1..=NODES).map(|number| Host::new(&format!("node{number}"))).collect::<Result<Vec<_>>>()?;
        let lab = Self { client, router, nodes };
        lab.set_up_router()?;
        lab.set_up_client()?;
        (0..NODES).try_for_each(|index| lab.set_up_node(index))?;
        Ok(lab)
    }

    /// A node's own addresses, IPv4 and IPv6.
    pub fn node_addresses(index: usize) -> [IpAddr; 2] {
        let last = 10 + index as u16;
        [
            IpAddr::from([10, 10, 30, last as u8]),
            IpAddr::from([0xfd10, 0x10, 0x30, 0, 0, 0, 0, 0x10 + index as u16]),
        ]
    }

    /// Let the router drop this share of what it forwards, 1 to 100, at random, so that there is loss to be seen.
    pub fn lose(&self, percent: u8) -> Result<()> {
        let last = percent.saturating_sub(1).min(99);
        let chain = format!("type filter hook forward priority 0; numgen random mod 100 0-{last} drop;");
        let rules = format!("table inet loss {{ chain forward {{ {chain} }}; }}");
        self.router.output(Command::new("nft").arg(rules)).map(drop)
    }

    /// Lose nothing any more.
    pub fn lose_nothing(&self) -> Result<()> {
        self.router.output(Command::new("nft").arg("delete table inet loss")).map(drop)
    }

    /// Let a node die silently: its port on the router's bridge drops everything, both ways, and keeps its carrier.
    pub fn cut(&self, index: usize) -> Result<()> {
        let port = format!("node{}", index + 1);
        let chain = |name: &str, hook: &str, side: &str| {
            format!("chain {name} {{ type filter hook {hook} priority -300; {side} \"{port}\" drop; }};")
        };
        let chains = chain("in", "prerouting", "iifname") + &chain("out", "postrouting", "oifname");
        self.router.output(Command::new("nft").arg(format!("table bridge cut {{ {chains} }}"))).map(drop)
    }

    /// Undo [`Lab::cut`].
    pub fn mend(&self) -> Result<()> {
        self.router.output(Command::new("nft").arg("delete table bridge cut")).map(drop)
    }

    fn set_up_router(&self) -> Result<()> {
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            // By addresses, protocol and ports (bits 0 to 2, 4 and 5), so that one client reaches all nodes. Policy 1 would
            // use the hash that a packet brings along a veth pair, which its sender changes when it sends again.
            ("ipv4/fib_multipath_hash_policy", "3"),
            ("ipv4/fib_multipath_hash_fields", "55"),
            ("ipv6/fib_multipath_hash_policy", "3"),
            ("ipv6/fib_multipath_hash_fields", "55"),
        ] {
            self.router.sysctl(key, value)?;
        }
        // Its bridge stands for a switch, which knows of no rules. A kernel without br_netfilter has none of these.
        for switch in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
            self.router.sysctl(switch, "0").ok();
        }
        self.router.ip_all(&format!("link add {INSIDE} type bridge\nlink set {INSIDE} up"))?;
        ROUTER_INSIDE.iter().try_for_each(|address| self.router.address(INSIDE, address))
    }

    fn set_up_client(&self) -> Result<()> {
        self.client.veth("eth0", &self.router, OUTSIDE)?;
        ROUTER_OUTSIDE.iter().try_for_each(|address| self.router.address(OUTSIDE, address))?;
        self.client.address("eth0", &format!("{}/24", CLIENT[0]))?;
        self.client.address("eth0", &format!("{}/64", CLIENT[1]))?;
        self.client.ip_all("route add default via 10.10.20.1\n-6 route add default via fd10:10:20::1")
    }

    fn set_up_node(&self, index: usize) -> Result<()> {
        let (node, port) = (&self.nodes[index], format!("node{}", index + 1));
        node.veth(UPLINK, &self.router, &port)?;
        self.router.ip(&format!("link set {port} master {INSIDE}"))?;
        let [v4, v6] = Self::node_addresses(index);
        node.address(UPLINK, &format!("{v4}/24"))?;
        node.address(UPLINK, &format!("{v6}/64"))?;
        node.address("lo", &format!("{VIP4}/32"))?;
        node.address("lo", &format!("{VIP6}/128"))?;
        node.ip_all("route add default via 10.10.30.1\n-6 route add default via fd10:10:30::1")
    }

    fn route_vips(&self) -> Result<()> {
        let hops = |family: usize| -> String {
            (0..NODES).map(|index| format!(" nexthop via {}", Self::node_addresses(index)[family])).collect()
        };
        self.router.ip(&format!("route add {VIP4}/32{}", hops(0)))?;
        self.router.ip(&format!("-6 route add {VIP6}/128{}", hops(1)))
    }
}
