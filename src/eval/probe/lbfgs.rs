//! L-BFGS: the least value of a smooth convex function of many numbers.
//!
//! Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5. The line search is the
//! bisection of Lewis and Overton (2013), which ends at a point of the weak Wolfe conditions, so that
//! every pair that is remembered has a positive curvature.
//!
//! The crate `argmin` has the method too. It asks for values and for gradients one by one, and its
//! line searches for both at each point: each costs the same product of matrices here, twice the work.

use std::collections::VecDeque;

use anyhow::Result;
use anyhow::ensure;

/// A value and its gradient at a place.
pub(super) type Function<'a> = dyn Fn(&[f64]) -> Result<(f64, Vec<f64>)> + 'a;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// After so many steps.
    pub(super) steps: usize,
    /// When no part of the gradient is larger.
    pub(super) gradient: f64,
}

/// Where the function is least.
#[derive(Clone, Debug)]
pub(super) struct Minimum {
    pub(super) place: Vec<f64>,
    pub(super) value: f64,
    /// Steps that were made.
    pub(super) steps: usize,
}

/// Pairs of steps and gradient changes that are remembered; scipy has as many.
const MEMORY: usize = 10;
/// Points that a line search looks at; each halves or doubles the step.
const TRIES: usize = 30;
/// Of the decrease that the slope promises, this share is enough.
const DECREASE: f64 = 1e-4;
/// The slope has to become this many times smaller.
const CURVATURE: f64 = 0.9;
/// A step that lowers the value by less than this share of it is the last. Here f32 inside the
/// function begins to show.
const SMALLEST: f64 = 1e-9;

/// Walks down from `start`; `function` gives the value and the gradient at a place.
///
/// # Errors
/// When the function fails, or is not finite where the walk begins.
pub(super) fn minimise(function: &Function, start: Vec<f64>, stop: Stop) -> Result<Minimum> {
    let (mut place, (mut value, mut gradient)) = (start.clone(), function(&start)?);
    ensure!(value.is_finite(), "the function to minimise is {value} where the search begins");
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    for steps in 0..stop.steps {
        if largest(&gradient) <= stop.gradient {
            return Ok(Minimum { place, value, steps });
        }
        let mut direction = downhill(&memory, &gradient);
        if dot(&direction, &gradient) >= 0.0 {
            // Rounding has spoilt what is remembered.
            memory.clear();
            direction = downhill(&memory, &gradient);
        }
        let first = if memory.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt() } else { 1.0 };
        let Some(next) = search(function, &place, value, &gradient, &direction, first)? else {
            return Ok(Minimum { place, value, steps });
        };
        remember(&mut memory, &place, &gradient, &next);
        let gained = value - next.value;
        (place, value, gradient) = (next.place, next.value, next.gradient);
        if gained <= SMALLEST * value.abs().max(1e-300) {
            return Ok(Minimum { place, value, steps: steps + 1 });
        }
    }
    Ok(Minimum { place, value, steps: stop.steps })
}

/// A step and how it changed the gradient.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// 1 / (step · change)
    scale: f64,
}

struct Point {
    place: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// The two-loop recursion: minus the remembered inverse of the second derivative, times the gradient.
fn downhill(memory: &VecDeque<Pair>, gradient: &[f64]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|value| -value).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let share = pair.scale * dot(&pair.step, &direction);
        add(&mut direction, -share, &pair.change);
        shares.push(share);
    }
    if let Some(last) = memory.back() {
        let size = 1.0 / (last.scale * dot(&last.change, &last.change));
        direction.iter_mut().for_each(|value| *value *= size);
    }
    for (pair, share) in memory.iter().zip(shares.into_iter().rev()) {
        let other = pair.scale * dot(&pair.change, &direction);
        add(&mut direction, share - other, &pair.step);
    }
    direction
}

fn search(
    function: &Function,
    place: &[f64],
    value: f64,
    gradient: &[f64],
    direction: &[f64],
    first: f64,
) -> Result<Option<Point>> {
    let slope = dot(gradient, direction);
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, first);
    let mut best = None;
    for _ in 0..TRIES {
        let mut there = place.to_vec();
        add(&mut there, length, direction);
        let (found, gradient) = function(&there)?;
        // Written so that a value that is no number is not low enough.
        let is_low_enough = found <= value + DECREASE * length * slope;
        if !is_low_enough {
            high = length;
        } else {
            let is_flat_enough = dot(&gradient, direction) >= CURVATURE * slope;
            best = Some(Point { place: there, value: found, gradient });
            if is_flat_enough {
                break;
            }
            low = length;
        }
        length = if high.is_finite() { (low + high) / 2.0 } else { 2.0 * length };
    }
    Ok(best)
}

fn remember(memory: &mut VecDeque<Pair>, place: &[f64], gradient: &[f64], next: &Point) {
    let between = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
    let (step, change) = (between(&next.place, place), between(&next.gradient, gradient));
    let curvature = dot(&step, &change);
    if curvature <= f64::EPSILON * dot(&change, &change) {
        return;
    }
    if memory.len() == MEMORY {
        memory.pop_front();
    }
    memory.push_back(Pair { step, change, scale: 1.0 / curvature });
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], times: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += times * what);
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Stop = Stop { steps: 2000, gradient: 1e-9 };

    #[test]
    fn a_long_valley_is_walked_to_its_end() {
        // Scales from 1 to 10,000 along the axes, the least value at (1, 2, 3, ...).
        let bowl = |place: &[f64]| {
            let scale = |i: usize| 10f64.powf(4.0 * i as f64 / 19.0);
            let off = |i: usize| place[i] - (i + 1) as f64;
            let value = (0..20).map(|i| 0.5 * scale(i) * off(i) * off(i)).sum();
            Ok((value, (0..20).map(|i| scale(i) * off(i)).collect()))
        };
        let found = minimise(&bowl, vec![0.0; 20], STOP).unwrap();
        let wanted = (1..=20).map(f64::from);
        assert!(
            found.place.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-6)
        );
        // scipy 1.17 with as much memory takes 781 steps.
        assert!(found.steps < 900, "{} steps", found.steps);
    }

    #[test]
    fn a_bent_valley_too() {
        let rosenbrock = |place: &[f64]| {
            let (x, y) = (place[0], place[1]);
            let (a, b) = (1.0 - x, y - x * x);
            Ok((a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x * b, 200.0 * b]))
        };
        let found = minimise(&rosenbrock, vec![-1.2, 1.0], STOP).unwrap();
        assert!((found.place[0] - 1.0).abs() < 1e-4 && (found.place[1] - 1.0).abs() < 1e-4);
    }

    #[test]
    fn what_is_no_number_is_walked_around_or_an_error() {
        let wall = |place: &[f64]| {
            let x = place[0];
            Ok(if x > 3.0 {
                (f64::NAN, vec![f64::NAN])
            } else {
                ((x - 2.0).powi(2), vec![2.0 * (x - 2.0)])
            })
        };
        assert!((minimise(&wall, vec![-40.0], STOP).unwrap().place[0] - 2.0).abs() < 1e-6);
        assert!(minimise(&wall, vec![4.0], STOP).is_err());
    }
}
