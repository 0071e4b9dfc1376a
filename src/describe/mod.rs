//! A batch of (raw, synthetic, tags) in, generated text with its provenance out.
//!
//! [`Describer`] is the whole of it for the pipeline: it cleans the [`Sources`], has a [`Writer`]
//! answer (rules, a model in this process, an endpoint), checks the replies, never buys one twice,
//! and falls back to the rules when a better writer had nothing acceptable to say. It never sees an
//! image and never writes a row; how faithful a text is, the audit says.

pub mod asker;
pub mod grammar;
pub mod local;
pub mod prompt;
pub mod reply;
pub mod rules;
pub mod sources;
pub mod title;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;

pub use crate::describe::local::LocalConfig;
pub use crate::describe::sources::Limits;
pub use crate::describe::sources::Sources;

use crate::chat::Appetite;
use crate::chat::Chat;
use crate::chat::Purchases;
use crate::chat::Remote;
use crate::chat::RemoteConfig;
use crate::chat::Reply;
use crate::chat::Usage;
use crate::chat::Writer;
use crate::describe::asker::Asker;
use crate::describe::prompt::Prompt;
use crate::sample::Generated;
use crate::sample::Sample;
use crate::sample::Tag;

/// Who writes, from which prompt, and what is accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who writes the text.
    pub writer: WriterKind,
    /// Folder of prompt files; the built-in set `fuse` if absent.
    pub prompts: Option<PathBuf>,
    /// Ask for JSON that repeats a mark of its row, so that an answer to another row is found out. Costs
    /// some twenty tokens an answer; servers are held to its schema (`response_format`) where they can be.
    /// Small models write worse sentences in JSON.
    pub structured: bool,
    /// First number of the writer's seeds; sampling at temperature 0 does not use it.
    pub seed: u64,
    /// Let the rules write where a model's text was not accepted; else the row stays without.
    pub fallback_to_rules: bool,
    /// How much of the sources is used.
    pub sources: Limits,
    /// What a reply must be like.
    pub checks: reply::Config,
    /// Money that may be spent, in the currency of the prices, all sessions of a run together; 0 for no
    /// limit. What is finished is kept, and with a higher budget the same command goes on.
    pub budget: f64,
    /// Prompt and completion tokens that may be spent, likewise.
    pub token_budget: u64,
    /// File of the answers that were paid for; `requests.sqlite` in the run's folder if absent. Runs that
    /// share one pay for equal questions once.
    pub requests: Option<PathBuf>,
    /// The endpoint, for `writer = "remote"`.
    pub remote: RemoteConfig,
    /// The model file, for `writer = "local"`.
    pub local: LocalConfig,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // The only one that needs nothing that is not there.
            writer: WriterKind::Rules,
            prompts: None,
            // Plain words are what every model can write.
            structured: false,
            seed: 0,
            // A plain sentence trains better than a missing one, and the row says who wrote it.
            fallback_to_rules: true,
            sources: Limits::default(),
            checks: reply::Config::default(),
            budget: 0.0,
            token_budget: 0,
            requests: None,
            remote: RemoteConfig::default(),
            local: LocalConfig::default(),
        }
    }
}

/// The kinds of writer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum WriterKind {
    /// A grammar, no model.
    #[default]
    Rules,
    /// A GGUF model in this process.
    Local,
    /// An OpenAI-compatible endpoint.
    Remote,
}

/// What is known about one picture.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The row's key, for messages.
    pub key: &'a str,
    /// What the web said (T_r), as found.
    pub raw: Option<&'a str>,
    /// What a captioner saw (T_s).
    pub synthetic: Option<&'a str>,
    /// What recognition models saw.
    pub tags: &'a [Tag],
}

impl<'a> Request<'a> {
    /// What a row says.
    pub fn of(sample: &'a Sample) -> Request<'a> {
        Request {
            key: &sample.item.key,
            raw: sample.item.text_raw.as_deref(),
            synthetic: sample.synthetic.as_ref().map(|synthetic| synthetic.text.as_str()),
            tags: &sample.tags,
        }
    }
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text (T_g), if one was accepted.
    pub generated: Option<Generated>,
    /// Why a model's reply was not taken, when that happened.
    pub refused: Option<String>,
}

/// Writes texts; one for a whole run, shared by its threads.
pub struct Describer {
    config: Config,
    /// Absent where the rules write everything.
    asker: Option<Asker>,
}

impl Describer {
    /// Opens the configured writer; one with a model needs `purchases`.
    ///
    /// # Errors
    /// When the writer or its prompt cannot be used.
    pub fn open(config: &Config, purchases: Option<Arc<Purchases>>) -> Result<Describer> {
        let writer: Box<dyn Writer> = match config.writer {
            WriterKind::Rules => return Ok(Describer { config: config.clone(), asker: None }),
            WriterKind::Local => Box::new(local::Local::open(&config.local)?),
            WriterKind::Remote => Box::new(Remote::open(&config.remote)?),
        };
        let purchases = purchases.context("a writer with a model needs a request store")?;
        Describer::with_writer(config, writer, purchases)
    }

