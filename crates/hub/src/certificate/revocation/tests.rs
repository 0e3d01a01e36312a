use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rcgen::KeyUsagePurpose::{self, CrlSign, DigitalSignature, KeyCertSign};

use super::fault::RevocationFault as Fault;
use super::fit::{LIST_BYTES_MAX, LISTS_MAX};
use super::*;
use crate::certificate::Chain;
use crate::certificate::made::MadeAuthority;

const SIGNERS: &[KeyUsagePurpose] = &[KeyCertSign, CrlSign];

#[test]
fn a_good_list_revokes_whom_it_names_and_nobody_else() {
    let (made, mut authority) = plant();
    let leaf = |serial| Chain::new(vec![made.issue("d1", serial)]).expect("a chain");
    let cause = |authority: &Authority, serial| {
        let authorities = [authority.clone()];
        let led = leaf(serial).leads_to(&authorities, "d1", now());
        led.map_or_else(|refusal| refusal.cause(), |_| "admitted")
    };
    assert_eq!(cause(&authority, 5), "admitted");
    authority.revocation_lists = set(&List::of(&made).with_entry(5, &[]), &made, &authority).expect("taken");
    assert_eq!((cause(&authority, 5), cause(&authority, 6)), ("certificate-revoked", "admitted"));
    // One for which a newer one is due counts on.
    let year_later = Timestamp::from_second(NOW + 365 * 86_400).expect("a time");
    let led = leaf(5).leads_to(std::slice::from_ref(&authority), "d1", year_later).map(|_| ());
    assert_eq!(led.expect_err("revoked").cause(), "certificate-revoked");
    assert!(revocation_facts(&authority)[0].is_stale(year_later));
}

#[test]
fn what_is_no_list_or_more_than_one_is_refused() {
    let (made, authority) = plant();
    let good = List::of(&made).signed(&made);
    let longer = [good.as_slice(), b"\n"].concat();
    for der in [&b""[..], b"no list", made.der(), &good[..good.len() - 1], &longer] {
        let fault = with_list(der, &authority, &[], now()).expect_err("no list");
        assert!(matches!(fault, Fault::Unreadable { .. }), "{fault}");
    }
}

#[test]
fn a_list_of_another_name_or_key_is_refused_and_says_whose_it_is() {
    let (made, authority) = plant();
    let other = MadeAuthority::new("other", SIGNERS);
    let fault = refused(&List::of(&other), &other, &authority);
    assert_eq!(fault, Fault::OtherIssuer { issuer: "CN=other".into(), authority: "CN=plant".into() });
    let of_that_name = MadeAuthority::new("plant", SIGNERS);
    let list = List::of(&made).signed(&of_that_name);
    let hint = |others: &[Authority]| with_list(&list, &authority, others, now()).expect_err("another key");
    assert_eq!(hint(std::slice::from_ref(&authority)), Fault::OtherKey { signer: None });
    let signer = Some("plant-2".to_owned());
    assert_eq!(hint(&[authority.clone(), of_that_name.record("plant-2")]), Fault::OtherKey { signer });
    let mut changed = List::of(&made).signed(&made);
    let place = changed.len() / 3;
    changed[place] ^= 1;
    assert!(with_list(&changed, &authority, &[], now()).is_err(), "a bit of it was changed");
}

#[test]
fn two_authorities_of_one_name_have_the_lists_of_their_own_keys() {
    let (one, mut first) = plant();
    let two = MadeAuthority::new("plant", SIGNERS);
    let second = two.record("plant-2");
    first.revocation_lists = set(&List::of(&one).with_entry(5, &[]), &one, &first).expect("taken");
    let authorities = [first, second];
    let cause = |of: &MadeAuthority| {
        let chain = Chain::new(vec![of.issue("d1", 5)]).expect("a chain");
        chain.leads_to(&authorities, "d1", now()).map_or_else(|refusal| refusal.cause(), |_| "admitted")
    };
    assert_eq!((cause(&one), cause(&two)), ("certificate-revoked", "admitted"));
    // The same key in another certificate is the same authority.
    let renewed = one.renewed();
    let authorities = [authorities[0].clone(), renewed.record("renewed")];
    let chain = Chain::new(vec![renewed.issue("d1", 5)]).expect("a chain");
    assert!(chain.leads_to(&authorities, "d1", now()).is_err());
}

