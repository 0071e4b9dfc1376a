//! A folder whose work goes on when the same command is given again: one process at a time, JSON
//! files that are whole, and whether it is the same work.

use std::fs::File;
use std::fs::TryLockError;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::atomic_file;

const LOCK: &str = "run.lock";

/// Makes the folder if need be; it belongs to this process alone until the file is dropped. What dead
/// writers left is cleared away.
///
/// # Errors
/// When it cannot be made, or another process has it.
pub fn lock(path: &Path) -> Result<File> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    let lock = path.join(LOCK);
    let file = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "another recaption is working on {}; wait for it or name another -o",
            path.display()
        ),
        // Some network file systems have no locks; there the user sees to it.
        Err(TryLockError::Error(error)) => {
            tracing::warn!("{} cannot be locked: {error}", lock.display());
        }
    }
    atomic_file::remove_leftovers(path)?;
    Ok(file)
}

/// What a JSON file holds; none where there is no such file.
///
/// # Errors
/// When it cannot be read, or holds something else.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    let value = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; use a new -o", path.display()))?;
    Ok(Some(value))
}

/// Writes a JSON file, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value)?;
    atomic_file::write(path, &json).map(drop)
}

/// Refuses to go on in a folder that was made by another command.
///
/// # Errors
/// Names each difference.
pub fn ensure_same(path: &Path, there: &Value, here: &Value) -> Result<()> {
    let differences = differences(there, here);
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "{} was made by another command; use a new -o, or give what it was made with:\n  {}",
        path.display(),
        differences.join("\n  ")
    )
}

/// Paths of values that differ, with both values.
pub fn differences(there: &Value, here: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(there, here, "", &mut found);
    found
}

fn compare(there: &Value, here: &Value, path: &str, found: &mut Vec<String>) {
    match (there, here) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |object: &serde_json::Map<String, Value>| {
                    object.get(name).cloned().unwrap_or(Value::Null)
                };
                compare(&of(a), &of(b), &path, found);
            }
        }
        (a, b) if a != b => found.push(format!("{path}: {a} there, {b} now")),
        _ => {}
    }
}

/// Takes values out of JSON, by their paths, as `run.workers`.
pub fn remove(json: &mut Value, paths: &[&str]) {
    for path in paths {
        remove_one(json, path);
    }
}

fn remove_one(json: &mut Value, path: &str) {
    match path.split_once('.') {
        Some((first, rest)) => {
            if let Some(inner) = json.get_mut(first) {
                remove_one(inner, rest);
            }
        }
        None => {
            if let Some(object) = json.as_object_mut() {
                object.remove(path);
            }
        }
    }
}
