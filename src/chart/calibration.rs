//! What is promised against what is kept: shares with intervals over scores from 0 to 1, the diagonal,
//! and below it how often each score is given.

use crate::chart::axis::Axis;
use crate::chart::svg::Anchor;
use crate::chart::svg::LINE;
use crate::chart::svg::Svg;
use crate::chart::svg::WIDTH;
use crate::chart::svg::colour;
use crate::chart::svg::escaped;
use crate::chart::svg::shortened;

/// Curves over scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CalibrationChart {
    /// Heading; may be empty.
    pub title: String,
    /// What stands on the horizontal axis.
    pub x_label: String,
    /// What stands on the vertical axis.
    pub y_label: String,
    /// What the columns below count.
    pub columns_label: String,
    /// The curves.
    pub series: Vec<CalibrationSeries>,
}

/// A curve and its columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CalibrationSeries {
    /// What it is, for the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<Estimate>,
    /// Counts in equal steps from 0 to 1.
    pub columns: Vec<u64>,
}

/// What a score turned out to be worth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The score.
    pub at: f64,
    /// The share that was found.
    pub value: f64,
    /// Where that share may lie.
    pub interval: (f64, f64),
}

const PLOT_HEIGHT: f64 = 380.0;
const COLUMNS_HEIGHT: f64 = 80.0;
const LEFT: f64 = 44.0;