#[test]
fn a_signature_or_key_usage_that_proves_nothing_is_refused() {
    let (made, authority) = plant();
    let weak = List { algorithm: ECDSA_SHA1, ..List::of(&made) };
    let algorithm = "ecdsa-with-SHA1".to_owned();
    assert_eq!(refused(&weak, &made, &authority), Fault::WeakSignature { algorithm });
    for (usages, taken) in [(&[KeyCertSign, DigitalSignature][..], false), (&[], true), (SIGNERS, true)] {
        let made = MadeAuthority::new("plant", usages);
        let done = set(&List::of(&made), &made, &made.record("plant"));
        assert_eq!(done.map(|_| ()), if taken { Ok(()) } else { Err(Fault::MayNotSign) });
    }
}

#[test]
fn a_list_is_taken_from_its_time_on_until_the_next_is_due() {
    let (made, authority) = plant();
    let at = |this_update: i64, next_update: Option<i64>| {
        let list = List {
            this_update: NOW + this_update,
            next_update: next_update.map(|at| NOW + at),
            ..List::of(&made)
        };
        set(&list, &made, &authority).map(|_| ())
    };
    let time = |second: i64| Timestamp::from_second(NOW + second).expect("a time");
    assert_eq!(at(300, Some(600)), Ok(()));
    assert_eq!(at(301, Some(600)), Err(Fault::NotYet { this_update: time(301), now: now() }));
    assert_eq!(at(-600, Some(0)), Ok(()));
    assert_eq!(at(-600, Some(-1)), Err(Fault::Ended { next_update: time(-1), now: now() }));
    assert_eq!(at(-600, None), Err(Fault::NoEnd));
}

#[test]
fn what_a_list_says_that_is_not_understood_is_refused() {
    let (made, authority) = plant();
    let fault_of = |list: List| refused(&list, &made, &authority);
    assert_eq!(fault_of(List { version: None, extensions: Vec::new(), ..List::of(&made) }), Fault::Version);
    assert_eq!(fault_of(List::of(&made).with(DELTA, true, &integer(1))), Fault::Delta);
    assert_eq!(fault_of(List::of(&made).with(DELTA, false, &integer(1))), Fault::Delta);
    let of_unknown = || Fault::CriticalExtension { oid: "1.2.3".to_owned() };
    assert_eq!(fault_of(List::of(&made).with(UNKNOWN, true, &integer(1))), of_unknown());
    assert!(set(&List::of(&made).with(UNKNOWN, false, &integer(1)), &made, &authority).is_ok());
    let (indirect, attributes) = (flag(4), flag(5));
    assert_eq!(fault_of(List::of(&made).with(POINT, true, &sequence(&[&indirect]))), Fault::Indirect);
    assert_eq!(fault_of(List::of(&made).with(POINT, true, &sequence(&[&attributes]))), Fault::AttributesOnly);
    let unread = fault_of(List::of(&made).with(POINT, true, b"no sequence"));
    assert!(matches!(unread, Fault::Unreadable { .. }), "{unread}");
    let twice = fault_of(List::of(&made).with(NUMBER, false, &integer(2)));
    assert!(matches!(twice, Fault::Unreadable { .. }), "{twice}");
}

#[test]
fn entries_that_are_not_understood_are_refused() {
    let (made, authority) = plant();
    let with = |oid: &[u8], critical, value: &[u8]| {
        let list = List::of(&made).with_entry(5, &[extension(oid, critical, value)]);
        set(&list, &made, &authority).map(|_| ())
    };
    let (reason, issuer) = (tlv(0x0A, &[1]), sequence(&[]));
    assert_eq!(with(REASON, true, &reason), Ok(()));
    assert_eq!(with(CERTIFICATE_ISSUER, true, &issuer), Err(Fault::Indirect));
    assert_eq!(with(UNKNOWN, false, &reason), Ok(()));
    let fault = Fault::CriticalEntryExtension { serial: "05".to_owned(), oid: "1.2.3".to_owned() };
    assert_eq!(with(UNKNOWN, true, &reason), Err(fault));
}

