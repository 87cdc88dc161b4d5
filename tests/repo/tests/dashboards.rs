//! Dashboards and alerts: each query parses, each name is documented, each alert was seen to fire and to clear.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use clap::Parser;
use serde_json::Value;
use vyos_sync::export::{OfRouter, WithReason};
use weir_repo::dashboards::{Query, dashboards, panel_queries, panels, rule_queries, rules, text};
use weir_repo::{need, promql, root, tool, yaml};

/// Labels that Prometheus and its operator put on every series; ours must not have them.
const RESERVED: [&str; 8] =
    ["cluster", "instance", "job", "namespace", "pod", "container", "endpoint", "service"];
/// Labels of targets, which the dashboards may use.
const TARGET: [&str; 4] = ["cluster", "node", "job", "instance"];

/// Every metric with its labels: the agent's from its reference, vyos-sync's from its reference.
fn registry() -> BTreeMap<String, BTreeSet<String>> {
    let mut known = BTreeMap::new();
    for file in ["docs/metrics.md", "docs/vyos-sync-metrics.md"] {
        let reference = fs::read_to_string(root().join(file)).expect(file);
        for section in reference.split("\n### `").skip(1) {
            let (name, rest) = section.split_once('`').expect("a heading ends its name");
            let (kind, _) = rest.trim_start().split_once(',').expect("the kind comes first");
            let sentence = rest.trim_start().split(". ").next().unwrap_or_default();
            let mut labels: BTreeSet<String> =
                sentence.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let names = match kind {
                "Histogram" => {
                    labels.insert("le".to_owned());
                    ["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")).to_vec()
                }
                _ => vec![name.to_owned()],
            };
            known.extend(names.into_iter().map(|name| (name, labels.clone())));
        }
    }
    known
}

fn queries() -> Vec<Query> {
    let queries = [panel_queries().expect("JSON"), rule_queries()].concat();
    assert!(queries.len() > 100, "{}", queries.len());
    queries
}

#[test]
fn every_query_parses() {
    let promtool = need!("promtool", "every_query_parses");
    let rule = |(index, query): (usize, &Query)| {
        let expression = serde_json::to_string(&query.plain("5m")).expect("a string");
        format!("  - {{record: 'q:{index}', expr: {expression}}}\n")
    };
    let queries = queries();
    let rules: String = queries.iter().enumerate().map(rule).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("queries.yaml");
    fs::write(&file, format!("groups:\n- name: queries\n  rules:\n{rules}")).expect("write");
    if let Err(said) = tool::run(&promtool, ["check".as_ref(), "rules".as_ref(), file.as_os_str()]) {
        let places: String =
            queries.iter().enumerate().map(|(index, query)| format!("q:{index} {}\n", query.place)).collect();
        panic!("{said}\n{places}");
    }
    let files = ["dashboards/rules.yaml", "dashboards/alerts.yaml"];
    tool::run(&promtool, ["check", "rules"].into_iter().chain(files)).expect("rules and alerts");
}

#[test]
fn every_metric_and_label_is_documented() {
    let known = registry();
    let recorded: BTreeSet<String> =
        rules("dashboards/rules.yaml").iter().map(|rule| text(&rule["record"])).collect();
    let mut strange = Vec::new();
    for query in queries() {
        let names = promql::names(&query.plain("5m"));
        for selector in &names.selectors {
            let Some(labels) = known.get(&selector.metric) else {
                if !recorded.contains(&selector.metric) {
                    strange.push(format!("{}: {}", query.place, selector.metric));
                }
                continue;
            };
            for [label, ..] in &selector.matchers {
                if !labels.contains(label) && !TARGET.contains(&label.as_str()) {
                    strange.push(format!("{}: {} has no label {label}", query.place, selector.metric));
                }
            }
        }
        let all: BTreeSet<&String> = known.values().flatten().collect();
        for label in names.groupings.iter().flat_map(|(_, labels)| labels) {
            if !all.contains(label) && !TARGET.contains(&label.as_str()) {
                strange.push(format!("{}: no metric has a label {label}", query.place));
            }
        }
    }
    assert!(strange.is_empty(), "{}", strange.join("\n"));
}

