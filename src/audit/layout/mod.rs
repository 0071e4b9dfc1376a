//! From the figures of a [`Report`] to what its template draws: widths, heights, coloured pieces.
//!
//! All arithmetic of the page is here, so that the template only places things. A figure links to a
//! panel with a few of its rows; a picture is on the page once, however many panels show it.

mod bars;
mod cards;
mod histograms;
mod lists;
mod panels;

use std::collections::HashSet;

use serde::Serialize;

use crate::audit::layout::bars::Bar;
use crate::audit::layout::bars::Part;
use crate::audit::layout::bars::Step;
use crate::audit::layout::bars::ratio;
use crate::audit::layout::bars::total;
use crate::audit::layout::cards::Card;
use crate::audit::layout::cards::Couple;
use crate::audit::layout::cards::Picture;
use crate::audit::layout::cards::Pictures;
use crate::audit::layout::histograms::Histogram;
use crate::audit::layout::lists::List;
use crate::audit::layout::panels::Panel;
use crate::audit::layout::panels::Panels;
use crate::audit::place::Place;
use crate::audit::report::Report;
use crate::audit::survey::Findings;
use crate::audit::tally::Drift;
use crate::page::percent;
use crate::page::thousands;
use crate::sample::Origin;

/// Pairs of rows that are shown of each sort.
const PAIRS: usize = 12;

/// Rows of a page with their pictures.
const MOST_ROWS: usize = 420;

/// The computed parts of the page.
#[derive(Serialize)]
pub(super) struct Layout<'a> {
    /// The large numbers at the top.
    figures: Vec<Figure>,
    /// Rows that entered each stage, and a last bar for what was refined.
    funnel: Vec<Step<'a>>,
    rejects: Vec<Bar<'a>>,
    score: Option<Histogram>,
    origins: Vec<Part<'a>>,
    /// Kinds of words that can be wrong.
    kinds: Vec<Bar<'a>>,
    flags: Vec<Bar<'a>>,
    /// Words from nowhere, with their kind.
    nowhere: Vec<Bar<'a>>,
    histograms: Vec<Histogram>,
    /// The lists of texts, words and tags.
    lists: Vec<List<'a>>,
    /// How varied the texts are.
    diversity: Vec<(&'static str, String)>,
    /// Groups that differ from the rest by more than chance.
    drift: Vec<&'a Drift>,
    mixed_up: Vec<Couple<'a>>,
    alike: Vec<Couple<'a>>,
    worst: Vec<Card<'a>>,
    sampled: Vec<Card<'a>>,
    panels: Vec<Panel>,
    pictures: Vec<Picture>,
}

/// A number with its name.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    value: String,
    /// Where on the page more is said of it.
    href: &'static str,
}

impl<'a> Layout<'a> {
    pub(super) fn of(report: &'a Report) -> Layout<'a> {
        let (findings, summary) = (&report.findings, &report.findings.summary);
        let (rows, mut pictures) = (&report.rows, Pictures::default());
        // What everybody sees comes first, in case that there are too many pictures.
        let worst = findings.worst.iter().map(|row| row.place);
        let worst = cards::cards(worst, rows, &mut pictures);
        let mixed_up = cards::mixed_up(findings, rows, &mut pictures);
        let alike = cards::alike(findings, rows, &mut pictures);
        let sampled = cards::cards(report.sampled.iter().copied(), rows, &mut pictures);
        let mut panels = Panels::new(rows, pictures);
        let rejects = panels.rejects(&report.rejects);
        let score = histograms::score(summary, &mut panels);
        let kinds = panels.kinds(&summary.kinds);
        let flags = panels.counts("flag", &summary.flags, summary.rows);
        let nowhere = panels.words(&summary.nowhere_words);
        let histograms = histograms::all(summary, &mut panels);
        let lists = lists::all(summary, &mut panels);
        let (panels, pictures) = panels.finish();
        Layout {
            figures: figures(report),
            funnel: bars::funnel(&report.funnel, summary.rows),
            rejects,
            score,
            origins: bars::parts(&summary.origins),
            kinds,
            flags,
            nowhere,
            histograms,
            lists,
            diversity: lists::diversity(summary),
            drift: summary.drift.iter().filter(|drift| drift.differs).collect(),
            mixed_up,
            alike,
            worst,
            sampled,
            panels,
            pictures,
        }
    }
}

/// The rows whose texts and pictures a page shows, as many as it has room for: those that are shown in
/// full, then a first example of every number, a second, a third.
pub(super) fn places(findings: &Findings, sampled: &[Place]) -> Vec<Place> {
    let mut all: Vec<Place> = findings.worst.iter().map(|row| row.place).collect();
    let mixed = findings.mixed_up.suspects.iter().take(PAIRS);
    all.extend(mixed.flat_map(|pair| [pair.place, pair.other_place]));
    let alike = findings.alike.pairs.iter().take(PAIRS);
    all.extend(alike.flat_map(|pair| [pair.place, pair.other_place]));
    all.extend(sampled);
    let of_numbers = lists::examples(&findings.summary);
    let longest = of_numbers.iter().map(|examples| examples.len()).max().unwrap_or(0);
    for depth in 0..longest {
        all.extend(of_numbers.iter().filter_map(|examples| examples.get(depth)));
    }
    let mut seen = HashSet::new();
    all.retain(|place| seen.insert(*place));
    all.truncate(MOST_ROWS);
    all
}

fn figures(report: &Report) -> Vec<Figure> {
    let (findings, summary) = (&report.findings, &report.findings.summary);
    let rejected: u64 = report.rejects.iter().map(|reject| reject.rows).sum();
    let read = report.funnel.first().map_or(summary.rows + rejected, |first| first.entered);
    let nowhere = summary.origins.iter().find(|origin| origin.text == Origin::Nowhere.as_str());
    let nowhere = nowhere.map_or(0, |words| words.rows);
    let share = |part, whole| percent(ratio(part, whole));
    let figure = |name, value, href| Figure { name, value, href };
    vec![
        figure("rows read", thousands(read), "#path"),
        figure("refined", thousands(summary.rows), "#path"),
        figure("rejected", thousands(rejected), "#path"),
        figure("with a generated text", share(summary.generated, summary.rows), "#trust"),
        figure("mean score", format!("{:.2}", summary.score.mean.unwrap_or(0.0)), "#trust"),
        figure("words from nowhere", share(nowhere, total(&summary.origins)), "#trust"),
        figure("cut by CLIP", share(summary.cut, summary.generated), "#spread"),
        figure("repeated texts", share(summary.repeated_rows, summary.generated), "#texts"),
        figure("mixed up", thousands(findings.mixed_up.mixed), "#mixed"),
        figure("look-alikes, other texts", thousands(findings.alike.confirmed), "#alike"),
    ]
}
