//! The finished shards of a run audited again by today's rules: figures, mix-ups, the worst rows.
//!
//! The shards stay as they are: what is found goes to `audit/summary.json`, and a line a row to
//! `audit/rows.jsonl` where that is asked for. Memory holds some rows of one shard.

use std::collections::BinaryHeap;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use rayon::iter::IntoParallelRefMutIterator;
use rayon::iter::ParallelIterator;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file;
use crate::atomic_file::AtomicFile;
use crate::audit;
use crate::audit::Config;
use crate::audit::Texts;
use crate::audit::mixup::MixUps;
use crate::audit::mixup::MixedUp;
use crate::audit::place::Place;
use crate::audit::stems::Stems;
use crate::audit::tally;
use crate::audit::tally::Summary;
use crate::audit::tally::Tally;
use crate::clip::Judge;
use crate::curate::fit;
use crate::curate::fit::Fitness;
use crate::curate::fit::Fits;
use crate::curate::fit::RowFit;
use crate::curate::near::Nearness;
use crate::sample::Audit;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Images;
use crate::shard::Marker;

/// Where the figures lie in the folder of a run.
pub const SUMMARY: &str = "audit/summary.json";

/// Where the verdicts of all rows lie.
pub const ROWS: &str = "audit/rows.jsonl";

/// Rows that are audited together, on all cores.
const TOGETHER: usize = 2048;

/// With pictures, which are as large as thousands of texts.
const TOGETHER_WITH_PICTURES: usize = 64;

/// Rows that are named as the worst.
const WORST: usize = 20;

/// Texts and words that are listed.
const MOST: usize = 20;

/// What an audit of a run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Findings {
    /// Figures of all rows.
    pub summary: Summary,
    /// Texts that fit another row better.
    pub mixed_up: MixedUp,
    /// Rows with the lowest scores, the lowest first.
    pub worst: Vec<Worst>,
    /// How well texts fit their pictures, where a checkpoint was named.
    #[serde(default)]
    pub fit: Option<Fitness>,
}

/// A row with a low score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worst {
    /// The score.
    pub score: f32,
    /// Where it is.
    pub place: Place,
    /// Its key.
    pub key: String,
    /// Its generated text.
    pub text: String,
    /// Its flags.
    pub reasons: Vec<String>,
    /// Its words from nowhere.
    pub nowhere: Vec<String>,
}

/// A line of `audit/rows.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    shard: u32,
    row: u32,
    #[serde(flatten)]
    audit: &'a Audit,
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<&'a RowFit>,
}

/// Audits the rows of a run again and writes what was found. A judge says how well texts fit their
/// pictures, and which words are near a source: from the cosine beside it on. `done` hears of rows as
/// they are done.
///
/// # Errors
/// When the folder is no run's, a shard cannot be read, the model fails, or a file cannot be written.
pub fn run(
    run: &Path,
    config: &Config,
    judge: Option<(&Judge, f32)>,
    with_rows: bool,
    done: &dyn Fn(u64),
) -> Result<Findings> {
    let markers = shard::all_finished(run)?;
    let folder = run.join("audit");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let mut lines = match with_rows {
        true => Some(AtomicFile::open(&run.join(ROWS))?),
        false => None,
    };
    let mut work = Work { model: judge.map(Model::new), ..Work::default() };
    for marker in &markers {
        work.shard(run, marker, config, lines.as_mut(), done)?;
    }
    lines.map(AtomicFile::publish).transpose()?;
    let findings = work.finish();
    let json = serde_json::to_vec_pretty(&findings)?;
    atomic_file::write(&run.join(SUMMARY), &json)?;
    Ok(findings)
}

#[derive(Default)]
struct Work<'a> {
    tally: Tally,
    mixed_up: MixedUp,
    worst: BinaryHeap<Ranked>,
    model: Option<Model<'a>>,
}

/// A checkpoint, and what it said so far.
struct Model<'a> {
    judge: &'a Judge,
    nearness: Nearness<'a>,
    fits: Fits,
}

