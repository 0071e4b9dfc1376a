//! `recaption inspect` and `recaption why`, and the tables at the end of a run.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::Args;
use comfy_table::ContentArrangement;
use comfy_table::Table;
use serde_json::Value;
use serde_json::json;

use crate::sample::Item;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Images;
use crate::shard::Marker;
use crate::text;

#[derive(Args)]
pub(super) struct Inspect {
    /// A run folder, or a marker (`part-00042.json`) or data file of one of its shards.
    path: PathBuf,
    /// Rows to show.
    #[arg(long, default_value_t = 10)]
    rows: usize,
}

#[derive(Args)]
pub(super) struct Why {
    /// The run folder.
    run: PathBuf,
    /// The key of the row.
    key: String,
}

impl Inspect {
    pub(super) fn run(self) -> Result<()> {
        let (run, markers) = shards_at(&self.path)?;
        let Some(first) = markers.first() else {
            bail!("{} has no finished shard yet", self.path.display());
        };
        println!("{}", columns(&run, first)?);
        println!("{}", counts(&markers));
        println!("{}", some_rows(&run, &markers, self.rows)?);
        Ok(())
    }
}

impl Why {
    pub(super) fn run(self) -> Result<()> {
        let mut found = 0;
        for marker in shard::all_finished(&self.run)? {
            for sample in shard::refined(&self.run, &marker, Images::Skip)? {
                let sample = sample?;
                if sample.item.key == self.key {
                    println!("{}", why_refined(&marker, sample)?);
                    found += 1;
                }
            }
            for reject in shard::rejects(&self.run, &marker)? {
                let (row, item, reject) = reject?;
                if item.key == self.key {
                    println!("{}", why_rejected(&marker, row, item, &reject));
                    found += 1;
                }
            }
        }
        if found == 0 {
            bail!(
                "no finished shard of {} has a row with the key {:?}; `recaption inspect` shows keys",
                self.run.display(),
                self.key
            );
        }
        Ok(())
    }
}

/// The totals of a run, for programs.
pub(super) fn summary(run: &Path) -> Result<Value> {
    let markers = shard::all_finished(run)?;
    let total = |of: fn(&Marker) -> u64| markers.iter().map(of).sum::<u64>();
    Ok(json!({
        "shards": markers.len(),
        "rows_read": total(|m| m.rows_read),
        "refined": total(|m| m.refined),
        "rejected": total(|m| m.rejected),
        "reasons": all_reasons(&markers),
    }))
}

/// Why rows were rejected, over all finished shards.
pub(super) fn reasons(run: &Path) -> Result<Table> {
    let markers = shard::all_finished(run)?;
    let read: u64 = markers.iter().map(|marker| marker.rows_read).sum();
    let share = |rows: u64| percent(rows as f64 / read.max(1) as f64);
    let refined: u64 = markers.iter().map(|marker| marker.refined).sum();
    let mut table = Table::new();
    table.set_header(["rows", "share", "what became of them"]);
    table.add_row([refined.to_string(), share(refined), "refined".to_owned()]);
    for (reason, rows) in all_reasons(&markers) {
        table.add_row([rows.to_string(), share(rows), format!("rejected: {reason}")]);
    }
    table.add_row([
        read.to_string(),
        share(read),
        format!("read (finished shards: {})", markers.len()),
    ]);
    Ok(table)
}

/// Some refined rows, spread over a run.
pub(super) fn rows(run: &Path, most: usize) -> Result<Table> {
    some_rows(run, &shard::all_finished(run)?, most)
}

fn all_reasons(markers: &[Marker]) -> Vec<(String, u64)> {
    let mut all = std::collections::BTreeMap::<&str, u64>::new();
    for (reason, rows) in markers.iter().flat_map(|marker| &marker.reasons) {
        *all.entry(reason).or_default() += rows;
    }
    let mut all: Vec<(String, u64)> = all.into_iter().map(|(r, n)| (r.to_owned(), n)).collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}

