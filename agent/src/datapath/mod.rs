//! The agent's side of the datapath programs: load, attach, configure, read. An edge: all of it is the kernel's.

mod attach;
mod btf;
mod clock;
mod config;
mod early;
mod front;
mod guard;
mod keep;
mod link;
mod load;
mod pins;
mod reader;
mod settings;
mod sys;
mod table;
mod tap;
mod vips;
mod vlan;

pub use attach::{HookError, Hooks, TcMode};
pub use btf::{Btf, BtfError, DropTypes};
pub use config::{ConfigError, Targets};
pub use early::{Early, drops_early};
pub use guard::{Counted, Events, Guard, GuardError, UNPARSABLE, Verdict};
pub use keep::{Keeper, keep};
pub use link::LinkError;
pub use load::{Datapath, LoadError, OBJECT, Options};
pub use pins::{PinError, Pins};
pub use reader::Reader;
pub use table::{Table, TableError};
pub use tap::{Memory, Tap, TapError, follow};
pub use vips::Watcher;
