//! Embeddings of a data set, made once for all that judges them.
//!
//! Pictures are read and prepared on other threads while the model is at work on the batch before;
//! no more than three batches of them are in memory.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;

use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use candle_core::Device;
use candle_core::Tensor;
use rayon::iter::IntoParallelIterator;
use rayon::iter::ParallelIterator;
use serde::Serialize;

use crate::clip::Embedder;
use crate::clip::Length;
use crate::decode::ClipTransform;
use crate::decode::Limits;
use crate::eval::data::Labelled;
use crate::eval::data::Pictures;
use crate::eval::data::Shown;
use crate::sample::Picture;

/// Embeddings of labelled pictures.
pub struct Features {
    /// Name of each picture that could be read.
    pub keys: Vec<String>,
    /// (n, D), f32, on the CPU; rows of length 1.
    pub numbers: Tensor,
    /// Class of each row.
    pub targets: Vec<usize>,
    /// The others; they have no row.
    pub unreadable: Vec<Unreadable>,
}

/// A picture that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unreadable {
    /// Its name.
    pub key: String,
    /// Its class.
    pub target: usize,
    /// Why.
    pub why: String,
}

/// Embeds all pictures; `progress` is told how many are done.
///
/// # Errors
/// When the data cannot be read to their end, no picture can, or the model fails.
pub fn features(embedder: &Embedder, data: &Labelled, progress: &dyn Fn(u64)) -> Result<Features> {
    let Embedded { numbers, places, unreadable } = embedded(embedder, data.pictures(), progress)?;
    let (keys, targets) = (data.pictures().keys(), data.targets());
    let unreadable = unreadable.into_iter().map(|(place, why)| Unreadable {
        key: keys[place].clone(),
        target: targets[place],
        why,
    });
    Ok(Features {
        keys: places.iter().map(|&place| keys[place].clone()).collect(),
        numbers,
        targets: places.iter().map(|&place| targets[place]).collect(),
        unreadable: unreadable.collect(),
    })
}

/// Embeddings of pictures.
pub(super) struct Embedded {
    /// (n, D) of those that could be read.
    pub(super) numbers: Tensor,
    /// Which picture each row is of.
    pub(super) places: Vec<usize>,
    /// The other pictures, and why.
    pub(super) unreadable: Vec<(usize, String)>,
}

/// A picture as the model is to see it, or why it cannot be.
type Prepared = Result<Vec<f32>, String>;

/// Embeds pictures.
pub(super) fn embedded(
    embedder: &Embedder,
    pictures: &Pictures,
    progress: &dyn Fn(u64),
) -> Result<Embedded> {
    let (sender, receiver) = sync_channel(1);
    let (transform, batch) = (embedder.transform(), embedder.batch());
    std::thread::scope(|scope| {
        scope.spawn(move || prepare(pictures, transform, batch, &sender));
        embed(embedder, receiver, progress)
    })
}

/// Ends early when nobody listens any more, because the model failed.
fn prepare(
    pictures: &Pictures,
    transform: ClipTransform,
    batch: usize,
    sender: &SyncSender<Result<Vec<Prepared>>>,
) {
    let batches = match pictures.batches(batch) {
        Ok(batches) => batches,
        Err(error) => return drop(sender.send(Err(error))),
    };
    for shown in batches {
        let prepared = shown
            .map(|shown| shown.into_par_iter().map(|shown| prepared(shown, transform)).collect());
        if sender.send(prepared).is_err() {
            return;
        }
    }
}

fn prepared(shown: Shown, transform: ClipTransform) -> Prepared {
    // An evaluation counts every picture that it is given, small and long ones too.
    let limits = Limits { min_side: 1, max_aspect: f32::INFINITY, ..Limits::default() };
    match shown.picture {
        Picture::Bytes { bytes, .. } => {
            transform.of_bytes(&bytes, &limits).map_err(|reject| reject.to_string())
        }
        Picture::Url(url) => Err(format!("only an address, {url}")),
        Picture::Absent { reason, detail } => Err(format!("{} ({detail})", reason.as_str())),
    }
}

fn embed(
    embedder: &Embedder,
    batches: Receiver<Result<Vec<Prepared>>>,
    progress: &dyn Fn(u64),
) -> Result<Embedded> {
    let (mut numbers, mut places, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = 0;
    for batch in batches {
        let batch = batch?;
        let pictures: Vec<Option<Vec<f32>>> = batch
            .into_iter()
            .enumerate()
            .map(|(place, prepared)| {
                prepared.map_err(|why| unreadable.push((done + place, why))).ok()
            })
            .collect();
        for (place, row) in embedder.images(&pictures, Length::One)?.into_iter().enumerate() {
            if let Some(row) = row {
                numbers.extend(row);
                places.push(done + place);
            }
        }
        done += pictures.len();
        progress(done as u64);
    }
    if let (true, Some((_, why))) = (places.is_empty(), unreadable.first()) {
        return Err(anyhow!("no picture can be read; the first one: {why}"));
    }
    let shape = (places.len(), embedder.dimension());
    let numbers = Tensor::from_vec(numbers, shape, &Device::Cpu)?;
    Ok(Embedded { numbers, places, unreadable })
}

/// Embeddings of texts, (n, D), rows of length 1; equal texts are embedded once, so that they are
/// equally near to everything.
pub(super) fn of_texts(
    embedder: &Embedder,
    texts: &[String],
    progress: &dyn Fn(u64),
) -> Result<Tensor> {
    let (mut places, mut distinct) = (HashMap::new(), Vec::new());
    let rows: Vec<u32> = texts
        .iter()
        .map(|text| {
            *places.entry(text.as_str()).or_insert_with(|| {
                distinct.push(Some(text.as_str()));
                distinct.len() as u32 - 1
            })
        })
        .collect();
    let mut numbers = Vec::with_capacity(distinct.len() * embedder.dimension());
    let mut done = 0;
    for batch in distinct.chunks(embedder.batch()) {
        for row in embedder.texts(batch, Length::One)?.into_iter().flatten() {
            numbers.extend(row);
        }
        done += batch.len();
        progress(done as u64);
    }
    let shape = (distinct.len(), embedder.dimension());
    ensure!(numbers.len() == shape.0 * shape.1, "a text has no embedding");
    let numbers = Tensor::from_vec(numbers, shape, &Device::Cpu)?;
    Ok(numbers.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?)
}
