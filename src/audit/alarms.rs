//! What must not go on for a night: one text for everything, refusals, answers about other pictures.
//!
//! A [`Watch`] counts rows in their order, over the most recent ones and over all, and says when a
//! share is larger than the configuration allows. A text that comes again with the same raw text, and
//! takes its words from it, is no repetition: a thousand stars with one title may share a sentence.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::mixup::MixUps;
use crate::audit::place::Place;
use crate::audit::place::hash_of;
use crate::audit::place::mixed;
use crate::audit::stems::Stems;
use crate::audit::stems::has;
use crate::audit::stems::set_of;
use crate::sample::Sample;

/// Examples of an alarm.
const EXAMPLES: usize = 3;
/// Texts that are counted over the whole run.
const ROOM: usize = 100_000;

/// Largest shares of rows, 0 to 1; a share of 1 switches its alarm off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What an alarm does: stop the run (exit code 3), or only warn.
    pub action: Action,
    /// No judgement before so many rows.
    pub after_rows: u64,
    /// Judged are the most recent rows, so many of them, and all rows together.
    pub window: usize,
    /// Rows that share one generated text although their sources differ.
    pub max_repeated: f64,
    /// Rows whose writer refused.
    pub max_refused: f64,
    /// Rows whose text, or the reply that was not taken, has pieces of the prompt or its scores.
    pub max_leaked: f64,
    /// Rows whose writer's reply was not taken, for whatever reason.
    pub max_not_taken: f64,
    /// Rows without a generated text.
    pub max_missing: f64,
    /// Rows in another language than the wanted one.
    pub max_wrong_language: f64,
    /// Rows that open with boilerplate.
    pub max_boilerplate: f64,
    /// Rows whose text fits a neighbour better than their own picture, above what chance gives.
    pub max_mixed_up: f64,
}

/// What an alarm does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stops the run; finished shards stay.
    #[default]
    Stop,
    /// Says so, once for each kind, and goes on.
    Warn,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            action: Action::Stop,
            // Enough that a share is more than an accident, few enough that little was paid for.
            after_rows: 300,
            window: 1000,
            // Small vocabularies repeat: of openclipart's drawings 18 % of a window share a
            // sentence, once equal titles are set aside.
            max_repeated: 0.2,
            max_refused: 0.2,
            max_leaked: 0.2,
            // A writer that is not understood half of the time should not be paid for.
            max_not_taken: 0.5,
            // Runs without models and raw texts have no texts at all, and may be meant so.
            max_missing: 1.0,
            max_wrong_language: 0.6,
            max_boilerplate: 0.5,
            max_mixed_up: 0.1,
        }
    }
}

/// What is counted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One text on many rows.
    Repeated,
    /// Refusals.
    Refused,
    /// Prompts and scores in texts.
    Leaked,
    /// Replies that were not taken.
    NotTaken,
    /// No text.
    Missing,
    /// Another language.
    WrongLanguage,
    /// Boilerplate.
    Boilerplate,
    /// Texts about a neighbour's picture.
    MixedUp,
}

/// A share that is too large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alarm {
    /// What is counted.
    pub kind: Kind,
    /// Rows that have it.
    pub rows: u64,
    /// Of so many rows.
    pub of: u64,
    /// Whether those are the most recent rows, or all.
    pub is_recent: bool,
    /// The share that is allowed.
    pub limit: f64,
    /// Some of the rows.
    pub examples: Vec<Example>,
}

/// A row of an alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// Its key.
    pub key: String,
    /// Its text, or why it has none.
    pub text: String,
}

/// Counts rows and says when a share is too large.
pub struct Watch {
    config: Config,
    total: Counts,
    recent: Counts,
    window: VecDeque<Seen>,
    /// Texts with the raw text that they came with.
    known: HashSet<u64>,
    mix_ups: MixUps,
    raised: HashSet<Kind>,
    examples: HashMap<Kind, VecDeque<Example>>,
}

#[derive(Default)]
struct Counts {
    rows: u64,
    kinds: HashMap<Kind, u64>,
    by_chance: u64,
    texts: HashMap<u64, u64>,
}

