use jiff::Timestamp;

use super::*;
use crate::identity::Identity;
use crate::inbox::{Ack, Dead, Fate, LockLost, LockToken, Queue, Settlement};
use crate::record::{Key, Kind, Record};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).expect("a time")
}

fn token(number: u8) -> LockToken {
    Number::new(at(0), [0, 0]).token([number; 8])
}

fn waiting() -> Waiting {
    Waiting::new("[]".to_owned(), at(0))
}

#[test]
fn one_receiver_has_a_message_at_a_time_and_completing_it_takes_it_away() {
    let mut message = waiting();
    assert!(message.take(token(1), at(0)));
    assert!(!message.take(token(2), at(59)), "another receiver has it");
    assert_eq!(message.settle(token(2), Settlement::Complete, at(59)), Err(LockLost));
    assert_eq!(message.settle(token(1), Settlement::Complete, at(59)), Ok(false));
    assert_eq!(message.settle(token(1), Settlement::Complete, at(59)), Err(LockLost), "settled twice");
}

#[test]
fn a_lock_that_lapses_and_a_receiver_that_is_gone_count_for_nothing() {
    let mut message = waiting();
    assert!(message.take(token(1), at(0)));
    assert!(message.take(token(2), at(60)), "the lock has lapsed");
    assert_eq!(message.settle(token(1), Settlement::Complete, at(60)), Err(LockLost));
    assert_eq!(message.release(token(2), at(61)), Ok(()));
    assert!(message.take(token(3), at(61)));
    assert_eq!(message.abandoned, 0);
}

#[test]
fn a_message_that_is_abandoned_ten_times_is_gone() {
    let mut message = waiting();
    for n in 1..=10 {
        assert!(message.take(token(n), at(0)));
        assert_eq!(message.settle(token(n), Settlement::Abandon, at(0)), Ok(n < 10), "time {n}");
    }
}

#[test]
fn a_message_that_expired_is_given_to_nobody_and_who_has_it_may_still_settle_it() {
    let mut message = waiting();
    assert!(message.take(token(1), at(3_590)));
    assert!(!message.is_expired(at(3_600)));
    assert_eq!(message.clone().settle(token(1), Settlement::Complete, at(3_601)), Ok(false));
    assert_eq!(message.settle(token(1), Settlement::Abandon, at(3_601)), Ok(false), "nobody is to have it");
    assert!(message.is_expired(at(3_601)));
    assert!(!message.take(token(2), at(3_601)));
}

#[test]
fn a_sender_hears_what_it_asked_for() {
    let heard = |ack, fate| {
        let mut queue = Queue::new("1");
        queue.enqueue(Some("m".to_owned()), String::new(), ack, at(0), at(9)).expect("room");
        let entry = queue.entries.remove(0);
        Feedback::of(&Dead { entry, fate }, at(5)).is_some()
    };
    let fates = [Fate::Completed, Fate::Rejected, Fate::Expired, Fate::DeliveryCountExceeded, Fate::Purged];
    for fate in fates {
        let good = fate == Fate::Completed;
        let told = [Ack::None, Ack::Positive, Ack::Negative, Ack::Full].map(|ack| heard(ack, fate));
        assert_eq!(told, [false, good, !good, true], "{fate:?}");
    }
}

#[test]
fn keys_of_messages_to_services_are_read_from_their_parts_and_sort_by_time() {
    let identity = Identity::parse("d1/m1").expect("an identity");
    let deadline = |time| {
        let deadline = crate::inbox::Deadline { time, identity: identity.clone(), sequence: 7 };
        Key::InboxDeadline(Box::new(deadline))
    };
    let feedback = FeedbackKey { identity: identity.clone(), generation: "638".to_owned(), sequence: 3 };
    let number = |second| Number::new(at(second), [255, 255]);
    let keys = [
        deadline(9),
        deadline(10),
        Key::Feedback(Box::new(feedback)),
        Key::ServiceBound(Lane::Feedback, number(1)),
        Key::ServiceBound(Lane::FileNotifications, number(1)),
    ];
    for key in &keys {
        let (owner, name) = key.parts();
        assert_eq!(Key::from_parts(key.kind(), owner, &name).as_ref(), Some(key));
    }
    assert!(deadline(9).parts() < deadline(10).parts());
    let of = |second| Key::ServiceBound(Lane::Feedback, number(second));
    assert!(of(1).parts() < of(2).parts());
    assert_eq!(Number::of(number(1).token([9; 8])), number(1));
}

#[test]
fn records_are_read_as_they_were_written() {
    let mut message = waiting();
    message.take(token(1), at(0));
    let feedback = Feedback { message_id: None, fate: Fate::Purged, time: at(1) };
    let records = [
        (Kind::FeedbackMessage, Record::ServiceBound(Box::new(message))),
        (Kind::Feedback, Record::Feedback(feedback)),
        (Kind::InboxDeadline, Record::InboxDeadline),
    ];
    for (kind, record) in records {
        let text = serde_json::to_string(&record).expect("text");
        assert_eq!(Record::from_json(kind, &text).expect(&text), record);
    }
}
