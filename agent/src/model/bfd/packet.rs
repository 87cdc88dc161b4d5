//! The control packet of RFC 5880, section 4.1, between octets and a type that cannot hold nonsense.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::Rejection;

/// The octets of a packet without authentication.
pub const LENGTH: usize = 24;

const VERSION: u8 = 1;

/// A session's state (RFC 5880, 4.1, `Sta`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Held down by its owner.
    AdminDown = 0,
    /// Down, or just made.
    #[default]
    Down = 1,
    /// The other end is there, and does not know yet that it is heard.
    Init = 2,
    /// Both ends hear each other.
    Up = 3,
}

impl State {
    /// All states, in the order of their numbers on the wire.
    pub const ALL: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

    /// The word for people and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            State::AdminDown => "admin-down",
            State::Down => "down",
            State::Init => "init",
            State::Up => "up",
        }
    }
}

/// Why a session was last taken out of Up (RFC 5880, 4.1, `Diag`); 9 to 31 are reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// No reason.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const EXPIRED: Self = Self(1);
    /// The other end told that its session is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// The path is down.
    pub const PATH_DOWN: Self = Self(5);
    /// A path behind this node is down.
    pub const CONCATENATED_PATH_DOWN: Self = Self(6);
    /// Its owner took it down.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);

    /// How many values there are on the wire.
    pub const COUNT: usize = 32;

    /// From the five bits of the wire; higher ones are cut off.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0x1f)
    }

    /// The number on the wire.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The word for people and labels.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            0 => "none",
            1 => "detection-time-expired",
            2 => "echo-failed",
            3 => "neighbor-signaled-down",
            4 => "forwarding-plane-reset",
            5 => "path-down",
            6 => "concatenated-path-down",
            7 => "administratively-down",
            8 => "reverse-concatenated-path-down",
            _ => "reserved",
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A time between packets as the wire has it: microseconds, up to 71 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u32);

impl Micros {
    /// One second: no end sends faster before the session is up (RFC 5880, 6.8.3).
    pub const SLOW: Self = Self(1_000_000);

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_micros(u64::from(self.0))
    }
}

impl From<Duration> for Micros {
    fn from(duration: Duration) -> Self {
        Self(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX))
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.duration().serialize(serializer)
    }
}

/// One control packet without authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender last left Up.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// Whether the sender asks for an answer, and whether this is one.
    pub poll: Poll,
    /// Whether the sender's BFD outlives its control plane.
    pub control_plane_independent: bool,
    /// Whether the sender wants no periodic packets.
    pub demand: bool,
    /// How many of the sender's packets may go missing.
    pub multiplier: NonZeroU8,
    /// The sender's number of the session.
    pub my_discriminator: NonZeroU32,
    /// The receiver's number of the session, once the sender knows it.
    pub your_discriminator: Option<NonZeroU32>,
    /// The sender would send no faster.
    pub desired_min_tx: Micros,
    /// The sender wants packets no faster; none at all when zero.
    pub required_min_rx: Micros,
    /// The sender wants echoes no faster; none at all when zero.
    pub required_min_echo_rx: Micros,
}

/// The Poll and Final bits, which never go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// Neither.
    #[default]
    Idle,
    /// Asks for an answer at once.
    Poll,
    /// Is the answer.
    Final,
}

