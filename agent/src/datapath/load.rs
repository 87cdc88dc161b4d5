//! Loads the programs, with maps pinned or taken over from the agent before.

use std::os::fd::{AsFd, OwnedFd};

use aya::programs::{BtfTracePoint, CgroupAttachMode, SchedClassifier, SockOps};
use aya::{Ebpf, EbpfLoader};
use thiserror::Error;
use weir_ebpf::FRONT_SLOTS;

use super::btf::DropTypes;
use super::pins::Pins;
use super::{link, sys};

#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);
static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/weir.o")));
/// The programs as built with this agent.
pub static OBJECT: &[u8] = &ALIGNED.0;

/// Maps that live on without an agent. `SOCKETS` too: established connections keep their class and start.
pub(super) const PINNED: [&str; 29] = [
    "SETTINGS",
    "HOOK_ROWS",
    "SUB_INTERFACES",
    "OWN_VLANS",
    "FRONT",
    "FLOW_TABLE",
    "LEDGER",
    "ROW_NUMBERS",
    "FREE_ROWS",
    "VIP_STATES",
    "VIP_PORTS_SEEN",
    "VIP_SERVED",
    "VIP_STRAYS",
    "STRAY_SEEN",
    "STRAYS_NOW",
    "VIP_CLAIMS",
    "CLASS_BY_ADDRESS",
    "CLASS_BY_PORT",
    "CLASS_BY_PROTOCOL",
    "CLASS_NAMES",
    "RETIRED",
    "SHORTFALL",
    "TCP_ROWS",
    "TCP_PEER_ROWS",
    "DROP_COUNTS",
    "CLOCK",
    "SOCKETS",
    "TAP_PORTS",
    "TAP",
];

/// Memory for front slots of all CPUs together, in slots.
const FRONT_BUDGET: usize = 1 << 19;

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Flows in the table behind the front cache.
    pub flows: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { flows: weir_ebpf::FLOWS }
    }
}

/// The loaded programs and the maps that they use.
pub struct Datapath {
    pub(super) ebpf: Ebpf,
    pub(super) pins: Pins,
    stats: Option<OwnedFd>,
}

