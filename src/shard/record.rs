//! One row of a shard in every form it has: Rust, JSON, Arrow.
//!
//! The serde structs here are the definition: parquet columns, the JSON of webdataset members and
//! the JSON Schemas in `schemas/` all come from them. Only the image stands beside: its bytes never
//! pass through JSON.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::Fields;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::arrow_json::extra_column;
use crate::sample::Audit;
use crate::sample::Extra;
use crate::sample::ExtraColumn;
use crate::sample::Generated;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::sample::Stage;
use crate::sample::StoredImage;
use crate::sample::Synthetic;
use crate::sample::Tag;

/// The column of encoded pictures: struct of bytes and path, as Hugging Face `datasets` has it.
pub(super) const IMAGE: &str = "image";

/// A refined row without its image. Columns of the source follow under their own names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Stable key: the source's own, else a hash of url or bytes.
    pub key: String,
    /// Where the web had the picture.
    pub url: Option<String>,
    /// What the web said (T_r).
    pub text_raw: Option<String>,
    /// What the captioning model saw (T_s).
    pub text_synthetic: Option<String>,
    /// What the writer made of all of it (T_g); null where nothing was accepted.
    pub text_generated: Option<String>,
    /// Tags of all models.
    pub tags: Vec<TagRecord>,
    /// Pixels of the stored picture.
    pub width: u32,
    /// Pixels of the stored picture.
    pub height: u32,
    /// Pixels of the upright original.
    pub original_width: u32,
    /// Pixels of the upright original.
    pub original_height: u32,
    /// SHA-256 of the original bytes, lower-case hex.
    pub sha256: String,
    /// 64-bit perceptual hash.
    pub phash: u64,
    /// Model and hash of the captioner.
    pub synthetic_model: Option<String>,
    /// `rules`, `local` or `remote`.
    pub generated_writer: Option<String>,
    /// Model and revision of the writer.
    pub generated_model: Option<String>,
    /// Hash of the prompt files, or of the grammar.
    pub generated_prompt: Option<String>,
    /// `stop`, `length`, or what the endpoint said.
    pub generated_finish_reason: Option<String>,
    /// Completion tokens, where a model counted them.
    pub generated_tokens: Option<u32>,
    /// Why a better writer's reply was not taken.
    pub generated_refused: Option<String>,
    /// How far `text_generated` can be trusted.
    pub audit: Audit,
}

/// A tag as columns spell it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TagRecord {
    /// The model's own label.
    pub label: String,
    /// 0..1.
    pub score: f32,
    /// `x1, y1, x2, y2` in pixels of the upright original, for detections.
    #[serde(rename = "box")]
    pub bbox: Option<Vec<f32>>,
    /// The model that said so.
    pub model: String,
}

/// A rejected row. Columns of the source follow under their own names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RejectRecord {
    /// Position within the shard's rows of the source, from 0.
    pub row: u64,
    /// Stable key.
    pub key: String,
    /// Where the web had the picture.
    pub url: Option<String>,
    /// What the web said.
    pub text_raw: Option<String>,
    /// Where it left the path.
    pub stage: Stage,
    /// Why, from a closed list.
    pub reason: String,
    /// What exactly.
    pub detail: String,
}

/// How the columns of a shard are called: the fixed ones, then those of the source.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    fixed: Vec<ExtraColumn>,
    /// Name in the source, and the column as it is written.
    extra: Vec<(String, ExtraColumn)>,
}

impl Layout {
    /// The columns of refined rows.
    pub(super) fn refined(extra: &[ExtraColumn]) -> Result<Layout> {
        Layout::new(refined_columns(), extra)
    }

    /// The columns of rejected rows.
    pub(super) fn rejects(extra: &[ExtraColumn]) -> Result<Layout> {
        Layout::new(reject_columns(), extra)
    }

