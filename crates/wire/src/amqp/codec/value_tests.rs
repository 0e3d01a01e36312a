use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::amqp::codec::{DEPTH_MAX, DecodeError, Reader, ValueRef, Writer};

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = BytesMut::new();
    Writer::new(&mut out).value(value);
    out.to_vec()
}

fn decoded(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut r = Reader::new(bytes);
    let value = r.value()?.to_value()?;
    assert!(r.is_empty(), "{} bytes left", r.rest().len());
    Ok(value)
}

/// The value reads from these bytes, and they are what it writes; no prefix of them is a value.
fn check(bytes: &[u8], value: Value) {
    assert_eq!(decoded(bytes), Ok(value.clone()));
    assert_eq!(encoded(&value), bytes, "{value:?}");
    check_truncations(bytes);
}

fn check_truncations(bytes: &[u8]) {
    for end in 0..bytes.len() {
        let cut = Reader::new(&bytes[..end]).value().and_then(ValueRef::to_value);
        assert!(cut.is_err(), "{end} of {} bytes read as {cut:?}", bytes.len());
    }
}

#[test]
fn primitives_have_these_shortest_encodings() {
    check(b"\x40", Value::Null);
    check(b"\x41", Value::Bool(true));
    check(b"\x42", Value::Bool(false));
    check(b"\x50\x07", Value::Ubyte(7));
    check(b"\x60\x01\x00", Value::Ushort(256));
    check(b"\x43", Value::Uint(0));
    check(b"\x52\xff", Value::Uint(255));
    check(b"\x70\x00\x00\x01\x00", Value::Uint(256));
    check(b"\x44", Value::Ulong(0));
    check(b"\x53\x10", Value::Ulong(16));
    check(b"\x80\x00\x00\x46\x8c\x00\x00\x00\x04", Value::Ulong(77_567_109_365_764));
    check(b"\x51\xff", Value::Byte(-1));
    check(b"\x61\xff\xfe", Value::Short(-2));
    check(b"\x54\x80", Value::Int(-128));
    check(b"\x71\x00\x00\x00\xc8", Value::Int(200));
    check(b"\x55\x7f", Value::Long(127));
    check(b"\x81\xff\xff\xff\xff\xff\xff\xff\x7f", Value::Long(-129));
    check(b"\x72\x3f\x80\x00\x00", Value::Float(1.0));
    check(b"\x82\xbf\xf0\x00\x00\x00\x00\x00\x00", Value::Double(-1.0));
    check(b"\x74\x01\x02\x03\x04", Value::Decimal32([1, 2, 3, 4]));
    check(b"\x84\x01\x02\x03\x04\x05\x06\x07\x08", Value::Decimal64([1, 2, 3, 4, 5, 6, 7, 8]));
    check(&[&[0x94][..], &[9; 16]].concat(), Value::Decimal128([9; 16]));
    check(b"\x73\x00\x00\x20\xac", Value::Char('€'));
    check(b"\x83\x00\x00\x01\x8b\xcf\xe5\x68\x00", Value::Timestamp(1_700_000_000_000));
    check(&[&[0x98][..], &[7; 16]].concat(), Value::Uuid([7; 16]));
    check(b"\xa0\x02\x00\xff", Value::Binary(vec![0, 255]));
    check(b"\xa1\x03\xe2\x82\xac", "€".into());
    check(b"\xa3\x04$cbs", Value::Symbol(Symbol::from("$cbs")));
}

#[test]
fn long_values_take_the_wide_encodings() {
    let text = "x".repeat(256);
    check(&[b"\xb1\x00\x00\x01\x00", text.as_bytes()].concat(), Value::String(text.clone()));
    check(&[b"\xb3\x00\x00\x01\x00", text.as_bytes()].concat(), Value::Symbol(Symbol::from(&*text)));
    check(&[b"\xb0\x00\x00\x01\x00", text.as_bytes()].concat(), Value::Binary(text.into_bytes()));
    let list = Value::List(vec![Value::Null; 300]);
    check(&[&b"\xd0\x00\x00\x01\x30\x00\x00\x01\x2c"[..], &[0x40; 300]].concat(), list);
}

