//! What a large cluster costs the agent of one node: memory and CPU beside a real API server.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, CustomResourceExt as _, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weir_api::NodeDatapath;
use weir_apiserver::{ApiServer, User, install};
use weir_netns::topology::UPLINK;
use weir_netns::wait::until;
use weir_netns::{Agent, Pair, relay};

use crate::Effort;
use crate::footprint::{cpu, memory};
use crate::stats::judge;

const PODS: usize = 10_000;
const ON_THE_NODE: usize = 100;
const SERVICES: usize = 5_000;
/// Services with a load balancer's address.
const BALANCERS: usize = 200;
/// Changes of endpoints a second, anywhere in the cluster.
const CHURN: usize = 20;
/// Requests at a time.
const AT_ONCE: usize = 48;
const LIMIT: Duration = Duration::from_secs(240);

pub(crate) fn measure(effort: Effort) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let time = Duration::from_secs(effort.idle.min(60));
    runtime.block_on(run(time))
}

async fn run(time: Duration) -> Result<()> {
    let Some(api) = ApiServer::start("crowd").await else { bail!("there is no API server") };
    let client = api.client()?;
    install(&client, &[NodeDatapath::crd()]).await?;
    let begun = Instant::now();
    fill(&client).await?;
    println!("  {PODS} Pods and {SERVICES} Services in {:.0} s", begun.elapsed().as_secs_f64());
    let pair = Pair::new()?;
    relay::outward(&pair.node, api.url().trim_start_matches("https://").parse()?)?;
    let kubeconfig = api.kubeconfig_file(&User::admin())?.display().to_string();
    let program = std::env::current_exe()?.with_file_name("weir-agent");
    let options = ["--interface", UPLINK, "--node", "n0", "--kubeconfig", &kubeconfig, "--vip-probe", "off"];
    let mut agent = Agent::new(&pair.node, &program, &options)?;
    let begun = Instant::now();
    agent.start()?;
    until("the agent knows its Pods and all addresses", LIMIT, || {
        let scrape = agent.scrape()?;
        let pods = scrape.sum("weir_pod_addresses", &[]);
        let vips = scrape.sum("weir_vip_wanted", &[("wanted", "somewhere")]);
        Ok(pods as usize == ON_THE_NODE && vips as usize == BALANCERS)
    })?;
    println!("  ready with all of it after {:.1} s", begun.elapsed().as_secs_f64());
    let process = agent.process()?.id();
    println!("  CPU time until then: {:.2} s", cpu(process)?.as_secs_f64());
    judge("resident memory", memory(process, "VmRSS")?, 64.0, "MB");
    println!("  highest resident memory: {:.1} MB", memory(process, "VmHWM")?);
    let before = cpu(process)?;
    tokio::time::sleep(time).await;
    let share = |spent: Duration| spent.as_secs_f64() / time.as_secs_f64() * 100.0;
    judge("CPU of a core, nothing changes", share(cpu(process)? - before), 1.0, "%");
    let before = cpu(process)?;
    churn(&client, time).await?;
    judge("CPU of a core, 20 slices change a second", share(cpu(process)? - before), 5.0, "%");
    judge("resident memory after that", memory(process, "VmRSS")?, 64.0, "MB");
    agent.process()?.stop()?;
    agent.detach()?;
    Ok(())
}