fn shards_at(path: &Path) -> Result<(PathBuf, Vec<Marker>)> {
    if path.is_dir() {
        return Ok((path.to_owned(), shard::all_finished(path)?));
    }
    let run = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let run = run.unwrap_or(Path::new(".")).to_owned();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let markers = shard::all_finished(&run)?;
    let is_meant = |marker: &Marker| {
        let marked = shard::marker_path(&run, marker.shard);
        marked.file_name().is_some_and(|marked| marked.to_string_lossy() == name)
            || marker.files().iter().any(|file| file.name == name)
    };
    let markers: Vec<Marker> = markers.into_iter().filter(is_meant).collect();
    if markers.is_empty() {
        bail!("{} belongs to no finished shard of {}", path.display(), run.display());
    }
    Ok((run, markers))
}

fn columns(run: &Path, marker: &Marker) -> Result<Table> {
    let path = run.join(&marker.part.name);
    let mut table = Table::new();
    table.set_header(["column", "type"]);
    for (name, data_type) in shard::columns_of(&path, marker)? {
        table.add_row([name, data_type]);
    }
    Ok(table)
}

fn counts(markers: &[Marker]) -> Table {
    let mut table = Table::new();
    table.set_header(["shard", "read", "refined", "rejected", "bytes", "rows/s", "revision"]);
    for marker in markers {
        let bytes: u64 = marker.files().iter().map(|file| file.bytes).sum();
        table.add_row([
            format!("{:05}", marker.shard),
            marker.rows_read.to_string(),
            marker.refined.to_string(),
            marker.rejected.to_string(),
            bytes.to_string(),
            format!("{:.1}", marker.stats.rows_per_second),
            marker.revision.to_string(),
        ]);
    }
    table
}

/// Every so-many-th refined row, so that the table shows more than the beginning.
fn some_rows(run: &Path, markers: &[Marker], most: usize) -> Result<Table> {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "picture",
        "raw text",
        "tags",
        "synthetic caption",
        "generated text",
        "score",
    ]);
    let refined: u64 = markers.iter().map(|marker| marker.refined).sum();
    let step = (refined / most.max(1) as u64).max(1);
    let mut place = 0;
    for marker in markers {
        for sample in shard::refined(run, marker, Images::Skip)? {
            let sample = sample.with_context(|| format!("in {}", marker.part.name))?;
            if place % step == 0 && place / step < most as u64 {
                table.add_row(row(&sample));
            }
            place += 1;
        }
    }
    Ok(table)
}

fn row(sample: &Sample) -> [String; 6] {
    let mut tags: Vec<&str> = Vec::new();
    for tag in &sample.tags {
        if !tags.contains(&tag.label.as_str()) {
            tags.push(&tag.label);
        }
    }
    let texts = [
        Some(sample.item.key.as_str()),
        sample.item.text_raw.as_deref(),
        Some(&tags.join(", ")),
        sample.synthetic.as_ref().map(|s| s.text.as_str()),
        sample.generated.as_ref().map(|g| g.text.as_str()),
        Some(&format!("{:.2}", sample.audit.score)),
    ];
    texts.map(|text| printable(text.unwrap_or_default()))
}

/// A share in 0..1 as `12.3 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Text from the web in a cell of a table.
pub(super) fn printable(text: &str) -> String {
    text::printable(text, 120)
}

fn why_refined(marker: &Marker, sample: Sample) -> Result<String> {
    let row = json!({
        "shard": marker.shard,
        "file": marker.part.name,
        "became": "refined",
        "row": shard::Record::from(sample),
    });
    Ok(serde_json::to_string_pretty(&row)?)
}

fn why_rejected(marker: &Marker, row: u64, item: Item, reject: &Reject) -> String {
    let row = json!({
        "shard": marker.shard,
        "file": marker.rejects.name,
        "row_of_shard": row,
        "became": "rejected",
        "stage": reject.stage,
        "reason": reject.reason.as_str(),
        "detail": reject.detail,
        "may_pass_if_tried_again": reject.reason.retryable(),
        "key": item.key,
        "url": item.url,
        "text_raw": item.text_raw,
        "source_columns": item.extra,
    });
    format!("{row:#}")
}
