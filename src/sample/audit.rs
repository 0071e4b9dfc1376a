//! What the audit says of a text: a score, named flags, figures, and where each word comes from.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

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
