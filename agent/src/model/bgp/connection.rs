//! A TCP connection between two speakers: both its streams, and how far it has come.
//!
//! Anybody can send a segment with a peer's address. So a connection begins with a handshake that both sides made, or, joined in
//! the middle, with a segment of the node's own, which tells where both streams stand; what a stranger makes up fits neither.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::segment::{ACK, FIN, RST, SYN, Segment};
use super::session::{SessionState, Side};
use super::stream::{Flaws, Stream};
use super::wire::{self, Kind, LONGEST, LONGEST_EXTENDED, Malformed, Message, Open, Reading};

/// A pair of things, one a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Both<T> {
    pub(super) local: T,
    pub(super) peer: T,
}

impl<T> Both<T> {
    pub(super) fn of(&self, side: Side) -> &T {
        match side {
            Side::Local => &self.local,
            Side::Peer => &self.peer,
        }
    }

    pub(super) fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Local => &mut self.local,
            Side::Peer => &mut self.peer,
        }
    }
}

impl Side {
    /// Both sides.
    pub const ALL: [Side; 2] = [Side::Local, Side::Peer];

    /// The side across.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Local => Side::Peer,
            Side::Peer => Side::Local,
        }
    }
}

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Connection {
    streams: Both<Stream>,
    /// The SYN that waits for its answer, and who sent it.
    attempt: Option<(Side, u32)>,
    /// The answer to it.
    answer: Option<Answer>,
    /// Whether the handshake was seen.
    whole: bool,
    stage: Stage,
    opens: Both<Option<Told>>,
    /// Who has sent a KEEPALIVE or an UPDATE.
    confirmed: Both<bool>,
    readings: Both<Reading>,
    authenticated: bool,
}

/// A handshake that lacks its last segment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Answer {
    opener: Side,
    /// The sequence numbers of the SYN and of the answer.
    syn: u32,
    answer: u32,
    authenticated: bool,
}

/// What of an OPEN decides how the other messages are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    four_octet: bool,
    extended_message: bool,
    sends_paths: (bool, bool),
    receives_paths: (bool, bool),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// A SYN was seen, or nothing.
    #[default]
    Begun,
    /// Octets flow.
    Open,
    /// It is over: what still comes means nothing.
    Over,
}

/// What a segment brought.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// A side tries to connect, with an authentication option or without.
    Trying(Side, bool),
    /// The handshake is done: a connection begins, on which nothing was said yet.
    Connected,
    /// A message.
    Message(Side, Message),
    /// A message that breaks the rules of its type.
    Malformed(Side, Kind, Malformed),
    /// Octets of this side are missing.
    Gap(Side),
    /// A side has said all it will say.
    Closed(Side),
    /// A side reset the connection.
    Reset(Side),
}

