//! The stack of the datapath programs, as kernels before 6.8 count it: each function's frame rounded up to 32 octets, and no more than
//! 512 in a chain of calls. This machine's kernel may allow more, so it is counted in the object.
#![allow(clippy::unwrap_used, reason = "an object that cannot be read fails the test")]

use std::collections::BTreeMap;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};
use weir_agent::datapath::OBJECT;

/// `MAX_BPF_STACK` of linux/filter.h.
const MOST: usize = 512;
/// The section of functions that programs share; a program has a section of its own.
const SHARED: &str = ".text";
const FRAME_POINTER: u8 = 10;
/// `BPF_JMP | BPF_CALL`, and the source register that says that a function of the object is called.
const CALL: (u8, u8) = (0x85, 1);

/// A function: the octets of stack that it uses, and which shared functions it calls, by their first instruction.
#[derive(Default)]
struct Function {
    name: String,
    frame: usize,
    calls: Vec<usize>,
}

/// One instruction (RFC 9669 section 3).
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    fn read(octets: &[u8]) -> Self {
        Self {
            code: octets[0],
            to: octets[1] & 15,
            from: octets[1] >> 4,
            offset: i16::from_le_bytes([octets[2], octets[3]]),
            value: i32::from_le_bytes([octets[4], octets[5], octets[6], octets[7]]),
        }
    }

    /// How far below the frame's top it reaches: loads, stores, and what is taken from a copy of the frame pointer.
    fn depth(&self, copies: &mut u16) -> usize {
        let loads = self.code & 7 == 1 && self.from == FRAME_POINTER;
        let stores = matches!(self.code & 7, 2 | 3) && self.to == FRAME_POINTER;
        if loads || stores {
            return usize::from(self.offset.min(0).unsigned_abs());
        }
        let copied = *copies & 1 << self.to != 0;
        match self.code {
            // mov64 of a register, and add64 of a number.
            0xbf if self.from == FRAME_POINTER => *copies |= 1 << self.to,
            0x07 if copied => return self.value.min(0).unsigned_abs() as usize,
            0x18 | 0xb7 | 0xbf => *copies &= !(1 << self.to),
            _ => {}
        }
        0
    }
}

/// Programs, and shared functions by their first instruction.
fn functions() -> (Vec<Function>, BTreeMap<usize, Function>) {
    let file = object::File::parse(OBJECT).unwrap();
    let (mut programs, mut shared) = (Vec::new(), BTreeMap::new());
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
        let (first, size) = (symbol.address() as usize, symbol.size() as usize);
        let targets: BTreeMap<u64, usize> = section
            .relocations()
            .filter_map(|(at, relocation)| {
                let RelocationTarget::Symbol(target) = relocation.target() else { return None };
                let target = file.symbol_by_index(target).ok()?;
                let place = file.section_by_index(target.section_index()?).ok()?;
                (place.name() == Ok(SHARED)).then_some((at, target.address() as usize / 8))
            })
            .collect();
        let mut function = Function { name: symbol.name().unwrap().to_owned(), ..Function::default() };
        let mut copies = 0;
        let code = &section.data().unwrap()[first..first + size];
        for (at, octets) in code.chunks_exact(8).enumerate() {
            let instruction = Instruction::read(octets);
            function.frame = function.frame.max(instruction.depth(&mut copies));
            if (instruction.code, instruction.from) == CALL {
                let from = first / 8 + at;
                let base = targets.get(&((from * 8) as u64)).copied();
                let next = i64::from(instruction.value) + 1 + base.unwrap_or(from) as i64;
                function.calls.push(usize::try_from(next).unwrap());
            }
        }
        if section.name() == Ok(SHARED) {
            shared.insert(first / 8, function);
        } else {
            programs.push(function);
        }
    }
    (programs, shared)
}

/// The deepest chain of calls: its octets, and who is in it.
fn deepest(function: &Function, shared: &BTreeMap<usize, Function>) -> (usize, Vec<String>) {
    let below = function.calls.iter().map(|call| deepest(&shared[call], shared)).max().unwrap_or_default();
    let own = function.frame.max(1).next_multiple_of(32);
    (own + below.0, [vec![format!("{} ({})", function.name, function.frame)], below.1].concat())
}

#[test]
fn every_chain_of_calls_fits_the_stack_of_older_kernels() {
    let (programs, shared) = functions();
    assert!(
        programs.len() >= 9 && shared.len() > 10,
        "{} programs, {} functions",
        programs.len(),
        shared.len()
    );
    for program in &programs {
        let (octets, chain) = deepest(program, &shared);
        assert!(octets <= MOST, "{octets} octets of stack: {}", chain.join(" calls "));
    }
    let deep = programs.iter().map(|program| deepest(program, &shared).0).max();
    assert!(deep > Some(MOST / 2), "the programs use more than {deep:?}");
}
