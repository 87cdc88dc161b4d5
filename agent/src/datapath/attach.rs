//! Puts the programs at the head of the hooks and keeps them there across agents.

use std::fs;
use std::os::fd::AsFd;

use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc};
use thiserror::Error;
use weir_ebpf::{HookKey, Row, RowKey};

use super::early::{self, Early};
use super::link::{pin_link, pinned_link, replace};
use super::load::Datapath;
use super::sys;
use super::table::{Table, TableError};
use super::vlan::Vlans;
use crate::model::address::{Direction, IfIndex};
use crate::model::interface::{Hook, HookState};
use crate::model::link::Link;

/// Priority and handle of our legacy filters: found again by the next agent.
const LEGACY_PRIORITY: u16 = 50;
const LEGACY_HANDLE: TcHandle = TcHandle::new(0, 0x7765);

/// How programs are attached to interfaces on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcMode {
    /// TCX (Linux 6.6): ordered beside others, replaced atomically.
    Tcx,
    /// Legacy tc filters on a clsact qdisc.
    Legacy,
}

/// A hook could not be attached.
#[derive(Debug, Error)]
pub enum HookError {
    /// The ledger has no place for it.
    #[error("cannot give {interface} a row in the ledger")]
    Row {
        /// Which interface.
        interface: String,
        /// Why.
        #[source]
        source: TableError,
    },
    /// The ledger is full.
    #[error("the ledger has no free row for {0}; more hooks than it can hold")]
    Full(String),
    /// The kernel refused.
    #[error("cannot attach to {interface} {direction}")]
    Attach {
        /// Which interface.
        interface: String,
        /// Which hook of it.
        direction: Direction,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The hooks of the interfaces that the agent watches.
pub struct Hooks {
    mode: TcMode,
    rows: Table<HookKey, u32>,
    numbers: Table<RowKey, u32>,
    free: Table<[u8; 0], u32>,
    ledger: Table<u32, Row>,
    retired: Table<RowKey, Row>,
    vlans: Vlans,
    early: Vec<String>,
}

impl Hooks {
    /// How this kernel attaches programs: by asking it for a TCX hook of the loopback interface.
    pub fn supported_mode() -> TcMode {
        match sys::query_tcx(1, false) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => TcMode::Legacy,
            _ => TcMode::Tcx,
        }
    }

    /// Opens the maps behind the hooks.
    ///
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(datapath: &Datapath, mode: TcMode) -> Result<Self, TableError> {
        let pins = datapath.pins();
        Ok(Self {
            mode,
            rows: Table::shared(&pins.map("HOOK_ROWS"))?,
            numbers: Table::shared(&pins.map("ROW_NUMBERS"))?,
            free: Table::shared(&pins.map("FREE_ROWS"))?,
            ledger: Table::per_cpu(&pins.map("LEDGER"))?,
            retired: Table::shared(&pins.map("RETIRED"))?,
            vlans: Vlans::open(pins)?,
            early: Vec::new(),
        })
    }

    /// The same, with XDP on interfaces of these names.
    pub fn with_early(self, early: Vec<String>) -> Self {
        Self { early, ..self }
    }

    /// Attaches to both hooks of an interface, or puts the new programs into the links of the agent before.
    ///
    /// # Errors
    /// When a hook cannot be attached; the other one then stays as it was.
    pub fn attach(&self, datapath: &mut Datapath, interface: IfIndex, name: &str) -> Result<(), HookError> {
        self.announce(interface, name)?;
        for direction in Direction::ALL {
            let failed = |source| HookError::Attach { interface: name.to_owned(), direction, source };
            match self.mode {
                TcMode::Tcx => attach_tcx(datapath, interface, name, direction).map_err(failed)?,
                TcMode::Legacy => attach_legacy(datapath, name, direction).map_err(failed)?,
            }
        }
        if self.early.iter().any(|wanted| wanted == name) {
            match early::attach(datapath, interface, name) {
                Early::Off { reason } => {
                    tracing::warn!(interface = name, reason, "no XDP: the hook judges everything")
                }
                mode => tracing::info!(interface = name, mode = mode.as_str(), "drops early, by XDP"),
            }
        } else {
            early::detach(datapath.pins(), interface);
        }
        Ok(())
    }

    /// Gives both hooks of an interface their rows in the ledger. Attaching does it too.
    ///
    /// # Errors
    /// When the ledger has no room.
    pub fn announce(&self, interface: IfIndex, name: &str) -> Result<(), HookError> {
        Direction::ALL.into_iter().try_for_each(|direction| self.give_row(interface, direction, name))
    }

    /// Tells the programs which links are measured: what a VLAN sub-interface among them sorts into the ledger, the
    /// interface below it only counts.
    ///
    /// # Errors
    /// When a map refuses; it can be told again.
    pub fn tell_measured<'a>(&self, links: impl Iterator<Item = &'a Link>) -> Result<(), TableError> {
        self.vlans.tell(links)
    }

    /// Detaches from an interface. Its counts stay until [`Self::forget`].
    pub fn detach(&self, datapath: &Datapath, interface: IfIndex, name: &str) {
        for direction in Direction::ALL {
            let _ = fs::remove_file(datapath.pins().hook(interface, direction));
        }
        early::detach(datapath.pins(), interface);
        if self.mode == TcMode::Legacy {
            Self::detach_legacy(name);
        }
    }

