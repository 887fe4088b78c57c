//! What is wrong, and what would be done about it.

use super::mend;
use super::{Reads, RepairOptions, obstacles};
use crate::backend::{ObjectKind, ObjectName};
use crate::check::{BadPack, CheckReport, Depth, Finding, Survey};
use crate::error::{ErrorKind, Result};
use crate::format::parity::sidecar_of;
use crate::gc::{INDEXED_PACKS_MIN, Pack};
use crate::id::SnapshotId;
use crate::progress::Progress;
use crate::repository::Repository;
use std::collections::{BTreeSet, HashSet};

/// What is wrong, and what [`Repository::repair`] would do about it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairPlan {
    /// Everything that was found; which files of which snapshots suffer is in its `hurt`.
    pub report: CheckReport,
    /// Damaged packs.
    pub packs: Vec<PackRepair>,
    /// Index objects that are damaged, stale or say what is not true: they are removed, and what they ought to say is written anew.
    pub index_objects: BTreeSet<ObjectName>,
    /// Small objects that break rules, that nothing needs, and that stand in the way of others.
    pub obstacles: Vec<Obstacle>,
    /// Sidecars that are damaged, or whose object is gone for good and missed by nobody: they are removed, and written anew where their object
    /// is there.
    pub sidecars: BTreeSet<ObjectName>,
    /// Snapshots of sessions that did not close; garbage collection settles those whose session is dead.
    pub suspects: Vec<SnapshotId>,
    /// Packs whose index object is lost.
    pub(super) unindexed: Vec<Pack>,
}

/// A damaged pack: good frames are copied, then it is condemned.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PackRepair {
    /// The pack.
    pub pack: ObjectName,
    /// Whether its own table, or an index object in its place, tells what is in it. Otherwise nothing of it can be used.
    pub is_known: bool,
    /// Whether its own end is damaged, so that without a repair not even its good frames can be relied on.
    pub has_bad_end: bool,
    /// Frames that are good.
    pub frames_good: u64,
    /// Bytes of these frames.
    pub bytes_good: u64,
    /// Frames that are damaged or cannot be read.
    pub frames_lost: u64,
    /// Whether it was condemned before. What is good of it is then copied by garbage collection, as far as it is needed.
    pub is_condemned: bool,
    /// What was found about it.
    pub(super) bad: HashSet<crate::id::FrameId>,
}

/// An object that breaks a rule and whose name somebody else may need.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Obstacle {
    /// The object.
    pub object: ObjectName,
    /// What is wrong with it.
    pub message: String,
}

impl RepairPlan {
    /// Whether there is nothing that mending could do. There may be damage all the same.
    pub fn is_empty(&self) -> bool {
        let has_packs = self.packs.iter().any(|pack| !pack.is_condemned);
        !has_packs && self.index_objects.is_empty() && self.obstacles.is_empty() && self.unindexed.is_empty() && self.sidecars.is_empty()
    }

    /// How many packs get an index object because theirs is lost.
    pub fn packs_to_index(&self) -> u64 {
        self.unindexed.len() as u64
    }
}

impl Repository {
    /// Looks for damage and says what [`Repository::repair`] would do. Writes nothing to the repository.
    ///
    /// # Errors
    /// As [`Repository::check`].
    pub fn repair_plan(&self, options: &RepairOptions, progress: &dyn Progress) -> Result<RepairPlan> {
        self.plan_repair(options, progress, false)
    }

    /// As [`Repository::repair_plan`]; what can be healed may be healed first.
    pub(super) fn plan_repair(&self, options: &RepairOptions, progress: &dyn Progress, heals: bool) -> Result<RepairPlan> {
        let depth = match &options.reads {
            Reads::Nothing => Depth::Structure,
            Reads::Packs(packs) => Depth::Packs(packs.iter().copied().collect()),
            Reads::Everything => Depth::Everything,
        };
        let (report, survey) = self.survey(progress, &depth, heals)?;
        let condemned = self.condemned()?.1;
        let mut plan = RepairPlan::default();
        for bad in &survey.bad_packs {
            plan.packs.extend(look_at(self, bad, &report.findings, condemned.contains(&bad.pack), progress)?);
        }
        plan.index_objects = wrong_index_objects(self, &report.findings, &survey)?;
        plan.unindexed = lost_index_objects(&survey, &plan.packs);
        plan.sidecars = useless_sidecars(&report.findings);
        plan.obstacles = obstacles::find(self, &report.findings)?;
        plan.suspects = survey.suspects;
        plan.report = report;
        Ok(plan)
    }
}

