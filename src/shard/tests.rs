//! Shards written and read back, raced for, mended, killed and damaged.

use std::fs;
use std::sync::Arc;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::arrow_json::extra_column;
use crate::sample::Audit;
use crate::sample::Extra;
use crate::sample::Generated;
use crate::sample::Origin;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Stage;
use crate::sample::StoredImage;
use crate::sample::Synthetic;
use crate::sample::Tag;
use crate::sample::WordOrigin;
use crate::shard::columns::Layout;

const FORMATS: [Format; 2] = [Format::Parquet, Format::Webdataset];

fn extra_columns() -> Vec<ExtraColumn> {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let columns = [
        ("width", DataType::Int64),
        ("key_source", DataType::Utf8),
        ("key", DataType::Utf8),
        ("image", DataType::Utf8),
        ("row", DataType::Int32),
        ("similarity", DataType::Float64),
        ("flag", DataType::Boolean),
        ("blob", DataType::Binary),
        ("pair", DataType::Struct(vec![Field::new("list", list, true)].into())),
    ];
    columns.iter().map(|(name, data_type)| extra_column(name, data_type).unwrap()).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        vec(any::<char>(), 0..8).prop_map(String::from_iter),
        Just("\0\u{1}\r\n\"\\',;\u{202e}\u{feff}</script>{{ x }}\u{10ffff}".to_owned()),
    ]
}

fn number() -> impl Strategy<Value = f32> {
    use proptest::num::f32::{NORMAL, SUBNORMAL, ZERO};
    NORMAL | SUBNORMAL | ZERO
}

fn extra() -> impl Strategy<Value = Extra> {
    use proptest::num::f64::{NORMAL, SUBNORMAL, ZERO};
    let pair = vec(option::of(text()), 0..3).prop_map(|list| json!({ "list": list }));
    let cells = (
        option::of(any::<i64>().prop_map(Value::from)),
        option::of(text().prop_map(Value::from)),
        option::of(text().prop_map(Value::from)),
        option::of(text().prop_map(Value::from)),
        option::of(any::<i32>().prop_map(Value::from)),
        option::of((NORMAL | SUBNORMAL | ZERO).prop_map(Value::from)),
        option::of(any::<bool>().prop_map(Value::from)),
        option::of("([0-9a-f]{2}){0,4}".prop_map(Value::from)),
        option::of(pair),
    );
    cells.prop_map(|(a, b, c, d, e, f, g, h, i)| {
        let names = extra_columns().into_iter().map(|column| column.name);
        let cells = names.zip([a, b, c, d, e, f, g, h, i]);
        cells.filter_map(|(name, cell)| Some((name, cell?))).collect()
    })
}

fn item() -> impl Strategy<Value = Item> {
    let cells = (text(), option::of(text()), option::of(text()), extra());
    cells.prop_map(|(key, url, text_raw, extra)| {
        let picture = Picture::Absent { reason: Reason::ImageNull, detail: String::new() };
        Item { key, picture, url, text_raw, extra }
    })
}

fn tag() -> impl Strategy<Value = Tag> {
    let cells = (text(), number(), option::of([number(), number(), number(), number()]), text());
    cells.prop_map(|(label, score, bbox, model)| Tag { label, score, bbox, model: model.into() })
}

fn generated() -> impl Strategy<Value = Generated> {
    let cells = (text(), text(), text(), text(), text(), option::of(any::<u32>()));
    cells.prop_map(|(text, writer, model, prompt, finish_reason, tokens)| {
        let (writer, model, prompt) = (writer.into(), model.into(), prompt.into());
        Generated { text, writer, model, prompt, finish_reason, tokens }
    })
}

fn audit() -> impl Strategy<Value = Audit> {
    let origins = [Origin::Tag, Origin::Synthetic, Origin::Raw, Origin::Nowhere];
    let word = (text(), proptest::sample::select(origins.to_vec()));
    let word = word.prop_map(|(word, origin)| WordOrigin { word, origin });
    let cells = (number(), vec(text(), 0..3), vec(word, 0..3));
    cells.prop_map(|(score, reasons, words)| Audit { score, reasons, words })
}

