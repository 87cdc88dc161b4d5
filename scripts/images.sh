#!/usr/bin/env bash
# Build static programs, lay out the contents of the images in target/images, check them, and build the images where
# docker, podman or buildah works.
#
# Environment: IMAGE_REGISTRY (ghcr.io/weir-project), IMAGE_TAG (the version).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly MACHINE=$(uname -m)
readonly OUT=target/images
readonly REGISTRY=${IMAGE_REGISTRY:-ghcr.io/weir-project}
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
readonly TAG=${IMAGE_TAG:-$VERSION}
# image: programs
readonly -A PROGRAMS=([weir-agent]="weir-agent weirctl" [vyos-sync]="vyos-sync")

say() { printf 'images: %s\n' "$*"; }
fail() {
  printf 'images: %s\n' "$*" >&2
  exit 1
}

# musl where its library is installed (rustup target add); else glibc, linked statically. With glibc, names are looked up by
# files and DNS, which is all that a container has.
pick_target() {
  local target=$MACHINE-unknown-linux-musl library
  library=$(rustc --print target-libdir --target "$target" 2>/dev/null) && [ -d "$library" ] && echo "$target" && return
  echo "$MACHINE-unknown-linux-gnu"
}

build() {
  local target=$1 flags
  flags=CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_RUSTFLAGS
  say "building for $target, statically linked"
  env "$flags=-C target-feature=+crt-static" \
    cargo build --locked --release --target "$target" -p weir-agent -p vyos-sync --bins
}

lay_out() {
  local target=$1 image program
  for image in "${!PROGRAMS[@]}"; do
    rm -rf "${OUT:?}/$image"
    mkdir -p "$OUT/$image"
    for program in ${PROGRAMS[$image]}; do
      install -m 0755 "target/$target/release/$program" "$OUT/$image/$program"
      strip "$OUT/$image/$program"
    done
  done
}

# A program in an image needs nothing beside itself, and runs where there is nothing beside it.
check() {
  local image program found user
  for image in "${!PROGRAMS[@]}"; do
    found=$(cd "$OUT/$image" && find . -mindepth 1 | sed 's,^\./,,' | sort | tr '\n' ' ')
    [ "$found" = "$(printf '%s\n' ${PROGRAMS[$image]} | sort | tr '\n' ' ')" ] || fail "$OUT/$image holds: $found"
    for program in ${PROGRAMS[$image]}; do
      readelf -lW "$OUT/$image/$program" | grep -q INTERP && fail "$program wants a dynamic loader"
      readelf -dW "$OUT/$image/$program" | grep -q NEEDED && fail "$program wants libraries"
      user=65532:65532
      if [ "$(id -u)" -eq 0 ]; then
        chroot --userspec=$user "$OUT/$image" "/$program" --version | grep -qF "$VERSION" || fail "$program does not run alone"
      fi
      say "$image: $program is static, $(($(stat -c %s "$OUT/$image/$program") / 1000)) kB"
    done
  done
}

builder() {
  local one
  for one in docker podman; do
    "$one" info >/dev/null 2>&1 && echo "$one" && return
  done
  command -v buildah >/dev/null && echo buildah && return
  return 0
}

make_images() {
  local with image
  with=$(builder)
  [ -n "$with" ] || {
    say "no docker, podman or buildah works here; the contents are in $OUT, and checked"
    return
  }
  for image in "${!PROGRAMS[@]}"; do
    "$with" build -q -t "$REGISTRY/$image:$TAG" -f "deploy/images/$image.Dockerfile" "$OUT/$image"
    say "$REGISTRY/$image:$TAG"
  done
}

target=$(pick_target)
build "$target"
lay_out "$target"
check
make_images