/// What a row adds to the counts, so that it can be taken off again.
#[derive(Clone, Default)]
struct Seen {
    kinds: Vec<Kind>,
    is_mixed_by_chance: bool,
    text: Option<u64>,
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(config: &Config) -> Watch {
        Watch {
            config: config.clone(),
            total: Counts::default(),
            recent: Counts::default(),
            window: VecDeque::new(),
            known: HashSet::new(),
            mix_ups: MixUps::default(),
            raised: HashSet::new(),
            examples: HashMap::new(),
        }
    }

    /// What an alarm does.
    pub fn action(&self) -> Action {
        self.config.action
    }

    /// Counts a row; an alarm of each kind is raised once.
    pub fn count(&mut self, sample: &Sample, stems: &Stems) -> Option<Alarm> {
        let mut seen = Seen { kinds: kinds_of(sample), ..Seen::default() };
        for kind in &seen.kinds {
            keep(self.examples.entry(*kind).or_default(), example(sample));
        }
        seen.text = self.unexplained(sample);
        // What is said of a row that came a little earlier is counted with this one.
        let judged = self.mix_ups.add(&sample.item.key, Place::default(), stems);
        if let Some(judged) = judged {
            seen.is_mixed_by_chance = judged.by_chance == Some(true);
            if let Some(suspect) = judged.suspect {
                let text = format!("fits the picture of {} better", suspect.other_key);
                let examples = self.examples.entry(Kind::MixedUp).or_default();
                keep(examples, Example { key: suspect.key, text });
                seen.kinds.push(Kind::MixedUp);
            }
        }
        self.total.add(&seen);
        self.recent.add(&seen);
        let text = seen.text;
        self.window.push_back(seen);
        if self.window.len() > self.config.window.max(1) {
            self.window.pop_front().iter().for_each(|oldest| self.recent.remove(oldest));
        }
        self.judge(sample, text)
    }

    /// The text's hash, unless the same raw text came with it before and has half of its words.
    fn unexplained(&mut self, sample: &Sample) -> Option<u64> {
        let generated = sample.generated.as_ref()?;
        let raw = sample.item.text_raw.as_deref().unwrap_or_default();
        let text = hash_of(generated.text.as_bytes());
        let pair = mixed(text) ^ hash_of(raw.as_bytes());
        if self.known.len() < ROOM && self.known.insert(pair) {
            return Some(text);
        }
        let (words, raw) = (set_of(&generated.text), set_of(raw));
        let explained = words.iter().filter(|stem| has(&raw, **stem)).count();
        let is_explained = !words.is_empty() && 2 * explained >= words.len();
        (!is_explained || !self.known.contains(&pair)).then_some(text)
    }

    fn judge(&mut self, sample: &Sample, text: Option<u64>) -> Option<Alarm> {
        if self.total.rows < self.config.after_rows {
            return None;
        }
        for (counts, is_recent) in [(&self.recent, true), (&self.total, false)] {
            for (kind, limit) in self.config.limits() {
                let rows = counts.excess(kind, text);
                if self.raised.contains(&kind) || rows as f64 <= limit * counts.rows as f64 {
                    continue;
                }
                let examples = match kind {
                    Kind::Repeated => vec![example(sample)],
                    kind => self.examples.get(&kind).into_iter().flatten().cloned().collect(),
                };
                let alarm = Alarm { kind, rows, of: counts.rows, is_recent, limit, examples };
                self.raised.insert(kind);
                return Some(alarm);
            }
        }
        None
    }
}

impl Config {
    fn limits(&self) -> [(Kind, f64); 8] {
        [
            (Kind::Repeated, self.max_repeated),
            (Kind::Refused, self.max_refused),
            (Kind::Leaked, self.max_leaked),
            (Kind::NotTaken, self.max_not_taken),
            (Kind::Missing, self.max_missing),
            (Kind::WrongLanguage, self.max_wrong_language),
            (Kind::Boilerplate, self.max_boilerplate),
            (Kind::MixedUp, self.max_mixed_up),
        ]
    }
}

impl Counts {
    fn add(&mut self, seen: &Seen) {
        self.rows += 1;
        self.by_chance += u64::from(seen.is_mixed_by_chance);
        seen.kinds.iter().for_each(|kind| *self.kinds.entry(*kind).or_default() += 1);
        if let Some(text) = seen.text
            && (self.texts.len() < ROOM || self.texts.contains_key(&text))
        {
            *self.texts.entry(text).or_default() += 1;
        }
    }

