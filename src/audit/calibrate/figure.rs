//! The quality of scores as a page: reliability, the spread of the scores, precision over recall.

use anyhow::Result;

use crate::audit::calibrate::Interval;
use crate::audit::calibrate::Quality;
use crate::audit::calibrate::Scored;
use crate::chart;
use crate::chart::CalibrationChart;
use crate::chart::CalibrationSeries;
use crate::chart::Estimate;
use crate::chart::LineChart;
use crate::chart::Series;
use crate::page;
use crate::page::Cell;
use crate::page::Page;
use crate::page::Section;
use crate::page::Table;

/// Columns of the histogram below the curve.
const COLUMNS: usize = 20;

/// Texts before which a precision is mostly chance, and would only widen the figure.
const LEAST: usize = 20;

/// Scores that are shown, and how good they are.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Whose they are.
    pub name: &'a str,
    /// Each score and the truth about it.
    pub scored: &'a [Scored],
    /// How good they are.
    pub quality: &'a Quality,
}

/// A page that compares the scores of the same texts.
///
/// # Errors
/// None in practice: the template is tested.
pub fn page(title: &str, all: &[Shown<'_>]) -> Result<String> {
    let texts = all.first().map_or(0, |shown| shown.quality.texts);
    let bad = all.first().map_or(0, |shown| shown.quality.hallucinated);
    let facts = [("texts", texts), ("hallucinated", bad)];
    page::render(&Page {
        title: title.to_owned(),
        subtitle: "How far the score can be trusted, by texts that somebody has judged".to_owned(),
        facts: facts.map(|(name, value)| (name.to_owned(), value.to_string())).to_vec(),
        sections: vec![reliability(all), finding(all), numbers(all)],
    })
}

fn reliability(all: &[Shown<'_>]) -> Section {
    let series = all.iter().map(|shown| CalibrationSeries {
        name: shown.name.to_owned(),
        points: shown
            .quality
            .reliability
            .iter()
            .map(|bin| Estimate {
                at: bin.score,
                value: bin.good.value,
                interval: (bin.good.low, bin.good.high),
            })
            .collect(),
        columns: columns(shown.scored),
    });
    let chart = CalibrationChart {
        title: String::new(),
        x_label: "score".to_owned(),
        y_label: "share of texts that are good".to_owned(),
        columns_label: "texts with the score".to_owned(),
        series: series.collect(),
    };
    Section {
        heading: "Reliability".to_owned(),
        note: "A point is a tenth of the texts: of those with a score about 0.8, 8 in 10 should be good, \
               as the dashed line says. Bars are 95 % intervals of the bootstrap over pictures. \
               Below the line the score promises too much. The columns say how often each score is given."
            .to_owned(),
        figures: vec![chart::calibration(&chart)],
        table: None,
    }
}

fn columns(scored: &[Scored]) -> Vec<u64> {
    let mut columns = vec![0; COLUMNS];
    for (score, ..) in scored {
        // A score that is no number is in the first: `as` saturates.
        columns[((score * COLUMNS as f64) as usize).min(COLUMNS - 1)] += 1;
    }
    columns
}

fn finding(all: &[Shown<'_>]) -> Section {
    let mut series: Vec<Series> = all
        .iter()
        .map(|shown| Series { name: shown.name.to_owned(), points: precision(shown.scored) })
        .collect();
    if let Some(quality) = all.first().map(|shown| shown.quality) {
        let chance = quality.hallucinated as f64 / quality.texts.max(1) as f64;
        series
            .push(Series { name: "chance".to_owned(), points: vec![(0.0, chance), (1.0, chance)] });
    }
    Section {
        heading: "Finding what is hallucinated".to_owned(),
        note: "The lowest scores first: of all hallucinated texts the share that was found, and of the \
               texts up to there the share that is hallucinated."
            .to_owned(),
        figures: vec![chart::lines(&LineChart {
            title: String::new(),
            x_label: "recall".to_owned(),
            y_label: "precision".to_owned(),
            log_y: false,
            series,
        })],
        table: None,
    }
}

/// Recall and precision behind each text, the lowest scores first; texts of one score together.
fn precision(scored: &[Scored]) -> Vec<(f64, f64)> {
    let mut sorted: Vec<(f64, bool)> =
        scored.iter().map(|(score, good, _)| (*score, *good)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = sorted.iter().filter(|(_, good)| !good).count().max(1);
    let (mut seen, mut bad, mut points) = (0, 0, Vec::new());
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        seen += equal.len();
        bad += equal.iter().filter(|(_, good)| !good).count();
        if seen >= LEAST.min(sorted.len()) {
            points.push((bad as f64 / all as f64, bad as f64 / seen as f64));
        }
    }
    points
}

fn numbers(all: &[Shown<'_>]) -> Section {
    let figure = |of: &Interval| Cell {
        text: format!("{:.3}", of.value),
        aside: format!("{:.3} to {:.3}", of.low, of.high),
        strong: false,
    };
    let row = |shown: &Shown<'_>| {
        let quality = shown.quality;
        let brier = Cell::from(format!("{:.3}", quality.brier));
        vec![shown.name.into(), figure(&quality.average_precision), figure(&quality.auc), brier]
    };
    let head = ["score", "average precision", "ROC AUC", "Brier score"];
    Section {
        heading: "In numbers".to_owned(),
        note: "Average precision and AUC: higher is better, and chance is the share of hallucinated texts \
               and 0.5. Brier score: the mean square of what the score is off by, lower is better."
            .to_owned(),
        figures: Vec::new(),
        table: Some(Table {
            head: head.map(str::to_owned).to_vec(),
            rows: all.iter().map(row).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored() -> Vec<Scored> {
        let of = |place: usize| {
            let score = place as f64 / 100.0;
            (score, place * 7 % 100 < place, place.to_string())
        };
        (0..=100).map(of).collect()
    }

    #[test]
    fn precision_is_that_of_the_books() {
        let text = |score, good| (score, good, String::new());
        let points =
            precision(&[text(0.3, true), text(0.1, false), text(0.3, false), text(0.9, true)]);
        assert_eq!(points, [(1.0, 0.5)], "so few are shown as one");
        let many: Vec<Scored> = (0..40).map(|at| text(f64::from(at), at >= 30)).collect();
        let points = precision(&many);
        assert_eq!((points[0], points[20]), ((20.0 / 30.0, 1.0), (1.0, 0.75)));
    }

    #[test]
    fn every_score_is_in_a_column_and_the_page_is_drawn() {
        let scored = scored();
        let columns = columns(&scored);
        assert_eq!((columns.iter().sum::<u64>(), columns[19]), (101, 6));
        let quality = Quality::of(&scored, 0);
        let shown = Shown { name: "<b>now", scored: &scored, quality: &quality };
        let html = page("labels & more", &[shown, Shown { name: "fitted", ..shown }]).unwrap();
        assert!(html.contains("labels &amp; more") && html.contains("&lt;b&gt;now"));
        assert!(!html.contains("<b>") && !html.contains("NaN"));
        assert_eq!(html.matches("<figure>").count(), 2);
    }
}
