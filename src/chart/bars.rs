//! Bars with intervals, as of scores.

use crate::chart::axis::Axis;
use crate::chart::svg::Anchor;
use crate::chart::svg::LINE;
use crate::chart::svg::Svg;
use crate::chart::svg::WIDTH;
use crate::chart::svg::colour;
use crate::chart::svg::escaped;
use crate::chart::svg::shortened;
use crate::chart::svg::width_of;

/// Groups of bars that lie, one bar of each series in each group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarChart {
    /// Heading; may be empty.
    pub title: String,
    /// What the bars measure, with its unit.
    pub value_label: String,
    /// Names of the groups, from top to bottom.
    pub groups: Vec<String>,
    /// The series.
    pub series: Vec<BarSeries>,
    /// Where a bar of each group would end that says nothing, as by guessing; may be empty.
    pub chance: Vec<Option<f64>>,
}

/// The bars of one colour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarSeries {
    /// What it is, for the legend.
    pub name: String,
    /// One bar for each group, in their order; none where there is no value.
    pub bars: Vec<Option<Bar>>,
}

/// A value, and the interval it may lie in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Length of the bar.
    pub value: f64,
    /// Ends of its whisker.
    pub interval: Option<(f64, f64)>,
}

const THICKNESS: f64 = 16.0;
const BETWEEN_BARS: f64 = 3.0;
const BETWEEN_GROUPS: f64 = 14.0;
/// Letters of a group's name that are shown; the others are in the tooltip.
const LETTERS: usize = 34;