/// What can be made of a pack; nothing of one that is gone, or that is not for us to mend.
fn look_at(
    repository: &Repository,
    bad: &BadPack,
    findings: &[Finding],
    is_condemned: bool,
    progress: &dyn Progress,
) -> Result<Option<PackRepair>> {
    let name = ObjectName::pack(bad.pack.0, bad.pack.1);
    let is_foreign = |finding: &Finding| finding.rule.is_some_and(|rule| finding.kind == ErrorKind::Unsupported || is_refusal(rule));
    let is_ours = findings.iter().filter(|finding| finding.object == Some(name)).all(|finding| !is_foreign(finding));
    if !is_ours || !repository.has(&name)? {
        return Ok(None);
    }
    let mut repair = PackRepair {
        pack: name,
        is_known: false,
        has_bad_end: bad.frames.is_none(),
        frames_good: 0,
        bytes_good: 0,
        frames_lost: 0,
        is_condemned,
        bad: bad.frames.clone().unwrap_or_default(),
    };
    let Some(tables) = mend::tables_of(repository, &name)? else { return Ok(Some(repair)) };
    repair.is_known = true;
    for (frame, is_good) in mend::sort_frames(repository, &repair, &tables, progress)? {
        if is_good {
            repair.frames_good += 1;
            repair.bytes_good += u64::from(frame.sealed_length);
        } else {
            repair.frames_lost += 1;
        }
    }
    Ok(Some(repair))
}

/// Whether the rule is about who wrote an object, whose bytes are then whole.
fn is_refusal(rule: &str) -> bool {
    rule.starts_with("CERT-") || matches!(rule, "OBJ-9" | "OBJ-10" | "PACK-12")
}

/// Index objects that say something wrong, or tell of packs that are gone. What tells of lost packs that snapshots need stays: who suffers is known by it.
fn wrong_index_objects(repository: &Repository, findings: &[Finding], survey: &Survey) -> Result<BTreeSet<ObjectName>> {
    let untried = untried(findings);
    let is_wrong = |finding: &&Finding| {
        finding.kind == ErrorKind::Damaged && !finding.healed && finding.object.is_some_and(|object| !may_heal(&untried, &object))
    };
    let of_kind = |object: &ObjectName| object.kind() == ObjectKind::Index;
    let mut wrong: BTreeSet<_> = findings.iter().filter(is_wrong).filter_map(|finding| finding.object).filter(of_kind).collect();
    let mut is_pack_missed = false;
    for pack in findings.iter().filter_map(|finding| finding.object).filter(|object| object.kind().is_pack()) {
        is_pack_missed |= !repository.has(&pack)?;
    }
    if !is_pack_missed {
        wrong.extend(&survey.stale_index_objects);
    }
    Ok(wrong)
}

/// Objects and sidecars of which something else is told than that they are damaged: that they could not be read, or healed, today.
pub(super) fn untried(findings: &[Finding]) -> HashSet<ObjectName> {
    findings.iter().filter(|finding| finding.kind != ErrorKind::Damaged && !finding.healed).filter_map(|finding| finding.object).collect()
}

/// Whether the sidecar of an object may heal it another time.
pub(super) fn may_heal(untried: &HashSet<ObjectName>, object: &ObjectName) -> bool {
    untried.contains(object) || untried.contains(&sidecar_of(object))
}

/// Sidecars that heal nothing, and those of lost objects that nobody misses. One that could not be tried, or whose object cannot be told from
/// a damaged one, may be the only copy: it stays.
fn useless_sidecars(findings: &[Finding]) -> BTreeSet<ObjectName> {
    let open: Vec<_> = findings.iter().filter(|finding| !finding.healed).collect();
    let untried = untried(findings);
    let is_missed = |object: &ObjectName| findings.iter().any(|other| other.object == Some(*object) && !other.snapshots.is_empty());
    let is_parity = |object: &ObjectName| object.kind() == ObjectKind::Parity;
    let objects = open.iter().filter_map(|finding| finding.object).filter(|object| !is_parity(object));
    let in_question: HashSet<_> = objects.map(|object| sidecar_of(&object)).collect();
    let useless = |finding: &&Finding| match finding.object {
        Some(object) if is_parity(&object) => (finding.rule != Some("PARITY-8") || !in_question.contains(&object)).then_some(object),
        Some(object) if finding.rule.is_none() && !is_missed(&object) && !may_heal(&untried, &object) => Some(sidecar_of(&object)),
        _ => None,
    };
    open.iter().filter(|finding| finding.kind == ErrorKind::Damaged).filter_map(useless).collect()
}

/// Packs whose writer would have published an index object of them: it is not there, or says something else of them.
fn lost_index_objects(survey: &Survey, packs: &[PackRepair]) -> Vec<Pack> {
    let damaged: HashSet<_> = packs.iter().map(|repair| repair.pack).collect();
    let is_right = |pack: &&Pack| !damaged.contains(&ObjectName::pack(pack.0, pack.1));
    let of_session = |packs: &BTreeSet<Pack>| packs.iter().filter(is_right).copied().collect::<Vec<_>>();
    let mut lost: Vec<_> = survey.unindexed.values().map(of_session).filter(|packs| packs.len() >= INDEXED_PACKS_MIN).flatten().collect();
    lost.sort_unstable();
    lost
}
