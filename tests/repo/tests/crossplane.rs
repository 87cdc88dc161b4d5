//! Crossplane: the composition rendered for the examples, as golden text, and read back as our kinds.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "a test")]

use std::fs;

use serde_json::{Map, Value, json};
use vyos_sync::crd::{BGPPeering, PortPublication, RouterNetwork};
use weir_repo::dashboards::text;
use weir_repo::{root, yaml};

fn documents(file: &str) -> Vec<Value> {
    let path = root().join("deploy/crossplane").join(file);
    yaml(&fs::read_to_string(&path).expect(file)).expect(file)
}

/// The parts of a field path such as `spec.subnets[0].cidr`.
fn parts(path: &str) -> Vec<String> {
    path.replace('[', ".").replace(']', "").split('.').map(str::to_owned).collect()
}

fn at<'a>(mut value: &'a Value, path: &str) -> Option<&'a Value> {
    for part in parts(path) {
        value = match part.parse::<usize>() {
            Ok(index) => value.get(index)?,
            Err(_) => value.get(&part)?,
        };
    }
    Some(value)
}

fn put(mut value: &mut Value, path: &str, wanted: &Value) {
    for part in parts(path) {
        value = match part.parse::<usize>() {
            Ok(index) => {
                if !value.is_array() {
                    *value = json!([]);
                }
                let list = value.as_array_mut().expect("an array");
                list.resize(list.len().max(index + 1), Value::Null);
                &mut list[index]
            }
            Err(_) => {
                if !value.is_object() {
                    *value = Value::Object(Map::new());
                }
                &mut value[part]
            }
        };
    }
    *value = wanted.clone();
}

/// What function-patch-and-transform makes of the patches that our composition uses: a `FromCompositeFieldPath` whose field
/// is absent does nothing, or with the policy `Required` leaves the resource out.
fn compose(composition: &Value, composite: &Value) -> Vec<Value> {
    let mut made = Vec::new();
    let steps = composition["spec"]["pipeline"].as_array().expect("steps");
    'resources: for resource in steps[0]["input"]["resources"].as_array().expect("resources") {
        let mut object = resource["base"].clone();
        for patch in resource["patches"].as_array().expect("patches") {
            match text(&patch["type"]).as_str() {
                "FromCompositeFieldPath" => match at(composite, &text(&patch["fromFieldPath"])) {
                    Some(value) => put(&mut object, &text(&patch["toFieldPath"]), value),
                    None if patch["policy"]["fromFieldPath"] == "Required" => continue 'resources,
                    None => {}
                },
                "ToCompositeFieldPath" => {}
                other => panic!("this test does not know patches of type {other}"),
            }
            assert!(
                patch["transforms"].is_null() && patch["patchSetName"].is_null(),
                "nor transforms: {patch}"
            );
        }
        made.push(object);
    }
    made
}

/// The objects that the examples become.
fn composed() -> Vec<Value> {
    let composition = documents("composition.yaml").remove(0);
    documents("example.yaml").iter().flat_map(|composite| compose(&composition, composite)).collect()
}

#[test]
fn the_examples_become_these_objects() {
    let mut made = String::from(
        "# What deploy/crossplane/composition.yaml makes of example.yaml (WRITE_DEPLOY=1 renews it).\n",
    );
    for object in composed() {
        made.push_str("---\n");
        made.push_str(&serde_saphyr::to_string(&object).expect("YAML"));
    }
    let path = root().join("deploy/crossplane/composed.yaml");
    if std::env::var_os("WRITE_DEPLOY").is_some() {
        fs::write(&path, &made).expect("write");
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), made, "composed.yaml is not current");
}

#[test]
fn they_are_objects_of_our_kinds() {
    let objects = composed();
    let kinds: Vec<String> = objects.iter().map(|object| text(&object["kind"])).collect();
    assert_eq!(kinds, ["RouterNetwork", "BGPPeering", "PortPublication", "RouterNetwork", "BGPPeering"]);
    for object in objects {
        let name = object["metadata"]["name"].clone();
        let said = |error: serde_json::Error| format!("{name}: {error}: {object}");
        match object["kind"].as_str() {
            Some("RouterNetwork") => {
                let network: RouterNetwork =
                    serde_json::from_value(object.clone()).map_err(said).expect("an object of ours");
                // Nothing that was said is lost on the way: no field has a wrong name.
                assert_eq!(network.spec.vlan, Some(if name == "media" { 40 } else { 41 }));
                assert_eq!(network.spec.dhcp.is_some(), name == "media");
            }
            Some("BGPPeering") => {
                let peering: BGPPeering =
                    serde_json::from_value(object.clone()).map_err(said).expect("an object of ours");
                assert_eq!(peering.spec.cluster, if name == "media" { "media" } else { "batch-2" });
            }
            _ => {
                let publication: PortPublication =
                    serde_json::from_value(object.clone()).map_err(said).expect("an object of ours");
                assert_eq!(publication.spec.ports.len(), 2);
                assert_eq!(publication.spec.hostnames, ["media.example.org"]);
            }
        }
    }
}

#[test]
fn definition_composition_and_role_agree() {
    let (definition, composition) =
        (documents("definition.yaml").remove(0), documents("composition.yaml").remove(0));
    let names = &definition["spec"]["names"];
    assert_eq!(
        definition["metadata"]["name"],
        format!("{}.{}", text(&names["plural"]), text(&definition["spec"]["group"]))
    );
    let of = &composition["spec"]["compositeTypeRef"];
    assert_eq!(of["kind"], names["kind"]);
    assert_eq!(of["apiVersion"], format!("{}/v1alpha1", text(&definition["spec"]["group"])));
    // The schema has every field that a patch reads.
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let steps = composition["spec"]["pipeline"].as_array().expect("steps");
    for resource in steps[0]["input"]["resources"].as_array().expect("resources") {
        for patch in resource["patches"].as_array().expect("patches") {
            let from = text(&patch["fromFieldPath"]);
            if let Some(field) = from.strip_prefix("spec.") {
                let path = format!("properties.spec.properties.{}", field.replace('.', ".properties."));
                assert!(at(schema, &path).is_some(), "the definition has no spec.{field}");
            }
        }
    }
    // The functions are installed, and the role lets Crossplane make each kind.
    let functions: Vec<Value> =
        documents("functions.yaml").iter().map(|it| it["metadata"]["name"].clone()).collect();
    assert!(steps.iter().all(|step| functions.contains(&step["functionRef"]["name"])), "{functions:?}");
    let role = documents("clusterrole.yaml").remove(0);
    let given = role["rules"][0]["resources"].as_array().cloned().unwrap_or_default();
    for object in composed() {
        let plural = format!("{}s", text(&object["kind"]).to_lowercase());
        assert!(given.contains(&json!(plural)), "the role does not give {plural}");
    }
}
