//! All clusters that are followed. They come and go with the Secrets that tell of them, while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self as watching, Event, watcher};
use kube::{Client, Config};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::access::{Calls, client};
use super::claim::Claim;
use super::cluster;
use super::kinds::Extent;
use super::references::{SecretName, references};
use super::shelf::{Shelf, Source};
use super::watch::Watch;
use crate::inputs::{ClusterName, Kind, Snapshot, SourceState};

/// Which other clusters are followed.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Clusters by name, with a kubeconfig of the operator's own. It is used as it is, and read again when it changes.
    pub files: Vec<(String, PathBuf)>,
    /// Namespaces whose cluster Secrets are followed; all where empty.
    pub namespaces: Vec<String>,
    /// Whether cluster Secrets are followed at all.
    pub secrets: Follow,
}

/// Whether something is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// It is.
    #[default]
    Yes,
    /// It is not.
    No,
}

/// A cluster that is followed, or should be.
struct Member {
    print: String,
    by: String,
    client: Option<Client>,
    task: Option<AbortHandle>,
}

/// Secrets that tell of clusters, and whether all of them are known.
#[derive(Default)]
struct Claims {
    /// Each with the number of the watch that brought it.
    known: BTreeMap<(String, String), (usize, Claim)>,
    listed: BTreeSet<usize>,
}

/// All clusters that are followed. Dropping it ends all watches.
pub struct Fleet {
    shelf: Arc<Shelf>,
    calls: Calls,
    sources: Sources,
    claims: Arc<Mutex<Claims>>,
    wanted_lists: usize,
    members: BTreeMap<ClusterName, Member>,
    secrets: BTreeMap<SecretName, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Begins to follow the cluster that holds the Router objects, and looks for others.
    pub fn start(local: Client, shelf: Arc<Shelf>, calls: Calls, sources: Sources) -> Self {
        let mut tasks = JoinSet::new();
        let here = ClusterName::local();
        let task = tasks.spawn(cluster::follow(here.clone(), local.clone(), shelf.clone()));
        let member = Member {
            print: String::new(),
            by: "the API".to_owned(),
            client: Some(local.clone()),
            task: Some(task),
        };
        let claims = Arc::new(Mutex::new(Claims::default()));
        let mut wanted_lists = 0;
        if sources.secrets == Follow::Yes {
            let places: Vec<Api<Secret>> = match sources.namespaces.as_slice() {
                [] => vec![Api::all(local.clone())],
                some => some.iter().map(|namespace| Api::namespaced(local.clone(), namespace)).collect(),
            };
            for api in places {
                for selector in [
                    watching::Config::default()
                        .labels("cluster.x-k8s.io/cluster-name")
                        .fields("type=cluster.x-k8s.io/secret"),
                    watching::Config::default().labels("argocd.argoproj.io/secret-type=cluster"),
                ] {
                    tasks.spawn(follow_claims(
                        api.clone(),
                        selector,
                        wanted_lists,
                        claims.clone(),
                        shelf.clone(),
                    ));
                    wanted_lists += 1;
                }
            }
        }
        let members = BTreeMap::from([(here, member)]);
        Self { shelf, calls, sources, claims, wanted_lists, members, secrets: BTreeMap::new(), tasks }
    }

    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what is followed in line with what is known. Says whether a pass may begin: whoever may not list cluster Secrets
    /// does not know which clusters there are, and must not take that for none.
    pub async fn follow(&mut self, shot: &Snapshot) -> bool {
        let wanted = self.wanted();
        let all_listed = self.claims().listed.len() == self.wanted_lists;
        for (cluster, (print, by, access)) in &wanted {
            self.bring(cluster, print, by, access.clone()).await;
        }
        let with_object = self.with_object(shot);
        if all_listed {
            self.let_go(&wanted.into_keys().collect(), &with_object);
        }
        let new_secrets = self.follow_secrets(shot);
        all_listed && !new_secrets
    }

