//! Which files belong together, and what of them is missing.
//!
//! The registry remembers an id that stands beside the journal and in the folder of uploads too, and how far each partition
//! of the journal reached. So a file that is lost, or that comes from another hub, is noticed before anybody is served.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the registry remembers of the files beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Belongings {
    /// What stands in each of them too.
    pub id: String,
    /// The partitions of the journal, in their order. None as long as the id may not stand everywhere yet.
    pub partitions: Vec<Reach>,
}

/// How far a partition reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// The sequence number of the first event. Those before it were deleted on purpose.
    pub first: u64,
    /// The sequence number after the last event.
    pub next: u64,
    /// The offset of the last event.
    pub last_offset: u64,
}

/// The places whose id is compared with that of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The event log.
    Journal,
    /// The contents of uploaded files.
    Uploads,
}

impl Place {
    /// The name of the folder within the data directory.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Uploads => "uploads",
        }
    }
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The registry, though other files of the hub are there.
    Registry,
    /// A folder, or what was in it.
    Folder(Place),
    /// A folder is there that belongs to another registry.
    Foreign(Place),
    /// The first events of a partition.
    Oldest {
        /// The partition.
        partition: usize,
        /// The first number that is missing.
        from: u64,
        /// The first number that is there.
        to: u64,
    },
    /// The last events of a partition.
    Newest {
        /// The partition.
        partition: usize,
        /// The first number that is missing.
        from: u64,
        /// The number after the last one that is missing.
        to: u64,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry => f.write_str(
                "registry.db is missing or empty, with all devices, keys, policies and twins, though this directory was used",
            ),
            Self::Folder(place) => {
                write!(f, "`{}` is missing, or what was in it", place.folder())
            }
            Self::Foreign(place) => {
                write!(f, "`{}` belongs to another registry.db than the one beside it", place.folder())
            }
            Self::Oldest { partition, from, to } => {
                write!(f, "the oldest events of partition {partition} are missing, {from} to {}", to - 1)
            }
            Self::Newest { partition, from, to } => {
                write!(f, "the newest events of partition {partition} are missing, {from} to {}", to - 1)
            }
        }
    }
}

/// What a folder that holds this id lacks.
pub fn of_folder(remembered: Option<&Belongings>, place: Place, found: Option<&str>) -> Option<Loss> {
    match (remembered, found) {
        (None, None) => None,
        (None, Some(_)) => Some(Loss::Registry),
        (Some(known), None) => (!known.partitions.is_empty()).then_some(Loss::Folder(place)),
        (Some(known), Some(id)) => (id != known.id).then_some(Loss::Foreign(place)),
    }
}

/// What partitions that reach so far lack.
pub fn of_partitions(remembered: &[Reach], found: &[Reach]) -> Vec<Loss> {
    let mut losses = Vec::new();
    for (partition, (known, found)) in remembered.iter().zip(found).enumerate() {
        if found.next < known.next {
            losses.push(Loss::Newest { partition, from: found.next.max(known.first), to: known.next });
        } else if found.first > known.first {
            losses.push(Loss::Oldest { partition, from: known.first, to: found.first });
        }
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(reached: bool) -> Belongings {
        let reach = Reach { first: 10, next: 20, last_offset: 900 };
        Belongings { id: "a".to_owned(), partitions: if reached { vec![reach] } else { Vec::new() } }
    }

    #[test]
    fn a_folder_is_compared_by_its_id() {
        let known = known(true);
        let place = Place::Uploads;
        assert_eq!(of_folder(Some(&known), place, Some("a")), None);
        assert_eq!(of_folder(Some(&known), place, Some("b")), Some(Loss::Foreign(place)));
        assert_eq!(of_folder(Some(&known), place, None), Some(Loss::Folder(place)));
        assert_eq!(of_folder(None, place, Some("a")), Some(Loss::Registry));
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_no_loss() {
        assert_eq!(of_folder(None, Place::Journal, None), None);
        assert_eq!(of_folder(Some(&known(false)), Place::Journal, None), None);
    }

    #[test]
    fn both_ends_of_a_partition_are_compared() {
        let lost =
            |first, next| of_partitions(&known(true).partitions, &[Reach { first, next, last_offset: 0 }]);
        assert_eq!(lost(10, 20), []);
        assert_eq!(lost(8, 25), [], "what was about to be deleted may be there still");
        assert_eq!(lost(12, 20), [Loss::Oldest { partition: 0, from: 10, to: 12 }]);
        assert_eq!(lost(0, 0), [Loss::Newest { partition: 0, from: 10, to: 20 }]);
        assert_eq!(lost(10, 15), [Loss::Newest { partition: 0, from: 15, to: 20 }]);
    }
}
