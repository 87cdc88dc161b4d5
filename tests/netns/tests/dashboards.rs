//! The dashboards against the demo's own data, through a real Prometheus: every metric and label that they name is
//! there, and every query that should have an answer has one. The demo's last act, in which nodes die, makes the events
//! of BFD and BGP happen.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_netns::namespace::is_installed;
use weir_netns::wait::until;
use weir_netns::{Process, gateway};
use weir_repo::dashboards::{Query, panel_queries, rule_queries};
use weir_repo::promql;

/// From the demo's start to data in every panel, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
/// The live view, before the last act.
const VIEW: &str = "45";
/// A scrape each second: four of them in a window.
const WINDOW: &str = "10s";
/// Series that only come with an event that the demo does not make, and why. These are held to the metric reference instead.
const RARE: [(&str, &str); 12] = [
    ("weir_loss_unexplained_packets", "the demo explains every packet that it loses"),
    ("weir_missed_events_total", "the demo changes links slower than the kernel tells"),
    ("weir_bfd_echoes_total", "FRR sends no echoes unless it is told to"),
    ("weir_tls_certificate_refused", "the demo's listeners have no certificate"),
    ("weir_tls_certificate_expiry_timestamp_seconds", "the demo's listeners have no certificate"),
    ("vyos_sync_secret_store_reachable", "the demo has no store of secrets"),
    ("weir_ambient_packets_total", "the demo has no service mesh"),
    ("weir_ambient_bytes_total", "the demo has no service mesh"),
    ("weir_link_monitor_disagrees", "the demo has no Harvester"),
    ("guard-storage", "the demo has no Longhorn"),
    ("weir_policy_reverts_total", "no policy of the demo is given up"),
    ("weir_policy_problems", "nothing is wrong with the demo's policy"),
];

fn rare(metric: &str) -> bool {
    RARE.iter().any(|(name, _)| *name == metric)
}

