//! The words every stage speaks: items, samples and their parts here, verdicts on their texts in
//! `audit`, what leaves the path and why in `reject`.
//!
//! These files own plain data only. They never touch Arrow, a model, a socket or a file, so that any
//! stage can be read with them open beside it.

mod audit;
mod reject;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

pub use crate::sample::audit::Audit;
pub use crate::sample::audit::Kind;
pub use crate::sample::audit::Link;
pub use crate::sample::audit::Origin;
pub use crate::sample::audit::WordOrigin;
pub use crate::sample::reject::Reason;
pub use crate::sample::reject::Reject;
pub use crate::sample::reject::Stage;

/// One row of the source, before anything was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Stable and unique within its shard: the source's own key, else a hash of the url or bytes.
    pub key: String,
    /// Where the pixels are.
    pub picture: Picture,
    /// Where the web had the picture, when the source says so.
    pub url: Option<String>,
    /// What the web said about it (T_r).
    pub text_raw: Option<String>,
    /// Every other column of the source, in the order of [`ExtraColumn`]s; absent means null.
    pub extra: Extra,
}

/// The source's other columns of one row, by name.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// A column of the source that is carried through unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExtraColumn {
    /// Name in the source.
    pub name: String,
    /// Arrow data type in Arrow's own JSON form (so that this file needs no Arrow).
    pub data_type: serde_json::Value,
}

/// Where the pixels of an item are.
#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    /// Encoded image bytes, already at hand.
    Bytes {
        /// The file as it was found.
        bytes: Bytes,
        /// File name, if the source knows one.
        name: Option<String>,
    },
    /// To be fetched.
    Url(String),
    /// The source has no picture for this row.
    Absent {
        /// Why.
        reason: Reason,
        /// What exactly.
        detail: String,
    },
}

/// An item that has been seen and described; a row of a refined shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The row it came from; `item.picture` is emptied once the image is stored.
    pub item: Item,
    /// The picture as the shard keeps it.
    pub image: StoredImage,
    /// SHA-256 of the original bytes, lower-case hex.
    pub sha256: String,
    /// 64-bit perceptual hash of the upright picture.
    pub phash: u64,
    /// Tags of all models, best first within a model.
    pub tags: Vec<Tag>,
    /// What the captioner saw (T_s).
    pub synthetic: Option<Synthetic>,
    /// What the writer made of all of it (T_g); `None` where nothing was accepted.
    pub generated: Option<Generated>,
    /// Why a better writer's reply was not taken, in words, when that happened.
    pub generated_refused: Option<String>,
    /// How far `generated` can be trusted.
    pub audit: Audit,
    /// How well the texts fit the picture, where a model was asked.
    pub fit: Option<Fit>,
    /// How unsafe the picture is, where a model was asked.
    pub safety: Option<Safety>,
}

impl Sample {
    /// A row whose picture was decoded, before any model has seen it and any writer has written.
    pub fn decoded(item: Item, image: StoredImage, sha256: String, phash: u64) -> Sample {
        Sample {
            item,
            image,
            sha256,
            phash,
            tags: Vec::new(),
            synthetic: None,
            generated: None,
            generated_refused: None,
            audit: Audit::default(),
            fit: None,
            safety: None,
        }
    }
}

/// What a safety classifier says of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Safety {
    /// How surely the picture is not for everybody, 0..1.
    pub nsfw: f32,
    /// The model that said so: `name@first-8-of-sha256`.
    pub model: Arc<str>,
}

/// Cosines of the picture's embedding and those of its texts, -1..1; `None` where there is no text.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Of what the web said.
    pub raw: Option<f32>,
    /// Of what the captioner saw.
    pub synthetic: Option<f32>,
    /// Of what the writer made.
    pub generated: Option<f32>,
    /// The model that embedded them: `name@first-8-of-sha256`.
    pub model: Arc<str>,
}

/// The picture as the shard keeps it: upright, RGB or grey, longer side capped.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredImage {
    /// JPEG, PNG or WebP bytes.
    pub bytes: Bytes,
    /// File name with the extension that fits the bytes.
    pub path: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pixels, after EXIF orientation, before any resize.
    pub original_width: u32,
    /// Pixels, after EXIF orientation, before any resize.
    pub original_height: u32,
}

/// One label a model gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    /// The label, as the model's own list spells it.
    pub label: String,
    /// 0..1.
    pub score: f32,
    /// `[x1, y1, x2, y2]` in pixels of the original upright picture, for detections.
    pub bbox: Option<[f32; 4]>,
    /// The model that said so: `name@first-8-of-sha256`.
    pub model: Arc<str>,
}

/// A caption by a captioning model.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// The caption.
    pub text: String,
    /// `name@first-8-of-sha256`.
    pub model: Arc<str>,
}

/// A text by a [writer](crate::describe), with its provenance.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The text.
    pub text: String,
    /// `rules`, `local` or `remote`; `human` where a person wrote the text.
    pub writer: Arc<str>,
    /// Model and revision, as exactly as the writer knows them.
    pub model: Arc<str>,
    /// Hash of the prompt files (or of the grammar) that made it.
    pub prompt: Arc<str>,
    /// `stop`, `length`, or what the endpoint said.
    pub finish_reason: String,
    /// Completion tokens, where a model counted them.
    pub tokens: Option<u32>,
}
