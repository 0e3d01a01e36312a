//! Any text as a SAS token, and as the ids that come with it: it parses or fails, and what parses is judged without a
//! panic.
#![no_main]

use hub::identity::{DeviceId, ModuleId};
use hub::sas::{Token, host_without_port, key_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(token) = Token::parse(text) {
        let facts = token.facts();
        assert!(!format!("{facts:?}").is_empty());
        assert!(!token.signed_with(b"a key that signed nothing of this"), "a forged token verifies");
        for now in [i64::MIN, 0, 1_800_000_000, i64::MAX] {
            let _ = token.is_expired(now);
            let _ = token.session_end(now);
        }
        let hosts = ["hub.example".to_owned(), "127.0.0.1".to_owned()];
        if token.covers(&hosts, "/devices/d1") {
            assert!(token.names_host(&hosts), "a token without the host covers a device");
        }
    }
    let _ = host_without_port(text);
    let _ = key_bytes(text);
    if let Ok(id) = DeviceId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert!(text.len() <= 128 && !text.is_empty());
    }
    let _ = ModuleId::parse(text);
});
