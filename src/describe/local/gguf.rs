//! A GGUF file, doubted: what it claims is checked before it is believed, allocated or divided by.
//!
//! Knows the Llama family only, dense and without biases: everything else is refused by name, since
//! a network run with a tensor left out still writes fluent text.

use std::fs;
use std::fs::File;
use std::io::BufReader;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::gguf_file::Value;

use crate::atomic_file::sha256_file;
use crate::text::clean;

/// Positions beyond this are not prepared for: a prompt with its examples needs a tenth of it.
const MAX_POSITIONS: usize = 8192;

/// More than any published model of this family has, of either.
const MAX_BLOCKS: usize = 1024;
const MAX_WIDTH: usize = 1 << 17;

/// Of a model's name.
const MAX_NAME_CHARS: usize = 60;

/// An open model file.
pub(super) struct Gguf {
    /// Header: metadata, and where the tensors are.
    pub(super) content: Content,
    /// The sizes of the network.
    pub(super) shape: Shape,
    /// Hash of the file, lower-case hex.
    pub(super) sha256: String,
    path: PathBuf,
    reader: BufReader<File>,
}

/// Sizes of a Llama network.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) blocks: usize,
    pub(super) width: usize,
    pub(super) feed_forward: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_width: usize,
    pub(super) vocabulary: usize,
    /// Positions that can be used.
    pub(super) positions: usize,
    pub(super) rope_base: f32,
    pub(super) norm_epsilon: f32,
}

impl Gguf {
    /// Opens and checks a file; reads no weights yet.
    pub(super) fn open(path: &Path) -> Result<Gguf> {
        let at = || format!("cannot open the model {}", path.display());
        let metadata = fs::metadata(path).with_context(at)?;
        // Opening a pipe would wait for ever.
        ensure!(metadata.is_file(), "the model {} is not a file", path.display());
        let bytes = metadata.len();
        let mut reader = BufReader::new(File::open(path).with_context(at)?);
        let mut read = || -> Result<(Content, Shape)> {
            // candle bounds counts and lengths by the size of the file, but divides by an alignment
            // that the file chooses, zero included.
            let content = guarded(|| Ok(Content::read(&mut reader)?))?;
            let shape = Shape::read(&content)?;
            check_tensors(&content, &shape, bytes)?;
            Ok((content, shape))
        };
        let (content, shape) = read().with_context(|| {
            format!("{} is not a GGUF file that can be used here", path.display())
        })?;
        let sha256 = sha256_file(path)?;
        Ok(Gguf { content, shape, sha256, path: path.to_owned(), reader })
    }

    /// `local/NAME@HASH`, as rows name their model.
    pub(super) fn name(&self) -> String {
        let named = text(&self.content, "general.name").filter(|name| !name.trim().is_empty());
        let stem = || self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Written by whoever made the file, and shown with every row.
        let name = clean(&named.map_or_else(stem, str::to_owned), MAX_NAME_CHARS);
        format!("local/{name}@{}", &self.sha256[..8])
    }

