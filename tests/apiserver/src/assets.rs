//! Where the programs are: in `KUBEBUILDER_ASSETS`, or in the cache that `build.sh` fills.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The two programs.
#[derive(Clone, Debug)]
pub struct Assets {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub server: PathBuf,
}

impl Assets {
    /// Looks for them.
    ///
    /// # Errors
    /// Why they are not there, and what to do.
    pub fn find() -> Result<Self, String> {
        if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) {
            return Self::of(&folder).ok_or_else(|| {
                format!("KUBEBUILDER_ASSETS ({}) lacks etcd or kube-apiserver", folder.display())
            });
        }
        let folder = cache().join("apiserver").join(key());
        Self::of(&folder).ok_or_else(|| {
            "there is no kube-apiserver: tests/apiserver/build.sh builds it, and says why where it cannot"
                .to_owned()
        })
    }

    fn of(folder: &Path) -> Option<Self> {
        let (etcd, server) = (folder.join("etcd"), folder.join("kube-apiserver"));
        (etcd.is_file() && server.is_file()).then_some(Self { etcd, server })
    }
}

fn cache() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    of("WEIR_CACHE").unwrap_or_else(|| {
        of("XDG_CACHE_HOME").unwrap_or_else(|| of("HOME").unwrap_or_default().join(".cache")).join("weir")
    })
}

/// The same as in `build.sh`: a change of what is pinned asks for another build.
fn key() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut digest = Sha256::new();
    for file in ["server/go.mod", "server/go.sum", "etcd/go.mod", "etcd/go.sum"] {
        digest.update(std::fs::read(here.join(file)).unwrap_or_default());
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
