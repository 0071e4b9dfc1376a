//! The training loader over real files: every row once, the same bytes wherever it begins and however
//! many work on it, and nothing lost without a word.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::LazyLock;

use anyhow::Result;
use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::StringArray;
use image::ImageFormat;
use image::RgbImage;
use proptest::prelude::ProptestConfig;
use proptest::prelude::prop_assert;
use proptest::prelude::prop_assert_eq;
use proptest::proptest;
use recaption::clip::Words;
use recaption::clip_tokenizer::Tokenizer;
use recaption::decode::ClipTransform;
use recaption::decode::Limits;
use recaption::model;
use recaption::train::data::Augment;
use recaption::train::data::Batch;
use recaption::train::data::DataConfig;
use recaption::train::data::Dataset;
use recaption::train::data::LeftOut;
use recaption::train::data::LoaderPlan;
use recaption::train::data::Position;
use recaption::train::data::Text;
use recaption::train::data::TextWeights;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::refine::demo;
use crate::refine::samples;
use crate::refine::succeeded;
use crate::source::parquet::write_parquet;

const SIDE: u32 = 8;

/// Rows of the folder that most tests read.
const ROWS: usize = 61;

static WORDS: LazyLock<Arc<Words>> = LazyLock::new(words);

fn words() -> Arc<Words> {
    Arc::new(Words::open(None, &model::Config::preset("tiny").unwrap()).unwrap())
}

/// A folder of numbered pictures with their metadata. The row picks its own texts.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    folder(ROWS, |row| {
        let text = |name: &str, is_there: bool| is_there.then(|| format!("{name} {row}"));
        json!({
            "text_raw": text("raw", row % 3 != 1),
            "text_synthetic": text("synthetic", row % 5 != 0),
            "text_generated": text("generated", row % 2 == 0),
            "number": row,
            "audit": {"score": row as f64 / 100.0},
        })
    })
});

fn folder(rows: usize, of: impl Fn(usize) -> Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for row in 0..rows {
        let mut line = of(row);
        line["file_name"] = json!(format!("{row:03}.png"));
        lines += &format!("{line}\n");
        fs::write(dir.path().join(format!("{row:03}.png")), picture(row)).unwrap();
    }
    fs::write(dir.path().join("metadata.jsonl"), lines).unwrap();
    dir
}

