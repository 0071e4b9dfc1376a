//! `recaption refine` and `recaption demo`: open everything, run the pipeline, say how it went.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::chat::Purchases;
use crate::chat::Reply;
use crate::chat::Statement;
use crate::cli::bill;
use crate::cli::look;
use crate::cli::machine;
use crate::cli::outcome::Outcome;
use crate::cli::plan;
use crate::cli::progress::Display;
use crate::cli::progress::Style;
use crate::cli::set_up;
use crate::cli::settings::Settings;
use crate::cli::signals;
use crate::clip::Embedder;
use crate::clip::Judge;
use crate::config::Config;
use crate::describe::Describer;
use crate::describe::Request;
use crate::describe::WriterKind;
use crate::fetch::Fetcher;
use crate::perceive::Models;
use crate::perceive::OnnxRuntime;
use crate::perceive::Perceiver;
use crate::pipeline;
use crate::pipeline::Progress;
use crate::pipeline::Stages;
use crate::pipeline::Stop;
use crate::pipeline::Todo;
use crate::report;
use crate::run::Retry;
use crate::run::RunFolder;
use crate::run::Work;
use crate::sample::Sample;
use crate::sample::StoredImage;
use crate::shard;
use crate::shard::Images;
use crate::shard::Marker;
use crate::source::Source;
use crate::vision::Captioner;

#[derive(Args)]
pub(super) struct Refine {
    /// Folders of images, parquet, csv, tsv, jsonl or webdataset files, or globs of them.
    #[arg(required = true)]
    pub(super) input: Vec<String>,
    /// The run folder; the same command continues an interrupted run.
    #[arg(short, long, value_name = "RUN")]
    pub(super) output: PathBuf,
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Only run rejected rows of finished shards again: those whose reason may pass, or all.
    #[arg(long, value_name = "WHICH", num_args = 0..=1, default_missing_value = "retryable")]
    pub(super) retry_rejects: Option<Retry>,
    /// Print what would be done and whether everything needed is there, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Progress and results as JSON, an object a line, on standard output.
    #[arg(long)]
    pub(super) json: bool,
    /// The ONNX Runtime library to use.
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Print a table of so many refined rows at the end.
    #[arg(long, value_name = "N", default_value_t = 0)]
    show: usize,
}

/// Everything a run needs that is opened before it begins.
pub(super) struct Opened {
    pub(super) config: Config,
    pub(super) source: Source,
    models: Models,
    pub(super) describer: Arc<Describer>,
    judge: Option<Judge>,
    captioner: Option<Arc<Captioner>>,
    purchases: Option<Arc<Purchases>>,
}

impl Opened {
    /// What was spent, and how each endpoint was used.
    pub(super) fn statement(&self) -> Statement {
        let spent = self.purchases.as_ref().map(|payer| payer.bill().spent()).unwrap_or_default();
        let mut endpoints = self.describer.usage();
        endpoints.extend(self.captioner.iter().flat_map(|captioner| captioner.usage()));
        Statement { run: None, spent, endpoints }
    }

    /// Everything that was answered about the rows of a shard, by all who were asked.
    pub(super) fn kept(&self, folder: &Path, marker: &Marker) -> Result<Vec<Reply>> {
        let images = if self.captioner.is_some() { Images::Read } else { Images::Skip };
        let samples: Vec<Sample> =
            shard::refined(folder, marker, images)?.collect::<Result<_>>()?;
        let requests: Vec<Request<'_>> = samples.iter().map(Request::of).collect();
        let mut kept = self.describer.kept(&requests)?;
        if let Some(captioner) = &self.captioner {
            let pictures: Vec<&StoredImage> = samples.iter().map(|sample| &sample.image).collect();
            kept.extend(captioner.kept(&pictures)?);
        }
        Ok(kept)
    }
}

/// What the pipeline is to do.
pub(super) struct Job<'a> {
    /// The folder that the shards go to.
    pub(super) to: &'a Path,
    pub(super) todo: &'a [Todo],
    /// Rows in all.
    pub(super) rows: u64,
    /// Rows that are done already.
    pub(super) before: u64,
    /// Whether each shard is worth a line.
    pub(super) says_shards: bool,
}

