//! Parsers over small real files, written here.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::Int64Array;
use arrow::array::ListArray;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use arrow::datatypes::Field;
use arrow::datatypes::Schema;
use arrow::datatypes::UInt8Type;
use image::ImageFormat;
use image::Rgb;
use image::RgbImage;
use parquet::arrow::ArrowWriter;
use serde_json::json;
use tempfile::tempdir;

use super::*;
use crate::eval::templates;
use crate::sample::Picture;

fn png(shade: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(4, 4, Rgb([shade, 0, 0])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn labelled(data: &Path) -> LabelledConfig {
    LabelledConfig { data: data.to_owned(), ..LabelledConfig::default() }
}

fn list(words: &[&str]) -> Option<Words> {
    Some(Words::List(words.iter().map(|&word| word.to_owned()).collect()))
}

fn refused(config: &LabelledConfig) -> String {
    format!("{:#}", Labelled::open(config).err().unwrap())
}

/// Keys and bytes of all pictures, read `at_a_time`.
fn shown(pictures: &Pictures, at_a_time: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    for some in pictures.batches(at_a_time).unwrap() {
        let some = some.unwrap();
        assert!(!some.is_empty() && some.len() <= at_a_time);
        all.extend(some.into_iter().map(|shown| match shown.picture {
            Picture::Bytes { bytes, .. } => (shown.key, Some(bytes.to_vec())),
            _ => (shown.key, None),
        }));
    }
    all
}

fn parquet(path: &Path, columns: Vec<(&str, ArrayRef)>, note: Option<serde_json::Value>) {
    let fields: Vec<Field> =
        columns.iter().map(|(name, a)| Field::new(*name, a.data_type().clone(), true)).collect();
    let note = note.map(|note| ("huggingface".to_owned(), note.to_string()));
    let schema = Schema::new_with_metadata(fields, note.into_iter().collect::<HashMap<_, _>>());
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::new(schema), arrays).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn images(shades: &[u8]) -> ArrayRef {
    let all: Vec<Vec<u8>> = shades.iter().map(|&shade| png(shade)).collect();
    Arc::new(BinaryArray::from_iter_values(all))
}

fn words(words: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(words))
}

fn tar(path: &Path, members: &[(&str, &[u8])]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.finish().unwrap();
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let root = tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    put(&at("hole/b.png"), &png(2));
    put(&at("hole/deep/a.JPG"), &png(1));
    put(&at("good/1.png"), &png(3));
    put(&at("good/.hidden.png"), &png(4));
    put(&at("good/Thumbs.db"), b"no picture");
    put(&at(".git/x.png"), &png(5));
    put(&at("notes.txt"), b"beside");
    fs::create_dir(at("Crack")).unwrap();
    let data = Labelled::open(&labelled(root.path())).unwrap();
    assert_eq!(data.classes, ["Crack", "good", "hole"]);
    assert_eq!(data.targets(), [1, 2, 2]);
    assert_eq!(data.empty_classes(), ["Crack"]);
    assert_eq!(data.templates, ["a photo of a {}."]);
    assert_eq!(data.metric, Metric::Top1);
    for at_a_time in [1, 2, 10] {
        let found = shown(data.pictures(), at_a_time);
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["good/1.png", "hole/b.png", "hole/deep/a.JPG"]);
        assert_eq!(found[2].1.as_deref().unwrap(), png(1));
    }
    fs::remove_file(at("hole/b.png")).unwrap();
    assert_eq!(shown(data.pictures(), 10)[1], ("hole/b.png".to_owned(), None));
}