/// No two are alike.
fn picture(row: usize) -> Vec<u8> {
    let (row, mut bytes) = (row as u32, Cursor::new(Vec::new()));
    let picture = RgbImage::from_fn(12 + row % 7, 10 + row % 5, |x, y| {
        image::Rgb([row as u8, (x * 20) as u8, (y * 20) as u8])
    });
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn config(input: &Path) -> DataConfig {
    let inputs = vec![input.display().to_string()];
    DataConfig { inputs, workers: 2, block: 5, pool: 3, prefetch: 2, ..DataConfig::default() }
}

fn open(config: &DataConfig) -> Result<Dataset> {
    Dataset::open(config, Arc::clone(&WORDS), &mut |_| ())
}

fn said(result: Result<impl Sized>) -> String {
    format!("{:#}", result.err().expect("it was taken"))
}

fn plan(batch: usize) -> LoaderPlan {
    LoaderPlan { batch, rank: 0, world: 1, seed: 7, side: SIDE }
}

fn batches(dataset: &Dataset, plan: &LoaderPlan, from: Position, count: usize) -> Vec<Batch> {
    let loader = dataset.loader(plan, from).unwrap();
    loader.take(count).collect::<Result<_>>().unwrap()
}

fn keys(batches: &[Batch]) -> Vec<&str> {
    batches.iter().flat_map(|batch| batch.keys.iter().map(String::as_str)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Opened anywhere, also in a later epoch and by any number of threads, a loader goes on as one that
    /// never stopped.
    #[test]
    fn a_loader_is_its_position(
        rows in 8usize..=ROWS, batch in 1usize..9, block in 1usize..20, pool in 1usize..5,
        workers in 1usize..9, prefetch in 0usize..3, stopped in 0usize..30,
    ) {
        let filter = Some(format!("number < {rows}"));
        let config = DataConfig { block, pool, filter, ..config(FOLDER.path()) };
        let whole = open(&config).unwrap();
        let per_epoch = whole.batches_per_epoch(batch) as usize;
        let count = (per_epoch * 2 + 3).min(40);
        let all = batches(&whole, &plan(batch), Position::default(), count);
        for (number, batch) in (0u64..).zip(&all) {
            let (epoch, of_epoch) = (number / per_epoch as u64, number % per_epoch as u64);
            prop_assert_eq!(batch.position, Position { epoch, batch: of_epoch });
        }
        for pair in all.windows(2) {
            prop_assert_eq!(pair[0].next, pair[1].position);
        }
        let stopped = stopped % count;
        let from = all[stopped].position;
        // What is kept of a training that was killed is this text.
        let from: Position = serde_json::from_str(&serde_json::to_string(&from).unwrap()).unwrap();
        let resumed = open(&DataConfig { workers, prefetch, ..config }).unwrap();
        prop_assert_eq!(resumed.fingerprint(), whole.fingerprint());
        let rest = batches(&resumed, &plan(batch), from, count - stopped);
        prop_assert!(rest == all[stopped..], "from {from:?}");
    }

    /// Several ranks see together what one alone sees.
    #[test]
    fn ranks_share_each_batch(share in 1usize..5, world in 2usize..4, begun in 0u64..3) {
        let dataset = open(&config(FOLDER.path())).unwrap();
        let alone = plan(share * world);
        let from = Position { epoch: 1, batch: begun };
        let expected = batches(&dataset, &alone, from, 6);
        let parts: Vec<Vec<Batch>> = (0..world)
            .map(|rank| batches(&dataset, &LoaderPlan { rank, world, ..alone }, from, 6))
            .collect();
        for (number, whole) in expected.iter().enumerate() {
            let of = parts.iter().map(|part| &part[number]);
            prop_assert!(of.clone().flat_map(|b| &b.keys).eq(&whole.keys));
            prop_assert!(of.clone().flat_map(|b| &b.pixels).eq(&whole.pixels));
            prop_assert!(of.clone().flat_map(|b| &b.tokens).eq(&whole.tokens));
            prop_assert!(of.clone().map(|b| b.first).eq((0..world).map(|rank| rank * share)));
            prop_assert!(of.clone().all(|b| b.position == whole.position && b.next == whole.next));
        }
    }
}

#[test]
fn every_row_comes_once_an_epoch_but_for_those_that_fill_no_batch() {
    let dataset = open(&config(FOLDER.path())).unwrap();
    assert_eq!((dataset.rows(), dataset.batches_per_epoch(7)), (59, 8));
    let all = batches(&dataset, &plan(7), Position::default(), 16);
    let (first, second) = all.split_at(8);
    for epoch in [first, second] {
        let distinct: BTreeSet<&str> = keys(epoch).into_iter().collect();
        assert_eq!(distinct.len(), 56);
    }
    assert_ne!(keys(first), keys(second));
    // 59 rows in sevens are 8 batches and 3 rows over, in fives 11 and 4.
    assert_eq!(dataset.batches_per_epoch(5), 11);
    let distinct = batches(&dataset, &plan(5), Position::default(), 11);
    assert_eq!(keys(&distinct).into_iter().collect::<BTreeSet<_>>().len(), 55);
}

/// Which text was drawn, by the words of its ids.
#[test]
fn texts_are_drawn_by_weight_and_ids_are_those_of_clip() {
    let tokenizer = Tokenizer::clip().unwrap();
    let config = DataConfig {
        texts: TextWeights { raw: 1.0, synthetic: 3.0, generated: 0.0 },
        ..config(FOLDER.path())
    };
    let dataset = open(&config).unwrap();
    // Multiples of 5 that leave 1 over 3 have no text but the generated one: 10, 25, 40, 55.
    assert_eq!(dataset.left_out(), LeftOut { filter: 0, no_text: 4 });
    let per_epoch = dataset.batches_per_epoch(19) as usize;
    let mut drawn: BTreeMap<(bool, bool, Text), usize> = BTreeMap::new();
    for batch in batches(&dataset, &plan(19), Position::default(), 40 * per_epoch) {
        for (place, (key, text)) in batch.keys.iter().zip(&batch.texts).enumerate() {
            let row: usize = key.parse().unwrap();
            let ids = &batch.tokens[77 * place..77 * (place + 1)];
            assert_eq!(ids, tokenizer.context(&format!("{text} {row}")));
            *drawn.entry((row % 3 != 1, !row.is_multiple_of(5), *text)).or_default() += 1;
        }
    }
    let of = |raw, synthetic, text| drawn.get(&(raw, synthetic, text)).copied().unwrap_or(0) as f64;
    assert_eq!(of(true, false, Text::Synthetic) + of(false, true, Text::Raw), 0.0);
    assert!(of(true, false, Text::Raw) > 0.0 && of(false, true, Text::Synthetic) > 0.0);
    let (raw, synthetic) = (of(true, true, Text::Raw), of(true, true, Text::Synthetic));
    let share = raw / (raw + synthetic);
    assert!((share - 0.25).abs() < 0.04, "{raw} {synthetic}");
}

#[test]
fn a_filter_reads_the_audit_of_a_run_and_tars_are_trained_on_as_parquet_is() {
    let dir = tempfile::tempdir().unwrap();
    let (parquet, tars) = (dir.path().join("parquet"), dir.path().join("tars"));
    succeeded(&demo(&parquet).output().unwrap());
    succeeded(&demo(&tars).args(["--format", "webdataset"]).output().unwrap());
    let samples = samples(&parquet);
    let mut scores: Vec<f32> = samples.iter().map(|sample| sample.audit.score).collect();
    scores.sort_by(f32::total_cmp);
    let middle = scores[scores.len() / 2];
    let passing: BTreeSet<&str> = samples
        .iter()
        .filter(|sample| sample.audit.score >= middle && !sample.tags.is_empty())
        .map(|sample| sample.item.key.as_str())
        .collect();
    let filter = Some(format!("audit.score >= {middle} and tags|length > 0"));
    let of = |run: &Path| open(&DataConfig { filter: filter.clone(), ..config(run) }).unwrap();
    let dataset = of(&parquet);
    assert_eq!(dataset.rows(), passing.len() as u64);
    assert_eq!(dataset.left_out().filter, (samples.len() - passing.len()) as u64);
    let plan = plan(4);
    let count = dataset.batches_per_epoch(4) as usize * 2;
    let ours = batches(&dataset, &plan, Position::default(), count);
    assert!(keys(&ours).iter().all(|key| passing.contains(key)));
    assert!(ours.iter().all(|batch| batch.unreadable.is_empty() && batch.keys.len() == 4));
    let drawn: BTreeSet<Text> = ours.iter().flat_map(|batch| batch.texts.clone()).collect();
    assert_eq!(drawn.len(), 3, "{drawn:?}");

    let theirs = of(&tars);
    assert_eq!(theirs.fingerprint(), dataset.fingerprint());
    assert!(batches(&theirs, &plan, Position::default(), count) == ours);

    let unknown = DataConfig { filter: Some("audit.skore > 1".to_owned()), ..config(&parquet) };
    let said = said(open(&unknown));
    assert!(said.contains("audit.skore > 1") && said.contains("it has score"), "{said}");
}

/// A row that is read without its picture and one that is read with it are the same row.
#[test]
fn without_augmentation_pictures_are_those_of_an_evaluation() {
    let off = Augment { off: true, ..Augment::default() };
    let config = DataConfig { augment: off, ..config(FOLDER.path()) };
    let dataset = open(&config).unwrap();
    let transform = ClipTransform { size: SIDE };
    let limits = Limits { min_side: 1, ..Limits::default() };
    let plain = |key: &String| transform.of_bytes(&picture(key.parse().unwrap()), &limits).unwrap();
    let size = (3 * SIDE * SIDE) as usize;
    let drawn = batches(&dataset, &plan(7), Position::default(), 3);
    let judged: Vec<Batch> =
        dataset.evaluation(SIDE, None, 10).unwrap().collect::<Result<_>>().unwrap();
    for batch in drawn.iter().chain(&judged) {
        for (key, pixels) in batch.keys.iter().zip(batch.pixels.chunks_exact(size)) {
            assert_eq!(pixels, plain(key));
        }
    }
    let augmented = open(&self::config(FOLDER.path())).unwrap();
    let augmented = batches(&augmented, &plan(7), Position::default(), 1);
    assert_eq!(augmented[0].keys, drawn[0].keys);
    assert_ne!(augmented[0].pixels, drawn[0].pixels);
}

#[test]
fn an_evaluation_has_every_row_in_order_with_the_best_text() {
    let filter = Some("number != 3 and number < 30".to_owned());
    let dataset = open(&DataConfig { filter, ..config(FOLDER.path()) }).unwrap();
    let judge = |text| -> Vec<Batch> {
        dataset.evaluation(SIDE, text, 10).unwrap().collect::<Result<_>>().unwrap()
    };
    let best = judge(None);
    let rows: Vec<usize> = keys(&best).iter().map(|key| key.parse().unwrap()).collect();
    // 25 has no text at all.
    let expected: Vec<usize> = (0..30).filter(|row| ![3, 25].contains(row)).collect();
    assert_eq!(rows, expected);
    assert_eq!(best.iter().map(|batch| batch.first).collect::<Vec<_>>(), [0, 10, 20]);
    let texts = |batches: &[Batch]| -> Vec<Text> {
        batches.iter().flat_map(|batch| batch.texts.clone()).collect()
    };
    for (row, text) in rows.iter().zip(texts(&best)) {
        let expected = match () {
            () if row % 2 == 0 => Text::Generated,
            () if row % 5 != 0 => Text::Synthetic,
            () => Text::Raw,
        };
        assert_eq!(text, expected, "{row}");
    }
    for (row, text) in rows.iter().zip(texts(&judge(Some(Text::Raw)))) {
        assert_eq!(text == Text::Raw, row % 3 != 1, "{row}");
    }
}

#[test]
fn a_picture_that_cannot_be_read_makes_its_batch_shorter_and_is_named() {
    let dir = folder(20, |row| json!({"text_raw": format!("text {row}")}));
    fs::write(dir.path().join("004.png"), b"no picture").unwrap();
    fs::remove_file(dir.path().join("011.png")).unwrap();
    let dataset = open(&config(dir.path())).unwrap();
    assert_eq!(dataset.rows(), 20);
    let all = batches(&dataset, &plan(5), Position::default(), 8);
    for epoch in all.chunks(4) {
        let mut wrong: Vec<&(String, String)> =
            epoch.iter().flat_map(|batch| &batch.unreadable).collect();
        wrong.sort();
        assert_eq!((wrong[0].0.as_str(), wrong[1].0.as_str()), ("004", "011"), "{wrong:?}");
        assert!(wrong[1].1.contains("image file is missing"), "{wrong:?}");
        assert_eq!(keys(epoch).len(), 18);
    }
    for batch in &all {
        assert_eq!(batch.keys.len() + batch.unreadable.len(), 5);
        assert_eq!(batch.pixels.len(), batch.keys.len() * (3 * SIDE * SIDE) as usize);
        assert_eq!(
            (batch.tokens.len(), batch.texts.len()),
            (77 * batch.keys.len(), batch.keys.len())
        );
    }
    let judged: Vec<Batch> =
        dataset.evaluation(SIDE, None, 6).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(keys(&judged).len(), 18);
}

#[test]
fn what_changes_under_the_loader_is_an_error_at_its_place() {
    let dir = folder(40, |row| json!({"text_raw": format!("text {row}")}));
    let dataset = open(&DataConfig { prefetch: 0, ..config(dir.path()) }).unwrap();
    let mut loader = dataset.loader(&plan(4), Position::default()).unwrap();
    loader.next().unwrap().unwrap();
    fs::write(dir.path().join("metadata.jsonl"), "{}\n").unwrap();
    let error = loader.by_ref().find_map(Result::err).expect("an endless loader");
    assert!(format!("{error:#}").contains("has changed"), "{error:#}");
    assert!(loader.next().is_none());
}

/// Threads hold the words, so that a thread that was left behind would be seen here.
#[test]
fn a_loader_that_is_dropped_leaves_no_thread_behind() {
    let words = words();
    for taken in 0..6 {
        let config = config(FOLDER.path());
        let dataset = Dataset::open(&config, Arc::clone(&words), &mut |_| ()).unwrap();
        let mut loader = dataset.loader(&plan(3), Position::default()).unwrap();
        for _ in 0..taken {
            loader.next().unwrap().unwrap();
        }
        drop(dataset);
        assert!(Arc::strong_count(&words) > 1);
        drop(loader);
        assert_eq!(Arc::strong_count(&words), 1, "after {taken} batches");
    }
}

#[test]
fn what_cannot_be_trained_on_is_said_at_once() {
    let of = |change: &dyn Fn(&mut DataConfig)| {
        let mut config = config(FOLDER.path());
        change(&mut config);
        open(&config)
    };
    assert!(said(of(&|c| c.inputs.clear())).contains("no data"));
    assert!(said(of(&|c| c.block = 0)).contains("block"));
    assert!(said(of(&|c| c.filter = Some("colour == 'red'".to_owned()))).contains("audit"));
    assert!(said(of(&|c| c.filter = Some("number > 99".to_owned()))).contains("leaves out 61"));
    let none = TextWeights { raw: 0.0, synthetic: 0.0, generated: 0.0 };
    assert!(said(of(&|c| c.texts = none)).contains("not all 0"));
    assert!(said(of(&|c| c.augment.max_area = 7.0)).contains("areas"));
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("urls.csv");
    fs::write(&table, "url,caption\nhttp://a.example/1.jpg,one\n").unwrap();
    assert!(said(open(&config(&table))).contains("recaption refine"));

    let dataset = of(&|_| ()).unwrap();
    let ask = |plan: LoaderPlan, batch| said(dataset.loader(&plan, Position { epoch: 0, batch }));
    assert!(ask(plan(60), 0).contains("59 rows to train on, fewer than a batch of 60"));
    assert!(ask(plan(8), 7).contains("7 batches of 8"));
    assert!(ask(LoaderPlan { world: 3, ..plan(8) }, 0).contains("make it 9"));
    assert!(ask(LoaderPlan { rank: 2, world: 2, ..plan(8) }, 0).contains("rank 2 of 2"));
}

#[test]
fn keys_that_are_made_of_pictures_are_no_matter_for_a_filter() {
    let dir = tempfile::tempdir().unwrap();
    let images = BinaryArray::from_iter((0..3).map(|row| Some(picture(row))));
    let texts = StringArray::from(vec![Some("one"), Some(" "), Some("three")]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("image", Arc::new(images)), ("text", Arc::new(texts))];
    let path = dir.path().join("a.parquet");
    write_parquet(&path, columns, 2);
    let mut rows = 0;
    let dataset = Dataset::open(&config(&path), Arc::clone(&WORDS), &mut |done| rows = done);
    let dataset = dataset.unwrap();
    assert_eq!((dataset.rows(), dataset.left_out().no_text, rows), (2, 1, 3));
    assert_eq!(batches(&dataset, &plan(2), Position::default(), 1)[0].keys.len(), 2);
    let filter = |filter: &str| DataConfig { filter: Some(filter.to_owned()), ..config(&path) };
    assert_eq!(open(&filter("text != 'one'")).unwrap().rows(), 1);
    assert!(said(open(&filter("key != 'a'"))).contains("no column of keys"));
}

#[test]
fn settings_are_read_from_toml() {
    let text = "inputs = ['run']\nfilter = 'width > 64'\n[texts]\nraw = 0\n[augment]\noff = true\n";
    let config: DataConfig = toml::from_str(text).unwrap();
    assert_eq!(config.texts.of(), [0.0, 1.0, 1.0]);
    assert_eq!((config.block, config.pool, config.augment.off), (100, 16, true));
    let again: DataConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    assert!(toml::from_str::<DataConfig>("filters = 'width > 64'").is_err());
}

#[test]
fn a_training_is_known_by_its_data_and_settings_and_not_by_where_they_lie() {
    let text = |row: usize| json!({"text_raw": format!("text {row}"), "split": "train"});
    let (here, there) = (folder(9, text), folder(9, text));
    let of = |dir: &TempDir, change: &dyn Fn(&mut DataConfig)| {
        let mut config = config(dir.path());
        change(&mut config);
        open(&config).unwrap().fingerprint().to_owned()
    };
    let same = of(&here, &|_| ());
    assert_eq!(same.len(), 64);
    assert_eq!(of(&there, &|config| config.workers = 7), same);
    assert_ne!(of(&here, &|config| config.filter = Some("split == 'train'".to_owned())), same);
    assert_ne!(of(&here, &|config| config.texts.raw = 0.5), same);
    assert_ne!(of(&here, &|config| config.block = 6), same);
    assert_ne!(of(&here, &|config| config.augment.flip = 0.0), same);
    let other = folder(9, |row| json!({"text_raw": format!("Text {row}"), "split": "train"}));
    assert_ne!(of(&other, &|_| ()), same);
}
