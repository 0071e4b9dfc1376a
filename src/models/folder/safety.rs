//! Classifiers of pictures that are not for everybody.
//!
//! The usual one, Yahoo's open_nsfw, is a bare network: no exporter wrote down how it wants to see a
//! picture, and it minds every step. So its folder has a `recaption.json`, which `recaption models pull`
//! writes. A classifier from the Hub needs none: it has its `config.json`, and a label that says it.

use std::collections::BTreeSet;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde::Deserialize;

use super::Activation;
use super::Channels;
use super::Layout;
use super::Listing;
use super::Preprocessing;
use super::Resample;
use super::Resize;
use super::Tagger;

/// The file that describes such a folder.
pub const DESCRIPTION: &str = "recaption.json";

/// Labels that stand for an unsafe picture, where a classifier from the Hub has them.
const UNSAFE: [&str; 5] = ["nsfw", "unsafe", "porn", "hentai", "sexy"];

/// A network that passes a picture through a JPEG takes sides of whole blocks only.
const JPEG_MULTIPLE: u32 = 16;

/// A classifier of which some labels mean that a picture is unsafe.
#[derive(Clone, Debug, PartialEq)]
pub struct Safety {
    /// The classifier.
    pub classifier: Tagger,
    /// Places of those labels; never empty.
    pub unsafe_labels: Vec<usize>,
}

impl Safety {
    /// A classifier from the Hub, if some label of it says that a picture is unsafe.
    ///
    /// # Errors
    /// When none does.
    pub fn of_tagger(classifier: Tagger) -> Result<Safety> {
        let is_unsafe = |label: &String| UNSAFE.contains(&label.to_lowercase().as_str());
        let unsafe_labels = places(&classifier.labels, is_unsafe);
        ensure!(
            !unsafe_labels.is_empty(),
            "none of its labels is one of {}: name a classifier that has one, or say in a \
             {DESCRIPTION} beside the network which labels are unsafe",
            UNSAFE.join(", ")
        );
        Ok(Safety { classifier, unsafe_labels })
    }
}

/// `recaption.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    kind: String,
    /// Of each output, in order.
    labels: Vec<String>,
    /// Those of them that mean an unsafe picture; their scores are added up.
    #[serde(rename = "unsafe")]
    unsafe_labels: BTreeSet<String>,
    /// `none` where the network gives scores, else `softmax` or `sigmoid`.
    activation: Activation,
    #[serde(default)]
    layout: Layout,
    #[serde(default)]
    channels: Channels,
    /// Width and height.
    resize: [u32; 2],
    jpeg_quality: Option<u8>,
    /// Width and height of the middle that is cut out; all of it without.
    crop: Option<[u32; 2]>,
    #[serde(default = "per_byte")]
    rescale_factor: f64,
    #[serde(default)]
    mean: [f32; 3],
    #[serde(default = "ones")]
    std: [f32; 3],
}

fn per_byte() -> f64 {
    1.0 / 255.0
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

pub(super) fn read(listing: &mut Listing) -> Result<Safety> {
    let raw: Raw = listing.json(DESCRIPTION)?;
    let classifier = classifier(listing, &raw).context(DESCRIPTION)?;
    let unsafe_labels = places(&raw.labels, |label| raw.unsafe_labels.contains(label));
    Ok(Safety { classifier, unsafe_labels })
}

fn classifier(listing: &mut Listing, raw: &Raw) -> Result<Tagger> {
    ensure!(raw.kind == "safety", "kind {:?} is not known, only \"safety\"", raw.kind);
    let unknown = raw.unsafe_labels.iter().find(|label| !raw.labels.contains(label));
    ensure!(unknown.is_none(), "unsafe {:?} is not among labels", unknown.map_or("", |u| u));
    ensure!(!raw.unsafe_labels.is_empty(), "unsafe is empty: no picture could be unsafe");
    Ok(Tagger {
        labels: raw.labels.clone(),
        activation: raw.activation,
        preprocessing: preprocessing(raw)?,
        model: listing.network("model")?,
    })
}

fn preprocessing(raw: &Raw) -> Result<Preprocessing> {
    let [width, height] = raw.resize;
    let [crop_width, crop_height] = raw.crop.unwrap_or(raw.resize);
    let quality = raw.jpeg_quality;
    let is_odd = |side: u32| !side.is_multiple_of(JPEG_MULTIPLE);
    if quality.is_some() && (is_odd(width) || is_odd(height)) {
        bail!("resize {width}x{height} with jpeg_quality: give multiples of {JPEG_MULTIPLE}");
    }
    ensure!(quality.is_none_or(|q| (1..=100).contains(&q)), "jpeg_quality is not 1 to 100");
    let is_usable = raw.rescale_factor.is_finite()
        && raw.mean.iter().all(|mean| mean.is_finite())
        && raw.std.iter().all(|std| std.is_finite() && *std > 0.0);
    ensure!(is_usable, "rescale_factor, mean or std cannot be calculated with");
    Ok(Preprocessing {
        resize: Resize::ThroughJpeg { width, height, quality, crop_width, crop_height }
            .checked()?,
        resample: Resample::Bilinear,
        rescale_factor: raw.rescale_factor,
        mean: raw.mean,
        std: raw.std,
        channels: raw.channels,
        layout: raw.layout,
    })
}

fn places(labels: &[String], is_wanted: impl Fn(&String) -> bool) -> Vec<usize> {
    (0..labels.len()).filter(|&place| is_wanted(&labels[place])).collect()
}
