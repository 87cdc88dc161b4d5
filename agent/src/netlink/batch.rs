//! Changes gathered until somebody takes them, so that a storm of them becomes one batch.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::attribute::{Message, messages};
use super::{link, neighbour, route};
use crate::model::address::IfIndex;
use crate::model::link::Link;
use crate::model::neighbour::{Neighbour, NeighbourState};
use crate::state::Event;

/// Changes in the order in which they came. Of several reports on one object, those that only repeat its state are
/// merged; a change of state always stays, so that flaps and failures can be counted.
#[derive(Default)]
pub(super) struct Batch {
    events: Vec<Event>,
    last: HashMap<Key, usize>,
    routes_changed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Link(IfIndex),
    Neighbour(IfIndex, IpAddr),
}

impl Batch {
    /// Takes in what one datagram of the kernel tells, at `now` (time since boot).
    pub(super) fn take_in(&mut self, datagram: &[u8], now: Duration) {
        for message in messages(datagram) {
            self.take_in_message(&message, now);
        }
    }

    fn take_in_message(&mut self, message: &Message<'_>, now: Duration) {
        match message.kind {
            libc::RTM_NEWLINK => {
                if let Some(link) = link::link(message.body, now) {
                    // IPv4 routes leave without a word when their link goes down.
                    self.routes_changed |= !link.is_up();
                    self.push(Key::Link(link.index), Event::Link(Box::new(link)));
                }
            }
            libc::RTM_DELLINK => {
                if let Some(index) = link::index(message.body) {
                    self.routes_changed = true;
                    self.push(Key::Link(index), Event::LinkGone(index));
                }
            }
            libc::RTM_NEWNEIGH => {
                if let Some(one) = neighbour::neighbour(message.body, now) {
                    self.push(Key::Neighbour(one.interface, one.address), Event::Neighbour(one));
                }
            }
            libc::RTM_DELNEIGH => {
                if let Some((interface, address)) = neighbour::key(message.body) {
                    let gone = Event::NeighbourGone(interface, address);
                    self.push(Key::Neighbour(interface, address), gone);
                }
            }
            libc::RTM_NEWROUTE => self.routes_changed |= route::route(message.body).is_some(),
            libc::RTM_DELROUTE => {
                let gone = route::route(message.body).is_some() || route::is_of_own_address(message.body);
                self.routes_changed |= gone;
            }
            _ => {}
        }
    }

    fn push(&mut self, key: Key, event: Event) {
        let place = self.last.get(&key).and_then(|place| self.events.get_mut(*place));
        match place.filter(|before| repeats(before, &event)) {
            Some(before) => *before = event,
            None => {
                self.last.insert(key, self.events.len());
                self.events.push(event);
            }
        }
    }

    /// Adds an event that is not about one object.
    pub(super) fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    /// How many changes are held.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing is to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether routes have to be read again.
    pub(super) fn routes_changed(&self) -> bool {
        self.routes_changed
    }

    /// Notes that routes have to be read again.
    pub(super) fn routes_are_to_be_read(&mut self) {
        self.routes_changed = true;
    }

    /// All links that are reported.
    pub(super) fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.events.iter_mut().filter_map(|event| match event {
            Event::Link(link) => Some(&mut **link),
            _ => None,
        })
    }

    /// All changes.
    pub(super) fn into_events(self) -> Vec<Event> {
        self.events
    }
}

/// Whether the second report makes the first needless.
fn repeats(first: &Event, second: &Event) -> bool {
    match (first, second) {
        (Event::Link(first), Event::Link(second)) => carrying(first) == carrying(second),
        (Event::Neighbour(first), Event::Neighbour(second)) => resolved(first) == resolved(second),
        _ => false,
    }
}

/// By what a link's state is told.
pub(super) fn carrying(link: &Link) -> (bool, bool, bool) {
    (link.admin_up, link.carrier, link.is_up())
}

