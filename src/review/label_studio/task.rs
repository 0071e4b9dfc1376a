//! A task in the form of Label Studio: what is shown, and the boxes and verdicts that are there already.

use serde::Serialize;

use crate::atomic_file;
use crate::review::Verdict;
use crate::review::label_studio::BOXES;
use crate::review::label_studio::PICTURE;
use crate::review::label_studio::VERDICT;
use crate::review::label_studio::config;
use crate::review::label_studio::export::Pictures;
use crate::review::label_studio::shown;
use crate::sample::Sample;
use crate::sample::Tag;

#[derive(Serialize)]
pub(super) struct Task {
    pub(super) data: Data,
    pub(super) predictions: Vec<Prediction>,
}

#[derive(Serialize)]
pub(super) struct Data {
    image: String,
    text_raw: String,
    text_synthetic: String,
    text_generated: String,
    tags: String,
    score: f32,
    flags: String,
    key: String,
    shard: u32,
    text_sha256: String,
}

#[derive(Serialize)]
pub(super) struct Prediction {
    pub(super) model_version: &'static str,
    pub(super) score: f32,
    pub(super) result: Vec<Region>,
}

#[derive(Serialize)]
pub(super) struct Region {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    from_name: &'static str,
    to_name: &'static str,
    #[serde(flatten)]
    size: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    value: Value,
}

/// Of the picture that Label Studio shows, in pixels.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Size {
    original_width: u32,
    original_height: u32,
    image_rotation: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Value {
    Box { x: f64, y: f64, width: f64, height: f64, rotation: f64, rectanglelabels: [String; 1] },
    Choice { choices: [String; 1] },
}

impl Data {
    pub(super) fn of(sample: &Sample, shard: u32, image: String) -> Data {
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        let text_generated = text(sample.generated.as_ref().map(|generated| &generated.text));
        Data {
            image,
            text_raw: text(sample.item.text_raw.as_ref()),
            text_synthetic: text(sample.synthetic.as_ref().map(|s| &s.text)),
            text_sha256: atomic_file::sha256(text_generated.as_bytes()),
            text_generated,
            tags: tags(&sample.tags),
            score: share(sample.audit.score),
            flags: sample.audit.reasons.join(", "),
            key: sample.item.key.clone(),
            shard,
        }
    }
}

impl Region {
    pub(super) fn label(&self) -> Option<String> {
        match &self.value {
            Value::Box { rectanglelabels: [label], .. } => Some(label.clone()),
            Value::Choice { .. } => None,
        }
    }
}

/// Each label once, with its highest score, in the order of the row.
pub(super) fn tags(tags: &[Tag]) -> String {
    let mut best: Vec<(&str, f32)> = Vec::new();
    for tag in tags {
        match best.iter_mut().find(|(label, _)| *label == tag.label) {
            Some((_, score)) => *score = score.max(tag.score),
            None => best.push((&tag.label, tag.score)),
        }
    }
    let words = best.iter().map(|(label, score)| format!("{label} {score:.2}"));
    words.collect::<Vec<_>>().join(", ")
}

/// The boxes of a row. They are in pixels of the original; of the stored picture the shares are the same.
pub(super) fn boxes(sample: &Sample, pictures: Pictures) -> impl Iterator<Item = Region> + '_ {
    let image = &sample.image;
    let (original_width, original_height) = match pictures {
        Pictures::Url => (image.original_width, image.original_height),
        Pictures::Embedded | Pictures::Files => (image.width, image.height),
    };
    let size = Size { original_width, original_height, image_rotation: 0 };
    let known = sample.tags.iter().filter(|tag| config::can_be_shown(&tag.label));
    let value = |tag: &Tag| percents(tag.bbox?, [image.original_width, image.original_height], tag);
    let valued = known.filter_map(move |tag| Some((tag.score, value(tag)?)));
    (1..).zip(valued).map(move |(number, (score, value)): (usize, _)| Region {
        id: format!("box-{number}"),
        kind: "rectanglelabels",
        from_name: BOXES,
        to_name: PICTURE,
        size: Some(size),
        score: Some(share(score)),
        value,
    })
}

/// In hundredths of a percent; nothing of what lies outside of the picture or has no area.
pub(super) fn percents(sides: [f32; 4], size: [u32; 2], tag: &Tag) -> Option<Value> {
    let percent = |at: f32, whole: u32| {
        let share = f64::from(at) / f64::from(whole.max(1));
        (share.clamp(0.0, 1.0) * 10_000.0).round() / 100.0
    };
    let [x1, y1, x2, y2] = sides;
    let (x, y) = (percent(x1, size[0]), percent(y1, size[1]));
    let hundredths = |side: f64| (side * 100.0).round() / 100.0;
    let (width, height) =
        (hundredths(percent(x2, size[0]) - x), hundredths(percent(y2, size[1]) - y));
    let is_seen = width > 0.0 && height > 0.0;
    let rectanglelabels = [tag.label.clone()];
    is_seen.then_some(Value::Box { x, y, width, height, rotation: 0.0, rectanglelabels })
}

pub(super) fn choice(verdict: Verdict) -> Region {
    Region {
        id: "verdict".to_owned(),
        kind: "choices",
        from_name: VERDICT,
        to_name: PICTURE,
        size: None,
        score: None,
        value: Value::Choice { choices: [shown(verdict)] },
    }
}

/// JSON has no NaN.
pub(super) fn share(score: f32) -> f32 {
    if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) }
}
