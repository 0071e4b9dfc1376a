//! Captions a second of the captioner alone, on prepared pictures, with one thread.
//!
//! `cargo bench --bench captioner -- MODEL FOLDER [BATCH] [SECONDS]` prints one line of JSON with the
//! rate and the captions, so that the peer can show that it wrote the same ones.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use fast_image_resize::Resizer;
use recaption::decode;
use recaption::decode::Limits;
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
    let model = arguments.first().context("give a captioner's folder")?;
    let folder = arguments.get(1).context("give a folder of pictures")?;
    let batch: usize = arguments.get(2).map_or(Ok(8), |s| s.parse())?;
    let seconds = arguments.get(3).map_or(Ok(3), |s| s.parse())?;
    let config = Config { captioner: Some(PathBuf::from(model)), batch, ..Config::default() };
    let models = Models::open(&config)?;
    let runtime = OnnxRuntime::load(&runtime::find_or_install()?)?;
    let mut perceiver = Perceiver::load(&runtime, &models)?;
    let glimpses = glimpses(Path::new(folder), &models)?;
    let captions = pass(&mut perceiver, &glimpses, batch)?;

    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        done += pass(&mut perceiver, &glimpses, batch)?.len();
    }
    let rate = done as f64 / started.elapsed().as_secs_f64();
    println!("{}", json!({ "captions_per_second": rate, "captions": captions }));
    Ok(())
}

fn glimpses(folder: &Path, models: &Models) -> Result<Vec<Glimpse>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let mut resizer = Resizer::new();
    let mut glimpse = |path: &PathBuf| -> Result<Glimpse> {
        let bytes = std::fs::read(path)?;
        let (pixels, _) =
            decode::upright(&bytes, &Limits::default()).map_err(|r| anyhow!("{r}"))?;
        let views = models.views().iter().map(|view| view.apply(&pixels, &mut resizer));
        Ok(Glimpse {
            original_width: pixels.width,
            original_height: pixels.height,
            views: views.collect::<Result<_>>()?,
        })
    };
    paths.iter().map(&mut glimpse).collect()
}

fn pass(perceiver: &mut Perceiver, all: &[Glimpse], batch: usize) -> Result<Vec<String>> {
    let mut captions = Vec::new();
    for some in all.chunks(batch) {
        for percept in perceiver.perceive(some)? {
            let percept = percept.map_err(|r| anyhow!("{r}"))?;
            captions.push(percept.caption.map(|c| c.text).unwrap_or_default());
        }
    }
    Ok(captions)
}
