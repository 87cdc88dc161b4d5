//! The gRPC interface over a real Unix socket.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use futures::StreamExt;
use tonic::Code;
use weir_agent::export::grpc::{BindError, STREAMS, UnixSocket};
use weir_agent::export::proto::weir_server::Weir;
use weir_agent::export::proto::{
    DropsRequest, FlowFilter, FlowsRequest, LinksRequest, StatusRequest, TopRequest,
};
use weir_agent::model::link::LinkCounters;

mod fixture;
#[path = "fixture/serve.rs"]
mod serve;

use serve::{Served, client};

fn follow(filter: FlowFilter) -> FlowsRequest {
    FlowsRequest { filter: Some(filter), limit: 0, follow: true, interval_ms: 100 }
}

#[tokio::test]
async fn status_tells_of_hooks_features_and_gateways() {
    let served = Served::start();
    let status = client(&served.socket).await.status(StatusRequest {}).await.unwrap().into_inner();
    let hooks: Vec<_> =
        status.hooks.iter().map(|hook| (hook.direction.as_str(), hook.state.as_str())).collect();
    assert_eq!(hooks, [("ingress", "head"), ("egress", "not-head")]);
    assert_eq!(status.features[1].state, "off");
    let arp = &status.gateways[0].probes[0];
    assert_eq!((arp.kind.as_str(), arp.sent, arp.lost, arp.last_ns), ("arp", 101, 1, Some(180_000)));
    assert_eq!(status.conntrack.unwrap().entries, 120);
    assert!(status.problems.is_empty());
}

#[tokio::test]
async fn a_failed_source_is_a_problem_not_a_zero() {
    let served = Served::start();
    served.bench.change(|readings| readings.measurement = None);
    let mut client = client(&served.socket).await;
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.shortfall, None);
    assert_eq!(status.problems[0].source, "datapath");
    assert_eq!(status.problems[0].text, "cannot read map INTERFACES: it is gone");
    let refused = client.drops(DropsRequest::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "cannot read map INTERFACES: it is gone")
    );
}

#[tokio::test]
async fn links_tell_their_counters() {
    let served = Served::start();
    let links = client(&served.socket).await.links(LinksRequest {}).await.unwrap().into_inner().links;
    let eth0 = links.iter().find(|link| link.name == "eth0").unwrap();
    assert_eq!(
        (eth0.rx_dropped, eth0.tx_dropped, eth0.measured, eth0.speed),
        (7, 3, true, Some(10_000_000_000))
    );
    assert_eq!(links.iter().find(|link| link.name == "eth0.50").unwrap().parent.as_deref(), Some("eth0"));
}

#[tokio::test]
async fn filters_choose_flows() {
    let served = Served::start();
    let mut client = client(&served.socket).await;
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (FlowFilter::default(), 3),
        (FlowFilter { address: text("203.0.113.0/24"), ..Default::default() }, 2),
        (FlowFilter { address: text("2001:db8::/32"), ..Default::default() }, 1),
        (FlowFilter { vip: text("10.10.50.10"), direction: text("egress"), ..Default::default() }, 1),
        (
            FlowFilter {
                port: Some(443),
                protocol: text("TCP"),
                interface: text("eth0"),
                ..Default::default()
            },
            3,
        ),
        (FlowFilter { vlan: Some(0), ..Default::default() }, 1),
        (FlowFilter { vlan: Some(50), class: text("other"), ..Default::default() }, 2),
        (FlowFilter { protocol: text("17"), ..Default::default() }, 0),
    ];
    for (filter, expected) in cases {
        let request = FlowsRequest { filter: Some(filter.clone()), ..Default::default() };
        let mut answers = client.flows(request).await.unwrap().into_inner();
        let page = answers.message().await.unwrap().unwrap();
        assert_eq!(page.flows.len(), expected, "{filter:?}");
        assert!(page.flows.is_sorted_by_key(|flow| std::cmp::Reverse(flow.bytes)));
        assert!(answers.message().await.unwrap().is_none(), "the list ends");
    }
    let request = FlowsRequest { limit: 1, ..Default::default() };
    let page = client.flows(request).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!((page.flows.len(), page.left_out), (1, 2));
}

