use super::*;
use crate::registry::IfMatch;

fn members(value: Value) -> Members {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).expect("a time")
}

fn new_twin() -> Twin {
    Twin::new("1", at(0))
}

fn edit(document: Value) -> TwinEdit {
    TwinEdit::of(&members(document)).expect("a document")
}

/// The twin after merging these documents in turn, a second apart.
fn merged(documents: impl IntoIterator<Item = Value>) -> Twin {
    documents.into_iter().zip(1..).fold(new_twin(), |twin, (document, second)| {
        twin.edited(&edit(document), How::Merge, None, at(second)).expect("a legal change").twin
    })
}

fn desired_after(documents: impl IntoIterator<Item = Value>) -> Value {
    Value::Object(
        merged(documents.into_iter().map(|desired| json!({"properties": {"desired": desired}})))
            .desired
            .properties,
    )
}

fn report(twin: &Twin, patch: Value) -> Result<Twin, TwinError> {
    twin.reported(&members(patch), None, at(1))
}

fn problem(patch: Value) -> String {
    report(&new_twin(), patch).expect_err("an illegal patch").to_string()
}

#[test]
fn a_new_twin_looks_as_azures() {
    let twin = new_twin();
    assert_eq!((twin.etag().as_str(), twin.version), ("AAAAAAAAAAE=", 2));
    let empty = json!({"$metadata": {"$lastUpdated": "2030-03-17T17:46:40.0000000Z"}, "$version": 1});
    assert_eq!([twin.desired.to_json(), twin.reported.to_json()], [empty.clone(), empty]);
}

#[test]
fn a_patch_is_merged_by_rfc_7386() {
    let cases = [
        (vec![json!({"a": 1}), json!({"b": {"c": 2}})], json!({"a": 1, "b": {"c": 2}})),
        (vec![json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}})], json!({"a": {"c": 2}})),
        (vec![json!({"a": 1}), json!({"a": {"b": 1}})], json!({"a": {"b": 1}})),
        (vec![json!({"a": {"b": 1}}), json!({"a": 1})], json!({"a": 1})),
        (vec![json!({"a": {"b": 1}}), json!({"a": {}})], json!({"a": {"b": 1}})),
        (vec![json!({"a": {}})], json!({"a": {}})),
        (vec![json!({"a": {"b": null, "c": {"d": null}}})], json!({"a": {"c": {}}})),
        (vec![json!({"gone": null})], json!({})),
        (vec![json!({"a": [1, 2]}), json!({"a": [{"b": 3}]})], json!({"a": [{"b": 3}]})),
    ];
    for (patches, result) in cases {
        assert_eq!(desired_after(patches.clone()), result, "{patches:?}");
    }
}

#[test]
fn metadata_follows_what_was_touched_and_what_is_around_it() {
    let twin = merged([
        json!({"properties": {"desired": {"rate": 5, "net": {"mtu": 1400, "ip": "x"}, "list": [{"a": 1}]}}}),
        json!({"properties": {"desired": {"net": {"mtu": 1500}, "rate": null}}}),
    ]);
    let (first, second) = (
        json!({"$lastUpdated": "2030-03-17T17:46:41.0000000Z", "$lastUpdatedVersion": 2}),
        json!({"$lastUpdated": "2030-03-17T17:46:42.0000000Z", "$lastUpdatedVersion": 3}),
    );
    let mut net = second.clone();
    net["mtu"] = second.clone();
    net["ip"] = first.clone();
    let mut all = second;
    all["net"] = net;
    all["list"] = first;
    assert_eq!(Value::Object(twin.desired.metadata), all);
    assert_eq!(twin.desired.version, 3);
}

#[test]
fn metadata_of_reported_properties_has_no_versions() {
    let twin = report(&new_twin(), json!({"rate": {"a": 5}})).expect("legal");
    let time = json!("2030-03-17T17:46:41.0000000Z");
    let expected = json!({"$lastUpdated": time, "rate": {"$lastUpdated": time, "a": {"$lastUpdated": time}}});
    assert_eq!(Value::Object(twin.reported.metadata), expected);
}