/// The figure as SVG. Values that are not finite are shown as missing.
pub fn bars(chart: &BarChart) -> String {
    let names: Vec<String> =
        chart.series.iter().map(|series| shortened(&series.name, 60)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let has_chance = chart.chance.iter().any(Option::is_some);
    let legend = |svg: &mut Svg, y| if names.len() > 1 { svg.legend(0.0, y, &names) } else { 0.0 };
    let head = if chart.title.is_empty() { 8.0 } else { 34.0 };
    let top = head + legend(&mut Svg::new(0.0, ""), 0.0) + 6.0;
    let per_group = chart.series.len() as f64 * (THICKNESS + BETWEEN_BARS) + BETWEEN_GROUPS;
    let bottom = top + per_group * chart.groups.len().max(1) as f64;
    let mut svg = Svg::new(bottom + 2.0 * LINE + 2.0, &chart.title);
    if !chart.title.is_empty() {
        svg.heading(0.0, 16.0, &chart.title);
    }
    legend(&mut svg, head + 8.0);

    let groups: Vec<String> = chart.groups.iter().map(|name| shortened(name, LETTERS)).collect();
    let widest = groups.iter().map(|name| width_of(name)).fold(0.0, f64::max);
    let left = widest.min(WIDTH / 3.0) + 12.0;
    let all = chart.series.iter().flat_map(|series| &series.bars).flatten();
    let values = all.flat_map(|bar| {
        let (low, high) = bar.interval.unwrap_or((bar.value, bar.value));
        [bar.value, low, high]
    });
    let values = values.chain(chart.chance.iter().copied().flatten());
    // Bars start at zero, or their lengths would lie. The right end is left free for the numbers.
    let Some(axis) = Axis::over(values.chain([0.0]), false, left, WIDTH - 64.0) else {
        return svg.finish();
    };
    for (value, name) in axis.ticks(6) {
        let Some(at) = axis.place(value) else { continue };
        svg.rule((at, top), (at, bottom), if value == 0.0 { 0.5 } else { 0.12 });
        svg.label(at, bottom + 16.0, Anchor::Middle, &name);
    }
    svg.label(WIDTH, bottom + 36.0, Anchor::End, &chart.value_label);
    if has_chance {
        svg.label(left, bottom + 36.0, Anchor::Start, "dashed: chance");
    }
    for (group, name) in groups.iter().enumerate() {
        let start = top + per_group * group as f64 + BETWEEN_GROUPS / 2.0;
        let middle = start + (per_group - BETWEEN_GROUPS) / 2.0;
        svg.text(left - 10.0, middle + 4.0, Anchor::End, name);
        for (place, series) in chart.series.iter().enumerate() {
            let y = start + place as f64 * (THICKNESS + BETWEEN_BARS);
            let tooltip = format!("{}, {}", chart.groups[group], series.name);
            match series.bars.get(group).copied().flatten() {
                Some(bar) => draw(&mut svg, &axis, bar, y, place, &tooltip),
                None => missing(&mut svg, &axis, y),
            }
        }
        let chance = chart.chance.get(group).copied().flatten();
        if let Some(at) = chance.and_then(|chance| axis.place(chance)) {
            let (top, bottom) = (start - 4.0, start + per_group - BETWEEN_GROUPS + 1.0);
            svg.push(format_args!(
                "<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"currentColor\" \
                 stroke-width=\"1.3\" stroke-dasharray=\"3 3\" fill=\"none\"/>\n"
            ));
        }
    }
    svg.finish()
}

fn draw(svg: &mut Svg, axis: &Axis, bar: Bar, y: f64, place: usize, tooltip: &str) {
    let (Some(zero), Some(end)) = (axis.place(0.0), axis.place(bar.value)) else {
        return missing(svg, axis, y);
    };
    let interval = bar.interval.and_then(|(low, high)| Some((axis.place(low)?, axis.place(high)?)));
    let middle = y + THICKNESS / 2.0;
    let number = format!("{:.1}", bar.value);
    svg.push(format_args!(
        "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{THICKNESS}\" rx=\"2\" \
         fill=\"{}\"><title>{}: {number}</title></rect>\n",
        zero.min(end),
        (end - zero).abs(),
        colour(place),
        escaped(tooltip)
    ));
    if let Some((low, high)) = interval {
        svg.push(format_args!(
            "<path d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {a:.1}V{b:.1}M{high:.1} {a:.1}V{b:.1}\" \
             stroke=\"currentColor\" stroke-width=\"1.3\" fill=\"none\"/>\n",
            a = middle - 4.0,
            b = middle + 4.0
        ));
    }
    let right = interval.map_or(end, |(_, high)| high.max(end)).max(zero);
    svg.label(right + 6.0, middle + 4.0, Anchor::Start, &number);
}

fn missing(svg: &mut Svg, axis: &Axis, y: f64) {
    if let Some(zero) = axis.place(0.0) {
        svg.label(zero + 6.0, y + THICKNESS / 2.0 + 4.0, Anchor::Start, "–");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(bars: Vec<Option<Bar>>) -> BarChart {
        let groups = (0..bars.len()).map(|i| format!("set {i}")).collect();
        let series = vec![BarSeries { name: "model".to_owned(), bars }];
        BarChart {
            title: "Scores".to_owned(),
            value_label: "%".to_owned(),
            groups,
            series,
            chance: vec![Some(3.0), None],
        }
    }

    #[test]
    fn a_bar_has_its_whisker_and_its_number() {
        let bar = Bar { value: 42.25, interval: Some((40.0, 45.0)) };
        let svg = bars(&chart(vec![Some(bar), None]));
        assert!(svg.contains(">42.2<") || svg.contains(">42.3<"));
        assert_eq!(svg.matches("<rect").count(), 1);
        assert_eq!(svg.matches("stroke-width=\"1.3\"").count(), 2, "a whisker and chance");
        assert_eq!(svg.matches("stroke-dasharray").count(), 1);
        assert!(svg.contains("–"));
    }

    #[test]
    fn what_is_not_finite_is_missing() {
        let nan = Bar { value: f64::NAN, interval: Some((f64::NAN, f64::INFINITY)) };
        let svg = bars(&chart(vec![Some(nan)]));
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("–"));
        bars(&BarChart::default());
        let half = Bar { value: 3.0, interval: Some((f64::NEG_INFINITY, 4.0)) };
        assert!(!bars(&chart(vec![Some(half)])).contains("inf"));
    }
}
