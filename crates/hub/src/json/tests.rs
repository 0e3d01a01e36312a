use serde_json::json;

use super::*;

const THING: Shape = Shape::Members(&[
    ("name", Shape::Free),
    ("parts", Shape::List(&Shape::Members(&[("size", Shape::Free), ("tags", Shape::Free)]))),
]);

fn problem(text: &str) -> String {
    read(text.as_bytes()).expect_err(text).to_string()
}

fn body(text: &str) -> Result<Value, WrongJson> {
    read_body(text.as_bytes(), &THING)
}

#[test]
fn a_number_that_would_be_changed_is_refused_with_its_path() {
    for (text, start) in [
        (r#"{"a":{"n":18446744073709551616}}"#, "`a.n` is 18446744073709551616, a whole number lies"),
        (r#"{"n":-9223372036854775809}"#, "`n` is -9223372036854775809, a whole number"),
        (r#"{"a":[0,{"b":[1e400]}]}"#, "`a.b` is 1e400, a number lies"),
        (r#"{"a":-1e999 }"#, "`a` is -1e999, a number"),
        (r#"{"a":1e-400}"#, "`a` is 1e-400, a number"),
        (r#"{"a\"b":{"ü":123456789012345678901234567890}}"#, "`a\"b.ü` is 12345"),
    ] {
        assert!(problem(text).starts_with(start), "{text}: {}", problem(text));
    }
    let long = format!("[{}]", "9".repeat(100_000));
    assert!(problem(&long).len() < 1_000);
}

#[test]
fn every_other_number_is_what_it_was() {
    for number in [
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "1.5",
        "1e300",
        "23.299999237060547",
        "0.10000000000000001",
        "0e0",
        "0.000",
        "-0.0",
        "5e-324",
    ] {
        let text = format!(r#"{{"n":{number}}}"#);
        let value = read(text.as_bytes()).expect(number);
        let same = match number.parse::<i128>() {
            Ok(whole) => {
                value["n"].as_i64().map(i128::from).or(value["n"].as_u64().map(i128::from)) == Some(whole)
            }
            Err(_) => value["n"].as_f64() == number.parse().ok(),
        };
        assert!(same, "{number} became {}", value["n"]);
    }
    assert_eq!(
        read(r#"{"t":"1e400 \" 99999999999999999999"}"#.as_bytes()).expect("a text")["t"]
            .as_str()
            .map(str::len),
        Some(28)
    );
}

#[test]
fn what_is_no_json_is_said_by_the_parser() {
    let deep = "[".repeat(100_000);
    for text in ["", "{", r#"{"a""#, r#"{"a\"#, "-", "1-2", "01", "[1.]", r#"{"a":1e}"#, "nul", deep.as_str()]
    {
        assert!(matches!(read(text.as_bytes()), Err(WrongJson::Syntax(_))), "{}", cut(text));
    }
    assert_eq!(read(b"\xef\xbb\xbf{}"), Ok(json!({})));
}

#[test]
fn names_are_read_without_case_and_written_as_they_are_known() {
    let read = body(r#"{"NAME":"x","Parts":[{"Size":1,"tAgs":{"Free":1,"free":2}}]}"#).expect("a body");
    assert_eq!(read, json!({"name": "x", "parts": [{"size": 1, "tags": {"Free": 1, "free": 2}}]}));
    assert_eq!(body("[1]"), Ok(json!([1])), "types are judged by whoever reads");
}

#[test]
fn a_member_that_is_unknown_or_comes_twice_is_named() {
    let problem = |text: &str| body(text).expect_err(text).to_string();
    assert_eq!(problem(r#"{"nam":1}"#), "`nam` is no member that is read here; those are name, parts");
    assert_eq!(
        problem(r#"{"parts":[{"width":1}]}"#),
        "`parts.width` is no member that is read here; those are size, tags"
    );
    assert_eq!(problem(r#"{"name":1,"Name":2}"#), "`name` comes twice");
    assert_eq!(problem(r#"{"name":1,"name":2}"#), "`name` comes twice");
    assert_eq!(problem(r#"{"parts":[{"tags":{"a":{"b":1,"b":2}}}]}"#), "`parts.tags.a.b` comes twice");
    assert_eq!(read(br#"{"a":1,"a":2}"#), Ok(json!({"a": 2})), "a free document is read as Azure reads it");
}

#[test]
fn members_keep_the_text_that_they_had() {
    let known = &["name", "payload"];
    let members = members_of(br#"{"Payload": 1.10e+2 ,"name":null}"#, known).expect("members");
    let texts: Vec<_> = members.iter().map(|(name, value)| (*name, value.get())).collect();
    assert_eq!(texts, [("payload", "1.10e+2"), ("name", "null")]);
    for (text, problem) in [
        (r#"{"name":1,"NAME":1}"#, "`name` comes twice"),
        (r#"{"x":1}"#, "`x` is no member that is read here; those are name, payload"),
    ] {
        assert_eq!(members_of(text.as_bytes(), known).expect_err(text).to_string(), problem);
    }
}
