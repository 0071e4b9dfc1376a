//! `recaption ablate`: which text to train on, in one table.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use clap::Args;
use comfy_table::Attribute;
use comfy_table::Cell;
use serde::Deserialize;

use crate::ablate;
use crate::ablate::Arm;
use crate::ablate::Config;
use crate::ablate::Event;
use crate::cli::outcome::Outcome;
use crate::cli::progress::Style;
use crate::cli::train::Display;
use crate::cli::train::Settings;
use crate::cli::train::Stopping;
use crate::cli::train::ensure_alone;
use crate::eval::suite::Suite;
use crate::eval::suite::Told;

#[derive(Args)]
pub(super) struct Ablate {
    /// The folder of all trainings and of the table; the same command continues.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// Each arm is trained once for each seed.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// A run of the same data whose prompts had no tags: generated and mixed texts of it are two more
    /// arms.
    #[arg(long, value_name = "RUN")]
    without_tags: Option<String>,
    /// Other arms than raw, synthetic, generated and mixed: a TOML file with `[[arm]]` sections of name,
    /// texts and inputs.
    #[arg(long, value_name = "FILE", conflicts_with = "without_tags")]
    arms: Option<PathBuf>,
    /// What every model is scored on, beside held-out pairs: a suite as for `recaption eval`, without
    /// checkpoints.
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
}

/// The file of `--arms`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arms {
    arm: Vec<Arm>,
}

impl Ablate {
    pub(super) fn run(self) -> Result<Outcome> {
        ensure_alone()?;
        let config = self.resolve()?;
        let stopping = Stopping::listen()?;
        let mut display = Display::new(Style::of(false), config.train.run.ranks);
        let table = ablate::run(&self.output, &config, &stopping.stop, &mut |event| match event {
            Event::Arm { name, number, of } => display.say(&format!("{number} of {of}: {name}")),
            Event::Train(event) => display.show(event),
            Event::Score(Told::Started { what, total }) => {
                display.say(&format!("{what}: {total} pictures and texts"));
            }
            Event::Score(_) => {}
        });
        display.end();
        let Some(table) = table? else { return Ok(stopping.outcome()) };
        println!("{}", shown(&table));
        println!("{}", table.note());
        println!("{}", self.output.join("ablation.html").display());
        Ok(Outcome::Done)
    }

    fn resolve(&self) -> Result<Config> {
        let suite = match &self.suite {
            Some(path) => Suite::read(path)?,
            None => Suite::default(),
        };
        let mut arm = match &self.arms {
            Some(path) => read(path)?.arm,
            None => Arm::usual(),
        };
        arm.extend(self.without_tags.iter().flat_map(|run| Arm::without_tags(run)));
        Ok(Config {
            train: self.settings.resolve()?,
            arm,
            seeds: self.seeds.clone(),
            labelled: suite.labelled,
            captioned: suite.captioned,
        })
    }
}

fn read(path: &Path) -> Result<Arms> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    toml::from_str(&text).with_context(|| format!("in the arms {shown}"))
}

fn shown(table: &ablate::Table) -> comfy_table::Table {
    let (head, rows) = table.cells();
    let mut shown = comfy_table::Table::new();
    shown.set_header(head);
    for row in rows {
        let cell = |(text, strong): (String, bool)| match strong {
            true => Cell::new(text).add_attribute(Attribute::Bold),
            false => Cell::new(text),
        };
        shown.add_row(row.into_iter().map(cell));
    }
    shown
}
