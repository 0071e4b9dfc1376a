//! What `config.json` and `generation_config.json` say, as Optimum leaves them beside the networks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

use super::Kind;
use super::Listing;
use super::preprocessing;
use super::preprocessing::Preprocessing;

/// An image classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagger {
    /// The network.
    pub model: PathBuf,
    /// Label of each output, in order.
    pub labels: Vec<String>,
    /// How logits become scores.
    pub activation: Activation,
    /// How a picture becomes its input.
    pub preprocessing: Preprocessing,
}

/// How the logits of a classifier become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Labels are independent.
    Sigmoid,
    /// One label of many.
    Softmax,
    /// None: the network gives scores.
    None,
}

/// An image encoder with a text decoder (`VisionEncoderDecoderModel`).
#[derive(Clone, Debug, PartialEq)]
pub struct Captioner {
    /// The image encoder.
    pub encoder: PathBuf,
    /// The text decoder, in one file or two.
    pub decoder: DecoderFiles,
    /// `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// Whether the tokenizer's own configuration asks for " ." to become "." and so on.
    pub clean_up_spaces: bool,
    /// Where a caption starts and ends.
    pub generation: Generation,
    /// How a picture becomes the encoder's input.
    pub preprocessing: Preprocessing,
}

/// The two ways Optimum exports a decoder with a cache.
#[derive(Clone, Debug, PartialEq)]
pub enum DecoderFiles {
    /// One network with a branch for the first token (`decoder_model_merged.onnx`).
    Merged(PathBuf),
    /// One network for the first token and one for the rest.
    Pair {
        /// `decoder_model.onnx`.
        first: PathBuf,
        /// `decoder_with_past_model.onnx`.
        next: PathBuf,
    },
}

/// What the model's own files say about generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The token a caption starts from.
    pub start: i64,
    /// Tokens that end a caption; never empty.
    pub end: Vec<i64>,
    /// New tokens at most, if the files say so.
    pub max_new_tokens: Option<usize>,
    /// Positions the decoder has at most, if the files say so.
    pub max_positions: Option<usize>,
    /// Settings of the file that this program does not follow; captions may differ from those of
    /// transformers because of them.
    pub ignored: Vec<String>,
}

/// The kind `config.json` tells, `None` when there is no such file or it tells nothing.
pub(super) fn read(listing: &mut Listing) -> Result<Option<Kind>> {
    if !listing.has("config.json") {
        return Ok(None);
    }
    let config: RawConfig = listing.json("config.json")?;
    if config.is_silent() {
        return Ok(None);
    }
    if config.names("ForImageClassification") {
        return tagger(listing, config).map(|t| Some(Kind::Tagger(t)));
    }
    if config.model_type.as_deref() == Some("vision-encoder-decoder") {
        return captioner(listing, &config).map(|c| Some(Kind::Captioner(c)));
    }
    bail!(
        "this kind of model is not supported yet (config.json says model_type {}, architectures \
         {}). Supported are image classifiers (...ForImageClassification), captioners with \
         model_type vision-encoder-decoder, and Ultralytics YOLO detectors (told by the metadata \
         in their ONNX file)",
        config.model_type.as_deref().unwrap_or("nothing"),
        config.architectures.join(", ")
    )
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: Option<String>,
    id2label: Option<BTreeMap<String, String>>,
    problem_type: Option<String>,
    /// Everything else; generation settings of older models live here.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl RawConfig {
    fn is_silent(&self) -> bool {
        self.architectures.is_empty() && self.model_type.is_none()
    }

    fn names(&self, suffix: &str) -> bool {
        self.architectures.iter().any(|a| a.ends_with(suffix))
    }
}

fn tagger(listing: &mut Listing, config: RawConfig) -> Result<Tagger> {
    let labels = labels(&config.id2label.context(
        "config.json has no id2label, so the outputs have no names: add it from the model's \
         repository",
    )?)?;
    Ok(Tagger {
        activation: activation(config.problem_type.as_deref(), labels.len()),
        labels,
        preprocessing: preprocessing::read(listing)?,
        model: listing.network("model")?,
    })
}

/// The rule of transformers' own image-classification pipeline.
fn activation(problem_type: Option<&str>, labels: usize) -> Activation {
    match problem_type {
        Some("multi_label_classification") => Activation::Sigmoid,
        _ if labels == 1 => Activation::Sigmoid,
        _ => Activation::Softmax,
    }
}

fn labels(id2label: &BTreeMap<String, String>) -> Result<Vec<String>> {
    (0..id2label.len())
        .map(|id| {
            let label = id2label.get(&id.to_string());
            label.cloned().with_context(|| {
                format!("id2label of config.json has {} labels but no id {id}", id2label.len())
            })
        })
        .collect()
}

