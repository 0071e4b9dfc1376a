//! The one-cycle schedule of the official training: learning rate up and down, momentum against it.
//!
//! torch's `OneCycleLR` with its defaults (cosine both ways, `cycle_momentum`), which overrides the
//! optimizer's first beta. Smith and Topin, "Super-Convergence", 2017.

use std::f64::consts::PI;

/// Learning rate at the start: the highest one over this.
const START_DIVISOR: f64 = 25.0;

/// Learning rate at the end: that of the start over this.
const END_DIVISOR: f64 = 1e4;

/// First beta where the learning rate is lowest.
const BASE_MOMENTUM: f64 = 0.95;

/// First beta where the learning rate is highest.
const LEAST_MOMENTUM: f64 = 0.85;

/// One rise and one fall of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneCycle {
    /// The highest learning rate.
    pub max_lr: f64,
    /// Steps of the whole training.
    pub total_steps: usize,
    /// Share of the steps in which the rate rises, 0 to 1.
    pub pct_start: f64,
}

/// What is in force at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
}

impl OneCycle {
    /// What is in force when step `step` (the first is 0) is taken. After the last step the values
    /// stay: whoever trains longer than was planned is not punished by another cycle. A cycle of no
    /// steps is one of a single step.
    pub fn at(&self, step: usize) -> Rates {
        let start = self.max_lr / START_DIVISOR;
        let end = start / END_DIVISOR;
        let total = self.total_steps.max(1) as f64;
        let last = total - 1.0;
        // Not rounded: where the turn lies between two steps, no step has exactly the highest rate.
        let turn = self.pct_start * total - 1.0;
        let step = (step as f64).min(last);
        if step <= turn {
            // A rise of a single step begins at its top.
            let part = if turn > 0.0 { step / turn } else { 1.0 };
            Rates {
                lr: cosine(start, self.max_lr, part),
                beta1: cosine(BASE_MOMENTUM, LEAST_MOMENTUM, part),
            }
        } else {
            let part = (step - turn) / (last - turn);
            Rates {
                lr: cosine(self.max_lr, end, part),
                beta1: cosine(LEAST_MOMENTUM, BASE_MOMENTUM, part),
            }
        }
    }
}

fn cosine(start: f64, end: f64, part: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * part).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_cycles_have_numbers_at_every_step() {
        for (total_steps, pct_start) in
            [(0, 0.1), (1, 0.1), (1, 1.0), (10, 0.1), (10, 1.0), (5, 0.0)]
        {
            let cycle = OneCycle { max_lr: 1.0, total_steps, pct_start };
            for step in 0..total_steps + 3 {
                let Rates { lr, beta1 } = cycle.at(step);
                assert!(lr > 0.0 && lr <= 1.0, "{cycle:?} {step}: {lr}");
                assert!((0.85..=0.9500001).contains(&beta1), "{cycle:?} {step}: {beta1}");
            }
            assert_eq!(cycle.at(total_steps.saturating_sub(1)), cycle.at(total_steps + 9));
        }
    }
}
