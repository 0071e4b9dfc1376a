//! The words every stage speaks: items, samples, tags, rejects and the reasons for them.
//!
//! This file owns plain data only. It never touches Arrow, a model, a socket or a file, so that any
//! stage can be read with this page open beside it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// A closed list of words: its names in code and in columns.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            JsonSchema,
        )]
        pub enum $name { $($(#[$item_doc])* #[serde(rename = $word)] $item,)* }

        impl $name {
            /// Every one, in order.
            pub const ALL: &'static [$name] = &[$($name::$item,)*];

            /// The word used in columns and pages.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$item => $word,)* }
            }
        }
    };
}

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

/// How far a generated text can be trusted, and the figures that say so.
///
/// Shares and similarities are 0..1; `None` where there is nothing to compare. Rows of older runs lack
/// the newer fields, which then have their defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Audit {
    /// Trust: 0 (invented) to 1 (each content word has a source and no flag was raised).
    pub score: f32,
    /// Named flags, for example `email`, `longer_than_77_tokens`.
    pub reasons: Vec<String>,
    /// What each flag was raised for: words of the text, or a figure. In the order of `reasons`.
    pub evidence: Vec<String>,
    /// Where each content word of the generated text comes from, in order of appearance.
    pub words: Vec<WordOrigin>,
    /// Words for objects that the text names.
    pub objects: u32,
    /// Those of them that no source has: `objects_nowhere / objects` is CHAIR_i, open to all words.
    pub objects_nowhere: u32,
    /// Words for attributes: colour, size, material, state.
    pub attributes: u32,
    /// Those that no source has.
    pub attributes_nowhere: u32,
    /// Numbers, in digits or words.
    pub numbers: u32,
    /// Those that no source has.
    pub numbers_nowhere: u32,
    /// Names of people, places and brands.
    pub names: u32,
    /// Those that no source has.
    pub names_nowhere: u32,
    /// Names, numbers, years and places of the raw text that the generated text has too.
    pub kept: Vec<String>,
    /// Those that it has not.
    pub lost: Vec<String>,
    /// Share of the text's runs of two words that no source has.
    pub novelty: Option<f32>,
    /// Words of the longest run that was copied from one source.
    pub longest_copy: u32,
    /// Likeness of the content words of raw text and synthetic caption.
    pub raw_synthetic: Option<f32>,
    /// Likeness of raw and generated text.
    pub raw_generated: Option<f32>,
    /// Likeness of synthetic caption and generated text.
    pub synthetic_generated: Option<f32>,
    /// Words of the generated text.
    pub length_words: u32,
    /// Its CLIP tokens, with start and end; CLIP cuts after 77.
    pub length_tokens: u32,
    /// ISO 639-3 code of its language, where one is clear.
    pub language: Option<String>,
}

/// A content word of the generated text and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WordOrigin {
    /// The word as written.
    pub word: String,
    /// Its source.
    pub origin: Origin,
    /// What sort of word it is.
    #[serde(default)]
    pub kind: Kind,
    /// How the source has it; `None` for a word from nowhere.
    #[serde(default)]
    pub link: Option<Link>,
    /// Where it starts in the text, in characters (Unicode scalar values, as Python counts).
    #[serde(default)]
    pub start: u32,
    /// Where it ends.
    #[serde(default)]
    pub end: u32,
}

words! {
    /// What sort of word a content word is.
    Kind {
        /// A thing, an animal, a person, a place that can be seen.
        Object = "object",
        /// Colour, size, material, state.
        Attribute = "attribute",
        /// What somebody or something does.
        Action = "action",
        /// In digits or words; years too.
        Number = "number",
        /// Of a person, a place, a brand.
        Name = "name",
        /// Where things are to each other: `under`, `left of`.
        Relation = "relation",
        /// None of these: an abstract noun, an adverb, a word of another language.
        Other = "other",
    }
}

words! {
    /// How a source has a word of the text.
    Link {
        /// The same word, perhaps in another form: `cats` and `cat`, `3` and `three`.
        Same = "same",
        /// Another word for the same: `sofa` and `couch`.
        Synonym = "synonym",
        /// The text says it more broadly: `animal` where a source has `dog`.
        Broader = "broader",
        /// The text says it more narrowly: `poodle` where a source has `dog`.
        Narrower = "narrower",
        /// A part of a compound, or a compound of parts: `snowman` and `snow man`.
        Compound = "compound",
        /// Of the same family, or near in meaning: `snowy` and `snow`.
        Related = "related",
        /// A text-embedding model finds it close to a word or phrase of a source: `skyline` and `tall
        /// buildings`.
        Near = "near",
    }
}

impl WordOrigin {
    /// A word of no known kind and place.
    pub fn new(word: impl Into<String>, origin: Origin) -> WordOrigin {
        WordOrigin { word: word.into(), origin, kind: Kind::Other, link: None, start: 0, end: 0 }
    }
}

#[expect(clippy::derivable_impls, reason = "the macro writes all lists of words alike")]
impl Default for Kind {
    fn default() -> Kind {
        Kind::Other
    }
}

words! {
    /// Where a content word of the generated text comes from; the first that fits.
    Origin {
        /// A tag of a vision model.
        Tag = "tag",
        /// The synthetic caption.
        Synthetic = "synthetic",
        /// The raw text.
        Raw = "raw",
        /// No source has it: perhaps invented.
        Nowhere = "nowhere",
    }
}

/// An item that left the path; a row of a rejects shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    /// Where it left.
    pub stage: Stage,
    /// Why, from a closed list.
    pub reason: Reason,
    /// What exactly: the decoder's words, the status line, the size.
    pub detail: String,
}

