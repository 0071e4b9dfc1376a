//! Arrow columns as JSON values and back, for the columns that are carried through unchanged.
//!
//! This file owns one mapping in both directions: `source` turns the foreign columns of a parquet
//! file into [`Extra`] rows with it, `shard` turns the rows into arrays again. A value that both
//! directions understand comes back equal: text as text, bytes as hex, times and decimals as text
//! in Arrow's spelling (a JSON number would round them), NaN and infinity as the words for them.
//!
//! Arrow's own JSON writer is not used: it drops NaN, cannot print a time zone by name without a
//! zone database, and its text would be parsed again at once. Arrow's JSON reader is.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::StringArray;
use arrow::compute::can_cast_types;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::FieldRef;
use arrow::datatypes::Float16Type;
use arrow::datatypes::Float32Type;
use arrow::datatypes::Float64Type;
use arrow::datatypes::Int8Type;
use arrow::datatypes::Int16Type;
use arrow::datatypes::Int32Type;
use arrow::datatypes::Int64Type;
use arrow::datatypes::Schema;
use arrow::datatypes::UInt8Type;
use arrow::datatypes::UInt16Type;
use arrow::datatypes::UInt32Type;
use arrow::datatypes::UInt64Type;
use arrow::json::ReaderBuilder;
use arrow::util::display::ArrayFormatter;
use arrow::util::display::FormatOptions;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::sample::Extra;
use crate::sample::ExtraColumn;

/// A column as it will be carried: plain where the source has dictionaries or views, text where
/// the type has no JSON form (unions, intervals, maps with keys that are not text).
pub fn extra_column(name: &str, data_type: &DataType) -> Result<ExtraColumn> {
    let data_type = type_to_json(&carried_type(data_type))
        .with_context(|| format!("column {name:?} cannot be carried through"))?;
    Ok(ExtraColumn { name: name.to_owned(), data_type })
}

/// One row of JSON values for each row of the arrays; nulls are absent.
///
/// `rows` is asked for because a table without extra columns has rows, too.
pub fn columns_to_rows(
    columns: &[ExtraColumn],
    arrays: &[ArrayRef],
    rows: usize,
) -> Result<Vec<Extra>> {
    ensure!(columns.len() == arrays.len(), "{} columns, {} arrays", columns.len(), arrays.len());
    let mut out = vec![Extra::new(); rows];
    for (column, array) in columns.iter().zip(arrays) {
        let array = to_neutral(array, &type_from_json(&column.data_type)?)
            .with_context(|| format!("column {:?} cannot be carried through", column.name))?;
        ensure!(array.len() == rows, "column {:?}: {} rows, not {rows}", column.name, array.len());
        for (row, extra) in out.iter_mut().enumerate() {
            let value = value(array.as_ref(), row)?;
            if !value.is_null() {
                extra.insert(column.name.clone(), value);
            }
        }
    }
    Ok(out)
}

