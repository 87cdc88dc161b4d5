#!/usr/bin/env bash
# Run the agent on other kernels, each in a virtual machine of its own (emulated: no hardware support is needed).
#
# Kernels are Debian's cloud kernels: of bookworm (6.1, without TCX), of trixie (6.12) and of trixie-backports (the newest),
# the last one also locked down for confidentiality. They are downloaded once, checked by Debian's archive key, unpacked into
# WEIR_CACHE, and never installed. Arguments: suites to run, instead of all.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

readonly CACHE=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}/kernels
readonly KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
readonly PROGRAMS=${WEIR_PROGRAMS:-target/debug}

say() { printf 'kernels: %s\n' "$*"; }
fail() {
  printf 'kernels: %s\n' "$*" >&2
  exit 1
}

# Debian's archive, from where this machine has it.
mirror() {
  apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    awk '$2 !~ /security|updates|backports/ && $1 ~ /debian\/?$/ && !found { found = 1; print $1 }'
}

# An apt of its own, so that this machine's sources stay as they are.
suite_apt() {
  local suite=$1 folder=$CACHE/apt/$1 tool=$2
  shift 2
  "$tool" -q -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=- \
    -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder/cache" -o Acquire::Languages=none "$@"
}

# The packages behind a meta-package: the image, and from 7.x on its binary and modules.
parts_of() {
  local suite=$1 package=$2 next
  echo "$package"
  for next in $(suite_apt "$suite" apt-cache depends "$package" | sed -n 's/^ *|\{0,1\}Depends: \(linux-\(image\|binary\|modules\)-[0-9].*\)/\1/p'); do
    parts_of "$suite" "$next"
  done
}

# Print the folder of a suite's kernel, fetched and unpacked if need be.
kernel_of() {
  local suite=$1 folder=$CACHE/$1 part parts package mirror
  if [ ! -f "$folder/vmlinuz" ]; then
    mkdir -p "$CACHE/apt/$suite/lists/partial" "$CACHE/apt/$suite/cache/archives/partial"
    mirror=$(mirror)
    [ -n "$mirror" ] || fail "apt has no Debian archive among its sources: add one, or put a kernel and its modules into $folder"
    echo "deb [signed-by=$KEYS] $mirror $suite main" >"$CACHE/apt/$suite/sources.list"
    suite_apt "$suite" apt-get update >&2
    parts=$(parts_of "$suite" linux-image-cloud-amd64 | sort -u | grep -v '^linux-image-cloud-amd64$')
    say "downloading $(echo $parts) of $suite into $folder" >&2
    rm -rf "$folder.new" && mkdir -p "$folder.new/debs"
    (cd "$folder.new/debs" && suite_apt "$suite" apt-get download $parts >&2)
    for package in "$folder.new"/debs/*.deb; do dpkg-deb -x "$package" "$folder.new/tree"; done
    # Up to 6.19 the image is in /boot, from 7.x on beside its modules.
    part=$(find "$folder.new/tree" -name 'vmlinuz*' -type f | head -n1)
    [ -n "$part" ] || fail "the packages of $suite have no kernel image"
    cp "$part" "$folder.new/vmlinuz"
    for part in "$folder.new/tree/lib/modules" "$folder.new/tree/usr/lib/modules"; do
      [ ! -d "$part" ] || mv "$part" "$folder.new/modules"
    done
    rm -rf "$folder.new/debs" "$folder.new/tree" "$CACHE/apt/$suite"
    rm -rf "$folder" && mv "$folder.new" "$folder"
  fi
  echo "$folder"
}

[ "$(uname -m)" = x86_64 ] || { say "SKIPPED kernels: the machines are for x86_64, this is $(uname -m)"; exit 0; }
[ -f $KEYS ] || fail "no $KEYS: install debian-archive-keyring"

readonly suites=("${@:-}")
status=0
for suite in ${suites[*]:-bookworm trixie trixie-backports}; do
  folder=$(kernel_of "$suite")
  "$PROGRAMS/weir-kernels" "$folder" || status=1
done
if [ -z "${suites[*]:-}" ]; then
  say "the last one again, locked down for confidentiality"
  "$PROGRAMS/weir-kernels" --append "lockdown=confidentiality" "$folder" || status=1
fi
exit $status
