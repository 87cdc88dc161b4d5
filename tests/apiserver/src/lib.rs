//! A real kube-apiserver and its etcd on loopback, for tests: started in about two seconds, ended with the value.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let Some(api) = weir_apiserver::ApiServer::start("my_test").await else { return Ok(()) };
//! let client = api.client()?;
//! # Ok(()) }
//! ```
//!
//! Where the programs are not there, `start` prints `SKIPPED my_test: reason` and gives nothing. `tests/apiserver/build.sh`
//! (run by `scripts/setup.sh test`) builds them.

mod assets;
mod identity;
mod install;
mod process;
mod server;

pub use assets::Assets;
pub use identity::{Authority, User};
pub use install::{apply, definition, documents, install};
pub use server::{ApiServer, Builder};
