//! Two runs compared and a run described, with the real binary.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use recaption::shard;
use recaption::shard::Marker;
use serde_json::Value;

use crate::refine::demo;
use crate::refine::samples;
use crate::refine::succeeded;

fn recaption(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recaption")).args(arguments).args(paths).output().unwrap()
}

#[test]
fn runs_of_other_shards_and_settings_are_joined_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    succeeded(&demo(&a).output().unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let captioner = root.join("models/captioner");
    let input = root.join("demo");
    let refine = ["refine", "--rows-per-shard", "24", "--limit", "60", "-o"];
    let more = [b.as_path(), Path::new("--captioner"), &captioner, &input];
    succeeded(&recaption(&refine, &more));

    let page = dir.path().join("diff.html");
    let output = page.display().to_string();
    let said = succeeded(&recaption(&["diff", "--json", "-o", &output], &[&a, &b]));
    let found: Value = serde_json::from_str(&said).unwrap();
    let all_a = samples(&a);
    let all_b = samples(&b);
    let mut changed = 0;
    let mut both = 0;
    for one in &all_a {
        for other in all_b.iter().filter(|other| other.item.key == one.item.key) {
            both += 1;
            let text = |s: &recaption::sample::Sample| s.generated.clone().map(|g| g.text);
            changed += u64::from(text(one) != text(other));
        }
    }
    assert_eq!(found["both"], both);
    assert!(changed > 0);
    assert_eq!(found["changed"]["generated"], changed);
    assert_eq!(found["only_a"]["rows"], all_a.len() as u64 - both);
    assert_eq!(found["only_b"]["rows"], all_b.len() as u64 - both);
    for indicator in found["indicators"].as_array().unwrap() {
        let of = |name: &str| indicator[name].as_u64().unwrap();
        assert_eq!(of("wins_a") + of("wins_b") + of("ties"), of("rows"));
    }
    assert!(fs::read_to_string(page).unwrap().contains("Win rates"));

    let same = succeeded(&recaption(&["diff", "--json"], &[&a, &a]));
    let same: Value = serde_json::from_str(&same).unwrap();
    assert_eq!((&same["changed"]["generated"], &same["only_a"]["rows"]), (&0.into(), &0.into()));
}

#[test]
fn a_card_agrees_with_the_markers_and_is_not_written_over_an_edit() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    succeeded(&demo(&run).output().unwrap());
    succeeded(&recaption(&["card", "--license", "cc0-1.0"], &[&run]));
    let markers = shard::all_finished(&run).unwrap();
    let sum = |of: fn(&Marker) -> u64| markers.iter().map(of).sum::<u64>();
    let card = fs::read_to_string(run.join("README.md")).unwrap();
    let front = card.split("---\n").nth(1).unwrap();
    let has = |line: String| assert!(front.lines().any(|l| l.trim() == line), "{line}: {front}");
    has("license: \"cc0-1.0\"".to_owned());
    has(format!("num_examples: {}", sum(|marker| marker.refined)));
    has(format!("num_bytes: {}", sum(|marker| marker.part.bytes)));
    has("dtype: \"image\"".to_owned());
    // Every line is a pair or an item of a list: nothing of the web opens a block.
    for line in front.lines() {
        let line = line.trim_start().trim_start_matches("- ");
        assert!(line.starts_with('"') || line.contains(':'), "{line}");
    }

    let croissant = fs::read(run.join("croissant.json")).unwrap();
    let croissant: Value = serde_json::from_slice(&croissant).unwrap();
    assert_eq!(croissant["@type"], "sc:Dataset");
    assert_eq!(croissant["conformsTo"][0], "http://mlcommons.org/croissant/1.0");
    for field in ["name", "description", "license", "distribution", "recordSet"] {
        assert!(!croissant[field].is_null(), "{field}");
    }
    let files = croissant["distribution"].as_array().unwrap();
    for marker in &markers {
        let file = files.iter().find(|file| file["@id"] == *marker.part.name).unwrap();
        assert_eq!(file["sha256"], *marker.part.sha256);
    }
    let fields = croissant["recordSet"][0]["field"].as_array().unwrap();
    let columns = shard::types_of(&run.join(&markers[0].part.name)).unwrap();
    assert_eq!(fields.len(), columns.len());
    assert!(croissant["rai:dataLimitations"].is_array());

    // Its own file is replaced, an edited one is not.
    succeeded(&recaption(&["card"], &[&run]));
    let edited = fs::read_to_string(run.join("README.md")).unwrap() + "Mine.\n";
    fs::write(run.join("README.md"), &edited).unwrap();
    let refused = recaption(&["card"], &[&run]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    assert_eq!(fs::read_to_string(run.join("README.md")).unwrap(), edited);
    succeeded(&recaption(&["card", "--force"], &[&run]));
    assert!(!fs::read_to_string(run.join("README.md")).unwrap().contains("Mine."));
}