#[test]
fn told_names_are_found_by_name_or_else_taken_in_order() {
    let root = tempdir().unwrap();
    put(&root.path().join("hot_dog/1.png"), &png(1));
    put(&root.path().join("Apple pie/1.png"), &png(1));
    let open = |classes: &[&str]| {
        Labelled::open(&LabelledConfig { classes: list(classes), ..labelled(root.path()) })
    };
    // By name: "hot_dog" is the first class, "waffles" has no picture.
    let by_name = open(&["hot dog", "waffles", "apple pie"]).unwrap();
    assert_eq!(by_name.targets(), [2, 0]);
    assert_eq!(by_name.empty_classes(), ["waffles"]);
    assert_eq!(by_name.note, None);
    let by_order = open(&["a pie", "a dog"]).unwrap();
    assert_eq!(by_order.targets(), [0, 1]);
    assert!(by_order.note.unwrap().contains("\"Apple pie\" for \"a pie\""));
    // The one name that fits stands where the order has another folder.
    let error = format!("{:#}", open(&["hot dog", "a pie"]).err().unwrap());
    assert!(error.contains("\"Apple pie\" has no class") && error.contains("alike"), "{error}");
    // Here it stands where the order has it too.
    let by_order = open(&["a pie", "hot dog"]).unwrap();
    assert_eq!((by_order.targets(), by_order.note.is_some()), (&[0, 1][..], true));
    let error = format!("{:#}", open(&["a", "b", "c"]).err().unwrap());
    assert!(error.contains("2 folders, but 3 names") && error.contains("Apple pie"), "{error}");
    let named = LabelledConfig {
        classes: Some(Words::Named("food101".to_owned())),
        ..labelled(root.path())
    };
    let published = Labelled::open(&named).unwrap();
    assert_eq!((published.classes.len(), published.name.as_str()), (101, "food101"));
    assert_eq!(published.templates, ["a photo of {}, a type of food."]);
    assert_eq!(published.classes[published.targets()[1]], "hot dog");
}

#[test]
fn folders_with_numbers_are_in_the_order_of_the_numbers() {
    let root = tempdir().unwrap();
    for name in ["10", "9", "1"] {
        put(&root.path().join(name).join("1.png"), &png(1));
    }
    let data = Labelled::open(&labelled(root.path())).unwrap();
    assert_eq!(data.classes, ["1", "9", "10"]);
    put(&root.path().join("x/1.png"), &png(1));
    assert_eq!(Labelled::open(&labelled(root.path())).unwrap().classes, ["1", "10", "9", "x"]);
}

#[test]
fn a_folder_cannot_have_the_slash_of_its_class() {
    let root = tempdir().unwrap();
    put(&root.path().join("Ram C-V Cargo Van/1.png"), &png(1));
    put(&root.path().join("Acura RL/1.png"), &png(1));
    let classes = list(&["Ram C/V Cargo Van", "Acura RL"]);
    let data = Labelled::open(&LabelledConfig { classes, ..labelled(root.path()) }).unwrap();
    assert_eq!((data.targets(), data.note.is_some()), (&[1, 0][..], false));
}

#[test]
fn a_data_set_is_called_after_its_classes_and_not_after_its_templates() {
    let root = tempdir().unwrap();
    for class in templates::find("pets").unwrap().classes {
        put(&root.path().join(class).join("1.png"), &png(1));
    }
    let named = |name: &str| Some(Words::Named(name.to_owned()));
    let config = LabelledConfig { templates: named("pets"), ..labelled(root.path()) };
    let data = Labelled::open(&config).unwrap();
    assert_eq!((data.metric, data.name == "pets"), (Metric::MeanPerClass, false));
    // Sentences of a data set with other classes take nothing from those of the classes.
    let config = LabelledConfig { templates: named("imagenet"), classes: named("pets"), ..config };
    let data = Labelled::open(&config).unwrap();
    assert_eq!((data.metric, data.name.as_str()), (Metric::MeanPerClass, "pets"));
    let config = LabelledConfig { classes: None, name: Some("pets".to_owned()), ..config };
    assert_eq!(Labelled::open(&config).unwrap().metric, Metric::MeanPerClass);
}

#[test]
fn parts_of_a_data_set_are_no_classes() {
    let root = tempdir().unwrap();
    put(&root.path().join("test/good/1.png"), &png(1));
    put(&root.path().join("train/good/1.png"), &png(1));
    let error = refused(&labelled(root.path()));
    assert!(error.contains("Say which with split"), "{error}");
    let split = LabelledConfig { split: Some("test".to_owned()), ..labelled(root.path()) };
    assert_eq!(Labelled::open(&split).unwrap().classes, ["good"]);
    let empty = tempdir().unwrap();
    assert!(refused(&labelled(empty.path())).contains("no class"));
    fs::create_dir(empty.path().join("good")).unwrap();
    assert!(refused(&labelled(empty.path())).contains("there is no picture"));
    assert!(refused(&labelled(&empty.path().join("gone"))).contains("no such file or folder"));
}

