//! Puts rule sets into the kernel, chooses which one is in force, and reads what they did.

mod events;
mod places;
mod slot;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;

use aya::maps::ProgramArray;
use aya::programs::SchedClassifier;
use thiserror::Error;
use weir_ebpf::rules::{Control, NAME, PairCount, PairKey, RuleCount, RuleName, SLOTS, control};
use weir_ebpf::{Address, Clock, Settings};

use super::load::{Datapath, LoadError};
use super::settings;
use super::sys;
use super::table::{Table, TableError};
use super::vips::Watcher;
use crate::model::address::{Direction, IfIndex, from_octets, octets};
use crate::model::policy::kind::Mode;
use crate::model::policy::{Claim, Contents, DropEvent, Pair, Rule, failsafe};
pub use events::Events;
pub(super) use places::make as make_places;
use slot::Slots;
use words::Words;

/// Programs that judge, by the direction that is their place in the array, and the one that answers.
const PROGRAMS: [&str; 3] = ["weir_guard_in", "weir_guard_out", "weir_answer"];
/// `TCX_DROP`, and `TCX_REDIRECT` of a packet that has become its own answer.
const ENDS: [i32; 2] = [2, 7];

/// Maps of rule sets; they live on without an agent.
pub(super) const PINNED: [&str; 22] = [
    "GUARD_CONTROL",
    "GUARD_PROGRAMS",
    "GUARD_HEADS",
    "GUARD_BITMAPS",
    "GUARD_RULES",
    "GUARD_PORTS",
    "GUARD_CLAIMANTS",
    "GUARD_FILTERS_V4",
    "GUARD_FILTERS_V6",
    "GUARD_EXACT_V4",
    "GUARD_EXACT_V6",
    "GUARD_TRIES_V4",
    "GUARD_TRIES_V6",
    "FAILSAFE_PORTS",
    "FAILSAFE_ICMP",
    "FAILSAFE_RESOLVERS",
    "RULE_COUNTS",
    "RULE_NAMES",
    "RULE_BUDGETS",
    "SOURCE_BUDGETS",
    "RULE_PAIRS",
    "RULE_DROPS",
];

/// The counter of packets that cannot be parsed has this name.
pub const UNPARSABLE: &str = "weir/unparsable";

/// The kernel's rule sets.
pub struct Guard {
    words: Words,
    settings: Table<u32, Settings>,
    slots: Slots,
    counts: Table<u32, RuleCount>,
    names: Table<u32, RuleName>,
    pairs: Table<PairKey, PairCount>,
    ports: Table<u32, u64>,
    icmp: Table<u32, u64>,
    resolvers: Table<Address, u32>,
    watcher: Watcher,
    numbers: BTreeMap<(String, Mode), u32>,
    clock: Table<u32, Clock>,
    clock_program: std::os::fd::OwnedFd,
    entries: [std::os::fd::OwnedFd; 2],
    links: std::path::PathBuf,
    events: Option<Events>,
}