#[test]
fn every_change_of_a_section_counts_even_one_that_changes_nothing() {
    let twin = merged([
        json!({"properties": {"desired": {}}}),
        json!({"tags": {"site": "north"}}),
        json!({"properties": {"desired": {"a": 1}}}),
    ]);
    assert_eq!((twin.desired.version, twin.reported.version, twin.version, twin.etag), (3, 1, 5, 4));
    let twin = report(&twin, json!({})).expect("legal");
    assert_eq!((twin.desired.version, twin.reported.version, twin.version, twin.etag), (3, 2, 6, 4));
}

#[test]
fn a_replacement_replaces_the_parts_that_it_names() {
    let before = merged([json!({"tags": {"site": "north"}, "properties": {"desired": {"a": 1, "b": 2}}})]);
    let replace = edit(json!({"properties": {"desired": {"b": 3, "c": null}}}));
    let after = before.edited(&replace, How::Replace, None, at(9)).expect("legal");
    assert_eq!(Value::Object(after.twin.desired.properties), json!({"b": 3}));
    assert_eq!(Value::Object(after.twin.tags), json!({"site": "north"}));
    assert_eq!(Value::Object(after.told.expect("told")), json!({"b": 3, "$version": 3}));
}

#[test]
fn a_part_is_cleared_by_null_and_the_device_is_told_what_went() {
    let before = merged([json!({"tags": {"site": "north"}, "properties": {"desired": {"a": 1, "b": 2}}})]);
    let clear = edit(json!({"tags": null, "properties": {"desired": null}}));
    let after = before.edited(&clear, How::Merge, None, at(9)).expect("legal");
    assert!(after.twin.desired.properties.is_empty() && after.twin.tags.is_empty());
    assert_eq!(after.twin.desired.version, 3);
    assert_eq!(Value::Object(after.told.expect("told")), json!({"a": null, "b": null, "$version": 3}));
}

#[test]
fn what_a_client_was_sent_is_passed_over_when_it_sends_it_back() {
    let twin = merged([json!({
        "deviceId": "d", "etag": "x", "version": 77, "status": "disabled",
        "properties": {"desired": {"a": 1, "$metadata": {"a": {}}, "$version": 9}, "reported": {"b": 1}},
    })]);
    assert_eq!(Value::Object(twin.desired.properties), json!({"a": 1}));
    assert!(twin.reported.properties.is_empty());
    assert_eq!(twin.desired.version, 2);
}

#[test]
fn an_etag_admits_one_change() {
    let twin = merged([json!({"tags": {"a": 1}})]);
    let change =
        |etag: &IfMatch| twin.edited(&edit(json!({"tags": {"b": 1}})), How::Merge, Some(etag), at(5));
    assert!(change(&IfMatch::Etag(twin.etag())).is_ok());
    assert!(change(&IfMatch::Any).is_ok());
    assert_eq!(change(&IfMatch::Etag("AAAAAAAAAAE=".into())), Err(TwinError::OtherEtag));
    assert_eq!(change(&IfMatch::Etag(String::new())), Err(TwinError::OtherEtag));
}

#[test]
fn a_report_may_name_the_version_that_it_follows() {
    let twin = new_twin();
    let patch = members(json!({"a": 1}));
    assert!(twin.reported(&patch, Some(1), at(1)).is_ok());
    let stale = twin.reported(&patch, Some(3), at(1));
    assert_eq!(stale, Err(TwinError::OtherVersion { wanted: 3, current: 1 }));
}

#[test]
fn keys_and_values_are_held_to_their_limits() {
    let reason = |patch: Value| problem(patch);
    assert!(reason(json!({"a.b": 1})).starts_with("`properties.reported.a.b` has '.' in its key"));
    assert!(reason(json!({"x": {"$b": 1}})).starts_with("`properties.reported.x.$b` has '$' in its key"));
    assert!(reason(json!({"a b": 1})).contains("' '"));
    assert!(reason(json!({"a\u{85}b": 1})).contains("key"));
    assert!(reason(json!({"": 1})).contains("empty key"));
    assert!(reason(json!({"x": [{"a.b": 1}]})).contains("'.'"), "keys inside arrays count too");
    assert!(reason(json!({"k".repeat(1025): 1})).ends_with("has a key of 1025 bytes, the limit is 1024"));
    assert!(reason(json!({"a": "x".repeat(4097)})).ends_with("is a text of 4097 bytes, the limit is 4096"));
    assert!(reason(json!({"a": 4_503_599_627_370_496_i64})).contains("is 4503599627370496, an integer lies"));
    assert!(reason(json!({"a": u64::MAX})).contains("integer"));
    assert!(reason(json!({"a": i64::MAX})).contains("integer"));
    for in_array in [json!([null]), json!([1, [null]]), json!([{"b": null}]), json!([{"b": {"c": null}}])] {
        assert_eq!(
            reason(json!({"x": {"a": in_array}})).split(" has ").nth(1),
            Some("null in an array, a value in an array cannot be null"),
        );
    }
    for legal in [
        json!({"k".repeat(1024): "é".repeat(2048)}),
        json!({"a": -4_503_599_627_370_496_i64, "b": 4_503_599_627_370_495_i64, "c": 1e300, "d": true}),
        json!({"__t": "c", "ä/ö": [[], {}]}),
    ] {
        assert!(report(&new_twin(), legal.clone()).is_ok(), "{legal}");
    }
}

