//! The difference of two runs as a page of module `page`: one file, everything escaped.

use std::iter;

use anyhow::Result;

use crate::chart;
use crate::chart::Bar;
use crate::chart::BarChart;
use crate::chart::BarSeries;
use crate::curate::diff::Better;
use crate::curate::diff::Comparison;
use crate::curate::diff::Difference;
use crate::curate::diff::Example;
use crate::curate::diff::ObjectCount;
use crate::curate::diff::Only;
use crate::page;
use crate::page::Cell;
use crate::page::Page;
use crate::page::Section;
use crate::page::Table;

/// The page.
///
/// # Errors
/// When the template is damaged, which tests would notice.
pub fn html(difference: &Difference) -> Result<String> {
    let sections = [
        Some(win_rates(difference)),
        objects("Objects gained", "that B names and A does not", &difference.objects_gained),
        objects("Objects lost", "that A names and B does not", &difference.objects_lost),
        examples("Worst regressions", "fell most, the worst first", &difference.regressions),
        examples("Best gains", "rose most, the best first", &difference.gains),
        only("Only in A", "B", &difference.only_a),
        only("Only in B", "A", &difference.only_b),
    ];
    page::render(&Page {
        title: "Two runs".to_owned(),
        subtitle: format!("A is {}, B is {}.", difference.a, difference.b),
        facts: facts(difference),
        sections: sections.into_iter().flatten().collect(),
    })
}

fn facts(difference: &Difference) -> Vec<(String, String)> {
    let changed = &difference.changed;
    let facts = [
        ("rows in both", difference.both),
        ("rows only in A", difference.only_a.rows),
        ("rows only in B", difference.only_b.rows),
        ("generated texts changed", changed.generated),
        ("generated texts only in B", changed.generated_gained),
        ("generated texts only in A", changed.generated_lost),
        ("synthetic captions changed", changed.synthetic),
        ("sets of tags changed", changed.tags),
        ("raw texts changed", changed.raw),
    ];
    facts.map(|(name, rows)| (name.to_owned(), rows.to_string())).to_vec()
}

const WIN_RATES: &str = "Of the rows that are no ties, the share where B is ahead, with Wilson's 95 % \
                         interval. Bold: the interval excludes one half. Indicators of which neither \
                         end is better say how often B has more.";

fn win_rates(difference: &Difference) -> Section {
    let head = ["indicator", "better", "A", "B", "A ahead", "ties", "B ahead", "B's win rate"];
    let rows = difference.indicators.iter().map(row_of).collect();
    Section {
        heading: "Win rates".to_owned(),
        note: WIN_RATES.to_owned(),
        figures: vec![chart::bars(&bars(&difference.indicators))],
        table: Some(Table { head: head.map(str::to_owned).to_vec(), rows }),
    }
}

fn row_of(comparison: &Comparison) -> Vec<Cell> {
    let mean = |mean: Option<f64>| mean.map_or(String::new(), |mean| format!("{mean:.3}"));
    let rate = &comparison.win_rate;
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    let win_rate = Cell {
        text: rate.share.map_or("–".to_owned(), |share| format!("{} %", percent(share))),
        aside: rate
            .share
            .map_or(String::new(), |_| format!("{} to {}", percent(rate.low), percent(rate.high))),
        strong: comparison.is_clear(),
    };
    vec![
        comparison.words().into(),
        comparison.better.words().into(),
        mean(comparison.mean_a).into(),
        mean(comparison.mean_b).into(),
        comparison.wins_a.to_string().into(),
        comparison.ties.to_string().into(),
        comparison.wins_b.to_string().into(),
        win_rate,
    ]
}

