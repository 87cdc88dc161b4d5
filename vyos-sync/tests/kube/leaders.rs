//! Two controllers, one leader.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::rig::{Rig, network, vif, words};

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_takes_over_in_seconds() {
    let Some(mut rig) = Rig::start("another_controller_takes_over_in_seconds").await else { return };
    let first = rig.controller(&[]);
    rig.apply(&rig.router_objects(json!({}))).await;
    rig.until("one leads", async || rig.controllers[first].leads()).await;
    let second = rig.controller(&[]);
    let a = network("default", "a", 40);
    rig.apply(std::slice::from_ref(&a)).await;
    rig.until_condition(&a, "Ready", "True").await;
    assert!(!rig.controllers[second].leads());

    // A crash: the Lease of 4 s runs out, and the other goes on with the same ledger.
    let start = Instant::now();
    rig.controllers[first].kill();
    rig.until("the other leads", async || rig.controllers[second].leads()).await;
    eprintln!("took over {:.1} s after a crash, with a Lease of 4 s", start.elapsed().as_secs_f64());
    assert!(start.elapsed() < Duration::from_secs(20));
    rig.delete(&a).await;
    rig.until("what the first made is removed by the second", async || !rig.has(&words(&vif(40)))).await;

    // An orderly end: the Lease is given back, and nobody waits for it.
    let third = rig.controller(&[]);
    rig.until("it is there", async || {
        rig.controllers[third].log().contains("following") || !rig.controllers[third].log().is_empty()
    })
    .await;
    let start = Instant::now();
    assert!(rig.controllers[second].stop().success());
    rig.until("the third leads", async || rig.controllers[third].leads()).await;
    eprintln!("took over {:.1} s after an orderly stop", start.elapsed().as_secs_f64());
    let b = network("default", "b", 50);
    rig.apply(std::slice::from_ref(&b)).await;
    rig.until_condition(&b, "Ready", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_sends_nothing_more() {
    let Some(mut rig) = Rig::start("a_leader_that_slept_sends_nothing_more").await else { return };
    let first = rig.controller(&[]);
    rig.apply(&rig.router_objects(json!({}))).await;
    rig.until("one leads", async || rig.controllers[first].leads()).await;
    let a = network("default", "a", 40);
    rig.apply(std::slice::from_ref(&a)).await;
    rig.until_condition(&a, "Ready", "True").await;

    rig.controllers[first].signal(Signal::SIGSTOP);
    let second = rig.controller(&[]);
    rig.until("the other leads", async || rig.controllers[second].leads()).await;
    let b = network("default", "b", 50);
    rig.apply(std::slice::from_ref(&b)).await;
    rig.until_condition(&b, "Ready", "True").await;
    let commits = rig.router.commits();
    // It wakes up and believes for a moment that it leads: what it writes and sends must come to nothing.
    rig.controllers[first].signal(Signal::SIGCONT);
    let c = network("default", "c", 60);
    rig.apply(std::slice::from_ref(&c)).await;
    rig.until_condition(&c, "Ready", "True").await;
    rig.until("both have looked again", async || {
        rig.router.journal().iter().filter(|entry| entry.endpoint.contains("retrieve")).count() > 8
    })
    .await;
    assert_eq!(rig.router.commits(), commits + 1, "one commit for one change");
    for vlan in [40, 50, 60] {
        assert!(rig.has(&words(&vif(vlan))), "{vlan}");
    }
}
