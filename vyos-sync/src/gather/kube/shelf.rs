//! What the watches have brought, by cluster: the objects, each read once, and how each watch fares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::inputs::{
    ClusterName, Completeness, Fault, Inputs, Kind, Meta, ObjectId, Origin, Snapshot, SourceState,
};

/// One watch: a kind, or one Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Kind(Kind),
    Secret { namespace: String, name: String },
}

impl Source {
    fn holds(&self, id: &ObjectId) -> bool {
        match self {
            Self::Kind(kind) => id.kind == *kind,
            Self::Secret { namespace, name } => {
                id.kind == Kind::Secret && id.name == *name && id.namespace.as_ref() == Some(namespace)
            }
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Kind(kind) => kind.as_str().to_owned(),
            Self::Secret { namespace, name } => format!("Secret {namespace}/{name}"),
        }
    }
}

#[derive(Debug)]
struct Entry {
    fragment: Inputs,
    meta: Meta,
}

#[derive(Debug, Default)]
struct OfCluster {
    objects: BTreeMap<ObjectId, Entry>,
    sources: BTreeMap<Source, SourceState>,
    /// Why it cannot be asked, if so.
    away: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    clusters: BTreeMap<ClusterName, OfCluster>,
}

/// Everything known of all clusters. Who waits is told of changes that could matter.
#[derive(Debug)]
pub struct Shelf {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Default for Shelf {
    fn default() -> Self {
        let state = State { clusters: BTreeMap::from([(ClusterName::local(), OfCluster::default())]) };
        Self { state: Mutex::new(state), changed: watch::Sender::new(0) }
    }
}

impl Shelf {
    /// Tells of changes. The number only grows.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Wakes whoever waits, for something that is kept elsewhere.
    pub(super) fn ring(&self) {
        self.tell();
    }

    /// Changes one cluster, and tells of it where `change` says that it matters.
    fn with(&self, cluster: &ClusterName, change: impl FnOnce(&mut OfCluster) -> bool) {
        let mut state = self.state();
        // A watch that is late must not bring a cluster back.
        let Some(of) = state.clusters.get_mut(cluster) else { return };
        let matters = change(of);
        drop(state);
        if matters {
            self.tell();
        }
    }

    pub(super) fn add(&self, cluster: &ClusterName) {
        self.state().clusters.entry(cluster.clone()).or_default();
        self.tell();
    }

    pub(super) fn forget(&self, cluster: &ClusterName) {
        self.state().clusters.remove(cluster);
        self.tell();
    }

    pub(super) fn clusters(&self) -> BTreeSet<ClusterName> {
        self.state().clusters.keys().cloned().collect()
    }

    pub(super) fn put(&self, id: ObjectId, fragment: Inputs, meta: Meta) {
        let cluster = id.cluster.clone();
        self.with(&cluster, |of| match of.objects.get_mut(&id) {
            // A heartbeat changes nothing that is read.
            Some(entry) if entry.fragment == fragment && entry.meta == meta => false,
            _ => {
                of.objects.insert(id, Entry { fragment, meta });
                true
            }
        });
    }

    pub(super) fn remove(&self, id: &ObjectId) {
        self.with(&id.cluster, |of| of.objects.remove(id).is_some());
    }

    /// All objects of a watch are listed: those that were not are gone.
    pub(super) fn listed(&self, cluster: &ClusterName, source: &Source, seen: &BTreeSet<ObjectId>) {
        self.with(cluster, |of| {
            let before = of.objects.len();
            of.objects.retain(|id, _| !source.holds(id) || seen.contains(id));
            let was = of.sources.insert(source.clone(), SourceState::Live);
            before != of.objects.len() || was != Some(SourceState::Live)
        });
    }

    pub(super) fn set(&self, cluster: &ClusterName, source: &Source, state: SourceState) {
        self.declare(cluster, [(source.clone(), state)]);
    }

    /// Sets the states of several watches at once: nobody sees half of them.
    pub(super) fn declare(
        &self,
        cluster: &ClusterName,
        all: impl IntoIterator<Item = (Source, SourceState)>,
    ) {
        self.with(cluster, |of| {
            let mut turned = false;
            for (source, state) in all {
                let state = match (state, of.sources.get(&source)) {
                    // What is known stays known while the list is made anew.
                    (SourceState::Starting, Some(SourceState::Live | SourceState::Gone)) => SourceState::Live,
                    (SourceState::Off, Some(SourceState::Live | SourceState::Gone)) => SourceState::Gone,
                    (state, _) => state,
                };
                turned |= of.sources.insert(source, state.clone()) != Some(state);
            }
            turned
        });
    }

    /// Ends a watch that nobody needs, with what it brought.
    pub(super) fn drop_source(&self, cluster: &ClusterName, source: &Source) {
        self.with(cluster, |of| {
            of.objects.retain(|id, _| !source.holds(id));
            of.sources.remove(source).is_some()
        });
    }

    /// Whether a cluster answers now, and if not, why.
    pub(super) fn away(&self, cluster: &ClusterName, why: Option<String>) {
        self.with(cluster, |of| {
            let turned = of.away.is_some() != why.is_some();
            if turned {
                match &why {
                    Some(why) => tracing::warn!(%cluster, why, "the cluster cannot be asked; its objects stay as last known"),
                    None => tracing::info!(%cluster, "the cluster answers"),
                }
            }
            of.away = why;
            turned
        });
    }