/// A set cannot be put into force.
#[derive(Debug, Error)]
pub enum GuardError {
    /// A program cannot be loaded.
    #[error("policies cannot be enforced on this node")]
    Load(#[from] LoadError),
    /// The programs cannot be put into their array.
    #[error("cannot put the judging programs in their places")]
    Programs(#[source] aya::maps::MapError),
    /// A map refused.
    #[error("cannot put a rule set into the kernel")]
    Table(#[from] TableError),
    /// A map cannot be made or filled.
    #[error("cannot make the map of {what} for a rule set")]
    Map {
        /// What it is for.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The list of what no rule may drop is not in the kernel as it should be.
    #[error("the failsafe is not in the kernel as written; nothing is enforced until it is")]
    Failsafe,
    /// The rules do not fit.
    #[error("the rules do not fit into the kernel's tables")]
    Compile(#[source] crate::model::policy::CompileError),
    /// All counters are taken.
    #[error("more rules than there are counters have been in force; `weir-agent detach` frees them")]
    Counters,
    /// A clock cannot be read.
    #[error("cannot read the kernel's clock")]
    Clock(#[source] std::io::Error),
}

/// What a rule has done, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// `policy/rule`.
    pub name: String,
    /// Its mode.
    pub mode: Mode,
    /// The counters.
    pub count: RuleCount,
}

impl Guard {
    /// Loads the programs that judge and opens their maps. Fills the failsafe before anything else.
    ///
    /// # Errors
    /// When a program does not pass or a map cannot be used.
    pub fn open(datapath: &mut Datapath) -> Result<Self, GuardError> {
        for name in PROGRAMS {
            let program: &mut SchedClassifier = datapath.program(name)?;
            program.load().map_err(|source| LoadError::Program { program: name, source })?;
        }
        let pins = datapath.pins();
        let mut guard = Self {
            words: Words::map(&Table::shared(&pins.map("GUARD_CONTROL"))?)?,
            settings: Table::shared(&pins.map("SETTINGS"))?,
            slots: Slots::open(pins)?,
            counts: Table::per_cpu(&pins.map("RULE_COUNTS"))?,
            names: Table::shared(&pins.map("RULE_NAMES"))?,
            pairs: Table::shared(&pins.map("RULE_PAIRS"))?,
            ports: Table::shared(&pins.map("FAILSAFE_PORTS"))?,
            icmp: Table::shared(&pins.map("FAILSAFE_ICMP"))?,
            resolvers: Table::shared(&pins.map("FAILSAFE_RESOLVERS"))?,
            watcher: Watcher::open(datapath)?,
            numbers: BTreeMap::new(),
            clock: Table::shared(&pins.map("CLOCK"))?,
            clock_program: datapath.clock_program()?,
            entries: [datapath.descriptor("weir_ingress")?, datapath.descriptor("weir_egress")?],
            links: pins.links(),
            events: None,
        };
        guard.secure(&failsafe::all(&[]))?;
        guard.read_names()?;
        // The programs come last: from here on what the agent before has left in force is judged by ours.
        for (place, name) in (0..).zip(PROGRAMS) {
            let program: &mut SchedClassifier = datapath.program(name)?;
            let fd = program.fd().map_err(|source| LoadError::Program { program: name, source })?;
            let fd = fd.try_clone().map_err(LoadError::Descriptor)?;
            let map =
                datapath.ebpf.map_mut("GUARD_PROGRAMS").ok_or(LoadError::NoProgram("GUARD_PROGRAMS"))?;
            let mut programs = ProgramArray::try_from(map).map_err(GuardError::Programs)?;
            programs.set(place, &fd, 0).map_err(GuardError::Programs)?;
        }
        guard.events = Events::take(datapath);
        Ok(guard)
    }

    /// Packets that rules dropped, as they come; `None` after the first call.
    pub fn events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// An event in the model's words; `None` where its rule is not known.
    pub fn told(&self, event: &weir_ebpf::rules::Event) -> Option<DropEvent> {
        use weir_ebpf::rules::event_flag;
        let (rule, mode) = self.name_of(event.counter)?;
        let clock = self.clock.read(&0).ok()??.first().copied()?;
        let captured = usize::from(event.captured).min(event.octets.len());
        Some(DropEvent {
            time: super::clock::Ticks::new(clock).since_boot(event.time),
            rule: rule.to_owned(),
            mode,
            interface: IfIndex::try_from(event.interface).ok()?,
            direction: if event.direction == 0 { Direction::Ingress } else { Direction::Egress },
            saved: event.flags & event_flag::SAVED != 0,
            early: event.flags & event_flag::XDP != 0,
            length: event.length,
            octets: event.octets[..captured].to_vec(),
        })
    }

    /// Writes the failsafe and reads it back.
    ///
    /// # Errors
    /// When a map refuses, or shows something else than what was written.
    pub fn secure(&self, vital: &[crate::model::policy::Vital]) -> Result<(), GuardError> {
        let (ports, icmp) = (failsafe::port_words(vital), failsafe::icmp_words());
        for (table, words) in [(&self.ports, &ports), (&self.icmp, &icmp)] {
            let mut shown = vec![0; words.len()];
            let mut look = || {
                table.visit(|at, word| {
                    if let (Some(place), Some(word)) = (shown.get_mut(at as usize), word.next()) {
                        *place = word;
                    }
                })
            };
            look()?;
            for (at, (word, was)) in (0..).zip(words.iter().zip(shown.clone())) {
                if *word != was {
                    table.write(&at, word)?;
                }
            }
            let mut again = vec![0; words.len()];
            table.visit(|at, word| {
                if let (Some(place), Some(word)) = (again.get_mut(at as usize), word.next()) {
                    *place = word;
                }
            })?;
            if again != *words {
                return Err(GuardError::Failsafe);
            }
        }
        Ok(())
    }

    /// Makes the node's resolvers known: their answers are saved.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn resolve_by(&self, resolvers: &[IpAddr]) -> Result<(), GuardError> {
        let wanted: Vec<Address> = resolvers.iter().map(|one| Address::from(octets(*one))).collect();
        let mut present = Vec::new();
        self.resolvers.visit(|address, _| present.push(address))?;
        wanted.iter().take(64).try_for_each(|address| self.resolvers.write(address, &1))?;
        let gone = present.iter().filter(|address| !wanted.contains(address));
        Ok(gone.into_iter().try_for_each(|address| self.resolvers.remove(address))?)
    }

    /// The number of a rule's counters: the one that it has, or a free one.
    ///
    /// # Errors
    /// When none is free.
    pub fn counter(&mut self, name: &str, mode: Mode) -> Result<u32, GuardError> {
        let key = (name.to_owned(), mode);
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        let number = self.numbers.len() as u32;
        if number >= self.names.capacity() {
            return Err(GuardError::Counters);
        }
        let mut octets: RuleName = [0; NAME];
        let length = name.len().min(NAME - 2);
        octets[..length].copy_from_slice(&name.as_bytes()[..length]);
        octets[NAME - 1] = mode.as_str().as_bytes()[0];
        self.names.write(&number, &octets)?;
        self.numbers.insert(key, number);
        Ok(number)
    }

    /// Numbers for all rules of a set, and for what cannot be parsed.
    ///
    /// # Errors
    /// When none is free.
    pub fn counters(&mut self, rules: &[Rule]) -> Result<(u32, Vec<u32>), GuardError> {
        let unparsable = self.counter(UNPARSABLE, Mode::Enforce)?;
        let numbers = rules.iter().map(|rule| self.counter(&rule.full_name(), rule.mode));
        Ok((unparsable, { numbers }.collect::<Result<_, _>>()?))
    }

    fn read_names(&mut self) -> Result<(), GuardError> {
        let mut numbers = BTreeMap::new();
        self.names.visit(|number, name| {
            let Some(octets) = name.next().filter(|octets| octets[0] != 0) else { return };
            let mode = if octets[NAME - 1] == b'e' { Mode::Enforce } else { Mode::Audit };
            numbers.insert((rule_name(&octets), mode), number);
        })?;
        self.numbers = numbers;
        Ok(())
    }

    /// The word that says which set is in force.
    pub fn control(&self) -> Control {
        Control(self.words.load(control::WORD))
    }

    /// Changes which set is in force, at once on all CPUs.
    ///
    /// # Errors
    /// When the programs cannot be told that packets are judged now, or no longer.
    pub fn set_control(&self, word: Control) -> Result<(), GuardError> {
        // Without a set, packets go by: first they stop to come, or there is one to judge them by.
        if !word.is_on() {
            settings::guard(&self.settings, false)?;
        }
        self.words.store(control::WORD, word.0);
        if word.is_on() {
            settings::guard(&self.settings, true)?;
        }
        Ok(())
    }

    /// Renews the heartbeat: it is stale after so many jiffies, or never.
    pub fn beat(&self, stale_at: u64) {
        self.words.store(control::HEARTBEAT, stale_at);
    }

    /// The kernel's clock: jiffies now, and jiffies a second.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn jiffies(&self) -> Result<(u64, u64), GuardError> {
        sys::test_run(self.clock_program.as_fd(), &[0; 64]).map_err(GuardError::Clock)?;
        let clock = self.clock.read(&0)?.and_then(|values| values.first().copied()).unwrap_or_default();
        Ok((clock.jiffies, super::clock::Ticks::new(clock).rate()))
    }

    /// A slot that is neither active nor confirmed.
    pub fn free_slot(&self) -> u32 {
        let word = self.control();
        (1..SLOTS).find(|slot| ![word.active(), word.confirmed()].contains(slot)).unwrap_or(1)
    }

    /// Fills a slot that is not in force.
    ///
    /// # Errors
    /// When a map cannot be made or filled. The slot must then not be put into force.
    pub fn fill(&self, slot: u32, contents: &Contents) -> Result<(), GuardError> {
        // Nobody reads what was in the slot before: a program that began when it was in force has ended.
        sys::await_running_programs();
        self.slots.fill(slot, contents)
    }

    /// What all rules have done.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counted(&self) -> Result<Vec<Counted>, GuardError> {
        let mut all = Vec::with_capacity(self.numbers.len());
        for ((name, mode), number) in &self.numbers {
            let cpus = self.counts.read(number)?.unwrap_or_default();
            let count = cpus.into_iter().fold(RuleCount::default(), RuleCount::plus);
            all.push(Counted { name: name.clone(), mode: *mode, count });
        }
        Ok(all)
    }

    /// The name and mode behind a counter's number.
    pub fn name_of(&self, number: u32) -> Option<(&str, Mode)> {
        self.numbers
            .iter()
            .find(|(_, known)| **known == number)
            .map(|((name, mode), _)| (name.as_str(), *mode))
    }

    /// Pairs of workloads that rules count.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn pairs(&self) -> Result<Vec<Pair>, GuardError> {
        let mut pairs = Vec::new();
        self.pairs.visit(|key, count| {
            if let (Some((name, _)), Some(count)) = (self.name_of(key.counter), count.next()) {
                let address = |words: [u64; 2]| from_octets(Address(words).octets());
                let (source, destination) = (address(key.source), address(key.destination));
                let PairCount { packets, bytes } = count;
                let (rule, counter) = (name.to_owned(), key.counter);
                pairs.push(Pair { rule, counter, source, destination, packets, bytes });
            }
        })?;
        Ok(pairs)
    }

    /// Interfaces on which rules act by XDP, and in which mode.
    pub fn early(&self) -> Vec<(IfIndex, &'static str)> {
        super::early::attached(&self.links)
    }

    /// Whether the real program drops a frame, as if it came through an interface. Counters and budgets move.
    ///
    /// # Errors
    /// When the kernel refuses the run, as it does for an interface that is gone.
    pub fn drops(&self, direction: Direction, interface: u32, frame: &[u8]) -> Result<bool, GuardError> {
        let program = &self.entries[usize::from(direction == Direction::Egress)];
        let verdict = sys::run_on(program.as_fd(), frame, interface)
            .map_err(|source| GuardError::Map { what: "a test run", source })?;
        Ok(ENDS.contains(&verdict))
    }

    /// What a rule has done.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn count_of(&self, name: &str, mode: Mode) -> Result<RuleCount, GuardError> {
        let Some(number) = self.numbers.get(&(name.to_owned(), mode)) else {
            return Ok(RuleCount::default());
        };
        let cpus = self.counts.read(number)?.unwrap_or_default();
        Ok(cpus.into_iter().fold(RuleCount::default(), RuleCount::plus))
    }

