//! Does a model folder say here what it said where it was exported?
//!
//! `recaption models doctor` runs pictures through a folder from file to final answer and compares
//! with answers recorded by the Python stack. ONNX exports with a wrong normalisation are a known
//! plague: they load, run and give plausible nonsense. A folder agrees only if every picture does.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use fast_image_resize::Resizer;
use serde::Serialize;

use crate::decode;
use crate::decode::Limits;
use crate::models::folder::Kind;
use crate::models::folder::ModelFolder;
use crate::models::folder::Precision;
use crate::perceive::Config;
use crate::perceive::Models;
use crate::perceive::OnnxRuntime;
use crate::perceive::Perceiver;
use crate::perceive::caption::Caption;
use crate::perceive::detect::Thresholds;
use crate::perceive::doctor::expected::Detection;
use crate::perceive::doctor::expected::Expected;
use crate::perceive::doctor::expected::ExpectedCaption;
use crate::perceive::doctor::expected::ExpectedCaptions;
use crate::perceive::doctor::expected::ExpectedSafety;
use crate::perceive::doctor::expected::ExpectedTags;
use crate::perceive::doctor::expected::Meta;
use crate::perceive::doctor::expected::Picture;
use crate::perceive::images;
use crate::perceive::search::Rules;
use crate::sample::Reject;
use crate::sample::Tag;

mod expected;

/// Scores (0 to 1) may differ by this: another JPEG decoder and resizer move pixels by a level or
/// two, and that moves a score by some thousandths.
pub const SCORE_TOLERANCE: f32 = 1e-2;

/// Corners of boxes may differ by this many pixels of the original picture, for the same reason.
pub const BOX_TOLERANCE_PIXELS: f32 = 0.5;

/// What to examine.
#[derive(Clone, Debug)]
pub struct Examination {
    /// The model folder.
    pub folder: PathBuf,
    /// Recorded answers (`expected.json`).
    pub expected: PathBuf,
    /// Where the pictures are; each is looked for by its recorded path, then by its file name.
    pub images: PathBuf,
    /// Which export of the weights.
    pub precision: Precision,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `tagger`, `detector`, `captioner` or `safety classifier`.
    pub kind: &'static str,
    /// `name@first-8-of-sha256`.
    pub model: String,
    /// Pictures that were compared.
    pub compared: usize,
    /// Everything that differs by more than the tolerances.
    pub differences: Vec<Difference>,
}

/// One answer that is not the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The picture.
    pub file: String,
    /// What was found and what was expected.
    pub what: String,
}

impl Report {
    /// Whether the folder does what it did where it was exported.
    pub fn agrees(&self) -> bool {
        self.differences.is_empty()
    }

    /// Pictures with at least one difference.
    pub fn differing_pictures(&self) -> usize {
        self.differences.iter().map(|d| &d.file).collect::<BTreeSet<_>>().len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "{}: {}", difference.file, difference.what)?;
        }
        let (differing, compared) = (self.differing_pictures(), self.compared);
        let agreeing = compared - differing;
        write!(f, "{} {}: {agreeing} of {compared} pictures agree", self.kind, self.model)
    }
}

/// Runs every recorded picture through the folder and compares.
pub fn examine(runtime: &OnnxRuntime, examination: &Examination) -> Result<Report> {
    let expected = expected::read(&examination.expected)?;
    let folder = ModelFolder::open_as(&examination.folder, examination.precision)?;
    let models = Models::open(&config(examination, &folder.kind, &expected))?;
    let mut patient = Patient { perceiver: Perceiver::load(runtime, &models)?, examination };
    let mut report = Report {
        kind: folder.kind.as_str(),
        model: folder.label.to_string(),
        compared: 0,
        differences: Vec::new(),
    };
    for picture in &expected.images {
        if let Some(differences) = patient.compare(picture, &expected.meta)? {
            report.compared += 1;
            let file = &picture.file;
            let named = differences.into_iter().map(|what| Difference { file: file.clone(), what });
            report.differences.extend(named);
        }
    }
    ensure!(
        report.compared > 0,
        "{} records no answer of a {}: nothing to compare with",
        examination.expected.display(),
        report.kind
    );
    Ok(report)
}

