//! Which token next: greedy and beam search over the logits of one picture.
//!
//! Pure bookkeeping, no network. Beam search is that of transformers 4.55 (`_beam_search`) for one
//! picture: candidates are the `(ends + 1) * beams` best continuations (at least `2 * beams`); those
//! of the best `beams` that end are finished with the score `sum / length^penalty`; the search goes
//! on while a running beam could still beat the worst finished one. Its sums are `f32`, as there.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// When beam search stops looking for better captions, as in transformers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EarlyStopping {
    /// `False`: when the best running beam, at its present length, is worse than the worst
    /// finished one.
    #[default]
    Heuristic,
    /// `True`: as soon as there are as many finished captions as beams.
    FirstFinished,
    /// `"never"`: when not even the longest allowed continuation could be better.
    Exhaustive,
}

/// What a search is allowed to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) start: i64,
    pub(crate) end: Vec<i64>,
    pub(crate) max_new_tokens: usize,
    pub(crate) beams: usize,
    pub(crate) length_penalty: f32,
    pub(crate) early_stopping: EarlyStopping,
}

impl Rules {
    /// How many continuations are looked at in each step.
    pub(crate) fn candidates(&self) -> usize {
        (self.end.len() + 1).max(2) * self.beams
    }
}

/// A finished caption.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hypothesis {
    /// Every new token, the end token included.
    pub(crate) tokens: Vec<i64>,
    /// Sum of log probabilities over length to the penalty; `None` for greedy search, which has no
    /// use for it.
    pub(crate) score: Option<f32>,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Go on; row `i` of the next step continues row `origins[i]` of this one.
    Continue {
        /// Index into the rows this search had.
        origins: Vec<usize>,
    },
    /// Done.
    Finished(Hypothesis),
    /// A logit was NaN, or none was finite.
    NotANumber,
}

/// The search for one picture's caption.
#[derive(Clone, Debug)]
pub(crate) enum Search {
    Greedy(Greedy),
    Beam(Beam),
}

impl Search {
    pub(crate) fn new(rules: &Rules) -> Search {
        match rules.beams {
            0 | 1 => Search::Greedy(Greedy { tokens: Vec::new() }),
            _ => Search::Beam(Beam::new()),
        }
    }

    /// Appends the token each row of the next step starts from. The first step has one row,
    /// whatever the number of beams: they would all be equal.
    pub(crate) fn last_tokens(&self, rules: &Rules, tokens: &mut Vec<i64>) {
        let last = |row: &Vec<i64>| row.last().copied().unwrap_or(rules.start);
        match self {
            Search::Greedy(greedy) => tokens.push(last(&greedy.tokens)),
            Search::Beam(beam) => tokens.extend(beam.running.iter().map(|r| last(&r.tokens))),
        }
    }

    /// The number of rows of the next step.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Search::Greedy(_) => 1,
            Search::Beam(beam) => beam.running.len(),
        }
    }

    /// # Shapes
    /// `logits` is `[rows, vocabulary]`.
    pub(crate) fn advance(&mut self, rules: &Rules, logits: &[f32]) -> Step {
        match self {
            Search::Greedy(greedy) => greedy.advance(rules, logits),
            Search::Beam(beam) => beam.advance(rules, logits),
        }
    }
}

/// Always the likeliest token.
#[derive(Clone, Debug)]
pub(crate) struct Greedy {
    tokens: Vec<i64>,
}

impl Greedy {
    fn advance(&mut self, rules: &Rules, logits: &[f32]) -> Step {
        let Some((token, _)) = likeliest(logits) else { return Step::NotANumber };
        self.tokens.push(token as i64);
        if rules.end.contains(&(token as i64)) || self.tokens.len() >= rules.max_new_tokens {
            let tokens = std::mem::take(&mut self.tokens);
            return Step::Finished(Hypothesis { tokens, score: None });
        }
        Step::Continue { origins: vec![0] }
    }
}

/// Index and value of the first largest logit; `None` with a NaN among them or nothing finite.
fn likeliest(logits: &[f32]) -> Option<(usize, f32)> {
    // Two passes that the compiler turns into vector code are faster than one that branches.
    if logits.iter().any(|l| l.is_nan()) {
        return None;
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let at = logits.iter().position(|&l| l == max)?;
    max.is_finite().then_some((at, max))
}

/// The best few sequences at once.
#[derive(Clone, Debug)]
pub(crate) struct Beam {
    /// Best first.
    running: Vec<Sequence>,
    /// Best first, at most as many as beams.
    finished: Vec<Sequence>,
}

#[derive(Clone, Debug)]
struct Sequence {
    tokens: Vec<i64>,
    /// Sum of log probabilities; over length to the penalty once finished.
    score: f32,
}

/// A sequence and its next token.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Continuation {
    score: f32,
    row: usize,
    token: i64,
}

