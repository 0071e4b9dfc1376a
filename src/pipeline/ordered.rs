//! Work on many threads whose results come out in the order in which the work went in.
//!
//! This is the joint of which the pipeline is made: each stage reads the iterator of the stage before
//! it on a thread of its own and is itself an iterator. A ticket is needed to go in and is given
//! back when the result comes out, so that no more than `window` elements are between the two ends,
//! however slow one of them is. When the reader goes away, so do all threads: their channels close.

use std::collections::BTreeMap;
use std::thread::Scope;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use crossbeam_channel::bounded;
use crossbeam_channel::unbounded;

/// Results in order; the reading end of a stage.
pub(super) struct Ordered<R> {
    results: Receiver<(u64, Option<R>)>,
    /// Results that came before their turn.
    early: BTreeMap<u64, Option<R>>,
    next: u64,
    tickets: Sender<()>,
}

/// The writing end of a stage: work that needs a ticket and gives its result back under a number.
pub(super) struct Intake<R> {
    tickets: Receiver<()>,
    results: Sender<(u64, Option<R>)>,
    next: u64,
}

/// Where the result of one element goes. Dropped without one (its thread panicked), it ends the
/// stage, so that nobody waits for it.
pub(super) struct Place<R> {
    results: Sender<(u64, Option<R>)>,
    number: u64,
    is_filled: bool,
}

/// The two ends of a stage with room for `window` elements.
pub(super) fn stage<R>(window: usize) -> (Intake<R>, Ordered<R>) {
    let (give_back, tickets) = bounded(window.max(1));
    for _ in 0..window.max(1) {
        // Has room for all of them, and its other end is in this function.
        let _ = give_back.send(());
    }
    // Bounded by the tickets.
    let (sender, results) = unbounded();
    let intake = Intake { tickets, results: sender, next: 0 };
    (intake, Ordered { results, early: BTreeMap::new(), next: 0, tickets: give_back })
}

impl<R> Intake<R> {
    /// A place for the next element, when there is room; nothing if nobody reads any more.
    pub(super) fn place(&mut self) -> Option<Place<R>> {
        self.tickets.recv().ok()?;
        let number = self.next;
        self.next += 1;
        Some(Place { results: self.results.clone(), number, is_filled: false })
    }
}

impl<R> Place<R> {
    /// Hands the result over. It is lost if nobody reads any more, which is what is wanted then.
    pub(super) fn put(mut self, result: R) {
        self.is_filled = true;
        let _ = self.results.send((self.number, Some(result)));
    }
}

impl<R> Drop for Place<R> {
    fn drop(&mut self) {
        if !self.is_filled {
            let _ = self.results.send((self.number, None));
        }
    }
}

/// Applies `work` to every element, one thread for each of the workers.
pub(super) fn map<'scope, T, R, W>(
    scope: &'scope Scope<'scope, '_>,
    input: impl Iterator<Item = T> + Send + 'scope,
    workers: Vec<W>,
    window: usize,
    work: impl Fn(&mut W, T) -> R + Clone + Send + 'scope,
) -> Ordered<R>
where
    T: Send + 'scope,
    R: Send + 'scope,
    W: Send + 'scope,
{
    let (mut intake, ordered) = stage(window);
    let (jobs, queue) = bounded::<(Place<R>, T)>(workers.len());
    scope.spawn(move || {
        for element in input {
            let Some(place) = intake.place() else { return };
            if jobs.send((place, element)).is_err() {
                return;
            }
        }
    });
    for mut worker in workers {
        let (queue, work) = (queue.clone(), work.clone());
        scope.spawn(move || {
            for (place, element) in queue {
                place.put(work(&mut worker, element));
            }
        });
    }
    ordered
}

impl<R> Iterator for Ordered<R> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        loop {
            if let Some(result) = self.early.get_mut(&self.next) {
                // A missing result stays in its place: nothing comes after it.
                let result = result.take()?;
                self.early.remove(&self.next);
                self.next += 1;
                // Fails when the intake has had its last element.
                let _ = self.tickets.try_send(());
                return Some(result);
            }
            let (number, result) = self.results.recv().ok()?;
            self.early.insert(number, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::thread;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn squares(input: Vec<u64>, workers: usize, window: usize) -> Vec<u64> {
        thread::scope(|scope| {
            let workers = vec![(); workers];
            map(scope, input.into_iter(), workers, window, |_, n| {
                thread::sleep(Duration::from_micros(n % 7 * 30));
                n * n
            })
            .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]
        #[test]
        fn it_is_the_plain_map(
            input in prop::collection::vec(0..1000u64, 0..60), workers in 1..5usize, window in 1..9usize,
        ) {
            let plain: Vec<u64> = input.iter().map(|n| n * n).collect();
            prop_assert_eq!(squares(input, workers, window), plain);
        }
    }

    #[test]
    fn no_more_is_read_than_the_window_holds() {
        let read = AtomicUsize::new(0);
        thread::scope(|scope| {
            let input = (0..1000).inspect(|_| {
                read.fetch_add(1, Ordering::SeqCst);
            });
            let mut results = map(scope, input, vec![(); 3], 10, |_, n: i32| n);
            assert_eq!(results.next(), Some(0));
            thread::sleep(Duration::from_millis(50));
            // One that came out, ten inside, one that waits for its ticket.
            assert!(read.load(Ordering::SeqCst) <= 12, "{read:?}");
        });
    }

    #[test]
    fn a_panic_ends_the_stage_instead_of_hanging_it() {
        let came = AtomicUsize::new(0);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            thread::scope(|scope| {
                let work = |_: &mut (), n: i32| if n == 5 { panic!("on purpose") } else { n };
                let results = map(scope, 0..1000, vec![(); 2], 4, work);
                came.fetch_add(results.count(), Ordering::SeqCst);
            });
        }));
        assert!(outcome.is_err());
        assert_eq!(came.load(Ordering::SeqCst), 5);
    }

    #[test]
    fn everything_ends_when_the_reader_goes_away() {
        thread::scope(|scope| {
            let first = map(scope, 0.., vec![(); 2], 4, |_, n: u64| n);
            let mut second = map(scope, first, vec![(); 2], 4, |_, n: u64| n + 1);
            assert_eq!(second.next(), Some(1));
        });
    }
}
