//! `recaption label-studio`: rows to judge out to Label Studio, and its annotations back.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use clap::Args;
use clap::Subcommand;

use crate::cli::review::QueueArgs;
use crate::review::Rows;
use crate::review::label_studio;
use crate::review::label_studio::Pictures;

#[derive(Args)]
pub(super) struct LabelStudio {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(Subcommand)]
enum Direction {
    /// Write rows as tasks, and the labelling interface beside them.
    Export(Export),
    /// Take annotations into the run's log of verdicts; repeating it adds nothing.
    Import(Import),
}

#[derive(Args)]
struct Export {
    /// The folder of a run.
    run: PathBuf,
    /// The file of tasks; the labelling interface gets the same name with .xml.
    #[arg(short, long, value_name = "FILE", default_value = "tasks.json")]
    output: PathBuf,
    /// Where Label Studio finds the pictures.
    #[arg(long, value_enum, default_value = "embedded")]
    pictures: Pictures,
    /// Suggest a verdict where nobody gave one: hallucinated where a word has no source, else ok.
    /// Suggestions save work and sway people; error rates come out too kind.
    #[arg(long)]
    suggest: bool,
    #[command(flatten)]
    queue: QueueArgs,
}

#[derive(Args)]
struct Import {
    /// The folder of the run that was exported.
    run: PathBuf,
    /// What Label Studio exported, in its form JSON.
    annotations: PathBuf,
    /// Who an annotator is, by number or e-mail address, as 1=ann; else the log says label-studio-1 or
    /// the address.
    #[arg(long, value_name = "ID=NAME", value_parser = named)]
    reviewer: Vec<(String, String)>,
}

impl LabelStudio {
    pub(super) fn run(self) -> Result<()> {
        match self.direction {
            Direction::Export(export) => export.run(),
            Direction::Import(import) => import.run(),
        }
    }
}

impl Export {
    fn run(self) -> Result<()> {
        let queue = self.queue.config()?;
        let rows = Rows::open(&self.run, self.queue.filter.as_deref())?;
        let how = label_studio::Export { queue, pictures: self.pictures, suggest: self.suggest };
        let exported = label_studio::export(&self.run, &rows, &how, &self.output)?;
        println!("{}", self.output.display());
        println!("{}", exported.interface.display());
        eprintln!(
            "{} of {} rows as tasks. In Label Studio make a project, paste {} under Settings, Labeling \
             Interface, Code, and import {}.",
            exported.tasks,
            rows.all().len(),
            exported.interface.display(),
            self.output.display()
        );
        if let Some(pictures) = exported.pictures {
            println!("{}", pictures.display());
            eprintln!(
                "Start it with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and \
                 LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT set to the folder that holds {0}, and add {0} as \
                 a local source storage without syncing it.",
                pictures.display()
            );
        }
        Ok(())
    }
}

impl Import {
    fn run(self) -> Result<()> {
        let rows = Rows::open(&self.run, None)?;
        let names: HashMap<String, String> = self.reviewer.into_iter().collect();
        let found = label_studio::import(&self.run, &rows, &self.annotations, &names)?;
        println!(
            "{} verdicts added; {} known already or replaced by a later one, {} skipped by the \
             annotator, {} on texts that have changed since",
            found.added, found.known, found.skipped, found.outdated
        );
        Ok(())
    }
}

fn named(pair: &str) -> Result<(String, String)> {
    let (id, name) = pair.split_once('=').context("write ID=NAME, as 1=ann")?;
    Ok((id.trim().to_owned(), name.trim().to_owned()))
}
