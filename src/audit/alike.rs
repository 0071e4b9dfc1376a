//! Pictures that look alike although their texts say quite different things: one of the two is wrong.
//!
//! Candidates are rows whose perceptual hashes differ in at most [`MAX_DISTANCE`] bits. They are not
//! found by comparing all pairs: a hash is four bands of 16 bits, and two that differ in three bits
//! share a band. A hash alone takes one star for another, so whoever has the pictures confirms the
//! candidates ([`Alike::confirmed`]). `refine` drops copies within a shard, so what is found lies mostly
//! in two shards. Nothing here reads a picture; memory is a bounded number of hashes and words.

use std::collections::BTreeMap;
use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::place::Place;
use crate::audit::place::hash_of;
use crate::audit::stems::Stems;
use crate::audit::stems::overlap;
use crate::sample::Sample;

/// Bits of 64 in which hashes may differ: the most that four bands find without looking beside them.
pub const MAX_DISTANCE: u32 = 3;
/// Texts about one thing share its noun at least; one word in ten may be common to any two.
pub const MOST_COMMON: f32 = 0.1;
/// A text of one word is a label, which another word may say as well.
const LEAST_WORDS: usize = 2;
/// A hash with fewer bits of either sort is that of a nearly plain picture, and close to all such.
const LEAST_BITS: u32 = 6;
/// How far width over height may differ: sides that were rounded.
const MAX_STRETCH: f32 = 1.04;
/// Pictures that are remembered, some 100 MB; later ones are still compared with these.
const ROOM: usize = 400_000;
/// Pictures of one band that are remembered, so that a million copies do not take a day.
const ROOM_IN_BAND: usize = 1_000;
/// Rows whose candidates are kept to be confirmed, those of the same bytes first; candidates of a row.
const KEPT_ROWS: usize = 300;
const KEPT_EACH: usize = 4;
/// Confirmed pairs that are kept.
const SHOWN: usize = 50;

/// Looks at rows in their order.
#[derive(Clone, Debug, Default)]
pub struct LookAlikes {
    rows: Vec<Known>,
    /// For each band, its value to the places in `rows` that have it.
    bands: [HashMap<u16, Vec<u32>>; 4],
    found: Alike,
    /// Candidates of the rows that come first by this order: a sample that depends on their keys alone.
    candidates: BTreeMap<(bool, u64), Vec<Pair>>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alike {
    /// Rows that were compared with those before them: not blank, and with a text of two words.
    pub compared: u64,
    /// Those whose hash is nearly that of an earlier picture of the same shape.
    pub alike: u64,
    /// Those of them whose text has next to nothing in common with the text of such a picture.
    pub differ: u64,
    /// Of those, the rows whose pictures were compared too.
    pub tested: u64,
    /// Those whose pictures look the same indeed.
    pub confirmed: u64,
    /// Some of these, with the picture that they look like.
    pub pairs: Vec<Pair>,
}

/// Two rows that look alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pair {
    /// Key of the later row.
    pub key: String,
    /// Where it is.
    pub place: Place,
    /// Key of the earlier one.
    pub other_key: String,
    /// Where that is.
    pub other_place: Place,
    /// Whether both pictures were one and the same file.
    pub same_bytes: bool,
    /// Bits in which their hashes differ.
    pub distance: u32,
    /// What their texts have in common, as a share of all words in them.
    pub common: f32,
}

#[derive(Clone, Debug)]
struct Known {
    key: String,
    place: Place,
    phash: u64,
    /// Hash of the original bytes, where it is known.
    bytes: Option<u64>,
    /// Width over height.
    shape: f32,
    words: Vec<u64>,
}

impl LookAlikes {
    /// Takes the next row.
    pub fn add(&mut self, sample: &Sample, stems: &Stems, place: Place) {
        let (width, height) = (sample.image.original_width, sample.image.original_height);
        let row = Known {
            key: sample.item.key.clone(),
            place,
            phash: sample.phash,
            bytes: (!sample.sha256.is_empty()).then(|| hash_of(sample.sha256.as_bytes())),
            shape: width as f32 / height.max(1) as f32,
            words: stems.text.clone(),
        };
        if row.can_be_compared() {
            self.compare(&row);
            self.remember(row);
        }
    }

    /// What was found; `pairs` are candidates until they are [confirmed](Alike::confirmed).
    pub fn finish(self) -> Alike {
        let pairs = self.candidates.into_values().flatten().collect();
        Alike { pairs, ..self.found }
    }

