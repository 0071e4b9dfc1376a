//! Finding the pictures that look like a new one without comparing it with all.
//!
//! A hash is four quarters of 16 bits. Two hashes that differ in at most `d` bits differ in at most
//! `d / 4` bits in one of the quarters, so it is enough to look at those that share a quarter, or
//! nearly ("multi-index hashing", Norouzi, Punjani and Fleet, 2012). Plain comparison with all is
//! the twin in the tests.

use std::collections::HashMap;

use crate::dedup::Print;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Stage;

/// First copies by the quarters of their hashes.
pub(super) struct Near {
    max_distance: u32,
    max_difference: f32,
    /// What may be wrong in a quarter, the fewest bits first.
    masks: Vec<u16>,
    firsts: Vec<First>,
    /// For each quarter, its value to the indices of `firsts` that have it.
    quarters: [HashMap<u16, Vec<u32>>; 4],
}

struct First {
    sha256: String,
    print: Print,
}

impl Near {
    pub(super) fn new(max_distance: u32, max_difference: f32) -> Near {
        let max_distance = max_distance.min(64);
        let mut masks: Vec<u16> =
            (0..=u16::MAX).filter(|mask| mask.count_ones() <= max_distance / 4).collect();
        masks.sort_by_key(|mask| mask.count_ones());
        Near {
            max_distance,
            max_difference,
            masks,
            firsts: Vec::new(),
            quarters: Default::default(),
        }
    }

    /// Takes a picture that looks like none before, refuses one that does.
    pub(super) fn first(&mut self, sha256: &str, print: &Print) -> Result<(), Reject> {
        if let Some((of, difference)) = self.copied(print) {
            let detail = format!("looks like {of}, difference {difference:.3}");
            return Err(Reject::new(Stage::Dedup, Reason::NearDuplicate, detail));
        }
        let index = self.firsts.len() as u32;
        for (quarter, known) in quarters(print.phash).zip(&mut self.quarters) {
            known.entry(quarter).or_default().push(index);
        }
        self.firsts.push(First { sha256: sha256.to_owned(), print: print.clone() });
        Ok(())
    }

    /// The sha256 of an earlier picture that looks the same, and how far it is off.
    fn copied(&self, print: &Print) -> Option<(&str, f32)> {
        for (at, quarter) in quarters(print.phash).enumerate() {
            for mask in &self.masks {
                let alike = self.quarters[at].get(&(quarter ^ mask)).into_iter().flatten();
                let mut alike = alike.map(|&index| &self.firsts[index as usize]);
                let found = alike.find_map(|first| Some((first, self.confirm(first, print, at)?)));
                if let Some((first, difference)) = found {
                    return Some((&first.sha256, difference));
                }
            }
        }
        None
    }

    /// What an earlier quarter has found already is not looked at again.
    fn confirm(&self, first: &First, print: &Print, at: usize) -> Option<f32> {
        let wrong = first.print.phash ^ print.phash;
        if wrong.count_ones() > self.max_distance {
            return None;
        }
        let seen = |quarter: u16| quarter.count_ones() <= self.max_distance / 4;
        if quarters(wrong).take(at).any(seen) {
            return None;
        }
        first.print.thumb.difference(&print.thumb, self.max_difference)
    }
}

fn quarters(hash: u64) -> impl Iterator<Item = u16> {
    [48, 32, 16, 0].into_iter().map(move |shift| (hash >> shift) as u16)
}

#[cfg(test)]
mod tests {
    use fast_image_resize::Resizer;
    use proptest::prelude::*;

    use super::*;
    use crate::decode::Pixels;

    /// What [`Near`] has to say, said slowly.
    fn slow(prints: &[Print], max_distance: u32, max_difference: f32) -> Vec<bool> {
        let mut firsts: Vec<&Print> = Vec::new();
        let mut of_firsts = Vec::new();
        for print in prints {
            let copied = firsts.iter().any(|first| {
                (first.phash ^ print.phash).count_ones() <= max_distance
                    && first.thumb.difference(&print.thumb, max_difference).is_some()
            });
            if !copied {
                firsts.push(print);
            }
            of_firsts.push(!copied);
        }
        of_firsts
    }

    fn grey(shade: u8) -> Print {
        let rgb = (0..64u8).flat_map(|i| [if i % 3 == 0 { shade } else { 255 }; 3]).collect();
        Print::of(&Pixels { width: 8, height: 8, rgb }, &mut Resizer::new()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Hashes cluster, as real ones do: few bits are set.
        #[test]
        fn the_index_finds_what_comparing_with_all_finds(
            rows in prop::collection::vec(
                (prop::collection::vec(0u32..64, 0..9), prop::sample::select(vec![0u8, 100, 200])),
                0..60,
            ),
            max_distance in 0u32..14,
        ) {
            let prints: Vec<Print> = rows
                .into_iter()
                .map(|(bits, shade)| {
                    let phash = bits.into_iter().fold(0, |hash, bit| hash ^ 1u64 << bit);
                    Print { phash, ..grey(shade) }
                })
                .collect();
            let mut near = Near::new(max_distance, 0.25);
            let quick: Vec<bool> = prints.iter().map(|p| near.first("", p).is_ok()).collect();
            prop_assert_eq!(quick, slow(&prints, max_distance, 0.25));
        }
    }
}
