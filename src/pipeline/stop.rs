//! The wish to stop, which every stage can see and any thread can state.

use tokio::sync::watch;

/// Clones are the same wish.
#[derive(Clone)]
pub struct Stop {
    sender: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop { sender: watch::channel(false).0 }
    }
}

impl Stop {
    /// Stop as soon as what is under way is safe.
    pub fn stop(&self) {
        self.sender.send_replace(true);
    }

    /// Whether somebody said so.
    pub fn is_stopped(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits until somebody says so.
    pub(super) async fn stopped(&self) {
        // Cannot fail: the sender is in `self`.
        let _ = self.sender.subscribe().wait_for(|stopped| *stopped).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_hears_it_also_when_it_asks_late() {
        let stop = Stop::default();
        let other = stop.clone();
        assert!(!other.is_stopped());
        stop.stop();
        assert!(other.is_stopped());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(other.stopped());
    }
}
