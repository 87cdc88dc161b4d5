//! The hooks on Machines that keep their deletion waiting while a node is drained.

use kube::Error;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::events::EventType;
use serde_json::{Map, Value, json};

use super::Reporter;
use crate::inputs::{CapiMachine, Object, ObjectId, Snapshot};
use crate::mirror::FIELD_MANAGER;
use crate::routing::{Hook, Release};

/// The version of Cluster API's kinds that is asked for: all that are alive serve it.
const VERSION: &str = "v1beta1";

impl Reporter {
    fn machines(&self, version: &str, namespace: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("cluster.x-k8s.io", version, "Machine");
        Api::namespaced_with(
            self.client.clone(),
            namespace,
            &ApiResource::from_gvk_with_plural(&gvk, "machines"),
        )
    }

    /// Sets or takes annotations of a Machine.
    async fn hooks(&self, id: &ObjectId, hooks: Vec<(String, Option<&str>)>) -> Result<(), Error> {
        let annotations: Map<String, Value> =
            hooks.into_iter().map(|(hook, owner)| (hook, json!(owner))).collect();
        let patch = json!({"metadata": {"annotations": annotations}});
        let namespace = id.namespace.as_deref().unwrap_or("default");
        let how = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        for version in [VERSION, "v1beta2"] {
            match self.machines(version, namespace).patch(&id.name, &how, &Patch::Merge(&patch)).await {
                // A version that is not served, or a Machine that is gone.
                Err(Error::Api(status)) if status.code == 404 => {}
                done => return done.map(drop),
            }
        }
        Ok(())
    }

    /// Sets both hooks on Machines that lack one, early: once a deletion has begun it is too late. Where they are not wanted, takes ours
    /// away, also while a deletion waits for it.
    pub async fn keep_hooks<'a>(
        &self,
        router: &str,
        machines: impl Iterator<Item = &'a Object<CapiMachine>>,
        wanted: Wanted,
    ) {
        for machine in machines {
            let has = |hook: &Hook| machine.annotations.contains_key(&hook.annotation(router));
            let lacking: Vec<_> = match wanted {
                Wanted::Yes if !machine.deleting => Hook::ALL
                    .into_iter()
                    .filter(|hook| !has(hook))
                    .map(|hook| (hook.annotation(router), Some(FIELD_MANAGER)))
                    .collect(),
                Wanted::Yes => continue,
                Wanted::No => {
                    Hook::ALL.into_iter().filter(has).map(|hook| (hook.annotation(router), None)).collect()
                }
            };
            if lacking.is_empty() {
                continue;
            }
            if let Err(error) = self.hooks(&machine.id, lacking).await {
                tracing::warn!(machine = %machine.id, %error, "its hooks are not set");
            }
        }
    }

    /// Takes the hooks of Routers that are no more: nobody else would let them go.
    pub async fn sweep_hooks(&self, shot: &Snapshot) {
        for machine in &shot.inputs.capi_machines {
            let router = |key: &str| {
                Hook::ALL.iter().find_map(|hook| key.strip_prefix(hook.prefix()).map(str::to_owned))
            };
            let stray = machine
                .annotations
                .keys()
                .filter(|key| router(key).is_some_and(|router| shot.inputs.router(&router).is_none()));
            let stray: Vec<_> = stray.map(|key| (key.clone(), None)).collect();
            if stray.is_empty() {
                continue;
            }
            if let Err(error) = self.hooks(&machine.id, stray).await {
                tracing::warn!(machine = %machine.id, %error, "hooks of a Router that is gone are still set");
            }
        }
    }

    /// Lets hooks go, and tells why.
    pub async fn release(&self, router: &str, releases: &[Release], shot: &Snapshot) {
        for release in releases {
            if let Err(error) =
                self.hooks(&release.machine, vec![(release.hook.annotation(router), None)]).await
            {
                tracing::warn!(machine = %release.machine, %error, "its hook is not let go; trying again");
                continue;
            }
            tracing::info!(machine = %release.machine, hook = ?release.hook, why = release.why, "let go");
            let uid = shot.metas.get(&release.machine).map(|meta| meta.uid.clone()).unwrap_or_default();
            let kind = if release.late { EventType::Warning } else { EventType::Normal };
            let reason = if release.late { "DrainTimedOut" } else { "Drained" };
            let note = format!("{:?} hook let go: {}", release.hook, release.why);
            self.event(&release.machine, &uid, kind, reason, &note).await;
        }
    }
}

/// Whether hooks are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// They are.
    Yes,
    /// They are not, so ours go.
    No,
}
