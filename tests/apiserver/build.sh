#!/usr/bin/env bash
# Build kube-apiserver and etcd for the tests, into a cache outside the tree, and print the folder that holds both.
#
# Nothing is built where KUBEBUILDER_ASSETS names a folder with both, or where the cache has them for these go.sum files.
# Go may fetch what the go.mod files pin; it takes some minutes, once. Without Go or its module proxy this ends non-zero and
# says why: the tests that need an API server are then skipped, with that reason.
#
#   tests/apiserver/build.sh [--wanted]   with --wanted, build nothing: end zero where a build is needed
# Environment: WEIR_CACHE, KUBEBUILDER_ASSETS, GO_BUILD_JOBS (default: as many as there are CPUs).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

readonly CACHE=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
key=$(cat "$here"/server/go.mod "$here"/server/go.sum "$here"/etcd/go.mod "$here"/etcd/go.sum | sha256sum | cut -c1-16)
readonly folder=$CACHE/apiserver/$key

both_in() { [ -x "$1/etcd" ] && [ -x "$1/kube-apiserver" ]; }

# Clients ask for the version; without this it would be v0.0.0.
version=$(sed -n 's/^.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' "$here/server/go.mod" | head -n1)

build() { # FOLDER-OF-MODULE PACKAGE PROGRAM
  (cd "$here/$1" && GOFLAGS=-mod=readonly GOTOOLCHAIN=local go build -trimpath \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" \
    ${GO_BUILD_JOBS:+-p "$GO_BUILD_JOBS"} -o "$folder.new/$3" "$2")
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ] && both_in "$KUBEBUILDER_ASSETS"; then
  wanted=false place=$KUBEBUILDER_ASSETS
elif both_in "$folder"; then
  wanted=false place=$folder
else
  wanted=true place=$folder
fi
if [ "${1:-}" = --wanted ]; then
  $wanted
  exit
fi
if $wanted; then
  command -v go >/dev/null || {
    echo "apiserver: there is no Go; install it, or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver" >&2
    exit 1
  }
  mkdir -p "$folder.new"
  build etcd go.etcd.io/etcd/server/v3 etcd
  build server k8s.io/kubernetes/cmd/kube-apiserver kube-apiserver
  rm -rf "$folder" && mv "$folder.new" "$folder"
fi
echo "$place"
