//! Finalizers: an object is gone only when what it wanted is gone from the router, and a network not before the last machine on
//! it. A router that cannot be reached does not keep
//! a namespace from being deleted: the ledger remembers what is to be removed.

use jiff::{SignedDuration, Timestamp};
use kube::Error;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Reporter;
use crate::crd::Mode;
use crate::inputs::{Kind, Meta, ObjectId, Snapshot};
use crate::plan::{Class, Plan};

/// Our finalizer.
pub const FINALIZER: &str = "weir.dev/router";
/// So long an object waits for its router.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// What to do with an object's finalizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Set it.
    Set(ObjectId),
    /// Let the object go.
    LetGo(ObjectId),
}

/// What to do with the finalizers of a router's objects and of the router itself. `plan` is that of a pass that came out; the
/// objects in deletion wanted nothing in it.
pub fn farewells(
    router: &ObjectId,
    mode: Mode,
    plan: Option<&Plan>,
    shot: &Snapshot,
    now: Timestamp,
) -> Vec<Farewell> {
    let inputs = &shot.inputs;
    let mut ids: Vec<&ObjectId> = Vec::new();
    macro_rules! of {
        ($($list:ident)+) => {
            $(ids.extend(inputs.$list.iter().filter(|each| each.spec.router_ref.name == router.name).map(|each| &each.id));)+
        };
    }
    of!(networks peerings publications configs);
    let leaves =
        |id: &&&ObjectId| shot.metas.get(**id).is_some_and(|meta| meta.deleted_at.is_some() && is_ours(meta));
    let leaving = ids.iter().filter(leaves).count();
    ids.push(router);
    let prunes = mode == Mode::Sync;
    let lingering = crate::intent::lingering(inputs);
    ids.into_iter()
        .filter_map(|id| {
            let meta = shot.metas.get(id)?;
            let Some(deleted) = meta.deleted_at else {
                return (prunes && !is_ours(meta)).then(|| Farewell::Set(id.clone()));
            };
            if !is_ours(meta) {
                return None;
            }
            // A router stays while objects that are being deleted still need it, and until it holds nothing of ours; who wants
            // to leave all as it is sets another mode.
            let is_router = id.kind == Kind::Router;
            let gone =
                plan.is_some_and(
                    |plan| if is_router { is_clean(plan) && leaving == 0 } else { !holds(plan, id) },
                );
            let late = !is_router && now.duration_since(deleted) >= PATIENCE;
            let stays = lingering.contains_key(id);
            (!prunes || !stays && (gone || late)).then(|| Farewell::LetGo(id.clone()))
        })
        .collect()
}

/// Objects in deletion whose Router is no more: nobody else would let them go.
pub fn orphans(shot: &Snapshot) -> Vec<Farewell> {
    let inputs = &shot.inputs;
    let mut ids: Vec<&ObjectId> = Vec::new();
    macro_rules! of {
        ($($list:ident)+) => {
            $(ids.extend(inputs.$list.iter().filter(|each| inputs.router(&each.spec.router_ref.name).is_none()).map(|each| &each.id));)+
        };
    }
    of!(networks peerings publications configs);
    let leaving =
        |id: &&ObjectId| shot.metas.get(*id).is_some_and(|meta| meta.deleted_at.is_some() && is_ours(meta));
    ids.into_iter().filter(leaving).cloned().map(Farewell::LetGo).collect()
}

fn is_ours(meta: &Meta) -> bool {
    meta.finalizers.iter().any(|each| each == FINALIZER)
}

/// Whether something is left that the object once wanted.
fn holds(plan: &Plan, id: &ObjectId) -> bool {
    let mark = crate::intent::owner_of(id).mark();
    let left = |class: Class| matches!(class, Class::Kept | Class::ForeignEdit);
    plan.entries.iter().any(|entry| left(entry.class) && entry.by == mark.as_str())
}

/// Whether nothing of ours is left. What others have edited is theirs.
fn is_clean(plan: &Plan) -> bool {
    !plan.entries.iter().any(|entry| entry.class == Class::Kept)
}

impl Reporter {
    /// Sets and takes finalizers, each by itself.
    pub async fn bid(&self, farewells: &[Farewell], shot: &Snapshot) {
        for farewell in farewells {
            let (id, finalizers) = match farewell {
                Farewell::Set(id) => (id, vec![FINALIZER]),
                Farewell::LetGo(id) => (id, Vec::new()),
            };
            let (Some(meta), Some(api)) = (shot.metas.get(id), self.api(id)) else { continue };
            // A set that each manager adds its own to: nobody else's finalizer is touched.
            let patch =
                self.head(id, &meta.uid, |object| object["metadata"]["finalizers"] = json!(finalizers));
            let how = PatchParams::apply("vyos-sync-finalizer").force();
            match api.patch(&id.name, &how, &Patch::Apply(&patch)).await {
                Ok(_) => tracing::debug!(object = %id, ?finalizers, "finalizers set"),
                Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => tracing::warn!(object = %id, %error, "its finalizer is not set"),
            }
        }
    }
}