#[test]
fn no_label_of_ours_collides() {
    for (metric, labels) in registry() {
        let taken: Vec<&String> = labels.iter().filter(|label| RESERVED.contains(&label.as_str())).collect();
        assert!(taken.is_empty(), "{metric}: {taken:?} would come back as exported_...");
    }
}

#[test]
fn everything_groups_by_cluster() {
    let mut loose = Vec::new();
    for query in queries() {
        for (word, labels) in promql::names(&query.plain("5m")).groupings {
            if ["by", "on"].contains(&word.as_str()) && !labels.contains("cluster") {
                loose.push(format!("{}: {word} {labels:?}", query.place));
            }
        }
    }
    assert!(loose.is_empty(), "two clusters would be added up:\n{}", loose.join("\n"));
}

#[test]
fn every_panel_says_what_it_means_and_what_to_do() {
    for (path, dashboard) in dashboards().expect("JSON") {
        assert!(dashboard["uid"].as_str().is_some_and(|uid| uid.starts_with("weir-")), "{path}: uid");
        let (mut identifiers, mut titles) = (BTreeSet::new(), BTreeSet::new());
        let mut places: Vec<(String, [u64; 4])> = Vec::new();
        for panel in panels(&dashboard) {
            let title = text(&panel["title"]);
            let said = text(&panel["description"]);
            let (means, todo) = said.split_once("\n\n**What to do:** ").unwrap_or_default();
            assert!(means.ends_with('.') && means.len() > 15, "{path}: {title}: what does it mean?");
            assert!(todo.len() > 5, "{path}: {title}: what to do?");
            assert!(identifiers.insert(panel["id"].as_u64()), "{path}: {title}: its id is taken");
            assert!(titles.insert(title.clone()), "{path}: {title} is there twice");
            let at = &panel["gridPos"];
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| at[key].as_u64().unwrap_or(99));
            assert!(x + w <= 24 && h > 0, "{path}: {title}: {at}");
            for (other, [ox, oy, ow, oh]) in &places {
                let apart = x + w <= *ox || ox + ow <= x || y + h <= *oy || oy + oh <= y;
                assert!(apart, "{path}: {title} lies on {other}");
            }
            places.push((title, [x, y, w, h]));
        }
    }
}

#[test]
fn variables_choose_cluster_node_vip_and_router() {
    let wanted = BTreeMap::from([
        ("dashboards/node.json", vec!["datasource", "cluster", "node", "interface"]),
        ("dashboards/datapath.json", vec!["datasource", "cluster", "node", "interface"]),
        ("dashboards/vip-bgp.json", vec!["datasource", "cluster", "node", "vip"]),
        ("dashboards/router.json", vec!["datasource", "cluster", "router"]),
    ]);
    let boards = dashboards().expect("JSON");
    assert_eq!(boards.iter().map(|(path, _)| path.as_str()).collect::<BTreeSet<_>>().len(), wanted.len());
    for (path, dashboard) in boards {
        let list = dashboard["templating"]["list"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> = list.iter().map(|variable| text(&variable["name"])).collect();
        for name in &wanted[path.as_str()] {
            assert!(names.iter().any(|it| it == name), "{path} has no variable {name}: {names:?}");
        }
        for query in panels(&dashboard).flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
            let expression = text(&query["expr"]);
            let used = expression.split("\"$").skip(1).filter_map(|rest| rest.split('"').next());
            for name in used {
                assert!(names.iter().any(|it| it == name), "{path}: {expression}: there is no ${name}");
            }
        }
    }
}

#[test]
fn every_alert_says_what_why_and_where_to_begin() {
    for alert in rules("dashboards/alerts.yaml") {
        let name = text(&alert["alert"]);
        let severity = text(&alert["labels"]["severity"]);
        assert!(
            ["critical", "warning", "info"].contains(&severity.as_str()),
            "{name}: severity {severity:?}"
        );
        for key in ["summary", "cause", "command", "threshold"] {
            assert!(text(&alert["annotations"][key]).len() > 10, "{name}: no {key}");
        }
        // The threshold follows from a figure or a fact.
        let threshold = text(&alert["annotations"]["threshold"]);
        assert!(
            threshold.chars().any(|it| it.is_ascii_digit()) || threshold.contains("fact"),
            "{name}: {threshold}"
        );
        commands(&name, &text(&alert["annotations"]["command"]));
    }
}