/// Runs on network threads of its own: requests and signals.
const NETWORK_THREADS: usize = 2;

impl Refine {
    /// The example dataset with the example models.
    pub(super) fn of_example(output: PathBuf) -> Result<Refine> {
        let examples = Path::new("examples");
        if !examples.join("demo").is_dir() {
            bail!("examples/demo is not here; run the demo from the root of the repository");
        }
        let model = |name: &str| examples.join("models").join(name);
        let settings = Settings::of_models(model("tagger"), model("detector"), model("captioner"));
        Ok(Refine {
            input: vec![examples.join("demo").display().to_string()],
            output,
            settings,
            retry_rejects: None,
            dry_run: false,
            json: false,
            onnxruntime: None,
            show: 10,
        })
    }

    pub(super) fn run(mut self) -> Result<Outcome> {
        let config = std::mem::take(&mut self.settings).resolve()?;
        let folder = RunFolder::new(&self.output);
        if self.dry_run {
            return plan::dry_run(&self, &folder, config);
        }
        let _lock = folder.lock()?;
        let opened = self.open(&folder, config)?;
        let Opened { config, source, models, describer, judge, captioner, .. } = &opened;
        let others = (judge.as_ref(), captioner.as_deref());
        folder.claim(&self.input, config, source, models, describer, others)?;
        let work = folder.work(source, config, self.retry_rejects)?;
        self.announce(&work, source);
        let outcome = self.refine(&opened, &work)?;
        self.summarise(&folder)?;
        Ok(outcome)
    }

    pub(super) fn open(&self, folder: &RunFolder, config: Config) -> Result<Opened> {
        // First of all: what is opened below has threads.
        if config.describe.writer == WriterKind::Local {
            machine::keep_memory();
            if config.describe.local.threads != Some(1) {
                machine::work_alone();
            }
        }
        let source = folder.source(&self.input, &config)?;
        let models = Models::open(&config.perceive)?;
        let purchases = open_purchases(&folder.path, &config)?;
        let captioner = captioner(&config, purchases.as_ref())?.map(Arc::new);
        let describer = Arc::new(Describer::open(&config.describe, purchases.clone())?);
        let judge = judge(&config)?;
        Ok(Opened { config, source, models, describer, judge, captioner, purchases })
    }

    fn refine(&self, opened: &Opened, work: &Work) -> Result<Outcome> {
        let before: u64 = work.finished.iter().map(|marker| marker.rows_read).sum();
        let again = work.todo.iter().filter_map(|todo| todo.again.as_ref());
        let again: u64 = again.map(|again| again.rows.len() as u64).sum();
        let job = Job {
            to: &self.output,
            todo: &work.todo,
            rows: work.rows,
            before: before - again,
            says_shards: true,
        };
        let outcome = self.pipe(opened, &job, &mut |_| {});
        bill::write(&self.output, &opened.statement(), !self.json)?;
        outcome
    }

    /// Runs the pipeline over what is to do, with progress, until the end or a signal.
    pub(super) fn pipe(
        &self,
        opened: &Opened,
        job: &Job<'_>,
        finished: &mut dyn FnMut(&Marker),
    ) -> Result<Outcome> {
        let Opened { config, source, models, describer, judge, captioner, .. } = opened;
        if job.todo.is_empty() {
            return Ok(Outcome::Done);
        }
        let perceivers = self.perceivers(config, models)?;
        let network = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .enable_all()
            .build()
            .context("cannot start the threads of the network")?;
        let stop = Stop::default();
        let (asked, writer, viewer) = (stop.clone(), Arc::clone(describer), captioner.clone());
        let signal = signals::listen(
            network.handle(),
            "what is under way is finished and kept where it can be",
            move || {
                asked.stop();
                writer.halt();
                viewer.iter().for_each(|viewer| viewer.halt());
            },
        )?;
        self.greet("writer", describer.probe());
        captioner.iter().for_each(|captioner| self.greet("captioner", captioner.probe()));
        let fetcher = source.plan().has_urls().then(|| Fetcher::new(&config.fetch)).transpose()?;
        let stages = Stages {
            source,
            fetcher: fetcher.map(|fetcher| (fetcher, network.handle().clone())),
            limits: &config.decode,
            store: &config.store,
            dedup: &config.dedup,
            perceivers,
            batch: config.perceive.batch,
            captioner: captioner.as_deref(),
            describer,
            audit: &config.audit,
            judge: judge.as_ref(),
            format: config.shard.format,
            quota: &config.quota,
            alarms: &config.alarms,
        };
        let progress = Arc::new(Progress::default());
        let payer = opened.purchases.clone();
        let spent = Box::new(move || payer.as_ref().map(|payer| payer.bill().spent()));
        let display = Display::start(Style::of(self.json), progress.clone(), job.rows, spent);
        progress.begin(job.rows, job.before);
        let end = pipeline::run(job.to, stages, job.todo, &progress, &stop, &mut |marker| {
            if job.says_shards {
                display.shard(marker);
            }
            finished(marker);
        });
        drop(display);
        network.shutdown_background();
        end?;
        Ok(match signal.load(Ordering::Relaxed) {
            0 => Outcome::Done,
            signal => Outcome::Stopped(signal),
        })
    }

