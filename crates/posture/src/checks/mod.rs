//! The checks, one file each, named as in `docs/posture.md`.

mod auth_bruteforce;
mod auth_hub_key_leaked;
mod auth_hub_key_on_device;
mod auth_owner_in_use;
mod auth_sas_ttl;
mod hub_clock_ahead;
mod hub_disk_full;
mod hub_files_damaged;
mod id_conflicting_connection;
mod id_never_connected;
mod id_shared_credential;
mod key_cert_expiring;
mod key_crl_stale;
mod key_file_perms;
mod key_in_config;
mod key_public_sample;
mod key_server_cert_expiring;
mod key_sym_weak;
mod tls_legacy_client;

use crate::check::Check;

/// All checks, in the order of the catalogue, as new as at the beginning of a sweep.
pub fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::<id_shared_credential::SharedCredential>::default(),
        Box::new(id_conflicting_connection::ConflictingConnection),
        Box::new(id_never_connected::NeverConnected),
        Box::new(auth_owner_in_use::OwnerInUse),
        Box::new(auth_hub_key_on_device::HubKeyOnDevice),
        Box::new(auth_hub_key_leaked::HubKeyLeaked),
        Box::new(auth_sas_ttl::SasTtl),
        Box::new(auth_bruteforce::Bruteforce),
        Box::new(key_cert_expiring::CertExpiring),
        Box::new(key_crl_stale::CrlStale),
        Box::new(key_server_cert_expiring::ServerCertExpiring),
        Box::new(key_sym_weak::SymWeak),
        Box::new(key_public_sample::PublicSample),
        Box::new(key_in_config::InConfig),
        Box::new(key_file_perms::FilePerms),
        Box::new(tls_legacy_client::LegacyClient),
        Box::new(hub_clock_ahead::ClockAhead),
        Box::new(hub_files_damaged::FilesDamaged),
        Box::new(hub_disk_full::DiskFull),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_an_id_of_its_own_and_says_what_it_is_about() {
        let checks = all();
        let ids: BTreeSet<&str> = checks.iter().map(|check| check.about().id).collect();
        assert_eq!(ids.len(), checks.len());
        for check in &checks {
            let about = check.about();
            for text in [about.title, about.threat, about.remedy] {
                assert!(text.len() > 20, "{}: `{text}` says too little", about.id);
            }
            assert!(!about.covers.is_empty(), "{}", about.id);
        }
    }
}