/// Ordered by score, so that the best of the worst is the first to go.
struct Ranked(Worst);

impl Work<'_> {
    fn shard(
        &mut self,
        run: &Path,
        marker: &Marker,
        config: &Config,
        mut lines: Option<&mut AtomicFile>,
        done: &dyn Fn(u64),
    ) -> Result<()> {
        let (images, together) = match self.model {
            Some(_) => (Images::Read, TOGETHER_WITH_PICTURES),
            None => (Images::Skip, TOGETHER),
        };
        let mut samples = shard::refined(run, marker, images)?;
        let (mut mix_ups, mut row) = (MixUps::default(), 0);
        loop {
            let some: Result<Vec<Sample>> = samples.by_ref().take(together).collect();
            let mut some = some.with_context(|| format!("in {}", marker.part.name))?;
            if some.is_empty() {
                break;
            }
            let stems: Vec<Stems> = some
                .par_iter_mut()
                .map(|sample| {
                    sample.audit = audit::audit(config, &Texts::of(sample));
                    Stems::of(&Texts::of(sample))
                })
                .collect();
            let fits = match &mut self.model {
                Some(model) => model.ask(config, &mut some)?,
                None => vec![None; some.len()],
            };
            for ((sample, stems), fit) in some.iter().zip(&stems).zip(&fits) {
                let place = Place { shard: marker.shard, row };
                self.tally.add(&tally::Row::of(sample, stems, place));
                mix_ups.add(&sample.item.key, place, stems);
                self.rank(sample, place);
                if let Some(model) = &mut self.model {
                    model.fits.add(sample, place, fit.as_ref());
                }
                if let Some(lines) = &mut lines {
                    let line = Line {
                        key: &sample.item.key,
                        shard: marker.shard,
                        row,
                        audit: &sample.audit,
                        fit: fit.as_ref(),
                    };
                    serde_json::to_writer(&mut **lines, &line)?;
                    lines.write_all(b"\n")?;
                }
                row += 1;
            }
            done(some.len() as u64);
        }
        self.mixed_up.merge(&mix_ups.finish());
        Ok(())
    }

    fn rank(&mut self, sample: &Sample, place: Place) {
        let Some(generated) = &sample.generated else { return };
        let words = sample.audit.words.iter();
        let nowhere = words.filter(|word| word.origin == crate::sample::Origin::Nowhere);
        self.worst.push(Ranked(Worst {
            score: sample.audit.score,
            place,
            key: sample.item.key.clone(),
            text: generated.text.clone(),
            reasons: sample.audit.reasons.clone(),
            nowhere: nowhere.map(|word| word.word.clone()).collect(),
        }));
        if self.worst.len() > WORST {
            self.worst.pop();
        }
    }

    fn finish(self) -> Findings {
        let worst = self.worst.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect();
        let fit = self.model.map(|model| model.fits.finish(MOST));
        Findings { summary: self.tally.summary(MOST), mixed_up: self.mixed_up, worst, fit }
    }
}

impl<'a> Model<'a> {
    fn new((judge, nearness): (&'a Judge, f32)) -> Model<'a> {
        let nearness = Nearness::new(judge.embedder(), nearness);
        Model { judge, nearness, fits: Fits::new(judge) }
    }

    /// Audits samples again where it finds words near a source, and says how well texts fit.
    fn ask(&mut self, config: &Config, samples: &mut [Sample]) -> Result<Vec<Option<RowFit>>> {
        let rows: Vec<(Texts<'_>, &Audit)> =
            samples.iter().map(|sample| (Texts::of(sample), &sample.audit)).collect();
        let near = self.nearness.of(&rows)?;
        for (sample, near) in samples.iter_mut().zip(&near).filter(|(_, near)| !near.is_empty()) {
            sample.audit = audit::audit(config, &Texts { near, ..Texts::of(sample) });
        }
        fit::judge(self.judge, samples)
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> std::cmp::Ordering {
        let place = self.0.place.cmp(&other.0.place);
        self.0.score.total_cmp(&other.0.score).then(place)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
