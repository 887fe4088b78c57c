//! Rules of retention as they are typed; the same for all commands that take them.

use crate::time;
use icecore::retention::Policy;
use std::time::Duration;

/// Which snapshots to keep.
#[derive(Debug, clap::Args)]
#[group(id = "rules", multiple = true)]
pub(crate) struct Rules {
    /// Keeps the N newest
    #[arg(long, value_name = "N", help_heading = "Rules")]
    keep_last: Option<u32>,
    /// Keeps the newest of each of N hours
    #[arg(long, value_name = "N", help_heading = "Rules")]
    keep_hourly: Option<u32>,
    /// Keeps the newest of each of N days
    #[arg(long, value_name = "N", help_heading = "Rules")]
    keep_daily: Option<u32>,
    /// Keeps the newest of each of N weeks, from Monday
    #[arg(long, value_name = "N", help_heading = "Rules")]
    keep_weekly: Option<u32>,
    /// Keeps the newest of each of N months
    #[arg(long, value_name = "N", help_heading = "Rules")]
    keep_monthly: Option<u32>,
    /// Keeps the newest of each of N years
    #[arg(long, value_name = "N", help_heading = "Rules")]
    keep_yearly: Option<u32>,
    /// Keeps what is at most so much older than the newest: 12h, 30d, 8w, or 1y (366 days)
    #[arg(long, value_name = "DURATION", value_parser = time::parse_duration, help_heading = "Rules")]
    keep_within: Option<Duration>,
    /// Keeps those with this tag (can be repeated: with one of them)
    #[arg(long, value_name = "TAG", help_heading = "Rules")]
    keep_tag: Vec<String>,
}

impl Rules {
    /// What they say.
    pub(crate) fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        policy.keep_last = self.keep_last.unwrap_or(0);
        policy.keep_hourly = self.keep_hourly.unwrap_or(0);
        policy.keep_daily = self.keep_daily.unwrap_or(0);
        policy.keep_weekly = self.keep_weekly.unwrap_or(0);
        policy.keep_monthly = self.keep_monthly.unwrap_or(0);
        policy.keep_yearly = self.keep_yearly.unwrap_or(0);
        policy.keep_within = self.keep_within;
        policy.keep_tags.clone_from(&self.keep_tag);
        policy
    }
}
