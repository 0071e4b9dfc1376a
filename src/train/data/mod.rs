//! What a model is trained on: rows of any dataset, shuffled, their pictures cropped at random, one of
//! their texts drawn each time (arXiv 2406.06973, section 3).
//!
//! A batch is a pure function of the settings, the data and its [`Position`]: nothing else is kept of
//! a loader that stops, and no thread's timing is in the bytes. Nothing here knows a model.

mod augment;
mod config;
mod evaluation;
mod fingerprint;
mod loader;
mod order;
mod pick;
mod prepare;

use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::clip::Words;
use crate::sample::Item;
use crate::shard;
use crate::source::Format;
use crate::source::Plan;
use crate::source::Source;
use crate::train::data::order::Order;
use crate::train::data::pick::Picked;

pub use augment::Augment;
pub use config::DataConfig;
pub use config::Text;
pub use config::TextWeights;
pub use evaluation::Evaluation;
pub use loader::Loader;

/// What one rank of a training asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderPlan {
    /// Rows of a batch, over all ranks.
    pub batch: usize,
    /// This rank, from 0.
    pub rank: usize,
    /// How many ranks there are.
    pub world: usize,
    /// What the order and all draws begin from.
    pub seed: u64,
    /// Pixels of each side of a picture.
    pub side: u32,
}

/// A place in the endless row of batches, from 0: the whole state of a loader.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Passes over the data before this one.
    pub epoch: u64,
    /// Batches of this pass before this one.
    pub batch: u64,
}

/// This rank's part of a batch, n rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its place.
    pub position: Position,
    /// The place of the batch after it.
    pub next: Position,
    /// Place of its first row in the batch of all ranks.
    pub first: usize,
    /// (n, 3, side, side), normalised.
    pub pixels: Vec<f32>,
    /// (n, ids of a text): CLIP's, or those of the tokenizer that was named.
    pub tokens: Vec<u32>,
    /// (n): which row of the source.
    pub rows: Vec<u32>,
    /// (n)
    pub keys: Vec<String>,
    /// (n): which text was drawn.
    pub texts: Vec<Text>,
    /// Keys of rows whose pictures cannot be used, and why. They are not among the n.
    pub unreadable: Vec<(String, String)>,
}

/// Rows that are not used, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// The filter is not true of them.
    pub filter: u64,
    /// They have no text that weighs anything.
    pub no_text: u64,
}

/// The rows that a model is trained on.
pub struct Dataset {
    shared: Arc<Shared>,
}

/// What the threads of a loader need of a dataset.
struct Shared {
    config: DataConfig,
    source: Source,
    words: Arc<Words>,
    order: Order,
    left_out: LeftOut,
    fingerprint: String,
}

impl Dataset {
    /// Finds the rows that pass the filter and have a text. Reads all rows once, without their
    /// pictures; `progress` hears how many so far.
    ///
    /// # Errors
    /// When the inputs cannot be read, have no pictures or no texts, when the filter or the weights
    /// cannot be used, or no row is left.
    pub fn open(
        config: &DataConfig,
        words: Arc<Words>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Dataset> {
        config.check()?;
        let source = shard::open_source(&config.inputs, &config.source)?;
        ensure_trainable(source.plan())?;
        let Picked { rows, left_out, fingerprint } = pick::rows(config, &source, progress)?;
        let files = source.plan().files.iter().map(|file| file.rows);
        let order = Order::new(files, rows, config.block);
        let config = config.clone();
        let shared = Shared { config, source, words, order, left_out, fingerprint };
        Ok(Dataset { shared: Arc::new(shared) })
    }

    /// Rows that are used.
    pub fn rows(&self) -> u64 {
        self.shared.order.rows()
    }

    /// Rows that are not used, by why.
    pub fn left_out(&self) -> LeftOut {
        self.shared.left_out
    }

    /// SHA-256 of all that the batches depend on but the pictures: settings, and keys and texts of
    /// the rows that are used. It is the same where the same files lie elsewhere.
    pub fn fingerprint(&self) -> &str {
        &self.shared.fingerprint
    }

    /// Whole batches of one pass over the rows; the rows that are left over are not used in it.
    pub fn batches_per_epoch(&self, batch: usize) -> u64 {
        self.rows() / batch.max(1) as u64
    }

    /// Batches from a position on, without end.
    ///
    /// # Errors
    /// When there are fewer rows than a batch has, ranks do not share a batch evenly, or no epoch has
    /// such a position.
    pub fn loader(&self, plan: &LoaderPlan, from: Position) -> Result<Loader> {
        Loader::start(Arc::clone(&self.shared), *plan, from)
    }

    /// All rows in order, some at a time, as a trained model is judged by them: the evaluation
    /// transform, and of each row the text that is named, or else the best that it has (generated,
    /// synthetic, raw).
    ///
    /// # Errors
    /// When the data cannot be read any more.
    pub fn evaluation(
        &self,
        side: u32,
        text: Option<Text>,
        at_a_time: usize,
    ) -> Result<Evaluation<'_>> {
        Evaluation::start(&self.shared, side, text, at_a_time)
    }
}

/// The texts of a row in the order of [`Text::ALL`]; blank ones are none.
type Texts<'a> = [Option<&'a str>; 3];

/// Columns of refined rows beside `text_raw`.
const REFINED: [&str; 2] = ["text_synthetic", "text_generated"];

fn texts_of(item: &Item) -> Texts<'_> {
    let [synthetic, generated] = REFINED.map(|name| item.extra.get(name).and_then(|v| v.as_str()));
    let texts = [item.text_raw.as_deref(), synthetic, generated];
    texts.map(|text| text.filter(|text| !text.trim().is_empty()))
}

fn ensure_trainable(plan: &Plan) -> Result<()> {
    let has_pictures = match plan.format {
        Format::Table => false,
        Format::Parquet => plan.mapping.image.is_some(),
        Format::Folder | Format::Webdataset => true,
    };
    ensure!(
        has_pictures,
        "the data have addresses of pictures and no pictures; `recaption refine` fetches them"
    );
    // A row's number is four bytes of memory for as long as the training lasts.
    u32::try_from(plan.rows).context("more than 4 billion rows; train on a part of them")?;
    Ok(())
}
