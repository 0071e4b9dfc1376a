//! The command line: arguments, messages, exit codes.

use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use comfy_table::Table;
use serde_json::json;

use crate::atomic_file;
use crate::decode::Limits;
use crate::describe::Config as DescribeConfig;
use crate::describe::Describer;
use crate::models::runtime;
use crate::perceive;
use crate::perceive::Models;
use crate::perceive::OnnxRuntime;
use crate::perceive::Perceiver;
use crate::pipeline;
use crate::pipeline::Plan;
use crate::source;
use crate::source::Source;

/// Polish the words of a crawled image-text dataset.
#[derive(Parser)]
#[command(name = "recaption", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find ONNX Runtime, or install it with pip.
    Setup(Setup),
    /// Refine the example dataset with the example models.
    Demo {
        /// The run folder.
        #[arg(short, long, default_value = "runs/demo")]
        output: PathBuf,
    },
    /// Tag, caption and store a dataset.
    Refine(Refine),
}

#[derive(Args)]
struct Setup {
    /// The ONNX Runtime library to use.
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
}

#[derive(Args)]
struct Refine {
    /// A folder of images or a parquet file with an image column.
    input: PathBuf,
    /// The run folder; the same command continues an interrupted run.
    #[arg(short, long)]
    output: PathBuf,
    /// Folder of a multi-label image classifier.
    #[arg(long)]
    tagger: Option<PathBuf>,
    /// Folder of a YOLO-layout detector.
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Folder of a VisionEncoderDecoder captioner.
    #[arg(long)]
    captioner: Option<PathBuf>,
    /// Read no more rows than this.
    #[arg(long)]
    limit: Option<usize>,
    /// Rows of a shard.
    #[arg(long, default_value_t = 10_000)]
    rows_per_shard: usize,
    /// Longer side of stored pictures, in pixels.
    #[arg(long, default_value_t = 512)]
    max_side: u32,
    /// The ONNX Runtime library to use.
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// With a message for the user: what, where, what next.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Setup(setup) => set_up(setup.onnxruntime.as_deref()).map(drop),
            Command::Refine(refine) => refine.run(),
            Command::Demo { output } => Refine::of_example(output)?.run(),
        }
    }
}

fn set_up(explicit: Option<&Path>) -> Result<PathBuf> {
    let runtime = runtime::find_or_install_with(explicit, &mut |line| eprintln!("{line}"))?;
    let (version, found) = (&runtime.version, runtime.found.as_str());
    eprintln!("ONNX Runtime {version}: {} ({found})", runtime.library.display());
    Ok(runtime.library)
}

impl Refine {
    fn of_example(output: PathBuf) -> Result<Refine> {
        let examples = Path::new("examples");
        if !examples.join("demo").is_dir() {
            bail!("examples/demo is not here; run the demo from the root of the repository");
        }
        let model = |name: &str| Some(examples.join("models").join(name));
        Ok(Refine {
            input: examples.join("demo"),
            output,
            tagger: model("tagger"),
            detector: model("detector"),
            captioner: model("captioner"),
            limit: None,
            rows_per_shard: 10_000,
            max_side: 512,
            onnxruntime: None,
        })
    }

    fn run(self) -> Result<()> {
        if self.rows_per_shard == 0 {
            bail!("--rows-per-shard must be at least 1");
        }
        let inputs = [self.input.display().to_string()];
        let source = Source::open(&inputs, &source::Config::default())?;
        let rows = source.plan().rows.min(self.limit.map_or(u64::MAX, |limit| limit as u64));
        let items = source.items(0..rows)?;
        let models = Models::open(&perceive::Config {
            tagger: self.tagger.clone(),
            detector: self.detector.clone(),
            captioner: self.captioner.clone(),
            ..perceive::Config::default()
        })?;
        let describer =
            Describer::open(&DescribeConfig::default(), &self.output.join("requests.sqlite"))?;
        self.claim(&models, &describer)?;
        let library = set_up(self.onnxruntime.as_deref())?;
        let runtime = OnnxRuntime::load(&library)?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let mut perceivers: Vec<Perceiver> =
            (0..workers).map(|_| Perceiver::load(&runtime, &models)).collect::<Result<_>>()?;
        let plan = Plan {
            limits: Limits::default(),
            max_side: self.max_side,
            rows_per_shard: self.rows_per_shard,
        };
        let (started, mut rows) = (Instant::now(), 0);
        let output = &self.output;
        let markers =
            pipeline::run(&plan, items, &mut perceivers, &describer, output, &mut |marker| {
                rows += marker.rows_read;
                let rate = rows as f64 / started.elapsed().as_secs_f64();
                let (refined, rejected) = (marker.refined, marker.rejected);
                eprintln!(
                    "shard {:05}: {refined} refined, {rejected} rejected; {rate:.1} rows/s",
                    marker.shard
                );
            })?;
        let mut table = Table::new();
        table.set_header(["shard", "read", "refined", "rejected", "reasons"]);
        for m in &markers {
            let reasons: Vec<String> = m.reasons.iter().map(|(r, n)| format!("{r}: {n}")).collect();
            let counts =
                [m.shard as usize, m.rows_read, m.refined, m.rejected].map(|n| n.to_string());
            table.add_row(counts.into_iter().chain([reasons.join(", ")]));
        }
        println!("{table}\nshards: {}", self.output.display());
        Ok(())
    }

    /// Writes `run.json` once; another input, model or parameter is refused, never mixed in.
    fn claim(&self, models: &Models, describer: &Describer) -> Result<()> {
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot create {}", self.output.display()))?;
        let path = self.output.join("run.json");
        let labels: Vec<&str> = models.folders().map(|folder| &*folder.label).collect();
        let wanted = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "input": self.input,
            "limit": self.limit,
            "rows_per_shard": self.rows_per_shard,
            "max_side": self.max_side,
            "models": labels,
            "describe": describer.provenance(),
        });
        let wanted = serde_json::to_string_pretty(&wanted)?;
        match std::fs::read_to_string(&path) {
            Ok(found) if found == wanted => Ok(()),
            Ok(found) => bail!(
                "{} was made by another command; use a new -o.\nthere: {found}\nasked: {wanted}",
                self.output.display()
            ),
            Err(_) => atomic_file::write(&path, wanted.as_bytes()).map(drop),
        }
    }
}
