//! Webdataset tars.

use serde_json::json;
use tar::EntryType;
use tar::Header;

use super::*;

pub(super) fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // `append_data` refuses the names that are wanted here.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn what_img2dataset_writes_is_read() {
    let json = json!({
        "caption": "of the json", "url": "http://a.example/1.jpg", "key": "000000001",
        "width": 640, "exif": "{}", "error_message": null,
    });
    let tar = tar_of(&[
        ("000000001.jpg", PIXELS),
        ("000000001.txt", b"of the txt"),
        ("000000001.json", json.to_string().as_bytes()),
        ("000000002.jpg", PIXELS),
        ("000000002.json", json!({"caption": "only json"}).to_string().as_bytes()),
    ]);
    let dir = folder_of(&[
        ("00000.tar", &tar),
        ("00000.parquet", b"the account of the shard"),
        ("00000_stats.json", b"{}"),
    ]);
    let source = open(&[dir.path().to_owned()]).unwrap();
    assert!(!source.plan().has_urls());
    let items = items(&source);
    assert_eq!(
        items.iter().map(tell).collect::<Vec<_>>(),
        [
            "000000001|of the txt|9 bytes 000000001.jpg",
            "00000/000000002|only json|9 bytes 000000002.jpg",
        ]
    );
    assert_eq!(items[0].url.as_deref(), Some("http://a.example/1.jpg"));
    assert_eq!(items[0].extra["width"], json!(640));
    let extra: Vec<&str> = source.plan().extra.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(extra, ["width", "exif", "error_message"]);
}

#[test]
fn the_class_of_a_row_is_a_column() {
    let json = json!({"width": 640, "cls": "of the json"}).to_string();
    let tar = tar_of(&[
        ("1.cls", b"7"),
        ("1.jpg", PIXELS),
        ("2.cls", b" 12\n"),
        ("2.jpg", PIXELS),
        ("2.json", json!({"width": 320}).to_string().as_bytes()),
    ]);
    let dir = folder_of(&[("x.tar", &tar)]);
    let found = items(&open(&[dir.path().join("x.tar")]).unwrap());
    assert_eq!([&found[0].extra["cls"], &found[1].extra["cls"]], [&json!(7), &json!(12)]);
    assert_eq!(found[1].extra["width"], json!(320));

    let tar = tar_of(&[("1.cls", b"7"), ("1.jpg", PIXELS), ("1.json", json.as_bytes())]);
    let dir = folder_of(&[("x.tar", &tar)]);
    let found = items(&open(&[dir.path().join("x.tar")]).unwrap());
    assert_eq!(found[0].extra["cls"], json!("of the json"));
}

#[test]
fn members_that_are_no_neighbours_are_refused() {
    let tar = tar_of(&[("1.jpg", PIXELS), ("2.jpg", PIXELS), ("1.txt", b"x"), ("2.txt", b"y")]);
    let dir = folder_of(&[("x.tar", &tar)]);
    let said = refusal(&dir.path().join("x.tar"));
    assert!(said.contains("x.tar: the members of 1 are not neighbours"), "{said}");
}

#[test]
fn names_lead_nowhere_and_links_are_no_pictures() {
    let mut tar = tar::Builder::new(tar_of(&[
        ("../../up.jpg", PIXELS),
        ("/etc/abs.jpg", PIXELS),
        ("./here/a.jpg", PIXELS),
    ]));
    tar.get_mut().truncate(6 * 512);
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "link.jpg", "/etc/passwd").unwrap();
    let dir = folder_of(&[("in/x.tar", &tar.into_inner().unwrap())]);
    let before = names_below(dir.path());
    let items = items(&open(&[dir.path().join("in")]).unwrap());
    assert_eq!(
        items.iter().map(|item| &*item.key).collect::<Vec<_>>(),
        ["x/up", "x/etc/abs", "x/here/a"]
    );
    assert_eq!(names_below(dir.path()), before, "nothing was unpacked");
}

fn names_below(dir: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap().into_path()).collect()
}

