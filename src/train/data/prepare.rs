//! An encoded row to pixels and ids, on many threads: each row's draws are its own, so that the threads
//! have no say in them.

use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use bytes::Bytes;
use fast_image_resize::Resizer;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPool;
use rayon::ThreadPoolBuilder;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::IntoParallelRefIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use crate::decode;
use crate::decode::ClipTransform;
use crate::decode::Limits;
use crate::sample::Item;
use crate::sample::Picture;
use crate::train::data::Batch;
use crate::train::data::Position;
use crate::train::data::Shared;
use crate::train::data::Text;
use crate::train::data::order::Purpose;
use crate::train::data::order::draws;
use crate::train::data::texts_of;

/// What is kept of a row until its batch is made.
pub(super) struct Encoded {
    row: u32,
    key: String,
    /// The bytes, or why there are none.
    picture: Result<Bytes, String>,
    /// In the order of [`Text::ALL`].
    texts: [Option<String>; 3],
}

/// How rows become a batch.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    /// Window and text are drawn.
    Training { seed: u64 },
    /// The evaluation transform, and this text or the best.
    Evaluation { text: Option<Text> },
}

/// Makes batches.
pub(super) struct Preparer {
    shared: Arc<Shared>,
    threads: ThreadPool,
    manner: Manner,
    side: u32,
}

/// A row that is ready but for its pixels, which are in their place already.
struct Ready {
    text: Text,
    ids: Vec<u32>,
}

impl Encoded {
    pub(super) fn of(row: u32, item: Item) -> Encoded {
        let texts = texts_of(&item).map(|text| text.map(str::to_owned));
        let picture = match item.picture {
            Picture::Bytes { bytes, .. } => Ok(bytes),
            Picture::Url(url) => Err(format!("only an address: {url}")),
            Picture::Absent { reason, detail } => {
                Err(format!("{} {detail}", reason.as_str()).trim_end().to_owned())
            }
        };
        Encoded { row, key: item.key, picture, texts }
    }
}

impl Preparer {
    pub(super) fn new(shared: Arc<Shared>, manner: Manner, side: u32) -> Result<Preparer> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(shared.config.workers)
            .thread_name(|number| format!("pictures-{number}"))
            .build()
            .context("cannot start the threads that decode pictures")?;
        Ok(Preparer { shared, threads, manner, side })
    }

    /// The batch of these rows. One whose picture cannot be used is left out, with the reason.
    pub(super) fn batch(
        &self,
        rows: Vec<Encoded>,
        position: Position,
        next: Position,
        first: usize,
    ) -> Batch {
        let size = 3 * self.side as usize * self.side as usize;
        let mut pixels = vec![0.0; rows.len() * size];
        let made: Vec<Result<Ready, String>> = self.threads.install(|| {
            let rows = rows.par_iter().zip(pixels.par_chunks_exact_mut(size));
            let work = |resizer: &mut Resizer, (row, out): (&Encoded, &mut [f32])| {
                self.row(row, position.epoch, resizer, out)
            };
            rows.map_init(Resizer::new, work).collect()
        });
        let (mut tokens, mut texts) = (Vec::new(), Vec::new());
        let (mut numbers, mut keys) = (Vec::new(), Vec::new());
        let mut unreadable = Vec::new();
        for (place, (row, made)) in rows.into_iter().zip(made).enumerate() {
            match made {
                Ok(Ready { text, ids }) => {
                    // Whoever stands behind one that is left out moves up.
                    if place != keys.len() {
                        pixels.copy_within(place * size..(place + 1) * size, keys.len() * size);
                    }
                    tokens.extend(ids);
                    texts.push(text);
                    numbers.push(row.row);
                    keys.push(row.key);
                }
                Err(why) => unreadable.push((row.key, why)),
            }
        }
        pixels.truncate(keys.len() * size);
        Batch { position, next, first, pixels, tokens, rows: numbers, keys, texts, unreadable }
    }

    fn row(
        &self,
        row: &Encoded,
        epoch: u64,
        resizer: &mut Resizer,
        out: &mut [f32],
    ) -> Result<Ready, String> {
        let bytes = row.picture.as_ref().map_err(String::clone)?;
        let text = match self.manner {
            Manner::Training { seed } => {
                let mut draws = draws(seed, epoch, Purpose::Row, row.row.into());
                let text = self.drawn(row, draws.random());
                self.augmented(bytes, &mut draws, resizer, out)?;
                text
            }
            Manner::Evaluation { text } => {
                self.evaluated(bytes, out)?;
                best(row, text)
            }
        };
        let text = text.ok_or("no text")?;
        let words = row.texts[text as usize].as_deref().unwrap_or_default();
        let ids = self.shared.words.ids(&[words]).map_err(|error| format!("{error:#}"))?;
        Ok(Ready { text, ids })
    }

    fn augmented(
        &self,
        bytes: &[u8],
        draws: &mut ChaCha8Rng,
        resizer: &mut Resizer,
        out: &mut [f32],
    ) -> Result<(), String> {
        let augment = &self.shared.config.augment;
        if augment.off {
            return self.evaluated(bytes, out);
        }
        let (pixels, _) = decode::upright(bytes, &LIMITS).map_err(|reject| reject.to_string())?;
        let applied = augment.apply(&pixels, self.side, draws, resizer, out);
        applied.map_err(|error| format!("{error:#}"))
    }

    fn evaluated(&self, bytes: &[u8], out: &mut [f32]) -> Result<(), String> {
        let transform = ClipTransform { size: self.side };
        let planes = transform.of_bytes(bytes, &LIMITS).map_err(|reject| reject.to_string())?;
        out.copy_from_slice(&planes);
        Ok(())
    }

    /// The text at a place of the weights, 0 to 1.
    fn drawn(&self, row: &Encoded, place: f64) -> Option<Text> {
        let weights = self.shared.config.texts.of().into_iter().zip(Text::ALL);
        let weights =
            weights.filter(|(weight, text)| *weight > 0.0 && row.texts[*text as usize].is_some());
        let weights: Vec<(f64, Text)> = weights.collect();
        let mut left = place * weights.iter().map(|(weight, _)| weight).sum::<f64>();
        let found = weights.iter().find(|(weight, _)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a trace behind the last.
        found.or(weights.last()).map(|(_, text)| *text)
    }
}

/// A training takes small pictures, too: the filter is where to leave them out.
const LIMITS: Limits = Limits { min_side: 1, max_pixels: 50_000_000, max_aspect: 20.0 };

fn best(row: &Encoded, named: Option<Text>) -> Option<Text> {
    let order = named.into_iter().chain([Text::Generated, Text::Synthetic, Text::Raw]);
    order.into_iter().find(|text| row.texts[*text as usize].is_some())
}