fn bars(comparisons: &[Comparison]) -> BarChart {
    let decided = || comparisons.iter().filter(|comparison| comparison.win_rate.share.is_some());
    let bar = |comparison: &Comparison| {
        let rate = comparison.win_rate;
        rate.share.map(|share| Bar {
            value: share * 100.0,
            interval: Some((rate.low * 100.0, rate.high * 100.0)),
        })
    };
    let name = |comparison: &Comparison| match comparison.better {
        Better::Neither => format!("more {}", comparison.words()),
        Better::Higher => comparison.words(),
        Better::Lower => format!("fewer {}", comparison.words()),
    };
    BarChart {
        title: String::new(),
        value_label: "% of the rows that are no ties, where B is ahead".to_owned(),
        groups: decided().map(name).collect(),
        series: vec![BarSeries { name: "B".to_owned(), bars: decided().map(bar).collect() }],
        chance: decided().map(|_| Some(50.0)).collect(),
    }
}

fn objects(heading: &str, what: &str, counts: &[ObjectCount]) -> Option<Section> {
    let row = |count: &ObjectCount| {
        vec![
            count.word.clone().into(),
            count.rows.to_string().into(),
            count.nowhere.to_string().into(),
        ]
    };
    let series = |name: &str, of: fn(&ObjectCount) -> u64| BarSeries {
        name: name.to_owned(),
        bars: counts
            .iter()
            .map(|count| Some(Bar { value: of(count) as f64, interval: None }))
            .collect(),
    };
    let chart = BarChart {
        title: String::new(),
        value_label: "rows".to_owned(),
        groups: counts.iter().map(|count| count.word.clone()).collect(),
        series: vec![
            series("all", |count| count.rows),
            series("without a source", |count| count.nowhere),
        ],
        chance: Vec::new(),
    };
    (!counts.is_empty()).then(|| Section {
        heading: heading.to_owned(),
        note: format!("Words for objects {what}, by rows with a changed text."),
        figures: vec![chart::bars(&chart)],
        table: Some(Table {
            head: ["word", "rows", "without a source"].map(str::to_owned).to_vec(),
            rows: counts.iter().map(row).collect(),
        }),
    })
}

fn examples(heading: &str, what: &str, examples: &[Example]) -> Option<Section> {
    let rows = examples.iter().flat_map(|example| {
        let line = |name: &str, text: &Option<String>, score: Option<f32>| {
            let text = text.clone().unwrap_or_else(|| "(no text)".to_owned());
            let score = score.map_or(String::new(), |score| format!("{score:.2}"));
            vec![text.into(), name.into(), score.into()]
        };
        let key = Cell { text: example.key.clone(), aside: String::new(), strong: true };
        [
            vec![key, Cell::default(), Cell::default()],
            line("raw", &example.raw, None),
            line("A", &example.a, Some(example.score_a)),
            line("B", &example.b, Some(example.score_b)),
        ]
    });
    (!examples.is_empty()).then(|| Section {
        heading: heading.to_owned(),
        note: format!("Rows whose text changed and whose score {what}."),
        figures: Vec::new(),
        table: Some(Table {
            head: ["text", "of", "score"].map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }),
    })
}

fn only(heading: &str, other: &str, only: &Only) -> Option<Section> {
    let row = |name: String, rows: u64| vec![name.into(), rows.to_string().into()];
    let rejected = only.rejected.iter();
    let rejected = rejected.map(|(why, rows)| row(format!("{other} rejected it: {why}"), *rows));
    let unknown = row(format!("{other} never read it"), only.unknown);
    let rows = rejected.chain(iter::once(unknown).filter(|_| only.unknown > 0)).collect();
    (only.rows > 0).then(|| Section {
        heading: heading.to_owned(),
        note: format!("The first keys: {}.", only.keys.join(", ")),
        figures: Vec::new(),
        table: Some(Table { head: ["why", "rows"].map(str::to_owned).to_vec(), rows }),
    })
}

impl Better {
    /// The word used in tables.
    pub fn words(self) -> &'static str {
        match self {
            Better::Higher => "higher",
            Better::Lower => "lower",
            Better::Neither => "neither",
        }
    }
}