#[test]
fn a_list_is_replaced_by_a_newer_one_alone() {
    let (made, mut authority) = plant();
    authority.revocation_lists = set(&List::of(&made).numbered(7), &made, &authority).expect("taken");
    let scope = || "all certificates".to_owned();
    let older = |presented: &str, standing: &str| {
        Err(Fault::Older { scope: scope(), presented: presented.to_owned(), standing: standing.to_owned() })
    };
    let done = |list: List| set(&list, &made, &authority).map(|lists| lists.len());
    assert_eq!(done(List::of(&made).numbered(6)), older("cRLNumber 6", "cRLNumber 7"));
    assert_eq!(done(List::of(&made).numbered(7)), Ok(1), "the same one again");
    let earlier = |number| List { this_update: NOW - 7_200, ..List::of(&made).numbered(number) };
    assert!(matches!(done(earlier(7)), Err(Fault::Older { .. })));
    assert_eq!(done(earlier(8)), Ok(1));
    let unnumbered = List { extensions: Vec::new(), ..List::of(&made) };
    assert_eq!(done(unnumbered), Err(Fault::NoNumber { scope: scope(), standing: "7".to_owned() }));
    // Numbers are longer than machine words (RFC 5280 §5.2.3).
    let long = [&[0x7F_u8][..], &[0xFF; 19]].concat();
    let long = List { extensions: vec![extension(NUMBER, false, &tlv(2, &long))], ..List::of(&made) };
    assert_eq!(done(long), Ok(1));
    // What counts for nothing holds up no good list.
    let foreign = List::of(&made).numbered(99).signed(&MadeAuthority::new("plant", SIGNERS));
    let unseen = Authority { revocation_lists: vec![STANDARD.encode(foreign)], ..authority.clone() };
    assert!(!revocation_facts(&unseen)[0].counts);
    assert_eq!(set(&List::of(&made), &made, &unseen).map(|lists| lists.len()), Ok(1));
}

#[test]
fn lists_of_several_distribution_points_stand_beside_each_other() {
    let (made, mut authority) = plant();
    let place = |number: usize| format!("http://ca.example/{number}.crl");
    for number in 0..LISTS_MAX {
        let list = List::of(&made).at(&place(number)).with_entry(number as u8 + 1, &[]);
        authority.revocation_lists = set(&list, &made, &authority).expect("taken");
    }
    let chain = Chain::new(vec![made.issue("d1", 2)]).expect("a chain");
    assert!(chain.leads_to(std::slice::from_ref(&authority), "d1", now()).is_err());
    assert_eq!(refused(&List::of(&made), &made, &authority), Fault::TooMany { limit: LISTS_MAX });
    let again = set(&List::of(&made).at(&place(1)).numbered(2), &made, &authority).expect("taken");
    authority.revocation_lists = again;
    let facts = revocation_facts(&authority);
    assert_eq!((facts.len(), facts[1].scope.clone(), facts[1].revoked), (LISTS_MAX, place(1), 0));
    let kept = without_lists(&authority, &place(1)).expect("it is there");
    assert_eq!(kept.len(), LISTS_MAX - 1);
    assert_eq!(without_lists(&Authority { revocation_lists: kept, ..authority }, &place(1)), None);
}

#[test]
fn the_lists_of_an_authority_are_bounded_in_bytes() {
    let (made, authority) = plant();
    // An entry takes some 20 bytes.
    let mut list = List::of(&made);
    list.entries = vec![entry(5, &[]); LIST_BYTES_MAX / 20];
    assert!(matches!(refused(&list, &made, &authority), Fault::TooLarge { .. }));
    list.entries.truncate(LIST_BYTES_MAX / 30);
    assert!(set(&list, &made, &authority).is_ok());
}

#[test]
fn a_record_of_an_earlier_build_keeps_its_list() {
    let (_, authority) = plant();
    let mut text = serde_json::to_value(&authority).expect("JSON");
    text["revocationList"] = "MAA=".into();
    let read: Authority = serde_json::from_value(text).expect("an authority");
    assert_eq!(read.revocation_lists, ["MAA="]);
    let again: Authority =
        serde_json::from_value(serde_json::to_value(&read).expect("JSON")).expect("an authority");
    assert_eq!(again, read);
}

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn plant() -> (MadeAuthority, Authority) {
    let made = MadeAuthority::new("plant", SIGNERS);
    let record = made.record("plant");
    (made, record)
}

