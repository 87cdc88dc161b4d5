//! BFD between two routers: it comes up by what a BGPPeering asks for, and a cut is noticed long before the hold time.

use std::time::{Duration, Instant};

use serde_json::Value;
use vyos_router::{Generation, Namespace, Router};
use vyos_sync::reconcile::{Again, Outcome};

use crate::cable::{Cable, ip, sets, until};
use crate::client::Client;
use crate::lab::Lab;

const PEERING: &str = "
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: nodes, namespace: lab}
spec:
  routerRef: {name: gw}
  vlan: 30
  parent: {name: eth1}
  subnets: [{cidr: 10.30.0.0/24}]
---
apiVersion: weir.dev/v1alpha1
kind: BGPPeering
metadata: {name: node, namespace: lab}
spec:
  routerRef: {name: gw}
  peerASN: 64513
  peers: [{name: node-a, address: 10.30.0.2}]
  accept: [{prefix: 10.99.0.0/16, le: 32}]
  bfd: {receiveMilliseconds: 100, transmitMilliseconds: 100, multiplier: 3}
";

const PEER: &str = "
    interfaces ethernet eth1 vif 30 address 10.30.0.2/24
    protocols bfd profile fast interval receive 100
    protocols bfd profile fast interval transmit 100
    protocols bfd profile fast interval multiplier 3
    protocols bgp system-as 64513
    protocols bgp parameters router-id 10.30.0.2
    protocols bgp neighbor 10.30.0.1 remote-as 64512
    protocols bgp neighbor 10.30.0.1 timers connect 1
    protocols bgp neighbor 10.30.0.1 bfd profile fast
    protocols bgp neighbor 10.30.0.1 address-family ipv4-unicast
    protocols bgp address-family ipv4-unicast network 10.99.1.1/32
";

async fn bfd_is_up(client: &Client) -> bool {
    let shown = client.show("bfd peers").await.1;
    shown.as_str().is_some_and(|text| text.contains("10.30.0.2") && text.contains("Status: up"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bfd_comes_up_and_notices_a_cut_before_the_hold_time() {
    let Some(cable) = Cable::chain("bfd", 2, &[]) else { return };
    let router = Router::builder().namespace(Namespace::Named(cable.names[0].clone()));
    let router = router.generation(Generation::G1).key("the-api-key").spawn().await.unwrap();
    let client = Client::of(&router);
    let lab = Lab::with(router);
    let (other, peer) = cable.router(1).await;
    assert_eq!(peer.configure(&sets(PEER)).await, (200, Value::Null));

    lab.say("networks.yaml", PEERING);
    let mut session = lab.open().await.unwrap();
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    until("the route of the peer arrives", async || cable.run(0, "ip route").contains("10.99.1.1")).await;
    until("BFD is up on both ends", async || bfd_is_up(&client).await).await;
    let shown = client.show("bfd peers").await.1;
    assert!(shown.as_str().unwrap().contains("Receive interval: 100ms"), "{shown}");

    // The other end goes silent; its own link stays up, so only BFD or the hold time (90 s and more) can tell.
    let cut = Instant::now();
    assert!(ip(&format!("-n {} address flush dev eth1.30", cable.names[1])));
    until("the route goes", async || !cable.run(0, "ip route").contains("10.99.1.1")).await;
    assert!(cut.elapsed() < Duration::from_secs(10), "noticed after {:?}", cut.elapsed());
    assert!(!bfd_is_up(&client).await);

    // Nobody asks for it any more: it goes with its profile.
    lab.say(
        "networks.yaml",
        &PEERING.lines().filter(|line| !line.contains("bfd:")).collect::<Vec<_>>().join("\n"),
    );
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    assert!(!lab.router.running().exists(&["protocols", "bfd"]));
    let Lab { router, .. } = lab;
    router.stop().await;
    other.stop().await;
}