    /// Removes our legacy filters from an interface, if there are any.
    pub fn detach_legacy(name: &str) {
        for direction in Direction::ALL {
            // Taking hold of the filter and letting it go removes it; no filter is as good.
            let _ = legacy_link(name, direction).map(drop);
        }
    }

    /// Gives back the rows of an interface that is gone.
    ///
    /// # Errors
    /// When a map cannot be changed; what is left can be given back later.
    pub fn forget(&self, interface: IfIndex) -> Result<(), TableError> {
        let mut keys = Vec::new();
        self.numbers.visit(|key, number| {
            if key.interface == u32::from(interface) {
                keys.extend(number.next().map(|number| (key, number)));
            }
        })?;
        for (key, number) in keys {
            self.numbers.remove(&key)?;
            self.give_back(number)?;
        }
        let mut retired = Vec::new();
        self.retired.visit(|key, _| retired.push(key))?;
        for key in retired.iter().filter(|key| key.interface == u32::from(interface)) {
            self.retired.remove(key)?;
        }
        for direction in Direction::ALL {
            let key = hook_key(interface, direction);
            if let Some(number) = self.rows.read(&key)?.and_then(|numbers| numbers.first().copied()) {
                self.rows.remove(&key)?;
                self.give_back(number)?;
            }
        }
        Ok(())
    }

    /// How our program sits on a hook now.
    pub fn look(&self, datapath: &Datapath, interface: IfIndex, name: &str, direction: Direction) -> Hook {
        let hook = |state, programs| Hook { interface, name: name.to_owned(), direction, state, programs };
        if self.mode == TcMode::Legacy {
            return hook(HookState::LegacyTc, Vec::new());
        }
        let ours = pinned_link(&datapath.pins().hook(interface, direction), program_name(direction))
            .ok()
            .flatten()
            .and_then(|link| sys::link_info(link.as_fd()).ok());
        let programs = sys::query_tcx(interface.into(), direction == Direction::Egress);
        let detached = |reason: &str| HookState::Detached { reason: reason.to_owned() };
        match (ours, programs) {
            (None, _) => hook(detached("its link is gone; restart the agent to attach again"), Vec::new()),
            (Some(_), Err(error)) => {
                hook(detached(&format!("the interface cannot be asked: {error}")), Vec::new())
            }
            (Some(info), Ok((programs, _))) => {
                let state = match programs.iter().position(|&id| id == info.program) {
                    Some(0) => HookState::Head,
                    Some(before) => HookState::NotHead { before },
                    None => detached("another program removed it; restart the agent to attach again"),
                };
                hook(state, programs)
            }
        }
    }

    fn give_row(&self, interface: IfIndex, direction: Direction, name: &str) -> Result<(), HookError> {
        let failed = |source| HookError::Row { interface: name.to_owned(), source };
        let key = hook_key(interface, direction);
        if self.rows.read(&key).map_err(failed)?.is_some() {
            return Ok(());
        }
        let number = self.free.pop().map_err(failed)?.ok_or_else(|| HookError::Full(name.to_owned()))?;
        self.rows.write(&key, &number).map_err(failed)
    }

    fn give_back(&self, number: u32) -> Result<(), TableError> {
        self.ledger.write(&number, &Row::default())?;
        self.free.push(&number)
    }
}

fn hook_key(interface: IfIndex, direction: Direction) -> HookKey {
    HookKey { interface: interface.into(), direction: u32::from(direction == Direction::Egress) }
}

fn program_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "weir_ingress",
        Direction::Egress => "weir_egress",
    }
}

fn attach_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn attach_tcx(
    datapath: &mut Datapath,
    interface: IfIndex,
    name: &str,
    direction: Direction,
) -> Result<(), AnyError> {
    let label = program_name(direction);
    let pin = datapath.pins().hook(interface, direction);
    let program: &mut SchedClassifier = datapath.program(label)?;
    if let Some(old) = pinned_link(&pin, label)? {
        let info = sys::link_info(old.as_fd())?;
        if info.kind == sys::LINK_TYPE_TCX && info.interface == u32::from(interface) {
            return Ok(replace(&old, program.fd()?)?);
        }
        // The interface of that number is another one now.
        fs::remove_file(&pin)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let link = program.attach_with_options(name, attach_type(direction), options)?;
    let link = program.take_link(link)?;
    Ok(pin_link(FdLink::try_from(link)?, &pin, label)?)
}

/// Replaces our filter in place where there is one; the filter outlives the agent.
fn attach_legacy(datapath: &mut Datapath, name: &str, direction: Direction) -> Result<(), AnyError> {
    // Fails where the qdisc is there already; whether it is, the attachment tells.
    let _ = tc::qdisc_add_clsact(name);
    let program: &mut SchedClassifier = datapath.program(program_name(direction))?;
    let id = match legacy_link(name, direction).and_then(|old| Ok(program.attach_to_link(old)?)) {
        Ok(id) => id,
        Err(_) => {
            let options = NlOptions { priority: LEGACY_PRIORITY, handle: LEGACY_HANDLE, classid: None };
            program.attach_with_options(name, attach_type(direction), TcAttachOptions::Netlink(options))?
        }
    };
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

fn legacy_link(name: &str, direction: Direction) -> Result<SchedClassifierLink, AnyError> {
    Ok(SchedClassifierLink::attached(name, attach_type(direction), LEGACY_PRIORITY, LEGACY_HANDLE, None)?)
}
