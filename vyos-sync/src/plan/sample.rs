//! Made-up desired states of any size, for benches and property tests: VLANs with DHCP, reservations, peers, NAT.

use super::{Contested, Desired, Owner};
use crate::config::{Children, ConfigPath, Dialect, Node, ShapeError, Tree};

/// How much of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// VLANs, each with an address and a DHCP subnet. At most 65,000.
    pub networks: u16,
    /// DHCP reservations in each network, at most 100.
    pub reservations: u8,
    /// BGP peers, at most 60,000.
    pub peers: u16,
    /// Destination NAT rules, at most 9,000.
    pub publications: u16,
}

/// The size that vyos-sync is measured at: 38,000 settings.
pub const FULL: Size = Size { networks: 1_000, reservations: 10, peers: 2_000, publications: 200 };

/// What a router holds before us: an uplink, a trunk, and its API.
pub fn base() -> Result<Tree, ShapeError> {
    let mut tree = Tree::new();
    let mut set = |path: &str, value: &str| match path.parse() {
        Ok(path) => tree.add(&path, value),
        Err(_) => Ok(()),
    };
    set("interfaces ethernet eth0 address", "192.0.2.2/24")?;
    set("interfaces ethernet eth0 description", "uplink")?;
    set("interfaces ethernet eth1 description", "trunk")?;
    set("interfaces ethernet eth1 mtu", "9000")?;
    set("protocols static route 0.0.0.0/0 description", "by hand")?;
    set("protocols bgp system-as", "64512")?;
    set("system host-name", "edge")?;
    set("service https listen-address", "192.0.2.2")?;
    set("nat source rule 5 description", "by hand")?;
    set("nat source rule 5 translation address", "masquerade")?;
    Ok(tree)
}

/// The desired state of that size.
pub fn desired(size: Size, dialect: Dialect) -> Result<Desired, Contested> {
    let mut desired = Desired::new();
    policy(&mut desired)?;
    (0..size.networks).try_for_each(|n| network(&mut desired, n, size.reservations, dialect))?;
    (0..size.peers).try_for_each(|n| peer(&mut desired, n))?;
    (0..size.publications).try_for_each(|n| publication(&mut desired, n))?;
    Ok(desired)
}

/// The peer group that all peers are in, with its filter.
pub fn policy(desired: &mut Desired) -> Result<(), Contested> {
    let owner = Owner::namespaced("BGPPeering", "clusters", "all");
    let list =
        [("rule", tag("10", leaves(&[("action", "permit"), ("prefix", "10.200.0.0/16"), ("le", "32")])))];
    let list = with(leaves(&[("description", owner.mark().as_str())]), list);
    desired.subtree(&owner, &at(&["policy", "prefix-list", "VS-ALL"]), list)?;
    let family =
        branch([("prefix-list", leaves(&[("import", "VS-ALL")])), ("maximum-prefix", Node::value("100"))]);
    let group = leaves(&[("description", owner.mark().as_str()), ("remote-as", "64513")]);
    let group = with(group, [("address-family", tag("ipv4-unicast", family))]);
    desired.subtree(&owner, &at(&["protocols", "bgp", "peer-group", "VS-ALL"]), group)
}

