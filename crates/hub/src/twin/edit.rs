//! What a change makes of a twin: decided here, stored and announced elsewhere.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use super::content::{bytes_of, check};
use super::section::merge;
use super::{Members, Part, Section, Twin, TwinError};
use crate::registry::IfMatch;

/// What a service asks of the parts that it may write. A part that is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TwinEdit {
    /// The tags.
    pub tags: Option<Edit>,
    /// The desired properties.
    pub desired: Option<Edit>,
}

/// What is asked of one part.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// To remove all that is in it.
    Clear,
    /// To merge this into it, or to put this in its place.
    Set(Members),
}

impl Edit {
    /// The same without what the hub wrote into a section and clients send back.
    pub(crate) fn without_system_members(self) -> Self {
        match self {
            Self::Clear => Self::Clear,
            Self::Set(members) => Self::Set(without_system_members(members)),
        }
    }

    /// What it is as a merge patch to these members.
    pub(super) fn patch(&self, members: &Members) -> Cow<'_, Members> {
        match self {
            Self::Set(patch) => Cow::Borrowed(patch),
            Self::Clear => Cow::Owned(removal_of(members)),
        }
    }
}

/// The patch that removes all members.
fn removal_of(members: &Members) -> Members {
    members.keys().map(|key| (key.clone(), Value::Null)).collect()
}

/// How the members of an [`Edit::Set`] are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As a merge patch (`docs/protocol/service-rest.md` §4.1).
    Merge,
    /// In place of all that is there (§4.2).
    Replace,
}

/// A twin after a change by a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// The twin.
    pub twin: Twin,
    /// What the device is told of its desired properties, `$version` included: the patch, or all of them when they were
    /// replaced. `None` when the change was of tags only.
    pub told: Option<Members>,
}

impl TwinEdit {
    /// Reads `tags` and `properties.desired` of a document as clients send it. All else in it is what they were sent
    /// before, and is passed over: reported properties are not for a service to write (`docs/protocol/service-rest.md`
    /// §4.1).
    pub fn of(document: &Members) -> Result<Self, TwinError> {
        let desired = match document.get("properties") {
            None | Some(Value::Null) => None,
            Some(Value::Object(properties)) => properties.get("desired"),
            Some(_) => return Err(TwinError::PropertiesNotAnObject),
        };
        Ok(Self { tags: edit(Part::Tags, document.get("tags"))?, desired: edit(Part::Desired, desired)? })
    }
}

fn edit(part: Part, given: Option<&Value>) -> Result<Option<Edit>, TwinError> {
    match given {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(Edit::Clear)),
        Some(Value::Object(members)) => Ok(Some(Edit::Set(members.clone()).without_system_members())),
        Some(_) => Err(TwinError::NotAnObject(part)),
    }
}

/// Clients send a section back as they got it: what the hub wrote into it is no part of a change.
fn without_system_members(mut members: Members) -> Members {
    members.shift_remove("$metadata");
    members.shift_remove("$version");
    members
}

impl Twin {
    /// The twin after a change by a service: all of it, or an error that names what is wrong.
    pub fn edited(
        &self,
        edit: &TwinEdit,
        how: How,
        if_match: Option<&IfMatch>,
        now: Timestamp,
    ) -> Result<Edited, TwinError> {
        if let Some(IfMatch::Etag(wanted)) = if_match
            && *wanted != self.etag()
        {
            return Err(TwinError::OtherEtag);
        }
        let mut twin = self.clone();
        twin.etag += 1;
        twin.version += 1;
        if let Some(edit) = &edit.tags {
            twin.tags = edited_tags(&self.tags, edit, how)?;
        }
        let Some(edit) = &edit.desired else { return Ok(Edited { twin, told: None }) };
        let mut told;
        (twin.desired, told) = edited_desired(&self.desired, edit, how, now)?;
        told.insert("$version".to_owned(), twin.desired.version.into());
        Ok(Edited { twin, told: Some(told) })
    }

    /// The twin after the device reported, where it names the version that it has seen only if nothing was reported
    /// since (`docs/protocol/device-mqtt.md` §8).
    pub fn reported(
        &self,
        patch: &Members,
        if_version: Option<u64>,
        now: Timestamp,
    ) -> Result<Self, TwinError> {
        let current = self.reported.version;
        if let Some(wanted) = if_version.filter(|wanted| *wanted != current) {
            return Err(TwinError::OtherVersion { wanted, current });
        }
        let patch = without_system_members(patch.clone());
        check(Part::Reported, &patch)?;
        let reported = self.reported.patched(Part::Reported, &patch, now);
        within_limit(Part::Reported, &reported.properties)?;
        Ok(Self { reported, version: self.version + 1, ..self.clone() })
    }
}

fn edited_tags(tags: &Members, edit: &Edit, how: How) -> Result<Members, TwinError> {
    let Edit::Set(given) = edit else { return Ok(Members::new()) };
    check(Part::Tags, given)?;
    let mut tags = if how == How::Merge { tags.clone() } else { Members::new() };
    merge(&mut tags, None, given);
    within_limit(Part::Tags, &tags)?;
    Ok(tags)
}

/// The desired properties after a change, and what the device is told.
fn edited_desired(
    desired: &Section,
    edit: &Edit,
    how: How,
    now: Timestamp,
) -> Result<(Section, Members), TwinError> {
    let (section, told) = match (edit, how) {
        (Edit::Clear, _) => {
            // A device that merges what it is told ends with nothing too.
            (desired.replaced(Part::Desired, &Members::new(), now), removal_of(&desired.properties))
        }
        (Edit::Set(patch), How::Merge) => {
            check(Part::Desired, patch)?;
            (desired.patched(Part::Desired, patch, now), patch.clone())
        }
        (Edit::Set(given), How::Replace) => {
            check(Part::Desired, given)?;
            let section = desired.replaced(Part::Desired, given, now);
            let all = section.properties.clone();
            (section, all)
        }
    };
    within_limit(Part::Desired, &section.properties)?;
    Ok((section, told))
}

fn within_limit(part: Part, members: &Members) -> Result<(), TwinError> {
    match bytes_of(members) {
        bytes if bytes > part.bytes_max() => Err(TwinError::TooLarge { part, bytes }),
        _ => Ok(()),
    }
}
