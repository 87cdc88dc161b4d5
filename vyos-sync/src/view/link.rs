//! VyOS's texts of links: `show arp`, `show ipv6 neighbors`, `show interfaces counters`.

use weir_router_view::{Interface, Neighbour};

/// Rows of address, interface, link-layer address and state; one that is not resolved lacks the third.
pub(super) fn neighbours(text: &str) -> Vec<Neighbour> {
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [address, interface, rest @ ..] = columns.as_slice() else { return None };
        let state = rest.last().filter(|word| !is_mac(word)).map_or("unknown", |word| word);
        Some(Neighbour {
            address: address.parse().ok()?,
            interface: (*interface).to_owned(),
            mac: rest.iter().find(|word| is_mac(word)).map(|word| word.to_lowercase()),
            state: state.to_lowercase(),
        })
    };
    text.lines().filter_map(row).collect()
}

pub(super) fn is_mac(word: &str) -> bool {
    let octets: Vec<&str> = word.split(':').collect();
    octets.len() == 6 && octets.iter().all(|octet| octet.len() == 2 && u8::from_str_radix(octet, 16).is_ok())
}

/// Rows of a name and the eight counters: packets and octets received, then sent, drops both ways, errors both ways.
pub(super) fn counters(text: &str) -> Vec<Interface> {
    let row = |line: &str| {
        let (name, numbers) = line.split_once(char::is_whitespace)?;
        let numbers: Vec<u64> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [rx_packets, rx_bytes, tx_packets, tx_bytes, rx_dropped, tx_dropped, ..] = numbers.as_slice()
        else {
            return None;
        };
        Some(Interface {
            name: name.to_owned(),
            packets: [*rx_packets, *tx_packets],
            bytes: [*rx_bytes, *tx_bytes],
            dropped: [*rx_dropped, *tx_dropped],
        })
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_neighbours() {
        let text = "Address      Interface    Link layer address    State\n\
            -----------  -----------  --------------------  ---------\n\
            10.10.30.10  eth1         52:54:00:AA:00:01     REACHABLE\n\
            10.10.30.13  eth1                               FAILED\n";
        let all = neighbours(text);
        assert_eq!((all[0].mac.as_deref(), all[0].state.as_str()), (Some("52:54:00:aa:00:01"), "reachable"));
        assert_eq!((all[1].mac.as_deref(), all[1].state.as_str()), (None, "failed"));
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn rows_of_counters() {
        let text = "Interface    Rx Packets    Rx Bytes    Tx Packets    Tx Bytes    Rx Dropped    Tx Dropped    Rx Errors    Tx Errors\n\
            -----------  ------------  ----------  ------------  ----------  ------------  ------------  -----------  -----------\n\
            eth5.30      425           38084       417           30152       0             1             0            0\n";
        let all = counters(text);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].name.as_str(), all[0].packets, all[0].dropped), ("eth5.30", [425, 417], [0, 1]));
    }
}
