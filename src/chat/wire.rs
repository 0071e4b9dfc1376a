//! The bodies of OpenAI-compatible chat completions, as far as they are used here.
//!
//! Lenient in what is read (servers differ and grow), exact in what is sent. No network and no
//! secrets.

use base64::Engine;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::chat::config::RemoteConfig;
use crate::chat::writer::Picture;
use crate::chat::writer::Prompted;
use crate::chat::writer::Reply;
use crate::chat::writer::Role;

/// An error text in a log or a row is cut to this.
const MAX_ERROR_CHARS: usize = 300;

/// The parameters sent with every request, without the messages and the seed.
pub(super) fn parameters(config: &RemoteConfig) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(config.model));
    body.insert("max_tokens".to_owned(), json!(config.max_tokens));
    body.insert("temperature".to_owned(), json!(config.temperature));
    body.extend(config.extra.clone());
    body.retain(|name, _| is_accepted(config, name));
    body
}

/// The body of one request. Written straight into text: a tree of values first took twice the time.
pub(super) fn request(
    parameters: &Map<String, Value>,
    model: &str,
    seed: Option<u64>,
    prompted: &Prompted,
    is_held: bool,
) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Turn<'a> {
        role: &'a str,
        content: Content<'a>,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Content<'a> {
        Text(&'a str),
        Parts([Value; 2]),
    }
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        messages: Vec<Turn<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seed: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        response_format: Option<Value>,
        #[serde(flatten)]
        parameters: Parameters<'a>,
    }
    /// All but the model, which endpoints name each in their own way.
    struct Parameters<'a>(&'a Map<String, Value>);
    impl Serialize for Parameters<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().filter(|(name, _)| *name != "model"))
        }
    }
    let turn = |(role, text): (Role, _)| Turn { role: role.as_str(), content: Content::Text(text) };
    let mut messages: Vec<Turn<'_>> = prompted.chat.messages().map(turn).collect();
    if let (Some(picture), Some(user)) = (&prompted.chat.picture, messages.last_mut()) {
        user.content = Content::Parts(parts(picture, &prompted.chat.user));
    }
    let response_format = prompted.schema.as_ref().filter(|_| is_held).map(|schema| {
        let schema = json!({ "name": "answer", "strict": true, "schema": &**schema });
        json!({ "type": "json_schema", "json_schema": schema })
    });
    let parameters = Parameters(parameters);
    serde_json::to_vec(&Body { model, messages, seed, response_format, parameters })
}

/// The picture before the words, as models are trained to see it.
fn parts(picture: &Picture, text: &str) -> [Value; 2] {
    let data = base64::engine::general_purpose::STANDARD.encode(&picture.bytes);
    let url = format!("data:{};base64,{data}", picture.media_type);
    [
        json!({ "type": "image_url", "image_url": { "url": url } }),
        json!({ "type": "text", "text": text }),
    ]
}

/// Whether a refusal is about being held to a schema.
pub(super) fn is_about_schema(said: &str) -> bool {
    let said = said.to_lowercase();
    ["response_format", "json_schema", "structured", "grammar", "guided"]
        .iter()
        .any(|word| said.contains(word))
}

/// What to change where each request is refused: the parameter that the refusal names, if it names one.
pub(super) fn advice(parameters: &Map<String, Value>, said: &str) -> String {
    let named = parameters.keys().map(String::as_str).chain(["seed"]);
    let named = named.filter(|name| *name != "model" && is_named(said, name));
    let longest = parameters.get("max_tokens").filter(|_| is_named(said, "max_completion_tokens"));
    let instead = longest.map_or_else(String::new, |tokens| {
        format!(" (and set `extra = {{ max_completion_tokens = {tokens} }}`)")
    });
    // Texts of other parameters are another run's.
    match named.max_by_key(|name| name.len()) {
        Some(name) => format!("put {name:?} into `omit`{instead} and run again with a new -o"),
        None => "leave out what it does not take (`omit`), or change `extra`, `max_tokens` or \
                 `temperature`, and run again with a new -o"
            .to_owned(),
    }
}

/// As a word of its own: `max_tokens` is not in `max_tokens_per_day`.
fn is_named(said: &str, name: &str) -> bool {
    said.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

/// Whether a field may be sent.
pub(super) fn is_accepted(config: &RemoteConfig, field: &str) -> bool {
    !config.omit.iter().any(|name| name == field)
}

/// A successful answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Completion {
    #[serde(deserialize_with = "lenient")]
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    #[serde(deserialize_with = "lenient")]
    usage: Usage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    #[serde(deserialize_with = "lenient")]
    message: Said,
    #[serde(deserialize_with = "lenient")]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    content: Value,
    #[serde(deserialize_with = "lenient")]
    refusal: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    #[serde(deserialize_with = "tokens")]
    prompt_tokens: Option<u32>,
    #[serde(deserialize_with = "tokens")]
    completion_tokens: Option<u32>,
}

