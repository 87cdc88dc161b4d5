//! The first and only program of a virtual machine: exercises the agent on this kernel, and switches the machine off.
//!
//! Every line for the outside begins with `@weir`: `ok NAME: TEXT`, `FAILED NAME: TEXT`, `SKIPPED NAME: TEXT`, `end`.

mod boot;
mod check;
mod rules;
mod shape;

use nix::sys::reboot::{RebootMode, reboot};

fn main() {
    if std::process::id() != 1 {
        println!("this is the first program of a virtual machine; see docs/kernels.md");
        return;
    }
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    println!("@weir kernel {}, {}", kernel.unwrap_or_default(), boot::lockdown());
    match boot::prepare() {
        Ok(missing) => missing.iter().for_each(|module| println!("@weir FAILED module {module}")),
        Err(error) => println!("@weir FAILED boot: {error:#}"),
    }
    for (name, check) in check::ALL {
        match check() {
            Ok(check::Told::Passed(text)) => println!("@weir ok {name}: {text}"),
            Ok(check::Told::Skipped(reason)) => println!("@weir SKIPPED {name}: {reason}"),
            Err(error) => println!("@weir FAILED {name}: {}", format!("{error:#}").replace('\n', " / ")),
        }
    }
    println!("@weir end");
    let _ = reboot(RebootMode::RB_AUTOBOOT);
}
