//! Kernel modules: which ones, in which order, and out of their compression.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Modules as the exerciser loads them: by name, each after those that it needs.
pub(crate) type Modules = Vec<(String, Vec<u8>)>;

/// Finds modules by name below a folder, with all that they need. What is not there is built into the kernel, or not to be
/// had: the exerciser tells.
pub(crate) fn find(folder: &Path, wanted: &[&str]) -> Result<Modules> {
    let mut files = BTreeMap::new();
    index(folder, &mut files)?;
    let mut found = Modules::new();
    wanted.iter().try_for_each(|name| add(name, &files, &mut found))?;
    Ok(found)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, found: &mut Modules) -> Result<()> {
    let Some(path) = files.get(name).filter(|_| !found.iter().any(|(known, _)| known == name)) else {
        return Ok(());
    };
    let module = plain(path)?;
    needs(&module).iter().try_for_each(|name| add(name, files, found))?;
    found.push((name.to_owned(), module));
    Ok(())
}

fn index(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn plain(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|ending| ending.to_str()) {
        Some("ko") => return Ok(fs::read(path)?),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        other => bail!("{}: a module compressed as {other:?}", path.display()),
    };
    let output = Command::new(program).arg("-dc").arg(path).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {program} on {}", path.display()))?;
    anyhow::ensure!(output.status.success(), "{program} {}: {}", path.display(), output.status);
    Ok(output.stdout)
}

/// The names in a module's own note `depends=` (linux/module.h, MODULE_INFO).
fn needs(module: &[u8]) -> Vec<String> {
    const NOTE: &[u8] = b"\0depends=";
    let Some(at) = module.windows(NOTE.len()).position(|window| window == NOTE) else { return Vec::new() };
    let rest = &module[at + NOTE.len()..];
    let end = rest.iter().position(|octet| *octet == 0).unwrap_or(0);
    let names = String::from_utf8_lossy(&rest[..end]);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let module = |name: &str, needs: &str| {
            let content = format!("ELF\0license=GPL\0depends={needs}\0intree=Y\0");
            fs::write(folder.path().join(format!("{name}.ko")), content).unwrap();
        };
        module("8021q", "mrp,garp");
        module("garp", "stp,llc");
        module("mrp", "");
        module("stp", "llc");
        module("llc", "");
        module("br-dge", "stp,llc");
        let found = find(folder.path(), &["8021q", "br_dge", "built_in"]).unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mrp", "llc", "stp", "garp", "8021q", "br_dge"]);
    }
}
