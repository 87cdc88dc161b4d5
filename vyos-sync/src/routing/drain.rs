//! Draining before a Machine is deleted, by Cluster API's hooks: first the node's routes become the last choice, then its Pods
//! are moved, then its sessions are shut down, then the machine goes. Every wait has an end: a deletion is never blocked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::paths::Paths;
use crate::inputs::{CapiMachine, Inputs, NodeKey, NodeRouting, Object, ObjectId};

/// One of the two hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before the node's Pods are moved.
    PreDrain,
    /// After that, before the machine ends.
    PreTerminate,
}

impl Hook {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::PreDrain, Self::PreTerminate];

    /// The annotation that Cluster API waits for. Each router has its own, so that a Machine waits for all of them.
    pub fn annotation(self, router: &str) -> String {
        format!("{}{router}", self.prefix())
    }

    /// What the annotations of all routers begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::PreDrain => "pre-drain.delete.hook.machine.cluster.x-k8s.io/weir-",
            Self::PreTerminate => "pre-terminate.delete.hook.machine.cluster.x-k8s.io/weir-",
        }
    }
}

/// How far the deletion of a Machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is not being deleted.
    Here,
    /// Its routes should be the last choice.
    Draining,
    /// Its Pods are being moved, or its sessions were the last path.
    Drained,
    /// Its sessions should be down.
    ShutDown,
}

/// A hook that may be let go, and what is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The Machine.
    pub machine: ObjectId,
    /// The hook.
    pub hook: Hook,
    /// Why now.
    pub why: String,
    /// Whether it was let go without its purpose being reached.
    pub late: bool,
}

/// What was seen of the router after a pass.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Whether the router holds all that is wanted; nothing can be told where it does not.
    pub synced: bool,
    /// The paths that it knows.
    pub paths: Paths,
    /// The addresses of each node's peers.
    pub peers: BTreeMap<NodeKey, BTreeSet<IpAddr>>,
    /// New flows of each node per 1000 seconds, where its agent says so.
    pub flows: BTreeMap<NodeKey, u64>,
}

/// The Machines in deletion, as we first saw them.
#[derive(Clone, Debug)]
pub struct Drains {
    router: String,
    seen: BTreeMap<ObjectId, Timestamp>,
    /// Machines whose sessions were found to be the last path: they are not shut down.
    last_paths: BTreeSet<ObjectId>,
}

impl Drains {
    /// Of a router, by its name.
    pub fn of(router: &str) -> Self {
        Self { router: router.to_owned(), seen: BTreeMap::new(), last_paths: BTreeSet::new() }
    }

    /// What the router should do with the nodes of Machines in deletion.
    pub fn wanted(&mut self, inputs: &Inputs, now: Timestamp) -> BTreeMap<NodeKey, NodeRouting> {
        let leaving: BTreeSet<&ObjectId> =
            inputs.capi_machines.iter().filter(|each| each.deleting).map(|each| &each.id).collect();
        self.seen.retain(|id, _| leaving.contains(id));
        self.last_paths.retain(|id| leaving.contains(id));
        let mut wanted = BTreeMap::new();
        for machine in inputs.capi_machines.iter().filter(|each| each.deleting) {
            self.seen.entry(machine.id.clone()).or_insert(now);
            let Some(node) = inputs.node_of(machine) else { continue };
            let routing = match self.stage(machine) {
                Stage::Here => continue,
                Stage::Draining | Stage::Drained => NodeRouting::Drained,
                Stage::ShutDown => NodeRouting::ShutDown,
            };
            wanted.insert(node, routing);
        }
        wanted
    }

    /// How far a Machine is.
    pub fn stage(&self, machine: &Object<CapiMachine>) -> Stage {
        let has = |hook: Hook| machine.annotations.contains_key(&hook.annotation(&self.router));
        match (machine.deleting, has(Hook::PreDrain)) {
            (false, _) => Stage::Here,
            (true, true) => Stage::Draining,
            (true, false) if self.last_paths.contains(&machine.id) => Stage::Drained,
            (true, false) => match machine.spec.deleting.as_deref() {
                Some("WaitingForPreTerminateHook") => Stage::ShutDown,
                // Once down, a node that goes does not come back.
                Some(
                    "DeletingInfrastructure"
                    | "DeletingBootstrapConfig"
                    | "DeletingNode"
                    | "DeletionCompleted"
                    | "WaitingForInfrastructureDeletion"
                    | "WaitingForBootstrapDeletion",
                ) => Stage::ShutDown,
                _ => Stage::Drained,
            },
        }
    }

