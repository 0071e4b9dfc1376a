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

/// A line of `audit/rows.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    shard: u32,
    row: u32,
    #[serde(flatten)]
    audit: &'a Audit,
}

/// Audits the rows of a run again and writes what was found; `done` hears of rows as they are done.
///
/// # Errors
/// When the folder is no run's, a shard cannot be read, or a file cannot be written.
pub fn run(run: &Path, config: &Config, with_rows: bool, done: &dyn Fn(u64)) -> Result<Findings> {
    let markers = shard::all_finished(run)?;
    let folder = run.join("audit");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let mut lines = match with_rows {
        true => Some(AtomicFile::open(&run.join(ROWS))?),
        false => None,
    };
    let mut work = Work::default();
    for marker in &markers {
        work.shard(run, marker, config, lines.as_mut(), done)?;
    }
    lines.map(AtomicFile::publish).transpose()?;
    let mut findings = work.survey.finish();
    findings.alike = report::confirmed(run, &markers, findings.alike)?;
    let json = serde_json::to_vec_pretty(&findings)?;
    atomic_file::write(&run.join(SUMMARY), &json)?;
    Ok(findings)
}

#[derive(Default)]
struct Work {
    survey: Survey,
}

impl Work {
    fn shard(
        &mut self,
        run: &Path,
        marker: &Marker,
        config: &Config,
        mut lines: Option<&mut AtomicFile>,
        done: &dyn Fn(u64),
    ) -> Result<()> {
        let mut samples = shard::refined(run, marker, Images::Skip)?;
        let mut row = 0;
        loop {
            let some: Result<Vec<Sample>> = samples.by_ref().take(TOGETHER).collect();
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
            for (sample, stems) in some.iter().zip(&stems) {
                let place = Place { shard: marker.shard, row };
                self.survey.add(sample, stems, place);
                if let Some(lines) = &mut lines {
                    let line = Line {
                        key: &sample.item.key,
                        shard: marker.shard,
                        row,
                        audit: &sample.audit,
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
