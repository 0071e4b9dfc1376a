//! A larger model that is followed: what it says about every row, looked up once and kept in the
//! training's folder.
//!
//! `teacher-LABEL.f16` has a record for each row of the source: the normalised embeddings of the picture
//! (by the evaluation transform) and of its three texts. Crops and mirror images of a picture are
//! answered with the embedding of the whole: that is what keeping costs. (CLIP-KD asks its teacher anew
//! for each crop, and each step waits for a model that is larger than the one that learns.)

use std::fs::File;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use half::f16;

use crate::atomic_file;
use crate::atomic_file::AtomicFolder;
use crate::model;
use crate::model::RwkvClip;
use crate::model::checkpoint;
use crate::train::config::Config;
use crate::train::data::Batch;
use crate::train::data::Dataset;
use crate::train::data::Text;
use crate::train::objective::Taught;

/// Embeddings of a row: one of the picture, one of each text.
const RECORD: usize = 1 + Text::ALL.len();

/// Rows that the teacher looks at together.
const TOGETHER: usize = 32;

/// What the teacher says, on disk.
pub(super) struct Teacher {
    file: File,
    dimension: usize,
    scale: f64,
    device: Device,
}

impl Teacher {
    /// The teacher that the settings name, if any, with its [`Teacher::hash`]. Where the folder does not have its answers yet it
    /// looks at all rows first; `progress` hears how many of how many.
    ///
    /// # Errors
    /// When its weights cannot be used, or the answers cannot be written.
    pub(super) fn open(
        run: &Path,
        config: &Config,
        hash: Option<String>,
        dataset: &Dataset,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Teacher>> {
        let (Some(named), Some(hash)) = (&config.teacher.checkpoint, hash) else { return Ok(None) };
        let located = checkpoint::locate(named)?;
        let sizes = match &located.config {
            Some(beside) => model::Config::find(&beside.display().to_string())?,
            None => model::Config::find(&config.teacher.sizes)?,
        };
        let device = model::device(&config.run.device)?;
        let model = checkpoint::load(&located.weights, &sizes, DType::F32, &device)
            .context("the teacher cannot be used")?;
        let folder = run.join(format!("teacher-{}", &hash[..8]));
        if !folder.is_dir() {
            let filling = AtomicFolder::create(&folder)?;
            let mut answers = Answers::create(filling.path(), sizes.embed_dim())?;
            answers.fill(&model, &sizes, dataset, &device, progress)?;
            filling.publish()?;
        }
        let path = folder.join(ANSWERS);
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let scale = model.scale()?.to_dtype(DType::F64)?.to_scalar()?;
        Ok(Some(Teacher { file, dimension: sizes.embed_dim(), scale, device }))
    }

    /// SHA-256 of the teacher's weights, where there is one.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn hash(config: &Config) -> Result<Option<String>> {
        let Some(named) = &config.teacher.checkpoint else { return Ok(None) };
        let weights = checkpoint::locate(named)?.weights;
        atomic_file::sha256_file(&weights).map(Some)
    }

    /// Numbers of its embeddings.
    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// What it says about the rows of a batch.
    ///
    /// # Errors
    /// When the answers cannot be read.
    pub(super) fn about(&self, batch: &Batch, projection: Option<Tensor>) -> Result<Taught> {
        let places = |of: &dyn Fn(usize) -> usize| -> Result<Tensor> {
            let mut numbers = Vec::with_capacity(batch.rows.len() * self.dimension);
            for (i, &row) in batch.rows.iter().enumerate() {
                self.read(row, of(i), &mut numbers)?;
            }
            let shape = (batch.rows.len(), self.dimension);
            Ok(Tensor::from_vec(numbers, shape, &self.device)?) // (n, D of the teacher)
        };
        Ok(Taught {
            images: places(&|_| 0)?,
            texts: places(&|i| 1 + batch.texts[i] as usize)?,
            scale: self.scale,
            projection,
        })
    }

    fn read(&self, row: u32, part: usize, numbers: &mut Vec<f32>) -> Result<()> {
        let mut bytes = vec![0; self.dimension * size_of::<f16>()];
        let at = place(row, part, self.dimension);
        self.file.read_exact_at(&mut bytes, at).context("cannot read the teacher's answers")?;
        let read = bytes.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32());
        numbers.extend(read);
        Ok(())
    }
}

const ANSWERS: &str = "answers.f16";

/// Where an embedding is in the file. Rows that are not trained on are holes, which take no room.
fn place(row: u32, part: usize, dimension: usize) -> u64 {
    (u64::from(row) * RECORD as u64 + part as u64) * (dimension * size_of::<f16>()) as u64
}

/// The file while it is being made.
struct Answers {
    file: File,
    dimension: usize,
}

impl Answers {
    fn create(folder: &Path, dimension: usize) -> Result<Answers> {
        let path = folder.join(ANSWERS);
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Answers { file, dimension })
    }

    /// One pass for each text, since a pass gives one text of a row; pictures are looked at in the
    /// first that shows them.
    fn fill(
        &mut self,
        model: &RwkvClip,
        sizes: &model::Config,
        dataset: &Dataset,
        device: &Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let (side, of) = (sizes.input_size, dataset.rows() * Text::ALL.len() as u64);
        let mut done = 0;
        for (pass, text) in Text::ALL.into_iter().enumerate() {
            for batch in dataset.evaluation(side as u32, Some(text), TOGETHER)? {
                let batch = batch?;
                let n = batch.keys.len();
                if pass == 0 && n > 0 {
                    let pixels = Tensor::from_slice(&batch.pixels, (n, 3, side, side), device)?;
                    let made = model::normalized(&model.encode_image(&pixels)?)?;
                    self.write(&batch, made, |_| Some(0))?;
                }
                if batch.texts.contains(&text) {
                    let context = batch.tokens.len() / n;
                    ensure!(
                        context == sizes.ctx_len,
                        "the teacher reads texts of {} tokens, the model of {context}; they must read \
                         the same",
                        sizes.ctx_len
                    );
                    let tokens = Tensor::from_slice(&batch.tokens, (n, context), device)?;
                    let made = model::normalized(&model.encode_text(&tokens)?)?;
                    let part = 1 + text as usize;
                    self.write(&batch, made, |i| (batch.texts[i] == text).then_some(part))?;
                }
                done += (n + batch.unreadable.len()) as u64;
                progress(done, of);
            }
        }
        self.file.sync_all().context("cannot write the teacher's answers: is the disk full?")
    }

    /// Writes the embedding of each sample, (n, D), where it has a part.
    fn write(
        &mut self,
        batch: &Batch,
        made: Tensor,
        part: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        let rows: Vec<Vec<f32>> = made.to_vec2()?;
        for (i, numbers) in rows.into_iter().enumerate() {
            let Some(part) = part(i) else { continue };
            let bytes: Vec<u8> =
                numbers.into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect();
            let at = place(batch.rows[i], part, self.dimension);
            self.file
                .seek(SeekFrom::Start(at))
                .and_then(|_| self.file.write_all(&bytes))
                .context("cannot write the teacher's answers: is the disk full?")?;
        }
        Ok(())
    }
}
