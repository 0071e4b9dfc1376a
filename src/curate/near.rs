//! A text-embedding model asked which words from nowhere are near what the sources of their row say.
//!
//! Words and phrases are embedded each by itself, and each once for many rows. How good the answers are is
//! a matter of the checkpoint; without one nothing is near.

use std::collections::HashMap;
use std::collections::HashSet;

use anyhow::Result;

use crate::audit::Texts;
use crate::audit::near::Near;
use crate::audit::near::pieces;
use crate::audit::near::words_to_compare;
use crate::clip::Embedder;
use crate::clip::Length;
use crate::sample::Audit;
use crate::sample::Origin;

/// Rows whose words are embedded together.
const ROWS: usize = 256;
/// Words and phrases that the model reads together.
const BATCH: usize = 64;
/// Embeddings that are remembered: some 40 MB of 512 numbers each.
const ROOM: usize = 20_000;

/// A model and what it has read.
pub struct Nearness<'m> {
    embedder: &'m Embedder,
    threshold: f32,
    /// Embeddings of length one.
    known: HashMap<String, Vec<f32>>,
}

/// What is asked about a row.
struct Asked {
    words: Vec<String>,
    pieces: Vec<(String, Origin)>,
}

impl<'m> Nearness<'m> {
    /// One that finds near what has at least this cosine.
    pub fn new(embedder: &'m Embedder, threshold: f32) -> Nearness<'m> {
        Nearness { embedder, threshold, known: HashMap::new() }
    }

    /// What is near, for each row and the verdict on it without a model.
    ///
    /// # Errors
    /// When the model fails: memory.
    pub fn of(&mut self, rows: &[(Texts<'_>, &Audit)]) -> Result<Vec<Vec<Near>>> {
        let mut near = Vec::with_capacity(rows.len());
        for some in rows.chunks(ROWS) {
            let asked: Vec<Asked> =
                some.iter().map(|(texts, audit)| Asked::of(texts, audit)).collect();
            self.read(&asked)?;
            near.extend(asked.iter().map(|asked| self.near(asked)));
        }
        Ok(near)
    }

    /// Embeds what was not read before.
    fn read(&mut self, asked: &[Asked]) -> Result<()> {
        if self.known.len() > ROOM {
            self.known.clear();
        }
        let mut seen = HashSet::new();
        let new: Vec<&str> = asked
            .iter()
            .flat_map(Asked::all)
            .filter(|text| !self.known.contains_key(*text) && seen.insert(*text))
            .collect();
        for some in new.chunks(BATCH) {
            let texts: Vec<Option<&str>> = some.iter().copied().map(Some).collect();
            let made = self.embedder.texts(&texts, Length::One)?;
            for (text, embedding) in some.iter().zip(made) {
                self.known.insert((*text).to_owned(), embedding.unwrap_or_default());
            }
        }
        Ok(())
    }

    fn near(&self, asked: &Asked) -> Vec<Near> {
        let found = asked.words.iter().filter_map(|word| {
            let cosine = |piece: &str| Some(dot(self.known.get(word)?, self.known.get(piece)?));
            let mut best: Option<(f32, Origin)> = None;
            for (piece, origin) in &asked.pieces {
                let Some(cosine) = cosine(piece).filter(|cosine| *cosine >= self.threshold) else {
                    continue;
                };
                if best.is_none_or(|(before, _)| cosine > before) {
                    best = Some((cosine, *origin));
                }
            }
            best.map(|(_, origin)| Near { word: word.clone(), origin })
        });
        found.collect()
    }
}

impl Asked {
    fn of(texts: &Texts<'_>, audit: &Audit) -> Asked {
        let words = words_to_compare(audit);
        let pieces = if words.is_empty() { Vec::new() } else { pieces(texts) };
        Asked { words, pieces }
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        let pieces = self.pieces.iter().map(|(piece, _)| piece.as_str());
        self.words.iter().map(String::as_str).chain(pieces)
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}
