//! What may be named as INPUT, and going on with a plan.

use std::time::Duration;
use std::time::SystemTime;

use recaption::source::Format;

use super::webdataset::tar_of;
use super::*;

#[test]
fn sources_can_be_shared_by_workers() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Source>();
}

#[test]
fn formats_are_written_as_they_are_read() {
    for format in [Format::Folder, Format::Parquet, Format::Table, Format::Webdataset] {
        assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
    }
    let said = "zip".parse::<Format>().unwrap_err().to_string();
    assert!(said.contains("there are folder, parquet, table, webdataset"), "{said}");
}

#[test]
fn inputs_of_different_kinds_are_refused() {
    let dir = folder_of(&[
        ("a.csv", b"url,text\nu,t\n"),
        ("b.tar", &tar_of(&[("1.jpg", PIXELS)])),
        ("mixed/a.csv", b"url,text\nu,t\n"),
        ("mixed/1.jpg", PIXELS),
        ("notes.md", b"# words"),
    ]);
    let said = open(&[dir.path().join("a.csv"), dir.path().join("b.tar")]).err().unwrap();
    assert!(said.to_string().contains("inputs of different kinds"), "{said}");
    let said = refusal(&dir.path().join("mixed"));
    assert!(said.contains("holds files of several kinds (folder, table)"), "{said}");
    let config = Config { input_format: Some(Format::Table), ..Config::default() };
    let source = open_with(&[dir.path().join("mixed")], &config).unwrap();
    assert_eq!(source.plan().rows, 1);
    let said = refusal(&dir.path().join("notes.md"));
    assert!(said.contains("notes.md is not recognised"), "{said}");
}

#[test]
fn globs_name_files_and_doubles_count_once() {
    let dir = folder_of(&[
        ("1.csv", b"url,text\nu1,t\n"),
        ("2.csv", b"url,text\nu2,t\n"),
        ("[3].csv", b"url,text\nu3,t\n"),
    ]);
    let source = open(&[dir.path().join("?.csv"), dir.path().join("1.csv")]).unwrap();
    assert_eq!(source.plan().rows, 2);
    let source = open(&[dir.path().join("[3].csv")]).unwrap();
    assert_eq!(items(&source)[0].url.as_deref(), Some("u3"), "a name may look like a glob");
    let said = refusal(&dir.path().join("*.tsv"));
    assert!(said.contains("no file matches"), "{said}");
    let said = refusal(&dir.path().join("gone.csv"));
    assert!(said.contains("gone.csv does not exist"), "{said}");
}

#[test]
fn what_it_is_counts_more_than_what_it_is_called() {
    let dir = folder_of(&[("tar.dat", &tar_of(&[("1.jpg", PIXELS)]))]);
    assert_eq!(told(&dir.path().join("tar.dat")), ["tar/1|-|9 bytes 1.jpg"]);
}

#[test]
fn a_plan_survives_as_json_and_goes_on() {
    let dir = folder_of(&[("a.csv", b"url,text,n\nu1,t1,1\nu2,t2,2\n")]);
    let source = open(&[dir.path().to_owned()]).unwrap();
    let text = serde_json::to_string(source.plan()).unwrap();
    let again = Source::resume(serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(again.plan(), source.plan());
    assert_eq!(items(&again), items(&source));
}

#[test]
fn a_changed_or_missing_input_is_named() {
    let dir = folder_of(&[("a.csv", b"url,text\nu1,t1\n"), ("bare/1.jpg", PIXELS)]);
    let table = dir.path().join("a.csv");
    let plan = open(std::slice::from_ref(&table)).unwrap().plan().clone();
    assert!(Source::resume(plan.clone()).is_ok());
    let source = Source::resume(plan.clone()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&table).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    let said = Source::resume(plan.clone()).err().unwrap().to_string();
    assert!(said.contains("a.csv has changed since"), "{said}");
    assert!(source.items(0..1).is_err(), "also during a run");
    fs::remove_file(&table).unwrap();
    let said = Source::resume(plan).err().unwrap().to_string();
    assert!(said.contains("cannot read") && said.contains("a.csv"), "{said}");

    let plan = open(&[dir.path().join("bare")]).unwrap().plan().clone();
    assert!(Source::resume(plan.clone()).is_ok());
    write(dir.path(), "bare/2.jpg", PIXELS);
    let said = Source::resume(plan).err().unwrap().to_string();
    assert!(said.contains("bare has changed since"), "{said}");
}
