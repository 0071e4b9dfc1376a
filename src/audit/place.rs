//! Where a row is, and a few rows that are kept as examples of a figure.
//!
//! Examples are those with the smallest hashes of their keys: a sample that depends neither on the
//! order of the rows nor on how they are divided, so that parts add up to the whole.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// Examples that are kept of each figure.
const KEPT: usize = 3;

/// A row of a run.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub struct Place {
    /// Number of the shard.
    pub shard: u32,
    /// Place among the refined rows of the shard.
    pub row: u32,
}

impl Place {
    /// Depends on nothing but the place, so that a choice by it is the same each time.
    pub fn hash(self) -> u64 {
        mixed(u64::from(self.shard) << 32 | u64::from(self.row))
    }
}

/// A few rows, the same ones in whatever order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Examples(Vec<(u64, Place)>);

impl Examples {
    /// Keeps the row if it is among the first by its hash.
    pub(super) fn add(&mut self, hash: u64, place: Place) {
        let at = self.0.partition_point(|known| *known < (hash, place));
        if at < KEPT {
            self.0.truncate(KEPT - 1);
            self.0.insert(at, (hash, place));
        }
    }

    pub(super) fn merge(&mut self, other: &Examples) {
        other.0.iter().for_each(|&(hash, place)| self.add(hash, place));
    }

    pub(super) fn places(&self) -> Vec<Place> {
        self.0.iter().map(|(_, place)| *place).collect()
    }
}

/// A hash that is the same on every machine and in every version: FNV-1a, its bits mixed.
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Each bit of the result depends on each bit of the number.
pub(super) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rows_are_kept_in_whatever_order_they_come() {
        let rows: Vec<(u64, Place)> =
            (0..20).map(|row| (mixed(u64::from(row)), Place { shard: 0, row })).collect();
        let kept = |rows: &mut dyn Iterator<Item = &(u64, Place)>| {
            let mut examples = Examples::default();
            rows.for_each(|&(hash, place)| examples.add(hash, place));
            examples
        };
        let forward = kept(&mut rows.iter());
        assert_eq!(forward.places().len(), KEPT);
        assert_eq!(forward, kept(&mut rows.iter().rev()));
        let mut halves = kept(&mut rows[..7].iter());
        halves.merge(&kept(&mut rows[7..].iter()));
        assert_eq!(forward, halves);
    }
}
