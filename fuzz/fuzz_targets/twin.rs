//! Any JSON as a change of a twin, by its device and by a service, and as a call of a method: what is taken is within the
//! limits, reads back from disk as it was written, and can be sent back without a change of what it says.
#![no_main]

use hub::json;
use hub::method::MethodCall;
use hub::record::{Kind, Record};
use hub::twin::{How, Twin, TwinEdit};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let _ = MethodCall::parse(bytes);
    let Ok(Value::Object(members)) = json::read(bytes) else { return };
    let now = Timestamp::UNIX_EPOCH;
    let mut twin = Twin::new("1", now);
    if let Ok(reported) = twin.reported(&members, None, now) {
        assert_eq!(reported.reported.version, 2);
        twin = reported;
    }
    for how in [How::Merge, How::Replace] {
        let Ok(edit) = TwinEdit::of(&members) else { break };
        if let Ok(edited) = twin.edited(&edit, how, None, now) {
            twin = edited.twin;
        }
    }
    let record = Record::Twin(Box::new(twin.clone()));
    let text = serde_json::to_string(&record).expect("a record is written");
    assert_eq!(Record::from_json(Kind::Twin, &text).expect("a record is read"), record);
    let again = twin.reported(&twin.reported.properties, None, now).expect("what was taken is taken again");
    assert_eq!(again.reported.properties, twin.reported.properties);
});
