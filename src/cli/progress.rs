//! What a person or a program sees while a run goes on.
//!
//! On a terminal, one line that is drawn again; elsewhere, a line now and then; with `--json`, a JSON
//! object a line on standard output.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use indicatif::HumanDuration;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use serde_json::Value;
use serde_json::json;

use crate::chat::Spent;
use crate::cli::bill;
use crate::pipeline::Progress;
use crate::pipeline::Snapshot;
use crate::shard::Marker;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// One line, drawn again.
    Bar,
    /// A line now and then.
    Lines,
    /// JSON on standard output.
    Json,
}

/// Shows progress from a thread of its own until it is dropped.
pub(super) struct Display {
    style: Style,
    bar: ProgressBar,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Says what was spent so far.
pub(super) type Account = dyn Fn() -> Option<Spent> + Send;

/// "Now" is this long.
const RECENT: Duration = Duration::from_secs(10);

impl Style {
    /// What fits where standard error goes.
    pub(super) fn of(json: bool) -> Style {
        match json {
            true => Style::Json,
            false if std::io::stderr().is_terminal() => Style::Bar,
            false => Style::Lines,
        }
    }

    fn interval(self) -> Duration {
        match self {
            Style::Bar => Duration::from_millis(200),
            Style::Json => Duration::from_secs(1),
            Style::Lines => Duration::from_secs(10),
        }
    }
}

impl Display {
    /// `spent` says what the writer's answers have cost.
    pub(super) fn start(
        style: Style,
        progress: Arc<Progress>,
        rows: u64,
        spent: Box<Account>,
    ) -> Display {
        let bar = if style == Style::Bar { ProgressBar::new(rows) } else { ProgressBar::hidden() };
        let line = ProgressStyle::with_template("{bar:24} {pos}/{len} rows · {msg}");
        if let Ok(line) = line {
            bar.set_style(line);
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = {
            let (bar, is_over) = (bar.clone(), is_over.clone());
            thread::spawn(move || watch(style, &progress, &spent, &bar, &is_over))
        };
        Display { style, bar, is_over, thread: Some(thread) }
    }

    /// A shard was committed.
    pub(super) fn shard(&self, marker: &Marker) {
        let Marker { shard, refined, rejected, stats, .. } = marker;
        match self.style {
            Style::Json => println!("{}", json!({"event": "shard", "marker": marker})),
            _ => self.say(&format!(
                "shard {shard:05}: {refined} refined, {rejected} rejected, {:.1} rows/s",
                stats.rows_per_second
            )),
        }
    }

    fn say(&self, line: &str) {
        match self.style {
            Style::Bar => self.bar.println(line),
            _ => eprintln!("{line}"),
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only draws; if it panicked, the run did not.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

fn watch(
    style: Style,
    progress: &Progress,
    spent: &Account,
    bar: &ProgressBar,
    is_over: &AtomicBool,
) {
    let mut rate = Rate::new();
    loop {
        thread::park_timeout(style.interval());
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let snapshot = progress.snapshot();
        let (speed, spent) = (rate.take(&snapshot), spent());
        match style {
            Style::Json => println!("{}", event(&snapshot, &speed, spent.as_ref())),
            Style::Lines if snapshot.total > 0 => {
                eprintln!(
                    "{}/{} rows · {}",
                    snapshot.done(),
                    snapshot.total,
                    line(&snapshot, &speed, spent.as_ref())
                );
            }
            Style::Lines => {}
            Style::Bar => {
                bar.set_length(snapshot.total);
                bar.set_position(snapshot.done());
                bar.set_message(line(&snapshot, &speed, spent.as_ref()));
            }
        }
    }
}

/// Rows per second of the last seconds and of all.
struct Rate {
    started: Instant,
    recent: VecDeque<(Instant, u64)>,
}

struct Speed {
    now: f64,
    overall: f64,
    left: Option<Duration>,
}

impl Rate {
    fn new() -> Rate {
        let started = Instant::now();
        Rate { started, recent: VecDeque::from([(started, 0)]) }
    }

    fn take(&mut self, snapshot: &Snapshot) -> Speed {
        let (now, rows) = (Instant::now(), snapshot.refined + snapshot.rejected);
        self.recent.push_back((now, rows));
        while self.recent.len() > 2 && now - self.recent[1].0 > RECENT {
            self.recent.pop_front();
        }
        let (since, before) = self.recent[0];
        let rate = |rows: u64, time: Duration| rows as f64 / time.as_secs_f64().max(1e-3);
        let recent = rate(rows.saturating_sub(before), now - since);
        let missing = snapshot.total.saturating_sub(snapshot.done());
        let left = (recent > 0.0).then(|| Duration::from_secs_f64(missing as f64 / recent));
        Speed { now: recent, overall: rate(rows, now - self.started), left }
    }
}

fn line(snapshot: &Snapshot, speed: &Speed, spent: Option<&Spent>) -> String {
    let left = speed.left.map_or_else(|| "?".to_owned(), |left| HumanDuration(left).to_string());
    let stages = snapshot.stages.iter().filter(|stage| stage.in_flight > 0);
    let stages: Vec<String> =
        stages.map(|stage| format!("{} {}", stage.stage, stage.in_flight)).collect();
    let bill = spent.filter(|spent| spent.requests > 0);
    let bill = bill.map_or_else(String::new, |spent| format!("{} · ", bill::words(spent)));
    format!(
        "{:.1}/s now, {:.1}/s overall · {} rejected · {left} left · {bill}{}",
        speed.now,
        speed.overall,
        snapshot.rejected,
        stages.join(" ")
    )
}

fn event(snapshot: &Snapshot, speed: &Speed, spent: Option<&Spent>) -> Value {
    json!({
        "event": "progress",
        "done": snapshot.done(),
        "total": snapshot.total,
        "refined": snapshot.refined,
        "rejected": snapshot.rejected,
        "rows_per_second_now": speed.now,
        "rows_per_second": speed.overall,
        "seconds_left": speed.left.map(|left| left.as_secs()),
        "spent": spent,
        "stages": snapshot.stages,
    })
}
