//! Writes in this process: a GGUF model of the Llama family, run by candle on the CPU.
//!
//! The tokens of the system text and the worked examples are read once and shared by every row.
//! Rows are written several at a time; what a row gets does not depend on its neighbours. Never
//! downloads: a name means a model that was pulled before.

mod chat;
mod generate;
mod gguf;
mod llama;
#[cfg(test)]
mod tests;

use std::num::NonZero;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use candle_transformers::generation::LogitsProcessor;
use rayon::ThreadPool;
use rayon::ThreadPoolBuilder;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;

use crate::chat::writer::Appetite;
use crate::chat::writer::Message;
use crate::chat::writer::OnReply;
use crate::chat::writer::Prompted;
use crate::chat::writer::Reply;
use crate::chat::writer::RowError;
use crate::chat::writer::Writer;
use crate::describe::local::chat::Dialect;
use crate::describe::local::generate::End;
use crate::describe::local::generate::Generation;
use crate::describe::local::generate::MOST_SLOTS;
use crate::describe::local::generate::Row;
use crate::describe::local::generate::Said;
use crate::describe::local::generate::TOGETHER;
use crate::describe::local::gguf::Gguf;
use crate::describe::local::llama::Llama;
use crate::describe::local::llama::Past;
use crate::describe::local::llama::Prefix;
use crate::describe::local::llama::Weights;
use crate::models::pip;
use crate::models::pull;

/// A GGUF model in this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {
    /// A GGUF file, or the name of a model that was pulled (`recaption models list`).
    pub model: Option<PathBuf>,
    /// Callers at once, each with slots of its own; unset for one a core. A single one has all cores.
    pub threads: Option<usize>,
    /// A row whose own turn has more tokens is not asked about.
    pub max_prompt_tokens: usize,
    /// No reply has more tokens than this.
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 takes the likeliest token.
    pub temperature: f64,
    /// Samples from the likeliest tokens whose chances add up to this; 1 from all.
    pub top_p: f64,
}

impl Default for LocalConfig {
    fn default() -> LocalConfig {
        LocalConfig {
            model: None,
            // Several that have a core each wrote 1.5 times as much as one that has them all.
            threads: None,
            // Twice what sources at their own limits come to in English, with the reminder.
            max_prompt_tokens: 384,
            // One sentence of 45 words; what is longer is nearly always a loop.
            max_new_tokens: 64,
            // The likeliest words: the least invented.
            temperature: 0.0,
            top_p: 1.0,
        }
    }
}

/// The writer that runs a model itself.
pub struct Local {
    config: LocalConfig,
    llama: Llama,
    dialect: Dialect,
    /// `local/NAME@HASH`.
    name: Arc<str>,
    sha256: String,
    weights: Weights,
    /// Numbers in all of them.
    size: usize,
    /// State after the prefix last asked with: in practice there is one for a whole run.
    prefix: Mutex<Option<Known>>,
    /// Seats that nobody uses now: they are as large as the model's state for all rows of a caller.
    spare: Mutex<Vec<Seat>>,
}

/// What a caller needs for itself.
struct Seat {
    past: Past,
    /// Its one core, where others have theirs: candle and gemm divide work among the threads of the pool
    /// that they are called in.
    pool: Option<ThreadPool>,
}

/// A prefix and the state after it.
#[derive(Clone)]
struct Known {
    messages: Arc<[Message]>,
    /// Absent after nothing.
    state: Option<Arc<Prefix>>,
}

impl Local {
    /// Opens and loads the configured model.
    ///
    /// # Errors
    /// When no model is configured or pulled, or the file is not one that can be run here.
    pub fn open(config: &LocalConfig) -> Result<Local> {
        let path = model_file(config.model.as_deref(), &pip::cache_root)?;
        Local::load(config, &path)
    }

