//! The end of the path: rows in order into shards, each committed when its last row is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::audit::Texts;
use crate::audit::alarms;
use crate::audit::alarms::Action;
use crate::audit::alarms::Watch;
use crate::audit::stems::Stems;
use crate::pipeline::Progress;
use crate::pipeline::Quota;
use crate::pipeline::Stop;
use crate::pipeline::Todo;
use crate::pipeline::quota::Account;
use crate::pipeline::row::Flow;
use crate::pipeline::row::Left;
use crate::pipeline::row::Row;
use crate::sample::ExtraColumn;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Marker;
use crate::shard::Writer;

/// Where rows end.
pub(super) struct Sink<'a> {
    pub(super) run: &'a Path,
    pub(super) format: shard::Format,
    pub(super) extra: &'a [ExtraColumn],
    pub(super) quota: &'a Quota,
    pub(super) alarms: &'a alarms::Config,
}

impl Sink<'_> {
    /// Writes every shard of the list; the rows are exactly theirs, in order.
    pub(super) fn write(
        &self,
        mut rows: impl Iterator<Item = Flow<Sample>>,
        todo: &[Todo],
        progress: &Arc<Progress>,
        stop: &Stop,
        finished: &mut dyn FnMut(&Marker),
    ) -> Result<()> {
        let mut account = Account::new(self.quota);
        let mut watch = Watch::new(self.alarms);
        for todo in todo {
            let started = Instant::now();
            let mut writer = self.open(todo)?;
            for position in 0..todo.rows.end - todo.rows.start {
                let row = match rows.next() {
                    // What was written of this shard is dropped with its writer; what a language
                    // model is writing ends up in the store.
                    _ if stop.is_stopped() => return Ok(()),
                    Some(row) => row?,
                    None => bail!(
                        "the source ended at row {position} of shard {}, before its plan does",
                        todo.shard
                    ),
                };
                self.push(&mut writer, row, progress, &mut account, &mut watch)?;
            }
            match writer.commit(started.elapsed())? {
                Some(marker) => finished(&marker),
                None => bail!("another process has finished shard {} of this run", todo.shard),
            }
        }
        Ok(())
    }

    fn open(&self, todo: &Todo) -> Result<Writer> {
        match &todo.again {
            None => Writer::create(self.run, todo.shard, self.format, self.extra),
            Some(again) => Writer::rewrite(self.run, &again.marker, self.extra),
        }
    }

    fn push(
        &self,
        writer: &mut Writer,
        row: Row<Sample>,
        progress: &Progress,
        account: &mut Account,
        watch: &mut Watch,
    ) -> Result<()> {
        let outcome = match row.state {
            Ok(sample) => Ok(sample),
            Err(Left::Rejected(rejected)) => Err(*rejected),
            Err(Left::Kept) => return writer.keep().context("cannot copy a row that is kept"),
        };
        progress.finish(outcome.is_ok());
        account.count(outcome.as_ref().err().map(|(_, reject)| reject))?;
        outcome.as_ref().map_or(Ok(()), |sample| heed(watch, sample))?;
        writer.push(outcome)
    }
}

/// Counts a row; an alarm stops the run, or is only said.
fn heed(watch: &mut Watch, sample: &Sample) -> Result<()> {
    let stems = Stems::of(&Texts::of(sample));
    match watch.count(sample, &stems) {
        Some(alarm) if watch.action() == Action::Stop => Err(alarm.into()),
        Some(alarm) => {
            tracing::warn!("{alarm}");
            Ok(())
        }
        None => Ok(()),
    }
}
