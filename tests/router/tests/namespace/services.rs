//! DHCPv6, router advertisements and relays: a client on the wire gets what the router was told to give.

use serde_json::Value;

use crate::cable::{Cable, has, ip, sets, until};

const SIX: &str = "
    interfaces ethernet eth1 address fd00:30::1/64
    service router-advert interface eth1 interval max 4
    service router-advert interface eth1 interval min 3
    service router-advert interface eth1 other-config-flag
    service router-advert interface eth1 prefix fd00:30::/64
    service dhcpv6-server shared-network-name NODES subnet fd00:30::/64 subnet-id 30
    service dhcpv6-server shared-network-name NODES subnet fd00:30::/64 interface eth1
    service dhcpv6-server shared-network-name NODES subnet fd00:30::/64 range a start fd00:30::100
    service dhcpv6-server shared-network-name NODES subnet fd00:30::/64 range a stop fd00:30::1ff
    service dhcpv6-server shared-network-name NODES subnet fd00:30::/64 option name-server fd00:30::53
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_gets_a_prefix_and_a_lease() {
    let Some(cable) = Cable::chain("six", 2, &["radvd", "kea-dhcp6", "dhclient"]) else { return };
    let (router, client) = cable.router(0).await;
    assert!(ip(&format!("-n {} link set eth1 up", cable.names[1])));
    assert_eq!(client.configure(&sets(SIX)).await, (200, Value::Null));

    until("the host makes itself an address in the advertised prefix", async || {
        cable.run(1, "ip -6 address show dev eth1").contains("inet6 fd00:30:")
    })
    .await;
    assert!(cable.run(1, "ip -6 route show default").contains("via fe80:"), "and a default route");

    let lease = dhclient(&cable, 1, &["-6"]);
    assert!(lease.contains("iaaddr fd00:30::1"), "{lease}");
    assert!(lease.contains("dhcp6.name-servers fd00:30::53"), "{lease}");

    let off = serde_json::json!([{"op": "delete", "path": ["service", "router-advert"]},
        {"op": "delete", "path": ["service", "dhcpv6-server"]}]);
    assert_eq!(client.configure(off.as_array().unwrap()).await, (200, Value::Null));
    until("a router that stops says so", async || {
        !cable.run(1, "ip -6 route show default").contains("via fe80:")
    })
    .await;
    router.stop().await;
}

const RELAY: &str = "
    interfaces ethernet eth1 address 10.40.0.1/24
    interfaces ethernet eth1 address fd00:40::1/64
    interfaces ethernet eth2 address 10.50.0.1/24
    interfaces ethernet eth2 address fd00:50::1/64
    service dhcp-relay listen-interface eth1
    service dhcp-relay upstream-interface eth2
    service dhcp-relay server 10.50.0.2
    service dhcpv6-relay listen-interface eth1
    service dhcpv6-relay upstream-interface eth2 address fd00:50::2
";

const SERVER: &str = "
    interfaces ethernet eth2 address 10.50.0.2/24
    interfaces ethernet eth2 address fd00:50::2/64
    protocols static route 10.40.0.0/24 next-hop 10.50.0.1
    protocols static route6 fd00:40::/64 next-hop fd00:50::1
    service dhcp-server listen-address 10.50.0.2
    service dhcp-server shared-network-name FAR subnet 10.40.0.0/24 subnet-id 40
    service dhcp-server shared-network-name FAR subnet 10.40.0.0/24 option default-router 10.40.0.1
    service dhcp-server shared-network-name FAR subnet 10.40.0.0/24 range 0 start 10.40.0.100
    service dhcp-server shared-network-name FAR subnet 10.40.0.0/24 range 0 stop 10.40.0.120
    service dhcpv6-server shared-network-name FAR subnet fd00:40::/64 subnet-id 40
    service dhcpv6-server shared-network-name FAR subnet fd00:40::/64 range a start fd00:40::100
    service dhcpv6-server shared-network-name FAR subnet fd00:40::/64 range a stop fd00:40::1ff
";

/// The host is the first, the relay the second, the server the third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_brings_leases_from_another_segment() {
    let Some(cable) = Cable::chain("relay", 3, &["dhcrelay", "kea-dhcp6", "dhclient"]) else { return };
    let ((relay, client), (server, far)) = (cable.router(1).await, cable.router(2).await);
    assert!(ip(&format!("-n {} link set eth1 up", cable.names[0])));
    assert_eq!(far.configure(&sets(SERVER)).await, (200, Value::Null));
    assert_eq!(client.configure(&sets(RELAY)).await, (200, Value::Null));

    assert!(has("udhcpc"), "udhcpc comes with the other programs");
    let said = cable.run(0, "udhcpc -i eth1 -n -q -t 10 -T 1 -s /bin/true");
    let leases = far.show("dhcp server leases").await.1;
    let text = leases.as_str().unwrap();
    assert!(text.contains("10.40.0.1") && text.contains("FAR"), "{text}\n{said}");

    let lease = dhclient(&cable, 0, &["-6"]);
    assert!(lease.contains("iaaddr fd00:40::1"), "{lease}");
    relay.stop().await;
    server.stop().await;
}

/// One lease, as dhclient writes it down.
fn dhclient(cable: &Cable, end: usize, family: &[&str]) -> String {
    settled(&cable.names[end]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (lease, pid, config) = (file("lease"), file("pid"), file("dhclient.conf"));
    std::fs::write(&config, "timeout 40;\nrequest;\nalso request dhcp6.name-servers;\n").unwrap();
    let mut words = vec!["dhclient"];
    words.extend(family);
    words.extend(["-1", "-d", "-q", "-sf", "/bin/true", "-cf", &config, "-lf", &lease, "-pf", &pid, "eth1"]);
    // It goes on serving its lease after the first; what it wrote by then is what is looked at.
    let mut child = std::process::Command::new("ip");
    child.args(["netns", "exec", &cable.names[end]]).args(&words);
    child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = child.spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(45);
    let found = loop {
        let text = std::fs::read_to_string(&lease).unwrap_or_default();
        if text.contains("iaaddr") && text.trim_end().ends_with('}') {
            break text;
        }
        if std::time::Instant::now() > deadline || child.try_wait().unwrap().is_some() {
            break text;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let _ = child.kill();
    let _ = child.wait();
    found
}

/// Waits until no address of the client's is tentative: dhclient gives up at once on a link-local address that is still being
/// checked for duplicates.
fn settled(namespace: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let tentative = || {
        let mut command = std::process::Command::new("ip");
        command.args(["-n", namespace, "-6", "addr", "show", "dev", "eth1", "tentative"]);
        !command.output().unwrap().stdout.is_empty()
    };
    while tentative() {
        assert!(std::time::Instant::now() < deadline, "addresses of {namespace} stay tentative");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
