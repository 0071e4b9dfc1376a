//! What leaves the path: at which stage, for which reason. Both lists are closed.
//!
//! Items are turned away in `source` (as [`Picture::Absent`](crate::sample::Picture::Absent)), `fetch`
//! (`guard` before, `answer` after a request), `decode::check`, `dedup`, `perceive` (`network`, `safety`)
//! and `curate::select::decide`. They return a [`Reject`]; the pipeline and the selection write it down.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

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