#[test]
fn ten_objects_or_arrays_lie_in_each_other_and_no_more() {
    let objects = |count: usize| (0..count).fold(json!(1), |inner, _| json!({"a": inner}));
    let arrays = |count: usize| (0..count).fold(json!(1), |inner, _| json!([inner]));
    assert!(report(&new_twin(), json!({"a": objects(10)})).is_ok());
    assert!(
        problem(json!({"a": objects(11)})).ends_with("lies deeper than 10 objects and arrays in each other")
    );
    assert!(report(&new_twin(), json!({"a": arrays(10)})).is_ok());
    // The parser of records has a limit of its own: what it could not read back must not be taken.
    assert!(problem(json!({"a": arrays(120)})).contains("deeper"));
}

#[test]
fn the_size_is_that_of_the_part_after_the_change() {
    let fill =
        |count: usize| (0..count).map(|n| (format!("k{n}"), json!("x".repeat(4000)))).collect::<Members>();
    let twin = report(&new_twin(), Value::Object(fill(8))).expect("32,016 bytes");
    let error = report(&twin, json!({"k8": "x".repeat(800)})).expect_err("too large");
    assert_eq!(error, TwinError::TooLarge { part: Part::Reported, bytes: 32_016 + 802 });
    assert!(report(&twin, json!({"k0": null, "k8": "x".repeat(800)})).is_ok(), "what goes makes room");
    let tags = edit(json!({"tags": fill(3)}));
    let error = new_twin().edited(&tags, How::Merge, None, at(1)).expect_err("too large");
    assert_eq!(error.to_string(), "`tags` would be 12006 bytes large, the limit is 8192");
    // Numbers are 8 bytes, Booleans 4, control characters none (`docs/protocol/limits.md` §1.2).
    assert_eq!(
        super::content::bytes_of(&members(
            json!({"ab": 1.5, "c": true, "d": [1, "x\u{1}y"], "e": {"f": null}})
        )),
        28
    );
}

#[test]
fn a_part_that_is_no_object_is_refused() {
    for document in [json!({"tags": 1}), json!({"properties": {"desired": []}})] {
        let error = TwinEdit::of(&members(document)).expect_err("no object");
        assert!(error.to_string().ends_with("must be a JSON object, or null to clear it"), "{error}");
    }
    let error = TwinEdit::of(&members(json!({"properties": [1]}))).expect_err("no object");
    assert_eq!(error, TwinError::PropertiesNotAnObject);
}

#[test]
fn the_device_sees_both_sections_and_nothing_else() {
    let twin = merged([json!({"tags": {"site": "north"}, "properties": {"desired": {"a": 1}}})]);
    let shown = json!({"desired": {"a": 1, "$version": 2}, "reported": {"$version": 1}});
    assert_eq!(twin.for_device(), shown);
}

#[test]
fn a_twin_reads_back_as_it_was_written() {
    let twin =
        merged([json!({"tags": {"b": 1, "a": [1.5, true]}, "properties": {"desired": {"z": {"y": "x"}}}})]);
    let text = serde_json::to_string(&crate::record::Record::Twin(Box::new(twin.clone()))).expect("written");
    let read = crate::record::Record::from_json(crate::record::Kind::Twin, &text).expect("read");
    assert_eq!(read, crate::record::Record::Twin(Box::new(twin)));
}
