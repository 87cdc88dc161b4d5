//! Operational commands answered from the living namespace.

use serde_json::Value;
use vyos_sync::config::print::natural;
use vyos_sync::config::{Node, Tree};

use super::Plant;

impl Plant {
    /// The answer, or `None` where there is no such command.
    pub(crate) async fn show(&self, words: &[&str], running: &Tree) -> Option<String> {
        match words {
            ["bgp" | "bfd", ..] | ["ip", "bgp" | "route", ..] | ["ipv6", "route", ..] => {
                let json = words.last() == Some(&"json");
                if json { None } else { self.routing(words).await }
            }
            ["interfaces"] => Some(self.interfaces(running).await),
            ["interfaces", "counters"] => Some(self.counters().await),
            ["arp"] => Some(self.neighbours("-4").await),
            ["ipv6", "neighbors"] => Some(self.neighbours("-6").await),
            ["nat", side @ ("source" | "destination"), "rules"] => Some(rules(running, side)),
            ["nat", side @ ("source" | "destination"), "statistics"] => Some(self.statistics(side).await),
            ["dhcp", "server", "leases"] => Some(self.leases(running)),
            _ => None,
        }
    }

    /// FRR says itself what it does not know.
    async fn routing(&self, words: &[&str]) -> Option<String> {
        let Some(frr) = &self.frr else { return Some("% BGP instance not found\n".to_owned()) };
        let said = frr.ask(&format!("show {}", words.join(" "))).await.ok()?;
        (!said.starts_with("% Unknown command")).then_some(said)
    }

    async fn interfaces(&self, running: &Tree) -> String {
        let text = self.namespace.run("ip", &["-j", "address", "show"]).await.unwrap_or_default();
        let mut links: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        links.sort_by(|a, b| natural(a["ifname"].as_str().unwrap_or(""), b["ifname"].as_str().unwrap_or("")));
        let rows: Vec<_> = links.iter().map(|link| interface(link, running)).collect();
        let codes = "Codes: S - State, L - Link, u - Up, D - Down, A - Admin Down\n";
        let titles = ["Interface", "IP Address", "MAC", "VRF", "MTU", "S/L", "Description"];
        format!("{codes}{}", table(&titles, &rows))
    }

    async fn counters(&self) -> String {
        let text = self.namespace.run("ip", &["-j", "-s", "link", "show"]).await.unwrap_or_default();
        let mut links: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        links.sort_by(|a, b| natural(a["ifname"].as_str().unwrap_or(""), b["ifname"].as_str().unwrap_or("")));
        let row = |link: &Value| {
            let counts = |what: &str| ["rx", "tx"].map(|way| link["stats64"][way][what].to_string());
            let [packets, bytes] = [counts("packets"), counts("bytes")];
            let [dropped, errors] = [counts("dropped"), counts("errors")];
            let name = link["ifname"].as_str().unwrap_or("").to_owned();
            let [rx_packets, tx_packets] = packets;
            let [rx_bytes, tx_bytes] = bytes;
            let mut row = vec![name, rx_packets, rx_bytes, tx_packets, tx_bytes];
            row.extend(dropped);
            row.extend(errors);
            row
        };
        let titles = [
            "Interface",
            "Rx Packets",
            "Rx Bytes",
            "Tx Packets",
            "Tx Bytes",
            "Rx Dropped",
            "Tx Dropped",
            "Rx Errors",
            "Tx Errors",
        ];
        table(&titles, &links.iter().map(row).collect::<Vec<_>>())
    }

    async fn neighbours(&self, family: &str) -> String {
        let text = self.namespace.run("ip", &["-j", family, "neigh", "show"]).await.unwrap_or_default();
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        let row = |entry: &Value| {
            let text = |field: &str| entry[field].as_str().unwrap_or("").to_owned();
            let state = entry["state"][0].as_str().unwrap_or("").to_owned();
            vec![text("dst"), text("dev"), text("lladdr"), state]
        };
        let titles = ["Address", "Interface", "Link layer address", "State"];
        table(&titles, &entries.iter().map(row).collect::<Vec<_>>())
    }

    async fn statistics(&self, side: &str) -> String {
        let chain = if side == "source" { "POSTROUTING" } else { "PREROUTING" };
        let listing = self.namespace.run("nft", &["-j", "list", "chain", "ip", "vyos_nat", chain]).await;
        let listing: Value = serde_json::from_str(&listing.unwrap_or_default()).unwrap_or_default();
        let entries = listing["nftables"].as_array().into_iter().flatten();
        let rows: Vec<_> = entries.filter_map(|entry| counted(&entry["rule"])).collect();
        table(&["Rule", "Packets", "Bytes", "Interface"], &rows)
    }

    /// The lease file is a log: the last line of an address counts.
    fn leases(&self, running: &Tree) -> String {
        let text = std::fs::read_to_string(self.folder.join("dhcp4.leases")).unwrap_or_default();
        let mut lines = text.lines();
        let titles: Vec<&str> = lines.next().unwrap_or("").split(',').collect();
        let mut leases = std::collections::BTreeMap::new();
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let field = |name: &str| {
                titles
                    .iter()
                    .position(|title| *title == name)
                    .and_then(|at| fields.get(at))
                    .copied()
                    .unwrap_or("")
            };
            leases.insert(field("address").to_owned(), lease(&field, running));
        }
        let titles = [
            "IP Address",
            "MAC address",
            "State",
            "Lease start",
            "Lease expiration",
            "Remaining",
            "Pool",
            "Hostname",
            "Origin",
        ];
        table(&titles, &leases.into_values().collect::<Vec<_>>())
    }
}

