//! From values to places: linear and logarithmic axes with round numbers on them.

/// One axis: which values it shows, and where.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    from: f64,
    to: f64,
}

/// Beyond this a difference of two values may not be a number any more.
const LARGEST: f64 = 1e300;

impl Axis {
    /// An axis over these values, drawn between the places `from` and `to`. Values that are not
    /// finite, and on a logarithmic axis those that are not above zero, are left out.
    pub(super) fn over(
        values: impl Iterator<Item = f64>,
        is_log: bool,
        from: f64,
        to: f64,
    ) -> Option<Axis> {
        let mut range: Option<(f64, f64)> = None;
        for value in values.filter(|&value| is_shown(value, is_log)) {
            let (low, high) = range.unwrap_or((value, value));
            range = Some((low.min(value), high.max(value)));
        }
        let (low, high) = range?;
        let (low, high) = if is_log { (low.log10(), high.log10()) } else { (low, high) };
        let (low, high) = widened(low, high);
        Some(Axis { low, high, is_log, from, to })
    }

    /// The same with a little air at both ends.
    pub(super) fn with_air(mut self, share: f64) -> Axis {
        let air = (self.high - self.low) * share;
        (self.low, self.high) = (self.low - air, self.high + air);
        self
    }

    /// The place of a value; none where it cannot be shown.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        if !is_shown(value, self.is_log) {
            return None;
        }
        let value = if self.is_log { value.log10() } else { value };
        Some(self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from))
    }

    /// Round values within the axis, with how they are written: about `wanted` of them.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let decades = self.high - self.low;
        if !self.is_log {
            return linear(self.low, self.high, wanted);
        }
        if decades < 0.7 {
            // Within less than a factor of five, round numbers are those of a linear axis.
            return linear(10f64.powf(self.low), 10f64.powf(self.high), wanted);
        }
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let steps: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let each = ((f64::from(last - first) / wanted.max(1) as f64).ceil() as usize).max(1);
        let values = (first..=last)
            .step_by(each)
            .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        let within = |value: &f64| (self.low - 1e-9..=self.high + 1e-9).contains(&value.log10());
        values.filter(within).map(|value| (value, written(value, value))).collect()
    }
}

fn is_shown(value: f64, is_log: bool) -> bool {
    value.abs() <= LARGEST && (!is_log || value > 0.0)
}

/// A range of one value, or of too few to tell their places apart, becomes one around it.
fn widened(low: f64, high: f64) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    if high - low > size * 1e-9 {
        return (low, high);
    }
    let air = if size > 0.0 { size * 0.1 } else { 1.0 };
    (low - air, high + air)
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear(low: f64, high: f64, wanted: usize) -> Vec<(f64, String)> {
    let rough = (high - low) / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
    let step = factor.unwrap_or(10.0) * power;
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    // At most `wanted` by the choice of the step; the bound holds whatever the arithmetic does.
    let count = ((last - first) as usize).min(2 * wanted.max(1));
    let values = (0..=count).map(|i| (first + i as f64) * step);
    // Minus zero is written as zero.
    values.map(|value| (value + 0.0, written(value + 0.0, step))).collect()
}

/// A number with the digits that steps of `step` need.
pub(super) fn written(value: f64, step: f64) -> String {
    let size = value.abs().max(step.abs());
    if size != 0.0 && !(1e-4..1e7).contains(&size) {
        return scientific(value);
    }
    if step >= 1000.0 && value != 0.0 {
        return format!("{:.0}k", value / 1000.0);
    }
    let digits = (-(step.abs().log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

/// Without the digits that are only rounding, as of 3.0000000000000004e-5.
fn scientific(value: f64) -> String {
    let three = format!("{value:.3e}");
    three.parse::<f64>().map_or(three, |value| format!("{value:e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(low: f64, high: f64, is_log: bool) -> Vec<String> {
        let axis = Axis::over([low, high].into_iter(), is_log, 0.0, 100.0).unwrap();
        axis.ticks(6).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(names(0.0, 1.0, false), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(names(-3.0, 17.0, false), ["0", "5", "10", "15"]);
        assert_eq!(names(0.0, 25_000.0, false), ["0", "5k", "10k", "15k", "20k", "25k"]);
        assert_eq!(names(2.31, 2.39, false), ["2.32", "2.34", "2.36", "2.38"]);
        assert_eq!(names(0.5, 20.0, true), ["0.5", "1", "2", "5", "10", "20"]);
        assert_eq!(names(1e-5, 1.0, true), ["1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]);
    }

    #[test]
    fn any_values_have_an_axis() {
        assert!(Axis::over([f64::NAN, f64::INFINITY].into_iter(), false, 0.0, 1.0).is_none());
        assert!(Axis::over([0.0, -1.0].into_iter(), true, 0.0, 1.0).is_none());
        for values in
            [[5.0, 5.0], [0.0, 0.0], [1e300, -1e300], [1e-300, 2e-300], [1e15, 1e15 + 1.0]]
        {
            let axis = Axis::over(values.into_iter(), false, 0.0, 1.0).unwrap();
            assert!(axis.place(values[0]).unwrap().is_finite());
            assert!(axis.ticks(6).len() < 14);
            assert!(axis.ticks(6).iter().all(|(value, _)| value.is_finite()), "{values:?}");
        }
    }
}