/// The figure as SVG. What is not finite is left out.
pub fn calibration(chart: &CalibrationChart) -> String {
    let names: Vec<String> =
        chart.series.iter().map(|series| shortened(&series.name, 60)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let head = if chart.title.is_empty() { 8.0 } else { 34.0 };
    let legend =
        |svg: &mut Svg| if names.len() > 1 { svg.legend(0.0, head + 8.0, &names) } else { 0.0 };
    let top = head + legend(&mut Svg::new(0.0, "")) + 26.0;
    let bottom = top + PLOT_HEIGHT;
    let foot = bottom + 2.0 * LINE + 24.0 + COLUMNS_HEIGHT;
    let mut svg = Svg::new(foot + 2.0 * LINE, &chart.title);
    if !chart.title.is_empty() {
        svg.heading(0.0, 16.0, &chart.title);
    }
    legend(&mut svg);
    svg.label(0.0, top - 10.0, Anchor::Start, &chart.y_label);
    let unit = |from, to| Axis::over([0.0, 1.0].into_iter(), false, from, to);
    let (Some(x), Some(y)) = (unit(LEFT, WIDTH - 16.0), unit(bottom, top)) else {
        return svg.finish();
    };
    ground(&mut svg, &x, &y, (top, bottom));
    for (place, series) in chart.series.iter().enumerate() {
        curve(&mut svg, series, place, &x, &y);
    }
    svg.label(0.0, foot - COLUMNS_HEIGHT - 12.0, Anchor::Start, &chart.columns_label);
    columns(&mut svg, chart, &x, foot);
    svg.rule((LEFT, foot), (WIDTH - 16.0, foot), 0.5);
    scale(&mut svg, &x, foot);
    svg.label(WIDTH - 16.0, foot + 36.0, Anchor::End, &chart.x_label);
    svg.finish()
}

/// Rules, numbers and the diagonal, on which promises are kept.
fn ground(svg: &mut Svg, x: &Axis, y: &Axis, (top, bottom): (f64, f64)) {
    for (value, name) in y.ticks(6) {
        let Some(at) = y.place(value) else { continue };
        svg.rule((LEFT, at), (WIDTH - 16.0, at), if value == 0.0 { 0.5 } else { 0.12 });
        svg.label(LEFT - 8.0, at + 4.0, Anchor::End, &name);
    }
    scale(svg, x, bottom);
    svg.push(format_args!(
        "<path d=\"M{LEFT} {bottom:.1}L{:.1} {top:.1}\" stroke=\"currentColor\" stroke-opacity=\"0.6\" \
         stroke-dasharray=\"5 4\" fill=\"none\"/>\n",
        WIDTH - 16.0
    ));
}

fn scale(svg: &mut Svg, x: &Axis, bottom: f64) {
    for (value, name) in x.ticks(6) {
        let Some(at) = x.place(value) else { continue };
        svg.rule((at, bottom), (at, bottom + 4.0), 0.5);
        svg.label(at, bottom + 18.0, Anchor::Middle, &name);
    }
}

fn curve(svg: &mut Svg, series: &CalibrationSeries, place: usize, x: &Axis, y: &Axis) {
    let colour = colour(place);
    let place_of = |point: &Estimate| Some((x.place(point.at)?, y.place(point.value)?));
    let places: Vec<(f64, f64)> = series.points.iter().filter_map(place_of).collect();
    let path: Vec<String> = places.iter().map(|(a, b)| format!("{a:.1} {b:.1}")).collect();
    if !path.is_empty() {
        svg.push(format_args!(
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" \
             stroke-linejoin=\"round\"/>\n",
            path.join("L")
        ));
    }
    for point in &series.points {
        let Some((a, b)) = place_of(point) else { continue };
        if let (Some(low), Some(high)) = (y.place(point.interval.0), y.place(point.interval.1)) {
            let (left, right) = (a - 4.0, a + 4.0);
            svg.push(format_args!(
                "<path d=\"M{a:.1} {low:.1}V{high:.1}M{left:.1} {low:.1}H{right:.1}M{left:.1} {high:.1}H{right:.1}\" \
                 stroke=\"{colour}\" stroke-width=\"1.3\" fill=\"none\"/>\n"
            ));
        }
        let (low, high) = point.interval;
        svg.push(format_args!(
            "<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"4\" fill=\"{colour}\"><title>{}: {:.2} of score {:.2}, \
             {low:.2} to {high:.2}</title></circle>\n",
            escaped(&series.name),
            point.value,
            point.at
        ));
    }
}

/// Beside each other in each step, those of all series on one scale.
fn columns(svg: &mut Svg, chart: &CalibrationChart, x: &Axis, foot: f64) {
    let most = chart.series.iter().flat_map(|series| &series.columns).copied().max().unwrap_or(0);
    for (place, series) in chart.series.iter().enumerate() {
        let steps = series.columns.len().max(1) as f64;
        for (at, rows) in series.columns.iter().enumerate() {
            let edges = (x.place(at as f64 / steps), x.place((at + 1) as f64 / steps));
            let (Some(left), Some(right)) = edges else { continue };
            let width = 0.86 * (right - left) / chart.series.len() as f64;
            let left = left + 0.07 * (right - left) + width * place as f64;
            let height = COLUMNS_HEIGHT * *rows as f64 / most.max(1) as f64;
            svg.push(format_args!(
                "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{}\">\
                 <title>{}: {rows}</title></rect>\n",
                foot - height,
                colour(place),
                escaped(&series.name)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_its_interval_and_every_step_its_column() {
        let point = Estimate { at: 0.5, value: 0.4, interval: (0.3, 0.6) };
        let series = CalibrationSeries {
            name: "<b>".to_owned(),
            points: vec![point, Estimate { at: f64::NAN, ..point }],
            columns: vec![0, 3, 6, 1],
        };
        let chart = CalibrationChart { series: vec![series], ..CalibrationChart::default() };
        let svg = calibration(&chart);
        assert_eq!((svg.matches("<circle").count(), svg.matches("<rect").count()), (1, 4));
        assert_eq!(svg.matches("stroke-dasharray").count(), 1, "the diagonal");
        assert_eq!(svg.matches("stroke-width=\"1.3\"").count(), 1, "the interval");
        assert!(svg.contains("height=\"40.0\"") && svg.contains("height=\"80.0\""));
        assert!(!svg.contains("NaN") && !svg.contains("<b>") && !svg.contains("style="));
        assert!(calibration(&CalibrationChart::default()).contains("</svg>"));
    }
}
