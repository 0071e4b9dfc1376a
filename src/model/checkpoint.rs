//! Weights on disk: official `.pt` files and safetensors, in; safetensors, out. Official names.
//!
//! A `.pt` file is a pickle. candle's reader knows the few operations that a table of tensors needs
//! and runs nothing.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use candle_core::pickle::PthTensors;
use candle_core::pickle::TensorInfo;
use candle_nn::VarBuilder;

use super::Config;
use super::RwkvClip;
use super::names;
use crate::atomic_file;

/// Left in front of names by the wrappers of a training run.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// A model ready to run, of a `.pt` or safetensors file.
///
/// # Errors
/// As [`read`] and [`check`].
pub fn load(path: &Path, config: &Config, dtype: DType, device: &Device) -> Result<RwkvClip> {
    let tensors = read(path)?;
    check(&tensors, config).with_context(|| format!("{} does not fit", path.display()))?;
    Ok(RwkvClip::new(config, VarBuilder::from_tensors(tensors, dtype, device))?)
}

/// The tensors of a file, on the CPU, dtypes as stored, names without the wrappers of training.
///
/// # Errors
/// When the file cannot be read or is cut short, or two names become one.
pub fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    let shown = path.display();
    let file = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
    ensure!(file.is_file(), "{shown} is not a file: give a .pt or .safetensors file");
    let is_pickle = path.extension().is_some_and(|e| e == "pt" || e == "pth" || e == "bin");
    let found = if is_pickle { read_pickle(path) } else { read_safetensors(path) };
    let found = found.with_context(|| {
        format!("{shown} cannot be read as a checkpoint (.pt or .safetensors); is it whole?")
    })?;
    ensure!(!found.is_empty(), "{shown} has no tensors in it");
    let mut tensors = HashMap::with_capacity(found.len());
    for (name, tensor) in found {
        let name = WRAPPERS.iter().fold(name.as_str(), |name, wrapper| {
            name.rsplit_once(wrapper).map_or(name, |(_, rest)| rest)
        });
        ensure!(tensors.insert(name.to_owned(), tensor).is_none(), "{shown} names {name} twice");
    }
    Ok(tensors)
}

/// candle's reader counts on well-formed pickles and panics on some others: that is an error of the
/// file.
fn read_pickle(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let read = || {
        let file = PthTensors::new(path, None)?;
        let infos = file.tensor_infos();
        ensure_held(infos.values(), std::fs::metadata(path)?.len())?;
        let tensors = infos.keys().map(|name| {
            let tensor = file.get(name)?.with_context(|| format!("{name} is gone"))?;
            Ok((name.clone(), tensor))
        });
        tensors.collect()
    };
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| anyhow!("the table of tensors is damaged"))?
}

/// What a table claims is allocated before it is read: tensors larger than their file are a lie.
fn ensure_held<'a>(infos: impl Iterator<Item = &'a TensorInfo>, file: u64) -> Result<()> {
    let mut total = 0u64;
    for info in infos {
        let mut dims = info.layout.dims().iter();
        let numbers = dims.try_fold(1u64, |all, &dim| all.checked_mul(dim as u64));
        let bytes = numbers.and_then(|n| n.checked_mul(info.dtype.size_in_bytes() as u64));
        let sum = bytes.and_then(|bytes| total.checked_add(bytes)).filter(|&sum| sum <= file);
        let dims = info.layout.dims();
        total = sum.with_context(|| format!("{} {dims:?} is larger than its file", info.name))?;
    }
    Ok(())
}

fn read_safetensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    Ok(candle_core::safetensors::load(path, &Device::Cpu)?.into_iter().collect())
}

/// Holds tensors to a configuration, strictly: as many, so named, so shaped, and every number finite.
///
/// # Errors
/// The first, in the order of the official files, that is missing, of another shape or not finite;
/// then the first that does not belong there.
pub fn check(tensors: &HashMap<String, Tensor>, config: &Config) -> Result<()> {
    let wanted = names::all(config);
    for named in &wanted {
        let name = &named.name;
        let tensor = tensors
            .get(name)
            .with_context(|| format!("the tensor {name} {:?} is missing", named.shape.dims()))?;
        ensure!(
            tensor.shape() == &named.shape,
            "the tensor {name} has shape {:?}, the configuration says {:?}",
            tensor.dims(),
            named.shape.dims()
        );
        ensure!(tensor.dtype().is_float(), "the tensor {name} is of {:?}", tensor.dtype());
        // A sum of absolute values, in f64, is finite when all of them are.
        let sum = tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
        ensure!(sum.is_finite(), "the tensor {name} has numbers that are not finite");
    }
    let known: std::collections::HashSet<&str> = wanted.iter().map(|n| n.name.as_str()).collect();
    let unexpected = tensors.keys().filter(|name| !known.contains(name.as_str())).min();
    if let Some(name) = unexpected {
        bail!("the tensor {name} is unexpected: the configuration has no such part");
    }
    Ok(())
}

/// In which types weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtypes {
    /// Those of the published files: two tensors of each text block are BF16, and lose digits.
    Published,
    /// As they are in a training that goes on.
    F32,
}

/// Writes safetensors under the official names, whole or not at all.
///
/// # Errors
/// When a tensor of the configuration is missing, or the file cannot be written.
pub fn save(
    tensors: &HashMap<String, Tensor>,
    config: &Config,
    dtypes: Dtypes,
    path: &Path,
) -> Result<()> {
    check(tensors, config)?;
    let typed = names::all(config).into_iter().map(|named| {
        let dtype = if dtypes == Dtypes::F32 { DType::F32 } else { named.dtype };
        let tensor = tensors[&named.name].to_device(&Device::Cpu)?.to_dtype(dtype)?;
        Ok((named.name, tensor.contiguous()?))
    });
    let typed: HashMap<String, Tensor> = typed.collect::<Result<_>>()?;
    atomic_file::write(path, &safetensors::serialize(typed, None)?)?;
    Ok(())
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The weights.
    pub weights: PathBuf,
    /// Their sizes, where a file beside them says so.
    pub config: Option<PathBuf>,
}

/// Weights in a folder.
pub const WEIGHTS: &str = "model.safetensors";
/// Their sizes, beside them.
pub const SIZES: &str = "config.json";
/// Checkpoints in the folder of a training, `step-` and a number.
pub const FOLDER: &str = "checkpoints";

/// The weights that a path means: a file; a folder with `model.safetensors` and `config.json`; the
/// folder of a training, of which the newest checkpoint is taken.
///
/// # Errors
/// When a folder has no checkpoint.
pub fn locate(path: &Path) -> Result<Located> {
    if !path.is_dir() {
        return Ok(Located { weights: path.to_owned(), config: None });
    }
    let own = [path.to_owned()].into_iter();
    let folder = own.chain(all_in(path)?.pop()).find(|folder| folder.join(WEIGHTS).is_file());
    let folder = folder.with_context(|| {
        format!("{} has neither {WEIGHTS} nor {FOLDER} with one", path.display())
    })?;
    let config = Some(folder.join(SIZES)).filter(|config| config.is_file());
    Ok(Located { weights: folder.join(WEIGHTS), config })
}

/// The checkpoints in the folder of a training, the oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn all_in(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("cannot read {}", folder.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A user's own copy, `step-0000200-best`, is none of ours.
        let name = entry.file_name().to_string_lossy().into_owned();
        let step = name.strip_prefix("step-").and_then(|step| step.parse::<u64>().ok());
        found.extend(step.map(|step| (step, entry.path())));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
