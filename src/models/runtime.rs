//! Finding the ONNX Runtime library, and fetching it with pip when it is nowhere.
//!
//! In this order: an explicit path, `ORT_DYLIB_PATH`, the cache, the system's library path, an
//! installed Python `onnxruntime`, and at last the Python package of that name, unpacked into the
//! cache. Every library is asked for its version before it is accepted; the one environment of the
//! process is made elsewhere, from the path that is found here.

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
use anyhow::ensure;

use crate::models::pip;
use crate::models::pip::Wanted;
use crate::models::pip::Wheel;

/// The version that is fetched: the one that everything was measured with.
pub const ONNX_RUNTIME: &str = "1.32.0";

/// The oldest 1.x whose functions this program uses.
pub const OLDEST_MINOR: u32 = ort::MINOR_VERSION;

/// Asks a Python where its packages are.
const PACKAGE_FOLDERS: &str = "
import site, sysconfig
for folder in dict.fromkeys([sysconfig.get_path('platlib'), sysconfig.get_path('purelib'),
                             site.getusersitepackages()]):
    print(folder)
";

/// A library that can be loaded, and new enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its path; a bare file name where the system's loader knows it by name.
    pub library: PathBuf,
    /// What it says of itself, `1.32`.
    pub version: String,
    /// Where it was found.
    pub found: FoundIn,
}

/// The places that are looked at, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundIn {
    /// The path the user gave.
    Explicit,
    /// `ORT_DYLIB_PATH`.
    Environment,
    /// Fetched by an earlier run.
    Cache,
    /// The library path of the system, or the folder of this program.
    System,
    /// An installed Python package.
    Python,
    /// Fetched just now.
    Installed,
}

impl FoundIn {
    /// In words, for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            FoundIn::Explicit => "--onnxruntime",
            FoundIn::Environment => "ORT_DYLIB_PATH",
            FoundIn::Cache => "the cache",
            FoundIn::System => "the system's library path",
            FoundIn::Python => "an installed Python package",
            FoundIn::Installed => "fetched just now",
        }
    }
}

/// The path of a library, fetched if need be, with no path of the user's own.
///
/// # Errors
/// As [`find_or_install_with`].
pub fn find_or_install() -> Result<PathBuf> {
    Ok(find_or_install_with(None, &mut |line| tracing::info!("{line}"))?.library)
}

/// Finds the library, or fetches it with pip; `report` is told what is done.
///
/// # Errors
/// When it is nowhere and cannot be fetched; the message lists every place that was looked at. Also
/// when a path the user named is not a library that can be used.
pub fn find_or_install_with(
    explicit: Option<&Path>,
    report: &mut dyn FnMut(&str),
) -> Result<Runtime> {
    // Threads that start together would fetch it once each.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut looked = Vec::new();
    if let Some(runtime) = search(explicit, &mut looked)? {
        return Ok(runtime);
    }
    install(report).with_context(|| nowhere(&looked))
}

/// Finds the library if it is there.
///
/// # Errors
/// When a path the user named, by flag or environment, is not a library that can be used: falling
/// back to another silently would hide the mistake.
pub fn find(explicit: Option<&Path>) -> Result<Option<Runtime>> {
    search(explicit, &mut Vec::new())
}

/// The paths of one place.
type Candidates = fn() -> Vec<PathBuf>;

fn search(explicit: Option<&Path>, looked: &mut Vec<String>) -> Result<Option<Runtime>> {
    if let Some(path) = explicit {
        return named(path, FoundIn::Explicit).map(Some);
    }
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return named(Path::new(&path), FoundIn::Environment).map(Some);
    }
    looked.push("ORT_DYLIB_PATH: not set".to_owned());
    let places: [(FoundIn, Candidates); 3] = [
        (FoundIn::Cache, in_cache),
        (FoundIn::System, || library_names().map(PathBuf::from).to_vec()),
        (FoundIn::Python, of_pythons),
    ];
    let found =
        places.into_iter().find_map(|(place, candidates)| first_of(place, candidates, looked));
    Ok(found)
}

/// A path the user named: it is this one or an error.
fn named(path: &Path, found: FoundIn) -> Result<Runtime> {
    let by = found.as_str();
    ensure!(
        path.is_file(),
        "{by} names {}, which is not a file: correct it or leave it out",
        path.display()
    );
    let Some(minor) = ort::util::probe(path) else {
        bail!("{by} names {}, which is no ONNX Runtime library of this platform", path.display());
    };
    ensure!(
        minor >= OLDEST_MINOR,
        "{by} names {}, which is ONNX Runtime 1.{minor}: 1.{OLDEST_MINOR} or newer is needed",
        path.display()
    );
    Ok(runtime(path.to_owned(), minor, found))
}

fn first_of(place: FoundIn, candidates: Candidates, looked: &mut Vec<String>) -> Option<Runtime> {
    let mut saw = Vec::new();
    for path in candidates() {
        match ort::util::probe(&path) {
            Some(minor) if minor >= OLDEST_MINOR => return Some(runtime(path, minor, place)),
            Some(minor) => saw.push(format!("{} is version 1.{minor}, too old", path.display())),
            // A bare name that the loader does not know is no file that was refused.
            None if path.is_file() => saw.push(format!("{} cannot be loaded", path.display())),
            None => {}
        }
    }
    let saw = if saw.is_empty() { "nothing".to_owned() } else { saw.join(", ") };
    looked.push(format!("{}: {saw}", place.as_str()));
    None
}

fn runtime(library: PathBuf, minor: u32, found: FoundIn) -> Runtime {
    Runtime { library, version: format!("1.{minor}"), found }
}