    /// The same with a writer from elsewhere.
    ///
    /// # Errors
    /// When its prompt cannot be used.
    pub fn with_writer(
        config: &Config,
        writer: Box<dyn Writer>,
        purchases: Arc<Purchases>,
    ) -> Result<Describer> {
        let prompt = match &config.prompts {
            Some(folder) => Prompt::open(folder, config.structured)?,
            None => Prompt::fuse(config.structured)?,
        };
        let asker = Asker::new(writer, prompt, config.checks.clone(), config.seed, purchases);
        Ok(Describer { config: config.clone(), asker: Some(asker) })
    }

    /// An answer for each request, in their order. An error means that no row can be described
    /// (wrong key, full disk): replies bought until then are stored.
    pub fn describe(&self, batch: &[Request<'_>]) -> Result<Vec<Answer>> {
        let sources: Vec<Sources> =
            batch.iter().map(|request| Sources::new(request, &self.config.sources)).collect();
        let Some(asker) = &self.asker else {
            return Ok(sources
                .iter()
                .map(|s| Answer { generated: ruled(s), refused: None })
                .collect());
        };
        // From nothing a model could only invent.
        let asked: Vec<&Sources> = sources.iter().filter(|s| !s.is_empty()).collect();
        let mut verdicts = asker.ask(&asked)?.into_iter();
        let answer = |sources: &Sources| {
            // One verdict was made for each of those that are not empty, in this order.
            let verdict = if sources.is_empty() { None } else { verdicts.next() };
            match verdict {
                None => Answer { generated: None, refused: None },
                Some(Ok(generated)) => Answer { generated: Some(generated), refused: None },
                Some(Err(reason)) => self.fallback(sources, reason),
            }
        };
        Ok(sources.iter().map(answer).collect())
    }

    /// Everything that a model has answered about these rows, also what was refused. Asks nothing.
    ///
    /// # Errors
    /// When the memory of answers cannot be read.
    pub fn kept(&self, batch: &[Request<'_>]) -> Result<Vec<Reply>> {
        let Some(asker) = &self.asker else { return Ok(Vec::new()) };
        let sources = batch.iter().map(|request| Sources::new(request, &self.config.sources));
        let sources: Vec<Sources> = sources.filter(|sources| !sources.is_empty()).collect();
        asker.kept(&sources.iter().collect::<Vec<_>>())
    }

    fn fallback(&self, sources: &Sources, reason: String) -> Answer {
        let generated = if self.config.fallback_to_rules { ruled(sources) } else { None };
        Answer { generated, refused: Some(reason) }
    }

    /// How many threads should call [`describe`](Describer::describe), with how many rows each.
    pub fn appetite(&self) -> Appetite {
        // The grammar takes microseconds; one thread feeds any number of others.
        const RULES: Appetite = Appetite { threads: 1, batch: 64 };
        self.asker.as_ref().map_or(RULES, |asker| asker.writer.appetite())
    }

    /// What a writer would be told of a row.
    ///
    /// # Errors
    /// When there is no writer with a prompt, or it cannot be rendered.
    pub fn chat(&self, request: &Request<'_>) -> Result<Chat> {
        let asker = self.asker.as_ref().context("the rules write without a prompt")?;
        Ok(asker.prompt.render(&Sources::new(request, &self.config.sources))?.chat)
    }

    /// How each endpoint was used.
    pub fn usage(&self) -> Vec<Usage> {
        self.asker.as_ref().map_or_else(Vec::new, |asker| asker.writer.usage())
    }

    /// Asks nothing new; may be called from any thread.
    pub fn halt(&self) {
        if let Some(asker) = &self.asker {
            asker.writer.halt();
        }
    }

    /// One line for `--dry-run`: who would write, and whether it is there.
    pub fn probe(&self) -> Result<String> {
        match &self.asker {
            Some(asker) => asker.writer.probe(),
            None => Ok(format!("{}: a grammar, no model needed", rules::MODEL)),
        }
    }

    /// Model, parameters and prompt files with their hashes, for `run.json`. No secrets.
    pub fn provenance(&self) -> serde_json::Value {
        match &self.asker {
            Some(asker) => json!({
                "writer": asker.writer.name(),
                "model": asker.identity,
                "prompt": &*asker.prompt.sha256,
                "prompt_files": asker.prompt.files,
                "sources": self.config.sources,
                "checks": self.config.checks,
                "seed": self.config.seed,
                "fallback": self.config.fallback_to_rules.then_some(rules::MODEL),
            }),
            None => json!({
                "writer": "rules",
                "model": rules::MODEL,
                "prompt": *rules::HASH,
                "sources": self.config.sources,
            }),
        }
    }
}

fn ruled(sources: &Sources) -> Option<Generated> {
    Some(Generated {
        text: rules::write(sources)?,
        writer: Arc::from("rules"),
        model: Arc::from(rules::MODEL),
        prompt: Arc::from(rules::HASH.as_str()),
        finish_reason: "stop".to_owned(),
        tokens: None,
    })
}
