//! Folders of images.

use recaption::source::Config;
use recaption::source::Format;
use serde_json::json;

use super::*;

#[test]
fn metadata_names_pictures_and_their_texts() {
    let metadata = concat!(
        r#"{"file_name": "a.jpg", "text": "one", "year": 1999}"#,
        "\n",
        r#"{"file_name": "sub/b.png", "text": null, "year": null}"#,
        "\n",
        r#"{"file_name": "gone.jpg", "text": "three"}"#,
        "\nnot json\n",
        r#"{"text": "no file"}"#,
        "\n",
    );
    let dir = folder_of(&[
        ("metadata.jsonl", metadata.as_bytes()),
        ("a.jpg", PIXELS),
        ("sub/b.png", PIXELS),
        ("not_named.jpg", PIXELS),
    ]);
    let source = open(&[dir.path().to_owned()]).unwrap();
    assert_eq!(source.plan().format, Format::Folder);
    assert!(!source.plan().has_urls());
    let items = items(&source);
    let told: Vec<String> = items.iter().map(tell).collect();
    assert_eq!(
        told[..3],
        ["a|one|9 bytes a.jpg", "sub/b|-|9 bytes b.png", "gone|three|image file is missing"]
    );
    assert!(told[3].ends_with("|-|source row is malformed"), "{}", told[3]);
    assert!(detail(&items[3]).starts_with("line 4: not JSON"), "{}", detail(&items[3]));
    assert!(told[4].ends_with("|no file|image file is missing"), "{}", told[4]);
    assert_eq!(items[0].extra["year"], json!(1999));
    assert!(!items[1].extra.contains_key("year"), "absent is null");
}

#[test]
fn splits_have_metadata_of_their_own_and_keys_of_their_own() {
    let metadata = b"file_name,text\n1.jpg,word\n";
    let dir = folder_of(&[
        ("train/metadata.csv", metadata),
        ("train/1.jpg", PIXELS),
        ("test/metadata.csv", metadata),
        ("test/1.jpg", PIXELS),
    ]);
    let expected = ["test/1|word|9 bytes 1.jpg", "train/1|word|9 bytes 1.jpg"];
    assert_eq!(told(dir.path()), expected);
}

#[test]
fn texts_beside_pictures_are_theirs() {
    let dir = folder_of(&[
        ("b.jpg", PIXELS),
        ("b.txt", b"two words\n"),
        ("a/1.webp", PIXELS),
        ("empty.png", b""),
        (".hidden.jpg", PIXELS),
        ("README.md", b"about"),
    ]);
    let expected =
        ["a/1|-|9 bytes 1.webp", "b|two words|9 bytes b.jpg", "empty|-|empty image bytes"];
    assert_eq!(told(dir.path()), expected);
}

#[test]
fn pictures_that_differ_by_extension_keep_it_in_their_keys() {
    let dir = folder_of(&[("a.jpg", PIXELS), ("a.png", PIXELS), ("b.jpg", PIXELS)]);
    let keys = items(&open(&[dir.path().to_owned()]).unwrap());
    assert_eq!(keys.iter().map(|i| &*i.key).collect::<Vec<_>>(), ["a.jpg", "a.png", "b"]);
}

#[test]
fn pictures_without_metadata_beside_a_split_with_it_are_rows_too() {
    let dir = folder_of(&[
        ("train/metadata.csv", b"file_name,text\n1.jpg,word\n"),
        ("train/1.jpg", PIXELS),
        ("more/2.jpg", PIXELS),
    ]);
    assert_eq!(told(dir.path()), ["train/1|word|9 bytes 1.jpg", "more/2|-|9 bytes 2.jpg"]);
}

#[test]
fn metadata_reaches_nothing_outside_its_folder() {
    let outer = folder_of(&[("secret.jpg", b"secret")]);
    let secret = outer.path().join("secret.jpg");
    let rows = [secret.to_str().unwrap(), "../secret.jpg", "a/../../secret.jpg", "/etc/passwd"]
        .map(|name| json!({"file_name": name, "text": "x"}).to_string());
    write(outer.path(), "data/metadata.jsonl", rows.join("\n").as_bytes());
    let items = items(&open(&[outer.path().join("data")]).unwrap());
    assert_eq!(items.len(), 4);
    for item in &items {
        assert!(detail(item).contains("is not below the folder"), "{item:?}");
        assert!(!item.key.contains("..") && !item.key.starts_with('/'), "{}", item.key);
    }
}

#[test]
fn several_folders_do_not_share_keys() {
    let dir = folder_of(&[("x/1.jpg", PIXELS), ("y/1.jpg", PIXELS), ("z/x/1.jpg", PIXELS)]);
    let [x, y, other_x] = ["x", "y", "z/x"].map(|name| dir.path().join(name));
    let keys = |paths: &[PathBuf]| {
        items(&open(paths).unwrap()).into_iter().map(|item| item.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&[x.clone(), y]), ["x/1", "y/1"]);
    let keys = keys(&[x, other_x]);
    assert!(keys[0].ends_with("/x/1") && keys[1].ends_with("/z/x/1"), "{keys:?}");
}

#[test]
fn image_files_can_be_inputs() {
    let dir = folder_of(&[("1.jpg", PIXELS), ("2.jpg", PIXELS), ("2.txt", b"two")]);
    let source = open(&[dir.path().join("*.jpg")]).unwrap();
    let told: Vec<String> = items(&source).iter().map(tell).collect();
    assert_eq!(told, ["1|-|9 bytes 1.jpg", "2|two|9 bytes 2.jpg"]);
}

#[test]
fn the_plan_of_a_bare_folder_does_not_grow_with_it() {
    let names: Vec<String> = (0..500).map(|n| format!("{n:04}.jpg")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), PIXELS)).collect();
    let dir = folder_of(&files);
    let plan = open(&[dir.path().to_owned()]).unwrap().plan().clone();
    assert_eq!((plan.rows, plan.files.len()), (500, 1));
    assert!(serde_json::to_string(&plan).unwrap().len() < 500);
}

#[test]
fn folders_that_cannot_be_used_are_refused_by_name() {
    let dir = folder_of(&[
        ("empty/.keep", b""),
        ("both/metadata.csv", b"file_name\na.jpg\n"),
        ("both/metadata.jsonl", b"{}\n"),
        ("other/metadata.csv", b"picture,text\na.jpg,x\n"),
        ("other/a.jpg", PIXELS),
    ]);
    let said = |name: &str| refusal(&dir.path().join(name));
    assert!(said("empty").contains("empty holds nothing that can be read"), "{}", said("empty"));
    assert!(said("both").contains("beside another metadata file"), "{}", said("both"));
    assert!(said("other").contains("no column file_name. Columns found: picture"));
    let config = Config { image_column: Some("picture".into()), ..Config::default() };
    let source = open_with(&[dir.path().join("other")], &config).unwrap();
    assert_eq!(items(&source).iter().map(tell).collect::<Vec<_>>(), ["a|x|9 bytes a.jpg"]);
}
