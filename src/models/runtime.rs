//! Finding the ONNX Runtime library, and installing it with pip when it is nowhere.
//!
//! Order: an explicit path, `ORT_DYLIB_PATH`, the cache, the system library path, an installed
//! Python `onnxruntime`, and at last `pip download` into the cache. This file loads nothing: the
//! library's version is checked by `ort` when it is loaded.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

/// The version that pip is asked for, measured to work.
pub const ONNX_RUNTIME: &str = "1.32.0";

/// One installation at a time in a process; other processes have temporary names of their own.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Unpacks the library of a wheel: pip implies python3, so no zip crate is needed.
const UNPACK: &str = "
import sys, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    name = next(n for n in z.namelist() if '/capi/libonnxruntime' in n and 'providers' not in n)
    open(target, 'wb').write(z.read(name))
";

/// Where the library is, installing it if it is nowhere.
///
/// # Errors
/// When it is nowhere and pip cannot bring it; the message says what to do.
pub fn find_or_install() -> Result<PathBuf> {
    find_or_install_with(None, &mut |line| tracing::info!("{line}"))
}

/// As [`find_or_install`], with the user's own path first and a listener for what is done.
///
/// # Errors
/// As [`find_or_install`]; also when `explicit` names no file.
pub fn find_or_install_with(
    explicit: Option<&Path>,
    report: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    if let Some(path) = explicit {
        return given(path, "--onnxruntime");
    }
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        return given(Path::new(&path), "ORT_DYLIB_PATH");
    }
    if let Some(found) = candidates()?.into_iter().find(|p| p.is_file()) {
        return Ok(found);
    }
    if let Some(found) = of_python() {
        return Ok(found);
    }
    install(report)
}

/// The folder for what is fetched once: `RECAPTION_CACHE`, else the user's cache folder.
///
/// # Errors
/// When neither is known.
pub fn cache() -> Result<PathBuf> {
    if let Some(path) = env::var_os("RECAPTION_CACHE") {
        return Ok(path.into());
    }
    if let Some(path) = env::var_os("XDG_CACHE_HOME") {
        return Ok(Path::new(&path).join("recaption"));
    }
    let home = env::var_os("HOME").context("set RECAPTION_CACHE: there is no HOME")?;
    Ok(Path::new(&home).join(".cache/recaption"))
}

fn given(path: &Path, by: &str) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    bail!("{by} names {}, which is not a file; correct it or leave it out", path.display())
}

fn library_name() -> &'static str {
    if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" }
}

fn cached() -> Result<PathBuf> {
    Ok(cache()?.join(format!("onnxruntime-{ONNX_RUNTIME}")).join(library_name()))
}

fn candidates() -> Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> =
        env::var_os("LD_LIBRARY_PATH").map(|p| env::split_paths(&p).collect()).unwrap_or_default();
    folders.extend(
        ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"].map(Into::into),
    );
    let mut all = vec![cached()?];
    all.extend(folders.iter().map(|f| f.join(library_name())));
    Ok(all)
}

fn of_python() -> Option<PathBuf> {
    let ask = "import sysconfig; print(sysconfig.get_paths()['platlib'])";
    let output = Command::new("python3").args(["-c", ask]).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    let entries = fs::read_dir(Path::new(folder.trim()).join("onnxruntime/capi")).ok()?;
    let starts = |p: &PathBuf| {
        p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(library_name()))
    };
    entries.flatten().map(|e| e.path()).find(starts)
}

fn install(report: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let target = cached()?;
    if target.is_file() {
        return Ok(target);
    }
    let folder = target.parent().context("the cache has no folder")?.to_owned();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    report(&format!("ONNX Runtime is not installed: fetching {ONNX_RUNTIME} with pip"));
    let wheels = folder.join(format!("wheel-{}", std::process::id()));
    let unpacked = folder.join(format!(".library-{}.tmp", std::process::id()));
    let done = download(&wheels).and_then(|wheel| unpack(&wheel, &unpacked));
    let _ = fs::remove_dir_all(&wheels);
    done?;
    fs::rename(&unpacked, &target)
        .with_context(|| format!("cannot rename to {}", target.display()))?;
    report(&format!("ONNX Runtime {ONNX_RUNTIME} is now at {}", target.display()));
    Ok(target)
}

fn download(folder: &Path) -> Result<PathBuf> {
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--python-version", "3.11"])
        .args(platform()?)
        .arg("-d")
        .arg(folder)
        .arg(format!("onnxruntime=={ONNX_RUNTIME}"))
        .output();
    let advice = "install Python 3 with pip, or set ORT_DYLIB_PATH to a libonnxruntime >= 1.24";
    let output = output.with_context(|| format!("python3 cannot be started; {advice}"))?;
    if !output.status.success() {
        bail!("pip download failed: {}\n{advice}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut entries = fs::read_dir(folder)?.flatten().map(|e| e.path());
    entries.find(|p| p.extension().is_some_and(|e| e == "whl")).context("pip brought no wheel")
}

fn platform() -> Result<Vec<String>> {
    let tag = match (env::consts::OS, env::consts::ARCH) {
        ("linux", arch @ ("x86_64" | "aarch64")) => format!("manylinux_2_28_{arch}"),
        ("macos", "aarch64") => "macosx_14_0_arm64".to_owned(),
        (os, arch) => bail!("no ONNX Runtime wheel is known for {os} {arch}; set ORT_DYLIB_PATH"),
    };
    Ok(vec!["--platform".to_owned(), tag])
}

fn unpack(wheel: &Path, target: &Path) -> Result<()> {
    let output = Command::new("python3").args(["-c", UNPACK]).arg(wheel).arg(target).output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("cannot unpack {}: {}", wheel.display(), why.trim());
    }
    Ok(())
}
