//! One TOML file made of each module's own settings; flags of the command line go over it.
//!
//! Nothing below this module reads a configuration file. `recaption init` writes the file with every
//! setting at its default, and comments taken from the documentation of the settings themselves.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::audit;
use crate::clip;
use crate::decode;
use crate::dedup;
use crate::describe;
use crate::fetch;
use crate::folder;
use crate::perceive;
use crate::pipeline;
use crate::shard;
use crate::source;
use crate::vision;

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How the rows are divided and worked on.
    pub run: pipeline::Config,
    /// When the run has failed.
    pub quota: pipeline::Quota,
    /// Which column is what.
    pub source: source::Config,
    /// How pictures are fetched from urls.
    pub fetch: fetch::Config,
    /// What a picture must be like.
    pub decode: decode::Limits,
    /// What stored pictures are like.
    pub store: decode::Store,
    /// What counts as a copy.
    pub dedup: dedup::Config,
    /// Which models look at the pictures, and how.
    pub perceive: perceive::Config,
    /// Which endpoint captions the pictures.
    pub vision: vision::Config,
    /// Who writes, from which prompt, and what is accepted.
    pub describe: describe::Config,
    /// What counts how much when a text is judged.
    pub audit: audit::Config,
    /// Which shares of bad texts stop a run.
    pub alarms: audit::alarms::Config,
    /// Which checkpoint says how well texts fit their pictures.
    pub clip: clip::Config,
    /// Form of the shards.
    pub shard: shard::Config,
}

/// Settings that change how fast or how politely a run goes, but no column: they may differ when a
/// run is continued. Model folders are compared by their hashes instead.
const FREE: &[&str] = &[
    "run.workers",
    "quota",
    "alarms",
    "fetch.concurrency",
    "fetch.per_host_concurrency",
    "fetch.per_host_requests_per_second",
    "fetch.connect_timeout_ms",
    "fetch.header_timeout_ms",
    "fetch.read_timeout_ms",
    "fetch.total_deadline_ms",
    "fetch.retry",
    "fetch.user_agent",
    "fetch.contact",
    "fetch.private_networks",
    "fetch.allowed_ports",
    "fetch.circuit_failures",
    "fetch.circuit_cooldown_ms",
    "perceive.tagger",
    "perceive.detector",
    "perceive.captioner",
    "perceive.safety",
    "perceive.intra_threads",
    "perceive.execution_provider",
    "perceive.batch",
    "describe.prompts",
    "describe.budget",
    "describe.token_budget",
    "describe.requests",
    "describe.local.model",
    "describe.local.threads",
    "describe.remote.base_url",
    "describe.remote.api_key_env",
    "describe.remote.endpoints",
    "describe.remote.concurrency",
    "describe.remote.max_concurrency",
    "describe.remote.requests_per_minute",
    "describe.remote.tokens_per_minute",
    "describe.remote.timeout_s",
    "describe.remote.deadline_s",
    "describe.remote.retry",
    "describe.remote.give_up_after",
    "describe.remote.give_up_after_s",
    "describe.remote.prompt_price",
    "describe.remote.completion_price",
    "vision.prompts",
    "vision.remote.base_url",
    "vision.remote.api_key_env",
    "vision.remote.endpoints",
    "vision.remote.concurrency",
    "vision.remote.max_concurrency",
    "vision.remote.requests_per_minute",
    "vision.remote.tokens_per_minute",
    "vision.remote.timeout_s",
    "vision.remote.deadline_s",
    "vision.remote.retry",
    "vision.remote.give_up_after",
    "vision.remote.give_up_after_s",
    "vision.remote.prompt_price",
    "vision.remote.completion_price",
    "source.input_format",
    "clip.checkpoint",
    "clip.batch",
    "clip.device",
    "clip.nearness",
];

impl Config {
    /// The settings of a file, the defaults where it says nothing.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, or sets something that does not exist; the message
    /// points at the line.
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in the configuration {}", path.display()))
    }

    /// Refuses settings that cannot be meant; whatever a module checks itself is not repeated here.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        ensure!(self.run.rows_per_shard > 0, "run.rows_per_shard is 0; a shard needs a row");
        ensure!(self.run.workers != Some(0), "run.workers is 0; nobody would work");
        ensure!(self.store.max_side > 0, "store.max_side is 0; a picture needs a pixel");
        let share = self.quota.max_rejected;
        ensure!((0.0..=1.0).contains(&share), "quota.max_rejected is {share}, not between 0 and 1");
        let near = self.clip.nearness;
        ensure!((-1.0..=1.0).contains(&near), "clip.nearness is {near}, not between -1 and 1");
        ensure!(self.alarms.window > 0, "alarms.window is 0; a share needs a row");
        Ok(())
    }

    /// What must be the same when a run is continued, as JSON.
    ///
    /// # Errors
    /// Never in practice: every setting has a JSON form.
    pub fn identity(&self) -> Result<Value> {
        let mut json = serde_json::to_value(self)?;
        folder::remove(&mut json, FREE);
        Ok(json)
    }

    /// The file that `recaption init` writes.
    ///
    /// # Errors
    /// Never in practice: every setting has a TOML form.
    pub fn commented() -> Result<String> {
        let schema = schemars::schema_for!(Config).to_value();
        let defaults = serde_json::to_value(Config::default())?;
        let mut out = String::from(
            "# Settings of recaption, all at their defaults. Delete what you do not change.\n",
        );
        let Value::Object(sections) = &defaults else { bail!("the configuration is an object") };
        for (name, section) in sections {
            let described = property(&schema, &schema, name);
            write_section(&mut out, &schema, described, name, section)?;
        }
        Ok(out)
    }
}