fn set(list: &List, signer: &MadeAuthority, authority: &Authority) -> Result<Vec<String>, Fault> {
    with_list(&list.signed(signer), authority, std::slice::from_ref(authority), now())
}

fn refused(list: &List, signer: &MadeAuthority, authority: &Authority) -> Fault {
    set(list, signer, authority).expect_err("refused")
}

/// A revocation list, made by hand so that all of it can be wrong.
struct List {
    version: Option<u8>,
    algorithm: &'static [u8],
    issuer: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
    entries: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
}

impl List {
    fn of(issuer: &MadeAuthority) -> Self {
        let parsed = parse(issuer.der()).expect("a certificate");
        Self {
            version: Some(1),
            algorithm: ECDSA_SHA256,
            issuer: parsed.subject().as_raw().to_vec(),
            this_update: NOW - 3_600,
            next_update: Some(NOW + 86_400),
            entries: Vec::new(),
            extensions: vec![extension(NUMBER, false, &integer(1))],
        }
    }

    fn numbered(mut self, number: u8) -> Self {
        self.extensions.retain(|have| *have != extension(NUMBER, false, &integer(1)));
        self.with(NUMBER, false, &integer(number))
    }

    /// Of one distribution point.
    fn at(self, uri: &str) -> Self {
        let names = tlv(0xA0, &tlv(0x86, uri.as_bytes()));
        self.with(POINT, true, &sequence(&[&tlv(0xA0, &names)]))
    }

    fn with(mut self, oid: &[u8], critical: bool, value: &[u8]) -> Self {
        self.extensions.push(extension(oid, critical, value));
        self
    }

    fn with_entry(mut self, serial: u8, extensions: &[Vec<u8>]) -> Self {
        self.entries.push(entry(serial, extensions));
        self
    }

    fn signed(&self, signer: &MadeAuthority) -> Vec<u8> {
        let algorithm = sequence(&[&tlv(6, self.algorithm)]);
        let mut parts = vec![algorithm.clone(), self.issuer.clone(), time(self.this_update)];
        if let Some(version) = self.version {
            parts.insert(0, integer(version));
        }
        parts.extend(self.next_update.map(time));
        if !self.entries.is_empty() {
            parts.push(tlv(0x30, &self.entries.concat()));
        }
        if !self.extensions.is_empty() {
            parts.push(tlv(0xA0, &tlv(0x30, &self.extensions.concat())));
        }
        let inner = tlv(0x30, &parts.concat());
        let signature = [&[0][..], &signer.sign(&inner)].concat();
        sequence(&[&inner, &algorithm, &tlv(3, &signature)])
    }
}

fn entry(serial: u8, extensions: &[Vec<u8>]) -> Vec<u8> {
    let revoked = time(NOW - 7_200);
    match extensions {
        [] => sequence(&[&integer(serial), &revoked]),
        _ => sequence(&[&integer(serial), &revoked, &tlv(0x30, &extensions.concat())]),
    }
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(1, &[0xFF]) } else { Vec::new() };
    sequence(&[&tlv(6, oid), &critical, &tlv(4, value)])
}

/// A flag of an issuing distribution point.
fn flag(tag: u8) -> Vec<u8> {
    tlv(0x80 | tag, &[0xFF])
}

fn integer(value: u8) -> Vec<u8> {
    tlv(2, &[value])
}

fn time(second: i64) -> Vec<u8> {
    let time = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
    tlv(0x18, time.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..128) => out.push(short),
        _ => {
            let bytes = (length as u32).to_be_bytes();
            out.push(0x84);
            out.extend(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

const ECDSA_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
const ECDSA_SHA1: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 1];
const NUMBER: &[u8] = &[0x55, 0x1D, 20];
const REASON: &[u8] = &[0x55, 0x1D, 21];
const DELTA: &[u8] = &[0x55, 0x1D, 27];
const POINT: &[u8] = &[0x55, 0x1D, 28];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1D, 29];
const UNKNOWN: &[u8] = &[0x2A, 3];
