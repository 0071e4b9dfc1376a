//! Questions that some process is asking now, so that processes which share a store never buy one twice.
//!
//! A claim is a row beside the answers. Its owner holds a lock on a file beside the store: the system lets
//! go of it however the owner ends, so what a dead owner claimed is free at once. An owner that lives but
//! does nothing (stopped, hung) loses its claims when their lease ends, which it renews while it is well.

use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::time::Duration;
use std::time::SystemTime;

use rand::Rng;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;

use crate::chat::store::Key;
use crate::chat::store::Store;

/// Longer than any pause of a machine that is well.
const LEASE: Duration = Duration::from_secs(60);

/// What stands between the name of a store and an owner's own in the names of locks.
const MARK: &str = "-asking-";

/// Somebody who asks; dead as soon as this is dropped, or its process is.
pub(super) struct Owner {
    id: String,
    lock: PathBuf,
    /// Held, not read.
    _file: File,
}

/// Renews an owner's claims until it is dropped.
pub(super) struct Renewal {
    _stop: Sender<()>,
}

impl Owner {
    /// An owner of claims in the store at `store`; none where files cannot be locked, where processes are
    /// left to ask the same.
    pub(super) fn new(store: &Path) -> Option<Owner> {
        sweep(store);
        let id = format!("{:016x}", rand::rng().random::<u64>());
        let lock = lock_path(store, &id);
        let file = File::create(&lock).ok()?;
        file.try_lock().ok()?;
        // Somebody who swept between those two lines took it for a dead one's.
        lock.exists().then_some(Owner { id, lock, _file: file })
    }

    /// Renews the claims in `store` from a thread of its own.
    pub(super) fn renew(&self, store: &Arc<Store>) -> Renewal {
        let (stop, stopped) = mpsc::channel();
        let (id, store) = (self.id.clone(), Arc::downgrade(store));
        let renew = move || {
            while stopped.recv_timeout(LEASE / 3) == Err(RecvTimeoutError::Timeout) {
                let Some(store) = store.upgrade() else { return };
                if let Err(error) = store.renew_claims(&id) {
                    tracing::debug!("claims are not renewed: {error:#}");
                }
            }
        };
        // Without the thread, long questions may be asked by others too: dear, not wrong.
        drop(std::thread::Builder::new().name("chat-claims".to_owned()).spawn(renew));
        Renewal { _stop: stop }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // What is left is swept by the next owner.
        let _ = fs::remove_file(&self.lock);
    }
}

/// Claims a question for its owner; false while another has it.
pub(super) fn take(
    db: &Connection,
    store: &Path,
    key: &Key,
    owner: &Owner,
) -> rusqlite::Result<bool> {
    const FIND: &str = "SELECT owner, until_ms FROM claims WHERE key = ?1";
    let found = db
        .prepare_cached(FIND)?
        .query_row([key.bytes()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    let is_free = match found.optional()? {
        Some((other, until)) => {
            other == owner.id || until < now_ms() || is_dead(&lock_path(store, &other))
        }
        None => true,
    };
    if is_free {
        let take = "INSERT OR REPLACE INTO claims (key, owner, until_ms) VALUES (?1, ?2, ?3)";
        db.prepare_cached(take)?.execute(params![key.bytes(), owner.id, lease_end()])?;
    }
    Ok(is_free)
}

/// Lets an owner's claim go.
pub(super) fn release(db: &Connection, key: &Key, owner: &Owner) -> rusqlite::Result<()> {
    let release = "DELETE FROM claims WHERE key = ?1 AND owner = ?2";
    db.prepare_cached(release)?.execute(params![key.bytes(), owner.id]).map(drop)
}

/// A question that is answered is nobody's.
pub(super) fn settle(db: &Connection, key: &Key) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM claims WHERE key = ?1")?.execute([key.bytes()]).map(drop)
}

/// All claims of an owner hold on.
pub(super) fn renew(db: &Connection, owner: &str) -> rusqlite::Result<()> {
    let renew = "UPDATE claims SET until_ms = ?2 WHERE owner = ?1";
    db.execute(renew, params![owner, lease_end()]).map(drop)
}

/// Removes the locks of the dead.
fn sweep(store: &Path) {
    let (Some(folder), Some(name)) = (store.parent(), store.file_name()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let start = format!("{}{MARK}", name.to_string_lossy());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&start) {
            is_dead(&entry.path());
        }
    }
}

/// Whether nobody holds a lock; then its file is gone.
fn is_dead(lock: &Path) -> bool {
    let Ok(file) = File::open(lock) else { return !lock.exists() };
    match file.try_lock() {
        Ok(()) => {
            let _ = fs::remove_file(lock);
            true
        }
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

fn lock_path(store: &Path, owner: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(format!("{MARK}{owner}"));
    PathBuf::from(path)
}

fn lease_end() -> i64 {
    now_ms().saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::store::Looked;
    use crate::chat::writer::Chat;
    use crate::chat::writer::Prompted;

    fn keys(count: usize) -> Vec<Key> {
        let chat = |n: usize| Chat { user: n.to_string(), ..Chat::default() };
        let prompted = |n| Prompted { chat: chat(n), ..Prompted::default() };
        (0..count).map(|n| Key::of(&"m".into(), 0, &prompted(n))).collect()
    }

    fn ours(looked: &[Looked]) -> usize {
        looked.iter().filter(|looked| matches!(looked, Looked::Ours)).count()
    }

    #[test]
    fn what_one_claims_no_other_does_until_it_is_dead_or_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests.sqlite");
        let stores = [Store::open(&path).unwrap(), Store::open(&path).unwrap()];
        let [one, two] = [Owner::new(&path).unwrap(), Owner::new(&path).unwrap()];
        let keys = keys(3);
        assert_eq!(ours(&stores[0].look(&keys[..2], Some(&one)).unwrap()), 2);
        assert_eq!(ours(&stores[1].look(&keys, Some(&two)).unwrap()), 1);
        // Its own are not kept from it.
        assert_eq!(ours(&stores[0].look(&keys, Some(&one)).unwrap()), 2);
        stores[0].release(&keys[..1], &one).unwrap();
        assert_eq!(ours(&stores[1].look(&keys, Some(&two)).unwrap()), 2);
        drop(one);
        assert_eq!(ours(&stores[1].look(&keys, Some(&two)).unwrap()), 3);
        drop(two);
        assert_eq!(fs::read_dir(dir.path()).unwrap().filter(is_lock).count(), 0);
    }

    fn is_lock(entry: &std::io::Result<fs::DirEntry>) -> bool {
        entry.as_ref().unwrap().file_name().to_string_lossy().contains(MARK)
    }

    #[test]
    fn a_lease_that_is_not_renewed_ends_and_locks_of_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests.sqlite");
        let store = Store::open(&path).unwrap();
        let [one, two] = [Owner::new(&path).unwrap(), Owner::new(&path).unwrap()];
        let keys = keys(1);
        store.look(&keys, Some(&one)).unwrap();
        store.run("UPDATE claims SET until_ms = 1").unwrap();
        store.renew_claims(&one.id).unwrap();
        assert_eq!(ours(&store.look(&keys, Some(&two)).unwrap()), 0);
        store.run("UPDATE claims SET until_ms = 1").unwrap();
        assert_eq!(ours(&store.look(&keys, Some(&two)).unwrap()), 1);

        fs::write(lock_path(&path, "of-a-dead-one"), "").unwrap();
        let _three = Owner::new(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().filter(is_lock).count(), 3);
    }
}
