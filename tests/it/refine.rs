//! The real binary on real pictures: the ledger adds up, the same command continues, same bytes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use recaption::shard;
use recaption::shard::Marker;

fn refine(output: &Path) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    Command::new(env!("CARGO_BIN_EXE_recaption"))
        .arg("refine")
        .arg(root.join("demo"))
        .arg("-o")
        .arg(output)
        .arg("--tagger")
        .arg(root.join("models/tagger"))
        .arg("--captioner")
        .arg(root.join("models/captioner"))
        .args(["--rows-per-shard", "20"])
        .output()
        .unwrap()
}

fn markers(run: &Path) -> Vec<Marker> {
    (0..4).map(|n| shard::finished(run, n).unwrap().expect("the shard is finished")).collect()
}

#[test]
fn the_ledger_adds_up_and_a_lost_marker_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let output = refine(dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let first = markers(dir.path());
    assert_eq!(first.iter().map(|m| m.rows_read).sum::<u64>(), 64);
    assert!(first.iter().all(|m| m.refined + m.rejected == m.rows_read));
    assert!(first.iter().map(|m| m.refined).sum::<u64>() > 60);

    fs::remove_file(shard::marker_path(dir.path(), 2)).unwrap();
    assert!(refine(dir.path()).status.success());
    assert_eq!(markers(dir.path()), first);
}

#[test]
fn a_missing_input_is_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_recaption"))
        .args(["refine", "no/such/folder", "-o"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/folder does not exist"));
}
