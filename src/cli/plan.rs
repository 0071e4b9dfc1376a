//! `recaption plan`: what a run would do, and what it would cost, out of a pilot of some of its rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use clap::Args;
use comfy_table::CellAlignment;
use comfy_table::Table;
use indicatif::HumanDuration;
use serde_json::json;

use crate::chat::Budget;
use crate::chat::Purchases;
use crate::chat::Reply;
use crate::cli::bill;
use crate::cli::outcome::Outcome;
use crate::cli::refine::Job;
use crate::cli::refine::Refine;
use crate::config::Config;
use crate::describe::Describer;
use crate::forecast;
use crate::forecast::Expected;
use crate::forecast::Forecast;
use crate::forecast::Pilot;
use crate::forecast::Place;
use crate::perceive::Models;
use crate::pipeline::Todo;
use crate::run;
use crate::run::RunFolder;
use crate::shard::Marker;

/// The arguments of `refine`, so that one word makes the plan the run.
#[derive(Args)]
pub(super) struct Plan {
    #[command(flatten)]
    refine: Refine,
    /// Do so many rows, drawn from all of the data, and say what all will cost. Their pictures and texts
    /// are not kept, the answers of the writer are: the run finds them in its folder.
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    pilot: u64,
    /// Draws other rows.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl Plan {
    pub(super) fn run(mut self) -> Result<Outcome> {
        let config = std::mem::take(&mut self.refine.settings).resolve()?;
        let folder = RunFolder::new(&self.refine.output);
        match self.pilot {
            0 => dry_run(&self.refine, &folder, config),
            _ => self.pilot(&folder, config),
        }
    }

    fn pilot(&self, folder: &RunFolder, config: Config) -> Result<Outcome> {
        let _lock = folder.lock()?;
        let opened = self.refine.open(folder, config)?;
        let plan = opened.source.plan();
        let of = opened.config.run.limit.map_or(plan.rows, |limit| limit.min(plan.rows));
        let places = forecast::places(self.pilot, of, self.seed);
        if places.is_empty() {
            bail!("there are no rows to try");
        }
        if places.len() == 1 && of > 1 {
            bail!("one row says nothing of how rows differ: try more, for example --pilot 200");
        }
        let rows = places.iter().map(|place| place.end - place.start).sum();
        let todo: Vec<Todo> =
            (0..).zip(places).map(|(shard, rows)| Todo { shard, rows, again: None }).collect();
        let dropped = tempfile::tempdir()?;
        let mut finished = Vec::new();
        let begun = Instant::now();
        let job = Job { to: dropped.path(), todo: &todo, rows, before: 0, says_shards: false };
        let outcome = self.refine.pipe(&opened, &job, &mut |marker| {
            finished.push((marker.clone(), begun.elapsed()));
        });
        bill::write(&folder.path, &opened.statement(), !self.refine.json)?;
        let outcome = outcome?;
        if outcome != Outcome::Done {
            return Ok(outcome);
        }
        let place = |(marker, at): &(Marker, Duration)| -> Result<Place> {
            Ok(place(marker, *at, &opened.kept(dropped.path(), marker)?))
        };
        let places = finished.iter().map(place).collect::<Result<_>>()?;
        self.say(&Pilot { of, places }.forecast());
        Ok(outcome)
    }

    fn say(&self, forecast: &Forecast) {
        if self.refine.json {
            println!("{}", json!({ "event": "forecast", "forecast": forecast }));
            return;
        }
        println!("{}", table(forecast));
        println!(
            "Copies are looked for within a shard: a run finds more of them than a pilot, and pays for fewer \
             answers."
        );
    }
}

/// What became of a place, by its marker and by what was answered about its rows.
fn place(marker: &Marker, finished: Duration, kept: &[Reply]) -> Place {
    let sum = |tokens: fn(&Reply) -> Option<u32>| {
        kept.iter().filter_map(tokens).map(u64::from).sum::<u64>()
    };
    let mut rejected = BTreeMap::new();
    for (_, reason, rows) in marker.rejects_by_stage() {
        *rejected.entry(reason.to_owned()).or_default() += rows;
    }
    Place {
        rows: marker.rows_read,
        rejected,
        answers: kept.len() as u64,
        prompt_tokens: sum(|reply| reply.prompt_tokens),
        completion_tokens: sum(|reply| reply.tokens),
        cost: kept.iter().map(|reply| reply.cost).sum(),
        finished,
    }
}