fn resolved(neighbour: &Neighbour) -> (bool, Option<crate::model::address::Mac>) {
    (neighbour.state == NeighbourState::Failed, neighbour.mac)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::attribute::{attribute, request};
    use super::super::{qdisc, speed};
    use super::*;

    const UP: u32 = libc::IFF_UP as u32;
    const NOW: Duration = Duration::from_secs(100);

    fn link_message(kind: u16, family: u8, index: u32, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![family, 0, 1, 0];
        body.extend(index.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        body.extend(attribute(libc::IFLA_IFNAME, b"eth0\0"));
        body.extend(attributes.concat());
        request(kind, 0, 0, &body)
    }

    fn carrier(is: u8) -> Vec<u8> {
        attribute(libc::IFLA_CARRIER, &[is])
    }

    fn taken(datagrams: &[Vec<u8>]) -> Batch {
        let mut batch = Batch::default();
        datagrams.iter().for_each(|datagram| batch.take_in(datagram, NOW));
        batch
    }

    #[test]
    fn repeated_reports_become_one_and_changes_of_state_stay() {
        let up = || link_message(libc::RTM_NEWLINK, 0, 2, UP, &[carrier(1)]);
        let down = || link_message(libc::RTM_NEWLINK, 0, 2, UP, &[carrier(0)]);
        let other = || link_message(libc::RTM_NEWLINK, 0, 3, UP, &[carrier(1)]);
        let gone = || link_message(libc::RTM_DELLINK, 0, 2, UP, &[]);
        let batch = taken(&[up(), up(), other(), up(), down(), down(), up(), other(), gone(), up()]);
        let told: Vec<String> = batch
            .into_events()
            .iter()
            .map(|event| match event {
                Event::Link(link) => format!("{} {}", link.index, link.carrier),
                Event::LinkGone(index) => format!("{index} gone"),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(told, ["2 true", "3 true", "2 false", "2 true", "2 gone", "2 true"]);
    }

    #[test]
    fn a_port_that_leaves_its_bridge_has_not_gone() {
        let left = link_message(libc::RTM_DELLINK, libc::AF_BRIDGE as u8, 2, UP, &[]);
        assert!(taken(&[left]).is_empty());
    }

    #[test]
    fn a_wireless_event_describes_no_link() {
        let mut body = vec![0, 0, 1, 0, 2, 0, 0, 0];
        body.extend([0; 8]);
        body.extend(attribute(libc::IFLA_WIRELESS, &[1; 8]));
        assert!(taken(&[request(libc::RTM_NEWLINK, 0, 0, &body)]).is_empty());
    }

    #[test]
    fn attributes_that_nobody_knows_or_that_are_too_short_cost_nothing_but_themselves() {
        let attributes = [
            attribute(libc::IFLA_MTU, &[1]),
            attribute(0x3ff0, b"from the future"),
            attribute(libc::IFLA_STATS64, &7u64.to_ne_bytes()),
            attribute(libc::IFLA_AF_SPEC, &[0xff; 7]),
            attribute(libc::IFLA_TXQLEN, &1000u32.to_ne_bytes()),
        ];
        let mut batch = taken(&[link_message(libc::RTM_NEWLINK, 0, 2, UP, &attributes)]);
        let link = batch.links_mut().next().unwrap();
        assert_eq!((link.name.as_str(), link.mtu, link.queue_length), ("eth0", 0, 1000));
        assert_eq!((link.counters.rx_packets, link.counters.tx_packets), (7, 0));
    }

    #[test]
    fn routes_are_read_again_only_for_routes_of_ours() {
        let route = |kind: u8, table: u8| {
            request(libc::RTM_NEWROUTE, 0, 0, &[libc::AF_INET as u8, 8, 0, 0, table, 2, 0, kind, 0, 0, 0, 0])
        };
        assert!(taken(&[route(libc::RTN_UNICAST, libc::RT_TABLE_MAIN)]).routes_changed());
        assert!(!taken(&[route(libc::RTN_UNICAST, 77)]).routes_changed());
        assert!(!taken(&[route(libc::RTN_LOCAL, libc::RT_TABLE_MAIN)]).routes_changed());
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_read_without_panic(
            kind in 16u16..40,
            body in proptest::collection::vec(prop_oneof![0u8..24, any::<u8>()], 0..200),
        ) {
            let batch = taken(&[request(kind, 0, 0, &body), body.clone()]);
            prop_assert!(batch.into_events().len() <= 1 + body.len() / 16);
            qdisc::root(&body);
            speed::speed(&body);
        }
    }
}
