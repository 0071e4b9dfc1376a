//! Files and markers that are not what they were.

use super::*;

proptest! {
    #![proptest_config(cases())]

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