    fn load(config: &LocalConfig, path: &Path) -> Result<Local> {
        check(config)?;
        let mut gguf = Gguf::open(path)?;
        let at = || format!("the model {} cannot be used", path.display());
        let dialect = Dialect::read(&gguf.content, gguf.shape.vocabulary).with_context(at)?;
        let size = gguf.weights();
        let weights = Weights::fitting(size);
        let llama = Llama::load(&mut gguf, weights).with_context(at)?;
        Ok(Local {
            config: config.clone(),
            llama,
            dialect,
            name: gguf.name().into(),
            sha256: gguf.sha256,
            weights,
            size,
            prefix: Mutex::new(None),
            spare: Mutex::new(Vec::new()),
        })
    }
}

impl Writer for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn identity(&self) -> serde_json::Value {
        json!({
            "writer": "local",
            "model": &*self.name,
            "sha256": self.sha256,
            "weights": self.weights.as_str(),
            "max_prompt_tokens": self.config.max_prompt_tokens,
            "max_new_tokens": self.config.max_new_tokens,
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
        })
    }

    fn appetite(&self) -> Appetite {
        // The last rows of a call leave slots empty; four fillings make that a small part.
        Appetite { threads: self.threads(), batch: self.slots() * 4 }
    }

    fn probe(&self) -> Result<String> {
        let (name, form, weights) = (&self.name, self.dialect.form(), self.weights.as_str());
        let (millions, form) = (self.size / 1_000_000, form.as_str());
        Ok(format!("{name}: {millions} million weights ({weights}), {form} chats, in this process"))
    }

    fn write(&self, batch: &[Prompted], on_reply: &OnReply<'_>) -> Result<()> {
        let mut before = 0;
        for run in batch.chunk_by(|a, b| Arc::ptr_eq(&a.chat.prefix, &b.chat.prefix)) {
            // With all cores: every caller waits for the first prefix.
            let prefix = self.prefix(&run[0].chat.prefix)?;
            let on_reply = |index, said| on_reply(before + index, said);
            let seat = self.seat()?;
            let write = || self.write_run(run, prefix.as_deref(), &seat.past, &on_reply);
            let done = match &seat.pool {
                Some(pool) => pool.install(write),
                None => write(),
            };
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(seat);
            done?;
            before += run.len();
        }
        Ok(())
    }
}

impl Local {
    /// Writes for rows with one prefix.
    fn write_run(
        &self,
        run: &[Prompted],
        prefix: Option<&Prefix>,
        past: &Past,
        on_reply: &OnReply<'_>,
    ) -> Result<()> {
        let is_end = |token| self.dialect.is_end(token);
        let generation = Generation {
            llama: &self.llama,
            prefix,
            past,
            max_new_tokens: self.config.max_new_tokens,
            is_end: &is_end,
        };
        let mut rows = run.iter().enumerate();
        let mut next = || -> Result<Option<Row>> {
            for (index, prompted) in rows.by_ref() {
                match self.row(index, prompted)? {
                    Ok(row) => return Ok(Some(row)),
                    Err(error) => on_reply(index, Err(error))?,
                }
            }
            Ok(None)
        };
        generation.run(&mut next, &|index, said| on_reply(index, self.reply(said)?))
    }

    fn row(&self, index: usize, prompted: &Prompted) -> Result<Result<Row, RowError>> {
        let question = self.dialect.question(&prompted.chat.user)?;
        let (tokens, limit) = (question.len(), self.config.max_prompt_tokens);
        if tokens > limit {
            let reason =
                format!("the prompt has {tokens} tokens, more than max_prompt_tokens = {limit}");
            return Ok(Err(RowError { reason, retryable: false }));
        }
        let (temperature, top_p) = (Some(self.config.temperature), Some(self.config.top_p));
        let sampler = LogitsProcessor::new(prompted.seed, temperature, top_p);
        Ok(Ok(Row { index, question, sampler }))
    }

