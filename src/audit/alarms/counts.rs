//! The counts of some rows, from which rows can be taken off again, and what is counted of a row.

use std::collections::HashMap;

use crate::audit::alarms::Kind;
use crate::sample::Sample;

/// Texts that are counted over the whole run.
pub(super) const ROOM: usize = 100_000;

#[derive(Default)]
pub(super) struct Counts {
    pub(super) rows: u64,
    kinds: HashMap<Kind, u64>,
    by_chance: u64,
    texts: HashMap<u64, u64>,
}

/// What a row adds to the counts, so that it can be taken off again.
#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) kinds: Vec<Kind>,
    pub(super) is_mixed_by_chance: bool,
    pub(super) text: Option<u64>,
}

impl Counts {
    pub(super) fn add(&mut self, seen: &Seen) {
        self.rows += 1;
        self.by_chance += u64::from(seen.is_mixed_by_chance);
        seen.kinds.iter().for_each(|kind| *self.kinds.entry(*kind).or_default() += 1);
        if let Some(text) = seen.text
            && (self.texts.len() < ROOM || self.texts.contains_key(&text))
        {
            *self.texts.entry(text).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, seen: &Seen) {
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
    pub(super) fn excess(&self, kind: Kind, text: Option<u64>) -> u64 {
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
pub(super) fn kinds_of(sample: &Sample) -> Vec<Kind> {
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