/// One VLAN with its address, DHCP subnet and reservations.
pub fn network(desired: &mut Desired, n: u16, reservations: u8, dialect: Dialect) -> Result<(), Contested> {
    let (high, low) = (n / 250, n % 250);
    let owner = Owner::namespaced("RouterNetwork", "lab", format!("net{n}"));
    let (parent, vlan) = (format!("eth{}", 1 + n / 4_000), (n % 4_000 + 2).to_string());
    let net = |host: u8| format!("10.{high}.{low}.{host}");
    let mark = owner.mark();
    let vif = leaves(&[("address", &format!("{}/24", net(1))), ("description", mark.as_str())]);
    desired.subtree(&owner, &at(&["interfaces", "ethernet", &parent, "vif", &vlan]), vif)?;

    let options = leaves(&[("default-router", &net(1)), ("domain-name", "lab.example")]);
    let range = tag("vs", leaves(&[("start", &net(150)), ("stop", &net(250))]));
    let subnet = with(leaves(&[("lease", "3600")]), [("range", range)]);
    let subnet = match dialect {
        Dialect::V1_4 => with(
            subnet,
            options.children().cloned().unwrap_or_default().iter().map(|(k, v)| (k.as_str(), v.clone())),
        ),
        Dialect::V1_5 => {
            with(subnet, [("option", options), ("subnet-id", Node::value((u32::from(n) + 1).to_string()))])
        }
    };
    let name = format!("vs-net{n}");
    let shared =
        with(leaves(&[("description", mark.as_str())]), [("subnet", tag(&format!("{}/24", net(0)), subnet))]);
    let path = at(&["service", "dhcp-server", "shared-network-name", &name]);
    desired.subtree(&owner, &path, shared)?;
    desired.member(&owner, &at(&["service", "dns", "forwarding", "allow-from"]), format!("{}/24", net(0)))?;
    desired.member(&owner, &at(&["service", "dns", "forwarding", "listen-address"]), net(1))?;
    let subnet = path.descend(["subnet".to_owned(), format!("{}/24", net(0))]);
    (0..reservations).try_for_each(|host| reservation(desired, &subnet, n, host, &net(20 + host), dialect))
}

fn reservation(
    desired: &mut Desired,
    subnet: &ConfigPath,
    n: u16,
    host: u8,
    address: &str,
    dialect: Dialect,
) -> Result<(), Contested> {
    let owner = Owner::namespaced("Hardware", "tink", format!("n{n}h{host}"));
    let mac = format!("52:54:{:02x}:{:02x}:00:{host:02x}", n >> 8, n & 0xff);
    let leaf = match dialect {
        Dialect::V1_4 => "mac-address",
        Dialect::V1_5 => "mac",
    };
    let mapping = leaves(&[("ip-address", address), (leaf, &mac)]);
    desired.subtree(
        &owner,
        &subnet.descend(["static-mapping".to_owned(), format!("vs-n{n}h{host}")]),
        mapping,
    )
}

/// One BGP peer in the group.
pub fn peer(desired: &mut Desired, n: u16) -> Result<(), Contested> {
    let owner = Owner::namespaced("BGPPeering", "clusters", format!("node{n}"));
    let address = format!("10.210.{}.{}", n / 250, n % 250 + 2);
    let peer = leaves(&[("description", owner.mark().as_str()), ("peer-group", "VS-ALL")]);
    desired.subtree(&owner, &at(&["protocols", "bgp", "neighbor", &address]), peer)
}

/// One published port.
pub fn publication(desired: &mut Desired, n: u16) -> Result<(), Contested> {
    let owner = Owner::namespaced("PortPublication", "web", format!("svc{n}"));
    let port = (10_000 + n).to_string();
    let rule = leaves(&[("description", owner.mark().as_str()), ("protocol", "tcp")]);
    let rule = with(
        rule,
        [
            ("inbound-interface", leaves(&[("name", "eth0")])),
            ("destination", leaves(&[("port", &port)])),
            ("translation", leaves(&[("address", "10.200.0.1"), ("port", "443")])),
        ],
    );
    let number = (20_000 + u32::from(n)).to_string();
    desired.subtree(&owner, &at(&["nat", "destination", "rule", &number]), rule)
}

fn at(words: &[&str]) -> ConfigPath {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    ConfigPath::from_walk(&words)
}

fn leaves(pairs: &[(&str, &str)]) -> Node {
    Node::Branch(pairs.iter().map(|(name, value)| ((*name).to_owned(), Node::value(*value))).collect())
}

fn branch<'a>(pairs: impl IntoIterator<Item = (&'a str, Node)>) -> Node {
    with(Node::bare(), pairs)
}

fn tag(name: &str, node: Node) -> Node {
    branch([(name, node)])
}

fn with<'a>(node: Node, more: impl IntoIterator<Item = (&'a str, Node)>) -> Node {
    let mut children: Children = node.children().cloned().unwrap_or_default();
    children.extend(more.into_iter().map(|(name, node)| (name.to_owned(), node)));
    Node::Branch(children)
}
