//! The stages joined: rows are read in order, seen by all cores, and committed shard by shard.
//!
//! Rows go through in blocks, so that a block is the most that is decoded at once and every stage
//! sees source order; a shard's encoded pictures stay in memory until it is committed.

use std::path::Path;
use std::thread;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use bytes::Bytes;
use fast_image_resize::Resizer;
use image::ExtendedColorType;
use image::ImageEncoder;
use image::ImageFormat;
use image::codecs::jpeg::JpegEncoder;

use crate::atomic_file;
use crate::decode;
use crate::decode::Encoding;
use crate::decode::Filter;
use crate::decode::Limits;
use crate::decode::Pixels;
use crate::decode::View;
use crate::dedup::Config as DedupConfig;
use crate::dedup::Copies;
use crate::dedup::Print;
use crate::describe::Describer;
use crate::describe::Request;
use crate::perceive::Glimpse;
use crate::perceive::Perceiver;
use crate::sample::Audit;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::sample::Stage;
use crate::sample::StoredImage;
use crate::shard;
use crate::shard::Marker;
use crate::shard::Outcome;
use crate::source::Items;

/// Rows decoded at once; a few hundred megabytes at the largest allowed pictures.
const BLOCK_ROWS: usize = 64;

/// Quality of pictures that had to be encoded again.
const JPEG_QUALITY: u8 = 95;

/// What a run does to every row.
pub struct Plan {
    /// What a picture must be like.
    pub limits: Limits,
    /// Longer side of stored pictures, in pixels.
    pub max_side: u32,
    /// Rows of a shard.
    pub rows_per_shard: usize,
}

/// A row between decoding and the end: what will be stored, and what the models see.
struct Seen {
    sample: Sample,
    print: Print,
    glimpse: Glimpse,
}

type Row = Result<Seen, (Item, Reject)>;

/// Refines every shard that has no marker yet; `progress` hears of each shard.
///
/// # Errors
/// When the source breaks off or a shard cannot be written. A bad row is a reject, never an error.
pub fn run(
    plan: &Plan,
    mut items: Items,
    perceivers: &mut [Perceiver],
    describer: &Describer,
    run: &Path,
    progress: &mut dyn FnMut(&Marker),
) -> Result<Vec<Marker>> {
    atomic_file::remove_leftovers(run)?;
    let views = perceivers.first().context("no worker was given")?.views().to_vec();
    let mut markers = Vec::new();
    for number in 0.. {
        let mut rows = items.by_ref().take(plan.rows_per_shard).peekable();
        if rows.peek().is_none() {
            break;
        }
        let marker = match shard::finished(run, number)? {
            Some(marker) => skip(rows, marker)?,
            None => {
                shard::commit(run, number, &refine(plan, rows, &views, perceivers, describer)?)?
            }
        };
        progress(&marker);
        markers.push(marker);
    }
    Ok(markers)
}

/// The rows of a finished shard are counted, so that a changed source is noticed.
fn skip(rows: impl Iterator<Item = Result<Item>>, marker: Marker) -> Result<Marker> {
    let mut count = 0;
    for row in rows {
        row?;
        count += 1;
    }
    if count != marker.rows_read {
        let (shard, read) = (marker.shard, marker.rows_read);
        bail!("shard {shard} was made of {read} rows but the source now has {count}; use a new -o");
    }
    Ok(marker)
}

fn refine(
    plan: &Plan,
    mut rows: impl Iterator<Item = Result<Item>>,
    views: &[View],
    perceivers: &mut [Perceiver],
    describer: &Describer,
) -> Result<Vec<Outcome>> {
    let mut copies = Copies::new(&DedupConfig::default());
    let mut outcomes = Vec::new();
    loop {
        let block: Vec<Item> = rows.by_ref().take(BLOCK_ROWS).collect::<Result<_>>()?;
        if block.is_empty() {
            return Ok(outcomes);
        }
        let workers = perceivers.len();
        let seen = in_parallel(block, workers, |item| see(plan, views, item))?;
        let firsts =
            seen.into_iter().map(|row| row.and_then(|seen| first(&mut copies, seen))).collect();
        let mut seen = perceive(firsts, perceivers)?;
        describe(describer, &mut seen)?;
        outcomes.extend(seen);
    }
}

/// Applies `work` to every element on `workers` threads, keeping the order.
fn in_parallel<T: Send, R: Send>(
    all: Vec<T>,
    workers: usize,
    work: impl Fn(T) -> R + Sync,
) -> Result<Vec<R>> {
    let size = all.len().div_ceil(workers.max(1)).max(1);
    let mut all = all.into_iter();
    let work = &work;
    thread::scope(|scope| {
        let mut parts = Vec::new();
        loop {
            let part: Vec<T> = all.by_ref().take(size).collect();
            if part.is_empty() {
                break;
            }
            parts.push(scope.spawn(move || part.into_iter().map(work).collect::<Vec<R>>()));
        }
        let mut done = Vec::new();
        for part in parts {
            done.extend(part.join().map_err(|_| anyhow!("a worker thread panicked"))?);
        }
        Ok(done)
    })
}

fn see(plan: &Plan, views: &[View], mut item: Item) -> Row {
    match decode_item(plan, views, &item) {
        Ok((image, sha256, print, glimpse)) => {
            item.picture = Picture::Absent { reason: Reason::ImageNull, detail: String::new() };
            let sample = Sample {
                item,
                image,
                sha256,
                phash: print.phash,
                tags: Vec::new(),
                synthetic: None,
                generated: None,
                generated_refused: None,
                audit: Audit::default(),
            };
            Ok(Seen { sample, print, glimpse })
        }
        Err(reject) => Err((item, reject)),
    }
}

