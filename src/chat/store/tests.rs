use super::*;
use crate::chat::bill::Spent;
use crate::chat::writer::Chat;
use crate::chat::writer::Picture;
use serde_json::json;

fn prompted(user: &str) -> Prompted {
    let chat = Chat { user: user.to_owned(), ..Chat::default() };
    Prompted { chat, ..Prompted::default() }
}

fn key(user: &str) -> Key {
    Key::of(&json!("m"), 0, &prompted(user))
}

fn said(text: &str) -> Reply {
    Reply {
        text: text.to_owned(),
        finish_reason: "stop".to_owned(),
        tokens: Some(3),
        prompt_tokens: Some(50),
        estimated: (0, 0),
        cost: 0.5,
        model: Arc::from("m"),
    }
}

fn paid<'a>(reply: &'a Reply, refused: Option<&'a str>) -> Paid<'a> {
    Paid { run: "r", writer: "remote", attempt: 0, reply, refused }
}

#[test]
fn a_key_depends_on_identity_attempt_seed_and_messages() {
    let base = Key::of(&json!("m"), 0, &prompted("a"));
    assert_eq!(base, key("a"));
    assert_ne!(base, Key::of(&json!("n"), 0, &prompted("a")));
    assert_ne!(base, Key::of(&json!("m"), 1, &prompted("a")));
    assert_ne!(base, key("b"));
    assert_ne!(base, Key::of(&json!("m"), 0, &Prompted { seed: 1, ..prompted("a") }));
    let with = |bytes: &'static [u8]| {
        let mut prompted = prompted("a");
        let picture = Picture { bytes: bytes.into(), media_type: "image/png" };
        prompted.chat.picture = Some(picture);
        Key::of(&json!("m"), 0, &prompted)
    };
    assert_ne!(base, with(b"1"));
    assert_ne!(with(b"1"), with(b"2"));
}

#[test]
fn what_was_put_is_there_after_reopening_and_the_first_reply_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("requests.sqlite");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.put(&key("a"), &paid(&said("one"), None)).unwrap(), said("one"));
    assert_eq!(store.put(&key("a"), &paid(&said("two"), None)).unwrap(), said("one"));
    store.put(&key("b"), &paid(&said(""), Some("empty"))).unwrap();
    // No `drop`: kill -9 does not close a connection either.
    std::mem::forget(store);
    let store = Store::open(&path).unwrap();
    let got = store.get_batch(&[key("b"), key("c"), key("a")]).unwrap();
    assert_eq!(got, [Some(said("")), None, Some(said("one"))]);
    assert_eq!(store.count().unwrap(), Count { accepted: 1, refused: 1 });
    let mut spent =
        Spent { requests: 3, prompt_tokens: 150, completion_tokens: 9, ..spent_money(1.5) };
    assert_eq!(store.spent("r").unwrap(), spent);
    assert_eq!(store.spent("another").unwrap(), Spent::default());

    // What nobody counted is charged as it was estimated.
    let uncounted = Reply { tokens: None, estimated: (9, 4), cost: 0.0, ..said("three") };
    store.put(&key("c"), &Paid { run: "old", ..paid(&uncounted, None) }).unwrap();
    assert_eq!(store.spent("old").unwrap().estimated_tokens, 4);
    store.hand_over("old", "r").unwrap();
    store.hand_over("nobody", "r").unwrap();
    (spent.requests, spent.prompt_tokens) = (4, 200);
    (spent.completion_tokens, spent.estimated_tokens) = (13, 4);
    assert_eq!((store.spent("r").unwrap(), store.payers().unwrap()), (spent, vec!["r".to_owned()]));
}

fn spent_money(cost: f64) -> Spent {
    Spent { cost, ..Spent::default() }
}

#[test]
fn a_file_of_the_first_layout_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("requests.sqlite");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE replies (key BLOB PRIMARY KEY, writer TEXT NOT NULL, model TEXT NOT NULL,
             attempt INTEGER NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
             tokens INTEGER, refused TEXT, unix_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    let insert = "INSERT INTO replies VALUES (?1, 'remote', 'm', 0, 'A cat.', 'stop', 4, NULL, 1)";
    old.execute(insert, [&key("a").0]).unwrap();
    drop(old);
    let store = Store::open(&path).unwrap();
    let reply = store.get_batch(&[key("a")]).unwrap().remove(0).unwrap();
    assert_eq!((&*reply.text, reply.tokens, reply.prompt_tokens), ("A cat.", Some(4), None));
}

#[test]
fn bills_of_the_second_layout_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("requests.sqlite");
    drop(Store::open(&path).unwrap());
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "ALTER TABLE bills DROP COLUMN estimated_tokens;
         INSERT INTO bills VALUES ('r', 2, 100, 10, 0.5);
         PRAGMA user_version = 2;",
    )
    .unwrap();
    drop(old);
    let store = Store::open(&path).unwrap();
    store.put(&key("a"), &paid(&said("one"), None)).unwrap();
    let spent =
        Spent { requests: 3, prompt_tokens: 150, completion_tokens: 13, ..spent_money(1.0) };
    assert_eq!(store.spent("r").unwrap(), spent);
}

#[test]
fn several_threads_and_connections_share_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("requests.sqlite");
    let stores = [Store::open(&path).unwrap(), Store::open(&path).unwrap()];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &stores[thread % 2];
            scope.spawn(move || {
                for i in 0..50 {
                    let reply = said(&format!("{thread}.{i}"));
                    store.put(&key(&i.to_string()), &paid(&reply, None)).unwrap();
                }
            });
        }
    });
    assert_eq!(stores[0].count().unwrap().accepted, 50);
    let keys: Vec<Key> = (0..50).map(|i| key(&i.to_string())).collect();
    assert_eq!(stores[0].get_batch(&keys).unwrap(), stores[1].get_batch(&keys).unwrap());
}

#[test]
fn a_damaged_or_newer_file_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("requests.sqlite");
    std::fs::write(&path, "certainly not a database, but long enough to be read as one").unwrap();
    let message = format!("{:#}", Store::open(&path).err().unwrap());
    assert!(message.contains("requests.sqlite") && message.contains("move it aside"), "{message}");

    std::fs::remove_file(&path).unwrap();
    drop(Store::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let message = format!("{:#}", Store::open(&path).err().unwrap());
    assert!(message.contains("newer version"), "{message}");

    let missing = dir.path().join("no/such/folder/requests.sqlite");
    let message = format!("{:#}", Store::open(&missing).err().unwrap());
    assert!(message.contains("folder exists"), "{message}");
}
