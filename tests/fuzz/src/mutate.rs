//! Mutations of known inputs, for the short run: no coverage guides them, so they stay close to what goes deep.

/// A source of mutations that is told by its seed alone.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
}

/// What breaks parsers most often.
const TOKENS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"\\",
    b"\n",
    b"---\n",
    b": ",
    b"- ",
    b"\0",
    b"0",
    b"-1",
    b"4294967296",
    b"1e999",
    b"null",
    b"&a",
    b"*a",
    b"\xff",
    "\u{2028}".as_bytes(),
    b"/32",
    b"::",
    b"!!binary ",
];

impl Mutator {
    /// Of these inputs.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Self { state: seed | 1, corpus }
    }

    /// The next input: one of the corpus with up to eight edits.
    pub fn input(&mut self) -> Vec<u8> {
        let mut bytes = self.one();
        for _ in 0..=self.below(8) {
            self.edit(&mut bytes);
        }
        bytes
    }

    fn one(&mut self) -> Vec<u8> {
        match self.corpus.len() {
            0 => Vec::new(),
            many => {
                let at = self.below(many);
                self.corpus[at].clone()
            }
        }
    }

    fn edit(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let length = self.below(32).min(bytes.len() - at);
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let copy = bytes[at..at + length].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            3 => {
                let other = self.one();
                let from = self.below(other.len() + 1);
                let length = self.below(64).min(other.len() - from);
                bytes.splice(at..at, other[from..from + length].iter().copied());
            }
            4 if at < bytes.len() && bytes[at].is_ascii_digit() => bytes[at] = b'0' + self.byte() % 10,
            5 if at < bytes.len() => bytes[at] = self.byte(),
            _ => {
                let token = TOKENS[self.below(TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).map_or(0, |number| number % limit.max(1))
    }

    /// xorshift64*, which is good enough to choose edits.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