    /// The hooks that may be let go now. `since` tells when the API server took the deletion, by its own clock.
    pub fn releases(
        &mut self,
        inputs: &Inputs,
        evidence: &Evidence,
        limit: SignedDuration,
        since: impl Fn(&ObjectId) -> Option<Timestamp>,
        now: Timestamp,
    ) -> Vec<Release> {
        let waiting = self.waiting(inputs, limit, since, now);
        let judge = |(machine, hook, over): (&Object<CapiMachine>, Hook, bool)| {
            let release = |why: String, late| Release { machine: machine.id.clone(), hook, why, late };
            match self.reached(machine, hook, inputs, evidence) {
                Ok(why) => Some(release(why, false)),
                Err(why) if over => Some(release(format!("it took too long: {why}"), true)),
                Err(_) => None,
            }
        };
        waiting.into_iter().filter_map(judge).collect()
    }

    /// The hooks whose time is over, whatever the router does or does not answer.
    pub fn overdue(
        &mut self,
        inputs: &Inputs,
        limit: SignedDuration,
        since: impl Fn(&ObjectId) -> Option<Timestamp>,
        now: Timestamp,
    ) -> Vec<Release> {
        let why = "it took too long, and the router was not asked for its paths in time".to_owned();
        let late = |(machine, hook, over): (&Object<CapiMachine>, Hook, bool)| {
            over.then(|| Release { machine: machine.id.clone(), hook, why: why.clone(), late: true })
        };
        self.waiting(inputs, limit, since, now).into_iter().filter_map(late).collect()
    }

    /// The hooks that a deletion waits for, each with whether its time is over.
    fn waiting<'a>(
        &mut self,
        inputs: &'a Inputs,
        limit: SignedDuration,
        since: impl Fn(&ObjectId) -> Option<Timestamp>,
        now: Timestamp,
    ) -> Vec<(&'a Object<CapiMachine>, Hook, bool)> {
        let mut waiting = Vec::new();
        for machine in inputs.capi_machines.iter().filter(|each| each.deleting) {
            let hook = match self.stage(machine) {
                Stage::Draining => Hook::PreDrain,
                Stage::Drained | Stage::ShutDown => Hook::PreTerminate,
                Stage::Here => continue,
            };
            if !machine.annotations.contains_key(&hook.annotation(&self.router)) {
                continue;
            }
            let seen = *self.seen.entry(machine.id.clone()).or_insert(now);
            // Clocks may differ: whichever of the two says that it was long enough is believed.
            let begun = [Some(seen), since(&machine.id)];
            let over =
                begun.into_iter().flatten().any(|begun| now.duration_since(begun) >= limit * times(hook));
            waiting.push((machine, hook, over));
        }
        waiting
    }

    /// Whether a hook's purpose is reached, and what tells so.
    fn reached(
        &mut self,
        machine: &Object<CapiMachine>,
        hook: Hook,
        inputs: &Inputs,
        evidence: &Evidence,
    ) -> Result<String, String> {
        let peers = inputs.node_of(machine).and_then(|node| Some((evidence.peers.get(&node)?, node)));
        let Some((hops, node)) = peers.filter(|(hops, _)| !hops.is_empty()) else {
            return Ok("the router has no session with its node".to_owned());
        };
        if !evidence.synced {
            return Err("the router does not hold what is wanted yet".to_owned());
        }
        match hook {
            Hook::PreDrain => {
                if let Some(prefix) = evidence.paths.used_beside_others(hops).first() {
                    return Err(format!("traffic for {prefix} still goes to it"));
                }
                let alone = evidence.paths.only_by(hops);
                match evidence.flows.get(&node) {
                    Some(flows) if *flows > 0 && alone.is_empty() => {
                        Err("new flows still arrive at it".to_owned())
                    }
                    _ if alone.is_empty() => Ok("no traffic goes to it".to_owned()),
                    _ => Ok(format!(
                        "it is the last path of {}, which stays in use",
                        alone.into_iter().next().unwrap_or_default()
                    )),
                }
            }
            Hook::PreTerminate => match (self.stage(machine), evidence.paths.only_by(hops).first()) {
                (Stage::ShutDown, Some(prefix)) => {
                    // Still there although it should be shut down: the pass has not seen the word yet, or it is the last path.
                    self.last_paths.insert(machine.id.clone());
                    Ok(format!("it is the last path of {prefix}, so its sessions stay up to the end"))
                }
                (Stage::ShutDown, None) => Ok("its sessions are shut down".to_owned()),
                _ if self.last_paths.contains(&machine.id) => {
                    Ok("its sessions stay up to the end".to_owned())
                }
                _ => Err("its Pods are still being moved".to_owned()),
            },
        }
    }

    /// Keeps the last path from being shut down: to be asked before a pass that would do so.
    pub fn spare_last_paths(&mut self, inputs: &Inputs, evidence: &Evidence) {
        for machine in inputs.capi_machines.iter().filter(|each| each.deleting) {
            let hops = inputs.node_of(machine).and_then(|node| evidence.peers.get(&node));
            if self.stage(machine) == Stage::ShutDown
                && hops.is_some_and(|hops| !evidence.paths.only_by(hops).is_empty())
            {
                self.last_paths.insert(machine.id.clone());
            }
        }
    }
}

