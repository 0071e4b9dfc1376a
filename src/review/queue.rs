//! Which rows are shown, and in which order. The same rows and settings give the same order.

use clap::ValueEnum;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Bands of the score, each a fifth of 0..1: the first is the riskiest.
pub const BANDS: usize = 5;

/// What orders and limits the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// In which order.
    pub by: By,
    /// Of the chance by which rows are drawn.
    pub seed: u64,
    /// How many are shown at most.
    pub rows: usize,
}

/// The order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Drawn by chance, equally many of each band of scores.
    Stratified,
    /// Lowest score first.
    Risk,
}

impl By {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Stratified => "stratified",
            By::Risk => "risk",
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config { by: By::Stratified, seed: 0, rows: 200 }
    }
}

impl Config {
    /// Places of the rows with these scores, in the order in which they are shown.
    pub fn order(&self, scores: &[f32]) -> Vec<usize> {
        let mut order = match self.by {
            By::Stratified => stratified(scores, self.seed),
            By::Risk => by_risk(scores),
        };
        order.truncate(self.rows);
        order
    }
}

/// The band of a score. What is no number is as risky as can be.
pub fn band(score: f32) -> usize {
    // Casts of NaN and of what is below 0 give 0.
    ((score * BANDS as f32) as usize).min(BANDS - 1)
}

/// In turns one row of each band that still has any, so that every beginning of the queue is
/// stratified too.
fn stratified(scores: &[f32], seed: u64) -> Vec<usize> {
    let mut bands: [Vec<usize>; BANDS] = Default::default();
    for (place, score) in scores.iter().enumerate() {
        bands[band(*score)].push(place);
    }
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    bands.iter_mut().for_each(|band| band.shuffle(&mut chance));
    let deepest = bands.iter().map(Vec::len).max().unwrap_or(0);
    (0..deepest).flat_map(|turn| bands.iter().filter_map(move |b| b.get(turn).copied())).collect()
}

fn by_risk(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Stable: rows of one score stay in the order of the run.
    order.sort_by(|&a, &b| risk(scores[a]).total_cmp(&risk(scores[b])));
    order
}

fn risk(score: f32) -> f32 {
    if score.is_nan() { f32::NEG_INFINITY } else { score }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_beginning_has_equally_many_of_each_band() {
        let scores: Vec<f32> = (0..1000).map(|place| (place % 100) as f32 / 100.0).collect();
        let config = Config { rows: 50, ..Config::default() };
        let order = config.order(&scores);
        for (turn, five) in order.chunks(BANDS).enumerate() {
            let bands: Vec<usize> = five.iter().map(|&place| band(scores[place])).collect();
            assert_eq!(bands, [0, 1, 2, 3, 4], "turn {turn}");
        }
        assert_eq!(order, config.order(&scores));
        assert_ne!(order, Config { seed: 1, ..config }.order(&scores));
    }

    #[test]
    fn a_band_that_is_empty_leaves_its_turns_to_others_and_no_row_comes_twice() {
        let scores = [1.0, 1.0, 0.1, 1.0, f32::NAN, -3.0, 7.0];
        let mut order = Config::default().order(&scores);
        assert_eq!(order.iter().take(4).map(|&row| band(scores[row])).max(), Some(4));
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6]);
        assert!(Config::default().order(&[]).is_empty());
    }

    #[test]
    fn by_risk_the_lowest_score_comes_first() {
        let config = Config { by: By::Risk, rows: 4, seed: 0 };
        assert_eq!(config.order(&[0.5, 0.1, f32::NAN, 0.5, 0.9]), [2, 1, 0, 3]);
    }

    #[test]
    fn bands_are_fifths() {
        let bands = [0.0, 0.19, 0.2, 0.5, 0.8, 1.0].map(band);
        assert_eq!(bands, [0, 0, 1, 2, 4, 4]);
    }
}
