use std::num::NonZeroU16;

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::telemetry::{PropertyValue, SystemProperty};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).expect("a time")
}

fn token(number: u128) -> LockToken {
    LockToken(Uuid::from_u128(number))
}

fn queue_of(count: usize) -> Queue {
    let mut queue = Queue::new("1");
    for _ in 0..count {
        queue.enqueue(None, String::new(), Ack::None, at(0), at(3_600)).expect("room");
    }
    queue
}

fn sequence(taken: Option<Taken>) -> Option<u64> {
    taken.map(|taken| taken.entry.sequence)
}

#[test]
fn messages_are_given_in_the_order_they_were_sent_and_each_to_one_receiver() {
    let mut queue = queue_of(2);
    let given = [1, 2, 3].map(|n| sequence(queue.take(token(n), Receiver::Requests, Numbering::None, at(1))));
    assert_eq!(given, [Some(1), Some(2), None]);
    queue.finish(token(2), Fate::Completed, at(2)).expect("its lock holds");
    assert_eq!(queue.finish(token(2), Fate::Completed, at(2)), Err(LockLost), "settled twice");
    assert_eq!(queue.entries.len(), 1);
}

#[test]
fn what_cannot_be_given_to_its_receiver_is_rejected_and_says_why() {
    let mut queue = Queue::new("1");
    for id in ["long", "next"] {
        queue.enqueue(Some(id.to_owned()), String::new(), Ack::Full, at(0), at(3_600)).expect("room");
    }
    for number in [1, 2] {
        queue.take(token(number), Receiver::Connection, Numbering::None, at(1));
    }
    let dead = queue.refuse(token(1), Unfit::TooLarge, at(1)).expect("its lock holds");
    assert_eq!((dead.fate, queue.gone.rejected), (Fate::Rejected, 1), "its sender hears of it");
    queue.finish(token(2), Fate::Rejected, at(2)).expect("its lock holds");
    let reasons: Vec<_> = queue.passed.iter().map(|passed| passed.reason).collect();
    assert_eq!(reasons, [Some(Unfit::TooLarge), None]);
    assert_eq!(queue.refuse(token(1), Unfit::TooLarge, at(2)), Err(LockLost));
}

#[test]
fn a_lock_that_lapses_gives_the_message_to_the_next_one_and_counts_for_nothing() {
    let mut queue = queue_of(1);
    queue.take(token(1), Receiver::Requests, Numbering::None, at(0));
    assert!(!queue.has_next(at(59)));
    assert!(queue.has_next(at(60)));
    assert_eq!(queue.finish(token(1), Fate::Completed, at(60)), Err(LockLost));
    let taken = queue.take(token(2), Receiver::Requests, Numbering::None, at(60)).expect("it is free");
    assert_eq!(taken.entry.delivery_count(), 0);
}

#[test]
fn what_a_receiver_that_is_gone_had_is_taken_back_and_what_a_newer_one_has_is_not() {
    let mut queue = queue_of(2);
    let [first, second] =
        [1, 2].map(|n| sequence(queue.take(token(n), Receiver::Connection, Numbering::None, at(0))));
    assert_eq!((first, second), (Some(1), Some(2)));
    assert!(queue.release_connection(true));
    queue
        .take(token(3), Receiver::Connection, Numbering::None, at(1))
        .expect("the newer one takes the first");
    assert!(!queue.give_back(&[token(1), token(2)]), "the older one has nothing any more");
    assert!(queue.give_back(&[token(3)]));
    let taken = queue.take(token(4), Receiver::Requests, Numbering::None, at(1)).expect("it is free");
    assert_eq!((taken.entry.sequence, taken.entry.delivery_count()), (1, 0));
}

#[test]
fn a_message_that_is_abandoned_too_often_is_dead() {
    let mut queue = queue_of(1);
    for n in 1..10 {
        queue.take(token(n), Receiver::Requests, Numbering::None, at(0)).expect("it came back");
        assert_eq!(queue.abandon(token(n), at(0)), Ok(None));
    }
    let taken = queue.take(token(10), Receiver::Requests, Numbering::None, at(0)).expect("once more");
    assert_eq!(taken.entry.delivery_count(), 9);
    let dead = queue.abandon(token(10), at(0)).expect("its lock holds").expect("it was the tenth time");
    assert_eq!((dead.fate, queue.entries.len()), (Fate::DeliveryCountExceeded, 0));
}