#[tokio::test]
async fn a_bad_filter_names_the_field_and_the_way_out() {
    let served = Served::start();
    let mut client = client(&served.socket).await;
    let text = |text: &str| Some(text.to_owned());
    for (filter, says) in [
        (FlowFilter { address: text("10.10"), ..Default::default() }, "filter address is 10.10; write"),
        (FlowFilter { port: Some(65_536), ..Default::default() }, "filter port is 65536; choose"),
        (FlowFilter { vlan: Some(4095), ..Default::default() }, "filter vlan is 4095; choose"),
        (FlowFilter { protocol: text("tpc"), ..Default::default() }, "filter protocol is tpc; write"),
        (FlowFilter { direction: text("in"), ..Default::default() }, "filter direction is in; choose"),
        (FlowFilter { interface: text("eth9"), ..Default::default() }, "filter interface is eth9; no such"),
    ] {
        let refused =
            client.flows(FlowsRequest { filter: Some(filter), ..Default::default() }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(says), "{}", refused.message());
    }
    let refused = client.top(TopRequest { interval_ms: 5, limit: 0 }).await.unwrap_err();
    assert_eq!(refused.message(), "interval_ms is 5; choose 100 to 60000, or 0 for one second");
}

#[tokio::test]
async fn following_shows_what_moved() {
    let served = Served::start();
    let filter = FlowFilter { direction: Some("egress".to_owned()), ..Default::default() };
    let mut answers = client(&served.socket).await.flows(follow(filter)).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!((first.flows[0].packets, first.flows[0].new_packets), (90, 0));
    served.bench.change(|readings| {
        for flow in readings.flows.iter_mut().flatten() {
            (flow.packets, flow.bytes) = (flow.packets + 5, flow.bytes + 500);
        }
    });
    let moved = loop {
        let page = answers.message().await.unwrap().unwrap();
        if !page.flows.is_empty() {
            break page.flows;
        }
    };
    assert_eq!(moved.len(), 1, "the others do not match");
    assert_eq!((moved[0].packets, moved[0].new_packets, moved[0].new_bytes), (95, 5, 500));
}

#[tokio::test]
async fn losses_count_from_the_first_reading() {
    let served = Served::start();
    let missed = |number| LinkCounters { rx_missed: number, ..LinkCounters::default() };
    for (number, losses) in [(7, vec![]), (13, vec![("eth0", "nic", "rx_missed", 6)])] {
        served.bench.change(|readings| {
            readings.host.as_mut().unwrap().links.insert(fixture::index(2), missed(number));
        });
        let once = DropsRequest { follow: false, interval_ms: 0 };
        let mut answers = client(&served.socket).await.drops(once).await.unwrap().into_inner();
        let told = answers.message().await.unwrap().unwrap().losses;
        let told: Vec<_> = told
            .iter()
            .map(|l| (l.interface.as_str(), l.layer.as_str(), l.reason.as_str(), l.packets))
            .collect();
        assert_eq!(told, losses);
    }
}

#[tokio::test]
async fn drops_grow() {
    let served = Served::start();
    let request = DropsRequest { follow: true, interval_ms: 100 };
    let mut answers = client(&served.socket).await.drops(request).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap().drops;
    let shown: Vec<_> = first.iter().map(|d| (d.source.as_str(), d.place.as_str(), d.packets)).collect();
    let expected = [
        ("kernel", "eth0", 11),
        ("nic", "eth0", 7),
        ("kernel", "other-namespace", 4),
        ("qdisc", "eth0", 3),
        ("kernel", "no-device", 2),
        ("softnet", "cpu0", 2),
    ];
    assert_eq!(shown, expected);
    served.bench.change(|readings| readings.measurement.as_mut().unwrap().drops[0].packets += 9);
    let grown = loop {
        let drops = answers.message().await.unwrap().unwrap().drops;
        if !drops.is_empty() {
            break drops;
        }
    };
    assert_eq!((grown.len(), grown[0].packets, grown[0].new_packets), (1, 20, 9));
}