fn table(forecast: &Forecast) -> Table {
    let mut table = Table::new();
    let Forecast { rows, of, .. } = forecast;
    let pilot = format!("pilot of {rows} rows");
    table.set_header(["", &pilot, &format!("all {of} rows"), "95 % interval"]);
    let mut add = |name: &str, expected: &Expected, say: &dyn Fn(f64) -> String| {
        let Expected { pilot, all, low, high } = *expected;
        let between = format!("{} to {}", say(low), say(high));
        table.add_row([name.to_owned(), say(pilot), say(all), between]);
    };
    let whole = |number: f64| format!("{number:.0}");
    add("refined", &forecast.refined, &whole);
    add("rejected", &forecast.rejected, &whole);
    for (reason, rows) in &forecast.reasons {
        add(&format!("  {reason}"), rows, &whole);
    }
    if forecast.answers.pilot > 0.0 {
        add("answers of models", &forecast.answers, &whole);
        add("prompt tokens", &forecast.prompt_tokens, &whole);
        add("completion tokens", &forecast.completion_tokens, &whole);
    }
    if forecast.cost.pilot > 0.0 {
        add("money", &forecast.cost, &|money| format!("{money:.2}"));
    }
    add("time", &forecast.seconds, &|seconds| {
        HumanDuration(std::time::Duration::from_secs_f64(seconds.max(0.0))).to_string()
    });
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `--dry-run`: what would be done. Nothing is written, not even the folder.
pub(super) fn dry_run(refine: &Refine, folder: &RunFolder, config: Config) -> Result<Outcome> {
    let source = folder.source(&refine.input, &config)?;
    let models = Models::open(&config.perceive)?;
    // A store in memory: asking what would be done must not create a file.
    let purchases = Purchases::open(Path::new(":memory:"), "", Budget::default())?;
    let purchases = Arc::new(purchases);
    let captioner = super::refine::captioner(&config, Some(&purchases))?;
    let describer = Describer::open(&config.describe, Some(purchases))?;
    let judge = super::refine::judge(&config)?;
    let identity = run::identity(
        &refine.input,
        &config,
        &models,
        &describer,
        judge.as_ref(),
        captioner.as_ref(),
    )?;
    folder.is_same(&identity)?;
    let work = folder.work(&source, &config, refine.retry_rejects)?;
    let plan = source.plan();
    let folders: Vec<String> = models
        .folders()
        .map(|folder| {
            format!("{} {} ({})", folder.kind.as_str(), folder.label, folder.path.display())
        })
        .collect();
    let writer = describer.probe();
    let writer_says = match &writer {
        Ok(line) => line.clone(),
        Err(error) => format!("not ready: {error:#}"),
    };
    if refine.json {
        let plan = json!({
            "event": "plan",
            "rows": work.rows,
            "shards": work.shards,
            "shards_done": work.finished.len(),
            "shards_to_do": work.todo.len(),
            "format": plan.format,
            "columns": plan.mapping,
            "models": folders,
            "writer": writer_says,
            "ready": writer.is_ok(),
        });
        println!("{plan}");
    } else {
        println!("input    {} {} rows in {} files", plan.rows, plan.format, plan.files.len());
        println!("columns  {}", plan.mapping);
        println!(
            "shards   {} of at most {} rows; {} done, {} to do",
            work.shards,
            config.run.rows_per_shard,
            work.finished.len(),
            work.todo.len()
        );
        let none = "no models: pictures get no tags and no captions".to_owned();
        for line in if folders.is_empty() { vec![none] } else { folders } {
            println!("model    {line}");
        }
        println!("writer   {writer_says}");
    }
    Ok(if writer.is_ok() { Outcome::Done } else { Outcome::Disagreed })
}
