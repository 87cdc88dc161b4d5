#!/usr/bin/env bash
# Run all test suites, show failures in full, and end with one line: N passed, N failed, N skipped.
#
# A test that cannot run here prints "SKIPPED name: reason" and returns. Cargo would count it as passed; the sum below
# does not. Arguments go to cargo test (for example: scripts/test.sh -p weir-netns).
set -uo pipefail
cd "$(dirname "$0")/.."

readonly LOG=target/test.log
mkdir -p target

# Namespaces and eBPF need root: a user's test programs run under sudo, cargo itself does not.
if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then
  runner=CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER
  export "$runner=sudo -E env PATH=$PATH"
fi

run_suites() {
  local status=0
  if [ $# -gt 0 ]; then
    cargo test --locked --no-fail-fast "$@" -- --show-output || status=$?
  else
    cargo test --locked --workspace --no-fail-fast -- --show-output || status=$?
    # The datapath crate has its own lock file and target; what it shares with the host is tested on the host.
    cargo test --locked --no-fail-fast --manifest-path ebpf/Cargo.toml --target-dir target/ebpf-host -- --show-output || status=$?
  fi
  return $status
}

run_suites "$@" 2>&1 | tee "$LOG" | awk -f scripts/quiet.awk
status=${PIPESTATUS[0]}
awk -v status="$status" -f scripts/sum.awk "$LOG" || status=1
exit "$status"
