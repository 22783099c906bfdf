//! Any text is searched for secrets; what is found lies in it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nv_secret::SecretRules;

static RULES: LazyLock<SecretRules> = LazyLock::new(|| SecretRules::built_in().expect("the rules are there"));

fuzz_target!(|text: &[u8]| {
    for found in RULES.find(text) {
        assert!(text.get(found.range.clone()).is_some_and(|secret| !secret.is_empty()), "{found:?}");
    }
});
