//! The report of a run, from what lies in its folder: shards, markers, `run.json`, `bill.json`.
//!
//! Every finished shard is read once without its images; then the pictures of the rows that are shown,
//! a few hundred however large the run is. The page itself is laid out by
//! [`audit::report`](crate::audit::report).

mod about;
mod alike;
mod bill;
mod rows;

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::atomic_file;
use crate::audit::Config;
use crate::audit::Texts;
use crate::audit::place::Place;
use crate::audit::report;
use crate::audit::report::Report;
use crate::audit::stems::Stems;
use crate::audit::survey::Findings;
use crate::audit::survey::Survey;
use crate::shard;
use crate::shard::Images;
use crate::shard::Marker;

pub use alike::confirmed;

/// Where the page by today's rules lies in the folder of a run.
pub const AUDITED: &str = "audit/report.html";

/// Writes `report.html` into the run's folder: the run by the verdicts that its rows have.
///
/// # Errors
/// When the folder is no run's, a shard cannot be read, or the page cannot be written.
pub fn write(run: &Path) -> Result<PathBuf> {
    let markers = shard::all_finished(run)?;
    let mut findings = survey(run, &markers)?;
    findings.alike = confirmed(run, &markers, findings.alike)?;
    draw(run, &markers, findings, None)
}

/// Writes the same page of findings by other rules, beside the other files of an audit.
///
/// # Errors
/// As [`write()`].
pub fn write_audited(run: &Path, findings: &Findings, rules: &Config) -> Result<PathBuf> {
    draw(run, &shard::all_finished(run)?, findings.clone(), Some(rules))
}

fn survey(run: &Path, markers: &[Marker]) -> Result<Findings> {
    let mut survey = Survey::default();
    for marker in markers {
        for (row, sample) in (0..).zip(shard::refined(run, marker, Images::Skip)?) {
            let sample = sample.with_context(|| format!("in {}", marker.part.name))?;
            let stems = Stems::of(&Texts::of(&sample));
            survey.add(&sample, &stems, Place { shard: marker.shard, row });
        }
    }
    Ok(survey.finish())
}

fn draw(
    run: &Path,
    markers: &[Marker],
    findings: Findings,
    rules: Option<&Config>,
) -> Result<PathBuf> {
    let about = about::about(run)?;
    let mut report = Report {
        title: run.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        subtitle: about::subtitle(&about, markers, rules.is_some()),
        facts: about::facts(&about, markers),
        models: about::models(&about),
        bill: bill::bill(run)?,
        funnel: about::funnel(markers),
        rejects: about::rejects(run, markers)?,
        findings,
        sampled: rows::sampled(markers),
        ..Report::default()
    };
    report.rows = rows::shown(run, markers, &report.places(), rules)?;
    let path = run.join(if rules.is_some() { AUDITED } else { "report.html" });
    atomic_file::write(&path, report::render(&report)?.as_bytes())?;
    Ok(path)
}
