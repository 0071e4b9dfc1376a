//! Requests in flight in this process, so that two threads never ask the same thing at once.

use std::collections::HashSet;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::chat::store::Key;

/// The keys somebody is asking about now.
#[derive(Default)]
pub struct Flights {
    flying: Mutex<HashSet<Key>>,
    landed: Condvar,
}

/// Keys that only the holder may ask about, until this is dropped.
pub struct Claim<'a> {
    flights: &'a Flights,
    keys: Vec<Key>,
}

impl Flights {
    /// Claims those of the keys that nobody else has. Never waits, and whoever holds a claim must
    /// not [`wait`](Flights::wait): so no two can wait for each other.
    pub fn claim(&self, keys: &[Key]) -> Claim<'_> {
        let mut flying = self.lock();
        let keys = keys.iter().copied().filter(|key| flying.insert(*key)).collect();
        Claim { flights: self, keys }
    }

    /// Waits until nobody is asking about any of the keys.
    pub fn wait(&self, keys: &[Key]) {
        let mut flying = self.lock();
        while keys.iter().any(|key| flying.contains(key)) {
            flying = self.landed.wait(flying).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        // A set of keys is never half changed.
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim<'_> {
    /// What was claimed.
    pub fn has(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut flying = self.flights.lock();
        for key in &self.keys {
            flying.remove(key);
        }
        drop(flying);
        self.flights.landed.notify_all();
    }
}
