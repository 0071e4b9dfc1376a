//! Curves, as of a loss over steps.

use std::fmt::Write;

use crate::chart::axis::Axis;
use crate::chart::svg::Anchor;
use crate::chart::svg::LINE;
use crate::chart::svg::Svg;
use crate::chart::svg::WIDTH;
use crate::chart::svg::colour;
use crate::chart::svg::shortened;
use crate::chart::svg::width_of;

/// Curves over a common axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// Heading; may be empty.
    pub title: String,
    /// What stands on the horizontal axis, as "step".
    pub x_label: String,
    /// What stands on the vertical axis, as "loss".
    pub y_label: String,
    /// Whether the vertical axis is logarithmic; values that are not above zero are then left out.
    pub log_y: bool,
    /// The curves.
    pub series: Vec<Series>,
}

/// A curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// What it is, for the legend.
    pub name: String,
    /// Its points, from left to right. One that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

const PLOT_HEIGHT: f64 = 280.0;
/// Points that are far apart are shown as such.
const FEW: usize = 40;
/// About one for each pixel.
const MANY: usize = 800;

/// The figure as SVG. A long series is thinned to the first, lowest, highest and last point of each
/// pixel, so that no spike is lost.
pub fn lines(chart: &LineChart) -> String {
    let several = chart.series.len() > 1;
    let top = if chart.title.is_empty() { 8.0 } else { 34.0 };
    let mut svg = Svg::new(height(chart, top), &chart.title);
    if !chart.title.is_empty() {
        svg.heading(0.0, 16.0, &chart.title);
    }
    let names: Vec<String> =
        chart.series.iter().map(|series| shortened(&series.name, 60)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let top = top + if several { svg.legend(0.0, top + 8.0, &names) + 6.0 } else { 0.0 };
    svg.label(0.0, top + 10.0, Anchor::Start, &chart.y_label);
    let top = top + 20.0;
    let bottom = top + PLOT_HEIGHT;

    let points = || chart.series.iter().flat_map(|series| series.points.iter().copied());
    let shown = || points().filter(|&(x, y)| x.is_finite() && y.is_finite());
    let y = Axis::over(shown().map(|(_, y)| y), chart.log_y, bottom, top).map(|y| y.with_air(0.04));
    let y_ticks = y.as_ref().map(|y| y.ticks(6)).unwrap_or_default();
    let widest = y_ticks.iter().map(|(_, name)| width_of(name)).fold(0.0, f64::max);
    let left = widest + 12.0;
    let x = Axis::over(shown().map(|(x, _)| x), false, left, WIDTH - 12.0);
    let (Some(x), Some(y)) = (x, y) else {
        svg.label(WIDTH / 2.0, top + PLOT_HEIGHT / 2.0, Anchor::Middle, "no points");
        return svg.finish();
    };
    for (value, name) in y_ticks {
        let Some(at) = y.place(value) else { continue };
        svg.rule((left, at), (WIDTH, at), 0.12);
        svg.label(left - 8.0, at + 4.0, Anchor::End, &name);
    }
    svg.rule((left, bottom), (WIDTH, bottom), 0.5);
    for (value, name) in x.ticks(8) {
        let Some(at) = x.place(value) else { continue };
        svg.rule((at, bottom), (at, bottom + 4.0), 0.5);
        svg.label(at, bottom + 18.0, Anchor::Middle, &name);
    }
    svg.label(WIDTH, bottom + 36.0, Anchor::End, &chart.x_label);
    for (place, series) in chart.series.iter().enumerate() {
        curve(&mut svg, series, place, &x, &y);
    }
    svg.finish()
}

/// The legend may take several lines; the height is that of the most it could need.
fn height(chart: &LineChart, top: f64) -> f64 {
    let mut probe = Svg::new(0.0, "");
    let names: Vec<String> =
        chart.series.iter().map(|series| shortened(&series.name, 60)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let legend = if names.len() > 1 { probe.legend(0.0, 0.0, &names) + 6.0 } else { 0.0 };
    top + legend + 20.0 + PLOT_HEIGHT + 2.0 * LINE + 2.0
}

fn curve(svg: &mut Svg, series: &Series, place: usize, x: &Axis, y: &Axis) {
    let colour = colour(place);
    let at = |&(a, b): &(f64, f64)| Some((x.place(a)?, y.place(b)?));
    let places: Vec<Option<(f64, f64)>> = series.points.iter().map(at).collect();
    let mut path = String::new();
    for piece in places.split(Option::is_none) {
        let piece: Vec<(f64, f64)> = piece.iter().copied().flatten().collect();
        for (i, (a, b)) in thinned(&piece).into_iter().enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            // Writing into a String cannot fail.
            let _ = write!(path, "{command}{a:.1} {b:.1}");
        }
    }
    // A thick line through many points would hide what lies behind it.
    let (width, opacity) = if series.points.len() <= MANY { (1.8, 1.0) } else { (1.0, 0.7) };
    svg.push(format_args!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
         stroke-opacity=\"{opacity}\" stroke-linejoin=\"round\" stroke-linecap=\"round\"/>\n"
    ));
    if series.points.len() <= FEW {
        for (a, b) in places.into_iter().flatten() {
            svg.push(format_args!(
                "<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"3\" fill=\"{colour}\"/>\n"
            ));
        }
    }
}

/// Of the points within each pixel column: the first, the lowest, the highest, the last, in their
/// order. A run of points keeps its outline.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    for column in points.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let by_height = |&a: &usize, &b: &usize| column[a].1.total_cmp(&column[b].1);
        let mut places = vec![0, column.len() - 1];
        places.extend((0..column.len()).min_by(by_height));
        places.extend((0..column.len()).max_by(by_height));
        places.sort_unstable();
        places.dedup();
        kept.extend(places.into_iter().map(|place| column[place]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> LineChart {
        let series = vec![Series { name: "loss".to_owned(), points }];
        let (x_label, y_label) = ("step".to_owned(), "loss".to_owned());
        LineChart { title: "Loss".to_owned(), x_label, y_label, log_y: false, series }
    }

    #[test]
    fn a_spike_among_many_points_stays() {
        let mut points: Vec<(f64, f64)> =
            (0..100_000).map(|i| (f64::from(i) / 500.0, 1.0)).collect();
        points[54_321].1 = 9.0;
        let kept = thinned(&points);
        assert!(kept.len() <= 4 * 201);
        assert_eq!(kept.iter().filter(|point| point.1 == 9.0).count(), 1);
        assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[99_999]));
    }

    #[test]
    fn what_is_not_finite_leaves_a_gap() {
        let svg =
            lines(&chart(vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, f64::INFINITY)]));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let path = svg.split("<path d=\"").find(|p| p.contains("stroke-linejoin"));
        assert_eq!(path.unwrap().split('"').next().unwrap().matches('M').count(), 2);
        let none = lines(&chart(vec![(f64::NAN, 1.0)]));
        assert!(none.contains("no points"));
        assert!(lines(&LineChart::default()).contains("no points"));
    }

    #[test]
    fn names_are_text_and_nothing_is_styled_or_scripted() {
        let mut chart = chart(vec![(0.0, 1.0), (1.0, 2.0)]);
        chart.title = "<script>".to_owned();
        chart.series.push(Series { name: "\"><b>".to_owned(), points: vec![] });
        let svg = lines(&chart);
        for forbidden in ["<script", "<b>", "style=", "<style", "href"] {
            assert!(!svg.contains(forbidden), "{forbidden}");
        }
    }
}