    /// The clusters that Cluster API has, where their Secrets are followed.
    fn with_object(&self, shot: &Snapshot) -> BTreeSet<ClusterName> {
        let Sources { namespaces, secrets, .. } = &self.sources;
        let here = |namespace: &Option<String>| {
            namespaces.is_empty() || namespace.as_ref().is_some_and(|n| namespaces.contains(n))
        };
        let all = shot
            .inputs
            .capi_clusters
            .iter()
            .filter(|each| *secrets == Follow::Yes && here(&each.id.namespace));
        all.map(|each| ClusterName::from(each.id.name.as_str())).collect()
    }

    /// The clusters that somebody tells of, with the access that counts.
    fn wanted(&self) -> BTreeMap<ClusterName, (String, String, Result<Kubeconfig, String>)> {
        let mut by_cluster = BTreeMap::<ClusterName, Vec<Claim>>::new();
        for (_, claim) in self.claims().known.values() {
            by_cluster.entry(claim.cluster.clone()).or_default().push(claim.clone());
        }
        let mut wanted = BTreeMap::new();
        for (cluster, mut claims) in by_cluster {
            claims.sort_by_key(|claim| claim.of);
            let first = claims.iter().filter(|claim| claim.of == claims[0].of).collect::<Vec<_>>();
            let running = self.members.get(&cluster).map(|member| member.by.as_str());
            let chosen = match first.as_slice() {
                [only] => Ok(*only),
                several => several.iter().find(|claim| running == Some(&name(claim))).copied().ok_or(several),
            };
            let entry = match chosen {
                Ok(claim) => (claim.print.clone(), name(claim), claim.access.clone()),
                Err(several) => {
                    let names: Vec<String> = several.iter().map(|claim| name(claim)).collect();
                    let why =
                        format!("several Secrets speak for it ({}); keep one of them", names.join(", "));
                    (why.clone(), String::new(), Err(why))
                }
            };
            wanted.insert(cluster, entry);
        }
        // The operator's own word counts before all Secrets.
        for (cluster, file) in &self.sources.files {
            let by = file.display().to_string();
            let entry = match std::fs::read_to_string(file) {
                Ok(text) => {
                    let print =
                        Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                    let access = Kubeconfig::read_from(file).map_err(|_| format!("{by} is no kubeconfig"));
                    (print, by, access)
                }
                Err(error) => (error.to_string(), by.clone(), Err(format!("{by}: {error}"))),
            };
            wanted.insert(ClusterName::from(cluster.as_str()), entry);
        }
        wanted.remove(&ClusterName::local());
        wanted
    }

    async fn bring(
        &mut self,
        cluster: &ClusterName,
        print: &str,
        by: &str,
        access: Result<Kubeconfig, String>,
    ) {
        if self.members.get(cluster).is_some_and(|member| member.print == print) {
            return;
        }
        self.stop(cluster);
        self.shelf.add(cluster);
        let opened = match access {
            Ok(kubeconfig) => self.open(cluster, kubeconfig).await.map_err(|error| format!("{error:#}")),
            Err(why) => Err(why),
        };
        let mut member = Member { print: print.to_owned(), by: by.to_owned(), client: None, task: None };
        match opened {
            Ok(client) => {
                tracing::info!(%cluster, by, "following a cluster");
                let task = cluster::follow(cluster.clone(), client.clone(), self.shelf.clone());
                member.task = Some(self.tasks.spawn(task));
                member.client = Some(client);
            }
            Err(why) => self.shelf.away(cluster, Some(why)),
        }
        self.members.insert(cluster.clone(), member);
    }

    async fn open(&self, cluster: &ClusterName, kubeconfig: Kubeconfig) -> Result<Client> {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        client(config, cluster, &self.shelf, &self.calls)
    }

    /// Ends the watches of a cluster. What they brought stays.
    fn stop(&mut self, cluster: &ClusterName) {
        if let Some(task) = self.members.remove(cluster).and_then(|member| member.task) {
            task.abort();
        }
        self.secrets.retain(|(of, ..), task| {
            let stays = of != cluster;
            if !stays {
                task.abort();
            }
            stays
        });
    }

