//! libFuzzer over one of the targets: `WEIR_FUZZ_TARGET` says which.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use weir_fuzz::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("WEIR_FUZZ_TARGET").unwrap_or_default();
    weir_fuzz::target(&name).unwrap_or_else(|| panic!("WEIR_FUZZ_TARGET={name} is none of the targets"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.1)(bytes));
