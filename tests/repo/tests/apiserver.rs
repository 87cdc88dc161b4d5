//! Everything of `deploy/` against a real API server: server-side validation by `kubectl`, applied again without a difference.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use weir_apiserver::{ApiServer, User, apply, documents, install};
use weir_repo::{root, tool};

/// The systems whose kinds our manifests use.
const SYSTEMS: [&str; 5] = ["argo-cd", "cert-manager", "crossplane", "prometheus-operator", "cilium"];

/// A server with our definitions and those of the systems around us, and a kubectl for it.
struct Cluster {
    api: ApiServer,
    kubectl: PathBuf,
    config: PathBuf,
}

impl Cluster {
    /// `None`, with a word on stderr, where something for it is missing.
    async fn start(test: &str) -> Option<Self> {
        let shared = root().join("../shared/crds");
        let missing = match (tool::found("kubectl"), shared.is_dir()) {
            (None, _) => "kubectl is not installed (scripts/setup.sh test)",
            (_, false) => "../shared/crds is not here",
            (Some(kubectl), true) => {
                let api = ApiServer::start(test).await?;
                let config = api.kubeconfig_file(&User::admin()).expect("a kubeconfig");
                let cluster = Self { api, kubectl, config };
                cluster.prepare(&shared).await;
                return Some(cluster);
            }
        };
        eprintln!("SKIPPED {test}: {missing}");
        None
    }

    async fn prepare(&self, shared: &std::path::Path) {
        let client = self.api.client().expect("a client");
        let mut definitions = vyos_sync::crd::all();
        for system in SYSTEMS {
            let read = documents(&shared.join(system)).expect(system);
            definitions.extend(read.into_iter().map(|it| serde_json::from_value(it).expect("a definition")));
        }
        install(&client, &definitions).await.expect("definitions");
        for namespace in ["weir-system", "argocd", "clusters", "platform"] {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            apply(&client, &object).await.expect(namespace);
        }
    }

    /// Run kubectl, with a text on its standard input.
    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.config).args(arguments).current_dir(root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut stdin = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, input.as_bytes()).map_err(|error| error.to_string())?;
        drop(stdin);
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!("kubectl {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr))),
        }
    }
}

/// The folders whose YAML is objects for a cluster.
const FOLDERS: [&str; 5] =
    ["deploy/plain", "deploy/argocd/apps", "deploy/cert-manager", "deploy/crossplane", "deploy/vyos"];

/// Files of those folders, and files of their own.
fn files() -> Vec<String> {
    let mut files = vec![
        "deploy/argocd/root.yaml".to_owned(),
        "deploy/argocd/applicationsets.yaml".to_owned(),
        "deploy/argocd/argocd-cm.yaml".to_owned(),
    ];
    for folder in FOLDERS {
        for entry in std::fs::read_dir(root().join(folder)).expect(folder).flatten() {
            files.push(format!("{folder}/{}", entry.file_name().to_string_lossy()));
        }
    }
    // The examples are of a kind that Crossplane itself defines; they are tested as that below.
    files.retain(|file| file.ends_with(".yaml") && !file.ends_with("crossplane/example.yaml"));
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_all_of_it_again_without_a_difference() {
    let test = "kubectl_applies_all_of_it_again_without_a_difference";
    let Some(cluster) = Cluster::start(test).await else { return };
    let how = ["apply", "--server-side", "--field-manager=argocd-controller", "--validate=strict", "-f"];
    // The first time makes it, the second may still fill in what the server's defaults moved.
    for _ in 0..2 {
        for file in files() {
            cluster
                .kubectl(&[&how[..], &[&file]].concat(), "")
                .unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }
    // From then on it changes nothing: no endless difference.
    let versions = |cluster: &Cluster, file: &str| -> Vec<(String, String)> {
        let text = cluster.kubectl(&["get", "-o", "json", "-f", file], "").expect(file);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let items = value["items"].as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let of = |item: &Value| {
            let metadata = &item["metadata"];
            (format!("{} {}", item["kind"], metadata["name"]), metadata["resourceVersion"].to_string())
        };
        // The server itself writes the status of definitions; Crossplane's are stored in a version with other defaults.
        let moves = ["CustomResourceDefinition", "CompositeResourceDefinition"];
        items
            .iter()
            .filter(|item| !moves.contains(&item["kind"].as_str().unwrap_or_default()))
            .map(of)
            .collect()
    };
    for file in files() {
        let before = versions(&cluster, &file);
        cluster.kubectl(&[&how[..], &[&file]].concat(), "").unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(versions(&cluster, &file), before, "{file}: it changes again and again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chart_renders_is_taken() {
    let test = "what_the_chart_renders_is_taken";
    let Some(helm) = tool::found("helm") else {
        return eprintln!("SKIPPED {test}: helm is not installed (scripts/setup.sh test)");
    };
    let Some(cluster) = Cluster::start(test).await else { return };
    // Other values than the plain files'.
    let values = [
        "--values",
        "deploy/openbao/injector-values.yaml",
        "--set",
        "agent.programStats=true,crds.install=false",
    ];
    let render = ["template", "weir", "deploy/chart", "--namespace", "weir-system"];
    let text = tool::run(&helm, render.iter().chain(&values)).expect("helm template");
    let how = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
    let said = cluster.kubectl(&how, &text).expect("taken");
    assert!(
        said.contains("daemonset.apps/weir-agent") && said.contains("deployment.apps/vyos-sync"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typing_error_is_refused() {
    let test = "a_typing_error_is_refused";
    let Some(cluster) = Cluster::start(test).await else { return };
    let text = std::fs::read_to_string(root().join("deploy/plain/30-agent.yaml")).expect("30-agent.yaml");
    let how = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
    let broken = text.replace("hostNetwork: true", "hostNetwrk: true");
    let said = cluster.kubectl(&how, &broken).expect_err("refused");
    assert!(said.contains("hostNetwrk"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crossplane_definition_becomes_a_kind_that_takes_the_examples() {
    let test = "the_crossplane_definition_becomes_a_kind_that_takes_the_examples";
    let Some(cluster) = Cluster::start(test).await else { return };
    let client = cluster.api.client().expect("a client");
    let folder = root().join("deploy/crossplane");
    // What Crossplane makes of the definition: a namespaced kind with its schema and the fields of its own machinery.
    let definition = documents(&folder.join("definition.yaml")).expect("definition").remove(0);
    let spec = &definition["spec"];
    let mut schema = spec["versions"][0]["schema"].clone();
    let fields = &mut schema["openAPIV3Schema"]["properties"]["spec"]["properties"];
    fields["crossplane"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let made = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": definition["metadata"]["name"]},
        "spec": {"group": spec["group"], "names": spec["names"], "scope": spec["scope"], "versions": [{
            "name": "v1alpha1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}}]}});
    install(&client, &[serde_json::from_value(made).expect("a definition")]).await.expect("installed");
    for example in documents(&folder.join("example.yaml")).expect("examples") {
        apply(&client, &example).await.expect("the example is taken");
        let mut bad = example;
        bad["metadata"]["name"] = json!("bad");
        bad["spec"]["network"]["vlan"] = json!(4095);
        let said = format!("{:#}", apply(&client, &bad).await.expect_err("refused"));
        assert!(said.contains("spec.network.vlan"), "{said}");
    }
    // And what the composition makes of them is taken as well.
    for object in documents(&folder.join("composed.yaml")).expect("composed") {
        apply(&client, &object).await.expect("a composed object is taken");
    }
}
