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
    /// Configuration file whose `[audit]` counts.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Audit {
    pub(super) fn run(self) -> Result<()> {
        let config = self.config.as_deref().map(Config::read).transpose()?;
        let config = config.unwrap_or_default().audit;
        match (self.run, self.texts, self.calibrate) {
            (Some(folder), ..) => run::audit(&folder, &config, self.rows, self.json),
            (_, Some(path), _) => texts::score(&path, &config),
            (_, _, Some(path)) => texts::calibrate(&path, &config, self.figure.as_deref()),
            _ => bail!("nothing to audit: name the folder of a run, or give --texts FILE"),
        }
    }
}
