//! The agent's side of the datapath programs: load, attach, configure, read. An edge: all of it is the kernel's.

mod attach;
mod btf;
mod clock;
mod config;
mod keep;
mod link;
mod load;
mod pins;
mod reader;
mod sys;
mod table;

pub use attach::{HookError, Hooks, TcMode};
pub use btf::{Btf, BtfError};
pub use config::{ConfigError, Targets};
pub use keep::{Keeper, keep};
pub use link::LinkError;
pub use load::{Datapath, LoadError, OBJECT, Options};
pub use pins::{PinError, Pins};
pub use reader::Reader;
pub use table::{Table, TableError};