#[tokio::test]
async fn a_look_that_fails_does_not_end_the_following() {
    let served = Served::start();
    let request = DropsRequest { follow: true, interval_ms: 100 };
    let mut answers = client(&served.socket).await.drops(request).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    let mut measured = None;
    served.bench.change(|readings| measured = readings.measurement.take());
    let problem = loop {
        if let Some(problem) = answers.message().await.unwrap().unwrap().problems.pop() {
            break problem;
        }
    };
    assert_eq!(problem.text, "cannot read map INTERFACES: it is gone");
    let mut measured = measured.unwrap();
    measured.drops[0].packets += 9;
    served.bench.change(|readings| readings.measurement = Some(measured.clone()));
    loop {
        let answer = answers.message().await.unwrap().unwrap();
        if let Some(drop) = answer.drops.first() {
            assert_eq!(drop.new_packets, 9);
            break;
        }
    }
}

#[tokio::test]
async fn top_tells_rates() {
    let served = Served::start();
    let mut answers = client(&served.socket)
        .await
        .top(TopRequest { interval_ms: 100, limit: 5 })
        .await
        .unwrap()
        .into_inner();
    answers.message().await.unwrap().unwrap();
    served.bench.change(|readings| {
        let measurement = readings.measurement.as_mut().unwrap();
        measurement.interfaces[0].packets += 1000;
        measurement.vips[0].bytes += 5000;
        measurement.drops[0].packets += 3;
        readings.flows.as_mut().unwrap()[0].packets += 50;
    });
    let top = loop {
        let top = answers.message().await.unwrap().unwrap();
        if !top.flows.is_empty() {
            break top;
        }
    };
    // The rate times the interval is exactly what was added, however long the interval was.
    let seconds = top.interval_ns as f64 / 1e9;
    let added = |rate: f64| (rate * seconds).round();
    assert_eq!(added(top.interfaces[0].ingress.unwrap().packets), 1000.0);
    assert_eq!(added(top.vips[0].ingress.unwrap().bytes), 5000.0);
    assert_eq!(added(top.drops[0].packets), 3.0);
    assert_eq!(added(top.flows[0].rate.unwrap().packets), 50.0);
}

#[tokio::test]
async fn nobody_listening_reads_nothing_and_streams_are_bounded() {
    let served = Served::start();
    let mut client = client(&served.socket).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(client.flows(follow(FlowFilter::default())).await.unwrap());
    }
    let refused = client.flows(follow(FlowFilter::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(streams);
    while served.tally.streams_ended.read() < STREAMS as u64 {
        tokio::task::yield_now().await;
    }
    let reads = served.bench.0.lock().unwrap().reads;
    // Nothing can be awaited for something that must not happen.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(served.bench.0.lock().unwrap().reads, reads);
    client.flows(follow(FlowFilter::default())).await.unwrap();
}

#[tokio::test]
async fn a_slow_client_skips_looks_and_is_counted() {
    let served = Served::start();
    let request = tonic::Request::new(follow(FlowFilter::default()));
    let mut answers = Weir::flows(&served.service, request).await.unwrap().into_inner();
    answers.next().await.unwrap().unwrap();
    let reads = served.bench.0.lock().unwrap().reads;
    // The client does nothing for three and a half intervals.
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(served.bench.0.lock().unwrap().reads, reads, "nothing is read ahead");
    let skipped = answers.next().await.unwrap().unwrap().skipped;
    assert!(skipped >= 2, "{skipped}");
    assert_eq!(served.tally.skipped.read(), skipped);
}

#[tokio::test]
async fn shutdown_ends_streams_and_removes_the_socket() {
    let served = Served::start();
    let mut answers =
        client(&served.socket).await.flows(follow(FlowFilter::default())).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    served.shutdown.cancel();
    while answers.message().await.is_ok_and(|page| page.is_some()) {}
    served.task.await.unwrap();
    assert!(!served.socket.exists());
}

#[tokio::test]
async fn the_socket_is_private_single_and_never_stale() {
    let served = Served::start();
    let mode = std::fs::metadata(&served.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(UnixSocket::bind(&served.socket), Err(BindError::Served(_))));
    client(&served.socket).await.status(StatusRequest {}).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists(), "a dead agent leaves its socket");
    drop(UnixSocket::bind(&stale).unwrap());
    assert!(!stale.exists());
    std::fs::write(&stale, "not a socket").unwrap();
    assert!(matches!(UnixSocket::bind(&stale), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&stale).unwrap(), "not a socket");
}
