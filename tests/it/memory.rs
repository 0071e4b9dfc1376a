//! Memory while a language model is slower than everything before it: rows wait in bounded windows, however
//! many there are.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::describe::Server;
use crate::describe::completion;
use crate::refine::samples;

/// Pictures of noise, which no format makes small: 175 kB as a file, 786 kB as pixels.
fn dataset(folder: &Path, rows: usize) {
    const BYTES: usize = 512 * 512 * 3;
    // Each picture begins at another place of the same noise: making it is what takes time here.
    let mut noise = vec![0; BYTES + rows * 1_000];
    StdRng::seed_from_u64(38).fill(&mut noise[..]);
    for row in 0..rows {
        let pixels = &noise[row * 1_000..][..BYTES];
        let file = fs::File::create(folder.join(format!("{row:04}.jpg"))).unwrap();
        let mut encoder = JpegEncoder::new_with_quality(file, 80);
        encoder.encode(pixels, 512, 512, ExtendedColorType::Rgb8).unwrap();
        fs::write(folder.join(format!("{row:04}.txt")), format!("Statue {row}")).unwrap();
    }
}

/// Peak memory, in kilobytes, of a run over the first rows, until its shard is there: the report, which comes
/// then, reads some hundred pictures.
fn peak(data: &Path, run: &Path, rows: usize, base_url: &str) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_recaption"))
        .arg("refine")
        .arg(data)
        .arg("-o")
        .arg(run)
        .args(["--limit", &rows.to_string(), "--writer", "remote", "--llm", "mock"])
        .args(["--base-url", base_url, "--set", "dedup.near=false"])
        .args(["--set", "alarms.action=warn"])
        .args(["--set", "describe.remote.concurrency=4"])
        .args(["--set", "describe.remote.max_concurrency=4"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        if !run.join("part-00000.json").exists() {
            peak = kilobytes.unwrap_or(peak);
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(samples(run).len(), rows);
    peak
}

#[test]
#[cfg(target_os = "linux")]
fn a_slow_model_makes_nothing_pile_up() {
    const FEW: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    dataset(&data, FEW * 4);
    let server = Server::start(|_, _| {
        thread::sleep(Duration::from_millis(40));
        completion("A statue.")
    });
    let peak =
        |rows: usize| peak(&data, &dir.path().join(rows.to_string()), rows, &server.base_url);
    let (few, many) = (peak(FEW), peak(FEW * 4));
    // 600 rows more are 105 MB as files and 470 MB as pixels.
    assert!(many < few + 60_000, "{few} kB for {FEW} rows, {many} kB for four times as many");
}