/// One array for each column, from rows in which absent means null.
pub fn rows_to_batch(columns: &[ExtraColumn], rows: &[&Extra]) -> Result<Vec<ArrayRef>> {
    let types = columns.iter().map(|c| type_from_json(&c.data_type)).collect::<Result<Vec<_>>>()?;
    if rows.is_empty() || columns.is_empty() {
        return Ok(types.iter().map(arrow::array::new_empty_array).collect());
    }
    let fields = columns.iter().zip(&types).map(|(c, t)| Field::new(&c.name, wire_type(t), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut decoder = ReaderBuilder::new(schema).with_batch_size(rows.len()).build_decoder()?;
    decoder.serialize(rows).context("an extra column does not fit its type")?;
    let batch = decoder.flush().context("an extra column does not fit its type")?;
    let batch = batch.context("no rows came out of the JSON decoder")?;
    batch.columns().iter().zip(&types).map(|(array, to)| from_wire(array, to)).collect()
}

/// The data type as JSON: a word for a plain type (`"Int32"`, in Arrow's spelling), an object for a
/// nested one (`{"list": {"name": "item", "type": "Utf8"}}`).
///
/// Arrow's spelling of nested types is not used: a quote in a field's name breaks its parser.
pub fn type_to_json(data_type: &DataType) -> Result<Value> {
    Ok(match data_type {
        DataType::List(f) => json!({"list": field_to_json(f)?}),
        DataType::LargeList(f) => json!({"large_list": field_to_json(f)?}),
        DataType::FixedSizeList(f, n) => json!({"fixed_size_list": field_to_json(f)?, "size": n}),
        DataType::Map(f, sorted) => json!({"map": field_to_json(f)?, "sorted": sorted}),
        DataType::Struct(fields) => {
            json!({"struct": fields.iter().map(field_to_json).collect::<Result<Vec<_>>>()?})
        }
        leaf => {
            let word = leaf.to_string();
            let back = word.parse::<DataType>().ok();
            ensure!(back.as_ref() == Some(leaf), "type {word} has no JSON form");
            Value::String(word)
        }
    })
}

/// What [`type_to_json`] wrote.
pub fn type_from_json(json: &Value) -> Result<DataType> {
    if let Value::String(word) = json {
        return word.parse().with_context(|| format!("{word:?} is not an Arrow type"));
    }
    let size = || json["size"].as_i64().and_then(|n| i32::try_from(n).ok());
    let (kind, inner) = json.as_object().and_then(|o| o.iter().next()).context("not a type")?;
    Ok(match (kind.as_str(), inner) {
        ("list", f) => DataType::List(field_from_json(f)?),
        ("large_list", f) => DataType::LargeList(field_from_json(f)?),
        ("fixed_size_list", f) => {
            DataType::FixedSizeList(field_from_json(f)?, size().context("a list without size")?)
        }
        ("map", f) => DataType::Map(field_from_json(f)?, json["sorted"] == Value::Bool(true)),
        ("struct", Value::Array(fields)) => {
            DataType::Struct(fields.iter().map(field_from_json).collect::<Result<_>>()?)
        }
        (kind, _) => bail!("{kind:?} is not an Arrow type"),
    })
}

fn field_to_json(field: &FieldRef) -> Result<Value> {
    let mut json = json!({"name": field.name(), "type": type_to_json(field.data_type())?});
    if !field.is_nullable() {
        json["nullable"] = Value::Bool(false);
    }
    Ok(json)
}

fn field_from_json(json: &Value) -> Result<FieldRef> {
    let name = json["name"].as_str().context("a field without name")?;
    let nullable = json["nullable"] != Value::Bool(false);
    Ok(Arc::new(Field::new(name, type_from_json(&json["type"])?, nullable)))
}

/// The type under which a column is carried, see [`extra_column`].
pub fn carried_type(data_type: &DataType) -> DataType {
    let carried = plain_type(data_type);
    if can_cast_types(data_type, &carried) { carried } else { DataType::Utf8 }
}

/// Without dictionaries, views and metadata, and with nulls allowed everywhere.
fn plain_type(data_type: &DataType) -> DataType {
    let plain = match data_type {
        DataType::Dictionary(_, values) => return plain_type(values),
        DataType::RunEndEncoded(_, values) => return plain_type(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::ListView(f) => DataType::List(f.clone()),
        DataType::LargeListView(f) => DataType::LargeList(f.clone()),
        // Parquet has no empty struct, and a column of nulls has no type worth keeping.
        DataType::Struct(fields) if fields.is_empty() => DataType::Utf8,
        DataType::Null | DataType::Union(_, _) | DataType::Interval(_) => DataType::Utf8,
        DataType::Map(entries, _) if !has_text_keys(entries) => DataType::Utf8,
        other => other.clone(),
    };
    map_children(&plain, &plain_type)
}

fn has_text_keys(entries: &FieldRef) -> bool {
    match entries.data_type() {
        DataType::Struct(f) if f.len() == 2 => plain_type(f[0].data_type()) == DataType::Utf8,
        _ => false,
    }
}

/// The same nesting with other children.
fn map_children(data_type: &DataType, to: &dyn Fn(&DataType) -> DataType) -> DataType {
    let child = |f: &FieldRef, nullable| {
        Arc::new(Field::new(f.name(), to(f.data_type()), nullable || f.is_nullable()))
    };
    match data_type {
        DataType::List(f) => DataType::List(child(f, true)),
        DataType::LargeList(f) => DataType::LargeList(child(f, true)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(child(f, true), *n),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| child(f, true)).collect())
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { return data_type.clone() };
            let pair = pair.iter().enumerate().map(|(i, f)| child(f, i == 1)).collect();
            let entries = Field::new(entries.name(), DataType::Struct(pair), false);
            DataType::Map(Arc::new(entries), *sorted)
        }
        leaf => leaf.clone(),
    }
}

/// What the JSON decoder is asked for in place of a carried type: times and decimals are text.
fn wire_type(carried: &DataType) -> DataType {
    match neutral_type(carried) {
        d if d.is_temporal() || d.is_decimal() => DataType::Utf8,
        other => map_children(&other, &wire_type),
    }
}

/// The same values without what Arrow can neither print nor parse: a zone by name (instants stay
/// instants under "+00:00") and durations (a number of their unit).
fn neutral_type(carried: &DataType) -> DataType {
    match carried {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
        DataType::Duration(_) => DataType::Int64,
        other => map_children(other, &neutral_type),
    }
}

fn to_neutral(array: &ArrayRef, carried: &DataType) -> Result<ArrayRef> {
    if !can_cast_types(array.data_type(), carried) {
        return Ok(Arc::new(as_text(array)?));
    }
    Ok(cast(&cast(array, carried)?, &neutral_type(carried))?)
}

fn from_wire(wire: &ArrayRef, carried: &DataType) -> Result<ArrayRef> {
    Ok(cast(&cast(wire, &neutral_type(carried))?, carried)?)
}

fn as_text(array: &ArrayRef) -> Result<StringArray> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    let text = |row| array.is_valid(row).then(|| formatter.value(row).try_to_string()).transpose();
    Ok((0..array.len()).map(text).collect::<Result<Vec<_>, _>>()?.into())
}

