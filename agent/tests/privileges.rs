//! Giving up privileges, in a process of one thread: without the test harness, which runs tests beside a thread of its own.
#![expect(clippy::unwrap_used, reason = "what cannot be run or read fails the test")]
#![expect(clippy::print_stderr, reason = "a skip is loud")]

use std::process::Command;

use serde_json::{Value, json};
use weir_agent::capability::{Capability, NEEDED, keep};

const TEST: &str = "only_what_is_wanted_is_kept_on_every_thread_and_in_every_set";

/// What the child starts with; CAP_SYS_BOOT, which it wants too, is not there.
const WITH: &str = "-all,+bpf,+net_admin,+perfmon,+sys_admin,+setpcap,+net_raw";
const WITHOUT_SETPCAP: &str = "-all,+bpf,+net_admin,+perfmon,+sys_admin";

fn main() {
    if std::env::var_os("WEIR_CHILD").is_some() {
        println!("{}", child());
    } else if nix::unistd::geteuid().is_root() {
        check(WITH, true);
        check(WITHOUT_SETPCAP, false);
        println!("test {TEST} ... ok");
    } else {
        eprintln!("SKIPPED {TEST}: run it as root");
    }
}

/// CAP_NET_ADMIN is 12, CAP_PERFMON 38, CAP_BPF 39 (linux/capability.h).
fn three() -> String {
    format!("{:016x}", 1_u64 << 12 | 1 << 38 | 1 << 39)
}

fn check(bounding: &str, bounded: bool) {
    let ambient = ["--inh-caps", "+net_admin", "--ambient-caps", "+net_admin"];
    let output = Command::new("setpriv")
        .args(["--bounding-set", bounding])
        .args(ambient)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .env("WEIR_CHILD", "1")
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        other => return eprintln!("SKIPPED {TEST}: setpriv cannot run the child: {other:?}"),
    };
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kept = format!("{}", told["kept"]);
    assert!(kept.contains(&format!("missing: [CAP_SYS_BOOT], bounded: {bounded}")), "{kept}");
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(told[set], three(), "{set}");
    }
    assert_eq!(told["CapBnd"] == three(), bounded, "{told}");
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(told[set], "0000000000000000", "{set}");
    }
    assert_eq!((&told["NoNewPrivs"], &told["thread"]), (&json!("1"), &json!(3)));
}

fn child() -> Value {
    let wanted = [NEEDED.as_slice(), &[Capability::CAP_SYS_BOOT]].concat();
    let kept = keep(&wanted).map_or_else(|error| error.to_string(), |kept| format!("{kept:?}"));
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let fields = status.lines().filter_map(|line| line.split_once(":\t"));
    let mut told: serde_json::Map<String, Value> =
        fields.map(|(name, value)| (name.to_owned(), value.trim().into())).collect();
    let thread = std::thread::spawn(|| caps::read(None, caps::CapSet::Permitted).unwrap().len());
    told.insert("thread".to_owned(), thread.join().unwrap().into());
    told.insert("kept".to_owned(), kept.into());
    told.into()
}
