#!/usr/bin/env bash
# Run the fuzz targets under libFuzzer, each for some seconds. Ends non-zero when one finds something.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]   by default 60 seconds, and every target
#
# No nightly is needed: coverage counters come from LLVM's own pass, and safe Rust needs no address sanitizer. What is
# learned stays in $WEIR_CACHE/fuzz and is where the next run goes on; what breaks is left in tests/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CACHE=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
readonly MANIFEST=tests/fuzz/guided/Cargo.toml
seconds=${1:-60}
[ $# -eq 0 ] || shift
if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(ls tests/fuzz/corpus); fi

host=$(rustc -vV | sed -n 's/^host: //p')
counters='-Cpasses=sancov-module'
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  counters="$counters -Cllvm-args=-sanitizer-coverage-$option"
done
echo "fuzz: building with coverage counters"
# The same versions as everything else; only what libFuzzer needs is added.
cp Cargo.lock tests/fuzz/guided/Cargo.lock
# With --target, the flags are for the program alone and not for build scripts.
RUSTFLAGS="--cfg fuzzing $counters" CARGO_TARGET_DIR="${WEIR_FUZZ_TARGET_DIR:-target/fuzz}" \
  cargo build --quiet --release --target "$host" --manifest-path "$MANIFEST"
program="${WEIR_FUZZ_TARGET_DIR:-target/fuzz}/$host/release/weir-fuzz-guided"

mkdir -p tests/fuzz/found
status=0
for target in "${targets[@]}"; do
  learned="$CACHE/fuzz/$target"
  log="$CACHE/fuzz/$target.log"
  mkdir -p "$learned"
  if WEIR_FUZZ_TARGET=$target "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 \
    -artifact_prefix="tests/fuzz/found/$target-" -print_final_stats=1 "$learned" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    ways=$(grep -o 'cov: [0-9]*' "$log" | tail -n1)
    echo "fuzz: $target: $runs inputs in $seconds s, ${ways:-cov: 0}, nothing found"
  else
    status=1
    echo "fuzz: $target: FOUND something; the end of $log:"
    tail -n 30 "$log"
  fi
done
exit $status