    fn compare(&mut self, row: &Known) {
        let near = self.near(row.phash);
        let near: Vec<&Known> = near
            .into_iter()
            .map(|at| &self.rows[at])
            .filter(|other| row.has_shape_of(other))
            .collect();
        let mut pairs: Vec<Pair> = near.iter().filter_map(|other| row.differs(other)).collect();
        self.found.compared += 1;
        self.found.alike += u64::from(!near.is_empty());
        self.found.differ += u64::from(!pairs.is_empty());
        if pairs.is_empty() {
            return;
        }
        pairs.sort_by_key(|pair| (!pair.same_bytes, pair.distance, pair.other_place));
        pairs.truncate(KEPT_EACH);
        let order = (!pairs[0].same_bytes, hash_of(row.key.as_bytes()));
        self.candidates.insert(order, pairs);
        if self.candidates.len() > KEPT_ROWS {
            self.candidates.pop_last();
        }
    }

    /// Earlier rows with nearly this hash, in their order.
    fn near(&self, phash: u64) -> Vec<usize> {
        let mut near = Vec::new();
        for (known, band) in self.bands.iter().zip(bands(phash)) {
            let same = known.get(&band).into_iter().flatten().map(|at| *at as usize);
            near.extend(same.filter(|at| distance(self.rows[*at].phash, phash) <= MAX_DISTANCE));
        }
        near.sort_unstable();
        near.dedup();
        near
    }

    fn remember(&mut self, row: Known) {
        if self.rows.len() >= ROOM {
            return;
        }
        let at = self.rows.len() as u32;
        for (known, band) in self.bands.iter_mut().zip(bands(row.phash)) {
            let same = known.entry(band).or_default();
            if same.len() < ROOM_IN_BAND {
                same.push(at);
            }
        }
        self.rows.push(row);
    }
}

impl Alike {
    /// Keeps the candidates that look the same indeed: `is_same` has an answer for each of `pairs`, or
    /// none where a picture could not be read.
    pub fn confirmed(mut self, is_same: &[Option<bool>]) -> Alike {
        let pairs = std::mem::take(&mut self.pairs);
        (self.tested, self.confirmed) = (0, 0);
        let mut judged = pairs.into_iter().zip(is_same).peekable();
        while let Some((pair, same)) = judged.next() {
            let (place, mut answers, mut found) = (pair.place, vec![*same], vec![(pair, *same)]);
            while let Some((pair, same)) = judged.next_if(|(pair, _)| pair.place == place) {
                answers.push(*same);
                found.push((pair, *same));
            }
            self.tested += u64::from(answers.iter().any(Option::is_some));
            let same = found.into_iter().find(|(_, same)| *same == Some(true));
            self.confirmed += u64::from(same.is_some());
            self.pairs.extend(same.map(|(pair, _)| pair).filter(|_| self.pairs.len() < SHOWN));
        }
        self
    }
}

impl Known {
    fn can_be_compared(&self) -> bool {
        let bits = self.phash.count_ones();
        (LEAST_BITS..=64 - LEAST_BITS).contains(&bits) && self.words.len() >= LEAST_WORDS
    }

    fn has_shape_of(&self, other: &Known) -> bool {
        (1.0 / MAX_STRETCH..=MAX_STRETCH).contains(&(self.shape / other.shape.max(1e-6)))
    }

    fn differs(&self, other: &Known) -> Option<Pair> {
        let common = overlap(&self.words, &other.words);
        (common <= MOST_COMMON).then(|| Pair {
            key: self.key.clone(),
            place: self.place,
            other_key: other.key.clone(),
            other_place: other.place,
            same_bytes: self.bytes.is_some() && self.bytes == other.bytes,
            distance: distance(self.phash, other.phash),
            common,
        })
    }
}

fn distance(one: u64, other: u64) -> u32 {
    (one ^ other).count_ones()
}

