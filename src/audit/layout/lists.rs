//! What comes often: texts, their openings, languages, names, tags.

use serde::Serialize;

use crate::audit::frequent::Count;
use crate::audit::layout::bars::Bar;
use crate::audit::layout::bars::bar;
use crate::audit::layout::bars::ratio;
use crate::audit::layout::histograms;
use crate::audit::layout::panels::Panels;
use crate::audit::place::Place;
use crate::audit::tally::Summary;
use crate::audit::tally::TagCount;
use crate::page::percent;
use crate::page::thousands;

/// Lines of a list; the others are in the figures of `recaption audit --json`.
const LINES: usize = 12;

/// A list with a heading.
#[derive(Serialize)]
pub(super) struct List<'a> {
    heading: &'static str,
    /// What a line is.
    head: &'static str,
    /// What stands beside it; may be empty.
    detail: &'static str,
    note: String,
    bars: Vec<Bar<'a>>,
}

/// The lists that have lines.
pub(super) fn all<'a>(summary: &'a Summary, panels: &mut Panels<'_>) -> Vec<List<'a>> {
    // Where there are texts, what they make of the tags says more.
    let tags = if summary.labels.is_empty() { summary.tags.as_slice() } else { &[] };
    let mut lists = vec![
        texts("Repeated generated texts", &summary.repeated_texts, repeated(summary), panels),
        texts("Repeated but for case and numbers", alike(summary), String::new(), panels),
        counted("Openings", "first words", &summary.openings, panels),
        counted("Names", "name", &summary.names, panels),
        counted("Languages, where one is clear", "language", &summary.languages, panels),
        counted("Tags", "tag", tags, panels),
        labels("Tags, and how often texts mention them", &summary.labels, panels),
        labels("Tags that no text mentions", &summary.never_mentioned, panels),
    ];
    lists.retain(|list| !list.bars.is_empty());
    lists
}

/// How varied the texts are, in numbers.
pub(super) fn diversity(summary: &Summary) -> Vec<(&'static str, String)> {
    let found = &summary.diversity;
    if found.words == 0 {
        return Vec::new();
    }
    vec![
        ("words", thousands(found.words)),
        ("different words", thousands(found.vocabulary)),
        ("different names", thousands(found.entities)),
        ("different pairs of words", percent(found.distinct_2)),
        ("different runs of three", percent(found.distinct_3)),
    ]
}

fn of(counts: &[Count]) -> impl Iterator<Item = &Vec<Place>> {
    counts.iter().take(LINES).map(|count| &count.examples)
}

fn of_labels(counts: &[TagCount]) -> impl Iterator<Item = &Vec<Place>> {
    counts.iter().take(LINES).map(|count| &count.examples)
}

/// Rows of every number of the lists and of every bin, the most telling first.
pub(super) fn examples(summary: &Summary) -> Vec<&[Place]> {
    let kinds = summary.kinds.iter().map(|kind| &kind.examples);
    let all = of(&summary.flags)
        .chain(kinds)
        .chain(summary.nowhere_words.iter().map(|word| &word.examples))
        .chain(of(&summary.repeated_texts))
        .chain(of(alike(summary)))
        .chain(of(&summary.openings))
        .chain(of(&summary.names))
        .chain(of(&summary.languages))
        .chain(of(if summary.labels.is_empty() { &summary.tags } else { &[] }))
        .chain(of_labels(&summary.labels))
        .chain(of_labels(&summary.never_mentioned));
    all.map(Vec::as_slice).chain(histograms::examples(summary)).collect()
}

fn counted<'a>(
    heading: &'static str,
    head: &'static str,
    counts: &'a [Count],
    panels: &mut Panels<'_>,
) -> List<'a> {
    let counts = &counts[..counts.len().min(LINES)];
    let full = counts.iter().map(|count| count.rows).max().unwrap_or(0);
    List { heading, head, detail: "", note: String::new(), bars: panels.counts(head, counts, full) }
}

fn texts<'a>(
    heading: &'static str,
    counts: &'a [Count],
    note: String,
    panels: &mut Panels<'_>,
) -> List<'a> {
    List { note, ..counted(heading, "text", counts, panels) }
}

/// Labels with the share of their rows whose text mentions them.
fn labels<'a>(heading: &'static str, counts: &'a [TagCount], panels: &mut Panels<'_>) -> List<'a> {
    let counts = &counts[..counts.len().min(LINES)];
    let full = counts.iter().map(|count| count.rows).max().unwrap_or(0);
    let bar_of = |count: &'a TagCount| Bar {
        detail: percent(ratio(count.mentioned, count.rows)),
        panel: panels.add(format!("tag: {}", count.label), count.rows, &count.examples),
        ..bar(&count.label, count.rows, full)
    };
    let note =
        "Of rows with a text. A number opens rows that do not mention the tag, if there are some.";
    let bars = counts.iter().map(bar_of).collect();
    List { heading, head: "tag", detail: "mentioned", note: note.to_owned(), bars }
}

/// Only where they say more than the exact ones: of at least one row in a hundred.
fn alike(summary: &Summary) -> &[Count] {
    let more = summary.repeated_alike_rows.saturating_sub(summary.repeated_rows);
    if 100 * more > summary.generated { &summary.repeated_alike } else { &[] }
}

fn repeated(summary: &Summary) -> String {
    let (rows, missed) = (summary.repeated_rows, summary.repeated_texts_missed);
    let mut note = format!(
        "{} rows, {} of those with a text, have a text that comes again.",
        thousands(rows),
        percent(ratio(rows, summary.generated))
    );
    if missed > 0 {
        let missed = thousands(missed);
        note.push_str(&format!(" Each count may be up to {missed} too small: memory is bounded."));
    }
    note
}
