//! The local page where rows are judged: one reviewer, this machine only.
//!
//! It listens on the loopback address, answers only requests that name a loopback host (a web page that
//! points its own name at 127.0.0.1 does not), and everything is below a random path that only the
//! terminal was told. Texts go out as JSON and are put in place as text, under a policy that would not
//! run a script in them anyway.

mod answers;
mod assets;
mod guard;
mod pictures;

use std::future::Future;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use axum::routing::post;
use tokio::net::TcpListener;

use crate::review::Desk;
use crate::review::Rows;
use crate::review::Statistics;
use crate::review::queue;
use crate::review::server::pictures::Shown;

/// A review that has an address and waits to be served.
pub struct Server {
    listener: TcpListener,
    review: Arc<Review>,
    url: String,
}

/// What all requests share.
struct Review {
    /// What the page calls the run.
    name: String,
    queue: queue::Config,
    rows: Rows,
    desk: Mutex<Desk>,
    shown: Shown,
    guard: guard::Guard,
}

/// Bytes of a verdict with an edited text; more is no caption.
const LONGEST_VERDICT: usize = 64 << 10;

impl Server {
    /// Takes the port, 0 for any that is free.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn bind(
        run: &Path,
        rows: Rows,
        desk: Desk,
        queue: queue::Config,
        port: u16,
    ) -> Result<Server> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| {
            format!("cannot listen on {address}; give another --port, or 0 for any that is free")
        })?;
        let guard = guard::Guard::new();
        let url = format!("http://{}/{}/", listener.local_addr()?, guard.token());
        let real = run.canonicalize().unwrap_or_else(|_| run.to_owned());
        let name = real.file_name().map(|name| name.to_string_lossy().into_owned());
        let (name, desk) = (name.unwrap_or_default(), Mutex::new(desk));
        let review = Review { name, queue, rows, desk, shown: Shown::default(), guard };
        Ok(Server { listener, review: Arc::new(review), url })
    }

    /// Where the page is, with its secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Serves until `stop`; what the verdicts say then.
    ///
    /// # Errors
    /// When the log cannot be read in the end.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<Statistics> {
        let router = router(self.review.clone());
        axum::serve(self.listener, router).with_graceful_shutdown(stop).await?;
        self.review.desk().statistics(&self.review.rows)
    }
}

impl Review {
    /// A request that panicked has left nothing half done: the log is what counts.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn router(review: Arc<Review>) -> Router {
    Router::new()
        .route("/{token}/", get(assets::page))
        .route("/{token}/page.css", get(assets::style))
        .route("/{token}/page.js", get(assets::script))
        .route("/{token}/icon.svg", get(assets::icon))
        .route("/{token}/picture/{position}", get(pictures::picture))
        .route("/{token}/api/state", get(answers::state))
        .route("/{token}/api/rows/{position}", get(answers::row))
        .route("/{token}/api/statistics", get(answers::statistics))
        .route("/{token}/api/verdicts", post(answers::judge))
        .route("/{token}/api/undo", post(answers::undo))
        .layer(DefaultBodyLimit::max(LONGEST_VERDICT))
        .layer(middleware::from_fn_with_state(review.clone(), guard::guard))
        .with_state(review)
}
