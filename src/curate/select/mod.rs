//! A new run out of the rows of finished ones: those that an expression, people and opt-outs leave.
//!
//! The old shards stay as they are. The ledger goes on where theirs ended: the rows read are the refined
//! rows of the old run, and what is not taken is a reject with a reason; of an opt-out, without its
//! text and columns. Rejects of the old run stay there. Pictures are copied as they are stored.
//!
//! One pass without pictures counts what will be done, for `run.json`; the second writes the shards that
//! are missing. The same command continues and gives the same bytes; another rule, log of verdicts or
//! list is refused.

mod decide;
mod feed;
mod opinion;
mod record;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use crate::audit;
use crate::audit::Texts;
use crate::curate::opt_out::OptOut;
use crate::curate::select::decide::Decision;
use crate::curate::select::decide::Fate;
use crate::curate::select::decide::Rules;
use crate::curate::select::feed::Input;
use crate::curate::select::feed::Part;
use crate::curate::select::record::identity;
use crate::folder;
use crate::review::Verdict;
use crate::sample::ExtraColumn;
use crate::sample::Reason;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Format;
use crate::shard::Images;
use crate::shard::Marker;
use crate::shard::Outcome;
use crate::shard::Writer;

pub use record::Counts;
pub use record::Record;

/// What is selected, and how it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Folders of runs, in the order of their rows.
    pub runs: Vec<PathBuf>,
    /// An expression over the columns; all rows without one.
    pub filter: Option<String>,
    /// Whose verdicts count.
    pub verdicts: Verdicts,
    /// Verdicts with which a row is taken.
    pub accept: Vec<Verdict>,
    /// Whether rows that nobody judged are left out.
    pub reviewed_only: bool,
    /// Lists of rows that are not to be used.
    pub opt_out: Vec<PathBuf>,
    /// Rows of the old runs that go into a shard; those of an old shard into one without a number.
    pub rows_per_shard: Option<u64>,
    /// Form of the shards; that of the old ones without one.
    pub format: Option<Format>,
}

/// Whose verdicts count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdicts {
    /// Those in each run's own log.
    OfRuns,
    /// Those of another log, for the one run that there is.
    Of(PathBuf),
    /// Nobody's.
    Nobodys,
}

const RUN: &str = "run.json";

/// Writes what of a selection is missing; `finished` hears of each shard that is there.
///
/// # Errors
/// When a run cannot be read, the output holds another one, or nothing can be written.
pub fn run(request: &Request, output: &Path, finished: &mut dyn FnMut(&Marker)) -> Result<Record> {
    let work = Work::open(request)?;
    ensure_apart(&request.runs, output)?;
    let _lock = folder::lock(output)?;
    let record = work.claim(request, output)?;
    let mut verified = HashSet::new();
    for (number, parts) in (0..).zip(&work.parts) {
        let marker = match shard::finished(output, number)? {
            Some(marker) => marker,
            None => work.write(output, number, parts, &mut verified)?,
        };
        finished(&marker);
    }
    Ok(record)
}

struct Work {
    inputs: Vec<Input>,
    rules: Rules,
    audit: audit::Config,
    format: Format,
    extra: Vec<ExtraColumn>,
    /// What goes into each shard.
    parts: Vec<Vec<Part>>,
    identity: Value,
}

impl Work {
    fn open(request: &Request) -> Result<Work> {
        let one = request.runs.len() == 1;
        ensure!(
            one || !matches!(request.verdicts, Verdicts::Of(_)),
            "a log of verdicts is about one run; give the runs one by one"
        );
        let open = |run: &PathBuf| Input::open(run, request.filter.as_deref(), &request.verdicts);
        let inputs = request.runs.iter().map(open).collect::<Result<Vec<Input>>>()?;
        let first = inputs.first().context("no run to select from")?;
        let format = request.format.unwrap_or(first.markers[0].format);
        let audit = record::audit_of(&first.about);
        let rules = Rules {
            accept: request.accept.clone(),
            reviewed_only: request.reviewed_only,
            opt_out: OptOut::read(&request.opt_out)?,
        };
        let identity = identity(request, &inputs, format, &audit)?;
        let (extra, parts) = (columns(&inputs)?, feed::parts(&inputs, request.rows_per_shard)?);
        Ok(Work { inputs, rules, audit, format, extra, parts, identity })
    }

    /// Says what the selection is, or compares with what it was.
    fn claim(&self, request: &Request, output: &Path) -> Result<Record> {
        let path = output.join(RUN);
        if let Some(there) = folder::read::<Value>(&path)? {
            let is_selection = there["identity"]["command"] == self.identity["command"];
            ensure!(is_selection, "{} is no selection; name another -o", output.display());
            folder::ensure_same(output, &there["identity"], &self.identity)?;
            return serde_json::from_value(there)
                .with_context(|| format!("{} is damaged; use a new -o", path.display()));
        }
        let record = Record::of(self.identity.clone(), self.survey()?, &self.inputs);
        let counts = &record.counts;
        ensure!(counts.kept > 0, "no row of {} would be left: {}", shown(request), counts.words());
        folder::write(&path, &record)?;
        Ok(record)
    }

