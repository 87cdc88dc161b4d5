//! The view that vyos-sync publishes of a router.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use weir_router_view::{API_VERSION, KIND, RouterView};

/// A published view cannot be used.
#[derive(Debug, Error)]
pub enum PublishedError {
    /// The file cannot be read.
    #[error("cannot read the router's view {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no such document.
    #[error("{path} is no view of a router: {what}; it is written by `vyos-sync run --view-period`")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
}

/// Reads a published view.
///
/// # Errors
/// When the file cannot be read or is something else; the text names the field.
pub fn router_view(path: &Path) -> Result<RouterView, PublishedError> {
    let bytes =
        std::fs::read(path).map_err(|source| PublishedError::Read { path: path.to_owned(), source })?;
    let bad = |what: String| PublishedError::Parse { path: path.to_owned(), what };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let mut view: RouterView = super::parts::typed(value).map_err(bad)?;
    view.prefixes.iter_mut().flatten().for_each(|one| one.prefix = one.prefix.trunc());
    view.prefixes.iter_mut().for_each(|all| all.sort_by_key(|one| one.prefix));
    if view.kind != KIND || view.api_version != API_VERSION {
        return Err(bad(format!("it is {} {}, not {API_VERSION} {KIND}", view.api_version, view.kind)));
    }
    Ok(view)
}