impl Packet {
    /// As on the wire.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut octets = [0; LENGTH];
        let poll = match self.poll {
            Poll::Idle => 0,
            Poll::Poll => 0x20,
            Poll::Final => 0x10,
        };
        octets[0] = VERSION << 5 | self.diagnostic.bits();
        octets[1] = (self.state as u8) << 6
            | poll
            | u8::from(self.control_plane_independent) << 3
            | u8::from(self.demand) << 1;
        octets[2] = self.multiplier.get();
        octets[3] = LENGTH as u8;
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator.map_or(0, NonZeroU32::get),
            self.desired_min_tx.0,
            self.required_min_rx.0,
            self.required_min_echo_rx.0,
        ];
        for (place, word) in octets[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }

    /// From the payload of a datagram, by the rules of RFC 5880, 6.8.6, up to the choice of the session.
    ///
    /// # Errors
    /// The first rule that the packet breaks.
    pub fn decode(payload: &[u8]) -> Result<Self, Rejection> {
        let Some(octets) = payload.first_chunk::<LENGTH>() else { return Err(Rejection::Length) };
        let [first, flags, multiplier, length, ..] = *octets;
        if first >> 5 != VERSION {
            return Err(Rejection::Version);
        }
        let authenticated = flags & 0x04 != 0;
        let least = if authenticated { LENGTH + 2 } else { LENGTH };
        if usize::from(length) < least || usize::from(length) > payload.len() {
            return Err(Rejection::Length);
        }
        let multiplier = NonZeroU8::new(multiplier).ok_or(Rejection::Multiplier)?;
        if flags & 0x01 != 0 {
            return Err(Rejection::Multipoint);
        }
        let word =
            |at: usize| u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        let my_discriminator = NonZeroU32::new(word(4)).ok_or(Rejection::MyDiscriminator)?;
        let your_discriminator = NonZeroU32::new(word(8));
        let state = State::ALL[usize::from(flags >> 6)];
        if your_discriminator.is_none() && !matches!(state, State::Down | State::AdminDown) {
            return Err(Rejection::YourDiscriminator);
        }
        if authenticated {
            return Err(Rejection::Authentication);
        }
        let poll = match flags & 0x30 {
            0x20 => Poll::Poll,
            0x10 => Poll::Final,
            0 => Poll::Idle,
            _ => return Err(Rejection::PollAndFinal),
        };
        Ok(Self {
            diagnostic: Diagnostic::from_bits(first),
            state,
            poll,
            control_plane_independent: flags & 0x08 != 0,
            demand: flags & 0x02 != 0,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: Micros(word(12)),
            required_min_rx: Micros(word(16)),
            required_min_echo_rx: Micros(word(20)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> impl Strategy<Value = Packet> {
        let bits = (0_u8..32, 0_usize..4, 0_usize..3, any::<bool>(), any::<bool>());
        let words = (1_u8.., 1_u32.., any::<u32>(), any::<[u32; 3]>());
        (bits, words).prop_map(|((diagnostic, state, poll, cpi, demand), (multiplier, my, your, times))| {
            let state = State::ALL[state];
            let may_be_zero = matches!(state, State::Down | State::AdminDown);
            Packet {
                diagnostic: Diagnostic::from_bits(diagnostic),
                state,
                poll: [Poll::Idle, Poll::Poll, Poll::Final][poll],
                control_plane_independent: cpi,
                demand,
                multiplier: NonZeroU8::new(multiplier).unwrap(),
                my_discriminator: NonZeroU32::new(my).unwrap(),
                your_discriminator: NonZeroU32::new(if may_be_zero { your } else { your.max(1) }),
                desired_min_tx: Micros(times[0]),
                required_min_rx: Micros(times[1]),
                required_min_echo_rx: Micros(times[2]),
            }
        })
    }

    fn good() -> [u8; LENGTH] {
        let mut octets = [0; LENGTH];
        octets[..4].copy_from_slice(&[0x20, 0x40, 3, 24]);
        octets[7] = 1;
        octets
    }

    fn with(change: impl FnOnce(&mut [u8; LENGTH])) -> Result<Packet, Rejection> {
        let mut octets = good();
        change(&mut octets);
        Packet::decode(&octets)
    }

    #[test]
    fn every_rule_has_its_rejection() {
        assert_eq!(with(|_| {}).unwrap().state, State::Down);
        assert_eq!(with(|it| it[0] = 0x40), Err(Rejection::Version));
        assert_eq!(with(|it| it[0] = 0), Err(Rejection::Version));
        assert_eq!(with(|it| it[3] = 23), Err(Rejection::Length));
        assert_eq!(with(|it| it[3] = 25), Err(Rejection::Length));
        assert_eq!(Packet::decode(&good()[..23]), Err(Rejection::Length));
        assert_eq!(Packet::decode(&[]), Err(Rejection::Length));
        assert_eq!(with(|it| it[1] |= 0x04), Err(Rejection::Length), "24 octets hold no authentication");
        assert_eq!(with(|it| it[2] = 0), Err(Rejection::Multiplier));
        assert_eq!(with(|it| it[1] |= 0x01), Err(Rejection::Multipoint));
        assert_eq!(with(|it| it[7] = 0), Err(Rejection::MyDiscriminator));
        assert_eq!(with(|it| it[1] = 0xc0), Err(Rejection::YourDiscriminator));
        assert_eq!(with(|it| it[1] |= 0x30), Err(Rejection::PollAndFinal));
        let mut authenticated = good().to_vec();
        authenticated[1] |= 0x04;
        authenticated[3] = 28;
        authenticated.extend([1, 4, 0, 0]);
        assert_eq!(Packet::decode(&authenticated), Err(Rejection::Authentication));
    }

    #[test]
    fn octets_behind_the_length_are_not_looked_at() {
        let longer = [good().as_slice(), &[0xff; 40]].concat();
        assert_eq!(Packet::decode(&longer), Packet::decode(&good()));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(packet in packet()) {
            prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        }

        #[test]
        fn any_octets_are_judged_and_good_ones_written_back(octets: Vec<u8>) {
            if let Ok(packet) = Packet::decode(&octets) {
                prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
            }
        }

        #[test]
        fn a_damaged_packet_is_judged(at in 0_usize..LENGTH, octet: u8, cut in 0..=LENGTH) {
            let mut octets = good();
            octets[at] = octet;
            let _ = Packet::decode(&octets[..cut]);
        }
    }
}
