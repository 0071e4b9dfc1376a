//! The labelling interface, as Label Studio's XML.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::review::Verdict;
use crate::review::label_studio::BOXES;
use crate::review::label_studio::EDITED;
use crate::review::label_studio::PICTURE;
use crate::review::label_studio::VERDICT;
use crate::review::label_studio::shown;

/// Texts of a task, with what stands above them.
const TEXTS: [(&str, &str); 4] = [
    ("text_raw", "What the web said"),
    ("text_synthetic", "What a captioning model sees"),
    ("tags", "Tags"),
    ("text_generated", "The text to judge"),
];

/// The interface for tasks whose boxes have these labels.
pub(super) fn interface(labels: &BTreeSet<String>) -> String {
    let mut xml = String::from("<View style=\"display: flex; gap: 1em\">\n");
    line(&mut xml, "  <View style=\"flex: 1 1 50%\">");
    line(&mut xml, &format!("    <Image name=\"{PICTURE}\" value=\"$image\" zoom=\"true\"/>"));
    boxes(&mut xml, labels);
    line(&mut xml, "  </View>");
    line(&mut xml, "  <View style=\"flex: 1 1 50%\">");
    for (name, heading) in TEXTS {
        line(&mut xml, &format!("    <Header value=\"{heading}\" size=\"5\"/>"));
        line(&mut xml, &format!("    <Text name=\"{name}\" value=\"${name}\"/>"));
    }
    verdicts(&mut xml);
    line(
        &mut xml,
        "    <Header value=\"Change it where it should say something else\" size=\"5\"/>",
    );
    // Filled in by the interface and not by a prediction: with both, Label Studio would send both.
    let filled = format!("toName=\"{PICTURE}\" value=\"$text_generated\" rows=\"3\"");
    let once = "maxSubmissions=\"1\" editable=\"true\" showSubmitButton=\"false\"";
    line(&mut xml, &format!("    <TextArea name=\"{EDITED}\" {filled} {once}/>"));
    line(&mut xml, "  </View>");
    xml + "</View>\n"
}

/// Keys are the digits, as on the page of `recaption review`.
fn verdicts(xml: &mut String) {
    let how = "choice=\"single-radio\" required=\"true\" showInline=\"true\"";
    line(xml, &format!("    <Choices name=\"{VERDICT}\" toName=\"{PICTURE}\" {how}>"));
    for (key, verdict) in (1..).zip(Verdict::ALL) {
        line(xml, &format!("      <Choice value=\"{}\" hotkey=\"{key}\"/>", shown(verdict)));
    }
    line(xml, "    </Choices>");
}

fn boxes(xml: &mut String, labels: &BTreeSet<String>) {
    if labels.is_empty() {
        return;
    }
    line(xml, &format!("    <RectangleLabels name=\"{BOXES}\" toName=\"{PICTURE}\">"));
    for label in labels {
        line(xml, &format!("      <Label value=\"{}\"/>", escaped(label)));
    }
    line(xml, "    </RectangleLabels>");
}

fn line(xml: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(xml, "{text}");
}

/// Text as the value of an attribute. What XML cannot hold at all was left out before.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            other => out.push(other),
        }
    }
    out
}

/// Whether a label can stand in the interface: Label Studio takes `$name` for a column of the task, and
/// XML has no control characters.
pub(super) fn can_be_shown(label: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    !label.trim().is_empty() && !label.starts_with('$') && label.chars().all(is_plain)
}
