//! A journal keeps the way in which it found partitions for devices when it was made.

use holdfast_store::journal::{Journal, JournalConfig};
use hub::placement::Placement;
use hub::ports::event_log::EventLog as _;

use crate::messages::message;
use crate::settle;

const MARKER: &str = "placement-lookup3";

#[test]
fn a_new_journal_finds_partitions_as_azure_does_and_one_of_an_earlier_build_as_ever() {
    let place = tempfile::tempdir().unwrap();
    let open = || Journal::open(place.path(), JournalConfig::default()).unwrap();
    let journal = open();
    assert_eq!(journal.placement(), Placement::Lookup3);
    let ticket = journal.append(0, &[message("d1", 1, "a")]).unwrap();
    settle(&journal, ticket).unwrap();
    drop(journal);
    assert_eq!(open().placement(), Placement::Lookup3);
    // An earlier build left no such file.
    std::fs::remove_file(place.path().join(MARKER)).unwrap();
    for _ in 0..2 {
        assert_eq!(open().placement(), Placement::Fnv1a);
    }
    assert!(!place.path().join(MARKER).exists());
}

#[test]
fn a_journal_that_was_noted_but_not_begun_is_a_new_one() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join(MARKER), "").unwrap();
    let journal = Journal::open(place.path(), JournalConfig::default()).unwrap();
    assert_eq!(journal.placement(), Placement::Lookup3);
}
