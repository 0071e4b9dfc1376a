//! Pictures a second on one core: decode, resize to 224 as CLIP does it, normalise.
//!
//! `cargo bench --bench decode -- FOLDER [SECONDS]` prints one line of JSON: `pictures_per_second`
//! for that path, and what each step of refining a picture takes in `ms`, medians of all pictures
//! and passes. No benchmark framework: `decode.sh` runs this and its peer in turns.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use fast_image_resize::Resizer;
use recaption::decode;
use recaption::decode::Filter;
use recaption::decode::Limits;
use recaption::decode::Pixels;
use recaption::decode::View;
use recaption::dedup::Print;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIP: View =
    View::ShortestEdge { edge: 224, crop_width: 224, crop_height: 224, filter: Filter::Bicubic };
const STORED: View = View::Stretch { width: 512, height: 512, filter: Filter::Bicubic };
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_5, 0.261_302_6, 0.275_777_1];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let folder = arguments.first().context("give a folder of pictures")?;
    let seconds = arguments.get(1).map_or(Ok(3), |s| s.parse())?;
    let files = read(Path::new(folder))?;
    ensure!(!files.is_empty(), "{folder} has no pictures");
    let rate = rate(&files, Duration::from_secs(seconds))?;
    println!("{}", json!({ "pictures_per_second": rate, "ms": steps(&files)? }));
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.into_iter().map(|path| Ok(std::fs::read(path)?)).collect()
}

fn rate(files: &[Vec<u8>], least: Duration) -> Result<f64> {
    let (mut resizer, tables) = (Resizer::new(), tables());
    let mut tensor = Vec::new();
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < least {
        for file in files {
            let pixels = upright(file)?;
            normalise(&CLIP.apply(&pixels, &mut resizer)?, &tables, &mut tensor);
        }
        done += files.len();
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

fn upright(file: &[u8]) -> Result<Pixels> {
    let (pixels, _) =
        decode::upright(file, &Limits::default()).map_err(|r| anyhow::anyhow!("{r}"))?;
    Ok(pixels)
}

/// As `perceive` does it, which keeps it to itself: one table look-up a byte, channel by channel.
fn normalise(pixels: &Pixels, tables: &[[f32; 256]; 3], tensor: &mut Vec<f32>) {
    tensor.clear();
    for (channel, table) in tables.iter().enumerate() {
        tensor.extend(pixels.rgb.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
    }
    std::hint::black_box(tensor);
}

fn tables() -> [[f32; 256]; 3] {
    [0, 1, 2].map(|c| std::array::from_fn(|byte| (byte as f32 / 255.0 - MEAN[c]) / STD[c]))
}

/// Milliseconds of each step by itself.
fn steps(files: &[Vec<u8>]) -> Result<serde_json::Value> {
    let (mut resizer, tables, mut tensor) = (Resizer::new(), tables(), Vec::new());
    let mut times: [Vec<f64>; 5] = Default::default();
    for file in files.iter().cycle().take(files.len().max(200)) {
        let (pixels, decoded) = timed(|| upright(file));
        let pixels = pixels?;
        let (view, viewed) = timed(|| CLIP.apply(&pixels, &mut resizer));
        let view = view?;
        let ((), normalised) = timed(|| normalise(&view, &tables, &mut tensor));
        let (print, printed) = timed(|| Print::of(&pixels, &mut resizer));
        print?;
        let (small, stored) = timed(|| STORED.apply(&pixels, &mut resizer));
        small?;
        for (times, time) in times.iter_mut().zip([decoded, viewed, normalised, printed, stored]) {
            times.push(time);
        }
    }
    let [decode, view, normalise, print, store] = times.map(median);
    Ok(json!({
        "upright": decode,
        "view_224": view,
        "normalise": normalise,
        "dedup_print": print,
        "resize_to_store": store,
    }))
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let result = work();
    (result, started.elapsed().as_secs_f64() * 1e3)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2] * 1e3).round() / 1e3
}