fn nowhere(looked: &[String]) -> String {
    format!(
        "ONNX Runtime is needed and was not found\n  {}\nand could not be fetched. Give \
         --onnxruntime or set ORT_DYLIB_PATH to a {} of version 1.{OLDEST_MINOR} or newer, or make \
         `pip download onnxruntime` work here",
        looked.join("\n  "),
        library_names()[0],
    )
}

/// As packages for developers and as runtime packages call it.
fn library_names() -> [&'static str; 2] {
    match cfg!(target_os = "macos") {
        true => ["libonnxruntime.dylib", "libonnxruntime.1.dylib"],
        false => ["libonnxruntime.so", "libonnxruntime.so.1"],
    }
}

/// What was fetched before: the wanted version, else the newest.
fn in_cache() -> Vec<PathBuf> {
    let Ok(cache) = pip::cache_root() else { return Vec::new() };
    let version = |folder: &PathBuf| -> Option<Vec<u32>> {
        let name = folder.file_name()?.to_str()?.strip_prefix("onnxruntime-")?.to_owned();
        name.split('.').map(|part| part.parse().ok()).collect()
    };
    let mut folders = entries(&cache);
    folders.retain(|folder| version(folder).is_some());
    folders.sort_by_key(|folder| {
        (*folder != folder_of(&cache, ONNX_RUNTIME), std::cmp::Reverse(version(folder)))
    });
    let libraries = folders.into_iter().map(|folder| folder.join(library_names()[0]));
    libraries.filter(|path| path.is_file()).collect()
}

fn of_pythons() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for python in pip::pythons() {
        let Ok(output) = Command::new(python).args(["-c", PACKAGE_FOLDERS]).output() else {
            continue;
        };
        folders.extend(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from));
    }
    folders.iter().flat_map(|folder| libraries_in(&folder.join("onnxruntime/capi"))).collect()
}

/// In a package the library bears its full version: `libonnxruntime.so.1.32.0`.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let mut libraries = entries(folder);
    libraries.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix("libonnxruntime.");
        rest.is_some_and(|rest| rest.starts_with("so") || rest.ends_with("dylib"))
    });
    libraries
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn folder_of(cache: &Path, version: &str) -> PathBuf {
    cache.join(format!("onnxruntime-{version}"))
}

fn install(report: &mut dyn FnMut(&str)) -> Result<Runtime> {
    let cache = pip::cache_root()?;
    report(&format!(
        "ONNX Runtime is not on this machine: fetching the Python package onnxruntime {ONNX_RUNTIME} with pip"
    ));
    let wheel = download(&cache, report)?;
    let library = folder_of(&cache, &wheel.version).join(library_names()[0]);
    let pattern = if cfg!(target_os = "macos") {
        "*/capi/libonnxruntime.*dylib"
    } else {
        "*/capi/libonnxruntime.so.*"
    };
    wheel.extract(pattern, &library)?;
    let Some(minor) = ort::util::probe(&library).filter(|minor| *minor >= OLDEST_MINOR) else {
        // Left there, it would be found and refused by every later run.
        let _ = fs::remove_file(&library);
        bail!(
            "the library of onnxruntime {} cannot be loaded on this machine, or is too old",
            wheel.version
        );
    };
    report(&format!("ONNX Runtime {} is now at {}", wheel.version, library.display()));
    Ok(runtime(library, minor, FoundIn::Installed))
}

/// The version that was measured; if it is gone, or has no wheel here, any that is new enough.
fn download(cache: &Path, report: &mut dyn FnMut(&str)) -> Result<Wheel> {
    let wanted = |requirement| Wanted { requirement, platforms: platforms() };
    let measured = pip::download_wheel(&wanted(format!("onnxruntime=={ONNX_RUNTIME}")), cache);
    measured.or_else(|error| {
        report(&format!("{error:#}; trying other versions"));
        pip::download_wheel(&wanted(format!("onnxruntime>=1.{OLDEST_MINOR}")), cache)
    })
}

/// The tags of wheels that run here; none leaves the choice to pip.
fn platforms() -> Vec<String> {
    let tags: &[&str] = match env::consts::OS {
        "linux" => &["manylinux_2_28", "manylinux_2_27", "manylinux_2_17"],
        "macos" => &["macosx_14_0", "macosx_13_0", "macosx_11_0"],
        _ => &[],
    };
    let arch = match (env::consts::OS, env::consts::ARCH) {
        ("macos", "aarch64") => "arm64",
        (_, arch) => arch,
    };
    tags.iter().map(|tag| format!("{tag}_{arch}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_path_is_used_or_refused_but_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, text) = (dir.path().join("missing.so"), dir.path().join("text.so"));
        fs::write(&text, "no library").unwrap();
        for (path, says) in [(&missing, "not a file"), (&text, "no ONNX Runtime library")] {
            let message = format!("{:#}", find(Some(path)).unwrap_err());
            assert!(message.contains(says) && message.contains("--onnxruntime"), "{message}");
        }
    }

    #[test]
    fn what_is_installed_is_found_again_by_its_path() {
        let first = find_or_install_with(None, &mut |_| {}).unwrap();
        assert!(first.version.starts_with("1."), "{first:?}");
        if first.library.is_file() {
            let again = find(Some(&first.library)).unwrap().unwrap();
            assert_eq!((again.version, again.found), (first.version, FoundIn::Explicit));
        }
    }

    #[test]
    fn libraries_of_a_package_are_told_from_its_providers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime.so.1.32.0", "libonnxruntime_providers_shared.so", "version.py"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(libraries_in(dir.path()), [dir.path().join("libonnxruntime.so.1.32.0")]);
        assert!(libraries_in(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn the_message_lists_the_places_and_the_way_out() {
        let message = nowhere(&["the cache: nothing".to_owned()]);
        for part in ["the cache: nothing", "--onnxruntime", "ORT_DYLIB_PATH", "pip download"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