#[test]
fn labels_of_parquet_are_words_or_numbers_of_named_classes() {
    let root = tempdir().unwrap();
    let path = root.path().join("set.parquet");
    let keys = || ("key", words(&["a", "b", "c"]));
    let pictures = || ("image", images(&[1, 2, 3]));
    parquet(&path, vec![pictures(), keys(), ("category", words(&["pear", "fig", "pear"]))], None);
    let data = Labelled::open(&labelled(&path)).unwrap();
    assert_eq!(
        (data.classes.clone(), data.targets()),
        (vec!["fig".into(), "pear".into()], &[1, 0, 1][..])
    );
    assert_eq!(shown(data.pictures(), 2)[1], ("b".to_owned(), Some(png(2))));
    let told = LabelledConfig { classes: list(&["pear", "kiwi"]), ..labelled(&path) };
    let error = refused(&told);
    assert!(error.contains("row b: label \"fig\" is none of the classes: pear, kiwi"), "{error}");

    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(0), Some(2)]));
    parquet(&path, vec![pictures(), keys(), ("label", numbers.clone())], None);
    assert!(refused(&labelled(&path)).contains("give classes"));
    let told = LabelledConfig { classes: list(&["fig", "pear", "kiwi"]), ..labelled(&path) };
    assert_eq!(Labelled::open(&told).unwrap().targets(), [1, 0, 2]);
    let told = LabelledConfig { classes: list(&["fig", "pear"]), ..labelled(&path) };
    let error = refused(&told);
    assert!(error.contains("row c: label 2 is none of 2 classes, which are 0 to 1"), "{error}");

    let feature = json!({"info": {"features": {
        "label": {"names": ["fig", "pear", "kiwi"], "_type": "ClassLabel"}}}});
    parquet(&path, vec![pictures(), keys(), ("label", numbers)], Some(feature));
    let data = Labelled::open(&labelled(&path)).unwrap();
    assert_eq!(data.classes, ["fig", "pear", "kiwi"]);

    let holes: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(-1)]));
    parquet(&path, vec![pictures(), keys(), ("label", holes)], None);
    let error = refused(&told);
    assert!(error.contains("row b has no label"), "{error}");
    let error = refused(&LabelledConfig { label_column: Some("lable".to_owned()), ..told });
    assert!(error.contains("no column lable; there are key, label"), "{error}");
}

#[test]
fn a_filter_says_which_rows_count() {
    let root = tempdir().unwrap();
    let path = root.path().join("set.parquet");
    let columns = vec![
        ("image", images(&[1, 2, 3, 4])),
        ("caption", words(&["one", "two", "three", "four"])),
        ("category", words(&["pear", "fig", "fig", "kiwi"])),
        ("split", words(&["test", "train", "test", "test"])),
    ];
    parquet(&path, columns, None);
    let filter = |text: &str| Some(text.to_owned());
    let config = LabelledConfig { filter: filter("split == 'test'"), ..labelled(&path) };
    let data = Labelled::open(&config).unwrap();
    assert_eq!(data.classes, ["fig", "kiwi", "pear"]);
    assert_eq!(data.targets(), [2, 0, 1]);
    let bytes: Vec<_> = shown(data.pictures(), 2).into_iter().map(|(_, b)| b.unwrap()).collect();
    assert_eq!(bytes, [png(1), png(3), png(4)]);
    let config = CaptionedConfig { filter: config.filter, ..captioned(&path) };
    assert_eq!(Captioned::open(&config).unwrap().texts, ["one", "three", "four"]);
    let config = LabelledConfig { filter: filter("split == 'val'"), ..labelled(&path) };
    assert!(refused(&config).contains("no row counts"));
    let config = LabelledConfig { filter: filter("spilt == 'val'"), ..labelled(&path) };
    assert!(refused(&config).contains("no column spilt"));
}