    fn reply(&self, said: Said) -> Result<Result<Reply, RowError>> {
        let finish_reason = match said.end {
            End::Stop => "stop",
            End::Length => "length",
            End::NotANumber => {
                let reason = "the model computed something that is no number".to_owned();
                return Ok(Err(RowError { reason, retryable: false }));
            }
        };
        Ok(Ok(Reply {
            text: self.dialect.text(&said.tokens)?,
            finish_reason: finish_reason.to_owned(),
            tokens: u32::try_from(said.tokens.len()).ok(),
            prompt_tokens: None,
            estimated: (0, 0),
            cost: 0.0,
            model: Arc::clone(&self.name),
        }))
    }

    /// The state after these messages, from memory where it is the same allocation as before.
    fn prefix(&self, messages: &Arc<[Message]>) -> Result<Option<Arc<Prefix>>> {
        // Held while it is computed: a second thread would only compute the same.
        let mut known = self.prefix.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|k| Arc::ptr_eq(&k.messages, messages)) {
            return Ok(known.state.clone());
        }
        let tokens = self.dialect.prefix(messages)?;
        let (needed, has) = (tokens.len() + self.capacity(), self.llama.shape.positions);
        ensure!(
            needed <= has,
            "the system text and the examples have {} tokens: with a row and its reply that is \
             {needed}, and {} has room for {has}: use fewer examples",
            tokens.len(),
            self.name
        );
        let state = match tokens.is_empty() {
            true => None,
            false => Some(Arc::new(self.llama.prefix(&tokens)?)),
        };
        *known = Some(Known { messages: Arc::clone(messages), state: state.clone() });
        Ok(state)
    }

    fn seat(&self) -> Result<Seat> {
        if let Some(seat) = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(seat);
        }
        let alone = || ThreadPoolBuilder::new().num_threads(1).build();
        let pool = (self.threads() > 1).then(alone).transpose();
        let pool = pool.context("cannot start a thread of the local writer")?;
        Ok(Seat { past: self.llama.past(self.slots(), self.capacity())?, pool })
    }

    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        self.config.threads.unwrap_or_else(cores).max(1)
    }

    /// Rows that a caller writes at once: as many as its part of two gigabytes holds, within reason.
    fn slots(&self) -> usize {
        const BYTES: usize = 2 << 30;
        let fit = BYTES / self.threads() / self.llama.slot_bytes(self.capacity()).max(1);
        (fit / TOGETHER * TOGETHER).clamp(TOGETHER, MOST_SLOTS)
    }

    fn capacity(&self) -> usize {
        self.config.max_prompt_tokens + self.config.max_new_tokens
    }
}

fn check(config: &LocalConfig) -> Result<()> {
    /// More than any model here has room for; keeps the sums below from overflowing.
    const MOST: usize = 1 << 20;
    for (name, value) in
        [("max_prompt_tokens", config.max_prompt_tokens), ("max_new_tokens", config.max_new_tokens)]
    {
        ensure!((1..=MOST).contains(&value), "`{name}` of the local writer cannot be {value}");
    }
    for (name, value, most) in
        [("temperature", config.temperature, f64::MAX), ("top_p", config.top_p, 1.0)]
    {
        ensure!((0.0..=most).contains(&value), "`{name}` of the local writer cannot be {value}");
    }
    Ok(())
}

/// A path as it is, or the file behind a known name. A file of that name comes first.
fn model_file(model: Option<&Path>, cache: &dyn Fn() -> Result<PathBuf>) -> Result<PathBuf> {
    let Some(model) = model else {
        bail!(
            "the local writer has no model: set `model` to a GGUF file, or to a name of \
             `recaption models list` after `recaption models pull NAME`"
        );
    };
    let known = pull::list().iter().find(|known| Path::new(known.name) == model);
    match known {
        Some(known) if !model.exists() => pull::find(known.name, &cache()?).ok_or_else(|| {
            anyhow!("the model {0} is not here yet: recaption models pull {0}", known.name)
        }),
        _ => Ok(model.to_owned()),
    }
}
