//! Settings of the data, with the words for the three texts.

use std::fmt;

use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::source;
use crate::train::data::Augment;
use crate::train::data::Texts;

/// Which data a model is trained on, and how they come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folders of runs, parquet or webdataset files, folders of pictures.
    pub inputs: Vec<String>,
    /// How the inputs are to be read.
    pub source: source::Config,
    /// Which rows are used: an expression over their columns, as `audit.score > 0.6`; unset: all.
    pub filter: Option<String>,
    /// Which rows are not used all the same, as those that are held out.
    pub except: Option<String>,
    /// How often each text of a picture is drawn.
    pub texts: TextWeights,
    /// Texts that a row must have to be used, whether they are drawn or not.
    pub require: Vec<Text>,
    /// Neighbouring rows that are read together.
    pub block: usize,
    /// Blocks that are mixed. Twice their rows wait in memory, encoded.
    pub pool: usize,
    /// Threads that decode pictures; 0: one for each core.
    pub workers: usize,
    /// Batches that are made ahead.
    pub prefetch: usize,
    /// How pictures are changed at random.
    pub augment: Augment,
}

impl Default for DataConfig {
    fn default() -> DataConfig {
        DataConfig {
            inputs: Vec::new(),
            source: source::Config::default(),
            filter: None,
            except: None,
            texts: TextWeights::default(),
            require: Vec::new(),
            block: 100,
            pool: 16,
            workers: 0,
            prefetch: 4,
            augment: Augment::default(),
        }
    }
}

/// How often each text is drawn, in proportion. Where a picture lacks one, the others share its
/// part; a picture whose texts all weigh nothing is left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TextWeights {
    /// What the web said.
    pub raw: f64,
    /// What the captioner saw.
    pub synthetic: f64,
    /// What the writer made of both.
    pub generated: f64,
}

impl Default for TextWeights {
    fn default() -> TextWeights {
        TextWeights { raw: 1.0, synthetic: 1.0, generated: 1.0 }
    }
}

/// Which text of a picture.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// What the web said: `text_raw`, or the column that the dataset has for it.
    Raw,
    /// What the captioner saw: `text_synthetic`.
    Synthetic,
    /// What the writer made of both: `text_generated`.
    Generated,
}

impl Text {
    /// Every text, in the order of [`TextWeights`].
    pub const ALL: [Text; 3] = [Text::Raw, Text::Synthetic, Text::Generated];

    /// The word for it in flags and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Text::Raw => "raw",
            Text::Synthetic => "synthetic",
            Text::Generated => "generated",
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl DataConfig {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            !self.inputs.is_empty(),
            "no data to train on: name a run's folder or other inputs"
        );
        ensure!(self.block > 0 && self.pool > 0, "block and pool are numbers from 1 on");
        self.texts.check()?;
        self.augment.check()
    }
}

impl TextWeights {
    /// Of each text, in the order of [`Text::ALL`].
    pub fn of(&self) -> [f64; 3] {
        [self.raw, self.synthetic, self.generated]
    }

    pub(super) fn check(&self) -> Result<()> {
        let is_weight = |weight: &f64| weight.is_finite() && *weight >= 0.0;
        ensure!(
            self.of().iter().all(is_weight) && self.of().iter().sum::<f64>() > 0.0,
            "weights of texts are numbers from 0 on, and not all 0; they are raw {}, synthetic {}, \
             generated {}",
            self.raw,
            self.synthetic,
            self.generated
        );
        Ok(())
    }

    /// The weights of the texts that are there.
    pub(super) fn total(&self, texts: &Texts) -> f64 {
        let pairs = self.of().into_iter().zip(texts);
        pairs.filter_map(|(weight, text)| text.map(|_| weight)).sum()
    }
}
