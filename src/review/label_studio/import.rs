//! Annotations of Label Studio as lines of a run's log.
//!
//! Of each annotator the last annotation of a row counts. What the log says already, or says otherwise
//! since, is not written again, so that the same file can be imported as often as one likes. A file with
//! an annotation that cannot be meant is refused whole.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;

use crate::atomic_file;
use crate::review::Line;
use crate::review::Rows;
use crate::review::Verdict;
use crate::review::label_studio::EDITED;
use crate::review::label_studio::VERDICT;
use crate::review::label_studio::shown;
use crate::review::verdicts;
use crate::review::verdicts::Log;

/// What became of the annotations of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines that the log has more.
    pub added: usize,
    /// Annotations that say what the log says already, or were replaced by a later one.
    pub known: usize,
    /// Those that the annotator skipped or left empty.
    pub skipped: usize,
    /// Those on texts that have changed since the export.
    pub outdated: usize,
}

/// A task as Label Studio exports it; what else it has is passed over.
#[derive(Deserialize)]
struct Task {
    id: Option<Value>,
    #[serde(default)]
    data: Data,
    annotations: Option<Vec<Annotation>>,
}

#[derive(Default, Deserialize)]
struct Data {
    key: Option<String>,
    shard: Option<u32>,
    text_sha256: Option<String>,
}

#[derive(Deserialize)]
struct Annotation {
    id: Option<Value>,
    completed_by: Option<Value>,
    #[serde(default)]
    result: Vec<Region>,
    was_cancelled: Option<bool>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Region {
    pub(super) from_name: Option<String>,
    #[serde(default)]
    pub(super) value: Value,
}

/// Whose word on which row.
pub(super) type Whose = (u32, String, String);

/// Takes the annotations of an export (JSON, not JSON-MIN) into the log of a run. `names` are those of
/// annotators, by Label Studio's number or e-mail address of them.
///
/// # Errors
/// When the file is no such export, an annotation is of another run or has no known verdict: names task
/// and annotation. Nothing is written then.
pub fn import(
    run: &Path,
    rows: &Rows,
    path: &Path,
    names: &HashMap<String, String>,
) -> Result<Imported> {
    let mut found = Found { rows, names, lines: BTreeMap::new(), counts: Imported::default() };
    for (place, task) in (1..).zip(read(path)?) {
        let called = format!("{}: task {place}{}", path.display(), id(task.id.as_ref()));
        found.task(task).context(called)?;
    }
    let Found { lines, mut counts, .. } = found;
    let log = verdicts::read(&run.join(verdicts::LOG))?;
    let new = news(lines, &log);
    counts.added = new.len();
    counts.known -= new.len();
    if !new.is_empty() {
        Log::open(run)?.append(&new)?;
    }
    Ok(counts)
}

fn read(path: &Path) -> Result<Vec<Task>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_reader(BufReader::new(file)).with_context(|| {
        format!("{} is no JSON export of Label Studio (a list of tasks)", path.display())
    })
}

/// What the log does not say yet, oldest first.
pub(super) fn news(lines: BTreeMap<Whose, Line>, log: &[Line]) -> Vec<Line> {
    let whose = |line: &Line| (line.shard, line.key.clone(), line.reviewer.clone());
    let last: HashMap<Whose, &Line> = log.iter().map(|line| (whose(line), line)).collect();
    // What was said or taken back since, here, goes before what Label Studio has of an earlier time.
    let is_known = |said: &&Line, line: &Line| said.says_what(line) || said.at > line.at;
    let is_new = |line: &Line| last.get(&whose(line)).is_none_or(|said| !is_known(said, line));
    let mut new: Vec<Line> = lines.into_values().filter(is_new).collect();
    new.sort_by_key(|line| line.at);
    new
}

struct Found<'a> {
    rows: &'a Rows,
    names: &'a HashMap<String, String>,
    lines: BTreeMap<Whose, Line>,
    /// All annotations with a verdict are known until it is seen which are new.
    counts: Imported,
}

