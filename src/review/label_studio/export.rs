//! Rows of a run as tasks of Label Studio.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ValueEnum;
use reqwest::Url;
use serde::Serialize;

use crate::atomic_file;
use crate::atomic_file::AtomicFile;
use crate::review::Line;
use crate::review::Rows;
use crate::review::Verdict;
use crate::review::label_studio::BOXES;
use crate::review::label_studio::PICTURE;
use crate::review::label_studio::VERDICT;
use crate::review::label_studio::config;
use crate::review::label_studio::shown;
use crate::review::pictures;
use crate::review::queue;
use crate::review::statistics::consensus;
use crate::review::verdicts;
use crate::sample::Sample;
use crate::sample::Tag;

/// Which rows are exported, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Which rows, in which order.
    pub queue: queue::Config,
    /// Where Label Studio finds the pictures.
    pub pictures: Pictures,
    /// Whether a verdict is suggested where nobody gave one.
    pub suggest: bool,
}

/// Where Label Studio finds the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pictures {
    /// In the tasks, as data URLs: nothing to set up, and a file that grows by the pictures.
    Embedded,
    /// In a folder beside the tasks, for Label Studio's local storage.
    Files,
    /// On the web, where they were found: they may be gone, or others by now.
    Url,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Tasks.
    pub tasks: usize,
    /// The labelling interface.
    pub interface: PathBuf,
    /// The folder of pictures.
    pub pictures: Option<PathBuf>,
}

/// Rows that are in memory at once with their pictures.
const AT_ONCE: usize = 64;

#[derive(Serialize)]
struct Task {
    data: Data,
    predictions: Vec<Prediction>,
}

#[derive(Serialize)]
struct Data {
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
struct Prediction {
    model_version: &'static str,
    score: f32,
    result: Vec<Region>,
}

#[derive(Serialize)]
struct Region {
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
struct Size {
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

/// Writes tasks, the labelling interface beside them, and pictures where they are to be files.
///
/// # Errors
/// When there is no row to judge, a row cannot be read, its picture has no usable address, or a file
/// cannot be written.
pub fn export(run: &Path, rows: &Rows, how: &Export, output: &Path) -> Result<Exported> {
    let interface = output.with_extension("xml");
    ensure!(interface != output, "{} is for the interface; call the tasks .json", output.display());
    let scores: Vec<f32> = rows.all().iter().map(|row| row.score).collect();
    let places = how.queue.order(&scores);
    ensure!(!places.is_empty(), "{} has no row with a generated text to judge", run.display());
    let said = said(rows, verdicts::read(&run.join(verdicts::LOG))?);
    let mut writing = Writing::begin(how, output)?;
    for some in places.chunks(AT_ONCE) {
        for (&place, sample) in some.iter().zip(rows.read_all(some)?) {
            let row = &rows.all()[place];
            let suggested = if row.nowhere { Verdict::Hallucinated } else { Verdict::Ok };
            let verdict = said.get(&place).copied().or(how.suggest.then_some(suggested));
            writing.task(rows.shard(row), &row.text_sha256, &sample, verdict)?;
        }
    }
    writing.finish()
}

/// What people say together of each row, by its place.
fn said(rows: &Rows, lines: Vec<Line>) -> BTreeMap<usize, Verdict> {
    let mut said = BTreeMap::<usize, BTreeMap<String, Verdict>>::new();
    for line in verdicts::latest(lines) {
        if let (Some(place), Some(verdict)) = (rows.place_of(&line), line.verdict) {
            said.entry(place).or_default().insert(line.reviewer, verdict);
        }
    }
    said.into_iter().filter_map(|(place, said)| Some((place, consensus(&said)?))).collect()
}

struct Writing<'a> {
    how: &'a Export,
    output: &'a Path,
    /// The folder of pictures, where there is to be one.
    folder: Option<PathBuf>,
    file: AtomicFile,
    tasks: usize,
    labels: BTreeSet<String>,
}

impl Writing<'_> {
    fn begin<'a>(how: &'a Export, output: &'a Path) -> Result<Writing<'a>> {
        let folder = (how.pictures == Pictures::Files).then(|| pictures_beside(output));
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let (file, labels) = (AtomicFile::open(output)?, BTreeSet::new());
        Ok(Writing { how, output, folder, file, tasks: 0, labels })
    }

