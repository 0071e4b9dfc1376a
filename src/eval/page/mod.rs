//! Results as a page and as Markdown. The page is one file that asks nobody for anything; names of
//! data sets and models are escaped.

use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::Context;
use anyhow::Result;
use minijinja::Environment;
use minijinja::Value;
use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;

use crate::atomic_file;
use crate::chart;
use crate::chart::Bar;
use crate::chart::BarChart;
use crate::chart::BarSeries;
use crate::eval::bootstrap::Interval;
use crate::eval::compare::Cell;
use crate::eval::compare::Comparison;
use crate::eval::compare::Row;
use crate::eval::result::Score;
use crate::eval::result::Task;
use crate::page;

/// Writes `results.md` and `results.html` into a folder; the path of the page.
///
/// # Errors
/// When results contradict each other or a file cannot be written.
pub fn write(scores: &[Score], folder: &Path) -> Result<PathBuf> {
    let comparison = Comparison::of(scores)?;
    atomic_file::write(&folder.join("results.md"), markdown(&comparison).as_bytes())?;
    let page = folder.join("results.html");
    atomic_file::write(&page, html("Scores", scores, &comparison)?.as_bytes())?;
    Ok(page)
}

/// The comparison as a Markdown table.
pub fn markdown(comparison: &Comparison) -> String {
    let mut lines = vec![
        format!("| data | task | metric | chance | {} |", models(comparison).join(" | ")),
        format!("|---|---|---|---:|{}", "---:|".repeat(comparison.models.len())),
    ];
    for row in &comparison.rows {
        let cells = row.cells.iter().enumerate().map(|(model, cell)| match cell {
            Some(cell) if row.clearly_best == Some(model) => format!("**{}**", written(cell)),
            Some(cell) => written(cell),
            None => "–".to_owned(),
        });
        let chance = row.chance.map_or(String::new(), percent);
        let head = [escaped(&row.dataset), row.task.words().to_owned(), row.words(), chance];
        let cells: Vec<String> = head.into_iter().chain(cells).collect();
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    lines.push(String::new());
    lines.push(NOTE.to_owned());
    lines.join("\n") + "\n"
}

/// What the numbers are, under every table.
pub const NOTE: &str = "Per cent, with 95 % intervals of the bootstrap over the samples. Bold: ahead \
                        of every other model, where the interval of the difference at the same \
                        samples excludes zero.";

/// The comparison as a page.
///
/// # Errors
/// When the template is damaged, which the tests would notice.
pub fn html(title: &str, scores: &[Score], comparison: &Comparison) -> Result<String> {
    let template = ENVIRONMENT.get_template(PAGE).context("the template is damaged")?;
    let tasks: Vec<Section> = [Task::ZeroShot, Task::LinearProbe, Task::Retrieval]
        .into_iter()
        .filter_map(|task| section(comparison, task))
        .collect();
    let facts: Vec<Fact> = scores.iter().filter_map(fact).collect();
    let rendered = template.render(context! {
        title,
        note => NOTE,
        models => &comparison.models,
        tasks => Value::from(Serde(tasks)),
        facts => Value::from(Serde(facts)),
        style => STYLE,
        style_hash => page::hash_of_style(STYLE),
    });
    rendered.context("cannot lay out the results")
}

/// A task on the page.
#[derive(Serialize)]
struct Section {
    id: &'static str,
    name: &'static str,
    chart: String,
    rows: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    dataset: String,
    metric: String,
    is_headline: bool,
    chance: Option<String>,
    cells: Vec<Option<Shown>>,
}

#[derive(Serialize)]
struct Shown {
    value: String,
    interval: Option<String>,
    lead: Option<String>,
    is_lead_clear: bool,
    is_best: bool,
}

/// Where a result comes from.
#[derive(Serialize)]
struct Fact {
    model: String,
    dataset: String,
    task: &'static str,
    checkpoint: String,
    samples: u64,
    details: String,
}

fn section(comparison: &Comparison, task: Task) -> Option<Section> {
    let rows: Vec<&Row> = comparison.of_task(task).collect();
    let lines: Vec<Line> = rows.iter().map(|row| line(row)).collect();
    (!lines.is_empty()).then(|| Section {
        id: task.name(),
        name: task.words(),
        chart: chart::bars(&bars(comparison, &rows)),
        rows: lines,
    })
}

fn line(row: &Row) -> Line {
    let shown = |(model, cell): (usize, &Option<Cell>)| {
        cell.as_ref().map(|cell| Shown {
            value: percent(cell.value),
            interval: cell.interval.map(between),
            lead: cell.lead.map(|lead| match lead.interval {
                Some(interval) => format!("{} {}", signed(lead.value), signed_between(interval)),
                None => signed(lead.value),
            }),
            is_lead_clear: cell.lead.is_some_and(|lead| lead.is_clear()),
            is_best: row.clearly_best == Some(model),
        })
    };
    Line {
        dataset: row.dataset.clone(),
        metric: row.words(),
        is_headline: row.is_headline,
        chance: row.chance.map(percent),
        cells: row.cells.iter().enumerate().map(shown).collect(),
    }
}

/// The metric that stands for each data set; of retrieval, R@1 both ways.
fn bars(comparison: &Comparison, rows: &[&Row]) -> BarChart {
    let is_drawn = |row: &Row| row.is_headline || row.metric.ends_with("_retrieval_recall@1");
    // Files of others say of no metric that it stands for the whole.
    let has_none = !rows.iter().any(|row| is_drawn(row));
    let drawn: Vec<&&Row> = rows.iter().filter(|row| has_none || is_drawn(row)).collect();
    let bar = |cell: &Option<Cell>| {
        cell.as_ref().map(|cell| Bar {
            value: cell.value * 100.0,
            interval: cell.interval.map(|i| (i.low * 100.0, i.high * 100.0)),
        })
    };
    // Models without a bar stay in: each has the same colour in all figures.
    let series = comparison.models.iter().enumerate().map(|(model, name)| BarSeries {
        name: name.clone(),
        bars: drawn.iter().map(|row| bar(&row.cells[model])).collect(),
    });
    BarChart {
        title: String::new(),
        value_label: "per cent".to_owned(),
        groups: drawn.iter().map(|row| format!("{}: {}", row.dataset, row.words())).collect(),
        series: series.collect(),
        chance: drawn.iter().map(|row| row.chance.map(|value| value * 100.0)).collect(),
    }
}

fn fact(score: &Score) -> Option<Fact> {
    let own = score.recaption.as_ref()?;
    let mut details = Vec::new();
    details.extend(own.classes.map(|classes| format!("{classes} classes")));
    details.extend(own.texts.map(|texts| format!("{texts} texts")));
    details.extend(own.rounding.map(|rounding| format!("{rounding:?} logits").to_lowercase()));
    details.extend(own.probe.as_ref().map(|probe| {
        let (train, validation, c) = (probe.train, probe.validation, probe.choice.c);
        format!("fitted to {train} + {validation} pictures, C = {c:.3e}")
    }));
    if own.unreadable > 0 {
        details.push(format!("{} pictures cannot be read", own.unreadable));
    }
    Some(Fact {
        model: score.pretrained.clone(),
        dataset: score.dataset.clone(),
        task: score.task.words(),
        checkpoint: own.checkpoint.clone(),
        samples: own.samples,
        details: details.join(", "),
    })
}

fn models(comparison: &Comparison) -> Vec<String> {
    comparison.models.iter().map(|model| escaped(model)).collect()
}

/// Names of files and classes are somebody's text and no Markdown.
pub(in crate::eval) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A cell in words: the value and its interval.
pub fn written(cell: &Cell) -> String {
    match cell.interval {
        Some(interval) => format!("{} {}", percent(cell.value), between(interval)),
        None => percent(cell.value),
    }
}

/// The metric that stands for a whole result, in words.
pub fn headline(score: &Score) -> Option<String> {
    let own = score.recaption.as_ref()?;
    let value = *score.metrics.get(&own.headline)?;
    Some(written(&Cell { value, interval: own.intervals.get(&own.headline).copied(), lead: None }))
}

/// A share in 0..1 as `12.3`, for tables that say so.
pub fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

fn between(interval: Interval) -> String {
    format!("[{}, {}]", percent(interval.low), percent(interval.high))
}

/// A difference, always with its sign.
pub fn signed(share: f64) -> String {
    format!("{:+.1}", share * 100.0)
}

/// The interval of a difference.
pub fn signed_between(interval: Interval) -> String {
    format!("[{}, {}]", signed(interval.low), signed(interval.high))
}

const PAGE: &str = "results.html";
/// The look of a run's report, and what a table of scores needs besides.
const STYLE: &str = concat!(include_str!("../../audit/report.css"), include_str!("results.css"));

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = page::environment();
    environment
        .add_template(PAGE, include_str!("results.html"))
        .expect("the tests render this template");
    environment
});

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use sha2::Digest;
    use sha2::Sha256;

    use super::*;

    fn score(pretrained: &str, dataset: &str, value: f64) -> Score {
        Score {
            dataset: dataset.to_owned(),
            model: "tiny".to_owned(),
            pretrained: pretrained.to_owned(),
            task: Task::ZeroShot,
            metrics: BTreeMap::from([("acc1".to_owned(), value)]),
            language: "en".to_owned(),
            recaption: None,
        }
    }

    #[test]
    fn a_table_in_markdown() {
        let scores = [score("a", "x|y", 0.5), score("b_*", "x|y", 0.25), score("b_*", "z", 1.0)];
        let text = markdown(&Comparison::of(&scores).unwrap());
        let wanted = "| data | task | metric | chance | a | b\\_\\* |\n\
                      |---|---|---|---:|---:|---:|\n\
                      | x\\|y | zero-shot | top-1 |  | 50.0 | 25.0 |\n\
                      | z | zero-shot | top-1 |  | – | 100.0 |\n";
        assert!(text.starts_with(wanted), "{text}");
    }

    #[test]
    fn names_are_text_and_the_page_asks_nobody_for_anything() {
        let hostile = "<script>alert(1)</script>\" onload=x src=http://evil.example {{ 7*7 }}";
        let scores = [score(hostile, hostile, 0.5), score("b", hostile, 0.25)];
        let page = html(hostile, &scores, &Comparison::of(&scores).unwrap()).unwrap();
        assert!(page.contains("default-src 'none'") && page.contains("&lt;script&gt;"));
        for forbidden in
            ["<script", "src=\"http", "href=\"http", "url(", "@import", "style=\"", " 49"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next());
        let hash = BASE64.encode(Sha256::digest(style.unwrap()));
        assert!(page.contains(&format!("'sha256-{hash}'")), "the policy would forbid the style");
    }

    #[test]
    fn no_results_have_a_page_too() {
        let page = html("none", &[], &Comparison::default()).unwrap();
        assert!(page.contains("There are no results."));
    }
}