#[test]
fn what_a_connection_had_comes_back_with_the_next_one_and_what_a_request_has_stays() {
    let mut queue = queue_of(2);
    queue.take(token(1), Receiver::Connection, Numbering::None, at(0));
    queue.take(token(2), Receiver::Requests, Numbering::None, at(0));
    assert!(queue.release_connection(true));
    assert_eq!(sequence(queue.take(token(3), Receiver::Connection, Numbering::None, at(0))), Some(1));
    assert_eq!(sequence(queue.take(token(4), Receiver::Connection, Numbering::None, at(0))), None);
    assert!(queue.finish(token(2), Fate::Completed, at(1)).is_ok());
}

#[test]
fn the_fifty_first_message_is_refused_until_one_is_gone() {
    let mut queue = queue_of(QUEUE_MAX);
    let send = |queue: &mut Queue| queue.enqueue(None, String::new(), Ack::None, at(0), at(9));
    assert_eq!(send(&mut queue), Err(QueueFull));
    queue.take(token(1), Receiver::Requests, Numbering::None, at(0));
    assert_eq!(send(&mut queue), Err(QueueFull), "a message in somebody's hands still waits");
    queue.finish(token(1), Fate::Rejected, at(0)).expect("its lock holds");
    assert_eq!(send(&mut queue), Ok(51));
}

#[test]
fn what_expires_is_given_to_nobody_and_what_somebody_has_may_still_be_completed() {
    let mut queue = queue_of(1);
    queue.enqueue(None, String::new(), Ack::None, at(0), at(30)).expect("room");
    queue.take(token(1), Receiver::Requests, Numbering::None, at(3_590)).expect("in time");
    let dead = queue.expire(at(3_600));
    assert_eq!(
        dead.iter().map(|dead| (dead.entry.sequence, dead.fate)).collect::<Vec<_>>(),
        [(2, Fate::Expired)]
    );
    assert!(queue.finish(token(1), Fate::Completed, at(3_601)).is_ok());
    assert_eq!(queue.purge(at(0)), []);
}

#[test]
fn a_queue_and_a_content_are_read_as_they_were_written() {
    let mut queue = queue_of(2);
    queue.take(token(7), Receiver::Connection, Numbering::None, at(5));
    let text = serde_json::to_string(&queue).expect("text");
    assert_eq!(serde_json::from_str::<Queue>(&text).expect(&text), queue);
    let submission = Submission {
        application: vec![("color".to_owned(), crate::telemetry::PropertyValue::Text("red brick".into()))],
        body: bytes::Bytes::from_static(&[0, 255, 10]),
        ..Submission::default()
    };
    let content = Content::from(&submission);
    let text = serde_json::to_string(&content).expect("text");
    assert_eq!(serde_json::from_str::<Content>(&text).expect(&text), content);
}

#[test]
fn what_was_sent_is_always_what_is_gone_and_what_waits() {
    let mut queue = Queue::new("1");
    let mut random = 7_u64;
    for step in 0..20_000_i64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (now, held) = (at(step), queue.entries.iter().find_map(|entry| Some(entry.lock.as_ref()?.token)));
        // Most steps may be refused: the lock lapsed, the queue is full, nothing is there.
        match (random >> 33) % 16 {
            0..=5 => drop(queue.enqueue(
                None,
                String::new(),
                Ack::None,
                now,
                at(step + (random >> 40) as i64 % 200),
            )),
            6..=9 => drop(queue.take(token(step as u128), Receiver::Requests, Numbering::None, now)),
            10 => drop(held.map(|held| queue.finish(held, Fate::Completed, now))),
            11 => drop(held.map(|held| queue.finish(held, Fate::Rejected, now))),
            12 | 13 => drop(held.map(|held| queue.abandon(held, now))),
            14 => drop(queue.expire(now)),
            _ if step % 97 == 0 => drop(queue.purge(at(0))),
            _ => {}
        }
        let Gone { completed, rejected, expired, delivery_count_exceeded, purged } = queue.gone;
        let gone = completed + rejected + expired + delivery_count_exceeded + purged;
        assert_eq!(queue.last_sequence, gone + queue.entries.len() as u64, "after step {step}");
    }
    let Gone { completed, rejected, expired, delivery_count_exceeded: _, purged } = queue.gone;
    assert!([completed, rejected, expired, purged].iter().all(|count| *count > 0), "{:?}", queue.gone);
}

