//! Programs of others that tests run, and the line that says that one is missing.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::root;

/// Where a program is: on PATH, or where `scripts/setup.sh` puts what it fetches.
pub fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("WEIR_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/weir"));
    let cached = cache.or(home).map(|folder| folder.join("bin"));
    std::env::split_paths(&path).chain(cached).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Run a program in the root of the repository.
///
/// # Errors
/// It cannot be started, or fails; then the text has what it said.
pub fn run<A: AsRef<OsStr>>(
    program: &PathBuf,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| format!("start {}: {error}", program.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match status.success() {
        true => Ok(text(&stdout)),
        false => Err(format!("{command:?}: {status}\n{}{}", text(&stdout), text(&stderr))),
    }
}

/// The program, or a loud skip of the test that needs it.
#[macro_export]
macro_rules! need {
    ($program:literal, $test:literal) => {
        match $crate::tool::found($program) {
            Some(program) => program,
            None => {
                eprintln!("SKIPPED {}: {} is not installed (scripts/setup.sh test)", $test, $program);
                return;
            }
        }
    };
}
