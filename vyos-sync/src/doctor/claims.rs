//! What documents of intent say about the network, claim by claim, each with its file and line. Pure.
//!
//! Read are tables, prose, `set` commands and YAML, in Markdown or in files of their own. Only what is written out is a
//! claim: an id beside a prefix, a number beside the word for whose it is. Nothing is guessed.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;
use regex::Regex;
use serde_json::Value;

/// A document: where it is, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its file, as it is shown.
    pub place: String,
    /// The text.
    pub text: String,
}

/// One claim and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// `file:line`.
    pub at: String,
    /// What it says.
    pub says: Says,
}

/// What a claim says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// A VLAN has this subnet.
    Subnet(u16, IpNet),
    /// A VLAN has this gateway.
    Gateway(u16, IpAddr),
    /// Somebody has this AS number.
    Asn(Party, u32),
    /// The router has this BGP neighbor.
    Neighbor(IpAddr),
    /// The router has a neighbor that is a prefix, which no router can have.
    NeighborNet(IpNet),
    /// A machine has this address.
    Host(String, IpAddr),
    /// A kind is in this API group.
    Group(String, String),
    /// An object of a kind, or with a field, that the system does not have (any more): what to write in its place.
    Obsolete(String, &'static str),
}

/// Whose AS number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The router's.
    Router,
    /// The clusters'.
    Clusters,
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Router => "the router",
            Self::Clusters => "the clusters",
        })
    }
}

/// All claims of a document, in its order.
pub fn claims(document: &Document) -> Vec<Claim> {
    let mut reader =
        Reader { place: &document.place, found: Vec::new(), table: None, yaml: Vec::new(), yaml_at: 0 };
    let is_yaml = [".yaml", ".yml"].iter().any(|ending| document.place.ends_with(ending));
    let mut fenced = is_yaml;
    for (at, line) in document.text.lines().enumerate() {
        if !is_yaml && line.trim_start().starts_with("```") {
            reader.end_yaml();
            fenced = !fenced;
            continue;
        }
        reader.line(at + 1, line, fenced);
    }
    reader.end_yaml();
    reader.found.sort();
    reader.found.dedup();
    reader.found
}

struct Reader<'a> {
    place: &'a str,
    found: Vec<Claim>,
    table: Option<Table>,
    yaml: Vec<&'a str>,
    yaml_at: usize,
}

/// The columns of a table that mean something here.
#[derive(Debug, Default, Clone, Copy)]
struct Table {
    vlan: Option<usize>,
    subnet: Option<usize>,
    gateway: Option<usize>,
    name: Option<usize>,
    address: Option<usize>,
}

#[expect(clippy::unwrap_used, reason = "constant patterns, each used by a test")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

