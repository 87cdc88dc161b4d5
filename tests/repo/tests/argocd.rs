//! Argo CD: health scripts run by a real Lua interpreter on objects in every state, and the layout's own consistency.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use weir_repo::dashboards::text;
use weir_repo::{need, objects, root, tool, yaml};

/// Which script judges a kind.
fn script(kind: &str) -> &'static str {
    match kind {
        "RouterChange" => "routerchange",
        "Application" => "application",
        _ => "conditions",
    }
}

fn source(name: &str) -> String {
    let path = format!("deploy/argocd/health/{name}.lua");
    fs::read_to_string(root().join(&path)).expect(&path)
}

/// A value as Lua writes it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("[{key:?}] = {}", lua(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

#[test]
fn health_is_right_in_every_state() {
    let interpreter = need!("lua5.1", "health_is_right_in_every_state");
    let states = fs::read_to_string(root().join("deploy/argocd/tests/states.yaml")).expect("states.yaml");
    let states = yaml(&states).expect("YAML").remove(0);
    let folder = tempfile::tempdir().expect("a folder");
    let (mut seen, mut scripts) = (BTreeSet::new(), BTreeSet::new());
    for state in states.as_array().expect("a list") {
        let (name, want) = (text(&state["name"]), text(&state["want"]));
        let script = script(state["object"]["kind"].as_str().expect("a kind"));
        // Argo CD opens the base and the table library only.
        let program = format!(
            "string, io, os, math, debug, package, require = nil\nobj = {}\nlocal function health()\n{}\nend\n\
             local result = health()\nprint(result.status)\nprint(result.message or '')\n",
            lua(&state["object"]),
            source(script)
        );
        let file = folder.path().join("health.lua");
        fs::write(&file, program).expect("write");
        let said = tool::run(&interpreter, [&file]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (status, message) = said.trim_end().split_once('\n').unwrap_or((said.trim_end(), ""));
        assert_eq!(status, want, "{name}: {message}");
        if let Some(wanted) = state["message"].as_str() {
            assert_eq!(message, wanted, "{name}");
        }
        seen.insert(want);
        scripts.insert(script);
    }
    let all = ["Degraded", "Healthy", "Progressing", "Suspended"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(all), "every verdict is reached");
    assert_eq!(scripts.len(), 3, "every script is run");
}

/// The configuration for `argocd-cm`, made from the scripts.
fn configuration() -> String {
    let mut text = String::from(
        "# Health of our kinds for Argo CD, made from health/*.lua (WRITE_DEPLOY=1 cargo test -p weir-repo --test argocd).\n\
         # Merge it: kubectl apply --server-side --field-manager weir -f argocd-cm.yaml\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n  labels:\n    \
         app.kubernetes.io/name: argocd-cm\n    app.kubernetes.io/part-of: argocd\ndata:\n",
    );
    let definitions = vyos_sync::crd::all();
    let ours = definitions.iter().map(|it| (it.spec.group.clone(), it.spec.names.kind.clone()));
    for (group, kind) in ours.chain([("argoproj.io".to_owned(), "Application".to_owned())]) {
        text.push_str(&format!("  resource.customizations.health.{group}_{kind}: |\n"));
        for line in source(script(&kind)).lines() {
            text.push_str(if line.is_empty() { "" } else { "    " });
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_configuration_holds_the_scripts() {
    let path = root().join("deploy/argocd/argocd-cm.yaml");
    let wanted = configuration();
    if std::env::var_os("WRITE_DEPLOY").is_some() {
        fs::write(&path, &wanted).expect("write");
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == wanted,
        "argocd-cm.yaml is not current: WRITE_DEPLOY=1 cargo test -p weir-repo --test argocd"
    );
    let map = yaml(&held).expect("YAML").remove(0);
    let scripts = map["data"].as_object().expect("data");
    assert_eq!(
        scripts["resource.customizations.health.weir.dev_Router"].as_str(),
        Some(source("conditions").as_str())
    );
}

#[test]
fn applications_lead_to_what_is_here() {
    let applications: Vec<Value> = objects("deploy/argocd/")
        .expect("YAML")
        .into_iter()
        .map(|(_, object)| object)
        .filter(|object| object["kind"] == "Application")
        .collect();
    assert!(applications.len() >= 4, "{applications:?}");
    let mut waves = Vec::new();
    for application in applications {
        let name = text(&application["metadata"]["name"]);
        let from = &application["spec"]["source"];
        let path = text(&from["path"]);
        // `network` is the reader's own repository.
        if path != "network" {
            assert!(root().join(&path).is_dir(), "{name}: there is no {path}");
            let files = text(&from["directory"]["include"]);
            for file in files.trim_matches(['{', '}']).split(',').filter(|file| !file.is_empty()) {
                assert!(root().join(&path).join(file).is_file(), "{name}: there is no {path}/{file}");
            }
        }
        let options =
            application["spec"]["syncPolicy"]["syncOptions"].as_array().cloned().unwrap_or_default();
        assert!(options.iter().any(|it| it == "ServerSideApply=true"), "{name}: {options:?}");
        let wave = text(&application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]);
        if let Ok(wave) = wave.parse::<i32>() {
            waves.push((wave, name));
        }
    }
    waves.sort();
    let order: Vec<&str> = waves.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(order, ["weir-definitions", "weir-workloads", "weir-intent"]);
}

#[test]
fn every_plain_file_has_an_application() {
    let included: String = objects("deploy/argocd/apps/")
        .expect("YAML")
        .iter()
        .map(|(_, object)| text(&object["spec"]["source"]["directory"]["include"]))
        .collect();
    for entry in fs::read_dir(root().join("deploy/plain")).expect("deploy/plain").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        assert!(included.contains(&name), "no application takes deploy/plain/{name}");
    }
}