/// The schema of a property, references followed.
fn property<'a>(root: &'a Value, schema: &'a Value, name: &str) -> &'a Value {
    resolve(root, schema).get("properties").and_then(|p| p.get(name)).unwrap_or(&Value::Null)
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str);
    let Some(name) = target.and_then(|target| target.strip_prefix("#/$defs/")) else {
        return schema;
    };
    root.get("$defs").and_then(|defs| defs.get(name)).unwrap_or(schema)
}

fn write_section(
    out: &mut String,
    root: &Value,
    schema: &Value,
    path: &str,
    section: &Value,
) -> Result<()> {
    let Value::Object(settings) = section else { bail!("{path} is not a section") };
    writeln!(out)?;
    comment(out, schema)?;
    writeln!(out, "[{path}]")?;
    let is_section = |value: &Value| value.is_object();
    for (name, value) in settings.iter().filter(|(_, value)| !is_section(value)) {
        comment(out, property(root, schema, name))?;
        allowed(out, root, property(root, schema, name))?;
        match value {
            Value::Null => writeln!(out, "# {name} =")?,
            value => writeln!(out, "{name} = {}", inline(value)?)?,
        }
    }
    for (name, value) in settings.iter().filter(|(_, value)| is_section(value)) {
        let described = property(root, schema, name);
        write_section(out, root, described, &format!("{path}.{name}"), value)?;
    }
    Ok(())
}

fn comment(out: &mut String, schema: &Value) -> Result<()> {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    for line in text.lines() {
        writeln!(out, "# {line}")?;
    }
    Ok(())
}

/// The words of a setting that has only some.
fn allowed(out: &mut String, root: &Value, schema: &Value) -> Result<()> {
    let any = schema.get("anyOf").and_then(Value::as_array);
    let schema = any.and_then(|any| any.first()).unwrap_or(schema);
    let schema = resolve(root, schema);
    let one_of = schema.get("oneOf").and_then(Value::as_array);
    let consts = one_of.map(|all| all.iter().filter_map(|one| one.get("const")).collect());
    let listed = schema.get("enum").and_then(Value::as_array).map(|all| all.iter().collect());
    let words: Vec<&Value> = consts.or(listed).unwrap_or_default();
    if !words.is_empty() {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        writeln!(out, "# One of {}.", words.join(", "))?;
    }
    Ok(())
}

/// A value as TOML writes it behind an equals sign.
fn inline(value: &Value) -> Result<String> {
    Ok(toml::Value::try_from(value)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_file_is_the_default_and_says_what_each_setting_is() {
        let text = Config::commented().unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default(), "{text}");
        for line in [
            "[run]",
            "[describe.remote]",
            "# One of \"rules\", \"local\", \"remote\".",
            "# tagger =",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let next = lines.peek().copied().unwrap_or_default();
            let is_setting = |line: &str| {
                line.ends_with(" =") || (line.contains(" = ") && !line.starts_with('#'))
            };
            assert!(!(line.is_empty() && is_setting(next)), "nothing explains {next}");
        }
    }

    #[test]
    fn a_misspelt_setting_is_refused_with_its_line() {
        let error =
            toml::from_str::<Config>("[run]\nrows_per_shart = 3\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("rows_per_shart"), "{error}");
    }

    #[test]
    fn free_settings_exist_and_do_not_count() {
        let mut json = serde_json::to_value(Config::default()).unwrap();
        for path in FREE {
            let before = json.clone();
            folder::remove(&mut json, &[path]);
            assert_ne!(json, before, "{path} is no setting");
        }
        let mut faster = Config::default();
        faster.run.workers = Some(64);
        faster.fetch.concurrency = 1;
        assert_eq!(faster.identity().unwrap(), Config::default().identity().unwrap());
        let mut other = Config::default();
        other.store.max_side = 64;
        let (there, here) = (Config::default().identity().unwrap(), other.identity().unwrap());
        let error = folder::ensure_same(Path::new("run"), &there, &here).unwrap_err().to_string();
        assert!(error.ends_with("\n  store.max_side: 512 there, 64 now"), "{error}");
    }
}