    /// One pass without pictures.
    fn survey(&self) -> Result<Counts> {
        let lines = self.rules.opt_out.lines();
        let (mut counts, mut matched) = (Counts::default(), vec![false; lines.len()]);
        let shards =
            self.inputs.iter().flat_map(|input| input.markers.iter().map(move |m| (input, m)));
        for (input, marker) in shards {
            for sample in shard::refined(&input.run, marker, Images::Skip)? {
                let sample = sample.with_context(|| format!("in {}", marker.part.name))?;
                let decision = self.decide(&sample, marker, input)?;
                counts.add(&decision.fate);
                counts.verdicts += decision.verdicts;
                decision.opted_out.iter().for_each(|&line| matched[line] = true);
            }
        }
        let all: u64 = self.inputs.iter().map(|input| input.opinions.verdicts).sum();
        counts.verdicts_ignored = all.saturating_sub(counts.verdicts);
        let lone: Vec<&String> = lines
            .iter()
            .zip(&matched)
            .filter(|(_, matched)| !**matched)
            .map(|(line, _)| line)
            .collect();
        counts.opt_outs = lines.len() as u64;
        counts.opt_outs_unmatched = lone.len() as u64;
        counts.unmatched = lone.into_iter().take(record::LISTED).cloned().collect();
        Ok(counts)
    }

    fn write(
        &self,
        output: &Path,
        number: u32,
        parts: &[Part],
        verified: &mut HashSet<(usize, usize)>,
    ) -> Result<Marker> {
        let started = Instant::now();
        let mut writer = Writer::create(output, number, self.format, &self.extra)?;
        let mut keys = HashSet::new();
        for part in parts {
            let input = &self.inputs[part.input];
            let marker = &input.markers[part.marker];
            if verified.insert((part.input, part.marker)) {
                marker.verify(&input.run)?;
            }
            for sample in feed::rows(&input.run, marker, part.rows.clone())? {
                let sample = sample.with_context(|| format!("in {}", marker.part.name))?;
                let mut outcome = self.outcome(sample, marker, input)?;
                let item = outcome.as_mut().map_or_else(|(item, _)| item, |s| &mut s.item);
                item.key = unique(&item.key, part, marker, &keys);
                keys.insert(item.key.clone());
                writer.push(outcome)?;
            }
        }
        let made = writer.commit(started.elapsed())?;
        made.with_context(|| format!("another process made shard {number}; give the command again"))
    }

    fn decide(&self, sample: &Sample, marker: &Marker, input: &Input) -> Result<Decision> {
        self.rules.decide(sample, marker.shard, input.filter.as_ref(), &input.opinions)
    }

    fn outcome(&self, mut sample: Sample, marker: &Marker, input: &Input) -> Result<Outcome> {
        let decision = self.decide(&sample, marker, input)?;
        Ok(match decision.fate {
            Fate::Keep => Ok(sample),
            Fate::Edit { text, reviewer } => {
                decide::edit(&mut sample, text, &reviewer);
                sample.audit = audit::audit(&self.audit, &Texts::of(&sample));
                Ok(sample)
            }
            Fate::Drop(reject) => {
                // Who asked to be left out is not to be found in another file of the same folder.
                if reject.reason == Reason::OptedOut {
                    sample.item.text_raw = None;
                    sample.item.extra.clear();
                }
                Err((sample.item, reject))
            }
        })
    }
}

/// Keys are unique within a shard; what was two shards may have one twice.
fn unique(key: &str, part: &Part, marker: &Marker, taken: &HashSet<String>) -> String {
    let mut name = key.to_owned();
    while taken.contains(&name) {
        name = format!("{name}@{}.{:05}", part.input, marker.shard);
    }
    name
}

/// The columns of all sources, each once.
fn columns(inputs: &[Input]) -> Result<Vec<ExtraColumn>> {
    let mut all: Vec<ExtraColumn> = Vec::new();
    for (input, column) in inputs.iter().flat_map(|i| i.extra.iter().map(move |c| (i, c))) {
        match all.iter().find(|known| known.name == column.name) {
            None => all.push(column.clone()),
            Some(known) => ensure!(
                known.data_type == column.data_type,
                "column {} of {} is {}, but {} in a run before it; select from them one by one",
                column.name,
                input.run.display(),
                column.data_type,
                known.data_type
            ),
        }
    }
    Ok(all)
}

fn shown(request: &Request) -> String {
    request.runs.iter().map(|run| run.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn ensure_apart(runs: &[PathBuf], output: &Path) -> Result<()> {
    let Ok(output) = output.canonicalize() else { return Ok(()) };
    for run in runs {
        let run = run.canonicalize().with_context(|| format!("cannot open {}", run.display()))?;
        ensure!(run != output, "{} is selected from; name another -o", run.display());
    }
    Ok(())
}
