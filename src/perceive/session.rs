//! The door to ONNX Runtime: one environment for the process, one session per network and worker.
//!
//! What is awkward about the runtime stays here: a library that is not there, one environment for
//! ever, a network it refuses, a GPU it does not find.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::DynValue;
use ort::value::Outlet;
use ort::value::TensorElementType;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// What runs the networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionProvider {
    /// The processor: always there.
    #[default]
    Cpu,
    /// An NVIDIA GPU. Needs the GPU build of ONNX Runtime with its CUDA provider library beside it.
    Cuda,
}

/// ONNX Runtime, loaded. Cloning is cheap; there is one environment in a process.
#[derive(Clone, Debug)]
pub struct OnnxRuntime {
    environment: Environment,
    library: PathBuf,
}

/// ONNX Runtime allows one environment in the life of a process, so the first one is kept.
static LOADED: Mutex<Option<OnnxRuntime>> = Mutex::new(None);

impl OnnxRuntime {
    /// Loads the library at this path, or gives the one this process has already loaded.
    pub fn load(library: &Path) -> Result<OnnxRuntime> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let runtime = load(library).with_context(|| {
            format!("cannot load ONNX Runtime from {}: run `recaption setup`", library.display())
        })?;
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }
}

fn load(library: &Path) -> Result<OnnxRuntime> {
    // A bare file name is left to the system's loader. A path is checked here because ort takes
    // whatever library the process has loaded before without looking at the new path.
    let is_path = library.components().count() > 1;
    ensure!(!is_path || library.is_file(), "there is no such file");
    // `ort::init()` panics where the library is missing; `init_from` returns an error.
    let environment =
        ort::init_from(library)?.with_name("recaption").with_telemetry(false).build()?;
    // Its warnings are about unused initialisers of other people's exports.
    environment.set_log_level(LogLevel::Error);
    Ok(OnnxRuntime { environment, library: library.to_owned() })
}

/// How sessions are made; the same for every network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionOptions {
    pub(crate) intra_threads: usize,
    pub(crate) execution_provider: ExecutionProvider,
}

/// A network ready to run, owned by one worker.
pub(crate) struct Network {
    pub(crate) session: Session,
    path: PathBuf,
}

impl Network {
    pub(crate) fn open(
        runtime: &OnnxRuntime,
        path: &Path,
        options: SessionOptions,
    ) -> Result<Network> {
        let session = builder(runtime, options)?.commit_from_file(path).with_context(|| {
            format!(
                "ONNX Runtime cannot load {}: is it a whole ONNX file of this model?",
                path.display()
            )
        })?;
        Ok(Network { session, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn input(&self, name: &str) -> Option<&Outlet> {
        self.session.inputs().iter().find(|o| o.name() == name)
    }

    pub(crate) fn output(&self, name: &str) -> Option<&Outlet> {
        self.session.outputs().iter().find(|o| o.name() == name)
    }

    pub(crate) fn input_names(&self) -> Vec<&str> {
        self.session.inputs().iter().map(Outlet::name).collect()
    }
}

fn builder(runtime: &OnnxRuntime, options: SessionOptions) -> Result<SessionBuilder> {
    let builder = cpu_builder(&runtime.environment, options.intra_threads)
        .context("cannot configure an ONNX Runtime session")?;
    match options.execution_provider {
        ExecutionProvider::Cpu => Ok(builder),
        ExecutionProvider::Cuda => with_cuda(runtime, builder),
    }
}

/// Spinning threads are worth it for one session on an idle machine. Here each worker has its own
/// sessions, and threads that spin take the cores of the next worker.
fn cpu_builder(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(environment)?
        .with_intra_threads(threads)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?;
    Ok(builder)
}

const CUDA: &str = "CUDAExecutionProvider";
const CUDA_LIBRARY: &str = "libonnxruntime_providers_cuda.so";

fn with_cuda(runtime: &OnnxRuntime, builder: SessionBuilder) -> Result<SessionBuilder> {
    register_cuda(runtime)?;
    let is_cuda = |d: &ort::device::Device<'_>| d.ep().is_ok_and(|ep| ep == CUDA);
    let device = runtime.environment.devices().find(is_cuda).context(
        "the CUDA provider of ONNX Runtime sees no GPU: check the driver, or set \
         execution_provider = \"cpu\"",
    )?;
    builder
        .with_devices([device], None)
        .map_err(|e| anyhow!("the CUDA provider of ONNX Runtime does not start: {e}"))
}

fn register_cuda(runtime: &OnnxRuntime) -> Result<()> {
    if runtime.environment.devices().any(|d| d.ep().is_ok_and(|ep| ep == CUDA)) {
        return Ok(());
    }
    let provider = runtime.library.with_file_name(CUDA_LIBRARY);
    if !provider.exists() {
        bail!(
            "{} has no CUDA provider beside it ({CUDA_LIBRARY}): point --onnxruntime at the \
             library of the package onnxruntime-gpu, or set execution_provider = \"cpu\"",
            runtime.library.display()
        );
    }
    runtime.environment.register_ep_library(CUDA, &provider).with_context(|| {
        format!("cannot load {} (are CUDA and cuDNN installed?)", provider.display())
    })
}

/// The shape of a tensor of floats, -1 where it varies.
pub(crate) fn dims(outlet: &Outlet, at: &str) -> Result<Vec<i64>> {
    let kind = outlet.dtype();
    ensure!(
        kind.tensor_type() == Some(TensorElementType::Float32),
        "{} of {at} is {kind}, not float32: only float32 inputs and outputs are supported (int8 \
         exports have them too, float16 exports do not)",
        outlet.name()
    );
    Ok(kind.tensor_shape().map(|s| s.to_vec()).unwrap_or_default())
}

/// The shape and values of a float tensor that a session gave.
pub(crate) fn floats(value: &DynValue) -> Result<(Vec<usize>, &[f32])> {
    let (shape, values) = value.try_extract_tensor::<f32>()?;
    Ok((shape.iter().map(|d| *d as usize).collect(), values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_an_error() {
        let said = format!("{:#}", load(Path::new("no/such/lib.so")).unwrap_err());
        assert!(said.contains("no such file"), "{said}");
    }
}