#[test]
fn wide_encodings_of_small_values_read_the_same() {
    assert_eq!(decoded(b"\x56\x01"), Ok(Value::Bool(true)));
    assert_eq!(decoded(b"\x70\x00\x00\x00\x05"), Ok(Value::Uint(5)));
    assert_eq!(decoded(b"\x80\x00\x00\x00\x00\x00\x00\x00\x05"), Ok(Value::Ulong(5)));
    assert_eq!(decoded(b"\xb1\x00\x00\x00\x01a"), Ok("a".into()));
    assert_eq!(decoded(b"\x45"), Ok(Value::List(vec![])));
    assert_eq!(decoded(b"\xd0\x00\x00\x00\x05\x00\x00\x00\x01\x40"), Ok(Value::List(vec![Value::Null])));
    assert_eq!(decoded(b"\xd1\x00\x00\x00\x06\x00\x00\x00\x02\x43\x44"), decoded(b"\xc1\x03\x02\x43\x44"));
}

#[test]
fn compound_values_nest() {
    let map = Value::Map(vec![("k".into(), Value::List(vec![Value::Int(1), Value::Null]))]);
    check(b"\xc1\x0a\x02\xa1\x01k\xc0\x04\x02\x54\x01\x40", map);
    let filter = Value::Described(Box::new(Described {
        descriptor: Value::Symbol(Symbol::from("f:string")),
        value: "x > 1".into(),
    }));
    assert_eq!(filter.undescribed().as_text(), Some("x > 1"));
    check(b"\x00\xa3\x08f:string\xa1\x05x > 1", filter);
}

#[test]
fn arrays_of_symbols_and_strings_use_the_wide_element() {
    let symbols = Array::of_symbols([Symbol::from_static("a"), Symbol::from_static("bc")]);
    check(b"\xe0\x0d\x02\xb3\x00\x00\x00\x01a\x00\x00\x00\x02bc", Value::Array(symbols));
    let strings = Array::of_strings(["0", "1"]);
    check(b"\xe0\x0c\x02\xb1\x00\x00\x00\x010\x00\x00\x00\x011", Value::Array(strings));
    assert_eq!(
        decoded(b"\xe0\x05\x02\xa3\x01a\x00"),
        Ok(Value::Array(Array::of_symbols([Symbol::from_static("a"), Symbol::from_static(""),])))
    );
    assert_eq!(decoded(b"\xe0\x02\x00\xa3"), Ok(Value::Array(Array::default())));
    assert_eq!(decoded(b"\xe0\x01\x00"), Ok(Value::Array(Array::default())));
}

#[test]
fn arrays_of_other_types_round_trip() {
    let described =
        |n| Value::Described(Box::new(Described { descriptor: Value::Ulong(9), value: Value::Int(n) }));
    for items in [
        vec![Value::Int(1), Value::Int(-70_000)],
        vec![Value::List(vec![Value::Null]), Value::List(vec![])],
        vec![Value::Map(vec![]), Value::Map(vec![("a".into(), Value::Bool(true))])],
        vec![Value::Array(Array::of_strings(["x"])), Value::Array(Array::default())],
        vec![described(1), described(2)],
    ] {
        let array = Value::Array(Array::new(items).unwrap());
        let bytes = encoded(&array);
        assert_eq!(decoded(&bytes), Ok(array));
        check_truncations(&bytes);
    }
    assert!(Array::new(vec![Value::Int(1), Value::Long(1)]).is_err());
}

