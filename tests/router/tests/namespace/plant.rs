//! Addresses, routes, filters, translation, a lease and a name, from one configuration.

use std::process::Command;

use serde_json::{Value, json};
use vyos_router::Router;

use crate::cable::{Cable, has, sets, until};
use crate::client::Client;

const ROUTER: &str = "
    interfaces ethernet eth1 vif 30 address 10.30.0.1/24
    interfaces ethernet eth1 vif 30 description nodes
    protocols bgp system-as 64512
    protocols bgp parameters router-id 10.30.0.1
    protocols bgp neighbor 10.30.0.2 remote-as 64513
    protocols bgp neighbor 10.30.0.2 timers keepalive 1
    protocols bgp neighbor 10.30.0.2 timers holdtime 3
    protocols bgp neighbor 10.30.0.2 timers connect 1
    protocols bgp neighbor 10.30.0.2 address-family ipv4-unicast prefix-list import POOL
    policy prefix-list POOL rule 10 action permit
    policy prefix-list POOL rule 10 prefix 10.99.0.0/16
    policy prefix-list POOL rule 10 le 32
    nat source rule 100 outbound-interface name eth1
    nat source rule 100 source address 10.30.0.0/24
    nat source rule 100 translation address masquerade
    protocols static route 10.200.0.0/16 next-hop 10.30.0.2
    system static-host-mapping host-name app.example inet 10.99.1.1
    service dns forwarding listen-address 10.30.0.1
    service dns forwarding allow-from 10.30.0.0/24
    service dhcp-server shared-network-name NODES subnet 10.30.0.0/24 subnet-id 30
    service dhcp-server shared-network-name NODES subnet 10.30.0.0/24 option default-router 10.30.0.1
    service dhcp-server shared-network-name NODES subnet 10.30.0.0/24 range 0 start 10.30.0.100
    service dhcp-server shared-network-name NODES subnet 10.30.0.0/24 range 0 stop 10.30.0.120
";

const PEER: &str = "
    interfaces ethernet eth1 vif 30 address 10.30.0.2/24
    protocols bgp system-as 64513
    protocols bgp parameters router-id 10.30.0.2
    protocols bgp neighbor 10.30.0.1 remote-as 64512
    protocols bgp neighbor 10.30.0.1 timers connect 1
    protocols bgp neighbor 10.30.0.1 address-family ipv4-unicast
    protocols bgp address-family ipv4-unicast network 10.99.1.1/32
    protocols bgp address-family ipv4-unicast network 172.31.0.0/24
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_configured_is_programmed() {
    let Some(cable) = Cable::lay("plant") else { return };
    let ((router, client), (other, peer)) = (cable.router(0).await, cable.router(1).await);
    assert_eq!(client.configure(&sets(ROUTER)).await, (200, Value::Null));
    assert_eq!(peer.configure(&sets(PEER)).await, (200, Value::Null));

    assert!(cable.run(0, "ip -4 address show dev eth1.30").contains("10.30.0.1/24"));
    assert!(cable.run(0, "nft list table ip vyos_nat").contains("masquerade comment \"SRC-NAT-100\""));
    until("the permitted prefix arrives", async || cable.run(0, "ip route").contains("10.99.1.1")).await;
    let routes = cable.run(0, "ip route");
    assert!(routes.contains("10.200.0.0/16 nhid") || routes.contains("10.200.0.0/16 via"), "{routes}");
    assert!(!routes.contains("172.31.0.0"), "the prefix-list filters: {routes}");
    let summary = client.show("bgp summary").await.1;
    assert!(summary.as_str().unwrap().contains("10.30.0.2"), "{summary}");

    no_flap(&client).await;
    a_lease(&cable, &client).await;
    a_name(&cable);
    a_restart(&cable, &router, &client).await;
    router.stop().await;
    other.stop().await;
    assert!(!cable.run(0, "ip -4 address show").contains("10.30.0.1"), "stop takes all back");
}

/// More neighbours, another description, another rule: the session that is up stays up.
async fn no_flap(client: &Client) {
    let more = "
        protocols bgp neighbor 10.30.0.3 remote-as 64513
        protocols bgp neighbor 10.30.0.3 address-family ipv4-unicast
        protocols bgp neighbor 10.30.0.2 description node~a
        policy prefix-list POOL rule 20 action permit
        policy prefix-list POOL rule 20 prefix 10.98.0.0/16
        nat destination rule 10 inbound-interface name eth1
        nat destination rule 10 protocol tcp
        nat destination rule 10 destination port 443
        nat destination rule 10 translation address 10.99.1.1
    ";
    let warned = client.configure(&sets(more)).await;
    assert_eq!(warned.0, 200, "{warned:?}");
    let gone = json!({"op": "delete", "path": ["protocols", "bgp", "neighbor", "10.30.0.3"]});
    assert_eq!(client.configure(&[gone]).await.0, 200);
    let neighbor = client.show("bgp neighbors 10.30.0.2").await.1;
    let text = neighbor.as_str().unwrap();
    assert!(text.contains("Connections established 1; dropped 0"), "{text}");
    assert!(text.contains("Description: node a"), "{text}");
    assert!(!client.show("bgp summary").await.1.as_str().unwrap().contains("10.30.0.3"));
}

/// A client in the other namespace asks for an address, and the lease is shown.
async fn a_lease(cable: &Cable, client: &Client) {
    if !has("busybox") && !has("udhcpc") {
        eprintln!("SKIPPED plant, the lease: no udhcpc");
        return;
    }
    let program = if has("udhcpc") { "udhcpc" } else { "busybox udhcpc" };
    cable.run(1, &format!("{program} -i eth1.30 -n -q -t 10 -T 1 -s /bin/true"));
    let leases = client.show("dhcp server leases").await.1;
    let text = leases.as_str().unwrap();
    assert!(text.contains("10.30.0.1") && text.contains("active") && text.contains("NODES"), "{text}");
}

/// The host entry is answered over the wire.
fn a_name(cable: &Cable) {
    if !has("python3") {
        eprintln!("SKIPPED plant, the name: no python3");
        return;
    }
    let script = "import socket;s=socket.socket(2,2);s.settimeout(5);\
        q=bytes.fromhex('123401000001000000000000')+b'\\x03app\\x07example\\x00\\x00\\x01\\x00\\x01';\
        s.sendto(q,('10.30.0.1',53));print(s.recv(512)[-4:].hex())";
    let output = Command::new("ip")
        .args(["netns", "exec", &cable.names[1], "python3", "-c", script])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.trim(), "0a630101", "{}", String::from_utf8_lossy(&output.stderr));
}

/// Nothing was saved: a restart leaves an empty router, in the namespace too.
async fn a_restart(cable: &Cable, router: &Router, client: &Client) {
    router.restart();
    client.until_boots(router, 1).await;
    assert_eq!(client.exists("protocols bgp").await, json!(false));
    assert!(!cable.run(0, "ip -4 address show").contains("10.30.0.1"));
    assert!(!cable.run(0, "nft list ruleset").contains("SRC-NAT-100"));
}
