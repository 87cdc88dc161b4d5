//! What a hundred clusters cost the controller: commits, requests to the router, calls of the APIs, memory and CPU.

mod tenant;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vyos_router::{Generation, Router};
use weir_apiserver::{ApiServer, User, apply, install};

use crate::Effort;
use crate::stats::judge;
use tenant::Tenants;

const CLUSTERS: usize = 100;
const NODES: usize = 20;
/// The part of all nodes that is replaced in a minute.
const REPLACED: usize = CLUSTERS * NODES / 10;

pub(crate) fn measure(effort: Effort) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(Duration::from_secs(if effort.idle < 60 { 20 } else { 120 })))
}

async fn run(time: Duration) -> Result<()> {
    let Some(api) = ApiServer::start("clusters").await else { bail!("there is no API server") };
    let tenants = Tenants::new(CLUSTERS);
    for cluster in 0..CLUSTERS {
        of_cluster(cluster).into_iter().for_each(|object| tenants.put(cluster, object));
        (0..NODES).flat_map(|node| objects(cluster, node)).for_each(|object| tenants.put(cluster, object));
    }
    let address = tenants.clone().serve().await?;
    let router =
        Router::builder().generation(Generation::G3).key("bench-key").poison(Duration::ZERO).spawn().await?;
    let client = api.client()?;
    install(&client, &vyos_sync::crd::all()).await?;
    for object in router_objects(&router) {
        apply(&client, &object).await?;
    }
    let folder = tempfile::tempdir()?;
    let started = Instant::now();
    let controller = Controller::start(&api, &folder, address)?;
    until("every node is a neighbor", || neighbors(&router) == CLUSTERS * NODES).await?;
    println!(
        "  from nothing to {} neighbors in {} clusters: {:.1} s, {} requests, {} commits",
        CLUSTERS * NODES,
        CLUSTERS,
        started.elapsed().as_secs_f64(),
        router.journal().len(),
        router.commits()
    );
    let settled = controller.counts(&router)?;
    let replaced = replace(&tenants, time).await;
    until("the last ones are neighbors too", || {
        neighbors(&router) == CLUSTERS * NODES && last_is_there(&router, replaced)
    })
    .await?;
    let end = controller.counts(&router)?;
    tell(&settled, &end, replaced);
    drop(controller);
    router.stop().await;
    Ok(())
}

fn tell(before: &Counts, after: &Counts, replaced: usize) {
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let minutes = seconds / 60.0;
    let commits = f64::from(after.commits - before.commits);
    println!("  {replaced} nodes replaced in {seconds:.0} s ({:.0} a minute)", replaced as f64 / minutes);
    judge("commits a minute", commits / minutes, 12.0, "commits");
    println!("  a minute: {:.0} requests to the router", (after.requests - before.requests) as f64 / minutes);
    println!("  a minute: {:.0} calls of the APIs", (after.calls - before.calls) / minutes);
    println!(
        "  CPU: {:.1} % of a core; memory: {} MiB now, {} MiB at most",
        (after.cpu - before.cpu) / seconds * 100.0,
        after.memory / 1024,
        after.peak / 1024
    );
}

/// What a cluster has besides nodes.
fn of_cluster(cluster: usize) -> [Value; 3] {
    [
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": {"name": "gw", "uid": "a"},
               "spec": {"families": [{"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"bgp": "vips"}}}]}}),
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement", "metadata": {"name": "vips", "uid": "b", "labels": {"bgp": "vips"}},
               "spec": {"advertisements": [{"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]},
                                            "selector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}]}}),
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "pool", "uid": "c"},
               "spec": {"blocks": [{"cidr": format!("10.{}.0.0/24", 100 + cluster)}]}}),
    ]
}

/// A node, by a number that is never used again.
fn objects(cluster: usize, number: usize) -> [Value; 2] {
    let (name, address) = (
        format!("c{cluster}-n{number}"),
        format!("10.{}.{}.{}", cluster, 1 + number / 200, 10 + number % 200),
    );
    [
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": format!("n-{name}"), "labels": labels(&name)},
               "status": {"addresses": [{"type": "InternalIP", "address": address}], "images": images()}}),
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": {"name": name, "uid": format!("b-{name}")},
               "spec": {"bgpInstances": [{"name": "i", "localASN": 64513, "peers": [
                    {"name": "gw", "peerAddress": "10.250.0.1", "peerASN": 64512, "peerConfigRef": {"name": "gw"}}]}]}}),
    ]
}