    /// Runs the real program on a frame, as if it came through an interface; whether it was dropped, and the counters that moved.
    /// Counters and budgets move as with any packet.
    ///
    /// # Errors
    /// When the kernel refuses the run, as it does for an interface that is gone.
    pub fn run(&self, direction: Direction, interface: u32, frame: &[u8]) -> Result<Verdict, GuardError> {
        let before = self.counted()?;
        let dropped = self.drops(direction, interface, frame)?;
        let moved = self.counted()?.into_iter().zip(before).filter(|(after, before)| {
            (after.count.dropped, after.count.passed, after.count.saved)
                != (before.count.dropped, before.count.passed, before.count.saved)
        });
        Ok(Verdict { dropped, moved: moved.map(|(after, _)| (after.name, after.mode)).collect() })
    }

    /// The same on a frame with a claim of an address, which counts as nobody's.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_claim(&self, interface: u32, frame: &[u8], claim: Claim) -> Result<Verdict, GuardError> {
        self.watcher.untold(claim, interface, || self.run(Direction::Ingress, interface, frame))
    }

    /// Who claimed virtual addresses on this node, as neighbours or from it.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn claims(&self) -> Result<Vec<crate::model::vip::Claim>, GuardError> {
        Ok(self.watcher.read()?.claims)
    }
}

/// What the real program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it was dropped.
    pub dropped: bool,
    /// Rules whose counters moved meanwhile.
    pub moved: Vec<(String, Mode)>,
}

/// The text of a name.
pub(super) fn rule_name(octets: &RuleName) -> String {
    String::from_utf8_lossy(&octets[..NAME - 1]).trim_end_matches('\0').to_owned()
}
