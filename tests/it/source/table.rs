//! csv, tsv and jsonl.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use recaption::source::Format;
use serde_json::json;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn laion_columns_are_known_in_every_form() {
    let csv = b"URL,TEXT,WIDTH\nhttp://a.example/1,one,640\nhttp://a.example/2,\"two, 2\",\n";
    let tsv = b"URL\tTEXT\tWIDTH\nhttp://a.example/1\tone\t640\nhttp://a.example/2\ttwo, 2\t\n";
    let jsonl = concat!(
        r#"{"URL": "http://a.example/1", "TEXT": "one", "WIDTH": 640}"#,
        "\r\n",
        r#"{"URL": "http://a.example/2", "TEXT": "two, 2", "WIDTH": null}"#,
    );
    let dir = folder_of(&[
        ("a.csv", csv),
        ("b.tsv", tsv),
        ("c.jsonl", jsonl.as_bytes()),
        ("d.csv.gz", &gzip(csv)),
        ("e.JSONL.gz", &gzip(jsonl.as_bytes())),
    ]);
    let mut keys = Vec::new();
    for name in ["a.csv", "b.tsv", "c.jsonl", "d.csv.gz", "e.JSONL.gz"] {
        let source = open(&[dir.path().join(name)]).unwrap();
        assert_eq!(source.plan().format, Format::Table);
        assert!(source.plan().has_urls());
        let items = items(&source);
        let told: Vec<String> = items.iter().map(tell).collect();
        assert_eq!(told.len(), 2, "{name}");
        assert!(told[0].ends_with("|one|http://a.example/1"), "{name}: {told:?}");
        assert!(told[1].ends_with("|two, 2|http://a.example/2"), "{name}: {told:?}");
        let width = items[0].extra["WIDTH"].clone();
        assert!(width == json!(640) || width == json!("640"), "{name}: {width}");
        assert!(!items[1].extra.contains_key("WIDTH"), "{name}");
        keys.push([items[0].key.clone(), items[1].key.clone()]);
    }
    assert!(keys.iter().all(|pair| *pair == keys[0]), "keys are made of the url alone: {keys:?}");
}

#[test]
fn rows_never_vanish() {
    let csv = concat!(
        "uid,url,alt\n",
        "k1,http://a.example/1,fine\n",
        "k2,,no url\n",
        "k3,http://a.example/3\n",
        "k4,http://a.example/4,too,many\n",
        "\n",
        "k5,\"http://a.example/5\nx\",broken over lines\n",
        "k6,http://a.example/6,\"never closed\n",
    );
    let dir = folder_of(&[("x.csv", csv.as_bytes())]);
    let items = items(&open(&[dir.path().join("x.csv")]).unwrap());
    let told: Vec<String> = items.iter().map(tell).collect();
    assert_eq!(told[..2], ["k1|fine|http://a.example/1", "k2|no url|url is missing"]);
    assert!(detail(&items[2]).contains("line 4: 2 fields where the header has 3"));
    assert!(detail(&items[3]).contains("line 5: 4 fields where the header has 3"));
    assert_eq!(told[4], "k5|broken over lines|http://a.example/5\nx");
    assert!(detail(&items[5]).contains("line 9: a quote is never closed"), "{}", detail(&items[5]));
    assert_eq!(items.len(), 6);
}

#[test]
fn jsonl_rows_that_are_no_objects_are_rejects() {
    let jsonl =
        "{\"url\": \"u\", \"caption\": 5}\n[1]\n{\"url\": \n{\"url\": 7, \"n\": {\"a\": []}}\n";
    let dir = folder_of(&[("x.jsonl", jsonl.as_bytes())]);
    let config = Config { text_column: Some("caption".into()), ..Config::default() };
    let said = refusal_with(&dir.path().join("x.jsonl"), &config);
    // The column `url` holds text and a number, so it is text; `caption` holds only numbers.
    assert!(said.contains(r#"text_column is "caption", but that column holds Int64"#), "{said}");
    let items = items(&open(&[dir.path().join("x.jsonl")]).unwrap());
    let told: Vec<String> = items.iter().map(tell).collect();
    assert!(told[0].ends_with("|-|u") && told[3].ends_with("|-|7"), "{told:?}");
    assert_eq!(items[0].extra["caption"], json!(5));
    assert_eq!(items[3].extra["n"], json!({"a": []}));
    for place in [1, 2] {
        assert!(told[place].ends_with("source row is malformed"), "{}", told[place]);
    }
}

#[test]
fn several_files_are_read_in_the_order_of_their_names() {
    let dir = folder_of(&[
        ("2.csv", b"url,text,a\nu3,t3,x\n"),
        ("1.csv", b"url,text\nu1,t1\nu2,t2\n"),
        ("sub/3.csv", b"text,url\nt4,u4\n"),
    ]);
    let source = open(&[dir.path().to_owned()]).unwrap();
    let files: Vec<u64> = source.plan().files.iter().map(|file| file.rows).collect();
    assert_eq!((source.plan().rows, files), (4, vec![2, 1, 1]));
    let urls: Vec<String> = items(&source).into_iter().filter_map(|item| item.url).collect();
    assert_eq!(urls, ["u1", "u2", "u3", "u4"]);
}

#[test]
fn flags_map_other_columns() {
    let dir = folder_of(&[("x.csv", b"id,link,words,text\n7,u,yes,no\n")]);
    let config = Config {
        key_column: Some("id".into()),
        url_column: Some("link".into()),
        text_column: Some("words".into()),
        ..Config::default()
    };
    let source = open_with(&[dir.path().join("x.csv")], &config).unwrap();
    let items = items(&source);
    assert_eq!(tell(&items[0]), "7|yes|u");
    assert_eq!(items[0].extra["text"], json!("no"));
    let config = Config { url_column: Some("lnk".into()), ..config };
    let said = refusal_with(&dir.path().join("x.csv"), &config);
    assert!(said.contains(r#"url_column is "lnk", but there is only id (Utf8), link"#), "{said}");
}

#[test]
fn tables_that_cannot_be_used_are_refused_by_name() {
    let dir = folder_of(&[
        ("header.csv", b"url,text\n"),
        ("empty.csv", b""),
        ("blank.csv", b"\n\n"),
        ("unknown.csv", b"a,b\n1,2\n"),
        ("twice.csv", b"url,url\n1,2\n"),
        ("array.json", b"[{\"url\": \"u\"}]"),
        ("cut.csv.gz", &gzip(&b"url,text\n".repeat(9000))[..60]),
        ("wide.csv", b"\xff\xfeu\0r\0l\0"),
        ("binary.csv", b"\0\x01\x02,url\nx,y\n"),
    ]);
    for (name, expected) in [
        ("header.csv", "has no rows"),
        ("empty.csv", "is empty (0 bytes)"),
        ("blank.csv", "has no header line"),
        ("unknown.csv", "no column holds images or their urls. Columns found: a (Utf8), b (Utf8)"),
        ("twice.csv", "two columns are called \"url\""),
        ("array.json", "is one JSON array"),
        ("cut.csv.gz", "is cut off or damaged"),
        ("wide.csv", "is UTF-16"),
        ("binary.csv", "is not text"),
    ] {
        let said = refusal(&dir.path().join(name));
        assert!(said.contains(name) && said.contains(expected), "{name}: {said}");
    }
}