    fn remove(&mut self, seen: &Seen) {
        self.rows -= 1;
        self.by_chance -= u64::from(seen.is_mixed_by_chance);
        for kind in &seen.kinds {
            self.kinds.entry(*kind).and_modify(|rows| *rows = rows.saturating_sub(1));
        }
        if let Some(text) = seen.text
            && let Some(rows) = self.texts.get_mut(&text)
        {
            *rows = rows.saturating_sub(1);
            if *rows == 0 {
                self.texts.remove(&text);
            }
        }
    }

    /// Rows of a kind; of mix-ups, those that chance does not explain.
    fn excess(&self, kind: Kind, text: Option<u64>) -> u64 {
        let rows = self.kinds.get(&kind).copied().unwrap_or(0);
        match kind {
            Kind::Repeated => text.and_then(|text| self.texts.get(&text)).copied().unwrap_or(0),
            Kind::MixedUp => rows.saturating_sub(self.by_chance),
            _ => rows,
        }
    }
}

/// What is wrong with a row by its flags, and by why a better reply was not taken: a refusal that was
/// replaced by the grammar is one still.
fn kinds_of(sample: &Sample) -> Vec<Kind> {
    let flag = |flag: &str| sample.audit.reasons.iter().any(|reason| reason == flag);
    let refused = sample.generated_refused.as_deref();
    let reply = |words: &str| refused.is_some_and(|reason| reason.contains(words));
    let kinds = [
        (Kind::Refused, flag("refusal") || reply("model refused")),
        (Kind::Leaked, flag("leaked_template") || flag("leaked_probability") || reply("leaks")),
        (Kind::NotTaken, refused.is_some()),
        (Kind::Missing, sample.generated.is_none()),
        (Kind::WrongLanguage, flag("wrong_language") || reply("another language")),
        (
            Kind::Boilerplate,
            flag("boilerplate_opening") || reply("boilerplate") || reply("talks about"),
        ),
    ];
    kinds.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind).collect()
}

fn example(sample: &Sample) -> Example {
    let refused = sample.generated_refused.clone().map(|reason| format!("({reason})"));
    let text = sample.generated.as_ref().map(|generated| generated.text.clone());
    let text = refused.or(text).unwrap_or_else(|| "(no text)".to_owned());
    Example { key: sample.item.key.clone(), text }
}

/// Of each kind the latest.
fn keep(examples: &mut VecDeque<Example>, example: Example) {
    examples.push_back(example);
    if examples.len() > EXAMPLES {
        examples.pop_front();
    }
}

impl Kind {
    fn says(self) -> &'static str {
        match self {
            Kind::Repeated => "have one and the same generated text",
            Kind::Refused => "were refused by the writer",
            Kind::Leaked => "have pieces of the prompt in their text or in the reply",
            Kind::NotTaken => "got a reply that could not be taken",
            Kind::Missing => "have no generated text",
            Kind::WrongLanguage => "are in another language than the wanted one",
            Kind::Boilerplate => "open with boilerplate",
            Kind::MixedUp => "have a text that fits a neighbour's picture better, chance set aside",
        }
    }

    /// The setting that limits it.
    pub fn setting(self) -> &'static str {
        match self {
            Kind::Repeated => "alarms.max_repeated",
            Kind::Refused => "alarms.max_refused",
            Kind::Leaked => "alarms.max_leaked",
            Kind::NotTaken => "alarms.max_not_taken",
            Kind::Missing => "alarms.max_missing",
            Kind::WrongLanguage => "alarms.max_wrong_language",
            Kind::Boilerplate => "alarms.max_boilerplate",
            Kind::MixedUp => "alarms.max_mixed_up",
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, of, limit) = (self.rows, self.of, self.limit);
        let which = if self.is_recent { "the last " } else { "all " };
        let (says, setting) = (self.kind.says(), self.kind.setting());
        write!(
            f,
            "{rows} of {which}{of} rows {says}, more than the share of {limit} that {setting} allows"
        )?;
        for Example { key, text } in &self.examples {
            // Text from the web in a terminal: no control characters, and not a page of it.
            let text: String =
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
            write!(f, "\n  {}: {text}", key.escape_debug())?;
        }
        Ok(())
    }
}

impl std::error::Error for Alarm {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::audit::Texts;
    use crate::sample::Audit;
    use crate::sample::Generated;
    use crate::sample::Item;
    use crate::sample::Picture;
    use crate::sample::Reason;
    use crate::sample::StoredImage;