fn labels(name: &str) -> Value {
    json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "a"})
}

/// What a Node carries that nobody here reads: 50 images, as kubelet reports.
fn images() -> Vec<Value> {
    (0..50).map(|n| json!({"names": [format!("registry.example/image-{n}@sha256:{}", "0".repeat(64))], "sizeBytes": n})).collect()
}

fn router_objects(router: &Router) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "default"}, "stringData": {"key": "bench-key"}}),
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gw"}, "spec": {
            "endpoints": [router.url()], "tls": {"spkiPins": [router.spki_pin()]},
            "apiKey": {"secretRef": {"namespace": "default", "name": "key", "key": "key"}},
            "mode": "Sync", "drift": "Revert", "grants": "Open", "deletionBudget": 100_000,
            "bgp": {"asn": 64512, "addresses": ["10.250.0.1"]}}}),
    ]
}

fn neighbors(router: &Router) -> usize {
    router.running().entries(&["protocols", "bgp", "neighbor"]).count()
}

/// Replaces nodes one after the other, evenly over the time. Gives how many.
async fn replace(tenants: &Tenants, time: Duration) -> usize {
    let each = Duration::from_secs(60) / u32::try_from(REPLACED).unwrap_or(1);
    let mut clock = tokio::time::interval(each);
    let until = Instant::now() + time;
    let mut number = 0;
    while Instant::now() < until {
        clock.tick().await;
        let (cluster, old) = (number % CLUSTERS, number / CLUSTERS);
        objects(cluster, old).into_iter().for_each(|object| tenants.remove(cluster, object));
        objects(cluster, NODES + old).into_iter().for_each(|object| tenants.put(cluster, object));
        number += 1;
    }
    number
}

fn last_is_there(router: &Router, replaced: usize) -> bool {
    let Some(last) = replaced.checked_sub(1) else { return true };
    let [node, _] = objects(last % CLUSTERS, NODES + last / CLUSTERS);
    let address = node["status"]["addresses"][0]["address"].as_str().unwrap_or_default().to_owned();
    router.running().exists(&["protocols", "bgp", "neighbor", &address])
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(240);
    while !holds() {
        ensure!(Instant::now() < limit, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The program as people run it.
struct Controller {
    child: Child,
    metrics: std::net::SocketAddr,
}

/// What was counted up to a moment.
struct Counts {
    at: Instant,
    commits: u32,
    requests: usize,
    calls: f64,
    /// Seconds.
    cpu: f64,
    /// KiB.
    memory: u64,
    peak: u64,
}

impl Controller {
    fn start(api: &ApiServer, folder: &tempfile::TempDir, tenants: std::net::SocketAddr) -> Result<Self> {
        let metrics = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(weir_netns::built("vyos-sync")?);
        command
            .args(["run", "--kube", "--no-cluster-secrets", "--kubeconfig"])
            .arg(api.kubeconfig_file(&User::admin())?);
        command.arg("--state-dir").arg(folder.path().join("state")).args(["--listen", &metrics.to_string()]);
        for cluster in 0..CLUSTERS {
            let file = folder.path().join(format!("{cluster}.kubeconfig"));
            let text = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'http://{tenants}/c/{cluster}'}}}}]\n\
                 users: [{{name: c, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n"
            );
            fs::write(&file, text)?;
            command.args(["--cluster", &format!("c{cluster}={}", file.display())]);
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self { child, metrics })
    }

    fn counts(&self, router: &Router) -> Result<Counts> {
        let pid = self.child.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").context("stat")?.1.split(' ').collect();
        // utime and stime are fields 14 and 15, in ticks of a hundredth of a second (proc(5)).
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        let text = scrape(self.metrics)?;
        let calls = text.lines().filter(|line| line.starts_with("vyos_sync_api_calls_total"));
        let calls = calls.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        Ok(Counts {
            at: Instant::now(),
            commits: router.commits(),
            requests: router.journal().len(),
            calls,
            cpu: ticks / 100.0,
            memory: kib("VmRSS:")?,
            peak: kib("VmHWM:")?,
        })
    }
}

fn scrape(address: std::net::SocketAddr) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let mut wire = std::net::TcpStream::connect(address)?;
    write!(wire, "GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    wire.read_to_string(&mut text)?;
    Ok(text)
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