fn captioner(listing: &mut Listing, config: &RawConfig) -> Result<Captioner> {
    Ok(Captioner {
        preprocessing: preprocessing::read(listing)?,
        generation: generation(listing, config)?,
        clean_up_spaces: clean_up_spaces(listing)?,
        tokenizer: listing.require("tokenizer.json")?,
        encoder: listing.network("encoder_model")?,
        decoder: decoder_files(listing)?,
    })
}

fn decoder_files(listing: &mut Listing) -> Result<DecoderFiles> {
    let has_pair = listing.find_network("decoder_with_past_model").is_some();
    if listing.find_network("decoder_model_merged").is_none() && has_pair {
        let first = listing.network("decoder_model")?;
        return Ok(DecoderFiles::Pair { first, next: listing.network("decoder_with_past_model")? });
    }
    listing.network("decoder_model_merged").map(DecoderFiles::Merged)
}

fn clean_up_spaces(listing: &mut Listing) -> Result<bool> {
    if !listing.has("tokenizer_config.json") {
        return Ok(false);
    }
    let config: Map<String, Value> = listing.json("tokenizer_config.json")?;
    Ok(config.get("clean_up_tokenization_spaces").and_then(Value::as_bool).unwrap_or(false))
}

/// Settings that change what transformers generates, with the value that changes nothing.
const UNFOLLOWED: [(&str, f64); 8] = [
    ("no_repeat_ngram_size", 0.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("repetition_penalty", 1.0),
    ("encoder_repetition_penalty", 1.0),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
    ("diversity_penalty", 0.0),
    ("num_beam_groups", 1.0),
];

/// Settings that change what transformers generates whenever they are there at all.
const UNFOLLOWED_IF_SET: [&str; 6] = [
    "forced_bos_token_id",
    "forced_eos_token_id",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "sequence_bias",
];

fn generation(listing: &mut Listing, config: &RawConfig) -> Result<Generation> {
    let mut sources: Vec<Map<String, Value>> = Vec::new();
    if listing.has("generation_config.json") {
        sources.push(listing.json("generation_config.json")?);
    }
    sources.push(config.rest.clone());
    if let Some(Value::Object(decoder)) = config.rest.get("decoder") {
        sources.push(decoder.clone());
    }
    let first = |key: &str| sources.iter().find_map(|s| s.get(key).filter(|v| !v.is_null()));
    let start = first("decoder_start_token_id").or_else(|| first("bos_token_id"));
    let end = first("eos_token_id").map(token_ids).unwrap_or_default();
    if end.is_empty() {
        bail!(
            "neither generation_config.json nor config.json has an eos_token_id: captions \
               would never end"
        );
    }
    Ok(Generation {
        start: start
            .and_then(Value::as_i64)
            .context("neither generation_config.json nor config.json has a start token")?,
        end,
        max_new_tokens: max_new_tokens(&sources[0]),
        max_positions: ["n_positions", "max_position_embeddings"]
            .iter()
            .find_map(|key| first(key).and_then(Value::as_u64))
            .map(|n| n as usize)
            .filter(|n| *n > 0),
        ignored: ignored(&sources[0]),
    })
}

fn token_ids(value: &Value) -> Vec<i64> {
    match value {
        Value::Array(many) => many.iter().filter_map(Value::as_i64).collect(),
        one => one.as_i64().into_iter().collect(),
    }
}

/// `max_length` counts the start token, `max_new_tokens` does not and wins.
fn max_new_tokens(settings: &Map<String, Value>) -> Option<usize> {
    let number = |key: &str| settings.get(key).and_then(Value::as_u64).map(|n| n as usize);
    number("max_new_tokens")
        .or_else(|| number("max_length").map(|n| n.saturating_sub(1)))
        .filter(|&n| n > 0)
}

fn ignored(settings: &Map<String, Value>) -> Vec<String> {
    let number = |key: &str| settings.get(key).and_then(Value::as_f64);
    let changed =
        UNFOLLOWED.iter().filter(|(key, neutral)| number(key).is_some_and(|n| n != *neutral));
    let set =
        UNFOLLOWED_IF_SET.iter().filter(|key| settings.get(**key).is_some_and(|v| !v.is_null()));
    let sampled = settings.get("do_sample").and_then(Value::as_bool).unwrap_or(false);
    let mut ignored: Vec<String> = changed.map(|(key, _)| key.to_string()).collect();
    ignored.extend(set.map(|key| key.to_string()));
    ignored.extend(sampled.then(|| "do_sample".to_owned()));
    ignored
}
