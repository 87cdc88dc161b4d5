//! XDP, where it is asked for: rules that drop for sure then act before the kernel has made a packet of a frame. What cannot
//! have it is judged at the hook all the same.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};

use super::link::{pin_link, pinned_link, replace};
use super::load::Datapath;
use super::pins::Pins;
use super::sys;
use crate::model::address::IfIndex;

const NAME: &str = "weir_xdp";
/// Where Cilium pins the link of its XDP program, below a folder for each device.
const CILIUM: &str = "/sys/fs/bpf/cilium/devices";
/// `BPF_LINK_TYPE_XDP`.
const LINK_TYPE_XDP: u32 = 6;
/// `XDP_DROP` of `enum xdp_action`.
const XDP_DROP: i32 = 1;

/// How XDP runs on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Early {
    /// In the driver.
    Native,
    /// In the kernel, after the driver has made a packet.
    Generic,
    /// Not at all: the hook judges everything.
    Off {
        /// Why.
        reason: String,
    },
}

impl Early {
    /// The word of tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off { .. } => "off",
        }
    }
}

const MODES: [(Early, XdpMode); 2] = [(Early::Native, XdpMode::Driver), (Early::Generic, XdpMode::Skb)];

fn pin(pins: &Pins, interface: IfIndex, mode: &Early) -> PathBuf {
    pins.links().join(format!("xdp-{interface}-{}", mode.as_str()))
}

/// Attaches, or puts the new program into the link of the agent before.
pub(super) fn attach(datapath: &mut Datapath, interface: IfIndex, name: &str) -> Early {
    if Path::new(CILIUM).join(name.replace('.', "-")).join("links/cil_xdp_entry").exists() {
        return Early::Off {
            reason: "Cilium's own XDP is on there, and only one program has room".to_owned(),
        };
    }
    match try_attach(datapath, interface, name) {
        Ok(mode) => mode,
        Err(error) => {
            let chain =
                std::iter::successors(Some(&*error as &dyn std::error::Error), |error| error.source());
            Early::Off { reason: chain.map(ToString::to_string).collect::<Vec<_>>().join(": ") }
        }
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Whether the program drops a frame, as if it came through the loopback interface. Counters move.
///
/// # Errors
/// When the kernel does not load the program, or refuses the run.
pub fn drops_early(datapath: &mut Datapath, frame: &[u8]) -> Result<bool, Fault> {
    Ok(sys::test_run(loaded(datapath)?.fd()?.as_fd(), frame)? == XDP_DROP)
}

fn loaded(datapath: &mut Datapath) -> Result<&mut Xdp, Fault> {
    let program: &mut Xdp = datapath.program(NAME)?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

fn try_attach(datapath: &mut Datapath, interface: IfIndex, name: &str) -> Result<Early, Fault> {
    let pins = MODES.map(|(mode, _)| pin(datapath.pins(), interface, &mode));
    let program = loaded(datapath)?;
    for ((mode, _), pin) in MODES.iter().zip(&pins) {
        let Some(old) = pinned_link(pin, NAME)? else { continue };
        let info = sys::link_info(old.as_fd())?;
        if info.kind == LINK_TYPE_XDP && info.interface == u32::from(interface) {
            replace(&old, program.fd()?)?;
            return Ok(mode.clone());
        }
        // The interface of that number is another one now.
        fs::remove_file(pin)?;
    }
    let mut last = None;
    for ((mode, how), pin) in MODES.into_iter().zip(&pins) {
        match program.attach(name, how) {
            Ok(link) => {
                let link = FdLink::try_from(program.take_link(link)?)?;
                pin_link(link, pin, NAME)?;
                return Ok(mode);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| "there is no mode".into(), Into::into))
}

/// Gives an interface's XDP up.
pub(super) fn detach(pins: &Pins, interface: IfIndex) {
    for (mode, _) in MODES {
        let _ = fs::remove_file(pin(pins, interface, &mode));
    }
}

/// Interfaces that have XDP, by their pins.
pub(super) fn attached(links: &Path) -> Vec<(IfIndex, &'static str)> {
    let one = |name: &str| {
        let (index, mode) = name.strip_prefix("xdp-")?.split_once('-')?;
        let mode = MODES.iter().find(|(known, _)| known.as_str() == mode)?.0.as_str();
        Some((IfIndex::try_from(index.parse::<u32>().ok()?).ok()?, mode))
    };
    let entries = fs::read_dir(links).into_iter().flatten().flatten();
    entries.filter_map(|entry| one(entry.file_name().to_str()?)).collect()
}