impl Found<'_> {
    fn task(&mut self, task: Task) -> Result<()> {
        let annotations = task.annotations.context(
            "it has no list of annotations; let Label Studio export JSON, not JSON-MIN or another form",
        )?;
        let Data { key: Some(key), shard: Some(shard), text_sha256: Some(text) } = task.data else {
            bail!("its data lack key, shard or text_sha256: it is no task of recaption");
        };
        let place = self.rows.find(shard, &key);
        let place = place.with_context(|| {
            format!("this run has no row {key:?} with a text in shard {shard}; was it exported from another?")
        })?;
        for annotation in annotations {
            let called = format!("annotation{}", id(annotation.id.as_ref()));
            let line = self.line(annotation, &text).context(called)?;
            let Some(line) = line else {
                self.counts.skipped += 1;
                continue;
            };
            if self.rows.all()[place].text_sha256 != text {
                self.counts.outdated += 1;
                continue;
            }
            self.counts.known += 1;
            self.add(Line { key: key.clone(), shard, ..line });
        }
        Ok(())
    }

    fn add(&mut self, line: Line) {
        let whose = (line.shard, line.key.clone(), line.reviewer.clone());
        let is_later = self.lines.get(&whose).is_none_or(|there| there.at <= line.at);
        if is_later {
            self.lines.insert(whose, line);
        }
    }

    /// Without key and shard; nothing where nothing was said.
    fn line(&self, annotation: Annotation, text_sha256: &str) -> Result<Option<Line>> {
        if annotation.was_cancelled == Some(true) {
            return Ok(None);
        }
        let text = edited(&annotation.result, text_sha256)?;
        let Some(verdict) = verdict(&annotation.result)? else {
            ensure!(text.is_none(), "it has a text and no verdict");
            return Ok(None);
        };
        let at = annotation.updated_at.or(annotation.created_at);
        Ok(Some(Line {
            key: String::new(),
            shard: 0,
            verdict: Some(verdict),
            text,
            text_sha256: text_sha256.to_owned(),
            reviewer: self.reviewer(annotation.completed_by.as_ref())?,
            at: at.map_or_else(|| Ok(verdicts::now()), |at| seconds(&at))?,
        }))
    }

    /// A number alone says little: it becomes `label-studio-7` where no name is given for it.
    fn reviewer(&self, who: Option<&Value>) -> Result<String> {
        let known = match who {
            Some(Value::Object(who)) => {
                let said = ["email", "username", "id"].into_iter().filter_map(|name| who.get(name));
                said.filter_map(word).collect()
            }
            Some(other) => word(other).into_iter().collect(),
            None => Vec::new(),
        };
        let named = known.iter().find_map(|word| self.names.get(word)).cloned();
        let name = named.or_else(|| known.first().cloned());
        let name = match name {
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("label-studio-{number}")
            }
            Some(name) => name,
            None => "label-studio".to_owned(),
        };
        verdicts::ensure_name(&name)?;
        Ok(name)
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn verdict(result: &[Region]) -> Result<Option<Verdict>> {
    let chosen: Vec<&str> = values(result, VERDICT, "choices")?;
    match chosen[..] {
        [] => Ok(None),
        [word] => {
            let is_meant = |verdict: &Verdict| verdict.as_str() == word || shown(*verdict) == word;
            let found = Verdict::ALL.into_iter().find(is_meant);
            let words = || Verdict::ALL.map(shown).join(", ");
            found
                .map(Some)
                .with_context(|| format!("{word:?} is no verdict; there are {}", words()))
        }
        _ => bail!("it has several verdicts: {}", chosen.join(", ")),
    }
}

/// The text as the annotator would have it. The field holds the generated text by itself, and Label
/// Studio may send that along with the one that was written.
pub(super) fn edited(result: &[Region], text_sha256: &str) -> Result<Option<String>> {
    let mut texts = values(result, EDITED, "text")?.into_iter().map(str::trim);
    let is_new =
        |text: &&str| !text.is_empty() && atomic_file::sha256(text.as_bytes()) != text_sha256;
    Ok(texts.rfind(is_new).map(str::to_owned))
}

/// All words of a control.
fn values<'a>(result: &'a [Region], control: &str, field: &str) -> Result<Vec<&'a str>> {
    let mut all = Vec::new();
    for region in result.iter().filter(|region| region.from_name.as_deref() == Some(control)) {
        match &region.value[field] {
            Value::String(text) => all.push(text.as_str()),
            Value::Array(texts) if texts.iter().all(Value::is_string) => {
                all.extend(texts.iter().filter_map(Value::as_str));
            }
            other => bail!("{control} has no list of {field}, but {other}"),
        }
    }
    Ok(all)
}

pub(super) fn seconds(time: &str) -> Result<u64> {
    let time = DateTime::parse_from_rfc3339(time)
        .with_context(|| format!("{time:?} is no time, as 2026-01-31T12:00:00Z"))?;
    Ok(time.timestamp().try_into().unwrap_or(0))
}

fn id(id: Option<&Value>) -> String {
    id.map_or_else(String::new, |id| format!(" (id {id})"))
}