#[test]
fn labels_may_be_paths_of_which_some_parts_count() {
    let root = tempdir().unwrap();
    let path = root.path().join("set.parquet");
    let labels = words(&["animals/birds/duck", "animals", "food/fruit"]);
    parquet(&path, vec![("image", images(&[1, 2, 3])), ("category", labels)], None);
    let open = |depth: Option<usize>| {
        Labelled::open(&LabelledConfig { label_depth: depth, ..labelled(&path) }).unwrap()
    };
    assert_eq!(open(Some(1)).classes, ["animals", "food"]);
    assert_eq!(open(Some(1)).targets(), [0, 0, 1]);
    assert_eq!(open(Some(2)).classes, ["animals", "animals/birds", "food/fruit"]);
    assert_eq!(open(None).classes[1], "animals/birds/duck");
}

#[test]
fn parts_of_parquet_are_files_that_begin_with_their_name() {
    let root = tempdir().unwrap();
    for (name, label) in [("data/test-00000.parquet", "a"), ("data/train-00000.parquet", "b")] {
        let columns = vec![("image", images(&[1])), ("label", words(&[label]))];
        parquet(&root.path().join(name), columns, None);
    }
    let of =
        |split: &str| LabelledConfig { split: Some(split.to_owned()), ..labelled(root.path()) };
    assert_eq!(Labelled::open(&of("test")).unwrap().classes, ["a"]);
    assert_eq!(Labelled::open(&labelled(root.path())).unwrap().classes, ["a", "b"]);
    assert!(refused(&of("tes")).contains("where = "), "{}", refused(&of("tes")));
}

#[test]
fn tars_as_clip_benchmark_writes_them() {
    let root = tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let (a, b, c) = (png(1), png(2), png(3));
    tar(&at("test/0.tar"), &[("s0.cls", b"1"), ("s0.png", &a), ("s1.cls", b"0"), ("s1.webp", &b)]);
    tar(&at("test/1.tar"), &[("s2.jpg", &c), ("s2.cls", b"2\n")]);
    put(&at("test/nshards.txt"), b"2\n");
    put(&at("classnames.txt"), b"fig\nsweet pepper\nkiwi\n");
    put(&at("zeroshot_classification_templates.txt"), b"a photo of {c}\na drawing of {c}\n");
    let data = Labelled::open(&labelled(root.path())).unwrap();
    assert_eq!(data.classes, ["fig", "sweet pepper", "kiwi"]);
    assert_eq!(data.templates, ["a photo of {}", "a drawing of {}"]);
    assert_eq!(data.targets(), [1, 0, 2]);
    let bytes: Vec<_> = shown(data.pictures(), 2).into_iter().map(|(_, b)| b.unwrap()).collect();
    assert_eq!(bytes, [a, b, c]);

    put(&at("test/nshards.txt"), b"3\n");
    assert!(refused(&labelled(root.path())).contains("2.tar"));
    put(&at("test/nshards.txt"), b"1\n");
    put(&at("classnames.txt"), b"fig\n");
    let error = refused(&labelled(root.path()));
    assert!(error.contains("s0: label 1 is none of 1 classes"), "{error}");
}

/// Two pictures: the first one red, the second one a slope of green.
fn cifar(labels: [&[u8]; 2]) -> Vec<u8> {
    let slope: Vec<u8> = (0..1024u32).map(|n| (n % 256) as u8).collect();
    let planes = |r: &[u8], g: &[u8], b: &[u8]| [r, g, b].concat();
    let red = planes(&[200; 1024], &[0; 1024], &[7; 1024]);
    [labels[0], &red, labels[1], &planes(&[0; 1024], &slope, &[0; 1024])].concat()
}