type Decoded = (StoredImage, String, Print, Glimpse);

fn decode_item(plan: &Plan, views: &[View], item: &Item) -> Result<Decoded, Reject> {
    let bytes = match &item.picture {
        Picture::Bytes { bytes, .. } => bytes,
        Picture::Url(url) => {
            return Err(Reject::new(Stage::Fetch, Reason::UrlInvalid, url.clone()));
        }
        Picture::Absent { reason, detail } => {
            return Err(Reject::new(Stage::Source, *reason, detail.clone()));
        }
    };
    let failed = |e: anyhow::Error| Reject::new(Stage::Decode, Reason::Corrupt, e.to_string());
    let (pixels, encoding) = decode::upright(bytes, &plan.limits)?;
    let mut resizer = Resizer::new();
    let shown = views.iter().map(|view| view.apply(&pixels, &mut resizer));
    let glimpse = Glimpse {
        original_width: pixels.width,
        original_height: pixels.height,
        views: shown.collect::<Result<_>>().map_err(failed)?,
    };
    let print = Print::of(&pixels, &mut resizer).map_err(failed)?;
    let image = store(plan, bytes, &pixels, encoding, &mut resizer).map_err(failed)?;
    Ok((image, atomic_file::sha256(bytes), print, glimpse))
}

/// The original bytes where they already are what is wanted, else a JPEG.
fn store(
    plan: &Plan,
    bytes: &Bytes,
    pixels: &Pixels,
    encoding: Encoding,
    resizer: &mut Resizer,
) -> Result<StoredImage> {
    let long = pixels.width.max(pixels.height);
    let (original_width, original_height) = (pixels.width, pixels.height);
    if encoding.as_shown && long <= plan.max_side {
        return Ok(StoredImage {
            bytes: bytes.clone(),
            path: extension(encoding.format).to_owned(),
            width: original_width,
            height: original_height,
            original_width,
            original_height,
        });
    }
    let scale = (f64::from(plan.max_side) / f64::from(long)).min(1.0);
    let side = |s: u32| ((f64::from(s) * scale).round() as u32).max(1);
    let (width, height) = (side(pixels.width), side(pixels.height));
    let view = View::Stretch { width, height, filter: Filter::Bicubic };
    let small = view.apply(pixels, resizer)?;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).write_image(
        &small.rgb,
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    let path = extension(ImageFormat::Jpeg).to_owned();
    Ok(StoredImage { bytes: jpeg.into(), path, width, height, original_width, original_height })
}

fn extension(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "image.png",
        ImageFormat::WebP => "image.webp",
        _ => "image.jpg",
    }
}

fn first(copies: &mut Copies, seen: Seen) -> Row {
    match copies.first(&seen.sample.sha256, &seen.print) {
        Ok(()) => Ok(seen),
        Err(reject) => Err((seen.sample.item, reject)),
    }
}

fn perceive(rows: Vec<Row>, perceivers: &mut [Perceiver]) -> Result<Vec<Outcome>> {
    let size = rows.len().div_ceil(perceivers.len().max(1)).max(1);
    let mut rows = rows.into_iter();
    thread::scope(|scope| {
        let mut parts = Vec::new();
        for perceiver in perceivers {
            let part: Vec<Row> = rows.by_ref().take(size).collect();
            parts.push(scope.spawn(move || perceive_part(part, perceiver)));
        }
        let mut outcomes = Vec::new();
        for part in parts {
            outcomes.extend(part.join().map_err(|_| anyhow!("a worker thread panicked"))??);
        }
        Ok(outcomes)
    })
}

fn perceive_part(rows: Vec<Row>, perceiver: &mut Perceiver) -> Result<Vec<Outcome>> {
    let mut glimpses = Vec::new();
    let mut kept = Vec::new();
    for row in rows {
        kept.push(row.map(|seen| {
            glimpses.push(seen.glimpse);
            seen.sample
        }));
    }
    let mut percepts = perceiver.perceive(&glimpses)?.into_iter();
    let finish = |row: Outcome| -> Result<Outcome> {
        let Ok(mut sample) = row else { return Ok(row) };
        Ok(match percepts.next().context("a picture has no answer")? {
            Ok(percept) => {
                sample.tags = percept.tags;
                sample.synthetic = percept.caption;
                sample.image.path = named(&sample);
                Ok(sample)
            }
            Err(reject) => Err((sample.item, reject)),
        })
    };
    kept.into_iter().map(finish).collect()
}

fn describe(describer: &Describer, outcomes: &mut [Outcome]) -> Result<()> {
    let mut samples: Vec<&mut Sample> =
        outcomes.iter_mut().filter_map(|o| o.as_mut().ok()).collect();
    let requests = samples.iter().map(|sample| Request {
        key: &sample.item.key,
        raw: sample.item.text_raw.as_deref(),
        synthetic: sample.synthetic.as_ref().map(|s| s.text.as_str()),
        tags: &sample.tags,
    });
    let answers = describer.describe(&requests.collect::<Vec<_>>())?;
    for (sample, answer) in samples.iter_mut().zip(answers) {
        sample.generated = answer.generated;
        sample.generated_refused = answer.refused;
    }
    Ok(())
}

/// The key with the extension of the stored bytes.
fn named(sample: &Sample) -> String {
    let extension = sample.image.path.rsplit('.').next().unwrap_or("jpg").to_owned();
    format!("{}.{extension}", sample.item.key.replace('/', "__"))
}