/// Commands of ours are taken by our programs.
fn commands(place: &str, command: &str) {
    let mut plain = command.split('#').next().unwrap_or_default().to_owned();
    while let Some((before, rest)) = plain.split_once("{{") {
        let after = rest.split_once("}}").map_or("", |(_, after)| after);
        plain = format!("{before}NAME{after}");
    }
    let words: Vec<&str> = plain.split_whitespace().collect();
    for (index, word) in words.iter().enumerate() {
        let line = words[index..].iter().map(|word| word.trim_start_matches('/'));
        let error = match *word {
            "/weirctl" | "weirctl" => weir_agent::ctl::Args::try_parse_from(line).err(),
            "/weir-agent" => weir_agent::args::Args::try_parse_from(line).err(),
            "vyos-sync" if index == 0 => vyos_sync::args::Cli::try_parse_from(line).err(),
            _ => None,
        };
        assert!(error.is_none(), "{place}: {command}\n{}", error.expect("it is there"));
    }
}

#[test]
fn every_alert_fires_and_clears() {
    let file = "dashboards/tests/alerts.yaml";
    let document = fs::read_to_string(root().join(file)).expect(file);
    let document = yaml(&document).expect(file).remove(0);
    let course = |test: &Value| {
        let name = text(&test["name"]);
        let wanted = format!("count(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}})");
        let looks = test["promql_expr_test"].as_array().cloned().unwrap_or_default();
        let own = looks.iter().filter(|look| text(&look["expr"]) == wanted);
        let fired = own.map(|look| look["exp_samples"].as_array().is_some_and(|it| !it.is_empty()));
        (name, fired.collect::<Vec<bool>>())
    };
    let tests: BTreeMap<String, Vec<bool>> =
        document["tests"].as_array().into_iter().flatten().map(course).collect();
    for alert in rules("dashboards/alerts.yaml") {
        let name = text(&alert["alert"]);
        let course = tests.get(&name).unwrap_or_else(|| panic!("{file} has no test of {name}"));
        assert_eq!(course, &[false, true, false], "{name}: quiet, then it fires, then it clears");
    }
    let promtool = need!("promtool", "every_alert_fires_and_clears");
    tool::run(&promtool, ["test", "rules", file]).expect("the alerts' own tests");
}

#[test]
fn the_reference_of_vyos_sync_is_current() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = vyos_sync::export::Metrics::new(&mut registry);
    // A family without a series is not told.
    let of = OfRouter { router: "gateway".to_owned() };
    drop(metrics.reconciles.get_or_create(&WithReason { router: of.router.clone(), result: "in_sync" }));
    drop(metrics.seconds.get_or_create(&of));
    drop(metrics.requests.get_or_create(&of));
    drop(metrics.commits.get_or_create(&of));
    drop(metrics.planned.get_or_create(&of));
    drop(metrics.problems.get_or_create(&of));
    drop(metrics.misplaced.get_or_create(&of));
    drop(metrics.synced.get_or_create(&of));
    drop(metrics.reachable.get_or_create(&of));
    drop(metrics.synced_at.get_or_create(&of));
    vyos_sync::export::of_certificate(&mut registry, weir_tls::Reading::default);
    let read = || vyos_sync::bao::Reading { reachable: Some(true), ..Default::default() };
    vyos_sync::export::of_store(&mut registry, read);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).expect("encode");
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let told: BTreeMap<String, &str> = types
        .map(|(name, kind)| (if kind == "counter" { format!("{name}_total") } else { name.to_owned() }, kind))
        .collect();
    let reference = fs::read_to_string(root().join("docs/vyos-sync-metrics.md")).expect("the reference");
    let written: BTreeMap<String, String> = reference
        .split("\n### `")
        .skip(1)
        .filter_map(|section| {
            let (name, rest) = section.split_once('`')?;
            Some((name.to_owned(), rest.trim_start().split(',').next()?.to_lowercase()))
        })
        .collect();
    let written: BTreeMap<String, &str> =
        written.iter().map(|(name, kind)| (name.clone(), kind.as_str())).collect();
    assert_eq!(told, written, "docs/vyos-sync-metrics.md and vyos-sync/src/export.rs differ");
}
