//! Messages as octets, and a TCP dialogue of two speakers as segments.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::address::{Direction, IfIndex};
use crate::model::bgp::{ACK, FIN, Observer, RST, SYN, Segment, Session, Side};

pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (19 + body.len()) as u16;
    [&[0xff; 16], &length.to_be_bytes()[..], &[kind], body].concat()
}

pub(super) fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// A capability as code and value.
pub(super) type Capability<'a> = (u8, &'a [u8]);

pub(super) const IPV4: Capability<'_> = (1, &[0, 1, 0, 1]);
pub(super) const IPV6: Capability<'_> = (1, &[0, 2, 0, 1]);

pub(super) fn open(asn: u32, hold: u16, capabilities: &[Capability<'_>]) -> Vec<u8> {
    let four = asn.to_be_bytes();
    let all = capabilities.iter().copied().chain([(65, &four[..])]);
    let all: Vec<u8> = all.flat_map(|(code, value)| [&[code, value.len() as u8], value].concat()).collect();
    let short = u16::try_from(asn).unwrap_or(23456);
    let mut body = vec![4];
    body.extend(short.to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend([10, 0, 0, 1, all.len() as u8 + 2, 2, all.len() as u8]);
    body.extend(all);
    message(1, &body)
}

pub(super) fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags | 0x10, code], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

/// ORIGIN, AS_PATH of one AS, NEXT_HOP.
pub(super) fn usual(asn: u32) -> Vec<u8> {
    let path = [&[2, 1], &asn.to_be_bytes()[..]].concat();
    [attribute(0x40, 1, &[0]), attribute(0x40, 2, &path), attribute(0x40, 3, &[10, 0, 0, 2])].concat()
}

pub(super) fn update(withdrawn: &[u8], attributes: &[u8], routes: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend([attributes, routes].concat());
    message(2, &body)
}

pub(super) fn end_of_rib() -> Vec<u8> {
    update(&[], &[], &[])
}

pub(super) fn notification(code: u8, subcode: u8, data: &[u8]) -> Vec<u8> {
    message(3, &[&[code, subcode], data].concat())
}

/// A connection of two speakers, whose segments an observer sees.
pub(super) struct Dialogue {
    pub(super) observer: Observer,
    pub(super) now: Duration,
    local: SocketAddr,
    peer: SocketAddr,
    next: [u32; 2],
    pub(super) md5: bool,
}

fn place(side: Side) -> usize {
    usize::from(side == Side::Peer)
}

pub(super) fn interface() -> IfIndex {
    IfIndex::try_from(2).unwrap()
}

impl Dialogue {
    pub(super) fn new() -> Self {
        Self {
            observer: Observer::new([179]),
            now: Duration::from_secs(1000),
            local: "10.0.0.2:40000".parse().unwrap(),
            peer: "10.0.0.1:179".parse().unwrap(),
            next: [0xffff_fff0, 7_000_000],
            md5: false,
        }
    }

    /// Other ports and sequence numbers: the next connection.
    pub(super) fn anew(&mut self) {
        self.local.set_port(self.local.port() + 1);
        self.next = [self.next[0].wrapping_add(0x1234_5678), self.next[1].wrapping_add(0x0765_4321)];
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.observer.pass(self.now);
    }

    fn segment<'a>(&self, side: Side, flags: u8, payload: &'a [u8]) -> Segment<'a> {
        let (direction, source, destination) = match side {
            Side::Local => (Direction::Egress, self.local, self.peer),
            Side::Peer => (Direction::Ingress, self.peer, self.local),
        };
        Segment {
            at: self.now,
            interface: interface(),
            direction,
            source,
            destination,
            sequence: self.next[place(side)],
            acknowledgement: self.next[place(side.other())],
            flags,
            authenticated: self.md5,
            length: payload.len() as u32,
            offset: 0,
            payload,
        }
    }

    /// A segment as `change` wants it; the dialogue does not go on with it.
    pub(super) fn stray(
        &mut self,
        side: Side,
        flags: u8,
        payload: &[u8],
        change: impl FnOnce(&mut Segment<'_>),
    ) {
        let mut segment = self.segment(side, flags, payload);
        change(&mut segment);
        self.observer.see(&segment);
    }

    /// A segment that the observer does not see, but the other side does.
    pub(super) fn unseen(&mut self, side: Side, payload: &[u8]) {
        let next = &mut self.next[place(side)];
        *next = next.wrapping_add(payload.len() as u32);
    }

    pub(super) fn send(&mut self, side: Side, payload: &[u8]) {
        self.now += Duration::from_millis(1);
        let segment = self.segment(side, ACK, payload);
        self.observer.see(&segment);
        self.unseen(side, payload);
    }

    pub(super) fn syn(&mut self, side: Side) {
        let segment = self.segment(side, SYN, &[]);
        self.observer.see(&segment);
    }

    pub(super) fn connect(&mut self, opener: Side) {
        self.syn(opener);
        self.next[place(opener)] = self.next[place(opener)].wrapping_add(1);
        let answer = self.segment(opener.other(), SYN | ACK, &[]);
        self.observer.see(&answer);
        let other = place(opener.other());
        self.next[other] = self.next[other].wrapping_add(1);
        self.send(opener, &[]);
    }

    pub(super) fn fin(&mut self, side: Side) {
        self.stray(side, FIN | ACK, &[], |_| {});
        self.next[place(side)] = self.next[place(side)].wrapping_add(1);
    }

    pub(super) fn rst(&mut self, side: Side) {
        self.stray(side, RST | ACK, &[], |_| {});
    }

    /// OPENs and KEEPALIVEs, hold times of 9 and 90 s.
    pub(super) fn establish(&mut self, opener: Side) {
        self.connect(opener);
        self.send(Side::Local, &open(64513, 90, &[IPV4, IPV6]));
        self.send(Side::Peer, &[open(64512, 9, &[IPV4]), keepalive()].concat());
        self.send(Side::Local, &keepalive());
    }

    /// The only session.
    pub(super) fn session(&mut self) -> Session {
        let view = self.observer.view();
        assert_eq!(view.sessions.len(), 1, "{view:#?}");
        view.sessions.values().next().map(|session| Session::clone(session)).unwrap()
    }
}
