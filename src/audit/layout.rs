//! From the figures of a [`Report`] to what its template draws: widths, heights, coloured pieces.
//!
//! All arithmetic of the page is here, so that the template only places things.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::audit::frequent::Count;
use crate::audit::report::Report;
use crate::audit::report::Row;
use crate::audit::report::Stage;
use crate::audit::tally::BINS;
use crate::audit::tally::Drift;
use crate::audit::tally::WordCount;
use crate::sample::Link;
use crate::sample::Origin;
use crate::sample::Tag;
use crate::sample::WordOrigin;

/// The computed parts of the page.
#[derive(Serialize)]
pub(super) struct Layout<'a> {
    /// The large numbers at the top.
    figures: Figures,
    /// Rows that entered each stage, and a last bar for what was refined.
    funnel: Vec<Step<'a>>,
    rejects: Vec<Bar<'a>>,
    scores: Vec<Column>,
    lengths: Vec<Column>,
    flags: Vec<Bar<'a>>,
    origins: Vec<Part<'a>>,
    repeated: Vec<Bar<'a>>,
    openings: Vec<Bar<'a>>,
    languages: Vec<Bar<'a>>,
    /// Words from nowhere, with their kind.
    nowhere: Vec<Bar<'a>>,
    /// Groups that differ from the rest by more than chance.
    drift: Vec<&'a Drift>,
    tags: Vec<Bar<'a>>,
    rows: Vec<Card<'a>>,
}

#[derive(Serialize)]
struct Figures {
    read: u64,
    refined: u64,
    rejected: u64,
    generated_share: f64,
    mean_score: f64,
    nowhere_share: f64,
}

#[derive(Serialize)]
struct Step<'a> {
    name: &'a str,
    rows: u64,
    rejected: u64,
    width: f64,
    rejected_width: f64,
}

/// A labelled horizontal bar.
#[derive(Serialize)]
struct Bar<'a> {
    label: &'a str,
    detail: &'a str,
    rows: u64,
    share: f64,
    /// Full width is 100.
    width: f64,
}

/// A piece of a stacked bar.
#[derive(Serialize)]
struct Part<'a> {
    label: &'a str,
    rows: u64,
    share: f64,
    /// Both of a full width of 100.
    start: f64,
    width: f64,
}

/// A column of a histogram.
#[derive(Serialize)]
struct Column {
    rows: u64,
    from: f64,
    /// Full height is 100.
    height: f64,
}

#[derive(Serialize)]
struct Card<'a> {
    row: &'a Row,
    picture: Option<String>,
    /// The generated text in pieces; each has the name of its origin or none.
    pieces: Vec<Piece<'a>>,
    tags: &'a [Tag],
    score: String,
    width: f64,
    level: &'static str,
}

#[derive(Serialize)]
struct Piece<'a> {
    text: &'a str,
    origin: Option<&'static str>,
    /// What sort of word it is, and how it was found.
    title: String,
}

impl<'a> Layout<'a> {
    pub(super) fn of(report: &'a Report) -> Layout<'a> {
        let summary = &report.summary;
        let rejected: u64 = report.rejects.iter().map(|r| r.rows).sum();
        let most_rejects = report.rejects.iter().map(|r| r.rows).max().unwrap_or(0);
        let reject = |r: &'a super::report::Rejects| Bar {
            share: ratio(r.rows, rejected),
            ..bar(&r.reason, &r.stage, r.rows, most_rejects)
        };
        Layout {
            figures: figures(report, rejected),
            funnel: funnel(&report.funnel, summary.rows),
            rejects: report.rejects.iter().map(reject).collect(),
            scores: columns(&summary.score.bins, 1.0 / BINS as f64),
            lengths: columns(used(&summary.words.bins), 1.0),
            flags: bars(&summary.flags, summary.rows),
            origins: parts(&summary.origins),
            repeated: bars(&summary.repeated_texts, most(&summary.repeated_texts)),
            openings: bars(&summary.openings, most(&summary.openings)),
            languages: bars(&summary.languages, most(&summary.languages)),
            nowhere: nowhere(&summary.nowhere_words),
            drift: summary.drift.iter().filter(|drift| drift.differs).collect(),
            tags: bars(&summary.tags, most(&summary.tags)),
            rows: report.rows.iter().map(card).collect(),
        }
    }
}

