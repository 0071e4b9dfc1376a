//! The stage between urls and bytes: many requests at once, results in order, waiting on disk.

use std::sync::Arc;
use std::thread::Scope;

use anyhow::Result;
use bytes::Bytes;
use tokio::runtime::Handle;

use crate::fetch::Fetcher;
use crate::pipeline::Progress;
use crate::pipeline::ordered;
use crate::pipeline::ordered::Place;
use crate::pipeline::row::Flow;
use crate::pipeline::row::Left;
use crate::pipeline::row::Row;
use crate::pipeline::spool::Spool;
use crate::pipeline::spool::Spooled;
use crate::pipeline::stop::Stop;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reject;
use crate::sample::Stage;

/// Rows that may be between reading and decoding. One dead host holds back the order for a minute:
/// with a smaller window, that minute would be lost for all other hosts, too.
const WINDOW: usize = 10_000;

/// A row whose bytes are on disk until it is its turn.
struct Waiting {
    item: Item,
    bytes: Option<Spooled>,
}

/// What the stage works with.
#[derive(Clone)]
pub(super) struct Fetching {
    pub(super) fetcher: Fetcher,
    pub(super) network: Handle,
    pub(super) spool: Arc<Spool>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Stop,
}

/// Items in order, those with a url with their bytes; without a fetcher, the items as they are.
pub(super) fn fetched<'scope>(
    scope: &'scope Scope<'scope, '_>,
    items: impl Iterator<Item = Flow<Item>> + Send + 'scope,
    fetching: Option<Fetching>,
) -> Box<dyn Iterator<Item = Flow<Item>> + Send + 'scope> {
    let Some(fetching) = fetching else { return Box::new(items) };
    let (mut intake, waiting) = ordered::stage(WINDOW);
    scope.spawn(move || {
        for flow in items {
            let Some(place) = intake.place() else { return };
            fetching.start(flow, place);
        }
    });
    Box::new(waiting.map(|flow: Flow<Waiting>| {
        let row = flow?;
        let state = row.state.map(Waiting::item_with_bytes);
        Ok(Row { shard: row.shard, state: transposed(state)? })
    }))
}

/// The error of the disk outside, the fate of the row inside.
fn transposed<T>(state: Result<Result<T>, Left>) -> Result<Result<T, Left>> {
    match state {
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(error)) => Err(error),
        Err(left) => Ok(Err(left)),
    }
}

impl Fetching {
    fn start(&self, flow: Flow<Item>, place: Place<Flow<Waiting>>) {
        let row = match flow {
            Ok(row) => row,
            Err(error) => return place.put(Err(error)),
        };
        let shard = row.shard;
        match row.state {
            Err(left) => place.put(Ok(Row { shard, state: Err(left) })),
            Ok(item) => match &item.picture {
                Picture::Url(url) => {
                    let (fetching, url) = (self.clone(), url.clone());
                    self.progress.enter(Stage::Fetch, 1);
                    self.network
                        .spawn(async move { fetching.fetch(shard, item, &url, place).await });
                }
                _ => place.put(self.keep(item).map(|waiting| Row { shard, state: Ok(waiting) })),
            },
        }
    }

    async fn fetch(self, shard: u32, item: Item, url: &str, place: Place<Flow<Waiting>>) {
        let answer = tokio::select! {
            answer = self.fetcher.fetch(url) => answer,
            // The place is dropped empty, which ends the stage.
            () = self.stop.stopped() => return,
        };
        self.progress.leave(Stage::Fetch, 1);
        place.put(self.fetched(item, answer).map(|state| Row { shard, state }));
    }

    fn fetched(
        &self,
        mut item: Item,
        answer: Result<Bytes, Reject>,
    ) -> Result<Result<Waiting, Left>> {
        match answer {
            Ok(bytes) => {
                item.picture = Picture::Bytes { bytes, name: None };
                Ok(Ok(self.keep(item)?))
            }
            Err(reject) => Ok(Err(Left::Rejected(Box::new((item, reject))))),
        }
    }

    /// Bytes go to disk: thousands of rows may have to wait for one.
    fn keep(&self, mut item: Item) -> Result<Waiting> {
        let Picture::Bytes { bytes, .. } = &mut item.picture else {
            return Ok(Waiting { item, bytes: None });
        };
        let bytes = self.spool.put(&std::mem::take(bytes))?;
        Ok(Waiting { item, bytes: Some(bytes) })
    }
}

impl Waiting {
    fn item_with_bytes(self) -> Result<Item> {
        let mut item = self.item;
        if let (Some(spooled), Picture::Bytes { bytes, .. }) = (self.bytes, &mut item.picture) {
            *bytes = spooled.take()?;
        }
        Ok(item)
    }
}
