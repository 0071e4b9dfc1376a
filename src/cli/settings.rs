//! From a configuration file and flags as typed to settings as meant.

use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::describe::WriterKind;
use crate::shard;
use crate::source;

/// Flags that go over the configuration file.
#[derive(Args, Default)]
pub(super) struct Settings {
    /// Configuration file; `recaption init` writes one.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder of a multi-label image classifier.
    #[arg(long, value_name = "DIR")]
    tagger: Option<PathBuf>,
    /// Folder of a YOLO-layout detector.
    #[arg(long, value_name = "DIR")]
    detector: Option<PathBuf>,
    /// Folder of a VisionEncoderDecoder captioner.
    #[arg(long, value_name = "DIR")]
    captioner: Option<PathBuf>,
    /// Folder of a classifier that says how unsafe each picture is (column `nsfw`), or `open-nsfw` after
    /// `recaption models pull open-nsfw`.
    #[arg(long, value_name = "DIR")]
    safety: Option<PathBuf>,
    /// Reject pictures whose `nsfw` is above this, 0 to 1.
    #[arg(long, value_name = "SCORE")]
    max_nsfw: Option<f32>,
    /// Who fuses the texts.
    #[arg(long)]
    writer: Option<WriterKind>,
    /// For --writer local: a GGUF file, or a name that `recaption models list` knows. For --writer
    /// remote: the model as the endpoint names it.
    #[arg(long, value_name = "NAME")]
    llm: Option<String>,
    /// For --writer remote: everything before /chat/completions.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Endpoint with a vision model that captions the pictures: everything before /chat/completions.
    #[arg(long, value_name = "URL")]
    captioner_url: Option<String>,
    /// The vision model, as that endpoint names it.
    #[arg(long, value_name = "NAME", requires = "captioner_url")]
    captioner_llm: Option<String>,
    /// Stop, with everything kept, before more money than this is spent on the writer's answers, in the
    /// currency of the configured prices.
    #[arg(long, value_name = "MONEY")]
    budget: Option<f64>,
    /// Stop, with everything kept, before more prompt and completion tokens than this are spent.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u64>,
    /// RWKV-CLIP weights that say how well each text fits its picture.
    #[arg(long, value_name = "CHECKPOINT")]
    clip: Option<PathBuf>,
    /// Sizes of the --clip weights: b32, b16, small, tiny, or a JSON or TOML file.
    #[arg(long, value_name = "NAME")]
    model_config: Option<String>,
    /// Read no more rows than this.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Rows of a shard.
    #[arg(long, value_name = "N")]
    rows_per_shard: Option<u64>,
    /// Form of the shards.
    #[arg(long)]
    format: Option<shard::Format>,
    /// Longer side of stored pictures, in pixels.
    #[arg(long, value_name = "PIXELS")]
    max_side: Option<u32>,
    /// What the inputs are, instead of recognising them.
    #[arg(long)]
    input_format: Option<source::Format>,
    /// Column with stable keys.
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,
    /// Column with encoded images.
    #[arg(long, value_name = "NAME")]
    image_column: Option<String>,
    /// Column with addresses of images.
    #[arg(long, value_name = "NAME")]
    url_column: Option<String>,
    /// Column with the text from the web.
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,
    /// Networks that may be fetched from although they are private, as 10.1.0.0/16.
    #[arg(long, value_name = "CIDR")]
    allow_private_hosts: Vec<String>,
    /// Any setting by its name in the configuration file, as perceive.beams=3; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl Settings {
    /// Nothing set but these model folders.
    pub(super) fn of_models(tagger: PathBuf, detector: PathBuf, captioner: PathBuf) -> Settings {
        Settings {
            tagger: Some(tagger),
            detector: Some(detector),
            captioner: Some(captioner),
            ..Settings::default()
        }
    }