/// `1234567` with narrow spaces that do not break.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len());
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A share in 0..1 as `12.3 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.05 {
        return "<\u{202f}0.1\u{202f}%".to_owned();
    }
    format!("{percent:.1}\u{202f}%")
}

fn figures(report: &Report, rejected: u64) -> Figures {
    let summary = &report.summary;
    let read = report.funnel.first().map_or(summary.rows + rejected, |first| first.entered);
    let nowhere = summary.origins.iter().find(|origin| origin.text == Origin::Nowhere.as_str());
    Figures {
        read,
        refined: summary.rows,
        rejected,
        generated_share: ratio(summary.generated, summary.rows),
        mean_score: summary.score.mean.unwrap_or(0.0),
        nowhere_share: nowhere.map_or(0.0, |words| ratio(words.rows, total(&summary.origins))),
    }
}

fn funnel(stages: &[Stage], refined: u64) -> Vec<Step<'_>> {
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

fn bars(counts: &[Count], full: u64) -> Vec<Bar<'_>> {
    counts.iter().map(|count| bar(&count.text, "", count.rows, full)).collect()
}

fn nowhere(words: &[WordCount]) -> Vec<Bar<'_>> {
    let full = words.iter().map(|word| word.rows).max().unwrap_or(0);
    words.iter().map(|word| bar(&word.word, &word.kind, word.rows, full)).collect()
}

fn bar<'a>(label: &'a str, detail: &'a str, rows: u64, full: u64) -> Bar<'a> {
    let share = ratio(rows, full);
    Bar { label, detail, rows, share, width: width(share) }
}

fn parts(counts: &[Count]) -> Vec<Part<'_>> {
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

fn columns(counts: &[u64], step: f64) -> Vec<Column> {
    let full = counts.iter().copied().max().unwrap_or(0);
    let column = |(place, &rows): (usize, &u64)| Column {
        rows,
        from: (place as f64 * step * 100.0).round() / 100.0,
        height: width(ratio(rows, full)),
    };
    counts.iter().enumerate().map(column).collect()
}

/// Without the empty bins at the end.
fn used(counts: &[u64]) -> &[u64] {
    let end = counts.iter().rposition(|&rows| rows > 0).map_or(0, |last| last + 1);
    &counts[..end]
}

fn card(row: &Row) -> Card<'_> {
    Card {
        row,
        picture: row.thumbnail.as_deref().and_then(data_url),
        pieces: pieces(row.text_generated.as_deref().unwrap_or_default(), &row.words),
        tags: &row.tags,
        score: format!("{:.2}", row.score),
        width: width(f64::from(row.score)),
        level: match row.score {
            score if score >= 0.8 => "good",
            score if score >= 0.5 => "fair",
            _ => "poor",
        },
    }
}

/// Cuts the text at its content words. A word that is not found where it is said to be is looked for
/// (older runs know no places); one that is nowhere (another text's verdict) is passed over.
fn pieces<'a>(text: &'a str, words: &[WordOrigin]) -> Vec<Piece<'a>> {
    let plain = |text| Piece { text, origin: None, title: String::new() };
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let mut pieces = Vec::with_capacity(2 * words.len() + 1);
    let mut end = 0;
    for word in words.iter().filter(|word| !word.word.is_empty()) {
        let said = starts
            .get(word.start as usize)
            .copied()
            .filter(|at| *at >= end && word.end > 0 && text[*at..].starts_with(word.word.as_str()));
        let found = || text[end..].find(&word.word).map(|at| end + at);
        let Some(start) = said.or_else(found) else { continue };
        pieces.push(plain(&text[end..start]));
        end = start + word.word.len();
        let link = word.link.map_or("no source", Link::as_str);
        pieces.push(Piece {
            text: &text[start..end],
            origin: Some(word.origin.as_str()),
            title: format!("{}, {link}", word.kind.as_str()),
        });
    }
    pieces.push(plain(&text[end..]));
    pieces
}

/// Only of what surely is a raster image: an SVG could carry a script.
fn data_url(bytes: &[u8]) -> Option<String> {
    let kind = match bytes {
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
        _ => return None,
    };
    Some(format!("data:image/{kind};base64,{}", BASE64.encode(bytes)))
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Of a full width of 100, with two decimals; what exists can be seen.
fn width(share: f64) -> f64 {
    if share > 0.0 { rounded(share).max(0.5) } else { 0.0 }
}

fn rounded(share: f64) -> f64 {
    (share.clamp(0.0, 1.0) * 10_000.0).round() / 100.0
}

fn total(counts: &[Count]) -> u64 {
    counts.iter().map(|count| count.rows).sum()
}

fn most(counts: &[Count]) -> u64 {
    counts.iter().map(|count| count.rows).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let numbers = [0, 12, 123, 1_234, 123_456, 1_234_567].map(thousands);
        let wanted = ["0", "12", "123", "1 234", "123 456", "1 234 567"];
        assert_eq!(numbers, wanted.map(|number| number.replace(' ', "\u{202f}")));
        let shares = [0.0, 0.0001, 0.123, 1.0].map(percent);
        let wanted = ["0.0 %", "< 0.1 %", "12.3 %", "100.0 %"];
        assert_eq!(shares, wanted.map(|share| share.replace(' ', "\u{202f}")));
    }

    #[test]
    fn a_text_is_cut_at_its_words_and_nothing_is_lost() {
        let words = [("cat", Origin::Tag), ("gone", Origin::Raw), ("cat", Origin::Nowhere)]
            .map(|(word, origin)| WordOrigin::new(word, origin));
        let pieces = pieces("A cat, a cat.", &words);
        let text: String = pieces.iter().map(|piece| piece.text).collect();
        assert_eq!(text, "A cat, a cat.");
        let origins: Vec<_> = pieces.iter().map(|piece| piece.origin).collect();
        assert_eq!(origins, [None, Some("tag"), None, Some("nowhere"), None]);
    }

    #[test]
    fn bars_fit_and_none_is_invisible() {
        assert_eq!([width(0.0), width(1e-6), width(0.5), width(7.0)], [0.0, 0.5, 50.0, 100.0]);
        let counts = ["a", "b", "c"].map(|text| Count::new(text, 1));
        let last = &parts(&counts)[2];
        assert!((last.start + last.width - 100.0).abs() < 0.02);
    }
}
