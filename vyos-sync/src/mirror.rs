//! Edge: a router's state in the cluster, so that another controller goes on where this one stopped: the ledger in a Secret,
//! the changes as RouterChanges. Both are written only while we lead.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::runtime::Handle;

use crate::apply::Record;
use crate::crd::{ChangePhase, RouterChange};
use crate::store::{Mirror, Store};

/// The label by which a router's changes are found.
pub const ROUTER_LABEL: &str = "weir.dev/router";
/// Who writes.
pub const FIELD_MANAGER: &str = "vyos-sync";
/// A Secret holds one MiB.
const LARGEST: usize = 900 * 1024;

/// Whether this process leads, at the moment of the question.
pub type Leads = Box<dyn Fn() -> bool + Send + Sync>;

/// The state of one router in the cluster.
pub struct InCluster {
    client: Client,
    namespace: String,
    router: String,
    uid: String,
    leads: Leads,
    runtime: Handle,
    /// The ledger's Secret as we last saw it.
    seen: Mutex<Option<Secret>>,
}

impl std::fmt::Debug for InCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InCluster").field("router", &self.router).finish_non_exhaustive()
    }
}

impl InCluster {
    /// Reads the state into a folder, which is emptied before, and gives a store that keeps both.
    ///
    /// # Errors
    /// The API server's, or the disk's.
    pub async fn open(
        client: Client,
        namespace: &str,
        router: (&str, &str),
        folder: &Path,
        leads: Leads,
    ) -> io::Result<Store> {
        let (name, uid) = router;
        match std::fs::remove_dir_all(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let store = Store::open(folder, name)?;
        let mirror = Self {
            client,
            namespace: namespace.to_owned(),
            router: name.to_owned(),
            uid: uid.to_owned(),
            leads,
            runtime: Handle::current(),
            seen: Mutex::default(),
        };
        mirror.read_into(&store).await?;
        Ok(store.mirrored(std::sync::Arc::new(mirror)))
    }

    async fn read_into(&self, store: &Store) -> io::Result<()> {
        let selector = format!("{ROUTER_LABEL}={}", self.router);
        let changes =
            self.changes().list(&ListParams::default().labels(&selector)).await.map_err(io::Error::other)?;
        for change in changes {
            // One whose status was never written was never begun.
            if let Some(record) = Record::of_object(&change) {
                store.keep(&record)?;
            }
        }
        let secret = self.secrets().get_opt(&self.secret_name()).await.map_err(io::Error::other)?;
        for (name, packed) in secret.iter().filter_map(|secret| secret.data.as_ref()).flatten() {
            if let Some(name) = name.strip_suffix(".gz") {
                let mut document = Vec::new();
                GzDecoder::new(packed.0.as_slice()).read_to_end(&mut document)?;
                store.restore(name, &document)?;
            }
        }
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = secret;
        Ok(())
    }

    fn changes(&self) -> Api<RouterChange> {
        Api::all(self.client.clone())
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn secret_name(&self) -> String {
        format!("vyos-sync-ledger-{}", self.router)
    }

    /// Waits for the API server, on a thread of its own right for that.
    fn ask<T>(&self, question: impl Future<Output = Result<T, kube::Error>>) -> io::Result<T> {
        if !(self.leads)() {
            return Err(io::Error::other("another controller leads now"));
        }
        tokio::task::block_in_place(|| self.runtime.block_on(question)).map_err(io::Error::other)
    }

    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "weir.dev/v1alpha1".to_owned(),
            kind: "Router".to_owned(),
            name: self.router.clone(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }

    /// Writes a document into the Secret as it was seen; `None` where it is not so any more. With the resource version that was
    /// read, so that of two who think that they lead, one is refused.
    fn replace(&self, name: &str, packed: Vec<u8>, seen: Option<&Secret>) -> io::Result<Option<Secret>> {
        let secret = self.secret(name, packed, seen);
        let how = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.ask(async {
            let written = match seen {
                Some(_) => self.secrets().replace(&self.secret_name(), &how, &secret).await,
                None => self.secrets().create(&how, &secret).await,
            };
            match written {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
                done => done.map(Some),
            }
        })
    }

    fn secret(&self, name: &str, packed: Vec<u8>, seen: Option<&Secret>) -> Secret {
        let mut secret = seen.cloned().unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.secret_name()),
                labels: Some(BTreeMap::from([(ROUTER_LABEL.to_owned(), self.router.clone())])),
                ..ObjectMeta::default()
            },
            type_: Some("weir.dev/ledger".to_owned()),
            ..Secret::default()
        });
        secret.data.get_or_insert_default().insert(format!("{name}.gz"), ByteString(packed));
        secret
    }
}

impl Mirror for InCluster {
    fn put(&self, name: &str, document: &[u8]) -> io::Result<()> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(document)?;
        let packed = packer.finish()?;
        if packed.len() > LARGEST {
            // Losing it is mild: the marks on the router tell most of it.
            tracing::error!(
                router = self.router,
                name,
                bytes = packed.len(),
                "too large for a Secret, so it is kept here alone"
            );
            return Ok(());
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match self.replace(name, packed.clone(), seen.as_ref())? {
            Some(kept) => kept,
            None => {
                // Somebody wrote to it or removed it. If its documents are still those that we know, it was no controller.
                let now = self.ask(self.secrets().get_opt(&self.secret_name()))?;
                let data = |secret: &Option<Secret>| secret.as_ref().and_then(|secret| secret.data.clone());
                if now.is_some() && data(&now) != data(&seen) {
                    return Err(io::Error::other("the ledger's Secret was written by another controller"));
                }
                let again = self.replace(name, packed, now.as_ref())?;
                again.ok_or_else(|| io::Error::other("the ledger's Secret is written to all the time"))?
            }
        };
        *seen = Some(kept);
        Ok(())
    }

    fn keep(&self, record: &Record) -> io::Result<()> {
        let mut change = record.to_object();
        let said = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterChange",
                          "metadata": {"name": record.name}, "status": change.status.take()});
        if record.phase == ChangePhase::Planned && record.is_open() {
            change.labels_mut().insert(ROUTER_LABEL.to_owned(), self.router.clone());
            change.metadata.owner_references = Some(vec![self.owner()]);
            let how = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            self.ask(self.changes().create(&how, &change))?;
        }
        let how = PatchParams::apply(FIELD_MANAGER).force();
        self.ask(self.changes().patch_status(&record.name, &how, &Patch::Apply(&said))).map(drop)
    }

    fn forget(&self, change: &str) -> io::Result<()> {
        let gone = self.ask(async {
            match self.changes().delete(change, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                done => done.map(drop),
            }
        });
        gone.map(drop)
    }
}
