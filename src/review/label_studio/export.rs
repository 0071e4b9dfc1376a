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

use crate::atomic_file;
use crate::atomic_file::AtomicFile;
use crate::review::Line;
use crate::review::Rows;
use crate::review::Verdict;
use crate::review::label_studio::config;
use crate::review::label_studio::task::Data;
use crate::review::label_studio::task::Prediction;
use crate::review::label_studio::task::Region;
use crate::review::label_studio::task::Task;
use crate::review::label_studio::task::boxes;
use crate::review::label_studio::task::choice;
use crate::review::label_studio::task::share;
use crate::review::pictures;
use crate::review::queue;
use crate::review::statistics::consensus;
use crate::review::verdicts;
use crate::sample::Sample;

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
    let name = run.display();
    ensure!(
        !places.is_empty(),
        "{name} has no row with a generated text to judge, or none is kept"
    );
    let said = said(rows, verdicts::read(&run.join(verdicts::LOG))?);
    let mut writing = Writing::begin(how, output)?;
    for some in places.chunks(AT_ONCE) {
        for (&place, sample) in some.iter().zip(rows.read_all(some)?) {
            let row = &rows.all()[place];
            let suggested = if row.nowhere { Verdict::Hallucinated } else { Verdict::Ok };
            let verdict = said.get(&place).copied().or(how.suggest.then_some(suggested));
            writing.task(rows.shard(row), &sample, verdict)?;
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

    fn task(&mut self, shard: u32, sample: &Sample, verdict: Option<Verdict>) -> Result<()> {
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
        let data = Data::of(sample, shard, image);
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