fn config(examination: &Examination, kind: &Kind, expected: &Expected) -> Config {
    let path = Some(examination.folder.clone());
    let mut config = Config { precision: examination.precision, ..Config::default() };
    match kind {
        Kind::Tagger(_) => config.tagger = path,
        Kind::Detector(_) => config.detector = path,
        Kind::Captioner(_) => config.captioner = path,
        Kind::Safety(_) => config.safety = path,
    }
    config.detection_confidence = expected.meta.nms.conf;
    config.detection_iou = expected.meta.nms.iou;
    config.max_detections = usize::MAX;
    config.max_new_tokens = expected.meta.generation.as_ref().map(|g| g.max_new_tokens);
    config
}

struct Patient<'a> {
    perceiver: Perceiver,
    examination: &'a Examination,
}

impl Patient<'_> {
    /// The differences of one picture; `None` where nothing is recorded for this kind of model.
    fn compare(&mut self, picture: &Picture, meta: &Meta) -> Result<Option<Vec<String>>> {
        if let (Some(expected), true) = (&picture.tagger, self.perceiver.tagger.is_some()) {
            return self.compare_tags(picture, expected).map(Some);
        }
        if let (Some(expected), true) = (&picture.detector, self.perceiver.detector.is_some()) {
            return self.compare_boxes(picture, &expected.detections, meta).map(Some);
        }
        if let (Some(expected), true) = (&picture.captioner, self.perceiver.captioner.is_some()) {
            return self.compare_captions(picture, expected, meta).map(Some);
        }
        if let (Some(expected), true) = (&picture.safety, self.perceiver.safety.is_some()) {
            return self.compare_safety(picture, expected).map(Some);
        }
        Ok(None)
    }

    fn compare_safety(
        &mut self,
        picture: &Picture,
        expected: &ExpectedSafety,
    ) -> Result<Vec<String>> {
        self.look(picture)?;
        let input = images(&self.perceiver.models, &self.perceiver.tensors, 0, 1);
        let classifier = self.perceiver.safety.as_mut().context("no safety classifier")?;
        let found = match one(classifier.rate(input, None))? {
            Ok(safety) => safety.nsfw,
            Err(reject) => return Ok(vec![reject.to_string()]),
        };
        let (far, wanted) = (found - expected.nsfw, expected.nsfw);
        let differs = far.abs() > SCORE_TOLERANCE;
        Ok(differs
            .then(|| format!("nsfw is {found:.4}, expected {wanted:.4}"))
            .into_iter()
            .collect())
    }

    fn compare_tags(&mut self, picture: &Picture, expected: &ExpectedTags) -> Result<Vec<String>> {
        self.look(picture)?;
        let input = images(&self.perceiver.models, &self.perceiver.tensors, 0, 1);
        let tagger = self.perceiver.tagger.as_mut().context("no tagger")?;
        let found = match one(tagger.scores(input)?)? {
            Ok(scores) => scores,
            Err(reject) => return Ok(vec![reject.to_string()]),
        };
        let labels = tagger.labels().iter();
        let wanted = |label: &String| expected.top8.iter().find(|t| t.label == *label);
        let unknown = expected.top8.iter().filter(|t| !tagger.labels().contains(&t.label));
        let unknown = unknown.map(|t| format!("the model has no label {}", t.label));
        let differing = labels.zip(found).filter_map(|(label, score)| {
            let wanted = wanted(label)?.p;
            let far = (score - wanted).abs() > SCORE_TOLERANCE;
            far.then(|| format!("{label} scores {score:.4}, expected {wanted:.4}"))
        });
        Ok(differing.chain(unknown).collect())
    }

    fn compare_boxes(
        &mut self,
        picture: &Picture,
        expected: &[Detection],
        meta: &Meta,
    ) -> Result<Vec<String>> {
        let size = self.look(picture)?;
        let input = images(&self.perceiver.models, &self.perceiver.tensors, 0, 1);
        let thresholds = self.perceiver.models.config.thresholds();
        let thresholds = Thresholds { confidence: meta.nms.conf, ..thresholds };
        let detector = self.perceiver.detector.as_mut().context("no detector")?;
        Ok(match one(detector.detect(input, &[size], thresholds))? {
            Ok(found) => compare_detections(found, expected, meta.nms.conf),
            Err(reject) => vec![reject.to_string()],
        })
    }

    fn compare_captions(
        &mut self,
        picture: &Picture,
        expected: &ExpectedCaptions,
        meta: &Meta,
    ) -> Result<Vec<String>> {
        self.look(picture)?;
        let mut differences = Vec::new();
        if let Some(greedy) = &expected.greedy {
            let found = self.caption(1, meta)?;
            differences.extend(compare_caption("greedy", found, greedy));
        }
        if let Some(beam) = &expected.beam4 {
            let beams = meta.generation.as_ref().map_or(4, |g| g.num_beams);
            let found = self.caption(beams, meta)?;
            differences.extend(compare_caption("beam search", found, beam));
        }
        Ok(differences)
    }

    fn caption(&mut self, beams: usize, meta: &Meta) -> Result<Result<Caption, Reject>> {
        let models = &self.perceiver.models;
        let plan = &models.captioner.as_ref().context("no captioner")?.plan;
        let rules = models.config.rules(&plan.generation);
        let generation = meta.generation.clone().unwrap_or_default();
        let input = images(models, &self.perceiver.tensors, 0, 1);
        let captioner = self.perceiver.captioner.as_mut().context("no captioner")?;
        captioner.set_rules(Rules {
            beams,
            length_penalty: generation.length_penalty,
            early_stopping: generation.early_stopping(),
            ..rules
        });
        one(captioner.caption(input))
    }

    /// Loads a picture into the input of the model; gives its original width and height.
    fn look(&mut self, picture: &Picture) -> Result<(u32, u32)> {
        let path = find_picture(&self.examination.images, &picture.file)?;
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pixels = decode::upright(&bytes, &Limits::default())
            .map_err(|reject| anyhow!("{}: {reject}", path.display()))?
            .0;
        let input = &self.perceiver.models.inputs[0];
        let view = input.view.apply(&pixels, &mut Resizer::new())?;
        let tensor = &mut self.perceiver.tensors[0];
        tensor.clear();
        input.append(&view, tensor)?;
        Ok((pixels.width, pixels.height))
    }
}

