//! Bad input, one kind after the other, on a router that is in step: a named condition on the right object, nothing taken
//! away, and the good objects go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use jiff::Timestamp;
use vyos_router::{Fault, FaultKind, Generation, Router, Validity};
use vyos_sync::pass::{Again, Error, Outcome, Report};
use vyos_sync::status::{Statuses, statuses};

mod lab;
use lab::{Lab, NETWORKS, PEERING};

/// A third network, which is fine.
const GOOD: &str = "
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: good, namespace: lab}
spec: {routerRef: {name: gw}, vlan: 60, parent: {name: eth1}, subnets: [{cidr: 10.10.60.0/24}]}
";

fn said(pass: Result<&Report, &Error>) -> Statuses {
    statuses(pass, None, Timestamp::UNIX_EPOCH, &Statuses::default())
}

/// The condition of an object: status, reason, message.
fn condition(of: &Statuses, object: &str, kind: &str) -> (String, String, String) {
    let status =
        of.objects.get(object).unwrap_or_else(|| panic!("nothing is said of {object}: {:#?}", of.objects));
    let found = status.conditions.iter().find(|c| c.type_ == kind);
    let found = found.unwrap_or_else(|| panic!("no {kind} of {object}: {status:#?}"));
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

fn router_condition(of: &Statuses, kind: &str) -> (String, String, String) {
    let found = of.router.conditions.iter().find(|c| c.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

fn has_vlan(lab: &Lab, vlan: &str) -> bool {
    lab.router.running().exists(&["interfaces", "ethernet", "eth1", "vif", vlan])
}

/// Both networks and a peer are on the router; then the manifests are these.
async fn then(files: &[(&str, &str)]) -> (Lab, Statuses, Report) {
    let lab = Lab::new(Generation::G1).await;
    lab.say("peering.yaml", PEERING);
    let mut session = lab.open().await.unwrap();
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    lab.say("good.yaml", GOOD);
    files.iter().for_each(|(file, text)| lab.say(file, text));
    let report = lab.pass(&mut session, Again::No).await;
    let said = said(Ok(&report));
    for vlan in ["40", "50"] {
        assert!(has_vlan(&lab, vlan), "VLAN {vlan} is gone: {:?}", report.outcome);
    }
    assert!(
        lab.router.running().exists(&["protocols", "bgp", "neighbor", "10.10.40.10"]),
        "the peer is gone"
    );
    (lab, said, report)
}

/// The first network edited, which is what is wrong; gives what is said of it.
async fn edited(from: &str, to: &str) -> (Lab, (String, String, String)) {
    let (one, two) = NETWORKS.split_once("---").unwrap();
    assert!(one.contains(from));
    let text = format!("{}---{two}", one.replace(from, to));
    let (lab, said, _) = then(&[("networks.yaml", &text)]).await;
    assert!(has_vlan(&lab, "60"), "the good one is made");
    (lab, condition(&said, "RouterNetwork lab/a", "Accepted"))
}

const SUBNET: &str = "subnets: [{cidr: 10.10.40.0/24}]";

#[tokio::test]
async fn overlapping_subnets() {
    let (_lab, (status, reason, message)) = edited(SUBNET, "subnets: [{cidr: 10.10.50.128/25}]").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Refused"));
    assert!(message.contains("overlaps 10.10.50.0/24 of RouterNetwork lab/b"), "{message}");
}

#[tokio::test]
async fn one_vlan_claimed_twice() {
    let (_lab, (status, _, message)) = edited("vlan: 40", "vlan: 50").await;
    assert_eq!(status, "False");
    assert!(message.contains("claimed by RouterNetwork lab/b too"), "{message}");
}

#[tokio::test]
async fn a_gateway_outside_its_subnet() {
    let to = "subnets: [{cidr: 10.10.40.0/24, gateway: 10.10.41.1}]";
    let (_lab, (status, _, message)) = edited(SUBNET, to).await;
    assert_eq!(status, "False");
    assert!(message.contains("10.10.41.1 is outside 10.10.40.0/24"), "{message}");
}

#[tokio::test]
async fn a_name_that_vyos_would_refuse() {
    let to = "parent: {name: eth1}\n  dhcp: {server: {ranges: [{start: 10.10.40.50, end: 10.10.40.60}], \
              reservations: [{name: my_host, mac: '02:00:00:00:00:01', ip: 10.10.40.9}]}}";
    let (_lab, (status, _, message)) = edited("parent: {name: eth1}", to).await;
    assert_eq!(status, "False");
    assert!(message.contains("my_host"), "{message}");
    let (_lab, (_, _, message)) = edited("parent: {name: eth1}", "parent: {name: 'eth1; reboot'}").await;
    assert!(message.contains("eth1; reboot"), "{message}");
}

#[tokio::test]
async fn a_range_over_the_gateway_and_a_reservation_and_a_description_with_quotes_are_mended_and_noted() {
    let to = "parent: {name: eth1}\n  description: \"say 'hi'\\nnow\"\n  dhcp: {server: {ranges: [{start: 10.10.40.1, end: \
              10.10.40.60}], reservations: [{name: host, mac: '02:00:00:00:00:01', ip: 10.10.40.9}]}}";
    let text = NETWORKS.replacen("parent: {name: eth1}", to, 1);
    let (lab, said, report) = then(&[("networks.yaml", &text)]).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    let (status, reason, message) = condition(&said, "RouterNetwork lab/a", "Complete");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Noted"));
    for words in ["covers the gateway 10.10.40.1", "covers 10.10.40.9", "quotes"] {
        assert!(message.contains(words), "{words} in {message}");
    }
    let running = lab.router.running();
    let subnet =
        ["service", "dhcp-server", "shared-network-name", "vs_lab_a", "subnet", "10.10.40.0/24", "exclude"];
    assert_eq!(running.at(&subnet).and_then(|node| node.values()).map(|values| values.len()), Some(2));
}

#[tokio::test]
async fn a_peer_without_an_as_number() {
    let text = PEERING.replace("  peerASN: 64513\n", "");
    let (_lab, said, _) = then(&[("peering.yaml", &text)]).await;
    let (status, _, message) = condition(&said, "BGPPeering lab/hand", "Accepted");
    assert_eq!(status, "False");
    assert!(message.contains("no AS number"), "{message}");
}

#[tokio::test]
async fn a_pool_outside_any_grant() {
    let cilium = "
apiVersion: cilium.io/v2
kind: CiliumBGPNodeConfig
metadata: {name: node-1}
spec: {bgpInstances: [{name: i, localASN: 64513, peers: [{name: p, peerASN: 64512, peerAddress: 10.10.40.1, \
                  localAddress: 10.10.40.11, peerConfigRef: {name: c}}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata: {name: c}
spec: {families: [{afi: ipv4, safi: unicast, advertisements: {}}]}
---
apiVersion: cilium.io/v2
kind: CiliumBGPAdvertisement
metadata: {name: a}
spec: {advertisements: [{advertisementType: Service, selector: {}, service: {addresses: [LoadBalancerIP]}}]}
---
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: mine}
spec: {blocks: [{cidr: 10.99.0.0/24}]}
---
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: not-mine}
spec: {blocks: [{cidr: 192.168.7.0/24}]}
---
apiVersion: weir.dev/v1alpha1
kind: RouterGrant
metadata: {name: all}
spec: {subjects: {namespaces: [lab], clusters: [local]}, vlans: ['1-100'], asns: ['64513'], cidrs: [10.0.0.0/8]}
";
    let lab = Lab::new(Generation::G1).await;
    let router = std::fs::read_to_string(lab.folder.path().join("source/router.yaml")).unwrap();
    lab.say("router.yaml", &router.replace("grants: Open", "grants: Required"));
    lab.say("cilium.yaml", cilium);
    let report = lab.apply().await;
    let said = said(Ok(&report));
    let (status, _, message) = condition(&said, "CiliumLoadBalancerIPPool not-mine", "Accepted");
    assert_eq!(status, "False");
    assert!(message.contains("192.168.7.0/24"), "{message}");
    assert!(!said.objects.contains_key("CiliumLoadBalancerIPPool mine"), "{:#?}", said.objects);
    assert!(has_vlan(&lab, "40"), "{:?}", report.outcome);
}

#[tokio::test]
async fn ipv6_in_another_spelling_is_no_change() {
    let with =
        |cidr: &str| NETWORKS.replacen("10.10.40.0/24}", &format!("10.10.40.0/24}}, {{cidr: '{cidr}'}}"), 1);
    let lab = Lab::new(Generation::G1).await;
    lab.say("networks.yaml", &with("fd00:0:0:40::/64"));
    let mut session = lab.open().await.unwrap();
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    lab.say("networks.yaml", &with("FD00:0000:0:0040:0:0:0:0/64"));
    let report = lab.pass(&mut session, Again::No).await;
    assert!(matches!(report.outcome, Outcome::InSync), "{:?} {:?}", report.outcome, report.plan.commands);
}

#[tokio::test]
async fn an_unreadable_manifest_among_good_ones() {
    let (lab, said, report) = then(&[("networks.yaml", "kind: RouterNetwork\nspec: {vlan: [")]).await;
    assert!(has_vlan(&lab, "60"), "{:?}", report.outcome);
    let (status, reason, message) = router_condition(&said, "SourcesComplete");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Unreadable"));
    assert!(message.contains("networks.yaml"), "{message}");
    assert_eq!(router_condition(&said, "PruneAllowed").0, "False");
}

#[tokio::test]
async fn an_empty_source_never_means_to_delete_all() {
    let lab = Lab::new(Generation::G1).await;
    let mut session = lab.open().await.unwrap();
    lab.pass(&mut session, Again::No).await;
    lab.say("networks.yaml", "");
    let report = lab.pass(&mut session, Again::No).await;
    assert!(has_vlan(&lab, "40") && has_vlan(&lab, "50"), "{:?}", report.outcome);
    assert!(
        report.plan.blocked.iter().any(|b| b.text.contains("never means to delete all")),
        "{:?}",
        report.plan.blocked
    );
}

#[tokio::test]
async fn a_router_that_cannot_be_reached_or_trusted_says_so_on_its_router_object() {
    let refused = async |lab: &Lab| said(Err(&lab.open().await.unwrap_err()));
    let lab = Lab::new(Generation::G1).await;
    let pin = format!("spkiPins: ['{}']", lab.router.spki_pin());
    lab.router_object("another-key", &pin, "Reboot");
    let wrong_key = refused(&lab).await;
    assert_eq!(router_condition(&wrong_key, "Reachable").1, "Unauthorized");
    lab.router_object("the-api-key", &pin, "Reboot");

    let expired = Router::builder().validity(Validity::Expired).key("the-api-key").spawn().await.unwrap();
    let old = Lab::with(expired);
    let file = old.folder.path().join("ca.pem");
    std::fs::write(&file, old.router.ca_pem()).unwrap();
    old.router_object("the-api-key", &format!("caFile: '{}'", file.display()), "Reboot");
    let (status, reason, message) = router_condition(&refused(&old).await, "Reachable");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Untrusted"));
    assert!(message.contains("xpired"), "{message}");

    for (kind, reason) in [(FaultKind::Html, "Away"), (FaultKind::Error500, "Internal")] {
        let mut session = lab.open_hasty().await.unwrap();
        lab.router.add_fault(Fault::lasting(kind));
        let error = lab.try_pass(&mut session, Again::No).await.unwrap_err();
        let (status, said, message) = router_condition(&said(Err(&error)), "Reachable");
        assert_eq!((status.as_str(), said.as_str()), ("False", reason), "{message}");
        lab.router.clear_faults();
    }

    let url = lab.router.url();
    let Lab { router, folder } = lab;
    router.stop().await;
    let lab = Lab { router: old.router, folder };
    let (status, reason, _) = router_condition(&refused(&lab).await, "Reachable");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Unreachable"), "{url}");
}

#[tokio::test]
async fn a_router_that_is_rebooting_or_was_imaged_anew_is_brought_back() {
    let lab = Lab::new(Generation::G1).await;
    let mut session = lab.open().await.unwrap();
    lab.pass(&mut session, Again::No).await;
    // Nothing that we made is left, and nobody's key file tells us so: the router itself does.
    let all = "delete interfaces ethernet eth1 vif 40\ndelete interfaces ethernet eth1 vif 50";
    lab.router.edit_lines(all).await.unwrap();
    lab.router.restart();
    let report = match lab.try_pass(&mut session, Again::No).await {
        Ok(report) => report,
        // It was still on its way up.
        Err(error) => {
            assert!(!error.reached(), "{error:?}");
            lab.pass(&mut lab.open().await.unwrap(), Again::No).await
        }
    };
    assert!(matches!(report.outcome, Outcome::Applied(_) | Outcome::InSync), "{:?}", report.outcome);
    lab.router.edit_lines(all).await.unwrap();
    let report = lab.pass(&mut lab.open().await.unwrap(), Again::No).await;
    assert!(matches!(report.outcome, Outcome::Applied(_)), "{:?}", report.outcome);
    assert!(has_vlan(&lab, "40") && lab.router.saved().exists(&lab::VLAN));
}
