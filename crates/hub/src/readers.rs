//! Who reads a partition of the built-in endpoint: up to five readers of a consumer group, or one with an owner
//! level (`docs/protocol/event-hubs-endpoint.md` §6.2).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::limits::READERS_MAX;

/// All readers of a hub.
#[derive(Default)]
pub struct Readers {
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    seated: HashMap<(String, u16), Vec<Seated>>,
}

struct Seated {
    number: u64,
    name: String,
    epoch: Option<i64>,
    displace: Displace,
}

/// Tells a reader that it lost its place, and why in words for its client.
pub type Displace = Arc<dyn Fn(String) + Send + Sync>;

/// A reader's place; it is free again when this is dropped.
pub struct Seat {
    readers: Arc<Readers>,
    place: (String, u16),
    number: u64,
}

/// Why a reader got no place; the text is for its client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSeat {
    /// A reader with a higher owner level, or any owner level where this one has none, is there.
    #[error("{0}")]
    Outranked(String),
    /// There are as many readers as there may be.
    #[error("{0}")]
    Full(String),
}

impl Readers {
    /// Gives a reader its place, and takes theirs from those that it outranks. Groups are compared without case.
    pub fn seat(
        self: &Arc<Self>,
        group: &str,
        partition: u16,
        name: Option<&str>,
        epoch: Option<i64>,
        displace: Displace,
    ) -> Result<Seat, NoSeat> {
        let place = (group.to_ascii_lowercase(), partition);
        let mut displaced = Vec::new();
        let number = {
            let mut places = self.lock();
            places.next += 1;
            let number = places.next;
            let seated = places.seated.entry(place.clone()).or_default();
            let name = name.unwrap_or("nil").to_owned();
            let holder = seated.iter().find_map(|seated| Some((seated.epoch?, &seated.name)));
            match (epoch, holder) {
                (Some(epoch), Some((held, holder))) if held > epoch => {
                    return Err(NoSeat::Outranked(format!(
                        "Receiver '{holder}' with a higher epoch '{held}' already exists. \
                         Receiver '{name}' with epoch {epoch} cannot be created."
                    )));
                }
                (None, Some((held, _))) => {
                    return Err(NoSeat::Outranked(format!(
                        "At least one receiver for the endpoint is created with epoch of '{held}', and so non-epoch \
                         receiver is not allowed. Either reconnect with a higher epoch, or make sure all epoch \
                         receivers are closed or disconnected."
                    )));
                }
                (None, None) if seated.len() >= READERS_MAX => {
                    let names: Vec<&str> = seated.iter().map(|seated| seated.name.as_str()).collect();
                    return Err(NoSeat::Full(format!(
                        "Exceeded the maximum number of allowed receivers per partition in a consumer group which is \
                         {READERS_MAX}. List of connected receivers - {}",
                        names.join(", ")
                    )));
                }
                (Some(epoch), _) => {
                    for loser in seated.drain(..) {
                        let was =
                            loser.epoch.map_or_else(String::new, |epoch| format!(" with epoch '{epoch}'"));
                        let text = format!(
                            "New receiver '{name}' with higher epoch of '{epoch}' is created hence current receiver \
                             '{}'{was} is getting disconnected. If you are recreating the receiver, make sure a \
                             higher epoch is used.",
                            loser.name
                        );
                        displaced.push((loser.displace, text));
                    }
                }
                (None, None) => {}
            }
            seated.push(Seated { number, name, epoch, displace });
            number
        };
        for (displace, text) in displaced {
            displace(text);
        }
        Ok(Seat { readers: self.clone(), place, number })
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut places = self.readers.lock();
        if let Some(seated) = places.seated.get_mut(&self.place) {
            seated.retain(|seated| seated.number != self.number);
            if seated.is_empty() {
                places.seated.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(readers: &Arc<Readers>, epoch: Option<i64>) -> (Result<Seat, NoSeat>, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let teller = told.clone();
        let displace: Displace = Arc::new(move |text| teller.lock().expect("not poisoned").push(text));
        (readers.seat("$Default", 0, Some("r"), epoch, displace), told)
    }

    #[test]
    fn a_sixth_reader_is_refused_until_one_goes() {
        let readers = Arc::new(Readers::default());
        let mut seats: Vec<_> = (0..READERS_MAX).map(|_| seat(&readers, None).0.expect("a seat")).collect();
        assert!(matches!(seat(&readers, None).0, Err(NoSeat::Full(_))));
        assert!(readers.seat("other", 0, None, None, Arc::new(|_| ())).is_ok());
        seats.pop();
        assert!(seat(&readers, None).0.is_ok());
    }

    #[test]
    fn an_owner_level_displaces_equal_and_lower_ones_and_is_no_match_for_higher_ones() {
        let readers = Arc::new(Readers::default());
        let (plain, plain_told) = seat(&readers, None);
        let _plain = plain.expect("a seat");
        let (zero, zero_told) = seat(&readers, Some(0));
        let _zero = zero.expect("epoch 0 is a real epoch");
        assert_eq!(plain_told.lock().expect("not poisoned").len(), 1);
        assert!(matches!(seat(&readers, None).0, Err(NoSeat::Outranked(_))));
        let (again, again_told) = seat(&readers, Some(0));
        let _again = again.expect("an equal epoch displaces");
        assert_eq!(zero_told.lock().expect("not poisoned").len(), 1);
        let (seven, _) = seat(&readers, Some(7));
        let seven = seven.expect("a seat");
        assert_eq!(again_told.lock().expect("not poisoned").len(), 1);
        assert!(matches!(seat(&readers, Some(5)).0, Err(NoSeat::Outranked(_))));
        drop(seven);
        assert!(seat(&readers, Some(5)).0.is_ok());
    }
}
