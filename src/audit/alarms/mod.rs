//! What must not go on for a night: one text for everything, refusals, answers about other pictures.
//!
//! A [`Watch`] counts rows in their order, over the most recent ones and over all, and says when a
//! share is larger than the configuration allows. A text that comes again with the same raw text, and
//! takes its words from it, is no repetition: a thousand stars with one title may share a sentence.

mod alarm;
mod config;
mod counts;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;

use crate::audit::alarms::counts::Counts;
use crate::audit::alarms::counts::ROOM;
use crate::audit::alarms::counts::Seen;
use crate::audit::alarms::counts::kinds_of;
use crate::audit::mixup::MixUps;
use crate::audit::place::Place;
use crate::audit::place::hash_of;
use crate::audit::place::mixed;
use crate::audit::stems::Stems;
use crate::audit::stems::has;
use crate::audit::stems::set_of;
use crate::sample::Sample;

pub use alarm::Alarm;
pub use alarm::Example;
pub use alarm::Kind;
pub use config::Action;
pub use config::Config;

/// Examples of an alarm.
const EXAMPLES: usize = 3;

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