#[test]
fn a_session_gets_a_message_again_under_its_number_until_it_is_acknowledged() {
    let mut queue = queue_of(3);
    let take = |queue: &mut Queue, n, under_way: &[NonZeroU16]| {
        let taken = queue.take(token(n), Receiver::Connection, Numbering::Session(under_way), at(1));
        taken.map(|taken| (taken.entry.sequence, taken.entry.number.map_or(0, NonZeroU16::get), taken.again))
    };
    assert_eq!([1, 2].map(|n| take(&mut queue, n, &[])), [Some((1, 1, false)), Some((2, 2, false))]);
    queue.finish(token(1), Fate::Completed, at(1)).expect("its lock holds");
    // The connection is lost, and the hub starts again.
    queue.give_back(&[token(2)]);
    let text = serde_json::to_string(&queue).expect("it is stored");
    let mut queue: Queue = serde_json::from_str(&text).expect("it is read");
    assert_eq!([3, 4].map(|n| take(&mut queue, n, &[])), [Some((2, 2, true)), Some((3, 3, false))]);
    // A client that counts what it has not acknowledged gets it by another number meanwhile.
    queue.give_back(&[token(3)]);
    let two = NonZeroU16::new(2).expect("not 0");
    assert_eq!(take(&mut queue, 5, &[two]), Some((2, 4, false)));
    // One that it does not take is new when it comes again, and so is all to a session that begins.
    assert_eq!(queue.abandon(token(5), at(1)), Ok(None));
    assert_eq!(take(&mut queue, 6, &[]), Some((2, 5, false)));
    assert!(queue.release_connection(false));
    assert_eq!(take(&mut queue, 7, &[]), Some((2, 6, false)));
    // Who has no session has no numbers.
    queue.give_back(&[token(7)]);
    assert_eq!(
        queue.take(token(8), Receiver::Requests, Numbering::None, at(1)).and_then(|t| t.entry.number),
        None
    );
}

#[test]
fn numbers_of_messages_that_wait_are_not_given_twice() {
    let mut queue = queue_of(2);
    for n in 1..=2 {
        queue.take(token(n), Receiver::Connection, Numbering::Session(&[]), at(1));
    }
    queue.entries.push(Entry { number: None, lock: None, sequence: 3, ..queue.entries[0].clone() });
    queue.last_number = u16::MAX;
    let taken = queue.take(token(3), Receiver::Connection, Numbering::Session(&[]), at(1));
    assert_eq!(taken.and_then(|taken| taken.entry.number), NonZeroU16::new(3), "neither 0, 1 nor 2");
}

#[test]
fn a_text_that_no_protocol_of_devices_carries_is_refused_and_named() {
    let text = |text: &str| PropertyValue::Text(text.into());
    let refused = |system: &[(SystemProperty, &str)], application: &[(&str, PropertyValue)]| {
        let submission = Submission {
            system: system.iter().map(|(property, value)| (*property, (*value).to_owned())).collect(),
            application: application
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            ..Submission::default()
        };
        submission.check_texts().map_err(|error| match error {
            NotEnqueued::Nul(name) => name,
            other => other.to_string(),
        })
    };
    assert_eq!(refused(&[(SystemProperty::MessageId, "m")], &[("a", text("b"))]), Ok(()));
    assert_eq!(refused(&[(SystemProperty::MessageId, "m\0")], &[]), Err("message-id".to_owned()));
    assert_eq!(refused(&[], &[("a", text("b\0"))]), Err("a".to_owned()));
    assert_eq!(refused(&[], &[("a\0b", PropertyValue::Null)]), Err("a␀b".to_owned()));
}
