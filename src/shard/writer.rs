//! A shard that is being written: rows in source order, a row group in memory, then the marker.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;

use crate::sample::ExtraColumn;
use crate::sample::Item;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::shard::Format;
use crate::shard::Outcome;
use crate::shard::marker::DataFile;
use crate::shard::marker::Marker;
use crate::shard::marker::Rejects;
use crate::shard::marker::Stats;
use crate::shard::marker::finished;
use crate::shard::reader;
use crate::shard::record::Layout;
use crate::shard::record::Record;
use crate::shard::record::RejectRecord;
use crate::shard::table::Table;
use crate::shard::tar_file::TarFile;

/// Writes one shard. Dropped without [`commit`](Writer::commit), it leaves nothing behind.
pub struct Writer {
    run: PathBuf,
    shard: u32,
    format: Format,
    part: Part,
    rejects: Table,
    refined_layout: Layout,
    rejects_layout: Layout,
    rows: u64,
    refined: u64,
    counts: Rejects,
    /// The shard that is being mended.
    old: Option<Old>,
}

/// The file of refined rows.
enum Part {
    Table(Box<Table>),
    Tar(TarFile),
}

/// What a shard was before its rejects were tried again.
struct Old {
    marker: Marker,
    refined: reader::Refined,
    rejects: std::iter::Peekable<reader::Rejected>,
}

impl Writer {
    /// Begins a shard that does not exist yet.
    ///
    /// # Errors
    /// When a file cannot be created.
    pub fn create(run: &Path, shard: u32, format: Format, extra: &[ExtraColumn]) -> Result<Writer> {
        Writer::open(run, shard, format, extra, 0)
    }

    /// Begins the next revision of a finished shard: its rows are either [kept](Writer::keep) or
    /// [pushed](Writer::push) again, in order.
    ///
    /// # Errors
    /// When the shard's files are gone or damaged.
    pub fn rewrite(run: &Path, marker: &Marker, extra: &[ExtraColumn]) -> Result<Writer> {
        marker.verify(run)?;
        let mut writer =
            Writer::open(run, marker.shard, marker.format, extra, marker.revision + 1)?;
        writer.old = Some(Old {
            marker: marker.clone(),
            refined: reader::refined(run, marker, reader::Images::Read)?,
            rejects: reader::rejects(run, marker)?.peekable(),
        });
        Ok(writer)
    }

    fn open(
        run: &Path,
        shard: u32,
        format: Format,
        extra: &[ExtraColumn],
        revision: u32,
    ) -> Result<Writer> {
        let (refined_layout, rejects_layout) = (Layout::refined(extra)?, Layout::rejects(extra)?);
        let suffix = if revision == 0 { String::new() } else { format!(".r{revision}") };
        let part = format!("part-{shard:05}{suffix}.{}", format.extension());
        let part = match format {
            Format::Parquet => {
                Part::Table(Box::new(Table::create(run, &part, refined_layout.columns(), true)?))
            }
            Format::Webdataset => Part::Tar(TarFile::create(run, &part, shard)?),
        };
        let rejects = format!("rejects-{shard:05}{suffix}.parquet");
        Ok(Writer {
            run: run.to_owned(),
            shard,
            format,
            part,
            rejects: Table::create(run, &rejects, rejects_layout.columns(), false)?,
            refined_layout,
            rejects_layout,
            rows: 0,
            refined: 0,
            counts: Rejects::default(),
            old: None,
        })
    }

    /// Adds the next row of the source.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn push(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Ok(sample) => self.push_refined(sample)?,
            Err((item, reject)) => self.push_reject(item, reject)?,
        }
        self.rows += 1;
        self.step_over_old()
    }

    /// Adds the next row as it is in the shard that is being mended.
    ///
    /// # Errors
    /// When this is a new shard, or the old one has no such row.
    pub fn keep(&mut self) -> Result<()> {
        let position = self.rows;
        let old = self.old.as_mut().context("a new shard has no old rows")?;
        let rejected = old.rejects.next_if(|row| is_at(row, position)).transpose()?;
        let outcome = match rejected {
            Some((_, mut item, reject)) => {
                item.extra = self.rejects_layout.extra_of(std::mem::take(&mut item.extra));
                Err((item, reject))
            }
            None => {
                let mut sample = old.refined.next().context("the old shard has no such row")??;
                let extra = std::mem::take(&mut sample.item.extra);
                sample.item.extra = self.refined_layout.extra_of(extra);
                Ok(sample)
            }
        };
        match outcome {
            Ok(sample) => self.push_refined(sample)?,
            Err((item, reject)) => self.push_reject(item, reject)?,
        }
        self.rows += 1;
        Ok(())
    }

    /// Makes the shard exist: data files first, the marker last. `None` when another worker finished
    /// it meanwhile: its shard stays.
    ///
    /// # Errors
    /// When a file cannot be written; then there is no marker.
    pub fn commit(self, elapsed: Duration) -> Result<Option<Marker>> {
        if self.old.is_none() && finished(&self.run, self.shard)?.is_some() {
            return Ok(None);
        }
        let revision = self.old.as_ref().map_or(0, |old| old.marker.revision + 1);
        let marker = Marker {
            shard: self.shard,
            revision,
            format: self.format,
            rows_read: self.rows,
            refined: self.refined,
            rejected: self.rows - self.refined,
            reasons: self.counts.reasons,
            stages: self.counts.stages,
            part: self.part.publish()?,
            rejects: self.rejects.publish()?,
            stats: Stats::of(self.rows, elapsed),
        };
        let Some(old) = self.old else {
            return Ok(marker.create(&self.run)?.then_some(marker));
        };
        marker.replace(&self.run)?;
        for file in old.marker.files() {
            // Nothing names these files any more; left behind, they only cost disk.
            let _ = std::fs::remove_file(self.run.join(&file.name));
        }
        Ok(Some(marker))
    }

    /// A row that is done again is not taken from the old shard: it was a reject there.
    fn step_over_old(&mut self) -> Result<()> {
        let done = self.rows - 1;
        if let Some(old) = &mut self.old {
            let row = old.rejects.next_if(|row| is_at(row, done)).transpose()?;
            row.context("a row was done again that the old shard has refined")?;
        }
        Ok(())
    }

    fn push_refined(&mut self, sample: Sample) -> Result<()> {
        let (record, image, extra) = Record::of(sample);
        let row = self.refined_layout.json(&record, extra)?;
        self.refined += 1;
        let image = (image.bytes, image.path);
        match &mut self.part {
            Part::Table(table) => table.push(row, Some(image)),
            Part::Tar(tar) => tar.push(row, record.best_text(), image),
        }
    }

    fn push_reject(&mut self, item: Item, reject: Reject) -> Result<()> {
        self.counts.count(&reject);
        let (record, extra) = RejectRecord::of(self.rows, item, reject);
        self.rejects.push(self.rejects_layout.json(&record, extra)?, None)
    }
}

impl Part {
    fn publish(self) -> Result<DataFile> {
        match self {
            Part::Table(table) => table.publish(),
            Part::Tar(tar) => tar.publish(),
        }
    }
}

/// Errors are taken as well, so that they are seen.
fn is_at(row: &Result<(u64, Item, Reject)>, position: u64) -> bool {
    row.as_ref().map_or(true, |(row, ..)| *row == position)
}
