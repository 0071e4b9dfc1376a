//! Words for objects that came and went between the texts of two runs.

use std::collections::HashMap;

use serde::Serialize;

use crate::audit::frequent::Frequent;
use crate::curate::diff::row::Object;
use crate::curate::diff::row::Row;

/// Words that are remembered; counts are exact up to so many different ones.
const ROOM: usize = 50_000;

/// A word for an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectCount {
    /// As the texts write it, in small letters.
    pub word: String,
    /// Rows in which it came or went.
    pub rows: u64,
    /// Those of them in which no source has it.
    pub nowhere: u64,
}

pub(super) struct Objects {
    gained: Counts,
    lost: Counts,
}

struct Counts {
    all: Frequent,
    nowhere: Frequent,
}

impl Default for Objects {
    fn default() -> Objects {
        Objects { gained: Counts::new(), lost: Counts::new() }
    }
}

impl Objects {
    pub(super) fn add(&mut self, a: &Row, b: &Row) {
        self.gained.add(&b.objects, &a.objects);
        self.lost.add(&a.objects, &b.objects);
    }

    /// The most frequent that came, and that went.
    pub(super) fn finish(self, most: usize) -> (Vec<ObjectCount>, Vec<ObjectCount>) {
        (self.gained.top(most), self.lost.top(most))
    }
}

impl Counts {
    fn new() -> Counts {
        Counts { all: Frequent::new(ROOM), nowhere: Frequent::new(ROOM) }
    }

    /// Counts what is here and not there.
    fn add(&mut self, here: &[Object], there: &[Object]) {
        for object in here {
            if there.iter().all(|other| other.word != object.word) {
                self.all.count(&object.word);
                if object.nowhere {
                    self.nowhere.count(&object.word);
                }
            }
        }
    }

    fn top(&self, most: usize) -> Vec<ObjectCount> {
        let nowhere = self.nowhere.top(ROOM);
        let nowhere: HashMap<&str, u64> = nowhere.iter().map(|c| (&*c.text, c.rows)).collect();
        let count = |count: crate::audit::frequent::Count| ObjectCount {
            nowhere: nowhere.get(count.text.as_str()).copied().unwrap_or(0),
            word: count.text,
            rows: count.rows,
        };
        self.all.top(most).into_iter().map(count).collect()
    }
}
