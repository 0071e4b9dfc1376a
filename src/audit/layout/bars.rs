//! Horizontal bars: of stages, of texts and words, of the origins of words.

use serde::Serialize;

use crate::audit::frequent::Count;
use crate::audit::report::Stage;

/// A stage of the funnel.
#[derive(Serialize)]
pub(super) struct Step<'a> {
    name: &'a str,
    rows: u64,
    rejected: u64,
    width: f64,
    rejected_width: f64,
}

/// A labelled bar.
#[derive(Default, Serialize)]
pub(super) struct Bar<'a> {
    pub(super) label: &'a str,
    pub(super) detail: String,
    pub(super) rows: u64,
    /// Another count that stands beside it.
    pub(super) second: u64,
    pub(super) share: f64,
    /// Full width is 100.
    pub(super) width: f64,
    /// Where some of its rows are shown.
    pub(super) panel: Option<usize>,
}

/// A piece of a stacked bar.
#[derive(Serialize)]
pub(super) struct Part<'a> {
    label: &'a str,
    rows: u64,
    share: f64,
    /// Both of a full width of 100.
    start: f64,
    width: f64,
}

pub(super) fn funnel(stages: &[Stage], refined: u64) -> Vec<Step<'_>> {
    let full = stages.first().map_or(refined, |first| first.entered);
    let step = |name, rows: u64, rejected: u64| Step {
        name,
        rows,
        rejected,
        width: width(ratio(rows.saturating_sub(rejected), full)),
        rejected_width: width(ratio(rejected, full)),
    };
    let stages = stages.iter().map(|stage| step(&stage.name, stage.entered, stage.rejected));
    stages.chain([step("refined", refined, 0)]).collect()
}

/// A bar that is `rows` of `full` wide.
pub(super) fn bar(label: &str, rows: u64, full: u64) -> Bar<'_> {
    let share = ratio(rows, full);
    Bar { label, rows, share, width: width(share), ..Bar::default() }
}

pub(super) fn parts(counts: &[Count]) -> Vec<Part<'_>> {
    let full = total(counts);
    let mut start = 0.0;
    let mut parts = Vec::new();
    for Count { text, rows, .. } in counts {
        let share = ratio(*rows, full);
        parts.push(Part { label: text, rows: *rows, share, start, width: rounded(share) });
        start = rounded(start / 100.0 + share);
    }
    parts
}

pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Of a full width of 100, with two decimals; what exists can be seen.
pub(super) fn width(share: f64) -> f64 {
    if share > 0.0 { rounded(share).max(0.5) } else { 0.0 }
}

pub(super) fn rounded(share: f64) -> f64 {
    (share.clamp(0.0, 1.0) * 10_000.0).round() / 100.0
}

pub(super) fn total(counts: &[Count]) -> u64 {
    counts.iter().map(|count| count.rows).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fit_and_none_is_invisible() {
        assert_eq!([width(0.0), width(1e-6), width(0.5), width(7.0)], [0.0, 0.5, 50.0, 100.0]);
        let counts = ["a", "b", "c"].map(|text| Count::new(text, 1));
        let last = &parts(&counts)[2];
        assert!((last.start + last.width - 100.0).abs() < 0.02);
    }
}
