//! One direction of a TCP connection, put together again, and cut into messages.
//!
//! Segments may come twice, out of order, or not at all: the capture may miss what the receiver got. A hole is given up as soon as
//! the receiver acknowledges what lies behind it, since then nobody sends it again. What comes from sequence numbers far away is
//! a stranger's until the receiver says otherwise.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire::{HEADER, Header, Kind, LONGEST_EXTENDED, MARKER};

/// Octets that may wait behind a hole.
const WINDOW: usize = 256 * 1024;
/// Pieces that may wait behind a hole.
const PIECES: usize = 512;
/// How far ahead a segment may be: the largest receive window that BGP speakers use.
const AHEAD: i32 = 4 << 20;
/// How long a hole may stay where nothing of the other direction is seen, which would tell.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long pieces wait that nobody acknowledges: after that they were a stranger's.
const STRANGE: Duration = Duration::from_secs(60);

/// One direction of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stream {
    /// The sequence number of the next octet; `None` before the first segment.
    next: Option<u32>,
    /// Octets in order that are not read yet.
    ready: Vec<u8>,
    /// Pieces behind a hole, nearest first.
    waiting: Vec<Piece>,
    phase: Phase,
    /// The sequence number of the FIN.
    fin: Option<u32>,
    /// The longest message.
    longest: usize,
    /// What was less than perfect.
    pub(super) flaws: Flaws,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Piece {
    sequence: u32,
    octets: Vec<u8>,
    came: Duration,
}

/// Whether messages are found one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// The next octet begins a message.
    Reading,
    /// The next message must be found. What is skipped is garbage, or part of a message whose beginning is missing.
    Searching { garbage: bool },
}

/// What was less than perfect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flaws {
    /// Octets that came again.
    pub(super) repeated: u64,
    /// Octets that never came, or that mean nothing without those.
    pub(super) missing: u64,
    /// Octets that are not BGP.
    pub(super) garbage: u64,
    /// How often the next message had to be found.
    pub(super) resyncs: u64,
}

impl Flaws {
    /// What was added since `before`; all of it where counting began anew.
    pub(super) fn since(self, before: Flaws) -> Flaws {
        let grown = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Flaws {
            repeated: grown(self.repeated, before.repeated),
            missing: grown(self.missing, before.missing),
            garbage: grown(self.garbage, before.garbage),
            resyncs: grown(self.resyncs, before.resyncs),
        }
    }
}

/// Where a candidate for a message stands.
enum Candidate {
    /// Another message follows it.
    Followed,
    /// It ends with what was sent so far.
    Last,
    /// Its end has not come.
    Undecided,
    /// It is none.
    Refuted,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            next: None,
            ready: Vec::new(),
            waiting: Vec::new(),
            phase: Phase::Searching { garbage: false },
            fin: None,
            longest: LONGEST_EXTENDED,
            flaws: Flaws::default(),
        }
    }
}

impl Stream {
    /// A stream whose SYN had this sequence number.
    pub(super) fn begun(syn: u32) -> Self {
        Self { next: Some(syn.wrapping_add(1)), phase: Phase::Reading, ..Self::default() }
    }

    /// Whether anything of it was seen.
    pub(super) fn seen(&self) -> bool {
        self.next.is_some()
    }

    /// Whether pieces wait behind a hole.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether its FIN was reached.
    pub(super) fn finished(&self) -> bool {
        self.fin.is_some() && self.fin.map(|fin| fin.wrapping_add(1)) == self.next
    }

    /// What messages may be, at most.
    pub(super) fn limit(&mut self, longest: usize) {
        self.longest = longest;
    }

    /// Whether a segment of this direction is one that the receiver would take: not ahead of what was seen, and not ages old.
    pub(super) fn plausible(&self, sequence: u32) -> bool {
        self.next.is_none_or(|next| (-AHEAD..=0).contains(&distance(next, sequence)))
    }

    /// Whether the receiver believes a RST of this sequence number (RFC 5961 section 3.2), as far as can be told.
    pub(super) fn believes_reset(&self, sequence: u32) -> bool {
        self.next.is_none_or(|next| match distance(next, sequence) {
            0 => true,
            ahead => !self.waiting.is_empty() && (0..AHEAD).contains(&ahead),
        })
    }

    /// Takes in octets of a segment.
    pub(super) fn take(&mut self, sequence: u32, octets: &[u8], now: Duration) {
        let next = *self.next.get_or_insert(sequence);
        let ahead = distance(next, sequence);
        if ahead <= 0 {
            let known = (ahead.unsigned_abs() as usize).min(octets.len());
            self.flaws.repeated += known as u64;
            self.append(&octets[known..]);
            self.append_waiting();
        } else if ahead < AHEAD {
            self.keep(Piece { sequence, octets: octets.to_vec(), came: now });
        }
    }

    /// Takes in a FIN: it comes behind the octets of its segment.
    pub(super) fn finish(&mut self, sequence: u32) {
        let next = *self.next.get_or_insert(sequence);
        if (0..AHEAD).contains(&distance(next, sequence)) {
            self.fin = Some(sequence);
            self.pass_fin();
        }
    }

    /// The receiver has everything before this sequence number. Returns whether something is missing here.
    pub(super) fn acknowledged(&mut self, sequence: u32) -> bool {
        let Some(next) = self.next else { return false };
        let ahead = distance(next, sequence);
        if !(1..1 << 30).contains(&ahead) {
            return false;
        }
        let first = self.waiting.first().map(|piece| piece.sequence);
        let target = first.filter(|first| distance(*first, sequence) >= 0).unwrap_or(sequence);
        self.skip_to(target);
        true
    }

