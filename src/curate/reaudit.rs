//! The finished shards of a run audited again by today's rules: figures, mix-ups, the worst rows.
//!
//! The shards stay as they are: what is found goes to `audit/summary.json`, and a line a row to
//! `audit/rows.jsonl` where that is asked for. Memory holds some rows of one shard.

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
use crate::audit::place::Place;
use crate::audit::stems::Stems;
use crate::audit::survey::Findings;
use crate::audit::survey::Survey;
use crate::clip::Judge;
use crate::curate::fit;
use crate::curate::fit::Fitness;
use crate::curate::fit::Fits;
use crate::curate::fit::RowFit;
use crate::curate::near::Nearness;
use crate::report;
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

/// Phrases that are listed.
const MOST: usize = 20;

/// `audit/summary.json`: what an audit of a run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Audited {
    /// In the texts.
    #[serde(flatten)]
    pub findings: Findings,
    /// How well texts fit their pictures, where a checkpoint was named.
    #[serde(default)]
    pub fit: Option<Fitness>,
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
) -> Result<Audited> {
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
    let Work { survey, model } = work;
    let mut findings = survey.finish();
    findings.alike = report::confirmed(run, &markers, findings.alike)?;
    let audited = Audited { findings, fit: model.map(|model| model.fits.finish(MOST)) };
    let json = serde_json::to_vec_pretty(&audited)?;
    atomic_file::write(&run.join(SUMMARY), &json)?;
    Ok(audited)
}

#[derive(Default)]
struct Work<'a> {
    survey: Survey,
    model: Option<Model<'a>>,
}

/// A checkpoint, and what it said so far.
struct Model<'a> {
    judge: &'a Judge,
    nearness: Nearness<'a>,
    fits: Fits,
}

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
        let mut row = 0;
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
                self.survey.add(sample, stems, place);
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
        Ok(())
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
