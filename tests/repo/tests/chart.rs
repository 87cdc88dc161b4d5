//! The chart: helm accepts it, bad values are refused by name, the plain YAML is what it renders, and what it passes to our
//! programs is what they take. `WRITE_DEPLOY=1 cargo test -p weir-repo --test chart` renews what is made from sources.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use clap::Parser;
use serde_json::{Value, json};
use weir_repo::dashboards::text;
use weir_repo::{need, objects, root, tool, yaml};

const CHART: &str = "deploy/chart";
/// The plain files, and the templates that each is made of.
const PLAIN: [(&str, &str); 6] = [
    ("10-namespace.yaml", "namespace.yaml"),
    ("20-crds.yaml", "crds.yaml"),
    ("25-admission.yaml", "admission.yaml"),
    ("30-agent.yaml", "agent/"),
    ("40-vyos-sync.yaml", "vyos-sync/"),
    ("50-monitoring.yaml", "monitoring/"),
];

fn renewing() -> bool {
    std::env::var_os("WRITE_DEPLOY").is_some()
}

/// The file holds this text; where it does not, it is written or the test fails.
fn holds(path: &str, wanted: &str) {
    let file = root().join(path);
    if fs::read_to_string(&file).is_ok_and(|text| text == wanted) {
        return;
    }
    assert!(renewing(), "{path} is not current: WRITE_DEPLOY=1 cargo test -p weir-repo --test chart");
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    fs::write(file, wanted).expect(path);
}

fn render(helm: &PathBuf, arguments: &[&str]) -> Result<String, String> {
    let own = ["template", "weir", CHART, "--namespace", "weir-system"];
    tool::run(helm, own.iter().chain(arguments))
}

#[test]
fn what_the_chart_copies_is_current() {
    copies();
}

/// Tests that render must not see a half-renewed chart.
static COPIES: Mutex<()> = Mutex::new(());

/// The chart's copies are those of their sources.
fn copies() {
    let _one = COPIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for name in ["rules.yaml", "alerts.yaml"] {
        let text = fs::read_to_string(root().join("dashboards").join(name)).expect(name);
        holds(&format!("{CHART}/files/{name}"), &text);
    }
    for (path, dashboard) in weir_repo::dashboards::dashboards().expect("JSON") {
        let name = path.trim_start_matches("dashboards/");
        let text = serde_json::to_string_pretty(&dashboard).expect("JSON") + "\n";
        assert_eq!(
            fs::read_to_string(root().join(&path)).expect("a dashboard"),
            text,
            "{path}: two blanks, please"
        );
        holds(&format!("{CHART}/files/dashboards/{name}"), &text);
    }
    holds(&format!("{CHART}/files/crds.yaml"), &definitions());
    holds(&format!("{CHART}/files/admission.yaml"), &vyos_sync::crd::admission("ACCOUNT", "AGENT"));
    // The chart and its programs are one release.
    let chart =
        yaml(&fs::read_to_string(root().join(CHART).join("Chart.yaml")).expect("Chart.yaml")).expect("YAML");
    for version in ["version", "appVersion"] {
        assert_eq!(chart[0][version], env!("CARGO_PKG_VERSION"), "{version}");
    }
}

/// The kinds of both programs.
fn definitions() -> String {
    let policy = serde_saphyr::to_string(&weir_agent::model::policy::definition()).expect("YAML");
    format!("{}---\n{policy}", vyos_sync::crd::yaml().expect("definitions"))
}

#[test]
fn helm_lints_it() {
    let helm = need!("helm", "helm_lints_it");
    for values in [
        vec![],
        vec!["--values", "deploy/plain-values.yaml"],
        vec!["--values", "deploy/openbao/injector-values.yaml"],
    ] {
        tool::run(&helm, ["lint", "--strict", CHART].into_iter().chain(values)).expect("helm lint");
    }
}