/// The programs cannot be loaded or attached.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Memory, rights or the object.
    #[error("cannot load the datapath programs; `weir-agent check` tells what this node lacks")]
    Object(#[source] aya::EbpfError),
    /// The kernel refused a program.
    #[error("cannot load program {program}; `weir-agent check` tells what this node lacks")]
    Program {
        /// Which program.
        program: &'static str,
        /// What aya or the verifier said.
        #[source]
        source: aya::programs::ProgramError,
    },
    /// A program is not in the object.
    #[error("the datapath object has no program {0}; it belongs to another version")]
    NoProgram(&'static str),
    /// A pinned map of another shape could not be replaced.
    #[error("cannot use pinned map {map}")]
    Map {
        /// Which map.
        map: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A descriptor cannot be copied.
    #[error("cannot copy a program's descriptor")]
    Descriptor(#[source] std::io::Error),
    /// A pinned map cannot be read.
    #[error("cannot read what the programs count")]
    Table(#[from] super::table::TableError),
    /// The maps of rule sets cannot be made.
    #[error("cannot make the maps of rule sets")]
    Places(#[source] std::io::Error),
    /// The number of CPUs is unknown.
    #[error("cannot read the number of possible CPUs")]
    Cpus(#[source] std::io::Error),
    /// A cgroup cannot be used.
    #[error("cannot attach to cgroup {path}")]
    Cgroup {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A pinned link cannot be made or replaced.
    #[error(transparent)]
    Link(#[from] super::link::LinkError),
}

impl Datapath {
    /// Loads the programs. Pinned maps of the same shape are taken over with all their counts.
    ///
    /// # Errors
    /// When a map cannot be made or a program does not pass.
    pub fn load(pins: Pins, options: Options, types: Option<&DropTypes>) -> Result<Self, LoadError> {
        Self::load_object(OBJECT, pins, options, types)
    }

    /// Loads the programs of another version of the same layout: they take over what those before have pinned.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_object(
        object: &[u8],
        pins: Pins,
        options: Options,
        types: Option<&DropTypes>,
    ) -> Result<Self, LoadError> {
        let (slots, front) = front_slots()?;
        replace_other_shapes(&pins, &[("FRONT", front), ("FLOW_TABLE", options.flows)])?;
        super::guard::make_places(&pins).map_err(LoadError::Places)?;
        let offsets = types.map(|types| types.offsets).unwrap_or_default();
        let mask = slots - 1;
        let mut loader = EbpfLoader::new();
        loader.override_global("FRONT_MASK", &mask, true);
        for (name, offset) in
            ["SKB_DEV", "DEVICE_IFINDEX", "DEVICE_NET", "NET_INODE"].into_iter().zip(&offsets)
        {
            loader.override_global(name, offset, true);
        }
        // The loader writes what the section begins with, pinned or not: let it write what is in force.
        let settings = super::settings::pinned(&pins)?;
        loader.override_global("SETTINGS", bytemuck::bytes_of(&settings), true);
        loader.map_pin_path(".bss.settings", pins.map("SETTINGS"));
        loader.map_max_entries("FRONT", front).map_max_entries("FLOW_TABLE", options.flows);
        for name in PINNED.into_iter().chain(super::guard::PINNED) {
            loader.map_pin_path(name, pins.map(name));
        }
        let ebpf = loader.load(object).map_err(LoadError::Object)?;
        let mut datapath = Self { ebpf, pins, stats: None };
        for name in ["weir_ingress", "weir_egress", "weir_clock"] {
            let program: &mut SchedClassifier = datapath.program(name)?;
            program.load().map_err(|source| LoadError::Program { program: name, source })?;
        }
        Ok(datapath)
    }

    /// Where the pins are.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Gives the pins up, for removal.
    pub fn into_pins(self) -> Pins {
        self.pins
    }

    /// Attaches to the sockets of a cgroup (version 2) and all below.
    ///
    /// # Errors
    /// When the program does not pass or the cgroup cannot be used.
    pub fn attach_tcp(&mut self, cgroup: &std::path::Path) -> Result<(), LoadError> {
        const NAME: &str = "weir_tcp";
        let failed = |source| LoadError::Cgroup { path: cgroup.display().to_string(), source };
        let pin = self.pins.links().join("tcp");
        let program: &mut SockOps = self.program(NAME)?;
        program.load().map_err(|source| LoadError::Program { program: NAME, source })?;
        if let Some(old) = link::pinned_link(&pin, NAME)? {
            let fd = program.fd().map_err(|source| LoadError::Program { program: NAME, source })?;
            if link::replace(&old, fd).is_ok() {
                return Ok(());
            }
            let _ = std::fs::remove_file(&pin);
        }
        let folder = std::fs::File::open(cgroup).map_err(|error| failed(error.into()))?;
        // Of a link the kernel takes no attach flags: several always go together.
        let link = program.attach(folder, CgroupAttachMode::Single).map_err(|error| failed(error.into()))?;
        let link = program.take_link(link).map_err(|error| failed(error.into()))?;
        Ok(link::pin(link, &pin, NAME)?)
    }

    /// Attaches to the kernel's drops. Must have been loaded with BTF.
    ///
    /// # Errors
    /// When the program does not pass.
    pub fn attach_drops(&mut self) -> Result<(), LoadError> {
        const NAME: &str = "weir_drops";
        let pin = self.pins.links().join("drops");
        let failed = |source| LoadError::Program { program: NAME, source };
        let btf = aya::Btf::from_sys_fs().map_err(|error| failed(error.into()))?;
        let program: &mut BtfTracePoint = self.program(NAME)?;
        program.load("kfree_skb", &btf).map_err(failed)?;
        let link = program.attach().map_err(failed)?;
        let link = program.take_link(link).map_err(failed)?;
        // Links of tracepoints cannot be updated: the old one goes when the new one counts, a moment of both.
        let _ = std::fs::remove_file(&pin);
        Ok(link::pin(link, &pin, NAME)?)
    }

    /// Keeps the kernel's run-time statistics of programs on for as long as the agent runs. It costs every BPF
    /// program on the node some 40 ns a run.
    ///
    /// # Errors
    /// When the right for it (CAP_SYS_ADMIN) is missing.
    pub fn enable_stats(&mut self) -> std::io::Result<()> {
        self.stats = Some(sys::enable_stats()?);
        Ok(())
    }

    /// Loads a classifier of an object that has more than the agent's.
    ///
    /// # Errors
    /// When it does not pass.
    pub fn load_classifier(&mut self, name: &'static str) -> Result<(), LoadError> {
        let program: &mut SchedClassifier = self.program(name)?;
        program.load().map_err(|source| LoadError::Program { program: name, source })
    }

    /// All programs and maps, for what this room does not know.
    pub fn object(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// A classifier, to run it on crafted packets.
    ///
    /// # Errors
    /// When the object has no such classifier.
    pub fn classifier(&mut self, name: &'static str) -> Result<&SchedClassifier, LoadError> {
        self.program::<SchedClassifier>(name).map(|program| &*program)
    }

    /// A map that is not pinned.
    pub fn map(&self, name: &str) -> Option<&aya::maps::Map> {
        self.ebpf.map(name)
    }

    /// The descriptor of the program that reads the clocks.
    pub(super) fn clock_program(&self) -> Result<OwnedFd, LoadError> {
        self.descriptor("weir_clock")
    }

    /// The descriptor of a loaded program.
    pub(super) fn descriptor(&self, name: &'static str) -> Result<OwnedFd, LoadError> {
        let program = self.ebpf.program(name).ok_or(LoadError::NoProgram(name))?;
        let failed = |source| LoadError::Program { program: name, source };
        let fd = program.fd().map_err(failed)?;
        fd.as_fd().try_clone_to_owned().map_err(LoadError::Descriptor)
    }

    /// Names and descriptors of all loaded programs that run by themselves.
    pub(super) fn program_descriptors(&self) -> Vec<(String, OwnedFd)> {
        let programs = self.ebpf.programs().filter(|(name, _)| *name != "weir_clock");
        let descriptor =
            |program: &aya::programs::Program| program.fd().ok()?.as_fd().try_clone_to_owned().ok();
        programs.filter_map(|(name, program)| Some((name.to_owned(), descriptor(program)?))).collect()
    }

    pub(super) fn program<'a, P>(&'a mut self, name: &'static str) -> Result<&'a mut P, LoadError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
    {
        let program = self.ebpf.program_mut(name).ok_or(LoadError::NoProgram(name))?;
        program.try_into().map_err(|source| LoadError::Program { program: name, source })
    }
}

/// Front slots of one CPU, and of all.
fn front_slots() -> Result<(u32, u32), LoadError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| LoadError::Cpus(error))?.max(1);
    let most = (FRONT_BUDGET / cpus).max(1024);
    let slots = FRONT_SLOTS.min(1 << most.ilog2());
    Ok((slots, slots * cpus as u32))
}

/// A pinned map with another number of entries cannot be taken over: its pin goes, and its counts with it.
fn replace_other_shapes(pins: &Pins, sized: &[(&str, u32)]) -> Result<(), LoadError> {
    for (name, entries) in sized {
        let path = pins.map(name);
        let Ok(info) = aya::maps::MapInfo::from_pin(&path) else { continue };
        if info.max_entries() != *entries {
            tracing::warn!(
                map = name,
                old = info.max_entries(),
                new = entries,
                "flow table resized: it starts empty"
            );
            std::fs::remove_file(&path)
                .map_err(|source| LoadError::Map { map: (*name).to_owned(), source })?;
        }
    }
    Ok(())
}