    fn perceivers(&self, config: &Config, models: &Models) -> Result<Vec<Perceiver>> {
        let workers = config.run.workers;
        let workers =
            workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if models.folders().count() == 0 {
            return Ok((0..workers).map(|_| Perceiver::without_models(models)).collect());
        }
        let runtime = OnnxRuntime::load(&set_up(self.onnxruntime.as_deref())?)?;
        (0..workers).map(|_| Perceiver::load(&runtime, models)).collect()
    }

    fn announce(&self, work: &Work, source: &Source) {
        let (todo, done) = (work.todo.len(), work.finished.len());
        if self.json {
            let plan = json!({
                "event": "plan", "rows": work.rows, "shards": work.shards,
                "shards_done": done, "shards_to_do": todo,
            });
            println!("{plan}");
        } else {
            eprintln!(
                "{} rows of {} in {} shards, {done} done, {todo} to do; columns: {}",
                work.rows,
                source.plan().format,
                work.shards,
                source.plan().mapping
            );
        }
    }

    /// Who will be asked, before an hour of looking is spent on it. Nothing ends here: what was answered
    /// before may be all that is needed.
    fn greet(&self, who: &str, found: Result<String>) {
        match found {
            Ok(line) if !self.json => eprintln!("{who}: {line}"),
            Ok(_) => {}
            Err(error) => tracing::warn!("the {who} is not ready: {error:#}"),
        }
    }

    fn summarise(&self, folder: &RunFolder) -> Result<()> {
        let started = Instant::now();
        let report = report::write(&folder.path)?;
        tracing::debug!("the report took {:?}", started.elapsed());
        if self.json {
            let summary = look::summary(&folder.path)?;
            println!("{}", json!({"event": "done", "summary": summary, "report": report}));
            return Ok(());
        }
        if self.show > 0 {
            println!("{}", look::rows(&folder.path, self.show)?);
        }
        println!("{}", look::reasons(&folder.path)?);
        println!("shards: {}\nreport: {}", folder.path.display(), report.display());
        Ok(())
    }
}

/// The memory of what was bought; nothing where the rules write.
fn open_purchases(run: &Path, config: &Config) -> Result<Option<Arc<Purchases>>> {
    if config.describe.writer == WriterKind::Rules && !config.vision.is_on() {
        return Ok(None);
    }
    Ok(Some(Arc::new(bill::purchases(run, &config.describe)?)))
}

/// Who captions from afar, where an endpoint is named.
pub(super) fn captioner(
    config: &Config,
    purchases: Option<&Arc<Purchases>>,
) -> Result<Option<Captioner>> {
    let on = purchases.filter(|_| config.vision.is_on());
    on.map(|payer| Captioner::open(&config.vision, Arc::clone(payer))).transpose()
}

/// Who says how well texts fit, where a checkpoint is named.
pub(super) fn judge(config: &Config) -> Result<Option<Judge>> {
    if config.clip.checkpoint.is_none() {
        return Ok(None);
    }
    let embedder = Embedder::open(&config.clip)?;
    Ok(Some(Judge::new(embedder, config.clip.batch)))
}
