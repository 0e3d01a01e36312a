use super::{DecodeError, MapRef, Symbol, Value, ValueRef};

/// A map with symbols as keys: `fields`, `annotations` and `filter-set` of the standard.
///
/// Order is kept. A key that occurs twice is kept twice, and [`Fields::get`] gives the first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields(Vec<(Symbol, Value)>);

impl Fields {
    /// No entry.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// The text of a key, when it holds a string or a symbol.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_text)
    }

    /// Adds an entry.
    pub fn push(&mut self, key: Symbol, value: impl Into<Value>) {
        self.0.push((key, value.into()));
    }

    /// The entries in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Symbol, Value)> {
        self.0.iter()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn read(map: MapRef<'_>) -> Result<Self, DecodeError> {
        let mut entries = Vec::new();
        for entry in map.iter() {
            let (key, value) = entry?;
            // Strings and numbers are no legal keys here, yet they occur; a number stands as its digits.
            let key = match key {
                ValueRef::Symbol(key) | ValueRef::String(key) if key.is_ascii() => Symbol::from(key),
                ValueRef::Ulong(key) => Symbol::from(&*key.to_string()),
                key => match key.as_i64() {
                    Some(key) => Symbol::from(&*key.to_string()),
                    None => return Err(DecodeError::WrongType { expected: "a symbol as key" }),
                },
            };
            entries.push((key, value.to_value()?));
        }
        Ok(Self(entries))
    }
}

impl FromIterator<(Symbol, Value)> for Fields {
    fn from_iter<T: IntoIterator<Item = (Symbol, Value)>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl IntoIterator for Fields {
    type Item = (Symbol, Value);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a (Symbol, Value);
    type IntoIter = std::slice::Iter<'a, (Symbol, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::amqp::codec::{Reader, Writer};

    fn read(keys: Vec<Value>) -> Result<Vec<String>, DecodeError> {
        let mut out = BytesMut::new();
        let entries = keys.into_iter().map(|key| (key, Value::Bool(true))).collect();
        Writer::new(&mut out).value(&Value::Map(entries));
        let ValueRef::Map(map) = Reader::new(&out).value()? else { panic!("it is no map") };
        Ok(Fields::read(map)?.iter().map(|(key, _)| key.as_str().to_owned()).collect())
    }

    #[test]
    fn keys_that_are_strings_or_numbers_are_read_too() {
        let keys = vec![
            Value::Symbol(Symbol::from("selector")),
            Value::from("text"),
            Value::Ulong(u64::MAX),
            Value::Long(-5),
            Value::Uint(7),
        ];
        let read_back = read(keys).expect("they are keys");
        assert_eq!(read_back, ["selector", "text", "18446744073709551615", "-5", "7"]);
        for key in [Value::Null, Value::Bool(true), Value::Binary(vec![1]), Value::from("é")] {
            assert!(read(vec![key.clone()]).is_err(), "{key:?}");
        }
    }
}
