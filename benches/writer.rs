//! Rows a second of the local writer alone, on rendered chats.
//!
//! ```text
//! cargo bench --bench writer -- chats RUN ROWS > chats.jsonl     the questions about the first rows of a run
//! cargo bench --bench writer -- write MODEL chats.jsonl THREADS  one line of JSON: rates and texts
//! ```
//!
//! `benches/writer.sh` runs it and llama.cpp in turns on one file of chats and prints their ratio.

use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use recaption::chat::Chat;
use recaption::chat::Message;
use recaption::chat::Prompted;
use recaption::chat::Writer;
use recaption::describe::Limits;
use recaption::describe::LocalConfig;
use recaption::describe::Request;
use recaption::describe::Sources;
use recaption::describe::local::Local;
use recaption::describe::prompt::Prompt;
use recaption::sample::Sample;
use recaption::shard;
use recaption::shard::Images;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As in `cli/machine.rs`, which says why.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// A chat as both programs read it: what all rows share, and the turn of one.
#[derive(Serialize, Deserialize)]
struct Line {
    prefix: Vec<Message>,
    user: String,
}

fn main() -> Result<()> {
    // SAFETY: sets a number.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    // SAFETY: there are no other threads yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["chats", run, rows] => chats(Path::new(run), rows.parse()?),
        ["write", model, chats, threads] => {
            write(Path::new(model), Path::new(chats), threads.parse()?)
        }
        _ => bail!("give `chats RUN ROWS` or `write MODEL CHATS THREADS`"),
    }
}

fn chats(run: &Path, rows: usize) -> Result<()> {
    let prompt = Prompt::fuse(false)?;
    let mut asked = 0;
    for marker in shard::all_finished(run)? {
        for sample in shard::refined(run, &marker, Images::Skip)? {
            let sample = sample?;
            let sources = Sources::new(&request(&sample), &Limits::default());
            if asked < rows && !sources.is_empty() {
                let Chat { prefix, user, .. } = prompt.render(&sources)?.chat;
                let line = Line { prefix: prefix.to_vec(), user };
                println!("{}", serde_json::to_string(&line)?);
                asked += 1;
            }
        }
    }
    Ok(())
}

fn request(sample: &Sample) -> Request<'_> {
    Request {
        key: &sample.item.key,
        raw: sample.item.text_raw.as_deref(),
        synthetic: sample.synthetic.as_ref().map(|synthetic| &*synthetic.text),
        tags: &sample.tags,
    }
}

fn write(model: &Path, chats: &Path, threads: usize) -> Result<()> {
    let file = File::open(chats).with_context(|| chats.display().to_string())?;
    let lines = BufReader::new(file).lines().map(|line| Ok(serde_json::from_str(&line?)?));
    let lines: Vec<Line> = lines.collect::<Result<_>>()?;
    let prefix: Arc<[Message]> = lines.first().context("no chats")?.prefix.clone().into();
    let chat = |line: Line| Chat { prefix: prefix.clone(), user: line.user, picture: None };
    let prompted = |line| Prompted { chat: chat(line), ..Prompted::default() };
    let prompted: Vec<Prompted> = lines.into_iter().map(prompted).collect();
    let config = LocalConfig {
        model: Some(PathBuf::from(model)),
        threads: Some(threads),
        ..LocalConfig::default()
    };
    let writer = Local::open(&config)?;
    let said = Mutex::new(vec![(String::new(), 0); prompted.len()]);

    let started = Instant::now();
    let each = prompted.len().div_ceil(threads);
    let (writer, said_of) = (&writer, &said);
    std::thread::scope(|scope| {
        let callers = prompted.chunks(each).enumerate().map(|(caller, rows)| {
            scope.spawn(move || {
                writer.write(rows, &|index, reply| {
                    let reply = reply.map_err(|error| anyhow::anyhow!(error.reason))?;
                    said_of.lock().expect("no other thread fails")[caller * each + index] =
                        (reply.text, reply.tokens.unwrap_or_default());
                    Ok(())
                })
            })
        });
        let callers: Vec<_> = callers.collect();
        callers.into_iter().try_for_each(|caller| caller.join().expect("no caller panics"))
    })?;
    let seconds = started.elapsed().as_secs_f64();

    let said = said.into_inner().expect("no other thread fails");
    let tokens: u32 = said.iter().map(|(_, tokens)| tokens).sum();
    println!(
        "{}",
        json!({
            "client": "recaption",
            "rows": said.len(),
            "seconds": seconds,
            "tokens": tokens,
            "texts": said.iter().map(|(text, _)| text).collect::<Vec<_>>(),
        })
    );
    Ok(())
}