#[test]
fn cifar_files_become_pictures_to_the_pixel() {
    let root = tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    put(&at("test_batch.bin"), &cifar([&[9], &[3]]));
    put(
        &at("batches.meta.txt"),
        b"airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n",
    );
    let data = Labelled::open(&labelled(root.path())).unwrap();
    assert_eq!(
        (data.targets(), data.classes.len(), data.name.as_str()),
        (&[9, 3][..], 10, "cifar10")
    );
    assert_eq!(data.templates.len(), 18);
    let found = shown(data.pictures(), 8);
    assert_eq!(found[1].0, "test_batch/1");
    let decoded =
        |at: usize| image::load_from_memory(found[at].1.as_deref().unwrap()).unwrap().into_rgb8();
    assert_eq!(decoded(0).get_pixel(31, 31), &Rgb([200, 0, 7]));
    let slope = decoded(1);
    assert_eq!(slope.dimensions(), (32, 32));
    assert_eq!(slope.get_pixel(5, 2), &Rgb([0, 69, 0]));

    put(&at("test_batch.bin"), &cifar([&[9], &[10]]));
    let error = refused(&labelled(root.path()));
    assert!(error.contains("row test_batch/1: label 10 is none of 10 classes"), "{error}");
    put(&at("test_batch.bin"), &cifar([&[9], &[1]])[1..]);
    assert!(refused(&labelled(root.path())).contains("no whole records"));
    let split = LabelledConfig { split: Some("val".to_owned()), ..labelled(root.path()) };
    assert!(refused(&split).contains("there are test, train"));
}

#[test]
fn of_two_labels_of_cifar_100_the_fine_one_counts() {
    let root = tempdir().unwrap();
    put(&root.path().join("train.bin"), &cifar([&[4, 0], &[1, 99]]));
    let config = LabelledConfig {
        format: Some(Format::Cifar100),
        split: Some("train".to_owned()),
        ..labelled(root.path())
    };
    let data = Labelled::open(&config).unwrap();
    assert_eq!(data.targets(), [0, 99]);
    assert_eq!((data.classes[0].as_str(), data.classes[99].as_str()), ("apple", "worm"));
    assert_eq!(shown(data.pictures(), 1)[1].0, "train/1");
}

