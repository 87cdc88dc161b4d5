//! Any bytes are read as the API's JSON or refused; what is read is printed and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vyos_sync::config::{Dialect, parse, print, rules};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tree) = parse::json_text(bytes) {
        assert_eq!(parse::json(&print::json(&tree)).ok().as_ref(), Some(&tree));
        rules::check(&tree, Dialect::V1_5);
    }
});
