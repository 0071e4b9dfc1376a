//! Pictures a second of the models alone: one set of sessions for each core, fed prepared pictures.
//!
//! `cargo bench --bench bare_sessions -- PARQUET MODELS [PICTURES] [SECONDS]` takes the first
//! pictures of a parquet file that decode and are no copies, prepares the views that the models
//! want, and then only calls the models. `refine.sh` compares the whole of `refine` with this.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use arrow::array::AsArray;
use fast_image_resize::Resizer;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use recaption::atomic_file;
use recaption::decode;
use recaption::decode::Limits;
use recaption::dedup;
use recaption::dedup::Copies;
use recaption::dedup::Print;
use recaption::models::runtime;
use recaption::perceive::Config;
use recaption::perceive::Glimpse;
use recaption::perceive::Models;
use recaption::perceive::OnnxRuntime;
use recaption::perceive::Perceiver;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let input = arguments.first().context("give a parquet file with an image column")?;
    let folder = Path::new(arguments.get(1).context("give the folder with the models")?);
    let pictures = arguments.get(2).map_or(Ok(1000), |s| s.parse())?;
    let least = Duration::from_secs(arguments.get(3).map_or(Ok(10), |s| s.parse())?);
    let config = Config {
        tagger: Some(folder.join("tagger")),
        detector: Some(folder.join("detector")),
        captioner: Some(folder.join("captioner")),
        ..Config::default()
    };
    let models = Models::open(&config)?;
    let runtime = OnnxRuntime::load(&runtime::find_or_install()?)?;
    let cores = thread::available_parallelism()?.get();
    let mut perceivers: Vec<Perceiver> =
        (0..cores).map(|_| Perceiver::load(&runtime, &models)).collect::<Result<_>>()?;
    let glimpses = glimpses(Path::new(input), &models, pictures)?;

    // Whole passes only: captions are of different lengths.
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < least {
        pass(&mut perceivers, &glimpses, config.batch)?;
        done += glimpses.len();
    }
    let rate = done as f64 / started.elapsed().as_secs_f64();
    println!("{}", json!({ "pictures_per_second": rate, "pictures": glimpses.len() }));
    Ok(())
}

/// Batches go to whoever is free.
fn pass(perceivers: &mut [Perceiver], glimpses: &[Glimpse], batch: usize) -> Result<()> {
    let batches: Vec<&[Glimpse]> = glimpses.chunks(batch).collect();
    let next = AtomicUsize::new(0);
    let work = |perceiver: &mut Perceiver| -> Result<()> {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            std::hint::black_box(perceiver.perceive(batch)?);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = perceivers.iter_mut().map(|p| scope.spawn(|| work(p))).collect();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

fn glimpses(input: &Path, models: &Models, most: usize) -> Result<Vec<Glimpse>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(input)?)?.build()?;
    let mut copies = Copies::new(&dedup::Config::default());
    let mut resizer = Resizer::new();
    let mut glimpses = Vec::new();
    for batch in reader {
        let batch = batch?;
        let image = batch.column_by_name("image").context("no column `image`")?.as_struct();
        let cells = image.column_by_name("bytes").context("no field `bytes`")?.as_binary::<i32>();
        for bytes in cells.iter().flatten() {
            if glimpses.len() == most {
                return Ok(glimpses);
            }
            let Ok((pixels, _)) = decode::upright(bytes, &Limits::default()) else { continue };
            let print = Print::of(&pixels, &mut resizer)?;
            if copies.first(&atomic_file::sha256(bytes), &print).is_err() {
                continue;
            }
            let views = models.views().iter().map(|view| view.apply(&pixels, &mut resizer));
            glimpses.push(Glimpse {
                original_width: pixels.width,
                original_height: pixels.height,
                views: views.collect::<Result<_>>()?,
            });
        }
    }
    Ok(glimpses)
}
