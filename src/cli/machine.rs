//! What the allocator and candle are told of this process, before it has other threads.

/// `mi_option_purge_delay` of mimalloc.h; the crate has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// From now on memory that is let go stays with this process.
///
/// Tensors come and go by the gigabyte: what is given back to the system is asked for again at once, page
/// by page, each cleared. A training step took 1.5 times as long, a text of the local writer 1.4 times.
pub(super) fn keep_memory() {
    // SAFETY: sets a number.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// From now on candle lets no helpers in on work between products: callers that each have a core would
/// only wait for them, and for each other's turn with them.
pub(super) fn work_alone() {
    if std::env::var_os(CANDLE_THREADS).is_none() {
        // SAFETY: no other thread reads the environment yet.
        unsafe { std::env::set_var(CANDLE_THREADS, "1") };
    }
}

const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";
