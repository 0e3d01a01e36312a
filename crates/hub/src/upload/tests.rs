use jiff::Timestamp;
use zeroize::Zeroizing;

use super::*;
use crate::ports::secrets::{Fingerprint, SecretError, Secrets};
use crate::record::{Key, Kind, Record};

/// Signs as the key ring does: by HMAC, with a key for each purpose.
struct Signer(&'static [u8]);

impl Secrets for Signer {
    fn seal(&self, place: &str, _plain: &[u8]) -> Result<Vec<u8>, SecretError> {
        Err(SecretError::NotSealed { place: place.to_owned() })
    }

    fn open(&self, place: &str, _sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        Err(SecretError::DoesNotOpen { place: place.to_owned() })
    }

    fn fingerprint(&self, _plain: &[u8]) -> Fingerprint {
        Fingerprint([0; 16])
    }

    fn sign(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, self.0);
        let text = [purpose.as_bytes(), b"\n", message].concat();
        aws_lc_rs::hmac::sign(&key, &text).as_ref().try_into().expect("32 bytes")
    }
}

fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).expect("an id")
}

fn name(text: &str) -> BlobName {
    BlobName::parse(text).expect("a name")
}

fn link() -> Link {
    Link {
        device: device("d1"),
        name: name("logs/a b.txt"),
        upload: UploadId("1f".to_owned()),
        ends: Timestamp::from_second(1_900_000_000).expect("a time"),
    }
}

/// The parameters of a query as a front decodes them.
fn parameters(query: &str) -> Vec<(String, String)> {
    let query = query.strip_prefix('?').expect("a question mark");
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').expect("a value");
        (name.to_owned(), value.replace("%3A", ":"))
    };
    query.split('&').map(pair).collect()
}

fn read(device: &DeviceId, name: &BlobName, parameters: &[(String, String)], key: &'static [u8]) -> bool {
    let value =
        |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let text = LinkText {
        upload: value("si"),
        ends: value("se"),
        permissions: value("sp"),
        signature: value("sig"),
    };
    Link::read(device.clone(), name.clone(), text, &Signer(key)).is_ok_and(|read| read == link())
}

#[test]
fn a_link_opens_its_own_file_in_any_order_of_its_parameters_and_nothing_else() {
    let mut parameters = parameters(&link().query(&Signer(b"key")));
    assert!(read(&link().device, &link().name, &parameters, b"key"));
    parameters.reverse();
    assert!(read(&link().device, &link().name, &parameters, b"key"));
    assert!(!read(&device("d2"), &link().name, &parameters, b"key"));
    assert!(!read(&link().device, &name("logs/a c.txt"), &parameters, b"key"));
    assert!(!read(&link().device, &link().name, &parameters, b"another key"));
    for at in 0..parameters.len() {
        if ["sv", "sr"].contains(&parameters[at].0.as_str()) {
            continue;
        }
        let mut changed = parameters.clone();
        changed[at].1 = match changed[at].0.as_str() {
            "se" => "2031-01-01T00:00:00Z".to_owned(),
            "sp" => "rcw".to_owned(),
            "sig" => "0".repeat(64),
            _ => "2f".to_owned(),
        };
        assert!(!read(&link().device, &link().name, &changed, b"key"), "{:?}", changed[at]);
        changed.remove(at);
        assert!(!read(&link().device, &link().name, &changed, b"key"), "without {:?}", parameters[at]);
    }
}

#[test]
fn the_values_of_a_link_stand_encoded_in_its_query() {
    let query = link().query(&Signer(b"key"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "?&=%-".contains(c);
    assert!(query.chars().all(plain), "{query}");
    assert!(query.contains("se=2030-03-17T17%3A46%3A40Z&sp=cw"), "{query}");
}

#[test]
fn names_that_lead_out_of_a_folder_or_to_none_are_refused() {
    for good in ["a", "a b", "ü.txt", "x?y", "x%2Fy", "logs/2026/a.txt", "...", &"n".repeat(1_024)] {
        assert!(BlobName::parse(good).is_ok(), "{good}");
    }
    let long = "n".repeat(1_025);
    for bad in ["", "/a", "a/", "a//b", "../x", "a/../b", "a/.", ".", "a\\b", "a\nb", "a\u{7f}", &long] {
        assert!(BlobName::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn keys_of_uploads_are_read_from_their_parts_and_duties_sort_by_time() {
    let duty = |time| {
        let upload = UploadId("1f".to_owned());
        Key::Duty(Box::new(Duty { time, device: device("d1"), upload }))
    };
    let keys =
        [duty(99), duty(100), Key::Uploads(device("d1")), Key::Blob(device("d1"), name("a b/c?d.txt"))];
    for key in &keys {
        let (owner, name) = key.parts();
        assert_eq!(Key::from_parts(key.kind(), owner, &name).as_ref(), Some(key));
    }
    assert!(duty(99).parts() < duty(100).parts());
}

#[test]
fn records_are_read_as_they_were_written() {
    let ends = link().ends;
    let upload = Upload { id: UploadId("1f".to_owned()), name: name("a"), ends, round: 2, elsewhere: None };
    let part = Part { name: block_part("AAAA+/=="), bytes: 9 };
    let blob = Blob { upload: upload.id.clone(), round: 1, parts: vec![part], modified: ends };
    let records = [
        (
            Kind::Uploads,
            Record::Uploads(Box::new(Uploads { generation: "1".to_owned(), open: vec![upload] })),
        ),
        (Kind::Blob, Record::Blob(Box::new(blob))),
        (Kind::Duty, Record::Duty(DutyFacts { name: name("a") })),
    ];
    for (kind, record) in records {
        let text = serde_json::to_string(&record).expect("text");
        assert_eq!(Record::from_json(kind, &text).expect(&text), record);
    }
}

#[test]
fn blocks_of_different_ids_never_share_a_part() {
    let ids = ["", "a", "A", "a ", " a", "AAAA+/==", "AAAA-_==", "     0"];
    let parts: std::collections::BTreeSet<_> = ids.iter().map(|id| block_part(id)).collect();
    assert_eq!(parts.len(), ids.len());
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let longest = block_part(&"~".repeat(BLOCK_ID_BYTES_MAX));
    assert!(longest.0.len() <= 130 && longest.0.chars().all(legal), "{longest:?}");
}
