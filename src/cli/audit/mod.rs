//! `recaption audit`: how far texts can be trusted, without a language model.

mod run;
mod texts;

use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;
use clap::Args;

use crate::config::Config;

#[derive(Args)]
pub(super) struct Audit {
    /// The folder of a run: its finished shards are audited by today's rules; writes
    /// `audit/summary.json` and the page `audit/report.html` into it and leaves the shards as they are.
    #[arg(conflicts_with_all = ["texts", "calibrate"])]
    run: Option<PathBuf>,
    /// Write the verdict of each row to `audit/rows.jsonl` too.
    #[arg(long, requires = "run")]
    rows: bool,
    /// Print all figures of a run as JSON.
    #[arg(long, requires = "run")]
    json: bool,
    /// Rows of JSON, one a line: `{"id", "sources": [..], "tags": [..], "raw", "text"}`, all but `text`
    /// optional; prints a line of JSON for each. `-` is standard input. With `hallucinated` (true or
    /// false) and `hallucinated_words` in the rows, the figures of how well that was found follow on
    /// standard error.
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Fit the weights of the score to such rows with labels; prints settings for the configuration
    /// file, and how good the score is on rows that the fit did not see.
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    calibrate: Option<PathBuf>,
    /// Draw how reliable the score is, with the weights of now and with fitted ones: a page of one file.
    #[arg(long, value_name = "FILE.html", requires = "calibrate")]
    figure: Option<PathBuf>,
    /// RWKV-CLIP weights that say how well the texts of a run, and the noun phrases of generated ones, fit
    /// their pictures; and which words that no source has are near a source (cosine of at least
    /// `clip.nearness`). All of it is as good as the weights.
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "calibrate")]
    clip: Option<PathBuf>,
    /// Sizes of the --clip weights: b32, b16, small, tiny, or a JSON or TOML file.
    #[arg(long, value_name = "NAME", requires = "clip")]
    model_config: Option<String>,
    /// Configuration file whose `[audit]` counts, and with --clip its `[clip]`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Audit {
    /// Whether a model is asked.
    pub(super) fn computes(&self) -> bool {
        self.clip.is_some()
    }

    pub(super) fn run(self) -> Result<()> {
        let config = self.config.as_deref().map(Config::read).transpose()?;
        let Config { audit: config, mut clip, .. } = config.unwrap_or_default();
        clip.model_config = self.model_config.unwrap_or(clip.model_config);
        // Only where it is asked for here: a run's own configuration may name weights too.
        clip.checkpoint = self.clip;
        match (self.run, self.texts, self.calibrate) {
            (Some(folder), ..) => run::audit(&folder, &config, &clip, self.rows, self.json),
            (_, Some(path), _) => texts::score(&path, &config, &clip),
            (_, _, Some(path)) => texts::calibrate(&path, &config, self.figure.as_deref()),
            _ => bail!("nothing to audit: name the folder of a run, or give --texts FILE"),
        }
    }
}
