//! Texts that are about another row's picture: a server that answers about a neighbour's request.
//!
//! Each text is compared with the tags, synthetic captions and raw texts of its own row and of the rows
//! just before and after. It is mixed up when a neighbour has much more of its words than its own row
//! has. Rare words count more, and one word alone proves nothing. What chance gives is measured by the same
//! comparison with as many rows drawn at random (seeded) from those further back.
//!
//! A row is judged when the rows after it have come; memory is a window and a few hundred rows.

use std::collections::HashMap;
use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::place::Place;
use crate::audit::place::mixed;
use crate::audit::stems::Stems;
use crate::audit::stems::has;

/// Rows before and after that are compared.
pub const NEIGHBOURS: usize = 8;
/// Rows from which those of chance are drawn.
const FAR: usize = 256;
/// Words whose frequency is known; beyond, a word counts as new.
const ROOM: usize = 200_000;
/// How much more of the text's weight another row must have, and how many words.
const LEAST_MARGIN: f64 = 0.4;
const LEAST_WORDS: usize = 2;
/// A text that its own row supports by more than this is not mixed up.
const MOST_OWN: f64 = 0.5;
/// Suspects that are kept.
const KEPT: usize = 50;

/// Judges rows in their order.
#[derive(Clone, Debug, Default)]
pub struct MixUps {
    window: VecDeque<Known>,
    /// Rows of the window that are judged.
    judged: usize,
    far: Vec<Known>,
    frequency: HashMap<u64, u32>,
    seen: u64,
    found: MixedUp,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MixedUp {
    /// Texts that were compared with their neighbours.
    pub tested: u64,
    /// Those that fit a neighbour better.
    pub mixed: u64,
    /// Texts that were also compared with rows drawn at random.
    pub tested_by_chance: u64,
    /// Those that fit one of them better.
    pub mixed_by_chance: u64,
    /// The clearest cases.
    pub suspects: Vec<Suspect>,
}

/// A text that fits another row better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Suspect {
    /// Key of the row.
    pub key: String,
    /// Where it is.
    pub place: Place,
    /// Key of the row that the text fits.
    pub other_key: String,
    /// Where that is.
    pub other_place: Place,
    /// Share of the text's words, by weight, that its own row has.
    pub own: f64,
    /// Share that the other row has.
    pub other: f64,
}

/// What became of a row that was judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// A neighbour that it fits better.
    pub suspect: Option<Suspect>,
    /// Whether a row drawn at random fits better; `None` where there were too few.
    pub by_chance: Option<bool>,
}

#[derive(Clone, Debug)]
struct Known {
    key: String,
    place: Place,
    stems: Stems,
}

impl MixUps {
    /// Takes the next row; the answer is about a row that came [`NEIGHBOURS`] rows before.
    pub fn add(&mut self, key: &str, place: Place, stems: &Stems) -> Option<Judged> {
        self.seen += 1;
        for stem in &stems.sources {
            if let Some(rows) = self.frequency.get_mut(stem) {
                *rows += 1;
            } else if self.frequency.len() < ROOM {
                self.frequency.insert(*stem, 1);
            }
        }
        self.window.push_back(Known { key: key.to_owned(), place, stems: stems.clone() });
        let judged = (self.window.len() > self.judged + NEIGHBOURS).then(|| self.judge_next());
        if self.window.len() > 2 * NEIGHBOURS {
            self.retire();
        }
        judged.flatten()
    }

    /// Judges the rows that wait for others.
    pub fn finish(mut self) -> MixedUp {
        while self.judged < self.window.len() {
            self.judge_next();
        }
        self.found
    }

    fn judge_next(&mut self) -> Option<Judged> {
        let at = self.judged;
        self.judged += 1;
        let row = &self.window[at];
        if row.stems.text.len() < LEAST_WORDS {
            return None;
        }
        let others =
            (0..self.window.len()).filter(|other| *other != at && other.abs_diff(at) <= NEIGHBOURS);
        let best = others.filter_map(|other| self.fits_better(row, &self.window[other]));
        let suspect = best.max_by(|a, b| a.other.total_cmp(&b.other));
        let enough = self.far.len() >= 2 * NEIGHBOURS;
        let drawn = (0..2 * NEIGHBOURS as u64)
            .map(|n| &self.far[mixed(mixed(self.seen) ^ n) as usize % self.far.len()]);
        let by_chance =
            enough.then(|| drawn.into_iter().any(|other| self.fits_better(row, other).is_some()));
        let judged = Judged { suspect, by_chance };
        self.found.count(&judged);
        Some(judged)
    }