/// Takes a field as what it should be, or as absent: what stands beside the text is not worth the text.
fn lenient<'de, T, D>(field: D) -> Result<T, D::Error>
where
    T: DeserializeOwned + Default,
    D: Deserializer<'de>,
{
    Ok(serde_json::from_value(Value::deserialize(field)?).unwrap_or_default())
}

/// A number of tokens, which some servers write as `12.0`. Words, halves and debts are not counted.
fn tokens<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u32>, D::Error> {
    let number = Value::deserialize(field)?.as_f64();
    let most = f64::from(u32::MAX);
    let whole = number.filter(|number| number.fract() == 0.0 && (0.0..=most).contains(number));
    Ok(whole.map(|number| number as u32))
}

/// What is said in words, of a text or of a list of parts; other parts (thoughts, pictures) are left out.
fn words(content: &Value) -> String {
    let of_part = |part: &Value| {
        let is_text = part.get("type").is_none_or(|kind| kind == "text" || kind == "output_text");
        let text = part.as_str().or_else(|| part.get("text").filter(|_| is_text)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(of_part).collect(),
        _ => String::new(),
    }
}

/// Reads a body of status 200. An answer with an empty list of choices is an empty reply, not an error: it
/// was paid for, and the checks know what to do with it. One without a list is none: gateways wrap errors so.
pub(super) fn reply(body: &[u8], asked: &str) -> Result<Reply, serde_json::Error> {
    let completion: Completion = serde_json::from_slice(body)?;
    let choices = completion.choices.ok_or_else(|| {
        let said = error_text(body);
        <serde_json::Error as serde::de::Error>::custom(format!("no choices: {said}"))
    })?;
    let choice = choices.into_iter().next().unwrap_or_default();
    let mut text = words(&choice.message.content);
    if text.is_empty() {
        text = choice.message.refusal.unwrap_or_default();
    }
    let Usage { prompt_tokens, completion_tokens } = completion.usage;
    // A server that says 0 of what cannot be 0 does not count.
    let tokens = completion_tokens.filter(|tokens| *tokens > 0 || text.is_empty());
    Ok(Reply {
        text,
        finish_reason: choice.finish_reason.unwrap_or_else(|| "unknown".to_owned()),
        tokens,
        prompt_tokens: prompt_tokens.filter(|tokens| *tokens > 0),
        estimated: (0, 0),
        cost: 0.0,
        model: completion.model.filter(|m| !m.is_empty()).map_or_else(|| asked.into(), Into::into),
    })
}

/// What a body of an error status says, cut to one short line.
pub(super) fn error_text(body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body).ok().and_then(|value| {
        let error = value.get("error").unwrap_or(&value);
        let text = error.get("message").or(Some(error)).and_then(Value::as_str);
        text.map(str::to_owned)
    });
    let text = said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let line: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    line.join(" ").chars().take(MAX_ERROR_CHARS).collect()
}

