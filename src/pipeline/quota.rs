//! How many rows may fail before a run is stopped: a wrong model folder or a dead network should not
//! cost a night.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::sample::Reason;
use crate::sample::Reject;

/// When a run has failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Largest share of rejected rows, 0 to 1; duplicates do not count.
    pub max_rejected: f64,
    /// No judgement before so many rows.
    pub after_rows: u64,
}

impl Default for Quota {
    fn default() -> Quota {
        // A third of the addresses of an old crawl are dead; four fifths are not.
        Quota { max_rejected: 0.8, after_rows: 1000 }
    }
}

/// A run that has failed: too many rows were rejected. Exit code 3.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaExceeded {
    /// Rows that came out.
    pub rows: u64,
    /// Rejected, without duplicates.
    pub rejected: u64,
    /// Rows by reason, with the detail of the first one.
    pub reasons: BTreeMap<&'static str, (u64, String)>,
    /// What was allowed.
    pub quota: Quota,
}

/// Counts against a quota.
pub(super) struct Account {
    quota: Quota,
    rows: u64,
    rejected: u64,
    reasons: BTreeMap<&'static str, (u64, String)>,
}

impl Account {
    pub(super) fn new(quota: &Quota) -> Account {
        Account { quota: quota.clone(), rows: 0, rejected: 0, reasons: BTreeMap::new() }
    }

    /// Counts a row that came out.
    pub(super) fn count(&mut self, reject: Option<&Reject>) -> Result<(), QuotaExceeded> {
        self.rows += 1;
        let Some(reject) = reject else { return Ok(()) };
        let first = || (0, reject.detail.clone());
        self.reasons.entry(reject.reason.as_str()).or_insert_with(first).0 += 1;
        if matches!(reject.reason, Reason::Duplicate | Reason::NearDuplicate) {
            return Ok(());
        }
        self.rejected += 1;
        let share = self.rejected as f64 / self.rows as f64;
        if self.rows < self.quota.after_rows || share <= self.quota.max_rejected {
            return Ok(());
        }
        Err(QuotaExceeded {
            rows: self.rows,
            rejected: self.rejected,
            reasons: self.reasons.clone(),
            quota: self.quota.clone(),
        })
    }
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rejected, rows, most) = (self.rejected, self.rows, self.quota.max_rejected);
        write!(
            f,
            "{rejected} of {rows} rows were rejected, more than the share of {most} that quota.max_rejected \
             allows. Finished shards are kept; mend the cause or raise the quota, and give the same \
             command again"
        )
    }
}

impl std::error::Error for QuotaExceeded {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Stage;

    fn reject(reason: Reason) -> Reject {
        Reject::new(Stage::Decode, reason, "why")
    }

    #[test]
    fn the_run_ends_when_too_many_failed_and_not_before() {
        let mut account = Account::new(&Quota { max_rejected: 0.5, after_rows: 4 });
        let corrupt = reject(Reason::Corrupt);
        assert!(account.count(Some(&corrupt)).is_ok());
        assert!(account.count(Some(&corrupt)).is_ok());
        assert!(account.count(None).is_ok());
        assert!(account.count(None).is_ok());
        let exceeded = account.count(Some(&corrupt)).unwrap_err();
        assert_eq!((exceeded.rejected, exceeded.rows), (3, 5));
        assert_eq!(exceeded.reasons["corrupt image"], (3, "why".to_owned()));
    }

    #[test]
    fn duplicates_are_no_failures() {
        let mut account = Account::new(&Quota { max_rejected: 0.0, after_rows: 1 });
        assert!(account.count(Some(&reject(Reason::Duplicate))).is_ok());
        assert!(account.count(Some(&reject(Reason::Blank))).is_err());
    }
}
