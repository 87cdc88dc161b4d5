//! Finds a Rust toolchain that can build for the BPF target and builds the datapath programs with it.
//!
//! Tried in this order: a ready object (`WEIR_EBPF_OBJECT`); then `WEIR_EBPF_RUSTC`, or rustup's nightly, the
//! current rustc and /usr/bin/rustc, each with a prebuilt BPF `core` or with the standard library's source.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What cargo tells a build script and a nested cargo must not hear.
const INHERITED: [&str; 9] = [
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Which programs to build.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each build script that includes this file builds one of them")]
pub(super) enum Programs {
    /// What the agent runs.
    Shipped,
    /// That, and what only the benchmarks run.
    Bench,
}

/// A compiler that can build for the BPF target.
struct Toolchain {
    rustc: PathBuf,
    version: String,
    build_std: bool,
}

/// Builds the object, or takes the ready one, and puts it into `OUT_DIR/weir.o`. `programs` names the set of programs:
/// the shipped ones, or those of the benchmarks as well, which no ready object has.
pub(super) fn build(programs: Programs) -> Result<(), String> {
    for name in ["WEIR_EBPF_OBJECT", "WEIR_EBPF_RUSTC", "WEIR_CACHE", "BPF_LINKER", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let source = source()?;
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", source.join(path).display());
    }
    let object = PathBuf::from(variable("OUT_DIR")?).join("weir.o");
    let made = match (env::var_os("WEIR_EBPF_OBJECT"), programs) {
        (Some(ready), Programs::Shipped) => PathBuf::from(ready),
        _ => compile(&toolchain()?, &linker()?, programs)?,
    };
    fs::copy(&made, &object).map(drop).map_err(|error| format!("cannot copy {}: {error}", made.display()))
}

fn compile(toolchain: &Toolchain, linker: &Path, programs: Programs) -> Result<PathBuf, String> {
    let target = target();
    let bench = programs == Programs::Bench;
    let directory = target_directory(if bench { "ebpf-bench" } else { "ebpf" })?;
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")?),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    let mut cargo = clean(variable("CARGO")?);
    cargo.current_dir(source()?).args([
        "build",
        "--release",
        "--locked",
        "--bin",
        "weir",
        "--target",
        target,
    ]);
    cargo.arg("--target-dir").arg(&directory);
    if bench {
        cargo.args(["--features", "bench"]);
    }
    cargo.env("RUSTC", &toolchain.rustc).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // aya-ebpf and the programs use inline assembly for BPF, which rustc has not made stable yet.
    cargo.env("RUSTC_BOOTSTRAP", if toolchain.build_std { "1" } else { "aya_ebpf,weir" });
    if toolchain.build_std {
        cargo.args(["-Z", "build-std=core"]);
    }
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("the datapath programs do not build with {}; see above", toolchain.version));
    }
    Ok(directory.join(target).join("release/weir"))
}

/// The folder of the programs: beside the one that is built, or further up.
fn source() -> Result<PathBuf, String> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let found =
        here.ancestors().map(|folder| folder.join("ebpf")).find(|folder| folder.join("Cargo.toml").exists());
    found.ok_or_else(|| format!("no ebpf folder above {}", here.display()))
}

fn toolchain() -> Result<Toolchain, String> {
    let mut seen = Vec::new();
    for rustc in candidates() {
        let Some(root) = output(clean(&rustc).args(["--print", "sysroot"])) else { continue };
        let version = output(clean(&rustc).arg("-V")).unwrap_or_default();
        let library = Path::new(&root).join("lib/rustlib");
        let core = library.join(target()).join("lib").is_dir();
        let source = library.join("src/rust/library/Cargo.lock").exists();
        if core || source {
            return Ok(Toolchain { rustc, version, build_std: !core });
        }
        seen.push(format!("  {} ({version}): neither a BPF core library nor rust-src", rustc.display()));
    }
    Err(format!(
        "no Rust toolchain here can build for {}:\n{}\nEither run `scripts/setup.sh build` (Debian),\n\
         or `rustup toolchain install nightly --component rust-src`,\n\
         or set WEIR_EBPF_OBJECT to a ready object.",
        target(),
        seen.join("\n")
    ))
}

fn candidates() -> Vec<PathBuf> {
    if let Some(rustc) = env::var_os("WEIR_EBPF_RUSTC") {
        return vec![rustc.into()];
    }
    let nightly = output(clean("rustup").args(["which", "rustc", "--toolchain", "nightly"]));
    let current = env::var_os("RUSTC").map(PathBuf::from);
    nightly.map(PathBuf::from).into_iter().chain(current).chain([PathBuf::from("/usr/bin/rustc")]).collect()
}

/// `bpf-linker` by `BPF_LINKER`, from the cache that the set-up script fills, or from the path.
fn linker() -> Result<PathBuf, String> {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = env::var_os("WEIR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| env::var_os("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("weir")));
    let cached = cache.unwrap_or_else(|| home.join(".cache/weir")).join("bin/bpf-linker");
    let named = env::var_os("BPF_LINKER").map(PathBuf::from);
    let found = named.into_iter().chain([cached, PathBuf::from("bpf-linker")]);
    found.into_iter().find(|linker| output(Command::new(linker).arg("--version")).is_some()).ok_or_else(|| {
        "bpf-linker is missing: run `scripts/setup.sh build`, or `cargo install bpf-linker`, or set BPF_LINKER".to_owned()
    })
}

fn target() -> &'static str {
    let big = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "big");
    if big { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

/// Beside the profiles of the workspace, so that a changed build script does not build everything anew.
fn target_directory(name: &str) -> Result<PathBuf, String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let profile = out.ancestors().find(|path| path.file_name().is_some_and(|name| name == "build"));
    let target = profile.and_then(|build| build.parent()?.parent()).unwrap_or(&out);
    Ok(target.join(name))
}

fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in INHERITED {
        command.env_remove(name);
    }
    command
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
