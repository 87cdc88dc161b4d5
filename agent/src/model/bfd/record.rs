//! What the next agent needs to go on with a session: discriminators, source port, state, timers and counts, as octets of a
//! fixed place. The place holds two copies, written in turns, so that a process may be killed at any moment.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};

use super::packet::{Diagnostic, Micros, State};
use super::report::Counts;
use super::session::{Pace, Remote, Sequence};
use super::{Hops, PeerAddress};

/// Octets of one copy.
const COPY: usize = size_of::<Raw>();
/// Octets of the place of one session.
pub const SLOT: usize = 2 * COPY;

/// Changes when the fields of [`Raw`] do; a record of another layout is not believed.
const LAYOUT: u32 = 1;

/// A session, as one agent leaves it to the next on the same boot of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// With whom.
    pub peer: IpAddr,
    /// Over which interface alone, if so.
    pub interface: Option<String>,
    /// How many hops away.
    pub hops: Hops,
    /// The node's own address, where it is fixed.
    pub source: Option<IpAddr>,
    /// The node's own port.
    pub source_port: u16,
    /// The session's number here.
    pub discriminator: NonZeroU32,
    /// Its state.
    pub state: State,
    /// Why it last left Up.
    pub diagnostic: Diagnostic,
    /// Detection multiplier of this end.
    pub multiplier: NonZeroU8,
    /// When a periodic packet was last sent, by the host's monotonic clock.
    pub sent: Duration,
    /// Since when it has its state, by the same clock.
    pub since: Duration,
    /// What was counted.
    pub counts: Counts,
    pub(super) remote: Option<Remote>,
    pub(super) announced: Pace,
    pub(super) used: Pace,
    pub(super) sequence: Sequence,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    generation: u64,
    sent: u64,
    since: u64,
    received_packets: u64,
    sent_packets: u64,
    echoes: u64,
    drops: [u64; Diagnostic::COUNT],
    peer: [u8; 16],
    source: [u8; 16],
    interface: [u8; 16],
    layout: u32,
    discriminator: u32,
    remote_discriminator: u32,
    remote_min_tx: u32,
    remote_min_rx: u32,
    remote_min_echo_rx: u32,
    announced: [u32; 2],
    used: [u32; 2],
    source_port: u16,
    /// 0 is single hop.
    min_ttl: u8,
    state: u8,
    diagnostic: u8,
    multiplier: u8,
    remote_state: u8,
    remote_diagnostic: u8,
    remote_multiplier: u8,
    demand: u8,
    control_plane_independent: u8,
    sequence: u8,
    unused: [u8; 4],
    check: u64,
}

impl Record {
    /// Whether this is the record of a peer, as it is configured.
    pub fn is_of(&self, address: &PeerAddress, interface: Option<&str>, hops: Hops) -> bool {
        let multihop = |hops| matches!(hops, Hops::Multi { .. });
        address.contains(self.peer)
            && (matches!(address, PeerAddress::Any(_)) || self.interface.as_deref() == interface)
            && multihop(self.hops) == multihop(hops)
    }

    /// When the peer takes this end for gone, if it hears nothing more.
    pub(super) fn noticed_at(&self) -> Option<Duration> {
        let remote = self.remote?;
        Some(self.sent + self.announced.tx.max(remote.min_rx).duration() * u32::from(self.multiplier.get()))
    }

    /// Writes the record over the older of the two copies.
    pub fn write(&self, place: &mut [u8; SLOT]) {
        let (first, second) = (copy(place, 0), copy(place, 1));
        let generation = |raw: &Option<Raw>| raw.map_or(0, |raw| raw.generation);
        let (older, newest) = match (generation(&first), generation(&second)) {
            (one, two) if one <= two => (0, two),
            (one, _) => (1, one),
        };
        let mut raw = self.raw(newest + 1);
        raw.check = check(&raw);
        place[older * COPY..][..COPY].copy_from_slice(bytemuck::bytes_of(&raw));
    }

    /// The newest whole copy; `None` when there is none, or it makes no sense.
    pub fn read(place: &[u8; SLOT]) -> Option<Self> {
        let copies = [copy(place, 0), copy(place, 1)];
        copies.into_iter().flatten().max_by_key(|raw| raw.generation).and_then(|raw| Self::of(&raw))
    }

    fn raw(&self, generation: u64) -> Raw {
        let remote = self.remote.unwrap_or_default();
        let mut interface = [0; 16];
        for (octet, letter) in interface.iter_mut().zip(self.interface.iter().flat_map(|name| name.bytes())) {
            *octet = letter;
        }
        Raw {
            generation,
            sent: nanoseconds(self.sent),
            since: nanoseconds(self.since),
            received_packets: self.counts.received,
            sent_packets: self.counts.sent,
            echoes: self.counts.echoes,
            drops: self.counts.drops,
            peer: octets(self.peer),
            source: self.source.map_or([0; 16], octets),
            interface,
            layout: LAYOUT,
            discriminator: self.discriminator.get(),
            remote_discriminator: remote.discriminator.map_or(0, NonZeroU32::get),
            remote_min_tx: remote.min_tx.0,
            remote_min_rx: remote.min_rx.0,
            remote_min_echo_rx: remote.min_echo_rx.0,
            announced: [self.announced.tx.0, self.announced.rx.0],
            used: [self.used.tx.0, self.used.rx.0],
            source_port: self.source_port,
            min_ttl: match self.hops {
                Hops::Single => 0,
                Hops::Multi { min_ttl } => min_ttl,
            },
            state: self.state as u8,
            diagnostic: self.diagnostic.bits(),
            multiplier: self.multiplier.get(),
            remote_state: remote.state as u8,
            remote_diagnostic: remote.diagnostic.bits(),
            remote_multiplier: remote.multiplier,
            demand: remote.demand.into(),
            control_plane_independent: remote.control_plane_independent.into(),
            sequence: match self.sequence {
                Sequence::Idle => 0,
                Sequence::Asking => 1,
                Sequence::AskingTwice => 2,
            },
            unused: [0; 4],
            check: 0,
        }
    }