async fn fill(client: &Client) -> Result<()> {
    make::<Node>(Api::all(client.clone()), vec![json!({"metadata": {"name": "n0"}})]).await?;
    let pods = (0..PODS).map(pod).collect();
    make::<Pod>(Api::namespaced(client.clone(), "default"), pods).await?;
    let ours = (0..ON_THE_NODE).map(|n| {
        let address = format!("10.200.0.{}", n + 1);
        (
            format!("p{n}"),
            json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}),
        )
    });
    set_status::<Pod>(Api::namespaced(client.clone(), "default"), ours.collect()).await?;
    make::<Service>(Api::namespaced(client.clone(), "default"), (0..SERVICES).map(service).collect()).await?;
    let balanced = (0..BALANCERS).map(|n| {
        let ingress = json!([{"ip": format!("10.10.50.{}", n + 1), "ipMode": "VIP"}]);
        (format!("s{n}"), json!({"status": {"loadBalancer": {"ingress": ingress}}}))
    });
    set_status::<Service>(Api::namespaced(client.clone(), "default"), balanced.collect()).await?;
    make::<EndpointSlice>(Api::namespaced(client.clone(), "default"), (0..SERVICES).map(slice).collect())
        .await
}

fn node(pod: usize) -> String {
    format!("n{}", pod / ON_THE_NODE)
}

/// A Pod as they are: its specification is what weighs.
fn pod(n: usize) -> Value {
    let env: Vec<Value> = (0..20)
        .map(|at| json!({"name": format!("VARIABLE_{at}"), "value": "a value of some length"}))
        .collect();
    json!({"metadata": {"name": format!("p{n}"), "labels": {"app": format!("a{}", n / 2)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("a{}", n / 2), "uid": "u", "controller": true}]},
           "spec": {"nodeName": node(n), "containers": [{"name": "main", "image": "registry.example/app:1", "env": env}]}})
}

fn service(n: usize) -> Value {
    let kind = if n < BALANCERS { "LoadBalancer" } else { "ClusterIP" };
    json!({"metadata": {"name": format!("s{n}")},
           "spec": {"type": kind, "allocateLoadBalancerNodePorts": if n < BALANCERS { json!(false) } else { Value::Null },
                    "selector": {"app": format!("a{n}")}, "ports": [{"port": 80}]}})
}

/// Two endpoints for each Service.
fn slice(n: usize) -> Value {
    let endpoints = [2 * n, 2 * n + 1].map(|pod| {
        json!({"addresses": [format!("10.{}.{}.{}", 201 + pod / 65_536, pod / 256 % 256, pod % 256)], "nodeName": node(pod),
               "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": format!("p{pod}"), "namespace": "default"}})
    });
    json!({"addressType": "IPv4", "metadata": {"name": format!("s{n}-x"), "labels": {"kubernetes.io/service-name": format!("s{n}")}},
           "endpoints": endpoints, "ports": [{"port": 8080}]})
}

async fn make<K>(api: Api<K>, objects: Vec<Value>) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + serde::Serialize + Debug,
{
    let create = |object: Value| {
        let api = &api;
        async move {
            let object: K = serde_json::from_value(object)?;
            api.create(&PostParams::default(), &object).await.context("create")?;
            anyhow::Ok(())
        }
    };
    futures::stream::iter(objects).map(create).buffer_unordered(AT_ONCE).try_collect().await
}

async fn set_status<K>(api: Api<K>, statuses: Vec<(String, Value)>) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let write = |(name, status): (String, Value)| {
        let api = &api;
        async move {
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
                .await
                .context("status")?;
            anyhow::Ok(())
        }
    };
    futures::stream::iter(statuses).map(write).buffer_unordered(AT_ONCE).try_collect().await
}

/// Endpoints become unready and ready again, evenly over the time and over the cluster.
async fn churn(client: &Client, time: Duration) -> Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let mut clock = tokio::time::interval(Duration::from_secs(1) / CHURN as u32);
    let end = Instant::now() + time;
    let mut n = 0;
    while Instant::now() < end {
        clock.tick().await;
        let which = n * 37 % SERVICES;
        let mut endpoints = slice(which)["endpoints"].clone();
        endpoints[0]["conditions"]["ready"] = (n / SERVICES % 2 == 1).into();
        let change = json!({"endpoints": endpoints});
        api.patch(&format!("s{which}-x"), &PatchParams::default(), &Patch::Merge(&change)).await?;
        n += 1;
    }
    Ok(())
}