fn interface(link: &Value, running: &Tree) -> Vec<String> {
    let name = link["ifname"].as_str().unwrap_or("");
    let addresses = link["addr_info"].as_array().into_iter().flatten();
    let shown = addresses.filter(|address| address["scope"] != "link");
    let shown: Vec<_> =
        shown.map(|a| format!("{}/{}", a["local"].as_str().unwrap_or(""), a["prefixlen"])).collect();
    let up = link["flags"].as_array().into_iter().flatten().any(|flag| flag == "UP");
    let carrier = link["flags"].as_array().into_iter().flatten().any(|flag| flag == "LOWER_UP");
    let state = match (up, carrier) {
        (true, true) => "u/u",
        (true, false) => "u/D",
        (false, _) => "A/D",
    };
    let (port, vif) = name.split_once('.').map_or((name, None), |(port, vif)| (port, Some(vif)));
    let node = running.at(&["interfaces", "ethernet", port]);
    let node = vif.map_or(node, |vif| node.and_then(|node| node.at(&["vif", vif])));
    vec![
        name.to_owned(),
        if shown.is_empty() { "-".to_owned() } else { shown.join(" ") },
        link["address"].as_str().unwrap_or("").to_owned(),
        "default".to_owned(),
        link["mtu"].to_string(),
        state.to_owned(),
        node.and_then(|node| node.text("description")).unwrap_or("").to_owned(),
    ]
}

fn counted(rule: &Value) -> Option<Vec<String>> {
    let number = rule["comment"].as_str()?.rsplit('-').next()?.to_owned();
    let counter = rule["expr"].as_array()?.iter().find_map(|expression| expression.get("counter"))?;
    let first = rule["expr"][0]["match"]["right"].as_str().unwrap_or("any").to_owned();
    Some(vec![number, counter["packets"].to_string(), counter["bytes"].to_string(), first])
}

fn rules(running: &Tree, side: &str) -> String {
    let (interface, title) =
        if side == "source" { ("outbound-interface", "Out-Int") } else { ("inbound-interface", "In-Int") };
    let mut all: Vec<_> = running.entries(&["nat", side, "rule"]).collect();
    all.sort_by(|a, b| natural(a.0, b.0));
    let mut rows = Vec::new();
    for (number, rule) in all {
        let end = |end: &str, leaf: &str| rule.child(end).and_then(|node| node.text(leaf));
        let ports = |side: &str| {
            format!("{} {}", &side[..1], end(side, "port").unwrap_or("any")).replacen(' ', "port ", 1)
        };
        let translation = end("translation", "address").unwrap_or("").to_owned();
        let port = end("translation", "port").map(|port| format!("port {port}")).unwrap_or_default();
        rows.push(vec![
            number.clone(),
            end("source", "address").unwrap_or("0.0.0.0/0").to_owned(),
            end("destination", "address").unwrap_or("0.0.0.0/0").to_owned(),
            if rule.text("protocol").is_none() { "IP".to_owned() } else { "any".to_owned() },
            rule.at(&[interface, "name"]).and_then(Node::first).unwrap_or("any").to_owned(),
            translation,
        ]);
        rows.push(vec![
            String::new(),
            ports("source"),
            ports("destination"),
            String::new(),
            String::new(),
            port,
        ]);
    }
    table(&["Rule", "Source", "Destination", "Proto", title, "Translation"], &rows)
}

fn lease<'a>(field: &impl Fn(&str) -> &'a str, running: &Tree) -> Vec<String> {
    let expires: i64 = field("expire").parse().unwrap_or(0);
    let lifetime: i64 = field("valid_lifetime").parse().unwrap_or(0);
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let left = (expires - i64::try_from(now).unwrap_or(0)).max(0);
    let state = if left > 0 && lifetime > 0 { "active" } else { "expired" };
    vec![
        field("address").to_owned(),
        field("hwaddr").to_owned(),
        state.to_owned(),
        date(expires - lifetime),
        date(expires),
        format!("{}:{:02}:{:02}", left / 3600, left / 60 % 60, left % 60),
        pool(running, field("address")),
        field("hostname").to_owned(),
        "local".to_owned(),
    ]
}

/// The shared network whose subnet holds the address.
fn pool(running: &Tree, address: &str) -> String {
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return String::new() };
    let holds = |network: &Node| {
        let subnets = network.child("subnet").and_then(Node::children).into_iter().flatten();
        subnets
            .filter_map(|(prefix, _)| prefix.parse::<ipnet::IpNet>().ok())
            .any(|prefix| prefix.contains(&address))
    };
    let mut networks = running.entries(&["service", "dhcp-server", "shared-network-name"]);
    networks.find(|(_, network)| holds(network)).map(|(name, _)| name.clone()).unwrap_or_default()
}

/// `2026/11/22 21:33:38`, UTC.
fn date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a civil date: Howard Hinnant's algorithm, with years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}/{month:02}/{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Columns as wide as their widest cell, two blanks between them, no blanks at the end.
fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        rows.iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.chars().count())
            .chain([titles[at].len()])
            .max()
    };
    let widths: Vec<usize> = (0..titles.len()).map(|at| width(at).unwrap_or(0)).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(titles.to_vec()) + &line(dashes.iter().map(String::as_str).collect());
    rows.iter().for_each(|row| text += &line(row.iter().map(String::as_str).collect()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(1_795_383_218), "2026/11/22 21:33:38");
        assert_eq!(date(951_782_400), "2000/02/29 00:00:00");
    }

    #[test]
    fn tables_line_up() {
        let rows = [vec!["1".to_owned(), String::new()], vec!["100".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["A", "Long"], &rows), "A    Long\n---  ----\n1\n100  x\n");
    }
}
