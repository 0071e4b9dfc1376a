//! In which order the rows of an epoch come: a pure function of seed, epoch and rows.
//!
//! Neighbouring rows are read together, as a block, because no format gives single rows cheaply. The
//! blocks of all files are permuted, some of them at a time make a pool, and the rows of a pool are
//! permuted among themselves. So any place of an epoch is found without passing through the ones
//! before it.

use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The rows that are used, in blocks.
pub(super) struct Order {
    /// Numbers in the source, ascending.
    rows: Vec<u32>,
    /// Places in `rows`.
    blocks: Vec<Range<usize>>,
}

/// The order of one epoch.
pub(super) struct Epoch<'a> {
    order: &'a Order,
    seed: u64,
    number: u64,
    /// Blocks in the order of this epoch, a pool each.
    pools: Vec<Vec<usize>>,
}

/// Where randomness is drawn from: each purpose has numbers of its own.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Blocks,
    Pool,
    Row,
}

/// Draws that depend on nothing but these four; `which` is the number of a pool or of a row. The key of
/// a ChaCha stream, whose numbers are the same on every machine.
pub(super) fn draws(seed: u64, epoch: u64, purpose: Purpose, which: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, number) in key.chunks_exact_mut(8).zip([seed, epoch, purpose as u64, which]) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

impl Order {
    /// Blocks of at most so many rows of a file; none goes over the end of one.
    pub(super) fn new(files: impl Iterator<Item = u64>, rows: Vec<u32>, block: usize) -> Order {
        let (mut blocks, mut from, mut first) = (Vec::new(), 0, 0u64);
        for file in files {
            let end = first + file;
            while first < end {
                let last = end.min(first + block as u64);
                let to = from + rows[from..].partition_point(|&row| u64::from(row) < last);
                if from < to {
                    blocks.push(from..to);
                }
                (from, first) = (to, last);
            }
        }
        Order { rows, blocks }
    }

    /// How many rows are used.
    pub(super) fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Numbers of the rows that are used, ascending.
    pub(super) fn numbers(&self) -> &[u32] {
        &self.rows
    }

    /// The order of an epoch, with pools of so many blocks.
    pub(super) fn epoch(&self, seed: u64, number: u64, pool: usize) -> Epoch<'_> {
        let mut blocks: Vec<usize> = (0..self.blocks.len()).collect();
        blocks.shuffle(&mut draws(seed, number, Purpose::Blocks, 0));
        let pools = blocks.chunks(pool).map(<[usize]>::to_vec).collect();
        Epoch { order: self, seed, number, pools }
    }
}

impl Epoch<'_> {
    /// The pools from the one on that holds a place of the epoch: the place of the first row of each,
    /// and the numbers of its rows in order.
    pub(super) fn pools_from(&self, place: u64) -> impl Iterator<Item = (u64, Vec<u32>)> {
        let mut next = 0;
        let places = self.pools.iter().enumerate().map(move |(number, pool)| {
            let rows: usize = pool.iter().map(|&block| self.order.blocks[block].len()).sum();
            let first = next;
            next += rows as u64;
            (number, first, next)
        });
        let wanted = places.filter(move |(_, _, end)| *end > place);
        wanted.map(|(number, first, _)| (first, self.pool(number)))
    }

    fn pool(&self, number: usize) -> Vec<u32> {
        let blocks = self.pools[number].iter().map(|&block| self.order.blocks[block].clone());
        let mut rows: Vec<u32> = blocks.flat_map(|block| self.order.rows[block].to_vec()).collect();
        rows.shuffle(&mut draws(self.seed, self.number, Purpose::Pool, number as u64));
        rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(order: &Order, seed: u64, epoch: u64, pool: usize) -> Vec<u32> {
        order.epoch(seed, epoch, pool).pools_from(0).flat_map(|(_, rows)| rows).collect()
    }

    proptest! {
        #[test]
        fn every_row_comes_once_and_any_place_is_found(
            files in prop::collection::vec(0u64..40, 1..6), every in 1u32..5, block in 1usize..12,
            pool in 1usize..5, seed: u64, epoch in 0u64..9, place in 0usize..200,
        ) {
            let total: u64 = files.iter().sum();
            let rows: Vec<u32> = (0..total as u32).filter(|row| row % every != 1).collect();
            let order = Order::new(files.iter().copied(), rows.clone(), block);
            let all = whole(&order, seed, epoch, pool);
            let mut sorted = all.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &rows);
            // The twin passes through all that comes before.
            let place = place.min(all.len());
            let epoch = order.epoch(seed, epoch, pool);
            let mut from = epoch.pools_from(place as u64).peekable();
            let skip = from.peek().map_or(0, |(first, _)| place - *first as usize);
            let found: Vec<u32> = from.flat_map(|(_, rows)| rows).skip(skip).collect();
            prop_assert_eq!(&found[..], &all[place..]);
        }
    }

    #[test]
    fn blocks_end_where_files_end() {
        let order = Order::new([5, 0, 7].into_iter(), (0..12).collect(), 3);
        assert_eq!(order.blocks, [0..3, 3..5, 5..8, 8..11, 11..12]);
    }

    #[test]
    fn epochs_and_seeds_differ_and_each_is_always_the_same() {
        let order = Order::new([1000].into_iter(), (0..1000).collect(), 10);
        let one = whole(&order, 7, 0, 4);
        assert_eq!(one, whole(&order, 7, 0, 4));
        assert_ne!(one, whole(&order, 7, 1, 4));
        assert_ne!(one, whole(&order, 8, 0, 4));
        let moved = one.iter().zip(0..).filter(|(row, place)| **row != *place).count();
        assert!(moved > 950, "{moved}");
        let neighbours = one.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
        assert!(
            neighbours < 60,
            "{neighbours} of 1,000 rows are still followed by their neighbour"
        );
    }

    /// Were these numbers to change, every training that is under way would go on with other data.
    #[test]
    fn the_order_of_a_seed_is_written_down() {
        let order = Order::new([12].into_iter(), (0..12).collect(), 3);
        assert_eq!(whole(&order, 1, 2, 2), [7, 8, 10, 9, 6, 11, 5, 4, 2, 3, 0, 1]);
    }
}
