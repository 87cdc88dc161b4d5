//! Putting objects in, as `kubectl apply --server-side` does.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::runtime::{conditions, wait::await_condition};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

/// From established to served, on a machine that is busy with other tests.
const SERVED: Duration = Duration::from_secs(60);

/// Installs definitions and waits until each is established and served.
///
/// # Errors
/// The server's word on the first one that it refuses.
pub async fn install(client: &Client, definitions: &[CustomResourceDefinition]) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions {
        let name = definition.name_any();
        let how = PatchParams::apply("tests").force();
        api.patch(&name, &how, &Patch::Apply(definition))
            .await
            .with_context(|| format!("definition {name}"))?;
    }
    for definition in definitions {
        await_condition(api.clone(), &definition.name_any(), conditions::is_crd_established()).await?;
        served(client, definition).await?;
    }
    Ok(())
}

/// Waits until the server has the kind in its lists: that comes a moment after it is established.
async fn served(client: &Client, definition: &CustomResourceDefinition) -> Result<()> {
    let spec = &definition.spec;
    for version in spec.versions.iter().filter(|version| version.served) {
        let group = format!("{}/{}", spec.group, version.name);
        let end = tokio::time::Instant::now() + SERVED;
        loop {
            let list = client.list_api_group_resources(&group).await;
            if list.is_ok_and(|list| list.resources.iter().any(|each| each.name == spec.names.plural)) {
                break;
            }
            ensure!(tokio::time::Instant::now() < end, "{group} {} is not served", spec.names.plural);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// A definition that takes anything, in place of one of another system whose schema a test does not need.
///
/// # Errors
/// The words make no definition.
pub fn definition(group: &str, version: &str, kind: &str, scope: &str) -> Result<CustomResourceDefinition> {
    let plural = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)).plural;
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("{plural}.{group}"),
                     "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
        "spec": {"group": group, "scope": scope, "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                 "versions": [{"name": version, "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}}}]},
    }))?)
}

/// Every document of a YAML text, or of all YAML files below a folder, sorted by path.
///
/// # Errors
/// The file that cannot be read.
pub fn documents(place: &Path) -> Result<Vec<Value>> {
    let mut files = vec![place.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            let mut inside: Vec<_> =
                std::fs::read_dir(&path)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
            inside.sort();
            files.extend(inside.into_iter().rev());
        } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            let text = std::fs::read_to_string(&path)?;
            let read: Vec<Value> =
                serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
            all.extend(read.into_iter().filter(|document| !document.is_null()));
        }
    }
    Ok(all)
}

/// Applies one object on the server's side, its status too where it has one. Gives what the server made of it.
///
/// # Errors
/// The server's word.
pub async fn apply(client: &Client, object: &Value) -> Result<DynamicObject> {
    let (api, name) = place(client, object).await?;
    let mut object = object.clone();
    let status = object.as_object_mut().and_then(|map| map.remove("status"));
    let how = PatchParams::apply("tests").force();
    let made = api.patch(&name, &how, &Patch::Apply(&object)).await?;
    let Some(status) = status else { return Ok(made) };
    let mut with = object;
    if let Some(map) = with.as_object_mut() {
        map.remove("spec");
        map.insert("status".to_owned(), status);
    }
    Ok(api.patch_status(&name, &how, &Patch::Apply(&with)).await?)
}

/// Where an object belongs, as the server's own lists of resources say.
async fn place(client: &Client, object: &Value) -> Result<(Api<DynamicObject>, String)> {
    let types = TypeMeta {
        api_version: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
        kind: object["kind"].as_str().unwrap_or_default().to_owned(),
    };
    let kind = GroupVersionKind::try_from(&types)?;
    let list = match kind.group.is_empty() {
        true => client.list_core_api_resources(&kind.version).await?,
        false => client.list_api_group_resources(&types.api_version).await?,
    };
    let found = list.resources.iter().find(|each| each.kind == kind.kind && !each.name.contains('/'));
    let found = found.with_context(|| format!("{types:?} is not served"))?;
    let resource = ApiResource::from_gvk_with_plural(&kind, &found.name);
    let name = object["metadata"]["name"].as_str().context("no name")?.to_owned();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let api = match found.namespaced {
        true => Api::namespaced_with(client.clone(), namespace, &resource),
        false => Api::all_with(client.clone(), &resource),
    };
    Ok((api, name))
}