#[test]
fn rows_with_trouble_are_rows_with_a_reason() {
    let tar = tar_of(&[
        ("a.txt", b"no picture"),
        ("b.jpg", PIXELS),
        ("b.jpg", b"which?"),
        ("c.jpg", PIXELS),
        ("c.json", b"{broken"),
        ("README", b"no row"),
        ("d.jpg", b""),
    ]);
    let dir = folder_of(&[("x.tar", &tar)]);
    assert_eq!(
        told(&dir.path().join("x.tar")),
        [
            "x/a|no picture|image is null",
            "x/b|-|source row is malformed",
            "x/c|-|source row is malformed",
            "x/d|-|empty image bytes",
        ]
    );
}

#[test]
fn the_last_row_of_a_cut_off_tar_says_so() {
    let tar = tar_of(&[("a.jpg", &[1; 600]), ("b.jpg", &[2; 600])]);
    // Header and content of `a` are three blocks.
    for (length, expected) in [
        (3 * 512 + 512 + 100, ["x/a|-|600 bytes a.jpg", "x/b|-|body is truncated"].as_slice()),
        (3 * 512 + 100, ["x/a|-|body is truncated"].as_slice()),
        (3 * 512, ["x/a|-|600 bytes a.jpg"].as_slice()),
    ] {
        let dir = folder_of(&[("x.tar", &tar[..length])]);
        assert_eq!(told(&dir.path().join("x.tar")), expected, "{length} bytes");
    }
}

#[test]
fn a_member_above_the_cap_is_not_read() {
    let dir = folder_of(&[]);
    let mut header = Header::new_gnu();
    header.set_path("big.jpg").unwrap();
    header.set_size((64 << 20) + 1);
    header.set_cksum();
    let path = dir.path().join("x.tar");
    fs::write(&path, header.as_bytes()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((65 << 20) + 1024).unwrap();
    assert_eq!(told(&path), ["x/big|-|body is too large"]);
}

#[test]
fn tars_that_cannot_be_used_are_refused_by_name() {
    let dir = folder_of(&[
        ("text.tar", &b"words ".repeat(200)),
        ("none.tar", &tar_of(&[])),
        ("cls.tar", &tar_of(&[("1.pyd", PIXELS), ("1.cls", b"3")])),
        ("x.tar.gz", &[0x1f, 0x8b, 8, 0]),
    ]);
    let said = |name: &str| refusal(&dir.path().join(name));
    assert!(said("text.tar").contains("text.tar is no whole tar"), "{}", said("text.tar"));
    assert!(said("none.tar").contains("none.tar has no rows"), "{}", said("none.tar"));
    assert!(said("cls.tar").contains("found: cls, pyd"), "{}", said("cls.tar"));
    assert!(said("x.tar.gz").contains("gunzip it first"), "{}", said("x.tar.gz"));
    let config = Config { image_column: Some("pyd".into()), ..Config::default() };
    let source = open_with(&[dir.path().join("cls.tar")], &config).unwrap();
    assert_eq!(items(&source).iter().map(tell).collect::<Vec<_>>(), ["cls/1|-|9 bytes 1.pyd"]);
    let config = Config { image_column: Some("png".into()), ..Config::default() };
    let said = refusal_with(&dir.path().join("cls.tar"), &config);
    assert!(said.contains(r#"image_column is "png""#), "{said}");
}

/// Of our own shards, the `.txt` is the best of three texts: it must not stand for that of the web.
#[test]
fn the_text_of_the_web_is_that_of_the_json_where_the_json_has_it() {
    let json = |raw: &str| format!("{{\"text_raw\": {raw}, \"text_generated\": \"best\"}}");
    let (one, two) = (json("\"raw\""), json("null"));
    let tar = tar_of(&[
        ("1.jpg", PIXELS),
        ("1.txt", b"best"),
        ("1.json", one.as_bytes()),
        ("2.jpg", PIXELS),
        ("2.txt", b"best"),
        ("2.json", two.as_bytes()),
    ]);
    let dir = folder_of(&[("x.tar", &tar)]);
    let items = items(&open(&[dir.path().to_owned()]).unwrap());
    assert_eq!(items[0].text_raw.as_deref(), Some("raw"));
    assert_eq!(items[1].text_raw, None);
}
