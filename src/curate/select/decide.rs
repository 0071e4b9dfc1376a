//! What becomes of a row: kept, edited, or left out for a reason.

use crate::curate::opt_out::OptOut;
use crate::curate::select::opinion::Opinion;
use crate::curate::select::opinion::Opinions;
use crate::filter::Filter;
use crate::review::Verdict;
use crate::review::rows;
use crate::sample::Generated;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::sample::Stage;

use anyhow::Result;

/// What all runs of a selection are judged by.
pub(super) struct Rules {
    pub(super) accept: Vec<Verdict>,
    pub(super) reviewed_only: bool,
    pub(super) opt_out: OptOut,
}

/// What becomes of a row.
pub(super) struct Decision {
    pub(super) fate: Fate,
    /// Lines of the list of opt-outs that name it.
    pub(super) opted_out: Vec<usize>,
    /// Verdicts on the text that it has.
    pub(super) verdicts: u64,
}

pub(super) enum Fate {
    Keep,
    Edit { text: String, reviewer: String },
    Drop(Reject),
}

impl Rules {
    /// An opt-out goes before everything, then the expression, then people.
    pub(super) fn decide(
        &self,
        sample: &Sample,
        shard: u32,
        filter: Option<&Filter>,
        opinions: &Opinions,
    ) -> Result<Decision> {
        let opted_out = self.opt_out.matches(sample);
        let text = sample.generated.as_ref().map(|generated| generated.text.as_str());
        let opinion = text.and_then(|text| opinions.on(shard, &sample.item.key, text));
        let verdicts = opinion.as_ref().map_or(0, |opinion| opinion.said.len() as u64);
        let fate = match opted_out.first() {
            Some(&line) => drop_for(Reason::OptedOut, self.opt_out.lines()[line].clone()),
            None if !rows::is_kept(sample, filter)? => {
                drop_for(Reason::NotSelected, filter.map_or("", Filter::text).to_owned())
            }
            None => self.by_people(opinion),
        };
        Ok(Decision { fate, opted_out, verdicts })
    }

    /// An edit mends what was wrong with the text; a row that is unusable has no text that would do.
    fn by_people(&self, opinion: Option<Opinion>) -> Fate {
        let Some(Opinion { verdict, said, edit }) = opinion else {
            return match self.reviewed_only {
                true => drop_for(Reason::NotReviewed, String::new()),
                false => Fate::Keep,
            };
        };
        let is_taken = self.accept.contains(&verdict);
        match edit {
            Some((text, reviewer)) if is_taken || verdict != Verdict::Unusable => {
                Fate::Edit { text, reviewer }
            }
            _ if is_taken => Fate::Keep,
            _ => {
                let who: Vec<String> =
                    said.iter().map(|(who, said)| format!("{who}: {}", said.as_str())).collect();
                drop_for(Reason::Judged, format!("{} ({})", verdict.as_str(), who.join(", ")))
            }
        }
    }
}

/// The text of a person, in the place of the one that was judged. No prompt made it and nothing counted
/// its tokens; how well the old one fitted the picture says nothing of it.
pub(super) fn edit(sample: &mut Sample, text: String, reviewer: &str) {
    sample.generated = Some(Generated {
        text,
        writer: "human".into(),
        model: reviewer.into(),
        prompt: "none".into(),
        finish_reason: "edited".to_owned(),
        tokens: None,
    });
    sample.generated_refused = None;
    if let Some(fit) = &mut sample.fit {
        fit.generated = None;
    }
}

fn drop_for(reason: Reason, detail: String) -> Fate {
    Fate::Drop(Reject::new(Stage::Select, reason, detail))
}
