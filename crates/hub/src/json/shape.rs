//! Which members a body has. Names are read without regard to case, as Azure's service reads them.

use serde_json::{Map, Value};

use super::WrongJson;
use crate::decision::cut;

/// The members of a document.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Anything, as it is.
    Free,
    /// An object with these members at most.
    Members(&'static [(&'static str, Shape)]),
    /// An array of such documents.
    List(&'static Shape),
}

impl Shape {
    /// The document with its names as they are known. What is of another type than it should be is left to whoever reads
    /// it.
    pub(super) fn fold(&self, value: Value) -> Result<Value, WrongJson> {
        match (self, value) {
            (Self::Members(known), Value::Object(members)) => folded(known, members).map(Value::Object),
            (Self::List(of), Value::Array(values)) => {
                values.into_iter().map(|value| of.fold(value)).collect::<Result<_, _>>().map(Value::Array)
            }
            (Self::Free | Self::Members(_) | Self::List(_), value) => Ok(value),
        }
    }
}

fn folded(
    known: &'static [(&'static str, Shape)],
    members: Map<String, Value>,
) -> Result<Map<String, Value>, WrongJson> {
    let mut read = Map::with_capacity(members.len());
    for (written, value) in members {
        let Some((name, shape)) = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(&written)) else {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            return Err(WrongJson::Unknown { path: cut(&written), known: names.join(", ") });
        };
        let value = shape.fold(value).map_err(|wrong| wrong.below(name))?;
        if read.insert((*name).to_owned(), value).is_some() {
            return Err(WrongJson::Twice { path: (*name).to_owned() });
        }
    }
    Ok(read)
}

/// The known name that is meant.
pub(super) fn known_name(
    mut known: impl Iterator<Item = &'static str>,
    written: &str,
) -> Option<&'static str> {
    known.find(|name| name.eq_ignore_ascii_case(written))
}