#[test]
fn what_is_not_a_value_is_an_error() {
    assert_eq!(decoded(b""), Err(DecodeError::Truncated));
    assert_eq!(decoded(b"\x99"), Err(DecodeError::UnknownConstructor(0x99)));
    assert_eq!(decoded(b"\x56\x02"), Err(DecodeError::InvalidBoolean(2)));
    assert_eq!(decoded(b"\x73\x00\x00\xd8\x00"), Err(DecodeError::InvalidChar(0xd800)));
    assert_eq!(decoded(b"\xa1\x01\xff"), Err(DecodeError::NotUtf8));
    assert_eq!(decoded(b"\xa3\x02\xc3\xa9"), Err(DecodeError::NotAscii));
    assert_eq!(decoded(b"\xc1\x02\x01\x40"), Err(DecodeError::OddMap(1)));
    assert_eq!(decoded(b"\xc0\x03\x01\x40\x40"), Err(DecodeError::TrailingBytes(1)));
}

#[test]
fn counts_that_the_bytes_cannot_hold_are_refused_before_anything_is_made() {
    let list = decoded(b"\xd0\x00\x00\x00\x05\xff\xff\xff\xff\x40");
    assert_eq!(list, Err(DecodeError::CountTooLarge { count: u32::MAX, bytes: 1 }));
    let array = decoded(b"\xf0\x00\x00\x00\x06\xff\xff\xff\xff\x50\x01");
    assert_eq!(array, Err(DecodeError::CountTooLarge { count: u32::MAX, bytes: 1 }));
    let nulls = decoded(b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40");
    assert_eq!(nulls, Err(DecodeError::CountTooLarge { count: u32::MAX, bytes: 0 }));
}

#[test]
fn nesting_is_bounded() {
    let too_deep = Err(DecodeError::TooDeep { limit: DEPTH_MAX });
    assert_eq!(decoded(&[0; 100_000]), too_deep);
    let mut list = vec![0x45];
    for _ in 0..20 {
        list = [&[0xc0, list.len() as u8 + 1, 1], &list[..]].concat();
    }
    assert_eq!(decoded(&list), too_deep);
}

fn any_value() -> impl Strategy<Value = Value> {
    let symbol = "[ -~]{0,300}".prop_map(|text| Symbol::from(&*text));
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(Value::Ubyte),
        any::<u16>().prop_map(Value::Ushort),
        any::<u32>().prop_map(Value::Uint),
        any::<u64>().prop_map(Value::Ulong),
        any::<i8>().prop_map(Value::Byte),
        any::<i16>().prop_map(Value::Short),
        any::<i32>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::Long),
        any::<char>().prop_map(Value::Char),
        any::<i64>().prop_map(Value::Timestamp),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        any::<Vec<u8>>().prop_map(Value::Binary),
        any::<String>().prop_map(Value::String),
        symbol.prop_map(Value::Symbol),
        proptest::collection::vec(any::<i64>().prop_map(Value::Long), 0..40)
            .prop_map(|items| Value::Array(Array::new(items).unwrap())),
    ];
    leaf.prop_recursive(4, 64, 12, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..12).prop_map(Value::List),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..6).prop_map(Value::Map),
            (any::<u64>(), inner).prop_map(|(code, value)| {
                Value::Described(Box::new(Described { descriptor: Value::Ulong(code), value }))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_reads_back_as_it_was_written(value in any_value()) {
        let bytes = encoded(&value);
        prop_assert_eq!(decoded(&bytes), Ok(value.clone()));
        // Passing over a value ends where reading it ends.
        prop_assert_eq!(Reader::new(&bytes).skip(), Ok(&bytes[..]));
        // Borrowed, it writes what reads the same.
        let mut out = BytesMut::new();
        Writer::new(&mut out).value_ref(Reader::new(&bytes).value().unwrap());
        prop_assert_eq!(decoded(&out), Ok(value));
    }

    #[test]
    fn any_bytes_read_or_fail(bytes: Vec<u8>) {
        let _ = Reader::new(&bytes).value().and_then(ValueRef::to_value);
    }
}