static VLAN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\bvlan(?:[ _-]?id)?\s*[:=#]?\s*(\d{1,4})\b"));
static PREFIX: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:\d{1,3}\.){3}\d{1,3}/\d{1,2}\b|\b[0-9a-fA-F:]*::[0-9a-fA-F:]*/\d{1,3}\b"));
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:\d{1,3}\.){3}\d{1,3}\b"));
static ASN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:ASN?|system-as|AS number)\b\s*(?:is|of)?\s*[:=`*]*\s*(\d{3,10})\b"));
static PARTY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(router|gateway|vyos|clusters?|cilium|kubernetes|nodes?)\b"));
static NEIGHBOR: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\bneighbou?r\s+[`'\x22]?([0-9a-fA-F.:]+(?:/\d{1,3})?)"));

impl<'a> Reader<'a> {
    fn line(&mut self, at: usize, line: &'a str, fenced: bool) {
        if fenced {
            if line.trim_end() == "---" {
                self.end_yaml();
            } else {
                if self.yaml.is_empty() {
                    self.yaml_at = at;
                }
                self.yaml.push(line);
            }
        }
        let cells = cells(line);
        match (cells.len() > 1 && !fenced, self.table) {
            (true, Some(table)) => return self.row(at, &cells, table),
            (true, None) => self.table = Some(header(&cells)),
            (false, _) => self.table = None,
        }
        // Comments of manifests are prose; their fields are read as YAML.
        if !fenced || line.trim_start().starts_with(['#', '/']) || line.trim_start().starts_with("set ") {
            self.prose(at, line);
        } else if let Some(found) = NEIGHBOR.captures(line) {
            self.neighbor(at, &found[1]);
        }
    }

    fn say(&mut self, at: usize, says: Says) {
        self.found.push(Claim { at: format!("{}:{at}", self.place), says });
    }

    fn row(&mut self, at: usize, cells: &[&str], table: Table) {
        let cell = |column: Option<usize>| column.and_then(|nth| cells.get(nth)).copied().unwrap_or_default();
        let prefix = prefixes(cell(table.subnet)).first().copied();
        let digits: String = cell(table.vlan).chars().filter(char::is_ascii_digit).collect();
        let id = digits.parse::<u16>().ok().filter(|id| (1..=4094).contains(id));
        if let (Some(id), Some(prefix)) = (id, prefix) {
            self.say(at, Says::Subnet(id, prefix));
        }
        if let (Some(id), Some(gateway)) = (id, addresses(cell(table.gateway)).first()) {
            self.say(at, Says::Gateway(id, *gateway));
        }
        let name = plain(cell(table.name));
        if let (false, Some(address), None) =
            (name.is_empty(), addresses(cell(table.address)).first(), table.vlan)
        {
            self.say(at, Says::Host(name, *address));
        }
        self.asns(at, &cells.join(" "));
        if let Some(found) = NEIGHBOR.captures(&cells.join(" ")) {
            self.neighbor(at, &found[1]);
        }
    }

    fn prose(&mut self, at: usize, line: &str) {
        let ids: Vec<u16> = VLAN.captures_iter(line).filter_map(|found| found[1].parse().ok()).collect();
        if let ([id], [prefix]) = (ids.as_slice(), prefixes(line).as_slice()) {
            self.say(at, Says::Subnet(*id, *prefix));
        }
        self.asns(at, line);
        for found in NEIGHBOR.captures_iter(line) {
            self.neighbor(at, &found[1]);
        }
        if let Some(kind) = OBSOLETE.iter().find(|(kind, _)| line.contains(kind)) {
            self.say(at, Says::Obsolete(kind.0.to_owned(), kind.1));
        }
    }

    /// Each number belongs to the nearest word before it on its line that says whose it is.
    fn asns(&mut self, at: usize, line: &str) {
        for found in ASN.captures_iter(line) {
            let (Some(number), Ok(asn)) = (found.get(1), found[1].parse::<u32>()) else { continue };
            let before = PARTY.find_iter(&line[..number.start()]).last();
            let party = before.map(|word| match word.as_str().to_ascii_lowercase().as_str() {
                "router" | "gateway" | "vyos" => Party::Router,
                _ => Party::Clusters,
            });
            let party = party.or_else(|| line.contains("system-as").then_some(Party::Router));
            if let Some(party) = party {
                self.say(at, Says::Asn(party, asn));
            }
        }
    }

    fn neighbor(&mut self, at: usize, text: &str) {
        if let Ok(address) = text.parse() {
            self.say(at, Says::Neighbor(address));
        } else if let Ok(net) = text.parse::<IpNet>() {
            self.say(at, Says::NeighborNet(net));
        }
    }

    /// Reads the YAML gathered so far as one document. What is none is somebody's other text.
    fn end_yaml(&mut self) {
        let lines = std::mem::take(&mut self.yaml);
        let Ok(value) = serde_saphyr::from_str::<Value>(&lines.join("\n")) else { return };
        let place = |word: &str| {
            let nth = lines.iter().position(|line| line.contains(word)).unwrap_or_default();
            self.yaml_at + nth
        };
        let mut found = Vec::new();
        object(&value, &mut |word, says| found.push((place(word), says)));
        for (at, says) in found {
            self.say(at, says);
        }
    }
}

/// Kinds that are gone.
const OBSOLETE: [(&str, &str); 1] = [(
    "CiliumBGPPeeringPolicy",
    "it is gone from Cilium 1.19: write CiliumBGPClusterConfig, CiliumBGPPeerConfig and CiliumBGPAdvertisement",
)];

/// The claims of a manifest. The word leads to its line.
fn object(value: &Value, say: &mut impl FnMut(&str, Says)) {
    let (Some(version), Some(kind)) = (value["apiVersion"].as_str(), value["kind"].as_str()) else { return };
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if !group.is_empty() {
        say("apiVersion", Says::Group(kind.to_owned(), group.to_owned()));
    }
    let spec = &value["spec"];
    if let Some((_, way_out)) = OBSOLETE.iter().find(|(gone, _)| *gone == kind) {
        say("kind:", Says::Obsolete(kind.to_owned(), way_out));
    }
    let harvester = group == "network.harvesterhci.io";
    if harvester && kind == "ClusterNetwork" && !spec.is_null() {
        let way_out = "Harvester's ClusterNetwork has no spec: write a VlanConfig for the uplink";
        say("spec:", Says::Obsolete("spec of a ClusterNetwork".to_owned(), way_out));
    }
    if harvester && kind == "VlanConfig" && !spec["vlan"].is_null() {
        let way_out = "Harvester keeps VLAN ids in the NetworkAttachmentDefinition, not in a VlanConfig";
        say("vlan:", Says::Obsolete("spec.vlan of a VlanConfig".to_owned(), way_out));
    }
    match kind {
        "CiliumBGPPeeringPolicy" => {
            for router in spec["virtualRouters"].as_array().into_iter().flatten() {
                speaker(router, "neighbors", say);
            }
        }
        "CiliumBGPClusterConfig" => {
            for instance in spec["bgpInstances"].as_array().into_iter().flatten() {
                speaker(instance, "peers", say);
            }
        }
        "Hardware" => {
            for interface in spec["interfaces"].as_array().into_iter().flatten() {
                let dhcp = &interface["dhcp"];
                let address = dhcp["ip"]["address"].as_str().and_then(|text| text.parse().ok());
                if let (Some(name), Some(address)) = (dhcp["hostname"].as_str(), address) {
                    say("hostname", Says::Host(name.to_owned(), address));
                }
            }
        }
        _ => {}
    }
}

fn speaker(value: &Value, peers: &str, say: &mut impl FnMut(&str, Says)) {
    let asn = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    if let Some(own) = asn(&value["localASN"]) {
        say("localASN", Says::Asn(Party::Clusters, own));
    }
    for peer in value[peers].as_array().into_iter().flatten() {
        if let Some(theirs) = asn(&peer["peerASN"]) {
            say("peerASN", Says::Asn(Party::Router, theirs));
        }
    }
}

/// The cells of a table's row: `| a | b |`.
fn cells(line: &str) -> Vec<&str> {
    let line = line.trim();
    match line.strip_prefix('|') {
        Some(inner) => inner.strip_suffix('|').unwrap_or(inner).split('|').map(str::trim).collect(),
        None => Vec::new(),
    }
}

fn header(cells: &[&str]) -> Table {
    let named = |words: &[&str]| {
        cells.iter().position(|cell| {
            let cell = cell.to_ascii_lowercase();
            words.iter().any(|word| cell.split(|c: char| !c.is_alphanumeric()).any(|part| part == *word))
        })
    };
    Table {
        vlan: named(&["vlan", "vlans"]),
        subnet: named(&["subnet", "cidr", "prefix", "network", "range"]),
        gateway: named(&["gateway", "gw"]),
        name: named(&["host", "hostname", "node", "machine", "vm", "server"]),
        address: named(&["ip", "address"]),
    }
}

fn prefixes(text: &str) -> Vec<IpNet> {
    let found = PREFIX.find_iter(text).filter_map(|found| found.as_str().parse::<IpNet>().ok());
    found.map(|net| net.trunc()).collect()
}

fn addresses(text: &str) -> Vec<IpAddr> {
    ADDRESS.find_iter(text).filter_map(|found| found.as_str().parse().ok()).collect()
}

/// A cell without the marks of Markdown.
fn plain(cell: &str) -> String {
    cell.chars()
        .filter(|c| !matches!(c, '`' | '*' | '_' | '[' | ']'))
        .collect::<String>()
        .trim()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(place: &str, text: &str) -> Vec<String> {
        let document = Document { place: place.to_owned(), text: text.to_owned() };
        claims(&document).into_iter().map(|claim| format!("{} {:?}", claim.at, claim.says)).collect()
    }

    #[test]
    fn tables_are_read_by_their_headers() {
        let text = "# Networks\n\n| VLAN | Name | Subnet | Gateway |\n|---|---|---|---|\n| **30** | platform | `10.10.30.0/24` | 10.10.30.1 |\n\n\
            | Host | IP |\n|--|--|\n| `node-a` | 10.10.30.10 |\n";
        let found = said("net.md", text);
        assert_eq!(
            found,
            [
                "net.md:5 Subnet(30, 10.10.30.0/24)",
                "net.md:5 Gateway(30, 10.10.30.1)",
                "net.md:9 Host(\"node-a\", 10.10.30.10)",
            ]
        );
    }

    #[test]
    fn prose_needs_one_id_and_one_prefix() {
        assert_eq!(said("a.md", "VLAN 40 is 10.10.40.0/24."), ["a.md:1 Subnet(40, 10.10.40.0/24)"]);
        assert_eq!(said("a.md", "VLAN 40 and VLAN 50 are in 10.10.0.0/16."), Vec::<String>::new());
        assert_eq!(said("a.md", "VLANs are nice"), Vec::<String>::new());
    }

    #[test]
    fn an_as_number_belongs_to_the_word_before_it() {
        let found = said("a.md", "The router is AS 64512, the clusters use ASN 64513.");
        assert_eq!(found, ["a.md:1 Asn(Router, 64512)", "a.md:1 Asn(Clusters, 64513)"]);
        assert_eq!(said("a.md", "set protocols bgp system-as 64512"), ["a.md:1 Asn(Router, 64512)"]);
        assert_eq!(said("a.md", "AS 64512 is private."), Vec::<String>::new());
    }

    #[test]
    fn neighbors_that_are_prefixes_are_told_apart() {
        let text =
            "```\nset protocols bgp neighbor 10.10.30.0/24 remote-as 64513\nneighbor 10.10.30.10 {\n```\n";
        let found = said("a.md", text);
        assert_eq!(found, ["a.md:2 NeighborNet(10.10.30.0/24)", "a.md:3 Neighbor(10.10.30.10)"]);
    }

    #[test]
    fn manifests_are_read_in_fences_and_in_files() {
        let policy = "apiVersion: cilium.io/v2alpha1\nkind: CiliumBGPPeeringPolicy\nspec:\n  virtualRouters:\n  - localASN: 64513\n    \
            neighbors: [{peerAddress: 10.10.30.1/32, peerASN: 64512}]\n";
        let found = said("bgp.yaml", policy);
        assert!(found.contains(&"bgp.yaml:5 Asn(Clusters, 64513)".to_owned()), "{found:?}");
        assert!(found.contains(&"bgp.yaml:6 Asn(Router, 64512)".to_owned()), "{found:?}");
        assert!(found.iter().any(|claim| claim.starts_with("bgp.yaml:2 Obsolete")), "{found:?}");
        let fenced = said("a.md", &format!("text\n```yaml\n{policy}```\n"));
        assert!(fenced.contains(&"a.md:7 Asn(Clusters, 64513)".to_owned()), "{fenced:?}");
    }

    #[test]
    fn harvesters_fields_that_are_none_are_named() {
        let vlan = "apiVersion: network.harvesterhci.io/v1beta1\nkind: VlanConfig\nspec:\n  vlan: 40\n";
        assert!(said("v.yaml", vlan).iter().any(|c| c.starts_with("v.yaml:4 Obsolete(\"spec.vlan")));
        let network =
            "apiVersion: network.harvesterhci.io/v1beta1\nkind: ClusterNetwork\nspec: {enable: true}\n";
        assert!(said("n.yaml", network).iter().any(|c| c.starts_with("n.yaml:3 Obsolete(\"spec of")));
        assert_eq!(said("broken.yaml", "a: [b"), Vec::<String>::new());
    }
}
