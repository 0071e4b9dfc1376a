//! One row of a shard in Rust and in JSON; `columns` has its twin in Arrow.
//!
//! The serde structs here are the definition: parquet columns, the JSON of webdataset members and
//! the JSON Schemas in `schemas/` all come from them. Only the image stands beside: its bytes never
//! pass through JSON.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::sample::Audit;
use crate::sample::Extra;
use crate::sample::Fit;
use crate::sample::Generated;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Safety;
use crate::sample::Sample;
use crate::sample::Stage;
use crate::sample::StoredImage;
use crate::sample::Synthetic;
use crate::sample::Tag;

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
    /// `rules`, `local` or `remote`; `human` where a person wrote the text.
    pub generated_writer: Option<String>,
    /// Model and revision of the writer; of a person, the name.
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
    /// Cosine of the picture's and `text_raw`'s embeddings, where `--clip` asked for it.
    pub clip_raw: Option<f32>,
    /// The same for `text_synthetic`.
    pub clip_synthetic: Option<f32>,
    /// The same for `text_generated`.
    pub clip_generated: Option<f32>,
    /// Weights that embedded them: name and hash.
    pub clip_model: Option<String>,
    /// How surely the picture is not for everybody, 0..1; null where no safety classifier was asked.
    pub nsfw: Option<f32>,
    /// Model and hash of the safety classifier.
    pub nsfw_model: Option<String>,
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

/// A record as a JSON object. By way of text: as a value, an f32 would have the digits of an f64, and
/// the filter "score >= 0.9" would be true of 0.9 in parquet and not in a tar.
///
/// # Errors
/// When it is no object, which no record is.
pub fn json(record: &impl Serialize) -> Result<Extra> {
    Ok(serde_json::from_slice(&serde_json::to_vec(record)?)?)
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

impl From<Sample> for Record {
    fn from(sample: Sample) -> Record {
        Record::of(sample).0
    }
}

impl Record {
    /// The row of a sample; its image and the source's columns stand beside.
    pub(super) fn of(sample: Sample) -> (Record, StoredImage, Extra) {
        let Sample { item, image, sha256, phash, tags, synthetic, generated, fit, safety, .. } =
            sample;
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
            clip_raw: fit.as_ref().and_then(|fit| fit.raw),
            clip_synthetic: fit.as_ref().and_then(|fit| fit.synthetic),
            clip_generated: fit.as_ref().and_then(|fit| fit.generated),
            clip_model: fit.as_ref().map(|fit| text(&fit.model)),
            nsfw: safety.as_ref().map(|safety| safety.nsfw),
            nsfw_model: safety.as_ref().map(|safety| text(&safety.model)),
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
        let fit = self.clip_model.map(|model| Fit {
            raw: self.clip_raw,
            synthetic: self.clip_synthetic,
            generated: self.clip_generated,
            model: Arc::from(model),
        });
        let model = self.nsfw_model;
        let safety = self.nsfw.map(|nsfw| Safety { nsfw, model: arc(model) });
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
            fit,
            safety,
        }
    }

    /// The text an ordinary trainer reads: the best there is.
    pub fn best_text(&self) -> &str {
        let texts = [&self.text_generated, &self.text_synthetic, &self.text_raw];
        texts.into_iter().flatten().next().map_or("", String::as_str)
    }
}

impl From<Tag> for TagRecord {
    fn from(tag: Tag) -> TagRecord {
        TagRecord::of(tag)
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
