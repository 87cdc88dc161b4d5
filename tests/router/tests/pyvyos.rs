//! A client written by others, pyvyos, drives the stand-in: what it sends and what it makes of the answers is compared
//! with `pyvyos/expected.jsonl`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vyos_router::Router;

const VERSION: &str = "0.4.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyvyos_works() {
    let python = match environment() {
        Ok(python) => python,
        Err(reason) => return eprintln!("SKIPPED pyvyos_works: {reason}"),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pyvyos");
    let router = Router::builder().spawn().await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let ca = scratch.path().join("ca.pem");
    std::fs::write(&ca, router.ca_pem()).unwrap();
    let mut command = Command::new(python);
    command.arg(folder.join("drive.py")).arg(router.address().port().to_string()).arg(router.key());
    command.env("REQUESTS_CA_BUNDLE", ca);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = std::fs::read_to_string(folder.join("expected.jsonl")).unwrap();
    let (said, expected) = (lines(&said), lines(&expected));
    for (got, wanted) in said.iter().zip(&expected) {
        assert_eq!(got, wanted);
    }
    assert_eq!(said.len(), expected.len());
    let endpoints: Vec<_> = router.journal().into_iter().map(|entry| entry.endpoint).collect();
    assert_eq!(endpoints.len(), expected.len(), "one request a call");
    router.stop().await;
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The interpreter of an environment with pyvyos, made once in the cache folder.
fn environment() -> Result<PathBuf, String> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => return Err("neither XDG_CACHE_HOME nor HOME is set".to_owned()),
    };
    let place = cache.join(format!("weir/pyvyos-{VERSION}"));
    let python = place.join("bin/python");
    if works(&python) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&place), "python3 -m venv")?;
    let package = format!("pyvyos=={VERSION}");
    let mut pip = Command::new(place.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--timeout", "20", &package]), "pip install pyvyos")?;
    if works(&python) { Ok(python) } else { Err("pyvyos cannot be imported".to_owned()) }
}

fn works(python: &Path) -> bool {
    let output = Command::new(python).args(["-c", "import pyvyos"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{what}: {e}"))?;
    let why = || String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("").to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{what}: {}", why())) }
}
