//! How the columns of a shard are called and what Arrow types they have: the twin of `record`.
//!
//! A test holds both together by way of the JSON Schemas.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::Fields;
use serde::Serialize;

use crate::arrow_json::extra_column;
use crate::arrow_json::type_from_json;
use crate::sample::Extra;
use crate::sample::ExtraColumn;
use crate::shard::record;

/// The column of encoded pictures: struct of bytes and path, as Hugging Face `datasets` has it.
pub(super) const IMAGE: &str = "image";

/// The columns of a file but for the image: the fixed ones, then those of the source.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    fixed: Vec<Field>,
    /// Name in the source, and the column as it is written.
    extra: Vec<(String, ExtraColumn)>,
}

impl Layout {
    /// The columns of refined rows.
    pub(super) fn refined(extra: &[ExtraColumn]) -> Layout {
        Layout::new(refined_columns(), extra)
    }

    /// The columns of rejected rows.
    pub(super) fn rejects(extra: &[ExtraColumn]) -> Layout {
        Layout::new(reject_columns(), extra)
    }

    /// A column of the source whose name is taken gets the suffix `_source`, as often as it needs;
    /// the others are served first, so that only a clash costs a column its name.
    fn new(fixed: Vec<Field>, extra: &[ExtraColumn]) -> Layout {
        let mut taken: HashSet<String> = fixed.iter().map(|field| field.name().clone()).collect();
        taken.insert(IMAGE.to_owned());
        let clashes: Vec<bool> = extra.iter().map(|column| taken.contains(&column.name)).collect();
        taken.extend(extra.iter().map(|column| column.name.clone()));
        let mut renamed = Vec::new();
        for (column, clashes) in extra.iter().zip(clashes) {
            let mut name = column.name.clone();
            while clashes && !taken.insert(name.clone()) {
                name.push_str("_source");
            }
            let written = ExtraColumn { name, data_type: column.data_type.clone() };
            renamed.push((column.name.clone(), written));
        }
        Layout { fixed, extra: renamed }
    }

    /// All columns, in order.
    ///
    /// # Errors
    /// When a type has no JSON form.
    pub(super) fn columns(&self) -> Result<Vec<ExtraColumn>> {
        let fixed = self.fixed.iter().map(|field| extra_column(field.name(), field.data_type()));
        fixed.chain(self.extra.iter().map(|(_, column)| Ok(column.clone()))).collect()
    }

    /// All columns as Arrow has them, in order.
    ///
    /// # Errors
    /// When a column of the source has a type that Arrow does not know.
    pub(super) fn fields(&self) -> Result<Vec<Field>> {
        let extra = self
            .extra
            .iter()
            .map(|(_, column)| Ok(optional(&column.name, type_from_json(&column.data_type)?)));
        self.fixed.iter().cloned().map(Ok).chain(extra).collect()
    }

    /// A row as JSON, with the source's columns under the names of this layout.
    pub(super) fn json(&self, record: &impl Serialize, mut extra: Extra) -> Result<Extra> {
        let mut row = record::json(record)?;
        for (name, column) in &self.extra {
            if let Some(value) = extra.remove(name) {
                row.insert(column.name.clone(), value);
            }
        }
        Ok(row)
    }

    /// The source's columns again, by the names of the source.
    pub(super) fn extra_of(&self, mut written: Extra) -> Extra {
        let back = |(name, column): &(String, ExtraColumn)| {
            Some((name.clone(), written.remove(&column.name)?))
        };
        self.extra.iter().filter_map(back).collect()
    }
}

/// Names and types of refined rows, without the image.
pub(super) fn refined_columns() -> Vec<Field> {
    let text = DataType::Utf8;
    let tag = structure(vec![
        optional("label", text.clone()),
        optional("score", DataType::Float32),
        optional("box", list(DataType::Float32)),
        optional("model", text.clone()),
    ]);
    let audit = structure(audit_columns());
    vec![
        required("key", text.clone()),
        optional("url", text.clone()),
        optional("text_raw", text.clone()),
        optional("text_synthetic", text.clone()),
        optional("text_generated", text.clone()),
        required("tags", list(tag)),
        required("width", DataType::UInt32),
        required("height", DataType::UInt32),
        required("original_width", DataType::UInt32),
        required("original_height", DataType::UInt32),
        required("sha256", text.clone()),
        required("phash", DataType::UInt64),
        optional("synthetic_model", text.clone()),
        optional("generated_writer", text.clone()),
        optional("generated_model", text.clone()),
        optional("generated_prompt", text.clone()),
        optional("generated_finish_reason", text.clone()),
        optional("generated_tokens", DataType::UInt32),
        optional("generated_refused", text.clone()),
        required("audit", audit),
        optional("clip_raw", DataType::Float32),
        optional("clip_synthetic", DataType::Float32),
        optional("clip_generated", DataType::Float32),
        optional("clip_model", text.clone()),
        optional("nsfw", DataType::Float32),
        optional("nsfw_model", text),
    ]
}

fn audit_columns() -> Vec<Field> {
    let text = || DataType::Utf8;
    let word = structure(vec![
        optional("word", text()),
        optional("origin", text()),
        optional("kind", text()),
        optional("link", text()),
        optional("start", DataType::UInt32),
        optional("end", DataType::UInt32),
    ]);
    let count = |name| optional(name, DataType::UInt32);
    let share = |name| optional(name, DataType::Float32);
    vec![
        share("score"),
        optional("reasons", list(text())),
        optional("evidence", list(text())),
        optional("words", list(word)),
        count("objects"),
        count("objects_nowhere"),
        count("attributes"),
        count("attributes_nowhere"),
        count("numbers"),
        count("numbers_nowhere"),
        count("names"),
        count("names_nowhere"),
        optional("kept", list(text())),
        optional("lost", list(text())),
        share("novelty"),
        count("longest_copy"),
        share("raw_synthetic"),
        share("raw_generated"),
        share("synthetic_generated"),
        count("length_words"),
        count("length_tokens"),
        optional("language", text()),
    ]
}

/// Names and types of rejected rows.
pub(super) fn reject_columns() -> Vec<Field> {
    vec![
        required("row", DataType::UInt64),
        required("key", DataType::Utf8),
        optional("url", DataType::Utf8),
        optional("text_raw", DataType::Utf8),
        required("stage", DataType::Utf8),
        required("reason", DataType::Utf8),
        required("detail", DataType::Utf8),
    ]
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// A column with nulls. So is every field within a column, whatever it holds: readers compare
/// nested types strictly, and nullable is what they expect.
fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(optional("item", item)))
}

fn structure(fields: Vec<Field>) -> DataType {
    DataType::Struct(Fields::from(fields))
}