#[test]
fn the_plain_files_are_what_it_renders() {
    copies();
    let helm = need!("helm", "the_plain_files_are_what_it_renders");
    let text = render(&helm, &["--values", "deploy/plain-values.yaml"]).expect("helm template");
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for document in format!("\n{text}").split("\n---\n") {
        let Some((_, rest)) = document.split_once("# Source: weir/templates/") else { continue };
        let (template, body) = rest.split_once('\n').expect("a body");
        let (file, _) = PLAIN.iter().find(|(_, from)| template.starts_with(from)).expect(template);
        let file = files
            .entry(file)
            .or_insert_with(|| "# Rendered from deploy/chart with deploy/plain-values.yaml.\n".into());
        if !body.trim().is_empty() {
            file.push_str(&format!("---\n{}\n", body.trim_end()));
        }
    }
    assert_eq!(files.len(), PLAIN.len(), "{:?}", files.keys());
    for (name, text) in files {
        holds(&format!("deploy/plain/{name}"), &text);
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    let helm = need!("helm", "bad_values_are_refused_by_name");
    for (set, named) in [
        ("agent.listen=9780", "/agent/listen"),
        ("agent.listen=fd00::1:9780", "/agent/listen"),
        ("agent.config.interfces=x", "interfces"),
        ("agent.config.flows=7", "/agent/config/flows"),
        ("agent.maxUnavailable=0", "/agent/maxUnavailable"),
        ("agent.extraArgs={-x}", "/agent/extraArgs/0"),
        ("agent.resources.limits.memory=lots", "/agent/resources/limits/memory"),
        ("agent.image.digest=latest", "/agent/image/digest"),
        ("agnt.enabled=true", "agnt"),
        ("agent.kube=on", "/agent/kube"),
        ("vyosSync.period=0", "/vyosSync/period"),
        ("vyosSync.kube.replicas=0", "/vyosSync/kube/replicas"),
        ("vyosSync.kube.secrets[0].namespace=weir-system", "/vyosSync/kube/secrets/0"),
        ("vyosSync.kube.clusterSecrets={Bad_Name}", "/vyosSync/kube/clusterSecrets/0"),
        ("vyosSync.networkPolicy.routers={10.0.0.1}", "/vyosSync/networkPolicy/routers/0"),
        ("vyosSync.secrets={Bad_Name}", "/vyosSync/secrets/0"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("tls.clients=some", "/tls/clients"),
        ("agent.grpc.listen=9471", "/agent/grpc/listen"),
        ("agent.grpc.oidc.issuer=http://id.example.org", "/agent/grpc/oidc/issuer"),
        ("agent.grpc.oidc.issuer=https://id.example.org", "/agent/grpc/oidc/audience"),
        ("vyosSync.openbao.address=http://openbao:8200", "/vyosSync/openbao/address"),
    ] {
        let said = render(&helm, &["--set", set]).expect_err(set);
        assert!(said.contains(named), "{set}: {said}");
    }
}

#[test]
fn parts_can_be_left_out() {
    let helm = need!("helm", "parts_can_be_left_out");
    let kinds = |arguments: &[&str]| -> Vec<String> {
        let documents = yaml(&render(&helm, arguments).expect("helm template")).expect("YAML");
        documents.iter().map(|document| text(&document["kind"])).collect()
    };
    let all = kinds(&[]);
    assert!(all.contains(&"DaemonSet".into()) && !all.contains(&"Deployment".into()), "{all:?}");
    assert!(!all.iter().any(|kind| kind == "PodMonitor" || kind == "Namespace"), "{all:?}");
    assert!(kinds(&["--set", "agent.enabled=false,crds.install=false,admission.install=false"]).is_empty());
}

/// The containers of the chart's pods, with the pod's specification.
fn pods() -> Vec<(String, Value)> {
    pods_of(objects("deploy/plain/").expect("YAML").into_iter().map(|(_, object)| object))
}

fn pods_of(objects: impl Iterator<Item = Value>) -> Vec<(String, Value)> {
    let workload =
        |object: &Value| ["DaemonSet", "Deployment"].contains(&object["kind"].as_str().unwrap_or_default());
    let pod = |object: Value| (text(&object["metadata"]["name"]), object["spec"]["template"]["spec"].clone());
    objects.filter(workload).map(pod).collect()
}

#[test]
fn every_argument_is_one_that_our_programs_take() {
    let mut programs: Vec<String> = pods().iter().map(|(name, pod)| program_takes(name, pod)).collect();
    programs.sort();
    assert_eq!(programs, ["/vyos-sync", "/weir-agent"]);
}

/// Its program, which takes all its arguments, and finds mounted what they name.
fn program_takes(name: &str, pod: &Value) -> String {
    let container = &pod["containers"][0];
    let list = |key: &str| container[key].as_array().cloned().unwrap_or_default();
    let line: Vec<String> = [list("command"), list("args")].concat().iter().map(text).collect();
    let error = match line[0].as_str() {
        "/weir-agent" => weir_agent::args::Args::try_parse_from(&line).err(),
        "/vyos-sync" => vyos_sync::args::Cli::try_parse_from(&line).err(),
        other => panic!("{name} runs {other}"),
    };
    assert!(error.is_none(), "{name}: {}", error.expect("it is there"));
    // Values that are numbers or addresses were parsed; these say where things are.
    for folder in line.iter().filter_map(|word| word.split_once("=/")).map(|(_, rest)| format!("/{rest}")) {
        let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        let mounted = mounts.iter().any(|mount| folder.starts_with(&text(&mount["mountPath"])));
        assert!(mounted, "{name}: nothing is mounted at {folder}");
    }
    line[0].clone()
}

/// Values with everything of certificates, tokens and OpenBAO.
const GUARDED: &str = r#"
tls: {enabled: true, clients: certified}
monitoring: {podMonitors: true}
crds: {install: false}
agent: {grpc: {listen: "0.0.0.0:9471", oidc: {issuer: https://id.example.org, audience: "7", readRole: weir-read}}}
vyosSync:
  enabled: true
  secrets: [openbao-ca]
  openbao: {address: "https://openbao.openbao.svc:8200", caSecret: openbao-ca}
"#;

#[test]
fn certificates_tokens_and_openbao_are_there_when_asked_for_and_only_then() {
    let helm = need!("helm", "certificates_tokens_and_openbao_are_there_when_asked_for_and_only_then");
    let set = "vyosSync.enabled=true,monitoring.podMonitors=true,crds.install=false";
    let plain = render(&helm, &["--set", set]).expect("helm template");
    for word in ["--tls", "--oidc", "--grpc", "--openbao", "cert-manager.io", "scheme: "] {
        assert!(!plain.contains(word), "{word} is there unasked");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("values.yaml");
    fs::write(&file, GUARDED).expect("values");
    let objects =
        yaml(&render(&helm, &["--values", file.to_str().expect("a path")]).expect("helm")).expect("YAML");
    let named = |kind: &str| -> BTreeMap<String, Value> {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.map(|object| (text(&object["metadata"]["name"]), object["spec"].clone())).collect()
    };
    let certificates = named("Certificate");
    assert_eq!(certificates.keys().collect::<Vec<_>>(), ["vyos-sync", "weir-agent", "weir-monitoring"]);
    for (name, pod) in pods_of(objects.clone().into_iter()) {
        program_takes(&name, &pod);
        let secret = text(&certificates[&name]["secretName"]);
        let volumes = pod["volumes"].as_array().expect("volumes");
        assert!(volumes.iter().any(|volume| text(&volume["secret"]["secretName"]) == secret), "{name}");
        let container = &pod["containers"][0];
        for mount in container["volumeMounts"].as_array().expect("mounts") {
            assert!(mount["subPath"].is_null(), "{name}: what is mounted by subPath is never swapped");
        }
        for probe in ["readinessProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS", "{name}: {probe}");
        }
        let monitor = &named("PodMonitor")[&name]["podMetricsEndpoints"][0];
        assert_eq!(monitor["scheme"], "https");
        let names = certificates[&name]["dnsNames"].as_array().expect("names");
        assert!(names.contains(&monitor["tlsConfig"]["serverName"]), "{name}: {monitor}");
        assert_eq!(monitor["tlsConfig"]["ca"]["secret"]["name"], secret);
        assert_eq!(monitor["tlsConfig"]["keySecret"]["name"], certificates["weir-monitoring"]["secretName"]);
    }
    let egress = &named("NetworkPolicy")["vyos-sync"]["egress"];
    assert!(egress.to_string().contains("8200"), "{egress}");
}

#[test]
fn the_agents_configuration_is_one_that_it_takes() {
    let helm = need!("helm", "the_agents_configuration_is_one_that_it_takes");
    let values = r#"{interfaces: [eth0], vips: [10.10.50.10, "fd10:10:50::10"], flows: 65536}"#;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("values.yaml");
    fs::write(&file, format!("agent: {{config: {values}}}\n")).expect("values");
    let text = render(&helm, &["--values", file.to_str().expect("a path")]).expect("helm template");
    let map =
        yaml(&text).expect("YAML").into_iter().find(|it| it["kind"] == "ConfigMap").expect("a ConfigMap");
    let config = folder.path().join("weir.yaml");
    fs::write(&config, weir_repo::dashboards::text(&map["data"]["weir.yaml"])).expect("configuration");
    let line = ["weir-agent", "run", "--config", config.to_str().expect("a path")];
    let weir_agent::args::Command::Run(run) = weir_agent::args::Args::parse_from(line).command else {
        panic!("it is not run")
    };
    let config = weir_agent::args::Config::new(&run).expect("the agent takes it");
    assert_eq!((config.interfaces, config.vips.len(), config.flows), (vec!["eth0".to_owned()], 2, 65536));
}

#[test]
fn pods_have_the_least_rights() {
    for (name, pod) in pods() {
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{name}");
        assert!(security["privileged"].is_null(), "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for which in ["requests", "limits"] {
            assert!(container["resources"][which]["memory"].is_string(), "{name}: {which} of memory");
        }
        assert!(container["resources"]["limits"]["cpu"].is_null(), "{name}: a limit of CPU would stall it");
        for probe in ["readinessProbe", "livenessProbe"] {
            assert!(container[probe].is_object(), "{name}: {probe}");
        }
        assert!(pod["hostPID"].is_null() && pod["hostIPC"].is_null(), "{name}");
        match name.as_str() {
            "weir-agent" => {
                let starting =
                    weir_agent::capability::STARTING.iter().map(|it| it.to_string().replace("CAP_", ""));
                // Priority is for BFD alone, which is off unless it is configured.
                let mut needed: Vec<String> = starting.filter(|name| name != "SYS_NICE").collect();
                needed.sort();
                let mut added: Vec<String> =
                    security["capabilities"]["add"].as_array().expect("a list").iter().map(text).collect();
                added.sort();
                assert_eq!(added, needed, "it is given what it starts with");
                assert_eq!(pod["hostNetwork"], true);
            }
            _ => {
                assert!(security["capabilities"]["add"].is_null(), "{name}");
                assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
                assert!(pod["hostNetwork"].is_null(), "{name}");
                let volumes = pod["volumes"].as_array().cloned().unwrap_or_default();
                assert!(volumes.iter().all(|volume| volume["hostPath"].is_null()), "{name}");
            }
        }
    }
}

/// Who has no cluster has no right in it, and no token.
#[test]
fn without_a_cluster_there_are_no_rights() {
    let helm = need!("helm", "without_a_cluster_there_are_no_rights");
    let set = "agent.kube=off,vyosSync.enabled=true,vyosSync.kube.enabled=false";
    let documents = yaml(&render(&helm, &["--set", set]).expect("helm template")).expect("YAML");
    for document in &documents {
        let kind = text(&document["kind"]);
        assert!(!kind.contains("Role"), "{kind} {}", document["metadata"]["name"]);
        let pod = &document["spec"]["template"]["spec"];
        assert!(pod.is_null() || pod["automountServiceAccountToken"] == false, "{kind}");
    }
    let deployment = documents.iter().find(|it| it["kind"] == "Deployment").expect("a Deployment");
    assert_eq!(deployment["spec"]["replicas"], 1, "without a Lease there is one writer");
    assert!(documents.iter().any(|it| it["kind"] == "PersistentVolumeClaim"));
}

/// Secrets are read by name, or in the namespaces that were given, and nowhere else.
#[test]
fn secrets_are_read_where_it_was_said() {
    let helm = need!("helm", "secrets_are_read_where_it_was_said");
    let set = "vyosSync.enabled=true,vyosSync.kube.secrets[0].namespace=edge,vyosSync.kube.secrets[0].names={gw-key},\
               vyosSync.kube.clusterSecrets={clusters}";
    let documents = yaml(&render(&helm, &["--set", set]).expect("helm template")).expect("YAML");
    let mut seen = Vec::new();
    for role in documents.iter().filter(|it| ["Role", "ClusterRole"].contains(&text(&it["kind"]).as_str())) {
        for rule in role["rules"].as_array().expect("rules") {
            if rule["resources"].as_array().expect("resources").contains(&json!("secrets")) {
                let place = role["metadata"]["namespace"].clone();
                seen.push((text(&role["kind"]), place, rule["resourceNames"].clone(), rule["verbs"].clone()));
            }
        }
    }
    let read = json!(["get", "list", "watch"]);
    let role = || "Role".to_owned();
    assert_eq!(
        seen,
        [
            (role(), json!("weir-system"), Value::Null, json!(["get", "create", "update"])),
            (role(), json!("edge"), json!(["gw-key"]), read.clone()),
            (role(), json!("clusters"), Value::Null, read),
        ]
    );
}

#[test]
fn nobody_is_given_a_wildcard() {
    for (path, object) in objects("deploy/").expect("YAML") {
        for rule in object["rules"].as_array().into_iter().flatten() {
            let wide = |key: &str| rule[key].as_array().is_some_and(|list| list.contains(&json!("*")));
            assert!(!wide("verbs") && !wide("resources") && !wide("apiGroups"), "{path}: {rule}");
        }
    }
}

#[test]
fn an_update_keeps_the_datapath() {
    let daemonset = objects("deploy/plain/")
        .expect("YAML")
        .into_iter()
        .find(|(_, it)| it["kind"] == "DaemonSet")
        .expect("a DaemonSet")
        .1;
    let strategy = &daemonset["spec"]["updateStrategy"];
    assert_eq!(strategy["type"], "RollingUpdate");
    // Two agents at once would fight for the host's port.
    assert!(strategy["rollingUpdate"]["maxSurge"].is_null(), "{strategy}");
    let pod = &daemonset["spec"]["template"]["spec"];
    assert!(pod["containers"][0]["lifecycle"].is_null(), "nothing detaches when a pod ends");
    let pins =
        pod["volumes"].as_array().expect("volumes").iter().find(|it| it["name"] == "bpf").expect("bpf");
    assert_eq!(pins["hostPath"], json!({"path": "/sys/fs/bpf", "type": "Directory"}), "pins outlive the pod");
}

#[test]
fn waves_come_in_order() {
    for (path, object) in objects("deploy/plain/").expect("YAML") {
        let wave = text(&object["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]);
        let wanted = match object["kind"].as_str().unwrap_or_default() {
            "Namespace" | "CustomResourceDefinition" => "-4",
            "PodMonitor" | "PrometheusRule" => "",
            "ConfigMap" if path.contains("monitoring") => "",
            // Argo CD waits for a wave's pods: what they need must not come after them.
            _ => "-3",
        };
        assert_eq!(wave, wanted, "{path}: {} {}", object["kind"], object["metadata"]["name"]);
    }
}