    fn of(raw: &Raw) -> Option<Self> {
        let name: Vec<u8> = raw.interface.iter().copied().take_while(|octet| *octet != 0).collect();
        let interface = String::from_utf8(name).ok()?;
        let state = |number: u8| State::ALL.get(usize::from(number)).copied();
        let remote = Remote {
            discriminator: NonZeroU32::new(raw.remote_discriminator),
            state: state(raw.remote_state)?,
            diagnostic: Diagnostic::from_bits(raw.remote_diagnostic),
            multiplier: raw.remote_multiplier,
            min_tx: Micros(raw.remote_min_tx),
            min_rx: Micros(raw.remote_min_rx),
            min_echo_rx: Micros(raw.remote_min_echo_rx),
            demand: raw.demand != 0,
            control_plane_independent: raw.control_plane_independent != 0,
        };
        Some(Self {
            peer: address(raw.peer),
            interface: (!interface.is_empty()).then_some(interface),
            hops: if raw.min_ttl == 0 { Hops::Single } else { Hops::Multi { min_ttl: raw.min_ttl } },
            source: (raw.source != [0; 16]).then(|| address(raw.source)),
            source_port: raw.source_port,
            discriminator: NonZeroU32::new(raw.discriminator)?,
            state: state(raw.state)?,
            diagnostic: Diagnostic::from_bits(raw.diagnostic),
            multiplier: NonZeroU8::new(raw.multiplier)?,
            sent: Duration::from_nanos(raw.sent),
            since: Duration::from_nanos(raw.since),
            counts: Counts {
                received: raw.received_packets,
                sent: raw.sent_packets,
                echoes: raw.echoes,
                drops: raw.drops,
            },
            remote: remote.discriminator.is_some().then_some(remote),
            announced: Pace { tx: Micros(raw.announced[0]), rx: Micros(raw.announced[1]) },
            used: Pace { tx: Micros(raw.used[0]), rx: Micros(raw.used[1]) },
            sequence: match raw.sequence {
                0 => Sequence::Idle,
                1 => Sequence::Asking,
                2 => Sequence::AskingTwice,
                _ => return None,
            },
        })
    }
}

fn copy(place: &[u8; SLOT], which: usize) -> Option<Raw> {
    let raw: Raw = bytemuck::pod_read_unaligned(&place[which * COPY..][..COPY]);
    (raw.layout == LAYOUT && raw.check == check(&raw)).then_some(raw)
}

/// FNV-1a over all but the check itself: tells a copy that was cut off, not one that was forged.
fn check(raw: &Raw) -> u64 {
    let octets = &bytemuck::bytes_of(raw)[..COPY - size_of::<u64>()];
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn address(octets: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        let counts = Counts { received: 7, sent: 9, echoes: 1, drops: [3; Diagnostic::COUNT] };
        let remote = Remote {
            discriminator: NonZeroU32::new(5),
            state: State::Up,
            multiplier: 3,
            ..Remote::default()
        };
        Record {
            peer: "fe80::1".parse().unwrap(),
            interface: Some("eth0".to_owned()),
            hops: Hops::Single,
            source: None,
            source_port: 50_000,
            discriminator: NonZeroU32::MIN,
            state: State::Up,
            diagnostic: Diagnostic::EXPIRED,
            multiplier: NonZeroU8::MIN,
            sent: Duration::from_nanos(12_345),
            since: Duration::from_secs(4),
            counts,
            remote: Some(remote),
            announced: Pace { tx: Micros(1), rx: Micros(2) },
            used: Pace { tx: Micros(3), rx: Micros(4) },
            sequence: Sequence::AskingTwice,
        }
    }

    #[test]
    fn what_is_written_is_read_and_the_newest_wins() {
        let mut place = [0; SLOT];
        assert_eq!(Record::read(&place), None);
        for number in 0..5 {
            let record = Record { sent: Duration::from_secs(number), ..record() };
            record.write(&mut place);
            assert_eq!(Record::read(&place), Some(record));
        }
        let v4 = Record {
            peer: "10.0.0.1".parse().unwrap(),
            interface: None,
            hops: Hops::Multi { min_ttl: 250 },
            source: "10.0.0.2".parse().ok(),
            remote: None,
            ..record()
        };
        v4.write(&mut place);
        assert_eq!(Record::read(&place), Some(v4));
    }

    proptest! {
        #[test]
        fn a_writer_that_is_killed_leaves_one_of_the_two(cut in 0..COPY) {
            let mut place = [0; SLOT];
            let old = Record { sent: Duration::from_secs(1), ..record() };
            let new = Record { sent: Duration::from_secs(2), ..record() };
            old.write(&mut place);
            let mut whole = place;
            new.write(&mut whole);
            // The second copy is the one that is written to now.
            let mut torn = place;
            torn[COPY..COPY + cut].copy_from_slice(&whole[COPY..COPY + cut]);
            let read = Record::read(&torn);
            prop_assert!(read == Some(old) || read == Some(new), "{:?}", read);
        }

        #[test]
        fn any_octets_are_read_without_harm(octets in prop::collection::vec(any::<u8>(), SLOT)) {
            let place: [u8; SLOT] = octets.try_into().unwrap();
            let mut again = place;
            record().write(&mut again);
            prop_assert_eq!(Record::read(&again), Some(record()));
            let _ = Record::read(&place);
        }
    }
}
