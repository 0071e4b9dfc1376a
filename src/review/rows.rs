//! The rows of a run that can be judged: what the queue and the statistics need of each, read once and
//! without pictures. The whole of a row is read when it is shown.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use rayon::prelude::*;

use crate::atomic_file;
use crate::filter::Filter;
use crate::filter::Names;
use crate::review::queue::BANDS;
use crate::review::queue::band;
use crate::review::verdicts::Line;
use crate::sample::Item;
use crate::sample::Origin;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Images;
use crate::shard::Marker;
use crate::shard::Record;

/// All rows of a run that have a generated text and that a filter keeps.
pub struct Rows {
    run: PathBuf,
    markers: Vec<Marker>,
    rows: Vec<Row>,
    /// Where each shard and key is.
    places: HashMap<u32, HashMap<String, usize>>,
}

/// What is known of a row at any time.
#[derive(Clone, Debug)]
pub struct Row {
    /// Of its shard, among the markers.
    marker: usize,
    /// Among the refined rows of the shard.
    place: usize,
    /// The key within the shard.
    pub key: String,
    /// Trust.
    pub score: f32,
    /// Flags of the audit. There are few different ones, which all rows of a shard share.
    pub flags: Vec<Arc<str>>,
    /// Whether a word of the text has no source.
    pub nowhere: bool,
    /// Hash of the generated text.
    pub text_sha256: String,
}

impl Rows {
    /// Reads a run; `filter` is an expression over its columns.
    ///
    /// # Errors
    /// When a shard cannot be read, there is none, or the filter does not fit the columns.
    pub fn open(run: &Path, filter: Option<&str>) -> Result<Rows> {
        let markers = shard::all_finished(run)?;
        ensure!(!markers.is_empty(), "{} has no finished shard yet", run.display());
        let filter = filter.map(|text| filter_over(run, text)).transpose()?;
        let all = markers.par_iter().enumerate();
        let all = all.map(|(number, marker)| rows_of(run, number, marker, filter.as_ref()));
        let rows = all.collect::<Result<Vec<Vec<Row>>>>()?.concat();
        let mut places = HashMap::<u32, HashMap<String, usize>>::new();
        for (place, row) in rows.iter().enumerate() {
            let shard = places.entry(markers[row.marker].shard).or_default();
            shard.insert(row.key.clone(), place);
        }
        Ok(Rows { run: run.to_owned(), markers, rows, places })
    }

    /// All of them, in the order of the run.
    pub fn all(&self) -> &[Row] {
        &self.rows
    }

    /// The number of the shard of a row.
    pub fn shard(&self, row: &Row) -> u32 {
        self.markers[row.marker].shard
    }

    /// The place of a row.
    pub fn find(&self, shard: u32, key: &str) -> Option<usize> {
        self.places.get(&shard)?.get(key).copied()
    }

    /// The place of the row that a line is about; none where that is not here, or has another text now.
    pub fn place_of(&self, line: &Line) -> Option<usize> {
        let place = self.find(line.shard, &line.key)?;
        (self.rows[place].text_sha256 == line.text_sha256).then_some(place)
    }

    /// How many there are in each band.
    pub fn population(&self) -> [u64; BANDS] {
        let mut population = [0; BANDS];
        self.rows.iter().for_each(|row| population[band(row.score)] += 1);
        population
    }

    /// The whole of a row, with its picture.
    ///
    /// # Errors
    /// When it cannot be read, or is not there any more.
    pub fn read(&self, place: usize) -> Result<Sample> {
        self.read_all(&[place])?.pop().context("there is no such row")
    }

    /// The same of several, in their order. No place may come twice.
    ///
    /// # Errors
    /// As [`read`](Rows::read).
    pub fn read_all(&self, places: &[usize]) -> Result<Vec<Sample>> {
        let rows: Option<Vec<&Row>> = places.iter().map(|&place| self.rows.get(place)).collect();
        let rows = rows.context("there is no such row")?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&at| (rows[at].marker, rows[at].place));
        let mut samples = vec![None; rows.len()];
        for of_shard in order.chunk_by(|&a, &b| rows[a].marker == rows[b].marker) {
            let marker = &self.markers[rows[of_shard[0]].marker];
            let wanted: Vec<usize> = of_shard.iter().map(|&at| rows[at].place).collect();
            for (&at, sample) in
                of_shard.iter().zip(shard::refined_rows(&self.run, marker, &wanted)?)
            {
                let name = &marker.part.name;
                ensure!(
                    rows[at].is_of(&sample),
                    "{name} has changed since it was opened; start again"
                );
                samples[at] = Some(sample);
            }
        }
        samples.into_iter().collect::<Option<_>>().context("a shard has fewer rows than before")
    }
}

impl Row {
    /// Nothing where there is no text to judge.
    fn of(
        sample: Sample,
        marker: usize,
        place: usize,
        names: &mut HashMap<String, Arc<str>>,
    ) -> Option<Row> {
        let text = sample.generated?.text;
        let audit = sample.audit;
        let mut shared = |name: String| {
            names.entry(name).or_insert_with_key(|name| Arc::from(name.as_str())).clone()
        };
        Some(Row {
            marker,
            place,
            key: sample.item.key,
            score: audit.score,
            flags: audit.reasons.into_iter().map(&mut shared).collect(),
            nowhere: audit.words.iter().any(|word| word.origin == Origin::Nowhere),
            text_sha256: atomic_file::sha256(text.as_bytes()),
        })
    }

    fn is_of(&self, sample: &Sample) -> bool {
        let text = sample.generated.as_ref().map(|generated| generated.text.as_bytes());
        sample.item.key == self.key
            && text.is_some_and(|text| atomic_file::sha256(text) == self.text_sha256)
    }
}

fn rows_of(
    run: &Path,
    number: usize,
    marker: &Marker,
    filter: Option<&Filter>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut names = HashMap::new();
    for (place, sample) in shard::refined(run, marker, Images::Skip)?.enumerate() {
        let sample = sample.with_context(|| format!("in {}", marker.part.name))?;
        if is_kept(&sample, filter)? {
            rows.extend(Row::of(sample, number, place, &mut names));
        }
    }
    Ok(rows)
}

/// An expression over the columns of a run.
///
/// # Errors
/// When it cannot be read or does not fit the columns.
pub fn filter_over(run: &Path, text: &str) -> Result<Filter> {
    let source = shard::open_source(&[run.display().to_string()], &Default::default())?;
    Filter::parse(text)?.over(Names::default(), &source.plan().extra)
}

/// Whether an expression, where there is one, is true of a row.
///
/// # Errors
/// When it cannot be evaluated.
pub fn is_kept(sample: &Sample, filter: Option<&Filter>) -> Result<bool> {
    filter.map_or(Ok(true), |filter| filter.keeps(&as_item(sample)?))
}

/// All columns of a row as those of an item, which is what filters look at.
fn as_item(sample: &Sample) -> Result<Item> {
    let Item { key, url, text_raw, extra, .. } = sample.item.clone();
    let mut all = extra;
    all.extend(shard::json(&Record::from(sample.clone()))?);
    for own in ["key", "url", "text_raw"] {
        all.remove(own);
    }
    let picture = Picture::Absent { reason: Reason::ImageNull, detail: String::new() };
    Ok(Item { key, picture, url, text_raw, extra: all })
}
