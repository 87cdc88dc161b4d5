//! Where machines are seen: `show arp`, `show ipv6 neighbors`, `show dhcp server leases`.

use std::net::IpAddr;

use super::link::{is_mac, neighbours};
use crate::inputs::{Look, Place, Sighting, Worth};

/// The commands whose texts tell it. A router that serves no DHCP may refuse the last one.
pub const SIGHTINGS: [&[&str]; 3] = [&["arp"], &["ipv6", "neighbors"], &["dhcp", "server", "leases"]];

/// What a script of the router prints when it fails; the API calls that a success.
const FAILED: &str = "Traceback (most recent call last)";

/// Who was seen where, by the texts of [`SIGHTINGS`].
///
/// # Errors
/// A text is that of a script that failed: half of what was seen must not pass for all of it.
pub fn sightings(texts: [&str; 3]) -> Look<Sighting> {
    for (text, command) in texts.iter().zip(SIGHTINGS) {
        if text.contains(FAILED) {
            return Err(format!("`show {}` failed on the router", command.join(" ")));
        }
    }
    let [arp, nd, leases] = texts;
    let mut all: Vec<Sighting> =
        [arp, nd].into_iter().flat_map(neighbours).filter_map(of_neighbour).collect();
    all.extend(leases.lines().filter_map(lease));
    all.sort();
    all.dedup();
    Ok(all)
}

fn of_neighbour(seen: weir_router_view::Neighbour) -> Option<Sighting> {
    let worth = match seen.state.as_str() {
        "reachable" | "permanent" => Worth::Answers,
        "failed" | "incomplete" => return None,
        _ => Worth::Remembered,
    };
    Some(Sighting { mac: seen.mac?, place: Place::Interface(seen.interface), worth })
}

/// A row of address, MAC address and state. Older releases print further states; only an active lease counts.
fn lease(line: &str) -> Option<Sighting> {
    let mut words = line.split_whitespace();
    let address: IpAddr = words.next()?.parse().ok()?;
    let mac = words.next().filter(|word| is_mac(word))?.to_lowercase();
    let active = words.next()?.eq_ignore_ascii_case("active");
    active.then_some(Sighting { mac, place: Place::Lease(address), worth: Worth::Remembered })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARP: &str = "Address      Interface    Link layer address    State\n\
        -----------  -----------  --------------------  ---------\n\
        10.10.30.10  eth1.30      52:54:00:AA:00:01     REACHABLE\n\
        10.10.40.10  eth1.40      52:54:00:aa:00:02     STALE\n\
        10.10.40.11  eth1.40      52:54:00:aa:00:03     FAILED\n\
        10.10.30.13  eth1.30                            INCOMPLETE\n";

    // As VyOS 1.5 printed it.
    const LEASES: &str = "IP Address    MAC address        State    Lease start          Lease expiration     Remaining    Pool    Hostname    Origin\n\
        ------------  -----------------  -------  -------------------  -------------------  -----------  ------  ----------  --------\n\
        10.10.20.10   52:54:00:00:00:0A  active   2026/11/22 21:33:38  2026/11/22 22:33:38  0:56:49      PROV    node-a      local\n\
        10.10.20.11   52:54:00:00:00:0b  expired  2026/11/22 20:33:38  2026/11/22 21:33:38               PROV                local\n";

    fn seen(texts: [&str; 3]) -> Vec<(String, Place, Worth)> {
        sightings(texts).unwrap().into_iter().map(|each| (each.mac, each.place, each.worth)).collect()
    }

    #[test]
    fn neighbours_and_active_leases() {
        let on = |mac: &str, interface: &str, worth| {
            (format!("52:54:00:aa:00:{mac}"), Place::Interface(interface.to_owned()), worth)
        };
        let leased =
            ("52:54:00:00:00:0a".to_owned(), Place::Lease("10.10.20.10".parse().unwrap()), Worth::Remembered);
        assert_eq!(
            seen([ARP, "", LEASES]),
            [leased, on("01", "eth1.30", Worth::Answers), on("02", "eth1.40", Worth::Remembered)]
        );
    }

    #[test]
    fn other_words_are_nobody() {
        assert_eq!(seen(["", "", "DHCP server is not configured\n\n10.0.0.1\n10.0.0.1 none active"]), []);
    }

    #[test]
    fn a_script_that_failed_is_no_empty_table() {
        let failed = "Traceback (most recent call last):\n  File \"neighbor.py\"\n";
        assert_eq!(sightings(["", failed, ""]), Err("`show ipv6 neighbors` failed on the router".to_owned()));
    }
}