fn image() -> impl Strategy<Value = StoredImage> {
    let path = (text(), prop_oneof!["jpg", "png", "webp"]);
    let path = path.prop_map(|(name, extension)| format!("{name}.{extension}"));
    let cells = (vec(any::<u8>(), 0..40), path, any::<[u32; 4]>());
    cells.prop_map(|(bytes, path, [width, height, original_width, original_height])| {
        let bytes = Bytes::from(bytes);
        StoredImage { bytes, path, width, height, original_width, original_height }
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    let synthetic = (text(), text());
    let synthetic = synthetic.prop_map(|(text, model)| Synthetic { text, model: Arc::from(model) });
    let texts = (option::of(synthetic), option::of(generated()), option::of(text()));
    let cells = (item(), image(), text(), any::<u64>(), vec(tag(), 0..3), texts, audit());
    cells.prop_map(|(item, image, sha256, phash, tags, texts, audit)| {
        let (synthetic, generated, generated_refused) = texts;
        Sample { item, image, sha256, phash, tags, synthetic, generated, generated_refused, audit }
    })
}

fn reject() -> impl Strategy<Value = (Item, Reject)> {
    let stage = proptest::sample::select(Stage::ALL.to_vec());
    let reason = proptest::sample::select(Reason::ALL.to_vec());
    let reject = (stage, reason, text());
    let reject = reject.prop_map(|(stage, reason, detail)| Reject { stage, reason, detail });
    (item(), reject)
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![2 => sample().prop_map(Ok), 1 => reject().prop_map(Err)]
}

/// The same rows in every call.
fn outcomes(rows: usize) -> Vec<Outcome> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    vec(outcome(), rows).new_tree(&mut runner).unwrap().current()
}

fn samples(rows: usize) -> Vec<Outcome> {
    let mut all = outcomes(rows * 3);
    all.retain(Result::is_ok);
    all.truncate(rows);
    assert_eq!(all.len(), rows);
    all
}

fn writer(run: &TempDir, format: Format, outcomes: &[Outcome]) -> Writer {
    let mut writer = Writer::create(run.path(), 7, format, &extra_columns()).unwrap();
    outcomes.iter().for_each(|outcome| writer.push(outcome.clone()).unwrap());
    writer
}

fn write(run: &TempDir, format: Format, outcomes: &[Outcome]) -> Marker {
    writer(run, format, outcomes).commit(Duration::ZERO).unwrap().expect("nobody else is here")
}

/// Everything in a shard, in order, with the source's columns under the source's names.
fn read(run: &TempDir, marker: &Marker) -> Vec<Outcome> {
    let columns = extra_columns();
    let (refined, rejects) = (Layout::refined(&columns), Layout::rejects(&columns));
    let mut rows: Vec<Option<Outcome>> = Vec::new();
    rows.resize_with(marker.rows_read as usize, || None);
    for rejected in super::rejects(run.path(), marker).unwrap() {
        let (row, mut item, reject) = rejected.unwrap();
        item.extra = rejects.extra_of(item.extra);
        assert!(rows[row as usize].replace(Err((item, reject))).is_none(), "row {row} twice");
    }
    let mut samples = super::refined(run.path(), marker, Images::Read).unwrap();
    for row in rows.iter_mut().filter(|row| row.is_none()) {
        let mut sample = samples.next().expect("as many rows as counted").unwrap();
        sample.item.extra = refined.extra_of(sample.item.extra);
        *row = Some(Ok(sample));
    }
    assert!(samples.next().is_none());
    rows.into_iter().flatten().collect()
}

fn names_in(run: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(run.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn metadata(run: &TempDir, file: &DataFile) -> ParquetMetaData {
    let file = fs::File::open(run.path().join(&file.name)).unwrap();
    SerializedFileReader::new(file).unwrap().metadata().clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn rows_come_back_as_they_went_in(outcomes in vec(outcome(), 0..8)) {
        for format in FORMATS {
            let run = tempfile::tempdir().unwrap();
            let marker = write(&run, format, &outcomes);
            prop_assert_eq!(read(&run, &marker), outcomes.clone());
            prop_assert_eq!(finished(run.path(), 7).unwrap(), Some(marker.clone()));
            marker.verify(run.path()).unwrap();
        }
    }

    #[test]
    fn a_mended_shard_is_the_shard_that_would_have_been(
        rows in vec((outcome(), outcome()), 0..8),
    ) {
        for format in FORMATS {
            let (run, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let old: Vec<Outcome> = rows.iter().map(|(old, _)| old.clone()).collect();
            let old = write(&run, format, &old);
            let mut mended = Writer::rewrite(run.path(), &old, &extra_columns()).unwrap();
            let mut expected = Vec::new();
            for (old, again) in &rows {
                // A reject whose address is null is done again, so that both paths are gone.
                let kept = !matches!(old, Err((item, _)) if item.url.is_none());
                if kept {
                    mended.keep().unwrap();
                } else {
                    mended.push(again.clone()).unwrap();
                }
                expected.push(if kept { old.clone() } else { again.clone() });
            }
            let mended = mended.commit(Duration::ZERO).unwrap().unwrap();
            let expected = write(&fresh, format, &expected);
            prop_assert_eq!(&mended.part.sha256, &expected.part.sha256);
            prop_assert_eq!(&mended.rejects.sha256, &expected.rejects.sha256);
            prop_assert_eq!((mended.revision, &mended.stages), (1, &expected.stages));
            let extension = format.extension();
            let names = [
                "part-00007.json".to_owned(),
                format!("part-00007.r1.{extension}"),
                "rejects-00007.r1.parquet".to_owned(),
            ];
            prop_assert_eq!(names_in(&run), names);
        }
    }

    #[test]
    fn damaged_files_are_errors_or_rows_but_never_a_panic(
        at in any::<prop::sample::Index>(), byte: u8, cut: bool,
    ) {
        for format in FORMATS {
            let run = tempfile::tempdir().unwrap();
            let marker = write(&run, format, &outcomes(6));
            for file in marker.files() {
                let path = run.path().join(&file.name);
                let mut bytes = fs::read(&path).unwrap();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes.truncate(if cut { at } else { bytes.len() });
                fs::write(&path, bytes).unwrap();
            }
            // Opening may fail, and so may any row; both are values.
            let rows = refined(run.path(), &marker, Images::Read).map(Iterator::count);
            let rejected = rejects(run.path(), &marker).map(Iterator::count);
            prop_assert!(rows.is_err() || rows.unwrap() as u64 <= marker.refined + 1);
            prop_assert!(rejected.is_err() || rejected.unwrap() as u64 <= marker.rejected + 1);
        }
    }
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    for format in FORMATS {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let rows = outcomes(120);
        assert_eq!(write(&one, format, &rows), write(&two, format, &rows));
    }
}

#[test]
fn of_two_workers_the_first_makes_the_shard_and_the_other_leaves_no_trace() {
    for format in FORMATS {
        let run = tempfile::tempdir().unwrap();
        let (rows, other) = (samples(3), samples(5));
        let late = writer(&run, format, &other);
        let marker = write(&run, format, &rows);
        assert_eq!(late.commit(Duration::ZERO).unwrap(), None);
        marker.verify(run.path()).unwrap();
        assert_eq!(read(&run, &marker), rows);
        assert_eq!(names_in(&run).len(), 3, "{:?}", names_in(&run));
    }
}

#[test]
fn workers_that_commit_at_once_never_mix_their_files() {
    for round in 0..12 {
        let run = tempfile::tempdir().unwrap();
        let writers = [2, 3, 4].map(|rows| writer(&run, FORMATS[round % 2], &samples(rows)));
        let start = Barrier::new(writers.len());
        let commit = |writer: Writer| {
            start.wait();
            writer.commit(Duration::ZERO).unwrap()
        };
        let markers = thread::scope(|scope| {
            let threads = writers.map(|writer| scope.spawn(|| commit(writer)));
            threads.map(|thread| thread.join().unwrap())
        });
        let made: Vec<Marker> = markers.into_iter().flatten().collect();
        assert_eq!(made.len(), 1);
        assert_eq!(finished(run.path(), 7).unwrap().as_ref(), made.first());
        made[0].verify(run.path()).unwrap();
    }
}

#[test]
fn a_dropped_writer_leaves_nothing_behind() {
    for format in FORMATS {
        let run = tempfile::tempdir().unwrap();
        drop(writer(&run, format, &outcomes(120)));
        assert_eq!(names_in(&run), Vec::<String>::new());
    }
}

#[test]
fn a_kill_while_a_shard_is_mended_leaves_the_old_one_whole() {
    for format in FORMATS {
        let run = tempfile::tempdir().unwrap();
        let rows = outcomes(20);
        let old = write(&run, format, &rows);
        let mend = || {
            let mut mended = Writer::rewrite(run.path(), &old, &extra_columns()).unwrap();
            rows.iter().for_each(|_| mended.keep().unwrap());
            mended
        };
        // As a kill does: no destructor runs, and data files may be there without their marker.
        std::mem::forget(mend());
        for name in
            [format!("part-00007.r1.{}", format.extension()), "rejects-00007.r1.parquet".into()]
        {
            fs::write(run.path().join(name), "half").unwrap();
        }
        old.verify(run.path()).unwrap();
        assert_eq!(finished(run.path(), 7).unwrap().as_ref(), Some(&old));
        assert_eq!(read(&run, &old), rows);
        let mended = mend().commit(Duration::ZERO).unwrap().unwrap();
        mended.verify(run.path()).unwrap();
        assert_eq!(read(&run, &mended), rows);
    }
}

#[test]
fn mending_neither_loses_rows_nor_does_good_ones_again() {
    let run = tempfile::tempdir().unwrap();
    let rows = samples(2);
    let old = write(&run, Format::Parquet, &rows);
    let mend = || Writer::rewrite(run.path(), &old, &extra_columns()).unwrap();
    let mut short = mend();
    short.keep().unwrap();
    let error = short.commit(Duration::ZERO).unwrap_err().to_string();
    assert_eq!(error, "1 of the 2 rows of shard 7 came again");
    let mut long = mend();
    rows.iter().for_each(|_| long.keep().unwrap());
    assert!(long.keep().unwrap_err().to_string().contains("no such row"));
    let error = mend().push(rows[0].clone()).unwrap_err().to_string();
    assert!(error.contains("the old shard has refined"), "{error}");
    old.verify(run.path()).unwrap();
}

#[test]
fn of_two_that_mend_a_shard_the_first_wins() {
    let run = tempfile::tempdir().unwrap();
    let rows = outcomes(5);
    let old = write(&run, Format::Parquet, &rows);
    let mut mended = [(); 2].map(|()| Writer::rewrite(run.path(), &old, &extra_columns()).unwrap());
    mended.iter_mut().for_each(|writer| rows.iter().for_each(|_| writer.keep().unwrap()));
    let [first, second] = mended.map(|writer| writer.commit(Duration::ZERO).unwrap());
    assert_eq!(second, None);
    first.unwrap().verify(run.path()).unwrap();
}

#[test]
fn row_groups_hold_a_hundred_rows_and_pictures_are_not_compressed() {
    let run = tempfile::tempdir().unwrap();
    let marker = write(&run, Format::Parquet, &samples(250));
    let metadata = metadata(&run, &marker.part);
    let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [100, 100, 50]);
    for column in metadata.row_groups()[0].columns() {
        let path = column.column_path().string();
        let plain = column.compression() == Compression::UNCOMPRESSED;
        assert_eq!(plain, path == "image.bytes", "{path}");
        let free = ["image.bytes", "key", "url", "sha256"].contains(&path.as_str());
        let free = free || path.starts_with("text_");
        assert!(!free || column.dictionary_page_offset().is_none(), "{path} has a dictionary");
    }
}

#[test]
fn a_row_group_of_large_pictures_ends_early() {
    let run = tempfile::tempdir().unwrap();
    let mut rows = samples(3);
    let large = Bytes::from(vec![0; table::ROW_GROUP_IMAGE_BYTES / 2]);
    rows.iter_mut().flatten().for_each(|sample| sample.image.bytes = large.clone());
    let marker = write(&run, Format::Parquet, &rows);
    let metadata = metadata(&run, &marker.part);
    let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [2, 1]);
}

#[test]
fn chosen_rows_are_read_with_their_pictures() {
    for format in FORMATS {
        let run = tempfile::tempdir().unwrap();
        let marker = write(&run, format, &samples(230));
        let all: Vec<Sample> =
            refined(run.path(), &marker, Images::Read).unwrap().map(Result::unwrap).collect();
        let wanted = [0, 99, 100, 229];
        let some = refined_rows(run.path(), &marker, &wanted).unwrap();
        assert_eq!(some, wanted.map(|place| all[place].clone()));
        assert!(refined_rows(run.path(), &marker, &[230]).is_err());
        assert!(refined_rows(run.path(), &marker, &[4, 4]).is_err());
        let mut plain = refined(run.path(), &marker, Images::Skip).unwrap();
        assert!(plain.all(|sample| sample.unwrap().image.bytes.is_empty()));
    }
}

#[test]
fn only_a_clash_costs_a_column_of_the_source_its_name() {
    let names = |schema: SchemaRef| -> Vec<String> {
        schema.fields().iter().map(|field| field.name().clone()).rev().take(9).collect()
    };
    let mut refined = names(refined_schema(&extra_columns()).unwrap());
    refined.reverse();
    let plain = ["row", "similarity", "flag", "blob", "pair"];
    let clashes = ["width_source", "key_source", "key_source_source", "image_source"];
    assert_eq!(refined, [&clashes[..], &plain].concat());
    assert!(names(rejects_schema(&extra_columns()).unwrap()).contains(&"row_source".to_owned()));
}

#[test]
fn a_file_that_ends_between_two_rows_is_not_taken_for_a_short_one() {
    let run = tempfile::tempdir().unwrap();
    let whole = write(&run, Format::Webdataset, &samples(3));
    let cut = tempfile::tempdir().unwrap();
    let short = write(&cut, Format::Webdataset, &samples(2));
    fs::copy(cut.path().join(&short.part.name), run.path().join(&whole.part.name)).unwrap();
    let rows: Vec<_> = refined(run.path(), &whole, Images::Skip).unwrap().collect();
    assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    let error = rows[2].as_ref().unwrap_err().to_string();
    assert!(error.ends_with("has 2 rows, its marker counts 3"), "{error}");
}

#[test]
fn markers_that_contradict_themselves_or_point_elsewhere_are_refused() {
    let run = tempfile::tempdir().unwrap();
    let good = write(&run, Format::Parquet, &outcomes(5));
    let refuses = |change: &dyn Fn(&mut Marker), words: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        fs::write(marker_path(run.path(), 7), serde_json::to_vec(&bad).unwrap()).unwrap();
        let error = format!("{:#}", finished(run.path(), 7).unwrap_err());
        assert!(error.contains("delete it to redo the shard") && error.contains(words), "{error}");
    };
    refuses(&|marker| marker.shard = 8, "shard 8");
    refuses(&|marker| marker.refined = u64::MAX, "not the rows read");
    refuses(&|marker| marker.part.rows += 1, "other numbers of rows");
    refuses(&|marker| marker.part.name = "../part-00007.parquet".into(), "in the run's folder");
    refuses(&|marker| marker.rejects.name = "/etc/passwd".into(), "in the run's folder");
    fs::write(marker_path(run.path(), 7), "{").unwrap();
    assert!(finished(run.path(), 7).is_err());
}

#[test]
fn a_copy_of_a_marker_is_not_another_shard() {
    let run = tempfile::tempdir().unwrap();
    let marker = write(&run, Format::Parquet, &outcomes(5));
    for name in ["part-7.json", "part-+7.json", "part-00007 (1).json"] {
        fs::copy(marker_path(run.path(), 7), run.path().join(name)).unwrap();
    }
    assert_eq!(all_finished(run.path()).unwrap(), [marker]);
}