impl Connection {
    /// Whether it is over.
    pub(super) fn over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// It is over.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Over;
    }

    /// Whether it was seen from its handshake on.
    pub(super) fn whole(&self) -> bool {
        self.whole
    }

    /// Whether segments carry an authentication option.
    pub(super) fn authenticated(&self) -> bool {
        self.authenticated
    }

    /// What was less than perfect in one direction.
    pub(super) fn flaws(&self, side: Side) -> Flaws {
        self.streams.of(side).flaws
    }

    /// How far it has come.
    pub(super) fn state(&self) -> SessionState {
        match (self.stage, self.attempt) {
            (Stage::Over, _) => SessionState::Idle,
            (Stage::Begun, Some((Side::Local, _))) => SessionState::Connect,
            (Stage::Begun, Some((Side::Peer, _))) => SessionState::Active,
            (Stage::Begun, None) => SessionState::Idle,
            (Stage::Open, _) if self.confirmed.local && self.confirmed.peer => SessionState::Established,
            (Stage::Open, _) if self.opens.local.is_some() && self.opens.peer.is_some() => {
                SessionState::OpenConfirm
            }
            (Stage::Open, _) if self.confirmed.local || self.confirmed.peer => SessionState::OpenConfirm,
            (Stage::Open, _) => SessionState::OpenSent,
        }
    }

    /// Whether pieces wait behind a hole.
    pub(super) fn waiting(&self) -> bool {
        self.stage == Stage::Open && (self.streams.local.waits() || self.streams.peer.waits())
    }

    /// Takes in a segment that `side` has sent.
    pub(super) fn take(&mut self, side: Side, segment: &Segment<'_>) -> Vec<News> {
        let mut news = Vec::new();
        if segment.has(SYN) {
            self.handshake(side, segment, &mut news);
        } else if segment.has(RST) {
            self.reset(side, segment, &mut news);
        } else if segment.has(ACK) {
            self.connect(side, segment, &mut news);
            if self.stage == Stage::Open {
                self.flow(side, segment, &mut news);
            }
        }
        news
    }

    fn flow(&mut self, side: Side, segment: &Segment<'_>, news: &mut Vec<News>) {
        self.authenticated |= segment.authenticated;
        let believed = self.streams.of(side).plausible(segment.sequence);
        self.streams.of_mut(side).take(segment.start(), segment.payload, segment.at);
        self.read(side, news);
        let acknowledged = segment.acknowledgement;
        if believed && self.streams.of_mut(side.other()).acknowledged(acknowledged) {
            news.push(News::Gap(side.other()));
            self.read(side.other(), news);
        }
        if segment.has(FIN) {
            self.streams.of_mut(side).finish(segment.end());
        }
        let closed = Side::ALL.into_iter().filter(|side| self.streams.of(*side).finished());
        news.extend(closed.map(News::Closed));
    }

    /// Gives up what waited too long.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<News> {
        let mut news = Vec::new();
        for side in Side::ALL {
            let heard = self.streams.of(side.other()).seen();
            if self.streams.of_mut(side).expire(now, heard) {
                news.push(News::Gap(side));
                self.read(side, &mut news);
            }
        }
        news
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let of = |side: Side| self.streams.of(side).deadline(self.streams.of(side.other()).seen());
        Side::ALL.into_iter().filter_map(of).min()
    }

    fn handshake(&mut self, side: Side, segment: &Segment<'_>, news: &mut Vec<News>) {
        if !segment.has(ACK) {
            if self.over() {
                *self = Self::default();
            }
            self.attempt = Some((side, segment.sequence));
            return news.push(News::Trying(side, segment.authenticated));
        }
        let answers =
            |(opener, syn): &(Side, u32)| *opener != side && segment.acknowledgement == syn.wrapping_add(1);
        if let Some((opener, syn)) = self.attempt.filter(answers) {
            let (answer, authenticated) = (segment.sequence, segment.authenticated);
            self.answer = Some(Answer { opener, syn, answer, authenticated });
        }
    }

    /// The last segment of a handshake, or the first of the node's that is seen of a connection.
    fn connect(&mut self, side: Side, segment: &Segment<'_>, news: &mut Vec<News>) {
        let completes = |it: &Answer| {
            let (own, other) = (segment.sequence.wrapping_sub(it.syn), segment.acknowledgement);
            let near = 1..1 << 20;
            it.opener == side && near.contains(&own) && near.contains(&other.wrapping_sub(it.answer))
        };
        if let Some(Answer { opener, syn, answer, authenticated }) = self.answer.filter(completes) {
            *self = Self { whole: true, stage: Stage::Open, authenticated, ..Self::default() };
            *self.streams.of_mut(opener) = Stream::begun(syn);
            *self.streams.of_mut(opener.other()) = Stream::begun(answer);
            news.push(News::Connected);
            return;
        }
        let unseen = self.attempt.is_none() || !segment.payload.is_empty();
        if self.stage == Stage::Begun && unseen && side == Side::Local {
            *self = Self { stage: Stage::Open, ..Self::default() };
            self.streams.local.take(segment.start(), &[], segment.at);
            self.streams.peer.take(segment.acknowledgement, &[], segment.at);
        }
    }

    fn reset(&mut self, side: Side, segment: &Segment<'_>, news: &mut Vec<News>) {
        let refused = self.attempt.is_some_and(|(opener, syn)| {
            opener != side && segment.has(ACK) && segment.acknowledgement == syn.wrapping_add(1)
        });
        match self.stage {
            Stage::Begun if refused => news.push(News::Reset(side)),
            Stage::Open if self.believes_reset(side, segment) => news.push(News::Reset(side)),
            // Of an attempt to open a connection anew that has the same ports as the one before.
            _ if refused => (self.attempt, self.answer) = (None, None),
            _ => {}
        }
    }

    /// A RST that nobody could have made up: its sequence number is the next one, or it answers what the other side sent.
    fn believes_reset(&self, side: Side, segment: &Segment<'_>) -> bool {
        self.streams.of(side).believes_reset(segment.sequence)
    }

    /// Reads the messages that are whole.
    fn read(&mut self, side: Side, news: &mut Vec<News>) {
        while let Some((kind, body)) = self.streams.of_mut(side).message() {
            let message = match wire::decode(kind, &body, *self.readings.of(side)) {
                Ok(message) => message,
                Err(fault) => {
                    news.push(News::Malformed(side, kind, fault));
                    continue;
                }
            };
            match &message {
                Message::Open(open) => self.learn(side, open),
                Message::Update(update) => {
                    *self.readings.of_mut(side) = update.reading;
                    self.confirm(side, Kind::Update);
                }
                Message::Keepalive => self.confirm(side, Kind::Keepalive),
                Message::Notification(_) | Message::RouteRefresh(_) => {}
            }
            news.push(News::Message(side, message));
        }
    }

    /// On a connection whose OPENs were not seen, routes tell that both sides have confirmed.
    fn confirm(&mut self, side: Side, kind: Kind) {
        *self.confirmed.of_mut(side) = true;
        if kind == Kind::Update && self.opens.of(side).is_none() {
            self.confirmed = Both { local: true, peer: true };
        }
    }

    fn learn(&mut self, side: Side, open: &Open) {
        let capabilities = &open.capabilities;
        let paths = |wanted: fn(super::AddPath) -> bool| {
            use super::Family::{Ipv4, Ipv6};
            let of = |family| capabilities.add_path.iter().any(|(one, mode)| *one == family && wanted(*mode));
            (of(Ipv4), of(Ipv6))
        };
        *self.opens.of_mut(side) = Some(Told {
            four_octet: capabilities.four_octet_asn.is_some(),
            extended_message: capabilities.extended_message,
            sends_paths: paths(super::AddPath::sends),
            receives_paths: paths(super::AddPath::receives),
        });
        let (Some(local), Some(peer)) = (&self.opens.local, &self.opens.peer) else { return };
        let four_octet = (local.four_octet && peer.four_octet).into();
        let reading = |from: &Told, to: &Told| Reading {
            four_octet,
            add_path_v4: (from.sends_paths.0 && to.receives_paths.0).into(),
            add_path_v6: (from.sends_paths.1 && to.receives_paths.1).into(),
        };
        self.readings = Both { local: reading(local, peer), peer: reading(peer, local) };
        let extended = local.extended_message && peer.extended_message;
        for side in Side::ALL {
            self.streams.of_mut(side).limit(if extended { LONGEST_EXTENDED } else { LONGEST });
        }
    }
}