/// Names of models in an answer of `/models`.
pub(super) fn model_names(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Models {
        data: Option<Vec<Model>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Model {
        id: String,
    }
    let models: Models = serde_json::from_slice(body).ok()?;
    Some(models.data?.into_iter().map(|model| model.id).collect())
}

/// Slots of a llama.cpp server, in its answer of `/props`.
pub(super) fn slots(body: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Props {
        total_slots: usize,
    }
    let props: Props = serde_json::from_slice(body).ok()?;
    (props.total_slots > 0).then_some(props.total_slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::writer::Chat;
    use crate::chat::writer::Message;

    #[test]
    fn a_request_has_the_limit_the_seed_and_the_messages_in_order() {
        let config = RemoteConfig {
            model: "m".to_owned(),
            omit: vec!["temperature".to_owned()],
            extra: json!({ "top_k": 1 }).as_object().unwrap().clone(),
            ..RemoteConfig::default()
        };
        let system = Message { role: Role::System, content: "s".to_owned() };
        let chat = Chat { prefix: [system].into(), user: "u".to_owned(), ..Chat::default() };
        let mut prompted = Prompted { chat, seed: 7, schema: None };
        let body = request(&parameters(&config), "m-of-there", Some(7), &prompted, true).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({
                "model": "m-of-there", "max_tokens": 96, "top_k": 1, "seed": 7,
                "messages": [
                    { "role": "system", "content": "s" }, { "role": "user", "content": "u" },
                ],
            })
        );
        let picture = Picture { bytes: b"abc".as_slice().into(), media_type: "image/png" };
        prompted.chat.picture = Some(picture);
        prompted.schema = Some(json!({ "type": "object" }).into());
        let body = |is_held| {
            let body = request(&parameters(&config), "m", None, &prompted, is_held).unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        let held = body(true);
        assert_eq!(
            held["messages"][1]["content"][0]["image_url"]["url"],
            "data:image/png;base64,YWJj"
        );
        assert_eq!(held["messages"][1]["content"][1]["text"], "u");
        assert_eq!(held["response_format"]["json_schema"]["schema"]["type"], "object");
        assert_eq!((body(false).get("response_format"), held.get("seed")), (None, None));
    }

    #[test]
    fn answers_are_read_leniently() {
        let read = |value: Value| reply(value.to_string().as_bytes(), "asked").unwrap();
        let full = read(json!({
            "id": 1, "model": "m-2024",
            "choices": [{ "message": { "content": "A cat.", "x": 1 }, "finish_reason": "stop" }],
            "usage": { "completion_tokens": 4, "prompt_tokens": 100 },
        }));
        assert_eq!((full.text.as_str(), &*full.model, full.tokens), ("A cat.", "m-2024", Some(4)));
        let empty = read(json!({ "choices": [] }));
        assert_eq!((empty.text.as_str(), &*empty.model), ("", "asked"));
        let null = read(json!({ "choices": [{ "message": { "content": null }}], "usage": null }));
        assert_eq!((null.text.as_str(), null.finish_reason.as_str()), ("", "unknown"));
        let refused = read(json!({ "choices": [{ "message": { "refusal": "I cannot" }}] }));
        assert_eq!(refused.text, "I cannot");
        assert_eq!((full.prompt_tokens, empty.prompt_tokens), (Some(100), None));
        let wrapped = reply(br#"{"error": {"message": "overloaded"}}"#, "m").unwrap_err();
        assert!(wrapped.to_string().contains("no choices: overloaded"), "{wrapped}");
        assert!(reply(b"<html>", "m").is_err());
    }

    #[test]
    fn content_in_parts_and_odd_numbers_are_read_for_what_they_say() {
        let read = |content: Value, usage: Value| {
            let message = json!({ "content": content, "refusal": 3 });
            let choices = json!([{ "message": message, "finish_reason": 1 }]);
            let body = json!({ "model": 7, "choices": choices, "usage": usage });
            reply(body.to_string().as_bytes(), "asked").unwrap()
        };
        let parts = json!([
            { "type": "thinking", "thinking": "hm", "text": "hm" },
            { "type": "text", "text": "A cat" }, { "text": " on a" }, " mat.", 5, null,
        ]);
        let odd = read(parts, json!({ "prompt_tokens": 12.0, "completion_tokens": -3 }));
        assert_eq!((&*odd.text, &*odd.model), ("A cat on a mat.", "asked"));
        assert_eq!((odd.prompt_tokens, odd.tokens), (Some(12), None));
        assert_eq!(odd.finish_reason, "unknown");
        for usage in [json!("many"), json!([1]), json!({ "completion_tokens": { "total": 4 } })] {
            assert_eq!(read(json!("A cat."), usage).tokens, None);
        }
        for tokens in [json!("4"), json!(null), json!(4.5), json!(1e30), json!(0)] {
            let usage = json!({ "prompt_tokens": tokens, "completion_tokens": tokens });
            let reply = read(json!("A cat."), usage);
            assert_eq!((&*reply.text, reply.prompt_tokens, reply.tokens), ("A cat.", None, None));
        }
        assert_eq!(read(json!({ "text": "x" }), json!(null)).text, "");
    }

    #[test]
    fn slots_are_those_of_llama_cpp() {
        assert_eq!(slots(br#"{"total_slots": 4, "model_path": "x"}"#), Some(4));
        assert_eq!(slots(br#"{"total_slots": 0}"#), None);
        assert_eq!(slots(b"not found"), None);
    }

    #[test]
    fn a_refused_parameter_is_named_with_what_to_do() {
        let sent = parameters(&RemoteConfig::default());
        let about = |said: &str| advice(&sent, said);
        assert!(about("Unsupported value: 'temperature'").starts_with("put \"temperature\" into"));
        assert!(about("unknown field `seed`").contains("\"seed\""));
        let other = about("'max_tokens' is not supported. Use 'max_completion_tokens' instead.");
        assert!(other.contains("\"max_tokens\"") && other.contains("{ max_completion_tokens"));
        for vague in ["bad request", "max_tokens_per_day", "this model is small"] {
            assert!(about(vague).starts_with("leave out"), "{vague}");
        }
    }

    #[test]
    fn error_texts_are_short_lines() {
        assert_eq!(error_text(br#"{"error":{"message":"too\nlong"}}"#), "too long");
        assert_eq!(error_text(br#"{"error":"plain"}"#), "plain");
        assert_eq!(error_text(br#"{"message":"flat"}"#), "flat");
        assert_eq!(error_text(b"gateway\r\n"), "gateway  ");
        assert_eq!(error_text(&[b'x'; 5000]).len(), MAX_ERROR_CHARS);
    }
}
