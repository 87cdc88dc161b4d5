//! What a machine boots into: the agent, weirctl, the exerciser as its first program, and what these need of this system.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weir_netns::built;

use crate::cpio::Archive;
use crate::module;

/// Modules of the devices that are exercised, of the hooks, and of what the agent asks.
const MODULES: [&str; 10] = [
    "veth",
    "8021q",
    "bonding",
    "bridge",
    "dummy",
    "sch_ingress",
    "sch_fq",
    "cls_bpf",
    "tcp_diag",
    "nf_conntrack",
];
const OURS: [&str; 3] = ["weir-agent", "weirctl", "weir-traffic"];
const THEIRS: [&str; 3] = ["ip", "tc", "sh"];

/// Writes the image for a kernel.
pub(crate) fn write(kernel: &Path, to: &Path) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(to)?));
    for folder in ["bin", "dev", "lib", "lib64", "modules", "proc", "run", "sys", "tmp"] {
        archive.folder(folder)?;
    }
    let programs = programs()?;
    let mut libraries = BTreeSet::new();
    for (name, path) in &programs {
        libraries.extend(needed(path)?);
        archive.file(
            &if name == "weir-exerciser" { "init".to_owned() } else { format!("bin/{name}") },
            &fs::read(path)?,
        )?;
    }
    for library in libraries {
        let name = library.file_name().context("a library has a name")?.to_string_lossy().into_owned();
        // The loader's path is written into every program; the others are found in /lib.
        let folder = if name.starts_with("ld-") { "lib64" } else { "lib" };
        archive.file(&format!("{folder}/{name}"), &fs::read(&library)?)?;
    }
    let modules = module::find(&kernel.join("modules"), &MODULES)?;
    for (place, (name, content)) in modules.iter().enumerate() {
        archive.file(&format!("modules/{place:02}-{name}"), content)?;
    }
    archive.link("sbin", "bin")?;
    Ok(archive.end()?)
}

fn programs() -> Result<Vec<(String, PathBuf)>> {
    let mut programs = vec![("weir-exerciser".to_owned(), built("weir-exerciser")?)];
    for name in OURS {
        programs.push((name.to_owned(), built(name)?));
    }
    for name in THEIRS {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
        programs.push((name.to_owned(), found.with_context(|| format!("no {name} on PATH"))?));
    }
    Ok(programs)
}

/// The shared libraries of a program, as the loader finds them here.
fn needed(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!text.contains("not found"), "{} lacks libraries: {text}", program.display());
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
