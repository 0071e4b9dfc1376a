//! Where the pictures of a data set are.

use anyhow::Result;

use crate::sample::Picture;

/// A picture of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its name in the data set.
    pub key: String,
    /// Its bytes, or why there are none.
    pub picture: Picture,
}

/// The pictures of a data set, which stay where they are until they are asked for.
pub struct Pictures {}

impl Pictures {
    /// How many there are.
    pub fn len(&self) -> usize {
        0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them in order, `at_a_time` in memory.
    ///
    /// # Errors
    /// When the first file cannot be read. What goes wrong later is an error at its place.
    pub fn batches(
        &self,
        _at_a_time: usize,
    ) -> Result<impl Iterator<Item = Result<Vec<Shown>>> + '_> {
        Ok(std::iter::empty())
    }
}
