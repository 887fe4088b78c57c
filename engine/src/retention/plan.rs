//! What a policy says of the snapshots of a repository. Changes nothing.

use super::policy::{Calendar, Candidate, Policy, decide};
use super::reasons::{KeepReason, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::snapshot::{SnapshotBody, SnapshotHeader, series_token, tag_token};
use crate::id::SnapshotId;
use crate::repository::{Repository, SnapshotListing, SnapshotState};

/// Which snapshots a policy is asked about; those that do not fit are left alone and take nobody's place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotFilter {
    /// Only those of this series.
    pub series: Option<String>,
    /// Only those with all of these tags.
    pub tags: Vec<String>,
}

impl SnapshotFilter {
    /// What it asks for.
    fn describe(&self) -> String {
        let series = self.series.iter().map(|series| format!("in series `{series}`"));
        let tags = self.tags.iter().map(|tag| format!("with tag `{tag}`"));
        series.chain(tags).collect::<Vec<_>>().join(" ")
    }
}

/// A snapshot and what the policy says of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedSnapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Whether it counts.
    pub state: SnapshotState,
    /// What maintenance may know.
    pub header: SnapshotHeader,
    /// What it was made of; `None` where the credential lacks the role restore.
    pub body: Option<SnapshotBody>,
    /// Whether it stays, and why.
    pub verdict: Verdict,
}

/// What a policy says of all that it was asked about.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ForgetPlan {
    /// The snapshots, those of a series and signer together, oldest first.
    pub snapshots: Vec<PlannedSnapshot>,
    /// What is wrong with others, which the policy could not be asked about and which stay.
    pub problems: Vec<Error>,
}

impl ForgetPlan {
    /// The snapshots that go.
    pub fn dropped(&self) -> Vec<SnapshotId> {
        self.snapshots.iter().filter(|snapshot| !snapshot.verdict.is_keep()).map(|snapshot| snapshot.id).collect()
    }
}

impl Repository {
    /// Asks `policy` about the snapshots that fit `filter`; `calendar` tells local time. Nothing goes while the store shows another state than was seen
    /// from here before, or what was seen cannot be read: the problems say so.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there are snapshots and none of them fits, [`ErrorKind::Unauthorized`] without the role maintain, otherwise what the backend says. What is wrong with single snapshots is in the plan.
    pub fn plan_forget(&self, policy: &Policy, filter: &SnapshotFilter, calendar: &Calendar<'_>) -> Result<ForgetPlan> {
        self.require(Roles::MAINTAIN, "forgetting snapshots")?;
        let listing = self.list_snapshots()?;
        let mut plan = ForgetPlan::default();
        let counting = || listing.headers().filter(|(id, _)| !listing.withdrawn.contains(id));
        if counting().next().is_some() && !counting().any(|(_, header)| self.fits(filter, header)) {
            return Err(Error::new(ErrorKind::NotFound, format!("no snapshot {}", filter.describe())));
        }
        for (id, header) in counting().filter(|(_, header)| self.fits(filter, header)) {
            let body = match self.roles().contain(Roles::RESTORE) {
                true => self.read_snapshot(id, &listing).map(|snapshot| Some(snapshot.body)),
                false => Ok(None),
            };
            let verdict = Verdict::Keep(Vec::new());
            match body {
                Ok(body) => {
                    plan.snapshots.push(PlannedSnapshot { id, state: listing.state(id, header), header: header.clone(), body, verdict })
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported) => plan.problems.push(error),
                Err(error) => return Err(error),
            }
        }
        let candidates: Vec<_> = plan.snapshots.iter().map(|snapshot| self.candidate(snapshot, policy, &listing)).collect();
        let mut verdicts = decide(&candidates, policy, self.runtime.clock.now(), calendar);
        // What counts, and when it was made, cannot be told then.
        if listing.setback.is_some() || !listing.vanished.is_empty() {
            let dropped = verdicts.iter_mut().filter(|verdict| !verdict.is_keep());
            dropped.for_each(|verdict| *verdict = Verdict::Keep(vec![KeepReason::OtherState]));
        }
        plan.snapshots.iter_mut().zip(verdicts).for_each(|(snapshot, verdict)| snapshot.verdict = verdict);
        plan.snapshots.sort_by_key(|snapshot| {
            let header = &snapshot.header;
            let series = snapshot.body.as_ref().map(|body| body.series.clone());
            (series, header.series, *header.record.certificate().verifying_key(), header.time, header.sequence, snapshot.id)
        });
        plan.problems.extend(problems_of(listing));
        Ok(plan)
    }

    fn fits(&self, filter: &SnapshotFilter, header: &SnapshotHeader) -> bool {
        let token_key = &self.credential.token_key;
        let is_of_series = filter.series.as_ref().is_none_or(|series| series_token(token_key, series) == header.series);
        is_of_series && filter.tags.iter().all(|tag| header.tags.contains(&tag_token(token_key, tag)))
    }

    fn candidate(&self, snapshot: &PlannedSnapshot, policy: &Policy, listing: &SnapshotListing) -> Candidate {
        let sight = listing.sights.get(&snapshot.id);
        let header = &snapshot.header;
        let has = |tag: &&String| header.tags.contains(&tag_token(&self.credential.token_key, tag));
        Candidate {
            id: snapshot.id,
            series: header.series,
            signer: *header.record.certificate().verifying_key(),
            sequence: header.sequence,
            time: header.time,
            first_seen: sight.map(|sight| sight.first),
            not_there: sight.map(|sight| sight.not_there),
            may_only_back_up: !header.record.certificate().roles().contain(Roles::MAINTAIN),
            tags: policy.keep_tags.iter().filter(has).cloned().collect(),
            is_suspect: snapshot.state == SnapshotState::Suspect,
            held: listing.holds.held(snapshot.id),
        }
    }
}

fn problems_of(listing: SnapshotListing) -> impl Iterator<Item = Error> {
    let gone = |id| Error::new(ErrorKind::Damaged, format!("snapshot {id} was published, but it was removed from the store"));
    let missing: Vec<_> = listing.missing().into_iter().map(gone).collect();
    missing.into_iter().chain(listing.problems.into_iter().map(|(_, error)| error)).chain(listing.setback)
}
