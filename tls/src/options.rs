//! What a program is told about TLS.

use std::{path::PathBuf, sync::Arc};

use serde::Deserialize;

use crate::{Clients, Files, Identity, PairError};

/// The options of a program, on its command line and in its configuration file.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[group(id = "options-of-tls")]
pub struct Options {
    /// Folder with tls.crt, tls.key and ca.crt, as a Secret is mounted. TCP listeners then speak TLS, each new connection with
    /// what the files hold at that moment [default: no TLS]
    #[arg(id = "tls_dir", long = "tls-dir", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Who may connect over TLS; health pages stay open to anybody [default: anybody]
    #[arg(id = "tls_clients", long = "tls-clients", value_enum, value_name = "WHO")]
    pub clients: Option<Clients>,
}

impl Options {
    /// These, and what they leave open from others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { dir: self.dir.or(other.dir), clients: self.clients.or(other.clients) }
    }

    /// The identity that they ask for; none means no TLS.
    ///
    /// # Errors
    /// It cannot be used, or clients are to be certified without TLS.
    pub fn identity(&self) -> Result<Option<Arc<Identity>>, PairError> {
        let clients = self.clients.unwrap_or_default();
        match (&self.dir, clients) {
            (Some(folder), _) => Identity::read(Files::in_folder(folder), clients).map(Some),
            (None, Clients::Certified) => Err(PairError::NoTls),
            (None, Clients::Anybody) => Ok(None),
        }
    }
}