/// The second hook comes after the first: it has the time of both.
fn times(hook: Hook) -> i32 {
    match hook {
        Hook::PreDrain => 1,
        Hook::PreTerminate => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{ClusterName, Collector};
    use serde_json::json;

    fn inputs(hooks: &[Hook], reason: Option<&str>) -> Inputs {
        let mut collector = Collector::default();
        let annotations: serde_json::Map<_, _> =
            hooks.iter().map(|hook| (hook.annotation("gw"), json!("vyos-sync"))).collect();
        let conditions: Vec<_> =
            reason.iter().map(|reason| json!({"type": "Deleting", "reason": reason})).collect();
        let machine = json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "metadata": {"name": "m",
            "namespace": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations},
            "spec": {"clusterName": "media"}, "status": {"nodeRef": {"name": "n"}, "conditions": conditions}});
        collector.document("a", &ClusterName::local(), machine);
        collector.document(
            "b",
            &ClusterName::from("media"),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}),
        );
        collector.finish()
    }

    fn evidence(table: &str) -> Evidence {
        let mut paths = Paths::default();
        paths.read(table);
        let node = (ClusterName::from("media"), "n".to_owned());
        Evidence {
            synced: true,
            paths,
            peers: BTreeMap::from([(node, BTreeSet::from(["10.0.0.1".parse().unwrap()]))]),
            flows: BTreeMap::new(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    const LIMIT: SignedDuration = SignedDuration::from_secs(60);
    const BESIDE: &str = "*> 10.9.0.1/32     10.0.0.1   0 0 1 i\n*=                 10.0.0.2   0 0 1 i\n";
    const DRAINED: &str = "*  10.9.0.1/32     10.0.0.1   0 0 1 i\n*>                 10.0.0.2   0 0 1 i\n";
    const LAST: &str = "*> 10.9.0.1/32     10.0.0.1   0 0 1 i\n";
    const GONE: &str = "*> 10.9.0.1/32     10.0.0.2   0 0 1 i\n";

    fn release(drains: &mut Drains, inputs: &Inputs, table: &str, now: i64) -> Option<(Hook, bool)> {
        let releases = drains.releases(inputs, &evidence(table), LIMIT, |_| None, at(now));
        releases.first().map(|release| (release.hook, release.late))
    }

    #[test]
    fn the_first_hook_is_let_go_when_no_traffic_goes_there() {
        let (inputs, mut drains) = (inputs(&Hook::ALL, Some("WaitingForPreDrainHook")), Drains::of("gw"));
        assert_eq!(drains.wanted(&inputs, at(0)).values().collect::<Vec<_>>(), [&NodeRouting::Drained]);
        assert_eq!(release(&mut drains, &inputs, BESIDE, 1), None);
        assert_eq!(release(&mut drains, &inputs, DRAINED, 1), Some((Hook::PreDrain, false)));
        assert_eq!(
            release(&mut drains, &inputs, LAST, 1),
            Some((Hook::PreDrain, false)),
            "the last path stays in use"
        );
        assert_eq!(release(&mut drains, &inputs, BESIDE, 60), Some((Hook::PreDrain, true)), "never for ever");
        let mut flowing = evidence(DRAINED);
        flowing.flows.insert((ClusterName::from("media"), "n".to_owned()), 7);
        assert!(drains.releases(&inputs, &flowing, LIMIT, |_| None, at(1)).is_empty());
        // After a restart the API server's clock still knows how long it has been.
        let late = drains.releases(&inputs, &evidence(BESIDE), LIMIT, |_| Some(at(-60)), at(1));
        assert!(late[0].late);
    }

    #[test]
    fn the_second_hook_is_let_go_when_the_sessions_are_down() {
        let moving = inputs(&[Hook::PreTerminate], Some("DrainingNode"));
        let mut drains = Drains::of("gw");
        assert_eq!(drains.wanted(&moving, at(0)).values().collect::<Vec<_>>(), [&NodeRouting::Drained]);
        assert_eq!(release(&mut drains, &moving, DRAINED, 1), None);
        let waiting = inputs(&[Hook::PreTerminate], Some("WaitingForPreTerminateHook"));
        assert_eq!(drains.wanted(&waiting, at(2)).values().collect::<Vec<_>>(), [&NodeRouting::ShutDown]);
        assert_eq!(release(&mut drains, &waiting, GONE, 3), Some((Hook::PreTerminate, false)));
        assert_eq!(release(&mut drains, &moving, DRAINED, 120), Some((Hook::PreTerminate, true)));
    }

    #[test]
    fn the_last_path_is_never_shut_down() {
        let waiting = inputs(&[Hook::PreTerminate], Some("WaitingForPreTerminateHook"));
        let mut drains = Drains::of("gw");
        drains.spare_last_paths(&waiting, &evidence(LAST));
        assert_eq!(drains.wanted(&waiting, at(0)).values().collect::<Vec<_>>(), [&NodeRouting::Drained]);
        assert_eq!(release(&mut drains, &waiting, LAST, 1), Some((Hook::PreTerminate, false)));
    }
}
