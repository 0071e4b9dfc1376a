//! The binary files of CIFAR-10 and CIFAR-100: for each picture its label (CIFAR-100: the coarse one,
//! then the fine one, which counts), and 32 x 32 bytes of each colour.

use std::fs::File;
use std::io::BufReader;
use std::io::Cursor;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use image::ImageFormat;
use image::Rgb;
use image::RgbImage;

use crate::sample::Picture;

/// Pixels of a side.
const SIDE: u32 = 32;

/// Bytes of a colour.
const PLANE: usize = (SIDE * SIDE) as usize;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ten,
    Hundred,
}

impl Kind {
    /// The name of the published list.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Ten => "cifar10",
            Kind::Hundred => "cifar100",
        }
    }

    /// The file with names of classes; a folder with it is such a data set.
    pub(super) fn names_file(self) -> &'static str {
        match self {
            Kind::Ten => "batches.meta.txt",
            Kind::Hundred => "fine_label_names.txt",
        }
    }

    fn labels(self) -> usize {
        match self {
            Kind::Ten => 1,
            Kind::Hundred => 2,
        }
    }

    fn files(self, split: &str) -> Option<Vec<String>> {
        match (self, split) {
            (Kind::Ten, "test") => Some(vec!["test_batch.bin".to_owned()]),
            (Kind::Ten, "train") => Some((1..=5).map(|n| format!("data_batch_{n}.bin")).collect()),
            (Kind::Hundred, "test" | "train") => Some(vec![format!("{split}.bin")]),
            _ => None,
        }
    }
}

/// The records of a split.
pub(super) struct Cifar {
    kind: Kind,
    files: Vec<(PathBuf, u64)>,
}

impl Cifar {
    /// Opens a split and reads its labels.
    pub(super) fn open(folder: &Path, kind: Kind, split: &str) -> Result<(Cifar, Vec<usize>)> {
        let files = kind.files(split);
        let files = files.with_context(|| format!("split is {split:?}; there are test, train"))?;
        let (mut counted, mut labels) = (Vec::new(), Vec::new());
        for name in files {
            let path = folder.join(name);
            let before = labels.len();
            read_labels(&path, kind, &mut labels)?;
            counted.push((path, (labels.len() - before) as u64));
        }
        Ok((Cifar { kind, files: counted }, labels))
    }

    /// The files, and how many pictures each has.
    pub(super) fn files(&self) -> &[(PathBuf, u64)] {
        &self.files
    }

    /// The file and the number in it, from 0.
    pub(super) fn keys(&self) -> Vec<String> {
        let keys = self.files.iter().flat_map(|(path, records)| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (0..*records).map(move |record| format!("{name}/{record}"))
        });
        keys.collect()
    }

    /// The pictures, as PNG, because that is what pictures are elsewhere.
    pub(super) fn pictures(&self) -> impl Iterator<Item = Result<Picture>> + '_ {
        self.files.iter().flat_map(move |(path, records)| {
            let mut file = None;
            (0..*records).map(move |record| {
                let damaged = || format!("cannot read picture {record} of {}", path.display());
                let file = match &mut file {
                    Some(file) => file,
                    none => none.insert(File::open(path).with_context(damaged)?),
                };
                self.picture(file, record).with_context(damaged)
            })
        })
    }

    fn picture(&self, file: &File, record: u64) -> Result<Picture> {
        let labels = self.kind.labels();
        let mut planes = [0; 3 * PLANE];
        let start = record * (labels + planes.len()) as u64 + labels as u64;
        file.read_exact_at(&mut planes, start)?;
        let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| {
            let at = (y * SIDE + x) as usize;
            Rgb([planes[at], planes[PLANE + at], planes[2 * PLANE + at]])
        });
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png)?;
        Ok(Picture::Bytes { bytes: png.into_inner().into(), name: None })
    }
}

fn read_labels(path: &Path, kind: Kind, labels: &mut Vec<usize>) -> Result<()> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let (bytes, record) = (file.metadata().with_context(cannot)?.len(), kind.labels() + 3 * PLANE);
    ensure!(
        bytes > 0 && bytes.is_multiple_of(record as u64),
        "{} has {bytes} bytes, which are no whole records of {} ({record} bytes each)",
        path.display(),
        kind.name()
    );
    let (mut reader, mut buffer) = (BufReader::new(file), vec![0; record]);
    for _ in 0..bytes / record as u64 {
        reader.read_exact(&mut buffer).with_context(cannot)?;
        labels.push(usize::from(buffer[kind.labels() - 1]));
    }
    Ok(())
}
