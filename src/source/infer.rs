//! Types of JSON columns, inferred over all rows of a source.
//!
//! Arrow's own inference gives up on a whole file when two rows disagree about one column, and turns
//! a scalar beside a list into a list. Here only the column that disagrees becomes text.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use anyhow::ensure;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use serde_json::Map;
use serde_json::Number;
use serde_json::Value;

use crate::source::columns::Column;

/// A file whose rows name more columns than this is no table: its keys are data.
const MAX_COLUMNS: usize = 4096;

/// The same for objects within a column; such a column is carried as JSON text.
const MAX_FIELDS: usize = 256;

/// The columns seen so far, in the order in which they were first seen.
#[derive(Default)]
pub(super) struct Columns {
    kinds: Vec<(String, Kind)>,
    places: HashMap<String, usize>,
}

/// What all values of a column have been so far.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Null,
    Bool,
    Int,
    /// Some value is above the largest signed number, and none is negative.
    UnsignedInt,
    Float,
    Text,
    List(Box<Kind>),
    Object(Vec<(String, Kind)>),
    /// The values disagree: carried as text.
    Mixed,
}

impl Columns {
    /// Takes a row into account.
    pub(super) fn observe(&mut self, row: &Map<String, Value>) -> Result<()> {
        row.iter().try_for_each(|(name, value)| self.add(name, Kind::of(value)))
    }

    /// A column of text, whatever the rows will say.
    pub(super) fn add_text(&mut self, name: &str) -> Result<()> {
        self.add(name, Kind::Text)
    }

    fn add(&mut self, name: &str, kind: Kind) -> Result<()> {
        if let Some(place) = self.places.get(name) {
            let known = &mut self.kinds[*place].1;
            *known = std::mem::replace(known, Kind::Null).join(kind);
            return Ok(());
        }
        ensure!(
            self.kinds.len() < MAX_COLUMNS,
            "the rows have more than {MAX_COLUMNS} different columns; this is not a table"
        );
        self.places.insert(name.to_owned(), self.kinds.len());
        self.kinds.push((name.to_owned(), kind));
        Ok(())
    }

    /// The columns with their types.
    pub(super) fn finish(self) -> Vec<Column> {
        let column = |(name, kind): (String, Kind)| Column { name, data_type: kind.data_type() };
        self.kinds.into_iter().map(column).collect()
    }
}

impl Kind {
    fn of(value: &Value) -> Kind {
        match value {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(number) => Kind::of_number(number),
            Value::String(_) => Kind::Text,
            Value::Array(items) => {
                let item = items.iter().map(Kind::of).fold(Kind::Null, Kind::join);
                if item == Kind::Mixed { Kind::Mixed } else { Kind::List(Box::new(item)) }
            }
            // Parquet has no struct without fields.
            Value::Object(fields) if fields.is_empty() => Kind::Mixed,
            Value::Object(fields) => {
                Kind::object(fields.iter().map(|(k, v)| (k.clone(), Kind::of(v))).collect())
            }
        }
    }

    fn of_number(number: &Number) -> Kind {
        match () {
            () if number.is_i64() => Kind::Int,
            () if number.is_u64() => Kind::UnsignedInt,
            () => Kind::Float,
        }
    }

    fn object(fields: Vec<(String, Kind)>) -> Kind {
        let is_mixed = fields.len() > MAX_FIELDS || fields.iter().any(|(_, k)| *k == Kind::Mixed);
        if is_mixed { Kind::Mixed } else { Kind::Object(fields) }
    }

    /// The kind that holds both.
    fn join(self, other: Kind) -> Kind {
        match (self, other) {
            (Kind::Null, kind) | (kind, Kind::Null) => kind,
            (a, b) if a == b => a,
            (Kind::Int | Kind::Float, Kind::Int | Kind::Float) => Kind::Float,
            (Kind::List(a), Kind::List(b)) => match a.join(*b) {
                Kind::Mixed => Kind::Mixed,
                item => Kind::List(Box::new(item)),
            },
            (Kind::Object(a), Kind::Object(b)) => Kind::object(join_fields(a, b)),
            // A signed beside a huge unsigned number fits no integer type, and a float would round.
            _ => Kind::Mixed,
        }
    }

    fn data_type(&self) -> DataType {
        let field = |name: &str, kind: &Kind| Arc::new(Field::new(name, kind.data_type(), true));
        match self {
            Kind::Bool => DataType::Boolean,
            Kind::Int => DataType::Int64,
            Kind::UnsignedInt => DataType::UInt64,
            Kind::Float => DataType::Float64,
            Kind::Null | Kind::Text | Kind::Mixed => DataType::Utf8,
            Kind::List(item) => DataType::List(field("item", item)),
            Kind::Object(fields) => {
                DataType::Struct(fields.iter().map(|(name, kind)| field(name, kind)).collect())
            }
        }
    }
}

fn join_fields(mut known: Vec<(String, Kind)>, more: Vec<(String, Kind)>) -> Vec<(String, Kind)> {
    for (name, kind) in more {
        match known.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = std::mem::replace(old, Kind::Null).join(kind),
            None => known.push((name, kind)),
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn infer(rows: &[Value]) -> Vec<(String, String)> {
        let mut columns = Columns::default();
        rows.iter().for_each(|r| columns.observe(r.as_object().unwrap()).unwrap());
        columns.finish().into_iter().map(|c| (c.name, c.data_type.to_string())).collect()
    }

    fn type_of(values: &[Value]) -> String {
        infer(&values.iter().map(|v| json!({"x": v})).collect::<Vec<_>>()).remove(0).1
    }

    #[test]
    fn scalars_get_the_type_that_holds_all() {
        assert_eq!(type_of(&[json!(1), json!(null), json!(-2)]), "Int64");
        assert_eq!(type_of(&[json!(1), json!(0.5)]), "Float64");
        assert_eq!(type_of(&[json!(null)]), "Utf8");
        assert_eq!(type_of(&[json!(u64::MAX)]), "UInt64");
        assert_eq!(type_of(&[json!(true)]), "Boolean");
    }

    #[test]
    fn values_that_disagree_become_text() {
        for values in [
            [json!(1), json!("a")],
            [json!(1), json!([1])],
            [json!(-1), json!(u64::MAX)],
            [json!({"a": 1}), json!({"a": "b"})],
            [json!([1]), json!(["a"])],
            [json!({}), json!({"a": 1})],
        ] {
            assert_eq!(type_of(&values), "Utf8", "{values:?}");
        }
    }

    #[test]
    fn nested_values_are_joined_field_by_field() {
        assert_eq!(type_of(&[json!([]), json!([1])]), "List(Int64)");
        let joined = type_of(&[json!({"a": 1}), json!({"a": null, "b": ["c"]})]);
        assert_eq!(joined, r#"Struct("a": Int64, "b": List(Utf8))"#);
    }

    #[test]
    fn columns_stand_in_the_order_in_which_they_were_seen() {
        let names = infer(&[json!({"b": 1, "a": 1}), json!({"c": 1, "a": 2})]);
        assert_eq!(names.iter().map(|(n, _)| n.as_str()).collect::<String>(), "bac");
    }

    #[test]
    fn keys_that_are_data_are_refused() {
        let mut columns = Columns::default();
        let mut add = |i: usize| columns.observe(json!({i.to_string(): 1}).as_object().unwrap());
        assert!((0..MAX_COLUMNS).all(|i| add(i).is_ok()));
        assert!(add(MAX_COLUMNS).is_err());
    }
}