    /// A column of the source whose name is taken gets the suffix `_source`, as often as it needs.
    fn new(fixed: Vec<(&str, DataType)>, extra: &[ExtraColumn]) -> Result<Layout> {
        let column = |(name, data_type): &(&str, DataType)| extra_column(name, data_type);
        let mut taken: HashSet<String> = fixed.iter().map(|(name, _)| (*name).to_owned()).collect();
        taken.insert(IMAGE.to_owned());
        let mut renamed = Vec::new();
        for column in extra {
            let mut name = column.name.clone();
            while !taken.insert(name.clone()) {
                name.push_str("_source");
            }
            let written = ExtraColumn { name, data_type: column.data_type.clone() };
            renamed.push((column.name.clone(), written));
        }
        Ok(Layout { fixed: fixed.iter().map(column).collect::<Result<_>>()?, extra: renamed })
    }

    /// All columns but the image, in order.
    pub(super) fn columns(&self) -> Vec<ExtraColumn> {
        let extra = self.extra.iter().map(|(_, column)| column.clone());
        self.fixed.iter().cloned().chain(extra).collect()
    }

    /// A row as JSON, with the source's columns under the names of this layout.
    pub(super) fn json(&self, record: &impl Serialize, mut extra: Extra) -> Result<Extra> {
        let Value::Object(mut row) = serde_json::to_value(record)? else {
            anyhow::bail!("a record is an object");
        };
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

/// A record out of a JSON row, and what else is in it.
pub(super) fn split<R: DeserializeOwned>(
    mut row: Extra,
    fixed: &HashSet<String>,
) -> Result<(R, Extra)> {
    let names: Vec<String> = row.keys().filter(|name| !fixed.contains(*name)).cloned().collect();
    let extra = names.into_iter().filter_map(|name| Some((name.clone(), row.remove(&name)?)));
    let extra: Extra = extra.collect();
    let record = serde_json::from_value(Value::Object(row)).context("not a row of a shard")?;
    Ok((record, extra))
}

/// Names and types of refined rows, without the image.
pub(super) fn refined_columns() -> Vec<(&'static str, DataType)> {
    let text = DataType::Utf8;
    let tag = structure(vec![
        ("label", text.clone()),
        ("score", DataType::Float32),
        ("box", list(DataType::Float32)),
        ("model", text.clone()),
    ]);
    let word = structure(vec![("word", text.clone()), ("origin", text.clone())]);
    let audit = structure(vec![
        ("score", DataType::Float32),
        ("reasons", list(text.clone())),
        ("words", list(word)),
    ]);
    vec![
        ("key", text.clone()),
        ("url", text.clone()),
        ("text_raw", text.clone()),
        ("text_synthetic", text.clone()),
        ("text_generated", text.clone()),
        ("tags", list(tag)),
        ("width", DataType::UInt32),
        ("height", DataType::UInt32),
        ("original_width", DataType::UInt32),
        ("original_height", DataType::UInt32),
        ("sha256", text.clone()),
        ("phash", DataType::UInt64),
        ("synthetic_model", text.clone()),
        ("generated_writer", text.clone()),
        ("generated_model", text.clone()),
        ("generated_prompt", text.clone()),
        ("generated_finish_reason", text.clone()),
        ("generated_tokens", DataType::UInt32),
        ("generated_refused", text),
        ("audit", audit),
    ]
}

/// Names and types of rejected rows.
pub(super) fn reject_columns() -> Vec<(&'static str, DataType)> {
    let text = ["key", "url", "text_raw", "stage", "reason", "detail"];
    let text = text.map(|name| (name, DataType::Utf8));
    std::iter::once(("row", DataType::UInt64)).chain(text).collect()
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn structure(fields: Vec<(&str, DataType)>) -> DataType {
    let field = |(name, data_type)| Field::new(name, data_type, true);
    DataType::Struct(fields.into_iter().map(field).collect::<Fields>())
}

impl From<Sample> for Record {
    fn from(sample: Sample) -> Record {
        Record::of(sample).0
    }
}

impl Record {
    /// The row of a sample; its image and the source's columns stand beside.
    pub(super) fn of(sample: Sample) -> (Record, StoredImage, Extra) {
        let Sample { item, image, sha256, phash, tags, synthetic, generated, .. } = sample;
        let text = |text: &Arc<str>| text.to_string();
        let generated_ref = generated.as_ref();
        let record = Record {
            key: item.key,
            url: item.url,
            text_raw: item.text_raw,
            text_synthetic: synthetic.as_ref().map(|s| s.text.clone()),
            tags: tags.into_iter().map(TagRecord::of).collect(),
            width: image.width,
            height: image.height,
            original_width: image.original_width,
            original_height: image.original_height,
            sha256,
            phash,
            synthetic_model: synthetic.as_ref().map(|s| text(&s.model)),
            text_generated: generated_ref.map(|g| g.text.clone()),
            generated_writer: generated_ref.map(|g| text(&g.writer)),
            generated_model: generated_ref.map(|g| text(&g.model)),
            generated_prompt: generated_ref.map(|g| text(&g.prompt)),
            generated_finish_reason: generated_ref.map(|g| g.finish_reason.clone()),
            generated_tokens: generated_ref.and_then(|g| g.tokens),
            generated_refused: sample.generated_refused,
            audit: sample.audit,
        };
        (record, image, item.extra)
    }

    /// The sample again. Its picture is the stored one.
    pub(super) fn into_sample(self, image: StoredImage, extra: Extra) -> Sample {
        let arc = |text: Option<String>| Arc::from(text.unwrap_or_default());
        let synthetic =
            self.text_synthetic.map(|text| Synthetic { text, model: arc(self.synthetic_model) });
        let generated = self.text_generated.map(|text| Generated {
            text,
            writer: arc(self.generated_writer),
            model: arc(self.generated_model),
            prompt: arc(self.generated_prompt),
            finish_reason: self.generated_finish_reason.unwrap_or_default(),
            tokens: self.generated_tokens,
        });
        let picture = Picture::Absent { reason: Reason::ImageNull, detail: String::new() };
        let item = Item { key: self.key, picture, url: self.url, text_raw: self.text_raw, extra };
        Sample {
            item,
            image,
            sha256: self.sha256,
            phash: self.phash,
            tags: self.tags.into_iter().map(TagRecord::into_tag).collect(),
            synthetic,
            generated,
            generated_refused: self.generated_refused,
            audit: self.audit,
        }
    }

    /// The text an ordinary trainer reads: the best there is.
    pub fn best_text(&self) -> &str {
        let texts = [&self.text_generated, &self.text_synthetic, &self.text_raw];
        texts.into_iter().flatten().next().map_or("", String::as_str)
    }
}

impl TagRecord {
    fn of(tag: Tag) -> TagRecord {
        let Tag { label, score, bbox, model } = tag;
        TagRecord { label, score, bbox: bbox.map(Vec::from), model: model.to_string() }
    }

    fn into_tag(self) -> Tag {
        let bbox = self.bbox.and_then(|sides| sides.try_into().ok());
        Tag { label: self.label, score: self.score, bbox, model: Arc::from(self.model) }
    }
}

impl RejectRecord {
    /// The row of a reject, and the source's columns.
    pub(super) fn of(row: u64, item: Item, reject: Reject) -> (RejectRecord, Extra) {
        let record = RejectRecord {
            row,
            key: item.key,
            url: item.url,
            text_raw: item.text_raw,
            stage: reject.stage,
            reason: reject.reason.as_str().to_owned(),
            detail: reject.detail,
        };
        (record, item.extra)
    }

    /// The reject again.
    pub(super) fn into_rejected(self, extra: Extra) -> Result<(Item, Reject)> {
        let reason = Reason::from_words(&self.reason).with_context(|| {
            format!("{:?} is not a reason that this version knows", self.reason)
        })?;
        let picture = Picture::Absent { reason: Reason::ImageNull, detail: String::new() };
        let item = Item { key: self.key, picture, url: self.url, text_raw: self.text_raw, extra };
        Ok((item, Reject { stage: self.stage, reason, detail: self.detail }))
    }
}
