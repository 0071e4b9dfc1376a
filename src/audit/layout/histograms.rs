//! How the figures of the rows are spread: a column for each bin, each with rows of its own.

use serde::Serialize;

use crate::audit::layout::bars::ratio;
use crate::audit::layout::bars::rounded;
use crate::audit::layout::bars::width;
use crate::audit::layout::panels::Panels;
use crate::audit::place::Place;
use crate::audit::tally::Distribution;
use crate::audit::tally::Summary;
use crate::clip_tokenizer::CONTEXT;

/// The values of a figure.
#[derive(Serialize)]
pub(super) struct Histogram {
    name: String,
    /// How it is to be read.
    says: &'static str,
    columns: Vec<Column>,
    /// Rows that have a value, and their mean.
    rows: u64,
    mean: String,
    /// Places on a width of 100.
    mean_at: f64,
    cut_at: Option<f64>,
    /// Under the left end, the middle and the right end.
    axis: [String; 3],
}

#[derive(Serialize)]
struct Column {
    rows: u64,
    /// The values in it.
    range: String,
    /// Both on a width of 100.
    x: f64,
    width: f64,
    /// Full height is 100.
    height: f64,
    is_lost: bool,
    panel: Option<usize>,
}

/// What a figure is called, and what it means.
const SAYS: [(&str, &str); 14] = [
    (
        SCORE,
        "1: every content word has a source that saw the picture, and nothing is wrong with the form. 0: no text, or no word that has a source.",
    ),
    (WORDS, "Words of a generated text."),
    (
        TOKENS,
        "CLIP reads 77 tokens, start and end among them; what is behind the dashed line is cut.",
    ),
    ("words from nowhere", "Content words that no source has, as a share of the text's."),
    ("facts kept", "Names, numbers and years of the raw text that the generated text has too."),
    ("novelty", "Pairs of neighbouring words that no source has: 0 is copied, 1 is all new."),
    ("tags mentioned", "Tags whose words are in the text. A text need not mention all of them."),
    (
        "raw and synthetic agree",
        "Content words that both have, 0 to 1. Low: one of the two is about something else.",
    ),
    ("raw and generated agree", "Low: the text took little from the web."),
    ("synthetic and generated agree", "Low: the text took little from what the captioner saw."),
    ("raw fits the picture", "Cosine of CLIP's embeddings; compare with the two beside it."),
    ("synthetic fits the picture", "Cosine of CLIP's embeddings."),
    (
        "generated fits the picture",
        "Cosine of CLIP's embeddings; should be the highest of the three.",
    ),
    ("nsfw", "How unsafe a classifier finds the picture: 0 is safe."),
];

const SCORE: &str = "score";
const WORDS: &str = "words";
const TOKENS: &str = "CLIP tokens";

/// The histogram of the score.
pub(super) fn score(summary: &Summary, panels: &mut Panels<'_>) -> Option<Histogram> {
    histogram(SCORE, &summary.score, panels)
}

/// All other figures that have values.
pub(super) fn all(summary: &Summary, panels: &mut Panels<'_>) -> Vec<Histogram> {
    let named = [(WORDS, &summary.words), (TOKENS, &summary.tokens)].into_iter();
    let others = summary.indicators.iter().map(|i| (i.name.as_str(), &i.values));
    others.chain(named).filter_map(|(name, values)| histogram(name, values, panels)).collect()
}

/// Rows of every bin.
pub(super) fn examples(summary: &Summary) -> impl Iterator<Item = &[Place]> {
    let first = [&summary.score, &summary.words, &summary.tokens].into_iter();
    let all = first.chain(summary.indicators.iter().map(|indicator| &indicator.values));
    all.flat_map(|values| values.examples.iter().map(Vec::as_slice))
}

