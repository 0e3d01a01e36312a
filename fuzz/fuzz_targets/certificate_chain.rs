//! Any bytes as the certificates that a client offers, each behind its length in two bytes: no panic, and none of them
//! leads to an authority that did not sign it.
#![no_main]

use hub::certificate::Chain;
use hub::record::Thumbprint;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut certificates = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        certificates.push(CertificateDer::from(after[..length].to_vec()));
        rest = &after[length..];
    }
    let Some(chain) = Chain::new(certificates) else { return };
    assert!(chain.facts().len() <= 4);
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let registered = Thumbprint::parse(&"0".repeat(64)).ok();
    assert!(chain.matches([&registered, &None], now).is_err());
    assert!(chain.leads_to(&[], "d1", now).is_err());
});
