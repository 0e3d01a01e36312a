//! `key-file-perms`: key material that others may read.

use hub::finding::{Fix, Resource, Severity};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::{FileFacts, HubFacts};

const ABOUT: About = About {
    id: "key-file-perms",
    kind: Kind::Posture,
    severity: Severity::High,
    title: "Key material readable by others",
    threat: "Every user and program of the machine can take the keys of the hub, and with them those of all devices.",
    remedy: "Leave the files to the user that the hub runs as: chmod go-rwx, chown.",
    covers: &["S06", "S25"],
};

pub(super) struct FilePerms;

impl Check for FilePerms {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, _context: &Context, verdicts: &mut Verdicts) {
        for file in facts.files {
            match file.mode {
                None => verdicts.unknown += 1,
                Some(mode) => verdicts.judge(found(file, mode)),
            }
        }
    }
}

fn found(file: &FileFacts, mode: u32) -> Option<Found> {
    let open = mode & 0o077 != 0;
    if !open && file.own {
        return None;
    }
    let what = match file.name.as_str() {
        "." => "The data directory".to_owned(),
        name => format!("The file {name}"),
    };
    let why = match open {
        true => format!("has mode {mode:04o}: others than its owner may use it"),
        false => "belongs to another user than the one that the hub runs as".to_owned(),
    };
    let evidence = json!({ "file": file.name, "mode": format!("{mode:04o}"), "own": file.own });
    let found = Found::new(&ABOUT, Resource::new("file", &file.name), format!("{what} {why}."), evidence);
    Some(match open && file.own {
        true => found.with_fix(Fix::RestrictFiles { files: vec![file.name.clone()] }),
        false => found,
    })
}
