//! One watch: from the API server's events to the shelf.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self as watching, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::kinds::{Kind, MACHINE, POD, POLICY};
use super::machines::moving;
use super::pods::{ANNOTATIONS, pod};
use super::shelf::{Change, Item};
use super::{Identity, chain, chance};
use crate::cluster::parts::{Part, Reader, reader};
use crate::model::cluster::{ObjectName, SourceState};

/// Objects in one page of a list: memory is bounded, whatever the cluster holds.
const PAGE: u32 = 500;
/// How long to wait after a refusal, or until a missing kind is looked for again: at first and at most.
const WAIT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// Why a watch ended.
enum End {
    /// The version is not served.
    Missing,
    /// The server refuses, for this reason.
    Refused(String),
    /// Nobody listens any more.
    Unheard,
}

/// Follows a kind until nobody listens any more.
pub(super) async fn follow(kind: Kind, node: String, client: Client, changes: mpsc::Sender<Change>) {
    let watch = Watch { kind, node, changes };
    let (mut version, mut wait) = (0, WAIT[0]);
    loop {
        let end = watch.version(&client, kind.versions[version], &mut wait).await;
        let state = match end {
            End::Unheard => return,
            End::Missing if version + 1 < kind.versions.len() => {
                version += 1;
                continue;
            }
            End::Missing => SourceState::Missing,
            End::Refused(why) => SourceState::Refused(why),
        };
        if wait == WAIT[0] {
            tracing::info!(kind = kind.told, state = ?state, "the kind is not followed; it is looked for again");
        }
        version = 0;
        if watch.changes.send(Change::State(kind.told, state)).await.is_err() {
            return;
        }
        tokio::time::sleep(wait.mul_f64(0.5 + chance() / 2.0)).await;
        wait = (wait * 2).min(WAIT[1]);
    }
}

struct Watch {
    kind: Kind,
    node: String,
    changes: mpsc::Sender<Change>,
}

impl Watch {
    async fn version(&self, client: &Client, version: &str, wait: &mut Duration) -> End {
        let kind = self.kind;
        let gvk = GroupVersionKind::gvk(kind.group, version, kind.name);
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let mut config = watching::Config::default().page_size(PAGE);
        config.field_selector = kind.which.fields(&self.node);
        config.label_selector = kind.which.labels().map(str::to_owned);
        self.take(watcher(api, config).default_backoff(), wait).await
    }

    async fn take(
        &self,
        stream: impl Stream<Item = watching::Result<Event<DynamicObject>>>,
        wait: &mut Duration,
    ) -> End {
        let mut stream = std::pin::pin!(stream);
        let mut seen = BTreeSet::new();
        while let Some(event) = stream.next().await {
            let change = match event {
                Ok(Event::Init) => {
                    seen.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    seen.insert(name(&object));
                    self.put(object)
                }
                Ok(Event::InitDone) => {
                    *wait = WAIT[0];
                    Change::Listed(self.kind.told, std::mem::take(&mut seen))
                }
                Ok(Event::Apply(object)) => self.put(object),
                Ok(Event::Delete(object)) => Change::Gone(self.kind.told, name(&object)),
                Err(error) => match refusal(&error) {
                    Some(404) => return End::Missing,
                    Some(code @ (400 | 401 | 403 | 405)) => {
                        return End::Refused(format!("the API server answers {code}: {}", chain(&error)));
                    }
                    // The watcher itself waits and goes on; whether the server answers at all is told elsewhere.
                    _ => {
                        tracing::debug!(kind = self.kind.told, error = chain(&error), "a watch was cut");
                        continue;
                    }
                },
            };
            if self.changes.send(change).await.is_err() {
                return End::Unheard;
            }
        }
        End::Refused("the watch ended".to_owned())
    }

    fn put(&self, object: DynamicObject) -> Change {
        let name = name(&object);
        Change::Put(self.kind.told, name.clone(), self.item(name, object))
    }

    /// The object as far as it is used; the rest of it is dropped here.
    fn item(&self, name: ObjectName, mut object: DynamicObject) -> Item {
        object.metadata.managed_fields = None;
        if let Some(annotations) = &mut object.metadata.annotations {
            annotations.retain(|key, _| ANNOTATIONS.contains(&key.as_str()));
        }
        let uid = object.uid();
        let read = match serde_json::to_value(object) {
            Ok(document) => self.read(name, &document, uid),
            Err(error) => Err(error.to_string()),
        };
        read.unwrap_or_else(Item::Bad)
    }

    fn read(&self, name: ObjectName, document: &Value, uid: Option<String>) -> Result<Item, String> {
        if self.kind.name == POD.name {
            return Ok(Item::Pod(pod(document, &self.node)?));
        }
        if self.kind.name == MACHINE.name {
            return moving(document, &self.node).map(Item::Machine);
        }
        if self.kind.name == POLICY.name {
            return Ok(Item::Policy(policy(&name, document)));
        }
        let read: Reader = reader(self.kind.group, self.kind.name).ok_or("the kind is not read")?;
        let part: Part = read(name, document)?.of_node(&self.node);
        let identity = uid.filter(|_| self.kind.name == "Node").map(|uid| Identity { uid });
        Ok(Item::Part(Box::new(part), identity))
    }
}

/// A policy as a file would have it: what the server adds is left out.
fn policy(name: &ObjectName, document: &Value) -> String {
    json!({
        "apiVersion": format!("{}/{}", POLICY.group, POLICY.versions[0]), "kind": POLICY.name,
        "metadata": {"name": name.name}, "spec": document.get("spec"),
    })
    .to_string()
}

fn name(object: &DynamicObject) -> ObjectName {
    ObjectName { namespace: object.namespace(), name: object.name_any() }
}

fn refusal(error: &watching::Error) -> Option<u16> {
    match error {
        watching::Error::InitialListFailed(Error::Api(status))
        | watching::Error::WatchStartFailed(Error::Api(status))
        | watching::Error::WatchFailed(Error::Api(status)) => Some(status.code),
        watching::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}