    /// The file, then `--set`, then the flags.
    pub(super) fn resolve(self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        for assignment in &self.set {
            config = with(config, assignment)?;
        }
        let over = |setting: &mut Option<PathBuf>, flag: Option<PathBuf>| {
            *setting = flag.or(setting.take());
        };
        over(&mut config.perceive.tagger, self.tagger);
        over(&mut config.perceive.detector, self.detector);
        over(&mut config.perceive.captioner, self.captioner);
        over(&mut config.perceive.safety, self.safety);
        config.perceive.max_nsfw = self.max_nsfw.or(config.perceive.max_nsfw);
        over(&mut config.clip.checkpoint, self.clip);
        config.clip.model_config = self.model_config.unwrap_or(config.clip.model_config);
        let source = &mut config.source;
        source.input_format = self.input_format.or(source.input_format);
        source.key_column = self.key_column.or(source.key_column.take());
        source.image_column = self.image_column.or(source.image_column.take());
        source.url_column = self.url_column.or(source.url_column.take());
        source.text_column = self.text_column.or(source.text_column.take());
        config.run.limit = self.limit.or(config.run.limit);
        config.run.rows_per_shard = self.rows_per_shard.unwrap_or(config.run.rows_per_shard);
        config.shard.format = self.format.unwrap_or(config.shard.format);
        config.store.max_side = self.max_side.unwrap_or(config.store.max_side);
        config.fetch.private_networks.extend(self.allow_private_hosts);
        config.describe.writer = self.writer.unwrap_or(config.describe.writer);
        match (config.describe.writer, self.llm) {
            (WriterKind::Remote, Some(name)) => config.describe.remote.model = name,
            (WriterKind::Local, Some(name)) => config.describe.local.model = Some(name.into()),
            _ => {}
        }
        if let Some(url) = self.captioner_url {
            config.vision.remote.base_url = url;
        }
        if let Some(name) = self.captioner_llm {
            config.vision.remote.model = name;
        }
        config.describe.budget = self.budget.unwrap_or(config.describe.budget);
        config.describe.token_budget = self.max_tokens.unwrap_or(config.describe.token_budget);
        if let Some(url) = self.base_url {
            config.describe.remote.base_url = url;
        }
        config.check()?;
        Ok(config)
    }
}

/// The settings with one of them changed, as `recipe.lr=3e-4`.
pub(super) fn with<T: Serialize + DeserializeOwned>(config: T, assignment: &str) -> Result<T> {
    let what = || format!("--set {assignment}");
    let (path, value) =
        assignment.split_once('=').with_context(what).context("write it as NAME=VALUE")?;
    let mut table = toml::Table::try_from(config).with_context(what)?;
    let (parents, name) = path.trim().rsplit_once('.').unwrap_or(("", path.trim()));
    let mut place = &mut table;
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        place = place
            .entry(parent)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .with_context(|| format!("{parent} is no section"))
            .with_context(what)?;
    }
    place.insert(name.to_owned(), parsed(value.trim()));
    table.try_into().with_context(what)
}

/// A value as TOML spells it; what is none is a text, so that quotes need not be typed.
fn parsed(value: &str) -> toml::Value {
    let line: Result<toml::Table, _> = toml::from_str(&format!("value = {value}"));
    let parsed = line.ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_setting_can_be_changed_by_name_and_none_that_does_not_exist() {
        let settings = Settings {
            set: [
                "perceive.beams=3",
                "fetch.contact=me@example.org",
                "describe.remote.retry.attempts=2",
            ]
            .map(String::from)
            .into(),
            limit: Some(7),
            ..Settings::default()
        };
        let config = settings.resolve().unwrap();
        assert_eq!((config.perceive.beams, config.describe.remote.retry.attempts), (3, 2));
        assert_eq!(config.fetch.contact.as_deref(), Some("me@example.org"));
        assert_eq!(config.run.limit, Some(7));
        for wrong in ["perceive.beems=3", "nonsense", "perceive.beams=many", "run.workers.x=1"] {
            let settings = Settings { set: vec![wrong.to_owned()], ..Settings::default() };
            let error = format!("{:#}", settings.resolve().unwrap_err());
            assert!(error.contains(wrong), "{error}");
        }
    }
}
