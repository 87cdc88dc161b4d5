//! kill -9 at every phase of an apply: the next controller brings the router to where it should be, and leaves nothing armed.

use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use serde_json::json;
use vyos_router::{Fault, FaultKind};
use vyos_sync::crd::{ChangePhase, RouterChange};

use crate::rig::{Rig, network, vif, words};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_phase_it_converges() {
    let Some(mut rig) = Rig::start("killed_at_every_phase_it_converges").await else { return };
    rig.apply(&rig.router_objects(json!({}))).await;
    let changes: Api<RouterChange> = Api::all(rig.client.clone());
    let phases = [ChangePhase::Planned, ChangePhase::Sent, ChangePhase::Committed, ChangePhase::Verified];
    for (at, phase) in phases.into_iter().enumerate() {
        let (vlan, name) = (40 + u16::try_from(at).unwrap(), format!("n{at}"));
        // Every answer of the router takes so long that no phase slips by.
        rig.router.add_fault(Fault::lasting(FaultKind::Slow { millis: 300 }));
        let from = changes.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        let mut watch = changes.watch(&WatchParams::default(), &from).await.unwrap().boxed();
        let doomed = rig.controller(&[]);
        let object = network("default", &name, vlan);
        rig.apply(std::slice::from_ref(&object)).await;
        let seen = async {
            while let Some(event) = watch.next().await {
                let Ok(WatchEvent::Added(change) | WatchEvent::Modified(change)) = event else { continue };
                let adds =
                    change.spec.commands.iter().any(|command| command.contains(&format!("vif {vlan}")));
                if adds && change.status.is_some_and(|status| status.phase == phase) {
                    return;
                }
            }
            panic!("the watch ended");
        };
        tokio::time::timeout(Duration::from_secs(60), seen)
            .await
            .unwrap_or_else(|_| panic!("never {phase:?}: {}", rig.controllers[doomed].log()));
        rig.controllers[doomed].kill();
        rig.router.clear_faults();

        let heir = rig.controller(&[]);
        rig.until_condition(&object, "Ready", "True").await;
        assert!(rig.router.saved().exists(&words(&vif(vlan))), "{phase:?}: saved");
        let all = changes.list(&ListParams::default()).await.unwrap();
        let open =
            all.iter().filter(|change| change.status.as_ref().is_some_and(|s| s.finished_at.is_none()));
        assert_eq!(open.count(), 0, "{phase:?}: no change is left open");
        rig.controllers[heir].kill();
    }
    // Longer than the router's own undo would take (5 minutes of 5 s): it would have taken the last change back.
    assert_eq!(rig.router.boots(), 0);
}