    fn sample(row: usize, raw: &str, text: &str) -> Sample {
        let picture = Picture::Absent { reason: Reason::ImageNull, detail: String::new() };
        Sample {
            item: Item {
                key: row.to_string(),
                picture,
                url: None,
                text_raw: Some(raw.to_owned()),
                extra: Default::default(),
            },
            image: StoredImage {
                bytes: Bytes::new(),
                path: String::new(),
                width: 1,
                height: 1,
                original_width: 1,
                original_height: 1,
            },
            sha256: String::new(),
            phash: 0,
            tags: Vec::new(),
            synthetic: None,
            generated: Some(Generated {
                text: text.to_owned(),
                writer: Arc::from("remote"),
                model: Arc::from("m"),
                prompt: Arc::from("p"),
                finish_reason: "stop".to_owned(),
                tokens: None,
            }),
            generated_refused: None,
            audit: Audit::default(),
            fit: None,
            safety: None,
        }
    }

    fn first_alarm(rows: impl Iterator<Item = Sample>) -> Option<Alarm> {
        let mut watch = Watch::new(&Config { after_rows: 50, window: 100, ..Config::default() });
        rows.into_iter().find_map(|sample| watch.count(&sample, &Stems::of(&Texts::of(&sample))))
    }

    fn distinct(row: usize) -> String {
        format!("thing{row} colour{row} place{row}")
    }

    #[test]
    fn honest_rows_raise_nothing() {
        let rows = (0..500).map(|row| sample(row, &distinct(row), &distinct(row)));
        assert_eq!(first_alarm(rows), None);
    }

    #[test]
    fn one_text_for_all_is_an_alarm_soon() {
        let rows = (0..500).map(|row| sample(row, &distinct(row), "A stop sign on a wall."));
        let alarm = first_alarm(rows).unwrap();
        assert_eq!((alarm.kind, alarm.rows, alarm.of), (Kind::Repeated, 50, 50));
        assert!(alarm.to_string().contains("A stop sign on a wall."), "{alarm}");
    }

    #[test]
    fn what_begins_late_is_found_among_recent_rows() {
        let text = |row: usize| if row < 2000 { distinct(row) } else { "A stop sign.".to_owned() };
        let rows = (0..2200).map(|row| sample(row, &distinct(row), &text(row)));
        let alarm = first_alarm(rows).unwrap();
        assert!(alarm.is_recent && alarm.of == 100 && alarm.rows < 30, "{alarm}");
    }

    #[test]
    fn equal_titles_may_share_a_sentence_but_not_one_from_elsewhere() {
        let same = (0..500).map(|row| sample(row, "gramastar", "Gramastar, a star."));
        assert_eq!(first_alarm(same), None);
        let other = (0..500).map(|row| sample(row, "image", "A stop sign on a brick wall."));
        assert_eq!(first_alarm(other).unwrap().kind, Kind::Repeated);
    }

    #[test]
    fn each_kind_has_its_limit() {
        type Change = fn(&mut Sample);
        let changes: [(Kind, Change); 5] = [
            (Kind::Refused, |s| s.audit.reasons.push("refusal".to_owned())),
            (Kind::Refused, |s| s.generated_refused = Some("model refused, twice".to_owned())),
            (Kind::Leaked, |s| s.audit.reasons.push("leaked_template".to_owned())),
            (Kind::NotTaken, |s| s.generated_refused = Some("500: oops".to_owned())),
            (Kind::WrongLanguage, |s| s.audit.reasons.push("wrong_language".to_owned())),
        ];
        for (kind, change) in changes {
            let rows = (0..200).map(|row| {
                let mut sample = sample(row, &distinct(row), &distinct(row));
                change(&mut sample);
                sample
            });
            assert_eq!(first_alarm(rows).unwrap().kind, kind);
        }
    }

    #[test]
    fn texts_of_neighbours_are_an_alarm() {
        let rows = (0..500).map(|row| sample(row, &distinct(row), &distinct(row ^ 1)));
        let alarm = first_alarm(rows).unwrap();
        assert_eq!(alarm.kind, Kind::MixedUp);
        assert!(alarm.examples[0].text.contains("fits the picture of"), "{alarm}");
    }
}