#[test]
fn a_picture_is_the_same_however_its_path_is_spelled() {
    let root = tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let open = |config: &LabelledConfig| Labelled::open(config).unwrap();
    let of = |path: &str, split: Option<&str>| {
        open(&LabelledConfig { split: split.map(str::to_owned), ..labelled(&at(path)) })
    };
    let shared = |one: &Labelled, other: &Labelled| {
        one.pictures().shared_with(other.pictures()).map(str::to_owned)
    };

    for part in ["folders/test", "folders/train"] {
        put(&at(part).join("good/1.png"), &png(1));
    }
    let (test, train) = (of("folders", Some("test")), of("folders", Some("train")));
    assert_eq!(shared(&test, &train), None);
    assert_eq!(shared(&test, &of("folders/train/../test", None)).unwrap(), "good/1.png");

    // Keys of rows without a name are made of the path as it is spelled.
    let columns = vec![("image", images(&[1, 2, 3])), ("label", words(&["a", "b", "a"]))];
    parquet(&at("set/a.parquet"), columns, None);
    let some = |path: &str, filter: &str| {
        open(&LabelledConfig { filter: Some(filter.to_owned()), ..labelled(&at(path)) })
    };
    let (a, b) = (some("set/a.parquet", "label == 'a'"), some("set", "label == 'b'"));
    assert_eq!(shared(&a, &b), None);
    assert!(shared(&b, &of("set/../set/a.parquet", None)).is_some());
    // Rows of one name are one picture.
    let columns = vec![
        ("image", images(&[1, 2])),
        ("key", words(&["x", "x"])),
        ("label", words(&["a", "b"])),
    ];
    parquet(&at("keys.parquet"), columns, None);
    let (a, b) = (some("keys.parquet", "label == 'a'"), some("keys.parquet", "label == 'b'"));
    assert_eq!(shared(&a, &b).unwrap(), "x");

    for file in ["cifar/test_batch.bin", "cifar/data_batch_1.bin"] {
        put(&at(file), &cifar([&[9], &[3]]));
    }
    (2..=5).for_each(|n| put(&at(&format!("cifar/data_batch_{n}.bin")), &cifar([&[9], &[3]])));
    put(&at("cifar/batches.meta.txt"), b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
    assert_eq!(shared(&of("cifar", None), &of("cifar", Some("train"))), None);
    assert_eq!(shared(&of("cifar", None), &of("cifar", Some("test"))).unwrap(), "test_batch/0");
}

#[test]
fn templates_need_a_place_for_the_class() {
    let root = tempdir().unwrap();
    put(&root.path().join("good/1.png"), &png(1));
    let config = LabelledConfig { templates: list(&["a {c}", "a photo"]), ..labelled(root.path()) };
    assert!(refused(&config).contains("\"a photo\" has no {}"));
    put(&root.path().join("mine.txt"), "a {}\nthe {c}\n".as_bytes());
    let file = Words::Named(root.path().join("mine.txt").display().to_string());
    let config = LabelledConfig { templates: Some(file), ..labelled(root.path()) };
    assert_eq!(Labelled::open(&config).unwrap().templates, ["a {}", "the {}"]);
    let config = LabelledConfig {
        templates: Some(Words::Named("imagnet".to_owned())),
        ..labelled(root.path())
    };
    assert!(refused(&config).contains("neither a file nor published"));
}

#[test]
fn classes_may_be_called_otherwise_in_sentences() {
    let root = tempdir().unwrap();
    put(&root.path().join("good/1.png"), &png(1));
    put(&root.path().join("missing_bore/1.png"), &png(1));
    let called = |class: &str| [(class.to_owned(), "an intact disc".to_owned())].into();
    let config = LabelledConfig { called: called("good"), ..labelled(root.path()) };
    let data = Labelled::open(&config).unwrap();
    assert_eq!(data.classes, ["good", "missing_bore"]);
    assert_eq!(data.called, ["an intact disc", "missing bore"]);
    let error = refused(&LabelledConfig { called: called("godo"), ..labelled(root.path()) });
    assert!(error.contains("\"godo\"") && error.contains("good, missing_bore"), "{error}");
    let config = LabelledConfig {
        filter: Some("split == 'test'".to_owned()),
        format: Some(Format::Folder),
        ..labelled(root.path())
    };
    assert!(refused(&config).contains("no columns for a filter"));
}

#[test]
fn settings_are_written_as_people_write_them() {
    let config: LabelledConfig = toml::from_str(
        "data = 'x.parquet'\nformat = 'parquet'\nwhere = \"split == 'test'\"\ntemplates = 'imagenet'\nclasses = ['a']\nmetric = 'mean_per_class'",
    )
    .unwrap();
    assert_eq!(config.format, Some(Format::Rows));
    assert_eq!(config.filter.as_deref(), Some("split == 'test'"));
    let beside = config.beside(Path::new("/sets"));
    assert_eq!(beside.data, Path::new("/sets/x.parquet"));
    assert_eq!(beside.templates, Some(Words::Named("imagenet".to_owned())));
}

fn captioned(data: &Path) -> CaptionedConfig {
    CaptionedConfig { data: data.to_owned(), ..CaptionedConfig::default() }
}

#[test]
fn rows_of_one_picture_are_one_picture_with_several_texts() {
    let root = tempdir().unwrap();
    let path = root.path().join("set.parquet");
    let columns = vec![
        ("image", images(&[1, 2, 1, 3, 4])),
        ("key", words(&["a", "b", "c", "b", "e"])),
        ("caption", words(&["one", "two", "uno", "due", " "])),
    ];
    parquet(&path, columns, None);
    let config = CaptionedConfig { prefix: "a photo of ".to_owned(), ..captioned(&path) };
    let data = Captioned::open(&config).unwrap();
    // "c" has the bytes of "a", the second "b" its key; "e" has no text and is still there.
    assert_eq!(data.pictures().keys(), ["a", "b", "e"]);
    assert_eq!(data.image_of, [0, 1, 0, 1]);
    assert_eq!(data.texts[2..], ["a photo of uno", "a photo of due"]);
    assert_eq!(shown(data.pictures(), 2)[2].1.as_deref().unwrap(), png(4));
}

#[test]
fn texts_of_several_pictures_can_be_left_out() {
    let root = tempdir().unwrap();
    let path = root.path().join("set.parquet");
    let columns = vec![
        ("image", images(&[1, 2, 3, 3])),
        ("caption", words(&["icon", "icon ", "cat", "cat"])),
    ];
    parquet(&path, columns, None);
    let all = Captioned::open(&captioned(&path)).unwrap();
    assert_eq!((all.texts.len(), all.shared_texts()), (4, 2));
    let config = CaptionedConfig { only_unique_texts: true, ..captioned(&path) };
    let unique = Captioned::open(&config).unwrap();
    assert_eq!((unique.pictures().len(), &unique.image_of[..]), (3, &[2, 2][..]));
    assert_eq!(
        (&unique.texts[..], unique.shared_texts()),
        (&["cat", "cat"].map(String::from)[..], 0)
    );
}

#[test]
fn a_column_may_have_lists_of_texts() {
    let root = tempdir().unwrap();
    let path = root.path().join("set.parquet");
    let mut lists = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    for list in [&["one", "uno"][..], &[], &["three"]] {
        list.iter().for_each(|text| lists.values().append_value(text));
        lists.append(true);
    }
    let lists: ArrayRef = Arc::new(lists.finish());
    parquet(&path, vec![("image", images(&[1, 2, 3])), ("captions", lists)], None);
    let data = Captioned::open(&captioned(&path)).unwrap();
    assert_eq!(
        (data.texts, data.image_of),
        (vec!["one".into(), "uno".into(), "three".into()], vec![0, 0, 2])
    );

    let numbers: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<UInt8Type, _, _>([Some([Some(1)])]));
    parquet(&path, vec![("image", images(&[1])), ("captions", numbers)], None);
    let error = format!("{:#}", Captioned::open(&captioned(&path)).err().unwrap());
    assert!(error.contains("1 is no text"), "{error}");
}