impl Reject {
    /// A reject with a detail for people.
    pub fn new(stage: Stage, reason: Reason, detail: impl Into<String>) -> Reject {
        Reject { stage, reason, detail: detail.into() }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage.as_str(), self.reason.as_str())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// The stations of the path, in order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading the row.
    Source,
    /// Getting the bytes of a url.
    Fetch,
    /// Bytes to upright RGB.
    Decode,
    /// First copy within a shard.
    Dedup,
    /// Tags, boxes and captions.
    Perceive,
    /// Fusing the texts.
    Describe,
    /// Choosing among the rows of a finished run.
    Select,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 7] = [
        Stage::Source,
        Stage::Fetch,
        Stage::Decode,
        Stage::Dedup,
        Stage::Perceive,
        Stage::Describe,
        Stage::Select,
    ];

    /// The word used in columns and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Source => "source",
            Stage::Fetch => "fetch",
            Stage::Decode => "decode",
            Stage::Dedup => "dedup",
            Stage::Perceive => "perceive",
            Stage::Describe => "describe",
            Stage::Select => "select",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $words:literal $(, $retry:ident)?;)*) => {
        /// Why an item left the path. A closed list: a new reason is a new line here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The words written in the `reason` column.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $words,)* }
            }

            /// Whether another attempt may go better (`--retry-rejects` takes only these unless
            /// told to take all).
            pub fn retryable(self) -> bool {
                match self { $(Reason::$name => reasons!(@retry $($retry)?),)* }
            }
        }
    };
    (@retry) => { false };
    (@retry retryable) => { true };
}

reasons! {
    /// The row has no image cell.
    ImageNull = "image is null";
    /// The image cell has no bytes in it.
    ImageBytesNull = "image bytes are null";
    /// Zero bytes.
    ImageEmpty = "empty image bytes";
    /// A metadata row names a file that is not there or cannot be read.
    FileMissing = "image file is missing", retryable;
    /// The source row itself cannot be read (bad CSV quoting, bad JSON).
    RowMalformed = "source row is malformed";
    /// The row has neither picture nor url.
    UrlMissing = "url is missing";
    /// Not an http(s) url that may be asked for.
    UrlInvalid = "url is invalid";
    /// The address is private, loopback or otherwise not for crawling.
    AddressBlocked = "address is blocked";
    /// A redirect led where it may not.
    RedirectBlocked = "redirect is blocked";
    /// Redirects without end.
    RedirectLoop = "too many redirects";
    /// The host asked not to be used for this (X-Robots-Tag), or a list of opt-outs names the row.
    OptedOut = "opted out";
    /// 404 or 410.
    NotFound = "not found";
    /// 401, 403, 451.
    Forbidden = "access denied";
    /// Another status that is not a success.
    HttpStatus = "http error", retryable;
    /// 429 (or 503 with Retry-After) until the attempts were used up.
    RateLimited = "rate limited", retryable;
    /// The name does not resolve.
    DnsFailed = "name does not resolve", retryable;
    /// No connection, or it broke.
    ConnectionFailed = "connection failed", retryable;
    /// No connection in time.
    TimeoutConnect = "timeout while connecting", retryable;
    /// No response head in time.
    TimeoutHeader = "timeout while waiting for the answer", retryable;
    /// The body did not arrive in time.
    TimeoutBody = "timeout while reading the body", retryable;
    /// More bytes than allowed.
    BodyTooLarge = "body is too large";
    /// Fewer bytes than announced.
    BodyTruncated = "body is truncated", retryable;
    /// A compressed body was sent although none was asked for.
    BodyEncoded = "body is compressed";
    /// The host failed too often in this run.
    HostUnavailable = "host is unavailable", retryable;
    /// Bytes of something else: HTML, JSON, unknown.
    NotAnImage = "not an image";
    /// A vector picture; never rasterised here.
    NotRaster = "not a raster image";
    /// An image format that is not built in.
    UnsupportedFormat = "image format is not supported";
    /// The bytes break off or do not decode.
    Corrupt = "corrupt image";
    /// Header says more pixels than allowed; nothing was allocated.
    TooManyPixels = "too many pixels";
    /// Shorter side below the minimum.
    TooSmall = "image too small";
    /// Longer side over shorter side above the maximum.
    ExtremeAspect = "extreme aspect ratio";
    /// One colour, or fully transparent.
    Blank = "blank image";
    /// Same bytes as an earlier row of the shard.
    Duplicate = "duplicate image";
    /// Looks like an earlier row of the shard.
    NearDuplicate = "near-duplicate image";
    /// A model failed on this picture.
    ModelFailed = "model failed", retryable;
    /// A model gave NaN or infinity.
    NanOutput = "model output is not a number";
    /// The safety classifier's score is above `perceive.max_nsfw`.
    Unsafe = "unsafe";
    /// No writer gave an acceptable text and none may be missing.
    NoText = "no generated text was accepted", retryable;
    /// The expression of a selection is not true of the row.
    NotSelected = "not selected";
    /// People judged the text, and the selection does not take what they said.
    Judged = "verdict of people";
    /// Nobody judged the text, and the selection takes only what was judged.
    NotReviewed = "not reviewed";
}

impl Reason {
    /// The reason written as these words, if there is one.
    pub fn from_words(words: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|r| r.as_str() == words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_reasons_are_distinct_and_found_again() {
        for &r in Reason::ALL {
            assert_eq!(Reason::from_words(r.as_str()), Some(r));
        }
    }
}