    /// All that is known now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let mut shot = Snapshot { settled: true, ..Snapshot::default() };
        for (cluster, of) in &state.clusters {
            for (id, entry) in &of.objects {
                shot.inputs.absorb(&entry.fragment);
                if !entry.meta.uid.is_empty() {
                    shot.metas.insert(id.clone(), entry.meta.clone());
                }
            }
            match cluster.is_local() {
                true => local(of, &mut shot),
                false => remote(cluster, of, &mut shot),
            }
            let sources = of.sources.iter();
            shot.sources
                .extend(sources.map(|(source, state)| (cluster.clone(), source.label(), state.clone())));
        }
        shot.inputs.origin = Origin::Cluster;
        let whole = shot.inputs.faults.is_empty();
        shot.inputs.completeness = if whole { Completeness::Complete } else { Completeness::Incomplete };
        shot
    }
}

/// A kind of ours, or a source of ours, that cannot be listed could hold anything: nothing is removed then.
fn local(of: &OfCluster, shot: &mut Snapshot) {
    shot.settled &= !of.sources.is_empty();
    for (source, state) in &of.sources {
        let what = match state {
            SourceState::Live | SourceState::Off => continue,
            SourceState::Starting => {
                shot.settled = false;
                continue;
            }
            SourceState::Gone => "its definition was removed while it was followed".to_owned(),
            SourceState::Failing(why) => why.clone(),
        };
        let way_out = match state {
            SourceState::Gone => "install it again, or restart vyos-sync to go on without it",
            _ => "give vyos-sync the right to list and watch it",
        };
        shot.inputs.faults.push(Fault {
            place: format!("the API, {}", source.label()),
            object: None,
            what,
            way_out: way_out.to_owned(),
        });
    }
}

fn remote(cluster: &ClusterName, of: &OfCluster, shot: &mut Snapshot) {
    let why = of.away.clone().or_else(|| match of.sources.is_empty() {
        true => Some("it has not answered yet".to_owned()),
        false => of.sources.iter().find_map(|(source, state)| match state {
            SourceState::Live | SourceState::Off => None,
            SourceState::Starting => Some(format!("{} is not listed yet", source.label())),
            SourceState::Gone => Some(format!("the definition of {} is gone", source.label())),
            SourceState::Failing(why) => Some(format!("{}: {why}", source.label())),
        }),
    });
    if let Some(why) = why {
        shot.inputs.stale.insert(cluster.clone(), why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::read_one;
    use serde_json::json;

    fn node(cluster: &str, name: &str) -> (ObjectId, Inputs) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        read_one("here", &ClusterName::from(cluster), &node).unwrap()
    }

    fn put(shelf: &Shelf, cluster: &str, name: &str) -> ObjectId {
        let (id, fragment) = node(cluster, name);
        shelf.put(id.clone(), fragment, Meta::default());
        id
    }

    #[test]
    fn a_cluster_that_cannot_be_asked_keeps_its_nodes() {
        let shelf = Shelf::default();
        let (media, nodes) = (ClusterName::from("media"), Source::Kind(Kind::Node));
        shelf.add(&media);
        assert!(shelf.snapshot().inputs.stale.contains_key(&media), "nothing is known of it yet");
        let a = put(&shelf, "media", "a");
        shelf.listed(&media, &nodes, &BTreeSet::from([a.clone()]));
        assert!(shelf.snapshot().inputs.stale.is_empty());
        shelf.away(&media, Some("refused".to_owned()));
        let shot = shelf.snapshot();
        assert_eq!((shot.inputs.nodes.len(), shot.inputs.stale[&media].as_str()), (1, "refused"));
        shelf.away(&media, None);
        shelf.listed(&media, &nodes, &BTreeSet::new());
        assert_eq!((shelf.snapshot().inputs.nodes.len(), shelf.snapshot().inputs.stale.len()), (0, 0));
        shelf.forget(&media);
        put(&shelf, "media", "late");
        assert!(shelf.snapshot().inputs.nodes.is_empty(), "a watch that is late brings nothing back");
    }

    #[test]
    fn a_definition_that_goes_is_no_word_that_its_objects_are_gone() {
        let (shelf, here, nodes) = (Shelf::default(), ClusterName::local(), Source::Kind(Kind::Node));
        shelf.set(&here, &nodes, SourceState::Starting);
        assert!(!shelf.snapshot().settled);
        shelf.set(&here, &nodes, SourceState::Off);
        assert!(shelf.snapshot().settled && shelf.snapshot().inputs.faults.is_empty());
        let a = put(&shelf, "local", "a");
        shelf.listed(&here, &nodes, &BTreeSet::from([a]));
        shelf.set(&here, &nodes, SourceState::Off);
        let shot = shelf.snapshot();
        assert_eq!((shot.inputs.nodes.len(), shot.inputs.completeness), (1, Completeness::Incomplete));
        assert!(shot.inputs.faults[0].to_string().contains("was removed while it was followed"));
    }

    #[test]
    fn a_heartbeat_wakes_nobody() {
        let shelf = Shelf::default();
        put(&shelf, "local", "a");
        let mut changes = shelf.changes();
        changes.mark_unchanged();
        put(&shelf, "local", "a");
        assert!(!changes.has_changed().unwrap());
        put(&shelf, "local", "b");
        assert!(changes.has_changed().unwrap());
    }
}
