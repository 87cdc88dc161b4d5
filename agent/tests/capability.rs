//! The capability report in processes that hold more or less of the capabilities.
#![expect(clippy::unwrap_used, reason = "what cannot be run or read fails the test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use weir_agent::capability::{Capability, NEEDED, STARTING, examine, examine_as, json, keep};
use weir_agent::model::capability::FeatureState;

/// Marks the child's one line among those of the test harness.
const MARK: &str = "CHILD ";

/// Runs a child test of this file in a process that `setpriv` has stripped down; `None`, and a loud line, where it cannot.
fn child(test: &str, name: &str, setpriv: &[&str]) -> Option<Value> {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("setpriv")
        .args(setpriv)
        .arg("--")
        .arg(program)
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env("WEIR_CHILD", "1")
        .output();
    match output {
        Ok(output) if output.status.success() => Some(line(&output)),
        other => {
            skip(test, &format!("setpriv cannot run the child as root would: {other:?}"));
            None
        }
    }
}

fn line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let json =
        text.lines().find_map(|line| line.split_once(MARK)).unwrap_or_else(|| unreachable!("{text}")).1;
    serde_json::from_str(json).unwrap()
}

#[expect(clippy::print_stderr, reason = "a skip is loud")]
fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

fn state<'a>(report: &'a Value, feature: &str) -> (&'a str, &'a str) {
    let features = report["features"].as_array().unwrap();
    let found = features.iter().find(|one| one["name"] == feature).unwrap();
    (found["state"].as_str().unwrap(), found["reason"].as_str().unwrap_or(""))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
#[ignore = "a child of the tests of this file"]
fn child_examines() {
    let report = examine(Path::new(&std::env::var("WEIR_PINS").unwrap_or("/sys/fs/bpf/weir".to_owned())));
    let mut out = Vec::new();
    json(&report, &mut out).unwrap();
    let report: Value = serde_json::from_slice(&out).unwrap();
    println!("{MARK}{report}");
    assert!(std::env::var_os("WEIR_CHILD").is_some(), "run by the other tests, not by hand");
}

#[test]
fn with_all_capabilities_the_datapath_works() {
    const TEST: &str = "with_all_capabilities_the_datapath_works";
    if !is_root() {
        return skip(TEST, "run it as root");
    }
    let Some(report) = child(TEST, "child_examines", &["--no-new-privs"]) else { return };
    for feature in
        ["maps", "ring-buffer", "packet-programs", "netlink", "arp-probes", "nd-probes", "echo-probes"]
    {
        assert_eq!(state(&report, feature), ("works", ""), "{feature}");
    }
    assert!(report["held"].as_array().unwrap().contains(&"CAP_BPF".into()));
}

#[test]
fn without_perfmon_it_says_so_where_it_matters() {
    const TEST: &str = "without_perfmon_it_says_so_where_it_matters";
    let caps = ["--bounding-set", "-all,+bpf,+net_admin,+net_raw"];
    if !is_root() {
        return skip(TEST, "run it as root");
    }
    let Some(report) = child(TEST, "child_examines", &caps) else { return };
    assert_eq!(state(&report, "maps"), ("works", ""));
    let needs = ("off", "needs CAP_PERFMON; grant it to the container or service");
    assert_eq!(state(&report, "packet-programs"), needs);
    assert_eq!(state(&report, "tcx").0, "off");
    if state(&report, "btf").0 == "works" {
        assert_eq!(state(&report, "kernel-drops"), needs);
    }
}

#[test]
fn with_the_three_capabilities_only_extras_are_missing() {
    const TEST: &str = "with_the_three_capabilities_only_extras_are_missing";
    let caps = ["--bounding-set", "-all,+bpf,+net_admin,+perfmon"];
    if !is_root() {
        return skip(TEST, "run it as root");
    }
    let Some(report) = child(TEST, "child_examines", &caps) else { return };
    for feature in ["maps", "ring-buffer", "packet-programs", "jit"] {
        assert_eq!(state(&report, feature), ("works", ""), "{feature}");
    }
    let (word, reason) = state(&report, "foreign-programs");
    assert!(word == "degraded" && reason.contains("needs CAP_SYS_ADMIN"), "{reason}");
    assert_eq!(
        state(&report, "arp-probes"),
        ("off", "needs CAP_NET_RAW; grant it to the container or service")
    );
}

#[test]
fn without_bpf_nothing_of_the_datapath_works_and_the_rest_does() {
    const TEST: &str = "without_bpf_nothing_of_the_datapath_works_and_the_rest_does";
    let caps = ["--bounding-set", "-all,+net_admin,+net_raw"];
    if !is_root() {
        return skip(TEST, "run it as root");
    }
    let Some(report) = child(TEST, "child_examines", &caps) else { return };
    let (word, reason) = state(&report, "maps");
    assert!(word == "off" && reason.contains("CAP_BPF"), "{reason}");
    let (word, reason) = state(&report, "packet-programs");
    assert!(word == "off" && reason.contains("CAP_BPF and CAP_PERFMON"), "{reason}");
    for feature in ["netlink", "arp-probes", "nd-probes"] {
        assert_eq!(state(&report, feature), ("works", ""), "{feature}");
    }
}

#[test]
fn an_unprivileged_process_gets_a_whole_report() {
    const TEST: &str = "an_unprivileged_process_gets_a_whole_report";
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"];
    if !is_root() {
        return skip(TEST, "run it as root");
    }
    let Some(report) = child(TEST, "child_examines", &nobody) else { return };
    assert_eq!(report["held"], serde_json::json!([]));
    assert_eq!(report["features"].as_array().unwrap().len(), 19);
    assert_eq!(state(&report, "netlink"), ("works", ""));
    for (feature, needs) in [("packet-programs", "CAP_BPF"), ("arp-probes", "CAP_NET_RAW")] {
        let (word, reason) = state(&report, feature);
        assert!(word == "off" && reason.contains(needs), "{feature}: {reason}");
    }
}

#[test]
fn a_process_with_all_capabilities_can_tell_what_fewer_would_do() {
    const TEST: &str = "a_process_with_all_capabilities_can_tell_what_fewer_would_do";
    let before = caps::read(None, caps::CapSet::Effective).unwrap();
    if !before.contains(&Capability::CAP_SYS_ADMIN) {
        return skip(TEST, "run it as root");
    }
    let report = examine_as(Path::new("/sys/fs/bpf/weir"), &STARTING).unwrap();
    let state = |name| &report.features.iter().find(|one| one.name == name).unwrap().state;
    assert_eq!(state("packet-programs"), &FeatureState::Works);
    assert_eq!(state("arp-probes"), &FeatureState::Works);
    assert!(state("foreign-programs").reason().unwrap().contains("needs CAP_SYS_ADMIN"));
    assert_eq!(report.held, ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_NET_RAW", "CAP_SYS_NICE"]);
    assert_eq!(caps::read(None, caps::CapSet::Effective).unwrap(), before);
}

#[test]
fn pins_work_on_a_bpf_file_system_and_leave_nothing_behind() {
    const TEST: &str = "pins_work_on_a_bpf_file_system_and_leave_nothing_behind";
    let place = tempfile::tempdir().unwrap();
    // The mount lives and dies with the child's mount namespace.
    let script = r#"mount -t bpf bpf "$0" || exit 77; "$@" || exit 1; ! ls -A "$0" | grep weir"#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(place.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_examines", "--ignored", "--nocapture"])
        .env("WEIR_CHILD", "1")
        .env("WEIR_PINS", place.path().join("weir"))
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(77) => output,
        other => return skip(TEST, &format!("cannot mount a BPF file system: {other:?}")),
    };
    assert!(output.status.success(), "{output:?}");
    assert_eq!(state(&line(&output), "pins"), ("works", ""));
    let report = examine(place.path());
    let outside = report.features.iter().find(|one| one.name == "pins").unwrap();
    assert!(outside.state.reason().unwrap().contains("not on a BPF file system"), "{outside:?}");
}

#[test]
fn it_refuses_when_other_threads_run() {
    // The test harness runs this on a thread of its own, beside the main thread and this one.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || held.recv());
    let refused = keep(&NEEDED).unwrap_err().to_string();
    assert!(refused.contains("before other threads start"), "{refused}");
    drop(release);
    assert!(other.join().unwrap().is_err());
}