    fn fits_better(&self, row: &Known, other: &Known) -> Option<Suspect> {
        let (mut all, mut own, mut theirs, mut more) = (0.0, 0.0, 0.0, 0isize);
        for stem in &row.stems.text {
            let rows = self.frequency.get(stem).copied().unwrap_or(0);
            let weight = (1.0 + self.seen as f64 / (1.0 + f64::from(rows))).ln();
            let (is_own, is_theirs) =
                (has(&row.stems.sources, *stem), has(&other.stems.sources, *stem));
            all += weight;
            own += if is_own { weight } else { 0.0 };
            theirs += if is_theirs { weight } else { 0.0 };
            more += isize::from(is_theirs) - isize::from(is_own);
        }
        let (own, theirs) = (own / f64::max(all, 1e-9), theirs / f64::max(all, 1e-9));
        let better = own <= MOST_OWN && theirs - own >= LEAST_MARGIN;
        (better && more >= LEAST_WORDS as isize).then(|| Suspect {
            key: row.key.clone(),
            place: row.place,
            other_key: other.key.clone(),
            other_place: other.place,
            own,
            other: theirs,
        })
    }

    /// A row that leaves the window may stand for chance, each of those before with equal chance.
    fn retire(&mut self) {
        let Some(row) = self.window.pop_front() else { return };
        self.judged = self.judged.saturating_sub(1);
        if self.far.len() < FAR {
            self.far.push(row);
            return;
        }
        let at = mixed(self.seen) % self.seen.max(1);
        if let Some(place) = self.far.get_mut(at as usize) {
            *place = row;
        }
    }
}

impl MixedUp {
    /// Adds what was found in other rows.
    pub fn merge(&mut self, other: &MixedUp) {
        self.tested += other.tested;
        self.mixed += other.mixed;
        self.tested_by_chance += other.tested_by_chance;
        self.mixed_by_chance += other.mixed_by_chance;
        self.suspects.extend(other.suspects.iter().cloned());
        self.keep_clearest();
    }

    /// Share of the texts that fit a neighbour better.
    pub fn rate(&self) -> f64 {
        self.mixed as f64 / self.tested.max(1) as f64
    }

    /// Share that fit rows drawn at random better.
    pub fn chance(&self) -> f64 {
        self.mixed_by_chance as f64 / self.tested_by_chance.max(1) as f64
    }

    fn count(&mut self, judged: &Judged) {
        self.tested += 1;
        if let Some(is_better) = judged.by_chance {
            self.tested_by_chance += 1;
            self.mixed_by_chance += u64::from(is_better);
        }
        if let Some(suspect) = &judged.suspect {
            self.mixed += 1;
            self.suspects.push(suspect.clone());
            self.keep_clearest();
        }
    }

    fn keep_clearest(&mut self) {
        let margin = |suspect: &Suspect| suspect.other - suspect.own;
        self.suspects
            .sort_by(|a, b| margin(b).total_cmp(&margin(a)).then_with(|| a.place.cmp(&b.place)));
        self.suspects.truncate(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Texts;

    const THINGS: [&str; 12] = [
        "red apple",
        "wooden chair",
        "black cat",
        "green frog",
        "old clock",
        "fast car",
        "blue whale",
        "tall tower",
        "small mouse",
        "yellow bus",
        "sailing boat",
        "sleeping dog",
    ];
    const PLACES: [&str; 7] = [
        "kitchen table",
        "city street",
        "snowy mountain",
        "desert road",
        "forest lake",
        "castle garden",
        "school yard",
    ];

    fn sentence(row: usize) -> String {
        format!("A {} near a {}.", THINGS[row % 12], PLACES[row % 7])
    }

    fn found(rows: usize, text_of: impl Fn(usize) -> usize) -> MixedUp {
        let mut mix_ups = MixUps::default();
        for row in 0..rows {
            let (synthetic, generated) = (sentence(row), sentence(text_of(row)));
            let texts = Texts {
                synthetic: Some(&synthetic),
                generated: Some(&generated),
                ..Texts::default()
            };
            let place = Place { shard: 0, row: row as u32 };
            mix_ups.add(&row.to_string(), place, &Stems::of(&texts));
        }
        mix_ups.finish()
    }

    #[test]
    fn swapped_neighbours_are_found_and_honest_rows_are_not() {
        let honest = found(200, |row| row);
        assert_eq!((honest.tested, honest.mixed), (200, 0));
        let swapped = found(200, |row| row ^ 1);
        assert_eq!(swapped.mixed, 200);
        let suspect = &swapped.suspects[0];
        let (row, other) = (suspect.place.row, suspect.other_place.row);
        assert_eq!(row ^ 1, other, "{suspect:?}");
    }

    #[test]
    fn one_pair_among_many_is_found() {
        let one = found(200, |row| if row == 100 || row == 101 { 201 - row } else { row });
        assert_eq!(one.mixed, 2);
        assert_eq!(one.suspects.len(), 2);
    }

    /// A text that says the same of every picture fits strangers as well as neighbours.
    #[test]
    fn chance_is_measured_by_the_same_comparison() {
        let same = found(400, |_| 3);
        assert!(same.tested_by_chance > 300, "{same:?}");
        assert!((same.rate() - same.chance()).abs() < 0.35, "{same:?}");
        let honest = found(400, |row| row);
        assert_eq!((honest.rate(), honest.chance()), (0.0, 0.0));
    }
}