    fn task(
        &mut self,
        shard: u32,
        text_sha256: &str,
        sample: &Sample,
        verdict: Option<Verdict>,
    ) -> Result<()> {
        let named = || format!("row {:?} of shard {shard}", sample.item.key);
        let image = self.picture(sample).with_context(named)?;
        let result: Vec<Region> =
            boxes(sample, self.how.pictures).chain(verdict.map(choice)).collect();
        self.labels.extend(result.iter().filter_map(Region::label));
        let predictions = match result.is_empty() {
            true => Vec::new(),
            false => {
                let score = share(sample.audit.score);
                vec![Prediction { model_version: "recaption", score, result }]
            }
        };
        let data = Data { image, shard, text_sha256: text_sha256.to_owned(), ..Data::of(sample) };
        self.file.write_all(if self.tasks == 0 { b"[\n" } else { b",\n" })?;
        serde_json::to_writer(&mut self.file, &Task { data, predictions })?;
        self.tasks += 1;
        Ok(())
    }

    /// What Label Studio is to show.
    fn picture(&self, sample: &Sample) -> Result<String> {
        let bytes = &sample.image.bytes;
        let kind = pictures::raster(bytes).context("its picture is neither JPEG nor PNG nor WebP");
        match (self.how.pictures, &self.folder) {
            (Pictures::Url, _) => address(sample.item.url.as_deref()),
            (_, None) => Ok(format!("data:{};base64,{}", kind?, BASE64.encode(bytes))),
            (_, Some(folder)) => {
                let extension = kind?.trim_start_matches("image/").replace("jpeg", "jpg");
                let name = format!("{:06}.{extension}", self.tasks + 1);
                atomic_file::write(&folder.join(&name), bytes)?;
                local(folder, &name)
            }
        }
    }

    fn finish(mut self) -> Result<Exported> {
        self.file.write_all(b"\n]\n")?;
        self.file.publish()?;
        let interface = self.output.with_extension("xml");
        atomic_file::write(&interface, config::interface(&self.labels).as_bytes())?;
        Ok(Exported { tasks: self.tasks, interface, pictures: self.folder })
    }
}

impl Data {
    /// Without picture, shard and hash.
    fn of(sample: &Sample) -> Data {
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        Data {
            image: String::new(),
            text_raw: text(sample.item.text_raw.as_ref()),
            text_synthetic: text(sample.synthetic.as_ref().map(|s| &s.text)),
            text_generated: text(sample.generated.as_ref().map(|g| &g.text)),
            tags: tags(&sample.tags),
            score: sample.audit.score,
            flags: sample.audit.reasons.join(", "),
            key: sample.item.key.clone(),
            shard: 0,
            text_sha256: String::new(),
        }
    }
}

impl Region {
    fn label(&self) -> Option<String> {
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
fn boxes(sample: &Sample, pictures: Pictures) -> impl Iterator<Item = Region> + '_ {
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

fn choice(verdict: Verdict) -> Region {
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
fn share(score: f32) -> f32 {
    if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) }
}

fn address(url: Option<&str>) -> Result<String> {
    let url = url.context("it has no url; take --pictures embedded or files")?;
    let is_web = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    ensure!(is_web, "{url:?} is no address of the web; take --pictures embedded or files");
    Ok(url.to_owned())
}

/// As Label Studio's local storage names a file below its document root.
fn local(folder: &Path, name: &str) -> Result<String> {
    let folder = folder.file_name().unwrap_or_default().to_string_lossy();
    let path = format!("{folder}/{name}");
    let url = Url::parse_with_params("http://host/data/local-files/", [("d", path)])?;
    Ok(format!("{}?{}", url.path(), url.query().unwrap_or_default()))
}

fn pictures_beside(output: &Path) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}-pictures"))
}