    /// A cluster that nobody tells of any more is gone, unless Cluster API still has it: then only the way to it is lost.
    fn let_go(&mut self, wanted: &BTreeSet<ClusterName>, with_object: &BTreeSet<ClusterName>) {
        for cluster in with_object.difference(wanted).filter(|cluster| !cluster.is_local()) {
            if self.members.get(cluster).is_none_or(|member| member.client.is_some()) {
                self.stop(cluster);
                self.shelf.add(cluster);
                self.shelf
                    .away(cluster, Some(format!("there is no Secret {cluster}-kubeconfig that leads to it")));
                let member = Member { print: String::new(), by: String::new(), client: None, task: None };
                self.members.insert(cluster.clone(), member);
            }
        }
        let gone: Vec<ClusterName> = self.shelf.clusters().into_iter().collect();
        for cluster in gone {
            if !cluster.is_local() && !wanted.contains(&cluster) && !with_object.contains(&cluster) {
                tracing::info!(%cluster, "the cluster is gone");
                self.stop(&cluster);
                self.shelf.forget(&cluster);
            }
        }
    }

    /// Follows the Secrets that are named, and no others. Says whether there are new ones.
    fn follow_secrets(&mut self, shot: &Snapshot) -> bool {
        let wanted = references(&shot.inputs);
        let gone: Vec<SecretName> =
            self.secrets.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in gone {
            if let Some(task) = self.secrets.remove(&name) {
                task.abort();
            }
            let (cluster, namespace, name) = name;
            self.shelf.drop_source(&cluster, &Source::Secret { namespace, name });
        }
        let mut new = false;
        for name in wanted {
            let client = self.members.get(&name.0).and_then(|member| member.client.clone());
            let (false, Some(client)) = (self.secrets.contains_key(&name), client) else { continue };
            new = true;
            let source = Source::Secret { namespace: name.1.clone(), name: name.2.clone() };
            self.shelf.set(&name.0, &source, SourceState::Starting);
            let watch = Watch {
                cluster: name.0.clone(),
                source,
                kind: Kind::Secret,
                resource: ApiResource::from_gvk_with_plural(
                    &GroupVersionKind::gvk("", "v1", "Secret"),
                    "secrets",
                ),
                extent: Extent::Whole,
                namespace: Some(name.1.clone()),
                fields: Some(format!("metadata.name={}", name.2)),
                missing: Arc::new(Notify::new()),
            };
            let task = self.tasks.spawn(watch.follow(client, self.shelf.clone()));
            self.secrets.insert(name, task);
        }
        new
    }
}

fn name(claim: &Claim) -> String {
    format!("{}/{}", claim.by.0, claim.by.1)
}

async fn follow_claims(
    api: Api<Secret>,
    selector: watching::Config,
    number: usize,
    claims: Arc<Mutex<Claims>>,
    shelf: Arc<Shelf>,
) {
    let mut stream = std::pin::pin!(watcher(api, selector.page_size(100)).default_backoff());
    let (mut seen, mut told) = (BTreeSet::new(), Told(false));
    while let Some(event) = stream.next().await {
        let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(secret)) => {
                if let Some(claim) = Claim::read(&secret) {
                    seen.insert(claim.by.clone());
                    claims.known.insert(claim.by.clone(), (number, claim));
                }
            }
            Ok(Event::InitDone) => {
                claims.known.retain(|by, (brought, _)| *brought != number || seen.contains(by));
                claims.listed.insert(number);
            }
            Ok(Event::Apply(secret)) => {
                if let Some(claim) = Claim::read(&secret) {
                    claims.known.insert(claim.by.clone(), (number, claim));
                }
            }
            Ok(Event::Delete(secret)) => {
                if let Some(claim) = Claim::read(&secret) {
                    claims.known.remove(&claim.by);
                }
            }
            Err(error) => told.tell(&error),
        }
        drop(claims);
        shelf.ring();
    }
}

/// Says once, loudly, that cluster Secrets may not be listed: no pass begins without them.
struct Told(bool);

impl Told {
    fn tell(&mut self, error: &watching::Error) {
        if std::mem::replace(&mut self.0, true) {
            tracing::debug!(%error, "the watch for clusters was cut");
        } else {
            tracing::warn!(%error, "cluster Secrets cannot be listed; grant it, or give --no-cluster-secrets");
        }
    }
}
