//! Shards raced for, mended, dropped and killed.

use std::sync::Barrier;
use std::thread;

use super::*;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_mended_shard_is_the_shard_that_would_have_been(
        rows in vec((outcome(), outcome()), 0..8),
    ) {
        for format in FORMATS {
            let (run, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (old, _): (Vec<Outcome>, Vec<Outcome>) = rows.iter().cloned().unzip();
            let old = write(&run, format, &old);
            let mut mended = Writer::rewrite(run.path(), &old, &extra_columns()).unwrap();
            let mut expected = Vec::new();
            for (old, again) in &rows {
                // A reject whose address is null is done again, so that both ways are taken.
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