#[test]
fn every_query_has_an_answer_from_the_demo() -> Result<()> {
    let missing = (!is_installed("prometheus")).then(|| "prometheus is not installed".to_owned());
    if let Some(reason) = weir_netns::unavailable().or_else(gateway::unavailable).or(missing) {
        eprintln!("SKIPPED every_query_has_an_answer_from_the_demo: {reason}");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let targets = folder.path().join("targets.json");
    let prometheus = Prometheus::start(folder.path(), &targets)?;
    let log = fs::File::create(folder.path().join("demo.log"))?;
    let mut demo = Command::new(env!("CARGO_BIN_EXE_weir-demo"));
    demo.env("DEMO_TARGETS", &targets).env("DEMO_SECONDS", VIEW).stdout(log.try_clone()?).stderr(log);
    let mut demo = Process::spawn(&mut demo)?;
    until("all of the demo is scraped", LIMIT, || {
        ensure!(demo.ended().is_none(), "{}", fs::read_to_string(folder.path().join("demo.log"))?);
        Ok(prometheus.ask("sum(up)").is_ok_and(|sum| sum.len() == 1 && sum[0]["value"][1] == "4"))
    })?;
    resources(&prometheus)?;
    answers(&prometheus)?;
    ensure!(
        demo.wait(LIMIT).is_some_and(|status| status.success()),
        "the demo does not end well:\n{}",
        fs::read_to_string(folder.path().join("demo.log"))?
    );
    names(&prometheus)
}

fn queries() -> Result<Vec<Query>> {
    Ok([panel_queries().map_err(anyhow::Error::msg)?, rule_queries()].concat())
}

/// Every metric that is named is scraped, with every label that is named.
fn names(prometheus: &Prometheus) -> Result<()> {
    let mut strange = BTreeSet::new();
    for query in queries()? {
        let names = promql::names(&query.plain(WINDOW));
        let mut labels = BTreeSet::new();
        for selector in names.selectors {
            // Recorded names are asked for below.
            if selector.metric.contains(':') {
                labels.extend(["interface", "kind"].map(str::to_owned));
                continue;
            }
            if rare(&selector.metric) {
                labels.extend(documented(&selector.metric)?);
                continue;
            }
            let own = prometheus.labels(&selector.metric)?;
            if own.is_empty() {
                strange.insert(format!("{}: {} is not scraped", query.place, selector.metric));
            }
            for [label, ..] in selector.matchers.iter().filter(|[label, ..]| !own.contains(label)) {
                strange.insert(format!("{}: {} has no {label}", query.place, selector.metric));
            }
            labels.extend(own);
        }
        let recorded = query.expression.contains("weir:");
        for label in names.groupings.iter().flat_map(|(_, labels)| labels) {
            if !recorded && !labels.contains(label) {
                strange.insert(format!("{}: nothing has {label}", query.place));
            }
        }
    }
    ensure!(strange.is_empty(), "{}", strange.into_iter().collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// The labels that the reference gives a metric, and those of its target.
fn documented(metric: &str) -> Result<BTreeSet<String>> {
    let file = if metric.starts_with("weir_") { "docs/metrics.md" } else { "docs/vyos-sync-metrics.md" };
    let reference = fs::read_to_string(weir_repo::root().join(file))?;
    let section = reference.split_once(&format!("### `{metric}`"));
    let section = section.with_context(|| format!("{metric} is not in {file}"))?.1;
    let sentence = section.trim_start().split(". ").next().unwrap_or_default();
    let labels = sentence.split('`').skip(1).step_by(2).map(str::to_owned);
    Ok(labels.chain(["cluster", "node"].map(str::to_owned)).collect())
}

/// Every panel's query and every recording rule has an answer, but for those that end in `> 0`: there, none is good.
fn answers(prometheus: &Prometheus) -> Result<()> {
    let alert = |query: &Query| query.place.starts_with("dashboards/alerts.yaml");
    let rare = |query: &Query| {
        query.expression.ends_with("> 0")
            || query.expression.contains("state!=\"ok\"")
            || RARE.iter().any(|(name, _)| query.expression.contains(name))
    };
    // What nobody lost has no ratio either.
    let lossless = |query: &Query| query.place.ends_with("weir:loss:ratio5m");
    let mut open: Vec<Query> =
        queries()?.into_iter().filter(|query| !alert(query) && !rare(query) && !lossless(query)).collect();
    ensure!(open.len() > 80, "only {} queries", open.len());
    let silent = until("every query has an answer", LIMIT, || {
        let mut left = Vec::new();
        for query in open.drain(..) {
            if prometheus.ask(&query.plain(WINDOW))?.is_empty() {
                left.push(query);
            }
        }
        open = left;
        Ok(open.is_empty())
    });
    let places: Vec<String> = open.iter().map(|it| format!("{}: {}", it.place, it.plain(WINDOW))).collect();
    silent.map(drop).with_context(|| format!("no answer to:\n{}", places.join("\n")))?;
    // And the others are at least understood.
    for query in queries()? {
        prometheus.ask(&query.plain(WINDOW)).with_context(|| query.place)?;
    }
    Ok(())
}

/// What the chart asks for a node's agent covers what an agent of the demo holds, and its limit twice that.
fn resources(prometheus: &Prometheus) -> Result<()> {
    let held = "max(weir_agent_resident_memory_bytes + on (node) sum by (node) (weir_map_memory_bytes) \
                + on (node) sum by (node) (weir_program_memory_bytes))";
    let answer = prometheus.ask(held)?;
    let held: f64 = answer[0]["value"][1].as_str().context("a number")?.parse()?;
    let values = fs::read_to_string(weir_repo::root().join("deploy/chart/values.yaml"))?;
    let values = weir_repo::yaml(&values).map_err(anyhow::Error::msg)?.remove(0);
    let bytes = |which: &str| -> Result<f64> {
        let text = values["agent"]["resources"][which]["memory"].as_str().context("memory")?;
        let mebibytes: f64 = text.strip_suffix("Mi").context("in Mi")?.parse()?;
        Ok(mebibytes * 1024.0 * 1024.0)
    };
    println!("an agent of the demo holds {:.1} MB with its maps and programs", held / 1e6);
    ensure!(
        held > 10e6 && held < bytes("requests")?,
        "the request of {} does not cover {held}",
        bytes("requests")?
    );
    ensure!(held * 2.0 < bytes("limits")?, "the limit of {} is less than twice {held}", bytes("limits")?);
    Ok(())
}

/// A Prometheus on loopback that scrapes the demo each second and evaluates the rules.
struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    fn start(folder: &Path, targets: &Path) -> Result<Self> {
        let rules = ["rules", "alerts"].map(|name| weir_repo::root().join(format!("dashboards/{name}.yaml")));
        let [rules, alerts] = rules.map(|path| path.canonicalize().map(PathBuf::into_os_string));
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 2s}}\nrule_files: [{:?}, {:?}]\n\
             scrape_configs:\n- job_name: demo\n  file_sd_configs: [{{files: [{targets:?}], refresh_interval: 1s}}]\n",
            rules?, alerts?
        );
        fs::write(folder.join("prometheus.yml"), config)?;
        let address = free()?;
        let log = fs::File::create(folder.join("prometheus.log"))?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        let prometheus = Self { address, _process: process };
        until("prometheus is ready", Duration::from_secs(60), || Ok(prometheus.read("/-/ready").is_ok()))
            .with_context(|| fs::read_to_string(folder.join("prometheus.log")).unwrap_or_default())?;
        Ok(prometheus)
    }

    /// The answer to a query, now.
    fn ask(&self, query: &str) -> Result<Vec<Value>> {
        let answer = self.json(&format!("/api/v1/query?query={}", escape(query)))?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// The labels that series of a metric have.
    fn labels(&self, metric: &str) -> Result<BTreeSet<String>> {
        let answer = self.json(&format!("/api/v1/labels?match[]={}", escape(metric)))?;
        let labels = answer["data"].as_array().cloned().unwrap_or_default();
        Ok(labels.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    fn json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.read(path)?)?)
    }

    fn read(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        // A query that is wrong comes back as 400 with the reason in its body.
        ensure!(head.contains(" 200 ") || body.starts_with('{'), "{path}: {head}");
        Ok(body.to_owned())
    }
}

/// An address on loopback that nobody listens on.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A query as part of a URL.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}
