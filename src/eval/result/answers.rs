//! What became of each sample, in as few letters as that needs.

use std::borrow::Cow;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use sha2::Digest;
use sha2::Sha256;

/// The rank of the right answer of each sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answers {
    /// SHA-256 of what was asked, in its order: only answers to the same questions can be paired.
    pub questions: String,
    /// How many wrong answers came before the right one; 255 stands for as many or more.
    pub ranks: Bytes,
    /// The class of each sample of a classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
}

/// A byte for each sample, in base64.
#[derive(Clone, Debug, PartialEq)]
pub struct Bytes(pub Vec<u8>);

/// Two bytes for each sample, the lower first, in base64.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes(pub Vec<u16>);

impl Answers {
    /// Answers to `questions`, which is the hash of them.
    ///
    /// # Errors
    /// When there are more classes than two bytes can tell apart, or lengths differ.
    pub fn new(questions: String, ranks: &[usize], classes: Option<&[usize]>) -> Result<Answers> {
        let byte = |&rank: &usize| rank.min(usize::from(u8::MAX)) as u8;
        let number = |&class: &usize| u16::try_from(class).context("more classes than 65,536");
        let classes = match classes {
            Some(classes) => {
                ensure!(classes.len() == ranks.len(), "ranks and classes differ in number");
                Some(Classes(classes.iter().map(number).collect::<Result<_>>()?))
            }
            None => None,
        };
        Ok(Answers { questions, ranks: Bytes(ranks.iter().map(byte).collect()), classes })
    }
}

/// A hash of words in their order; where one ends and the next begins is part of it.
pub(in crate::eval) fn hash_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text).map(Bytes).map_err(D::Error::custom)
    }
}

impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|class| class.to_le_bytes()).collect();
        to.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Classes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Classes, D::Error> {
        let Bytes(bytes) = Bytes::deserialize(from)?;
        let (pairs, []) = bytes.as_chunks::<2>() else {
            return Err(D::Error::custom("an odd number of bytes"));
        };
        Ok(Classes(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect()))
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A byte for each sample, in base64.",
            "type": "string",
            "contentEncoding": "base64"
        })
    }
}

impl JsonSchema for Classes {
    fn schema_name() -> Cow<'static, str> {
        "Classes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Two bytes for each sample, the lower first, in base64.",
            "type": "string",
            "contentEncoding": "base64"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_their_letters() {
        let answers = Answers::new("q".to_owned(), &[0, 254, 300], Some(&[0, 1, 65_535])).unwrap();
        let json = serde_json::to_string(&answers).unwrap();
        assert_eq!(serde_json::from_str::<Answers>(&json).unwrap(), answers);
        assert_eq!(answers.ranks.0, [0, 254, 255]);
        assert!(Answers::new("q".to_owned(), &[0], Some(&[65_536])).is_err());
        assert!(serde_json::from_str::<Classes>("\"AAAA\"").is_err());
        assert!(serde_json::from_str::<Bytes>("\"!\"").is_err());
    }

    #[test]
    fn a_hash_knows_where_words_end() {
        let hash = |words: &[&str]| hash_of(words.iter().copied());
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
    }
}
