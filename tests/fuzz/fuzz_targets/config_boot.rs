//! Any text is read as `config.boot` or refused; what is read is printed and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vyos_sync::config::{Dialect, Schema, Untyped, parse, print, rules};

fuzz_target!(|text: &str| {
    if let Ok(boot) = parse::boot(text) {
        let again = parse::boot(&print::block(&boot.tree, &Untyped));
        assert_eq!(again.map(|boot| boot.tree).as_ref(), Ok(&boot.tree));
        for dialect in Dialect::ALL {
            Schema::built_in(dialect).validate(&boot.tree);
            rules::check(&boot.tree, dialect);
        }
    }
});
