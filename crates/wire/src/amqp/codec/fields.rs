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
