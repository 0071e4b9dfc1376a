//! The page in a real Chromium: ten rows judged by keyboard are there after a reload, and markup in
//! captions stays text.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use fantoccini::Client;
use fantoccini::ClientBuilder;
use fantoccini::Locator;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::review::HOSTILE;
use crate::review::Served;
use crate::review::log;
use crate::review::run;

/// With this set to `required`, a missing browser is a failure.
const BROWSER: &str = "RECAPTION_BROWSER";

/// A folder to put screenshots into, for who wants to look.
const SCREENSHOTS: &str = "RECAPTION_SCREENSHOTS";

const ESCAPE: &str = "\u{e00c}";
const CONTROL: &str = "\u{e009}";
const ENTER: &str = "\u{e007}";
const NULL: &str = "\u{e000}";

/// Chromium behind its driver; both end with the value, also when a test panics.
struct Browser {
    driver: Child,
    url: String,
    client: Client,
    session: String,
    /// Chromium's, so that no two share one.
    _profile: TempDir,
}

impl Browser {
    /// None where there is no driver and none is required.
    async fn start() -> Option<Browser> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = match command.spawn() {
            Ok(driver) => driver,
            Err(error) => {
                let why = format!(
                    "chromedriver does not run ({error}): apt-get install chromium chromium-driver"
                );
                assert!(std::env::var(BROWSER).as_deref() != Ok("required"), "{why}");
                eprintln!("the page is not tested in a browser: {why}");
                return None;
            }
        };
        let url = format!("http://127.0.0.1:{port}");
        let mut starting = Starting(Some(driver));
        let profile = tempfile::tempdir().unwrap();
        let capabilities = json!({
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--hide-scrollbars",
                "--window-size=1280,860", format!("--user-data-dir={}", profile.path().display()),
            ] },
        });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities.as_object().unwrap().clone());
        let begun = Instant::now();
        let client = loop {
            match builder.connect(&url).await {
                Ok(client) => break client,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let session = client.session_id().await.unwrap().unwrap();
        Some(Browser {
            driver: starting.0.take().unwrap(),
            url,
            client,
            session,
            _profile: profile,
        })
    }

    async fn keys(&self, keys: &str) {
        let begun = Instant::now();
        loop {
            let focused = self.client.active_element().await.unwrap();
            match focused.send_keys(keys).await {
                Ok(()) => return,
                // What has the focus may be about to be hidden: then no key was typed, and the next look
                // finds who has it.
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn look(&self, script: &str) -> Value {
        self.client.execute(&format!("return {script};"), Vec::new()).await.unwrap()
    }

    async fn until(&self, script: &str) {
        let begun = Instant::now();
        while self.look(script).await != json!(true) {
            assert!(begun.elapsed() < Duration::from_secs(30), "never: {script}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn at(&self, position: usize) {
        self.until(&format!("document.body.dataset.position === '{position}'")).await;
    }

    async fn text(&self, id: &str) -> String {
        let element = self.client.find(Locator::Id(id)).await.unwrap();
        element.prop("textContent").await.unwrap().unwrap_or_default()
    }

    /// Everything the console was told: refusals of the policy, errors, failed requests.
    async fn complaints(&self) -> Vec<String> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let asked = http.post(format!("{}/session/{}/se/log", self.url, self.session));
        let told: Value =
            asked.json(&json!({ "type": "browser" })).send().await.unwrap().json().await.unwrap();
        let entries = told["value"].as_array().expect("chromedriver has a log of the console");
        entries.iter().map(|entry| entry["message"].to_string()).collect()
    }

    async fn screenshot(&self, name: &str) {
        if let Some(folder) = std::env::var_os(SCREENSHOTS) {
            let png = self.client.screenshot().await.unwrap();
            std::fs::write(std::path::Path::new(&folder).join(name), png).unwrap();
        }
    }
}

/// A driver that has no client yet.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(driver) = &mut self.0 {
            end(driver);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A driver that ends leaves its browser behind, so that it is asked to end that first. Plainly,
        // because a test that panics has no runtime for more.
        let close = || -> std::io::Result<usize> {
            let address = self.url.trim_start_matches("http://");
            let mut driver = TcpStream::connect(address)?;
            driver.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(
                driver,
                "DELETE /session/{} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n",
                self.session
            )?;
            driver.read(&mut [0; 512])
        };
        let closed = close();
        end(&mut self.driver);
        if !std::thread::panicking() {
            closed.expect("the browser ends");
        }
    }
}

fn end(driver: &mut Child) {
    let _ = driver.kill();
    let _ = driver.wait();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_rows_are_judged_by_keyboard_and_markup_in_captions_is_text() {
    let Some(browser) = Browser::start().await else { return };
    let run = run();
    let served = Served::start(run.path(), &["--reviewer", "ann"]);
    browser.client.goto(&served.url).await.unwrap();
    browser.at(0).await;
    browser.until("document.getElementById('image').naturalWidth > 0").await;
    browser.screenshot("first.png").await;

    let keys = ["1", "2", "3", "4", "5", "1", "1", "2", "3", "1"];
    for (position, key) in keys.into_iter().enumerate() {
        browser.at(position).await;
        let raw = browser.text("raw").await;
        assert!(HOSTILE.contains(&raw.as_str()), "{raw:?} was changed on its way");
        browser.keys(key).await;
    }
    browser.at(10).await;
    browser.screenshot("ten.png").await;
    let verdicts: Vec<&str> =
        log(run.path()).iter().map(|line| line.verdict.unwrap().as_str()).collect();
    let names = ["ok", "minor", "hallucinated", "wrong_image", "unusable"];
    let wanted = keys.map(|key| names[key.parse::<usize>().unwrap() - 1]);
    assert_eq!(verdicts, wanted);

    // Undo, and an edited text.
    browser.keys("u").await;
    browser.at(9).await;
    browser.keys("e").await;
    browser.until("document.activeElement.id === 'text'").await;
    browser.keys(&format!(" <b>1</b>{CONTROL}{ENTER}{NULL}")).await;
    browser.until("document.getElementById('editor').hidden").await;
    let last = log(run.path()).pop().unwrap();
    assert_eq!(last.verdict.unwrap().as_str(), "minor");
    assert!(last.text.as_deref().unwrap().ends_with(" <b>1</b>"), "{last:?}");
    assert!(browser.text("edited").await.ends_with(" <b>1</b>"));
    browser.keys("e").await;
    browser.until("document.activeElement.id === 'text'").await;
    browser.keys(&format!("lost{ESCAPE}")).await;
    browser.until("document.getElementById('editor').hidden").await;

    // A reload stays at its row; a new visit goes on where nothing is said yet.
    browser.client.refresh().await.unwrap();
    browser.at(9).await;
    assert_eq!(browser.text("done").await, "10 of 16");
    assert!(browser.text("edited").await.ends_with(" <b>1</b>"));
    let pressed = "document.querySelector('#verdicts [aria-pressed=true]').dataset.verdict";
    assert_eq!(browser.look(pressed).await, "minor");
    browser.client.goto("about:blank").await.unwrap();
    browser.client.goto(&served.url).await.unwrap();
    browser.at(10).await;

    // Other keys.
    browser.keys("j").await;
    browser.at(11).await;
    browser.keys("k").await;
    browser.at(10).await;
    browser.keys("s").await;
    browser.at(11).await;
    browser.keys("b").await;
    browser.until("document.getElementById('boxes').classList.contains('off')").await;
    browser.keys("?").await;
    browser.until("document.getElementById('help').open").await;
    browser.screenshot("help.png").await;
    // Its only button has the focus.
    browser.keys(ENTER).await;
    browser.until("!document.getElementById('help').open").await;
    browser.keys("?").await;
    browser.until("document.getElementById('help').open").await;
    browser.keys(ESCAPE).await;
    browser.until("!document.getElementById('help').open").await;

    assert_eq!(browser.look("window.pwned === undefined").await, true);
    let strange = "document.querySelectorAll('main script, main iframe, main b[onmouseover], \
                   main img:not(#image), main svg[onload]').length";
    assert_eq!(browser.look(strange).await, 0);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// Left, top and width of a box within the picture, which is fitted into its element.
const PLACE: &str = r#"(() => {
    const image = document.getElementById("image"), frame = image.getBoundingClientRect();
    const scale = Math.min(frame.width / image.naturalWidth, frame.height / image.naturalHeight);
    const width = image.naturalWidth * scale, height = image.naturalHeight * scale;
    const left = frame.left + (frame.width - width) / 2;
    const top = frame.top + (frame.height - height) / 2;
    const box = document.querySelector("[data-tag='NUMBER'] rect").getBBox();
    const onScreen = document.getElementById("boxes").getScreenCTM();
    return [
        (onScreen.e + onScreen.a * box.x - left) / width,
        (onScreen.f + onScreen.d * box.y - top) / height,
        onScreen.a * box.width / width,
    ];
})()"#;

#[tokio::test(flavor = "multi_thread")]
async fn boxes_lie_on_the_picture_and_the_page_fits_narrow_windows() {
    let Some(browser) = Browser::start().await else { return };
    let run = run();
    let served = Served::start(run.path(), &["--reviewer", "ann", "--by", "risk"]);
    browser.client.goto(&served.url).await.unwrap();
    browser.at(0).await;
    let mut boxes = 0;
    for position in 0..16 {
        browser.at(position).await;
        browser.until("document.getElementById('image').complete").await;
        // Where a box lies in the picture as it is drawn, in parts of it, is where the row says.
        let row = served.get(&format!("api/rows/{position}")).await;
        let (width, height) = (row["width"].as_f64().unwrap(), row["height"].as_f64().unwrap());
        let tags = row["tags"].as_array().unwrap();
        for (number, tag) in tags.iter().enumerate().filter(|(_, tag)| tag["box"].is_array()) {
            let found = browser.look(&PLACE.replace("NUMBER", &number.to_string())).await;
            let side = |n: usize| tag["box"][n].as_f64().unwrap();
            let wanted = [side(0) / width, side(1) / height, (side(2) - side(0)) / width];
            for (place, wanted) in wanted.into_iter().enumerate() {
                let found = found[place].as_f64().unwrap();
                assert!(
                    (found - wanted.max(0.0)).abs() < 0.01,
                    "row {position}: {found}, {wanted}"
                );
            }
            boxes += 1;
        }
        browser.keys("j").await;
    }
    assert!(boxes > 0);
    for (width, height) in [(1280, 860), (768, 1024), (420, 900)] {
        browser.client.set_window_size(width, height).await.unwrap();
        let overflow =
            "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.look(overflow).await, 0, "at {width}");
        browser.screenshot(&format!("{width}.png")).await;
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}
