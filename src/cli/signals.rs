//! Interrupt and termination: the first asks for an orderly end, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use anyhow::Context;
use anyhow::Result;
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;

/// Calls `stop` and tells what will happen, once, when a signal comes; its number is then there.
pub(super) fn listen(
    network: &Handle,
    what_happens: &'static str,
    stop: impl Fn() + Clone + Send + 'static,
) -> Result<Arc<AtomicU8>> {
    let signal = Arc::new(AtomicU8::new(0));
    let _inside = network.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = tokio::signal::unix::signal(kind).context("cannot listen for signals")?;
        let number = u8::try_from(kind.as_raw_value()).unwrap_or(0);
        let (stop, signal) = (stop.clone(), signal.clone());
        network.spawn(async move {
            signals.recv().await;
            eprintln!(
                "stopping: {what_happens}; the same command continues. Once more ends at once."
            );
            signal.store(number, Ordering::Relaxed);
            stop();
            signals.recv().await;
            std::process::exit(128 + i32::from(number));
        });
    }
    Ok(signal)
}