fn one<T>(mut rows: Vec<T>) -> Result<T> {
    rows.pop().context("a model gave nothing for its only row")
}

fn find_picture(folder: &Path, file: &str) -> Result<PathBuf> {
    let name = Path::new(file).file_name().unwrap_or_default();
    let candidates = [folder.join(file), folder.join(name)];
    candidates.into_iter().find(|path| path.is_file()).with_context(|| {
        format!("{file} is not in {}: give the folder of the pictures", folder.display())
    })
}

/// Pairs each expected box with one found. A box whose score is within the tolerance of the
/// threshold may be there or not: both answers are right to within the tolerance.
fn compare_detections(found: Vec<Tag>, expected: &[Detection], threshold: f32) -> Vec<String> {
    let mut left = found;
    let mut differences = Vec::new();
    let sure = |score: f32| score > threshold + SCORE_TOLERANCE;
    for wanted in expected {
        match left.iter().position(|tag| wanted.is(tag)) {
            Some(place) => drop(left.remove(place)),
            None if sure(wanted.score) => differences.push(format!("no {wanted}")),
            None => {}
        }
    }
    let extra = left.iter().filter(|tag| sure(tag.score));
    differences.extend(extra.map(|t| {
        format!("unexpected {} {:.4} at {:?}", t.label, t.score, t.bbox.unwrap_or_default())
    }));
    differences
}

fn compare_caption(
    how: &str,
    found: Result<Caption, Reject>,
    expected: &ExpectedCaption,
) -> Option<String> {
    match found {
        Err(reject) => Some(format!("{how}: {reject}")),
        Ok(caption) if caption.ids != expected.ids => Some(format!(
            "{how} says {:?} {:?}, expected {:?} {:?}",
            caption.text, caption.ids, expected.text, expected.ids
        )),
        Ok(caption) if caption.text != expected.text.trim() => {
            Some(format!("{how} spells {:?}, expected {:?}", caption.text, expected.text))
        }
        Ok(caption) => caption.score.zip(expected.sequence_score).and_then(|(score, wanted)| {
            let far = (score - wanted).abs() > SCORE_TOLERANCE;
            far.then(|| format!("{how} scores {score:.4}, expected {wanted:.4}"))
        }),
    }
}