#[test]
fn lists_of_image_and_captions_and_karpathys_own() {
    let root = tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    put(&at("images/1.png"), &png(1));
    put(&at("images/val/2.png"), &png(2));
    let list = json!([
        {"image": "flickr/1.png", "caption": ["one", "uno"]},
        {"image": "val/2.png", "caption": "two"},
        {"image": "flickr/1.png", "caption": ["eins"]},
        {"image": "gone.png", "caption": ["none"]},
    ]);
    put(&at("test.json"), list.to_string().as_bytes());
    let config = CaptionedConfig { images: Some(at("images")), ..captioned(&at("test.json")) };
    let data = Captioned::open(&config).unwrap();
    assert_eq!((data.name.as_str(), &data.image_of[..]), ("test", &[0, 0, 1, 0, 2][..]));
    let found: Vec<_> = shown(data.pictures(), 2).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(found, [Some(png(1)), Some(png(2)), None]);

    let own = json!({"dataset": "coco", "images": [
        {"filepath": "val", "filename": "2.png", "split": "test",
         "sentences": [{"raw": "two", "tokens": ["two"]}, {"raw": "due"}]},
        {"filename": "1.png", "split": "train", "sentences": [{"raw": "one"}]},
    ]});
    put(&at("images/own.json"), own.to_string().as_bytes());
    let config =
        CaptionedConfig { split: Some("test".into()), ..captioned(&at("images/own.json")) };
    let data = Captioned::open(&config).unwrap();
    assert_eq!((data.texts.len(), data.pictures().keys()), (2, &["val/2.png".to_owned()][..]));

    let hostile = json!([{"image": "../../etc/passwd", "caption": "x"}]);
    put(&at("bad.json"), hostile.to_string().as_bytes());
    let error = format!("{:#}", Captioned::open(&captioned(&at("bad.json"))).err().unwrap());
    assert!(error.contains("may lead out of"), "{error}");
}

#[test]
fn retrieval_tars_have_a_text_a_line() {
    let root = tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let (a, b) = (png(1), png(2));
    let members: [(&str, &[u8]); 4] =
        [("s0.png", &a), ("s0.txt", b"one\nuno\n"), ("s1.png", &b), ("s1.txt", b"two")];
    tar(&at("test/0.tar"), &members);
    put(&at("test/nshards.txt"), b"1");
    put(&at("dataset_type.txt"), b"retrieval\n");
    let data = Captioned::open(&captioned(root.path())).unwrap();
    assert_eq!(
        (&data.texts[..], &data.image_of[..]),
        (&["one", "uno", "two"].map(String::from)[..], &[0, 0, 1][..])
    );
    // Elsewhere a text may have several lines.
    let data = Captioned::open(&captioned(&at("test/0.tar"))).unwrap();
    assert_eq!(data.texts.len(), 2);
}