    /// Numbers in all weights together.
    pub(super) fn weights(&self) -> usize {
        self.content.tensor_infos.values().map(|info| info.shape.elem_count()).sum()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// The tensor of this name, which must have this shape.
    pub(super) fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<QTensor> {
        let tensor = self
            .content
            .tensor(&mut self.reader, name, &Device::Cpu)
            .with_context(|| format!("{}: cannot read the tensor {name}", self.path.display()))?;
        let found = tensor.shape().dims();
        ensure!(found == dims, "the tensor {name} has the shape {found:?} instead of {dims:?}");
        Ok(tensor)
    }
}

impl Shape {
    fn read(content: &Content) -> Result<Shape> {
        let family = text(content, "general.architecture").unwrap_or("not named");
        ensure!(
            family == "llama",
            "the architecture is {family}: only llama can be run here; serve the model (llama-server, \
             Ollama, vLLM) and use the remote writer"
        );
        let experts = optional(content, "llama.expert_count").unwrap_or(0);
        ensure!(experts == 0, "it is a mixture of experts, which cannot be run here");
        let width = number(content, "llama.embedding_length", MAX_WIDTH)?;
        let heads = number(content, "llama.attention.head_count", width)?;
        let kv_heads = match optional(content, "llama.attention.head_count_kv") {
            Some(_) => number(content, "llama.attention.head_count_kv", heads)?,
            None => heads,
        };
        let head_width = width / heads;
        let rope_width = optional(content, "llama.rope.dimension_count").unwrap_or(head_width);
        ensure!(
            heads * head_width == width && heads % kv_heads == 0 && head_width % 2 == 0,
            "{heads} heads and {kv_heads} key heads do not fit a width of {width}"
        );
        ensure!(
            rope_width == head_width,
            "it turns {rope_width} of {head_width} numbers of a head, which cannot be run here"
        );
        Ok(Shape {
            blocks: number(content, "llama.block_count", MAX_BLOCKS)?,
            width,
            feed_forward: number(content, "llama.feed_forward_length", MAX_WIDTH)?,
            heads,
            kv_heads,
            head_width,
            vocabulary: vocabulary(content)?,
            positions: number(content, "llama.context_length", usize::MAX)?.min(MAX_POSITIONS),
            rope_base: float(content, "llama.rope.freq_base").unwrap_or(10_000.0),
            norm_epsilon: float(content, "llama.attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
        })
    }

    /// Every tensor of such a network, with its shape; the last two may be absent.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (width, keys) = (self.width, self.kv_heads * self.head_width);
        let mut all = vec![
            ("token_embd.weight".to_owned(), vec![self.vocabulary, width]),
            ("output_norm.weight".to_owned(), vec![width]),
        ];
        for block in 0..self.blocks {
            let parts = [
                ("attn_norm", vec![width]),
                ("attn_q", vec![width, width]),
                ("attn_k", vec![keys, width]),
                ("attn_v", vec![keys, width]),
                ("attn_output", vec![width, width]),
                ("ffn_norm", vec![width]),
                ("ffn_gate", vec![self.feed_forward, width]),
                ("ffn_up", vec![self.feed_forward, width]),
                ("ffn_down", vec![width, self.feed_forward]),
            ];
            all.extend(parts.map(|(part, dims)| (format!("blk.{block}.{part}.weight"), dims)));
        }
        all.push((OUTPUT.to_owned(), vec![self.vocabulary, width]));
        all.push((ROPE_FACTORS.to_owned(), vec![self.head_width / 2]));
        all
    }
}

/// The projection to the vocabulary; absent where the embedding serves for it.
pub(super) const OUTPUT: &str = "output.weight";

/// Divisors of the turning speeds, for models with a stretched context.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A string of the metadata.
pub(super) fn text<'a>(content: &'a Content, key: &str) -> Option<&'a str> {
    match content.metadata.get(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// A count of the metadata, if it is there.
pub(super) fn optional(content: &Content, key: &str) -> Option<usize> {
    content.metadata.get(key).and_then(|value| value.to_u64().ok()).and_then(|n| n.try_into().ok())
}

/// Runs a reader that was not written for hostile input: a panic becomes an error.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(anyhow!("its header makes no sense: {}", words.unwrap_or_default()))
    })
}

fn number(content: &Content, key: &str, most: usize) -> Result<usize> {
    match optional(content, key) {
        Some(n) if (1..=most).contains(&n) => Ok(n),
        Some(n) => bail!("{key} is {n}, which cannot be"),
        None => bail!("{key} is missing"),
    }
}

fn float(content: &Content, key: &str) -> Option<f32> {
    let value = content.metadata.get(key)?.to_f32().ok()?;
    (value.is_finite() && value > 0.0).then_some(value)
}

fn vocabulary(content: &Content) -> Result<usize> {
    let embedding = content.tensor_infos.get("token_embd.weight");
    let dims = embedding.context("the tensor token_embd.weight is missing")?.shape.dims();
    dims.first().copied().context("the tensor token_embd.weight has no shape")
}

/// Everything that is needed is there, in its shape and within the file, and nothing else is.
fn check_tensors(content: &Content, shape: &Shape, bytes: u64) -> Result<()> {
    let wanted = shape.tensors();
    for (name, dims) in &wanted {
        let Some(info) = content.tensor_infos.get(name) else {
            ensure!(name == OUTPUT || name == ROPE_FACTORS, "the tensor {name} is missing");
            continue;
        };
        let found = info.shape.dims();
        ensure!(found == dims, "the tensor {name} has the shape {found:?} instead of {dims:?}");
        let block = info.ggml_dtype.block_size();
        // candle checks the whole tensor only, and its products panic.
        ensure!(
            dims.last().is_some_and(|row| row.is_multiple_of(block)),
            "the rows of the tensor {name} are not whole blocks of {block} numbers"
        );
        let end = end_of(dims, info.ggml_dtype, info.offset);
        let end = end.and_then(|end| end.checked_add(content.tensor_data_offset));
        ensure!(
            end.is_some_and(|end| end <= bytes),
            "the tensor {name} ends beyond the end of the file: was it cut off?"
        );
    }
    let known = |name: &&String| !wanted.iter().any(|(wanted, _)| wanted == *name);
    match content.tensor_infos.keys().filter(known).min() {
        Some(name) => bail!("it has a tensor {name}, which no plain llama network has"),
        None => Ok(()),
    }
}

fn end_of(dims: &[usize], dtype: GgmlDType, offset: u64) -> Option<u64> {
    let elements = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim))?;
    let blocks = elements.div_ceil(dtype.block_size());
    let bytes = u64::try_from(blocks.checked_mul(dtype.type_size())?).ok()?;
    offset.checked_add(bytes)
}
