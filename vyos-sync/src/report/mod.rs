//! Edge: what is written to the cluster: conditions, events, finalizers, and the hooks of Machines. Nothing but status is
//! written to an object that people write, so that nobody who keeps it in Git finds a difference.

mod conditions;
mod finalizers;
mod machines;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::events::{Event, EventType, Recorder, Reporter as From};
use kube::{Client, Error};
use serde_json::{Value, json};

use crate::inputs::{Kind, Meta, ObjectId};
use crate::mirror::FIELD_MANAGER;

pub use conditions::{Said, Word, say};
pub use finalizers::{FINALIZER, Farewell, farewells, orphans};
pub use machines::Wanted;

/// Writes to the cluster. Clones share what was said.
pub struct Reporter {
    client: Client,
    events: Recorder,
    /// What was written last: the shelf may not have it yet.
    written: Mutex<BTreeMap<ObjectId, Word>>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

impl Reporter {
    /// Writes as this process.
    pub fn new(client: Client, identity: &str) -> Self {
        let from = From { controller: "weir.dev/vyos-sync".to_owned(), instance: Some(identity.to_owned()) };
        Self { events: Recorder::new(client.clone(), from), client, written: Mutex::default() }
    }

    fn api(&self, id: &ObjectId) -> Option<Api<DynamicObject>> {
        let (version, plural) = match id.kind {
            Kind::Router => ("v1alpha1", "routers"),
            Kind::RouterGrant => ("v1alpha1", "routergrants"),
            Kind::RouterNetwork => ("v1alpha1", "routernetworks"),
            Kind::BgpPeering => ("v1alpha1", "bgppeerings"),
            Kind::PortPublication => ("v1alpha1", "portpublications"),
            Kind::RouterConfig => ("v1alpha1", "routerconfigs"),
            _ => return None,
        };
        let gvk = GroupVersionKind::gvk(id.kind.group(), version, id.kind.as_str());
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        Some(match &id.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        })
    }

    /// Writes what changed, each object by itself: one that the API server refuses does not stop the others.
    pub async fn write(&self, words: Vec<Said>, metas: &BTreeMap<ObjectId, Meta>) {
        for said in words {
            let Some(meta) = metas.get(&said.object) else { continue };
            let known = {
                let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                written.get(&said.object) == Some(&said.word)
            };
            if known || said.word.is_said_by(meta) {
                continue;
            }
            match self.write_one(&said, meta).await {
                Ok(()) => {
                    self.tell(&said, meta).await;
                    self.written
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(said.object, said.word);
                }
                Err(Error::Api(status)) if status.code == 404 || status.code == 409 => {
                    tracing::debug!(object = %said.object, "gone before its status was written");
                }
                Err(error) => tracing::warn!(object = %said.object, %error, "its status is not written"),
            }
        }
    }

    async fn write_one(&self, said: &Said, meta: &Meta) -> Result<(), Error> {
        let Some(api) = self.api(&said.object) else { return Ok(()) };
        let patch = self.head(&said.object, &meta.uid, |object| object["status"] = said.word.status());
        let how = PatchParams::apply(FIELD_MANAGER).force();
        api.patch_status(&said.object.name, &how, &Patch::Apply(&patch)).await.map(drop)
    }

    /// An object with the unique id that we know: one of the same name that was made anew is none of ours to write to.
    fn head(&self, id: &ObjectId, uid: &str, fill: impl FnOnce(&mut Value)) -> Value {
        let mut object = json!({
            "apiVersion": format!("{}/v1alpha1", id.kind.group()), "kind": id.kind.as_str(),
            "metadata": {"name": id.name, "uid": uid},
        });
        if let Some(namespace) = &id.namespace {
            object["metadata"]["namespace"] = namespace.clone().into();
        }
        fill(&mut object);
        object
    }

    /// An event, when the summary turns.
    async fn tell(&self, said: &Said, meta: &Meta) {
        let ready = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
            conditions
                .iter()
                .find(|each| each.type_ == "Ready")
                .map(|each| (each.status.clone(), each.reason.clone()))
        };
        let Some(now) = said.word.conditions.iter().find(|each| each.type_ == "Ready") else { return };
        if ready(&meta.conditions) == Some((now.status.clone(), now.reason.clone())) {
            return;
        }
        let kind = if now.status == "True" { EventType::Normal } else { EventType::Warning };
        self.event(&said.object, &meta.uid, kind, &now.reason, &now.message).await;
    }

    /// An event on an object of ours, on a Machine or on Hardware.
    pub async fn event(&self, id: &ObjectId, uid: &str, kind: EventType, reason: &str, note: &str) {
        let version = if id.kind == Kind::CapiMachine { "v1beta1" } else { "v1alpha1" };
        let about = ObjectReference {
            api_version: Some(format!("{}/{version}", id.kind.group())),
            kind: Some(id.kind.as_str().to_owned()),
            namespace: id.namespace.clone(),
            name: Some(id.name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        // The API server takes notes of up to 1024 bytes.
        let note: String = note.chars().take(1000).collect();
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.events.publish(&event, &about).await {
            tracing::debug!(object = %id, %error, "an event is not written");
        }
    }
}