fn histogram(name: &str, values: &Distribution, panels: &mut Panels<'_>) -> Option<Histogram> {
    let mean = values.mean?;
    let step = (values.to - values.from) / values.bins.len().max(1) as f64;
    let is_whole = step >= 1.0;
    let is_of_tokens = name == TOKENS;
    // Lengths have a long empty end; shares are shown from end to end.
    let used = values.bins.iter().rposition(|rows| *rows > 0).map_or(0, |last| last + 1);
    let end = if is_of_tokens { used.max(CONTEXT / 4 + 2) } else { used };
    let bins = if is_whole { &values.bins[..end.min(values.bins.len())] } else { &values.bins[..] };
    let to = values.from + step * bins.len() as f64;
    let place = |value: f64| rounded((value - values.from) / (to - values.from));
    let most = bins.iter().copied().max().unwrap_or(0);
    let columns = bins.iter().enumerate().filter(|(_, rows)| **rows > 0);
    let columns = columns.map(|(at, rows)| {
        let from = values.from + step * at as f64;
        let is_open = is_whole && at + 1 == values.bins.len();
        let range = range(from, step, is_open);
        let examples = values.examples.get(at).map(Vec::as_slice).unwrap_or_default();
        Column {
            rows: *rows,
            x: place(from),
            width: rounded(1.0 / bins.len() as f64),
            height: width(ratio(*rows, most)),
            is_lost: is_of_tokens && from >= CONTEXT as f64,
            panel: panels.add(format!("{name} {range}"), *rows, examples),
            range,
        }
    });
    Some(Histogram {
        name: name.to_owned(),
        says: SAYS.iter().find(|(known, _)| *known == name).map_or("", |(_, says)| says),
        columns: columns.collect(),
        rows: values.rows,
        mean: if is_whole { format!("{mean:.1}") } else { format!("{mean:.2}") },
        mean_at: place(mean.clamp(values.from, to)),
        cut_at: is_of_tokens.then(|| place(CONTEXT as f64 + 1.0)),
        axis: [values.from, (values.from + to) / 2.0, to].map(|value| written(value, is_whole)),
    })
}

fn range(from: f64, step: f64, is_open: bool) -> String {
    let is_whole = step >= 1.0;
    let of = |value: f64| written(value, is_whole);
    match (is_open, step > 1.0) {
        (true, _) => format!("{} or more", of(from)),
        (_, true) => format!("{} to {}", of(from), of(from + step - 1.0)),
        _ if is_whole => of(from),
        _ => format!("{} to {}", of(from), of(from + step)),
    }
}

fn written(value: f64, is_whole: bool) -> String {
    match is_whole {
        true => format!("{value:.0}"),
        // Two digits at most, and no minus before nothing.
        false => format!("{}", (value * 100.0).round() / 100.0 + 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(to: f64, bins: &[u64], mean: f64) -> Distribution {
        let rows = bins.iter().sum();
        Distribution { to, rows, mean: Some(mean), bins: bins.to_vec(), ..Distribution::default() }
    }

    fn drawn(name: &str, values: &Distribution) -> Option<Histogram> {
        let rows = Default::default();
        histogram(name, values, &mut Panels::new(&rows, Default::default()))
    }

    #[test]
    fn shares_are_drawn_from_end_to_end_and_lengths_to_the_longest() {
        let share = drawn("novelty", &values(1.0, &[0, 2, 1, 0], 0.4)).unwrap();
        assert_eq!(share.axis, ["0", "0.5", "1"]);
        let found: Vec<_> = share.columns.iter().map(|c| (c.x, c.height, &*c.range)).collect();
        assert_eq!(found, [(25.0, 100.0, "0.25 to 0.5"), (50.0, 50.0, "0.5 to 0.75")]);
        assert_eq!((share.mean_at, &*share.mean), (40.0, "0.40"));
        let words = drawn(WORDS, &values(4.0, &[0, 2, 0, 0], 1.0)).unwrap();
        assert_eq!((words.axis[2].as_str(), words.columns[0].range.as_str()), ("2", "1"));
        let open = drawn(WORDS, &values(2.0, &[0, 2], 1.0)).unwrap();
        assert_eq!(open.columns[0].range, "1 or more");
    }

    #[test]
    fn tokens_show_where_clip_cuts() {
        let mut bins = [0; 25];
        (bins[3], bins[20]) = (5, 1);
        let tokens = drawn(TOKENS, &values(100.0, &bins, 13.0)).unwrap();
        assert_eq!(tokens.axis[2], "84");
        let lost: Vec<_> = tokens.columns.iter().map(|c| (&*c.range, c.is_lost)).collect();
        assert_eq!(lost, [("12 to 15", false), ("80 to 83", true)]);
        assert_eq!(tokens.cut_at, Some(92.86));
    }

    #[test]
    fn a_figure_without_values_is_not_drawn_and_every_figure_is_explained() {
        assert!(drawn("novelty", &Distribution::default()).is_none());
        let summary = crate::audit::tally::Tally::default().summary(1);
        let names = summary.indicators.iter().map(|indicator| indicator.name.as_str());
        for name in names.chain([SCORE, WORDS, TOKENS]) {
            assert!(SAYS.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