fn bands(hash: u64) -> [u16; 4] {
    [48, 32, 16, 0].map(|shift| (hash >> shift) as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(place: u32, phash: u64, words: &[u64]) -> Known {
        let place = Place { shard: 0, row: place };
        let mut words = words.to_vec();
        words.sort_unstable();
        words.dedup();
        Known { key: place.row.to_string(), place, phash, bytes: None, shape: 1.0, words }
    }

    fn found(rows: &[Known]) -> Alike {
        let mut all = LookAlikes::default();
        for row in rows.iter().filter(|row| row.can_be_compared()) {
            all.compare(row);
            all.remember(row.clone());
        }
        all.finish()
    }

    /// What [`LookAlikes`] has to count, counted slowly: all pairs.
    fn slow(rows: &[Known]) -> (u64, u64, u64) {
        let rows: Vec<&Known> = rows.iter().filter(|row| row.can_be_compared()).collect();
        let (mut alike, mut differ) = (0, 0);
        for (at, row) in rows.iter().enumerate() {
            let is_near = |other: &&&Known| {
                (row.phash ^ other.phash).count_ones() <= MAX_DISTANCE && row.has_shape_of(other)
            };
            let near: Vec<_> = rows[..at].iter().filter(is_near).collect();
            alike += u64::from(!near.is_empty());
            differ += u64::from(near.iter().any(|other| {
                let common = row.words.iter().filter(|word| other.words.contains(word)).count();
                let all = row.words.len() + other.words.len() - common;
                common as f32 <= MOST_COMMON * all as f32
            }));
        }
        (rows.len() as u64, alike, differ)
    }

    const HASH: u64 = 0x0ff0_3c3c_5a5a_9669;

    #[test]
    fn a_copy_with_another_text_is_found_and_one_with_the_same_is_not() {
        let rows = [
            row(0, HASH, &[1, 2, 3]),
            row(1, HASH ^ 0b111, &[1, 2, 4]),
            row(2, HASH ^ (1 << 63), &[7, 8, 9]),
            row(3, HASH ^ 0b1111, &[7, 8, 9]),
        ];
        let alike = found(&rows);
        assert_eq!((alike.compared, alike.alike, alike.differ), (4, 2 + 1, 2));
        let pairs: Vec<_> = alike.pairs.iter().map(|p| (p.place.row, p.other_place.row)).collect();
        assert!(pairs.contains(&(2, 0)) && pairs.contains(&(3, 1)), "{pairs:?}");
        assert!(alike.pairs.iter().all(|pair| pair.common == 0.0));
    }

    #[test]
    fn plain_pictures_single_words_and_other_shapes_are_passed_over() {
        let wide = Known { shape: 2.0, ..row(3, HASH, &[8, 9]) };
        let rows = [row(0, 0b11, &[1, 2]), row(1, 0b11, &[3, 4]), row(2, HASH, &[1, 2]), wide];
        let alike = found(&rows);
        assert_eq!((alike.compared, alike.alike), (2, 0));
        assert_eq!(found(&[row(0, HASH, &[1, 2]), row(1, HASH, &[3])]).compared, 1);
    }

    #[test]
    fn what_the_pictures_do_not_confirm_is_not_shown() {
        let rows = [
            row(0, HASH, &[1, 2]),
            row(1, HASH, &[3, 4]),
            row(2, HASH ^ 1, &[5, 6]),
            row(3, HASH ^ 2, &[7, 8]),
        ];
        let alike = found(&rows);
        assert_eq!(alike.pairs.len(), 1 + 2 + 3);
        let one = alike.pairs.iter().map(|pair| Some(pair.place.row == 2 && pair.distance == 1));
        let one = alike.clone().confirmed(&one.collect::<Vec<_>>());
        assert_eq!((one.tested, one.confirmed, one.pairs.len()), (3, 1, 1));
        assert_eq!(one.differ, 3);
        let unread = alike.confirmed(&[None; 6]);
        assert_eq!((unread.tested, unread.confirmed, unread.pairs.len()), (0, 0, 0));
    }

    #[test]
    fn one_file_in_two_rows_is_tested_before_all_that_only_look_alike() {
        let mut rows: Vec<Known> =
            (0..400).map(|at| row(at, HASH, &[2 * u64::from(at), 2 * u64::from(at) + 1])).collect();
        rows[7].bytes = Some(1);
        rows[399].bytes = Some(1);
        let alike = found(&rows);
        let first = &alike.pairs[0];
        assert!(first.same_bytes && alike.pairs.len() <= KEPT_ROWS * KEPT_EACH, "{first:?}");
        assert_eq!((first.place.row, first.other_place.row, alike.differ), (399, 7, 399));
    }

    proptest! {
        #[test]
        fn bands_find_what_all_pairs_find(
            // Few hashes, a few bits apart, so that many are alike.
            rows in prop::collection::vec(
                (0usize..4, 0u32..64, 0u32..64, 0u32..64, prop::collection::vec(0u64..6, 0..5)),
                0..40,
            ),
        ) {
            let bases = [HASH, !HASH, HASH.rotate_left(7), 0x1f];
            let rows: Vec<Known> = (0u32..)
                .zip(&rows)
                .map(|(at, (base, a, b, c, words))| {
                    row(at, bases[*base] ^ (1u64 << a) ^ (1u64 << b) ^ (1u64 << c), words)
                })
                .collect();
            let alike = found(&rows);
            prop_assert_eq!((alike.compared, alike.alike, alike.differ), slow(&rows));
        }
    }
}