impl Beam {
    fn new() -> Beam {
        let start = Sequence { tokens: Vec::new(), score: 0.0 };
        Beam { running: vec![start], finished: Vec::new() }
    }

    fn advance(&mut self, rules: &Rules, logits: &[f32]) -> Step {
        let vocabulary = logits.len() / self.running.len().max(1);
        let mut best = Best::new(rules.candidates());
        for (row, logits) in logits.chunks_exact(vocabulary.max(1)).enumerate() {
            let Some((_, max)) = likeliest(logits) else { return Step::NotANumber };
            let sum = logits.iter().map(|l| (l - max).exp()).sum::<f32>().ln();
            best.offer_row(row, logits, max, sum, self.running[row].score);
        }
        let length = self.running[0].tokens.len() + 1;
        let ends =
            |c: &Continuation| length >= rules.max_new_tokens || rules.end.contains(&c.token);
        for continuation in best.kept.iter().take(rules.beams).filter(|c| ends(c)) {
            self.finish(continuation, rules);
        }
        let next: Vec<Continuation> =
            best.kept.iter().filter(|c| !ends(c)).take(rules.beams).copied().collect();
        self.running = next.iter().map(|c| self.extended(c)).collect();
        if self.is_done(rules, length) {
            return self.take_best();
        }
        Step::Continue { origins: next.iter().map(|c| c.row).collect() }
    }

    fn extended(&self, continuation: &Continuation) -> Sequence {
        let before = &self.running[continuation.row].tokens;
        let mut tokens = Vec::with_capacity(before.len() + 1);
        tokens.extend_from_slice(before);
        tokens.push(continuation.token);
        Sequence { tokens, score: continuation.score }
    }

    fn finish(&mut self, continuation: &Continuation, rules: &Rules) {
        let mut sequence = self.extended(continuation);
        sequence.score /= penalty(sequence.tokens.len(), rules);
        let better = |f: &Sequence| f.score >= sequence.score;
        let place = self.finished.partition_point(better);
        self.finished.insert(place, sequence);
        self.finished.truncate(rules.beams);
    }

    /// `length` is that of the running sequences.
    fn is_done(&self, rules: &Rules, length: usize) -> bool {
        let Some(best) = self.running.first() else { return true };
        let full = self.finished.len() == rules.beams;
        if !full {
            return false;
        }
        let longest =
            rules.early_stopping == EarlyStopping::Exhaustive && rules.length_penalty > 0.0;
        let length = if longest { rules.max_new_tokens } else { length };
        let hope = best.score / penalty(length, rules);
        let worst = self.finished.last().map_or(f32::NEG_INFINITY, |f| f.score);
        rules.early_stopping == EarlyStopping::FirstFinished || hope <= worst
    }

    fn take_best(&mut self) -> Step {
        let best = (!self.finished.is_empty()).then(|| self.finished.swap_remove(0));
        // Nothing can be finished only if every candidate was lost to NaN.
        best.map_or(Step::NotANumber, |s| {
            Step::Finished(Hypothesis { tokens: s.tokens, score: Some(s.score) })
        })
    }
}

fn penalty(length: usize, rules: &Rules) -> f32 {
    (length as f64).powf(f64::from(rules.length_penalty)) as f32
}

/// The best continuations seen so far, best first; of equals the first offered.
struct Best {
    kept: Vec<Continuation>,
    capacity: usize,
    /// What a newcomer must beat.
    bar: f32,
}

impl Best {
    fn new(capacity: usize) -> Best {
        Best { kept: Vec::with_capacity(capacity + 1), capacity, bar: f32::NEG_INFINITY }
    }

    /// Offers each token of a row with the score `before + log_softmax(logits)[token]`.
    fn offer_row(&mut self, row: usize, logits: &[f32], max: f32, log_sum: f32, before: f32) {
        for (token, logit) in logits.iter().enumerate() {
            let score = logit - max - log_sum + before;
            if score > self.bar {
                self.insert(Continuation { score, row, token: token as i64 });
            }
        }
    }

    fn insert(&mut self, continuation: Continuation) {
        let place = self.kept.partition_point(|k| k.score >= continuation.score);
        self.kept.insert(place, continuation);
        if self.kept.len() >= self.capacity {
            self.kept.truncate(self.capacity);
            self.bar = self.kept.last().map_or(f32::NEG_INFINITY, |k| k.score);
        }
    }
}

#[cfg(test)]
mod tests;