/// The value of a row as JSON; the type is a neutral type.
fn value(array: &dyn Array, row: usize) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let list = |items: ArrayRef| {
        (0..items.len()).map(|i| value(items.as_ref(), i)).collect::<Result<Vec<_>>>()
    };
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float16 => short(array.as_primitive::<Float16Type>().value(row).to_f32()),
        DataType::Float32 => short(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Binary => hex(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hex(array.as_binary::<i64>().value(row)),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row)),
        DataType::List(_) => list(array.as_list::<i32>().value(row))?.into(),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row))?.into(),
        DataType::FixedSizeList(_, _) => list(array.as_fixed_size_list().value(row))?.into(),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let pairs = fields.iter().zip(columns);
            let pairs = pairs.map(|(f, c)| Ok((f.name().clone(), value(c.as_ref(), row)?)));
            pairs.collect::<Result<Map<_, _>>>()?.into()
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let pair = |i| Ok((text(&value(keys.as_ref(), i)?), value(values.as_ref(), i)?));
            (0..entries.len()).map(pair).collect::<Result<Map<_, _>>>()?.into()
        }
        d if d.is_temporal() || d.is_decimal() => printed(array, row)?,
        other => bail!("type {other} has no JSON form"),
    })
}

/// A time or decimal in Arrow's spelling; null where no calendar has the time.
fn printed(array: &dyn Array, row: usize) -> Result<Value> {
    let options = FormatOptions::default();
    Ok(ArrayFormatter::try_new(array, &options)?.value(row).try_to_string().ok().into())
}

fn text(value: &Value) -> String {
    value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string())
}

/// JSON has no NaN and no infinity; Arrow's reader parses these words.
fn float(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "inf".into(),
        None => "-inf".into(),
    }
}

/// `0.1`, not `0.10000000149011612`, where that comes back as the same number.
fn short(value: f32) -> Value {
    let decimal = value.to_string().parse::<f64>().unwrap_or(f64::from(value));
    float(if decimal as f32 == value { decimal } else { f64::from(value) })
}

fn hex(bytes: &[u8]) -> Value {
    let digits = bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    Value::String(digits)
}

#[cfg(test)]
#[path = "arrow_json_tests.rs"]
mod tests;