    /// Gives up what waited too long. `heard` tells whether the other direction is seen, so that acknowledgements would be.
    /// Returns whether something is missing.
    pub(super) fn expire(&mut self, now: Duration, heard: bool) -> bool {
        let Some(oldest) = self.waiting.iter().map(|piece| piece.came).min() else { return false };
        let waited = now.saturating_sub(oldest);
        if heard && waited >= STRANGE {
            self.waiting.clear();
        }
        if heard || waited < PATIENCE {
            return false;
        }
        if let Some(target) = self.waiting.first().map(|piece| piece.sequence) {
            self.skip_to(target);
        }
        true
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self, heard: bool) -> Option<Duration> {
        let oldest = self.waiting.iter().map(|piece| piece.came).min()?;
        Some(oldest + if heard { STRANGE } else { PATIENCE })
    }

    /// The next whole message: what it is, and its body.
    pub(super) fn message(&mut self) -> Option<(Kind, Vec<u8>)> {
        loop {
            if let Phase::Searching { garbage } = self.phase
                && !self.search(garbage)
            {
                return None;
            }
            let header = self.ready.first_chunk::<HEADER>()?;
            match Header::read(header, self.longest) {
                Ok(Header { kind, length }) => {
                    let body = self.ready.get(HEADER..length)?.to_vec();
                    self.ready.drain(..length);
                    return Some((kind, body));
                }
                Err(_) => {
                    self.flaws.resyncs += 1;
                    self.phase = Phase::Searching { garbage: true };
                }
            }
        }
    }

    /// Drops what precedes the next certain message; whether there is one. What may be the beginning of a message whose end has
    /// not come waits, unless a message that another follows is found behind it.
    fn search(&mut self, garbage: bool) -> bool {
        let (mut at, mut undecided) = (0, None);
        let found = loop {
            let Some(rest) = self.ready.get(at..).filter(|rest| rest.len() >= HEADER) else {
                // What is left may be the beginning of a header.
                at = undecided.unwrap_or_else(|| self.possible_start(at));
                break false;
            };
            if rest[0] == MARKER[0] {
                match self.judge(at) {
                    Candidate::Followed => break true,
                    Candidate::Last if undecided.is_none() => break true,
                    Candidate::Undecided => undecided = undecided.or(Some(at)),
                    Candidate::Last | Candidate::Refuted => {}
                }
            }
            at += 1;
        };
        self.ready.drain(..at);
        let skipped = at as u64;
        if garbage {
            self.flaws.garbage += skipped
        } else {
            self.flaws.missing += skipped
        }
        if found {
            self.phase = Phase::Reading;
        }
        found
    }

    /// The first place from `at` on from where only marker octets follow.
    fn possible_start(&self, at: usize) -> usize {
        let tail = self.ready.get(at..).unwrap_or_default();
        let fits = |start: usize| {
            let rest = &tail[start..];
            rest.iter().take(MARKER.len()).all(|octet| *octet == MARKER[0])
        };
        at + (0..tail.len()).find(|start| fits(*start)).unwrap_or(tail.len())
    }

    /// Whether a message begins at `at`: the next header follows it, or the end of what was sent so far.
    fn judge(&self, at: usize) -> Candidate {
        let header = |at: usize| {
            let octets = self.ready.get(at..)?.first_chunk::<HEADER>()?;
            Some(Header::read(octets, self.longest))
        };
        let Some(Ok(first)) = header(at) else { return Candidate::Refuted };
        let end = at + first.length;
        match header(end) {
            Some(Ok(_)) => Candidate::Followed,
            Some(Err(_)) => Candidate::Refuted,
            None if end == self.ready.len() => Candidate::Last,
            None => Candidate::Undecided,
        }
    }

    fn append(&mut self, octets: &[u8]) {
        self.ready.extend_from_slice(octets);
        self.next = self.next.map(|next| next.wrapping_add(octets.len() as u32));
        self.pass_fin();
    }

    fn append_waiting(&mut self) {
        while let (Some(next), Some(piece)) = (self.next, self.waiting.first()) {
            let ahead = distance(next, piece.sequence);
            if ahead > 0 {
                break;
            }
            let piece = self.waiting.remove(0);
            let known = (ahead.unsigned_abs() as usize).min(piece.octets.len());
            self.flaws.repeated += known as u64;
            self.append(&piece.octets[known..]);
        }
    }

    fn keep(&mut self, piece: Piece) {
        let held: usize = self.waiting.iter().map(|piece| piece.octets.len()).sum();
        if piece.octets.is_empty() || held + piece.octets.len() > WINDOW || self.waiting.len() >= PIECES {
            return;
        }
        let from = self.next.unwrap_or(piece.sequence);
        let place = |one: &Piece| (distance(from, one.sequence), one.octets.len());
        match self.waiting.binary_search_by_key(&place(&piece), place) {
            Ok(_) => self.flaws.repeated += piece.octets.len() as u64,
            Err(at) => self.waiting.insert(at, piece),
        }
    }

    /// Gives up what lies before a sequence number.
    fn skip_to(&mut self, sequence: u32) {
        let Some(next) = self.next else { return };
        let fin = self.fin.is_some_and(|fin| fin.wrapping_add(1) == sequence);
        let hole = u64::from(sequence.wrapping_sub(next)) - u64::from(fin);
        if hole > 0 {
            self.flaws.missing += hole + self.ready.len() as u64;
            self.flaws.resyncs += 1;
            self.ready.clear();
            self.phase = Phase::Searching { garbage: false };
        }
        self.next = Some(sequence);
        self.append_waiting();
    }

    fn pass_fin(&mut self) {
        if self.fin.is_some() && self.fin == self.next {
            self.next = self.next.map(|next| next.wrapping_add(1));
        }
    }
}

/// How far a sequence number is ahead of another (RFC 9293 section 3.4).
fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}
