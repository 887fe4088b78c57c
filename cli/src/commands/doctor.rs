//! `doctor`: what is wrong with a setup, and what to do about it.

use crate::context::Context;
use crate::exit::{Outcome, of_error};
use crate::names::shown;
use crate::output::Output;
use crate::place::{Place, private_folder};
use crate::size::{bytes, counted};
use crate::table::{Colour, coloured, has_colours};
use crate::time;
use icecore::ErrorKind;
use icecore::backend::{self, Ability, Found, Need};
use icecore::format::Roles;
use icecore::gc::GcOptions;
use icecore::repository::{Repository, Snapshot};
use icecore::runtime::Timestamp;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

/// Less than this much free space is worth a word.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// So many seconds a clock may be behind the newest snapshot.
const CLOCK_SECONDS_MAX: i64 = 300;
/// A session that is open for longer is worth a look.
const SESSION_SECONDS_MAX: i64 = 2 * 86_400;
/// A series whose last snapshot is older is worth a look, if nothing else is said.
const BACKUP_DAYS_MAX: u64 = 7;

/// Looks for what is wrong with the setup, and says what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore doctor\n  \
    icecore doctor -P home --max-age 2d --json\n\n\
    It ends with 0 where the repository can be used, also where something deserves a look, otherwise with the exit code of what failed first. \
    A store is tried out under a scratch prefix, which is empty again afterwards; nothing that is stored is changed. `icecore check` and \
    `icecore scrub` look for damage.")]
pub(crate) struct Args {
    /// A series whose last snapshot is older than this deserves a look: 12h, 2d, 1w
    #[arg(long, value_name = "DURATION", value_parser = time::parse_duration)]
    max_age: Option<std::time::Duration>,
    /// Says also how much `icecore gc` would bring back, which takes a while in large repositories
    #[arg(long)]
    garbage: bool,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

/// Tells what was found.
struct Examination<'a> {
    output: &'a Output,
    has_colours: bool,
    warnings: Cell<u64>,
    failures: Cell<u64>,
    has_damage: Cell<bool>,
}

impl Examination<'_> {
    fn tell(&self, state: State, topic: &str, what: &str, advice: Option<&str>) -> anyhow::Result<()> {
        let (word, colour) = match state {
            State::Ok => ("ok", Colour::Green),
            State::Warn => ("warn", Colour::Yellow),
            State::Fail => ("fail", Colour::Red),
        };
        match state {
            State::Ok => {}
            State::Warn => self.warnings.set(self.warnings.get() + 1),
            State::Fail => self.failures.set(self.failures.get() + 1),
        }
        self.output.line(format_args!("{}  {topic:<12}  {what}", coloured(&format!("{word:<4}"), colour, self.has_colours)))?;
        if let Some(advice) = advice {
            self.output.line(format_args!("{:20}-> {advice}", ""))?;
        }
        self.output.json("examination", json!({"state": word, "topic": topic, "message": what, "advice": advice}))?;
        Ok(())
    }

    fn ok(&self, topic: &str, what: &str) -> anyhow::Result<()> {
        self.tell(State::Ok, topic, what, None)
    }

    fn warn(&self, topic: &str, what: &str, advice: &str) -> anyhow::Result<()> {
        self.tell(State::Warn, topic, what, Some(advice))
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let output = &context.output;
    let examination =
        Examination { output, has_colours: has_colours(), warnings: Cell::new(0), failures: Cell::new(0), has_damage: Cell::new(false) };
    configuration(&examination, context)?;
    if context.profile().problem.is_some() {
        // What the file would have said is not known: all else would be about another setup.
        output.report("1 failed; correct this first, and ask again")?;
        return Err(crate::exit::usage("the configuration file cannot be used"));
    }
    cache(&examination, context)?;
    let failed = match reach(&examination, context) {
        Ok(repository) => {
            examine(args, &examination, &repository, context)?;
            None
        }
        Err(error) => {
            let (_, _, advice) = of_error(&error);
            examination.tell(State::Fail, "repository", &format!("{error:#}"), advice)?;
            Some(error)
        }
    };
    let (warnings, failures) = (examination.warnings.get(), examination.failures.get());
    match (failures, warnings) {
        (0, 0) => output.report("all is well")?,
        _ => output.report(format_args!("{failures} failed, {warnings} deserve a look"))?,
    }
    match failed {
        Some(error) => Err(error),
        None if failures > 0 && !examination.has_damage.get() => {
            Err(anyhow::anyhow!("the repository cannot be relied on as it is; see above"))
        }
        None => {
            output.json("summary", json!({"warnings": warnings, "failures": failures}))?;
            Ok(if examination.has_damage.get() { Outcome::DamageFound } else { Outcome::Done })
        }
    }
}

fn configuration(examination: &Examination<'_>, context: &Context) -> anyhow::Result<()> {
    let profile = context.profile();
    match (&profile.problem, &profile.file, &profile.name) {
        (Some(problem), ..) => examination.tell(State::Fail, "config", problem, Some("correct it, or go without with --no-config")),
        (None, Some(file), Some(name)) => examination.ok("config", &format!("profile {name} of {}", file.display())),
        (None, Some(file), None) => examination.ok("config", &format!("{}, no profile is chosen", file.display())),
        (None, None, _) => examination.ok("config", "no configuration file"),
    }
}

fn cache(examination: &Examination<'_>, context: &Context) -> anyhow::Result<()> {
    let Some(folder) = context.cache_folder() else {
        return examination.warn("cache", "no caches are kept", "without --no-cache the next backup reads only what changed");
    };
    let shown = folder.display();
    let is_writable = || rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok();
    match private_folder(&folder) {
        Ok(()) if is_writable() => examination.ok("cache", &format!("{shown}, {}", bytes(size_below(&folder)))),
        Ok(()) => examination.warn("cache", &format!("{shown} cannot be written to"), "make it writable, or name another with --cache-dir"),
        Err(error) => examination.warn("cache", &error.to_string(), "name another folder with --cache-dir"),
    }
}

/// Bytes of all files below a folder; what cannot be read counts nothing.
fn size_below(folder: &Path) -> u64 {
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => total += metadata.len(),
                Err(_) => {}
            }
        }
    }
    total
}

/// Opens the repository; what its folder can do is told on the way.
fn reach(examination: &Examination<'_>, context: &Context) -> anyhow::Result<Repository> {
    let place = context.place()?;
    let what = if matches!(place, Place::Default(_)) { "the default one, " } else { "" };
    let (address, settings) = (place.address(), context.store_settings(&place.address())?);
    let backend = backend::open(&address, &settings).map_err(|error| place.explain(error))?;
    examination.ok("repository", &format!("{what}{}", backend.describe()))?;
    let tried = backend::try_out(&address, &settings);
    match address.folder() {
        Some(path) => {
            abilities(examination, "folder", tried, "use another file system if you can")?;
            space(examination, path)?;
        }
        None => abilities(examination, "store", tried, "use another store if you can")?,
    }
    let repository = context.open()?;
    let age = format!("opens, for {}; keys of generation {}", repository.roles(), repository.generation());
    examination.ok("credential", &age)?;
    Ok(repository)
}

fn abilities(examination: &Examination<'_>, topic: &str, tried: icecore::Result<Vec<Ability>>, advice: &str) -> anyhow::Result<()> {
    let abilities = match tried {
        Ok(abilities) => abilities,
        Err(error) => {
            let advice = "restores work; backups and gc do not, and a restore cannot tell gc to wait";
            return examination.warn(topic, &error.to_string(), advice);
        }
    };
    let mut there = Vec::new();
    for ability in &abilities {
        examination.output.json("ability", as_json(ability))?;
        there.extend(match &ability.found {
            Found::Yes(None) => Some(ability.name.to_owned()),
            Found::Yes(Some(kinds)) => Some(format!("{} ({kinds})", ability.name)),
            Found::No(_) | Found::Unknown(_) => None,
        });
    }
    if there.len() == abilities.len() || topic == "store" {
        examination.ok(topic, &there.join(", "))?;
    }
    for ability in &abilities {
        let (what, why) = match &ability.found {
            Found::Yes(_) => continue,
            Found::No(why) => (format!("no {}", ability.name), why),
            Found::Unknown(why) => (format!("{}: not known", ability.name), why),
        };
        let (what, advice) = (format!("{what} ({why})"), format!("{}; {advice}", ability.purpose));
        match ability.need {
            Need::Must => examination.tell(State::Fail, topic, &what, Some(&advice))?,
            Need::Should => examination.warn(topic, &what, &advice)?,
            // Nothing has to be done.
            Need::May => examination.ok(topic, &what)?,
        }
    }
    Ok(())
}

fn as_json(ability: &Ability) -> Value {
    let (found, detail) = match &ability.found {
        Found::Yes(kinds) => ("yes", kinds.as_deref()),
        Found::No(why) => ("no", Some(why.as_str())),
        Found::Unknown(why) => ("unknown", Some(why.as_str())),
    };
    let need = match ability.need {
        Need::Must => "must",
        Need::Should => "should",
        Need::May => "may",
    };
    json!({"name": ability.name, "found": found, "detail": detail, "need": need, "purpose": ability.purpose})
}

fn space(examination: &Examination<'_>, folder: &Path) -> anyhow::Result<()> {
    let space = rustix::fs::statvfs(folder)?;
    let (free, all) = (space.f_bavail.saturating_mul(space.f_frsize), space.f_blocks.saturating_mul(space.f_frsize));
    let what = format!("{} of {} free", bytes(free), bytes(all));
    let state = match free {
        0 => State::Fail,
        _ if free < FREE_BYTES_MIN || free < all / 50 => State::Warn,
        _ => return examination.ok("space", &what),
    };
    let advice = "free some: `icecore forget` with rules, then `icecore gc`, for which a little room is kept back; a full disk ends a backup, it does no harm";
    examination.tell(state, "space", &what, Some(advice))
}

fn examine(args: &Args, examination: &Examination<'_>, repository: &Repository, context: &Context) -> anyhow::Result<()> {
    let now = context.runtime().clock.now();
    if repository.roles().contain(Roles::RESTORE) {
        let (snapshots, problems) = repository.snapshots_and_problems()?;
        for problem in &problems {
            examination.has_damage.set(true);
            examination.tell(State::Fail, "snapshots", &problem.to_string(), Some("`icecore check` says what it concerns"))?;
        }
        clock(examination, &snapshots, now)?;
        series(args, examination, &snapshots, now)?;
    } else {
        examination.ok("snapshots", "this credential cannot read snapshots, so their age is not looked at")?;
    }
    if !repository.roles().contain(Roles::MAINTAIN) {
        return examination.ok("sessions", "this credential does not maintain, so sessions are not looked at");
    }
    sessions(examination, repository, now)?;
    tiers(examination, repository)?;
    if args.garbage { garbage(examination, repository, context) } else { Ok(()) }
}

fn clock(examination: &Examination<'_>, snapshots: &[Snapshot], now: Timestamp) -> anyhow::Result<()> {
    let newest = snapshots.iter().map(|snapshot| snapshot.header.time).max();
    match newest.filter(|newest| newest.seconds > now.seconds + CLOCK_SECONDS_MAX) {
        Some(newest) => {
            let what = format!("it is {}, and the newest snapshot is of {}", time::local(now), time::local(newest));
            examination.warn("clock", &what, "correct this clock, or that of the machine that made the snapshot")
        }
        None => examination.ok("clock", &format!("it is {}", time::local(now))),
    }
}

fn series(args: &Args, examination: &Examination<'_>, snapshots: &[Snapshot], now: Timestamp) -> anyhow::Result<()> {
    if snapshots.is_empty() {
        return examination.warn("backups", "there is no snapshot yet", "make one: `icecore backup PATH`");
    }
    let seconds_max = args.max_age.map_or(BACKUP_DAYS_MAX * 86_400, |age| age.as_secs());
    let mut newest: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for snapshot in snapshots {
        let time = newest.entry(&snapshot.body.series).or_insert(snapshot.header.time);
        *time = (*time).max(snapshot.header.time);
    }
    for (series, time) in newest {
        let age = u64::try_from(now.seconds.saturating_sub(time.seconds)).unwrap_or(0);
        let what = format!("{}: last {}, {} ago", shown(series.as_bytes()), time::local(time), age_text(age));
        match age > seconds_max {
            true => {
                examination.warn("backups", &what, "see whether its timer still runs (`systemctl list-timers`), or let the series go")?
            }
            false => examination.ok("backups", &what)?,
        }
    }
    Ok(())
}

fn age_text(seconds: u64) -> String {
    match seconds {
        0..172_800 => time::duration(seconds * 1_000_000_000),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn sessions(examination: &Examination<'_>, repository: &Repository, now: Timestamp) -> anyhow::Result<()> {
    let open = repository.open_sessions()?;
    for open in &open {
        let age = open.started.map_or(0, |started| now.seconds.saturating_sub(started.seconds));
        let what = format!("session of {}, begun {}", shown(open.label.as_bytes()), open.started.map(time::local).unwrap_or_default());
        match age > SESSION_SECONDS_MAX {
            true => examination.warn("sessions", &what, "if it is dead, `icecore gc`, run twice at least 15 minutes apart, gives it up")?,
            false => examination.ok("sessions", &what)?,
        }
    }
    if open.is_empty() { examination.ok("sessions", "none is open") } else { Ok(()) }
}

fn tiers(examination: &Examination<'_>, repository: &Repository) -> anyhow::Result<()> {
    for info in repository.tiers()? {
        let (name, packs) = (&info.tier.name, counted(info.packs.packs, "pack"));
        match &info.absent {
            None => examination.ok("tiers", &format!("{name}, with {packs}"))?,
            Some(why) => {
                let advice = format!("needed to restore, scrub or collect what is in its {packs}; elsewhere: --tier-at {name}=PLACE");
                examination.warn("tiers", why, &advice)?;
            }
        }
    }
    Ok(())
}

fn garbage(examination: &Examination<'_>, repository: &Repository, context: &Context) -> anyhow::Result<()> {
    let options = GcOptions::default();
    let progress = context.progress()?;
    let plan = repository.gc_plan(&options, &progress);
    drop(progress);
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            examination.has_damage.set(error.kind() == ErrorKind::Damaged);
            return examination.tell(State::Fail, "garbage", &error.to_string(), Some("`icecore check` says what is damaged"));
        }
    };
    let what =
        format!("{} of {} would come back, {}", bytes(plan.bytes_freed()), bytes(plan.packs.bytes), counted(plan.packs.packs, "pack"));
    match plan.bytes_freed() > plan.packs.bytes / 10 && plan.bytes_freed() > 64 << 20 {
        true => examination.warn("garbage", &what, "run `icecore gc`"),
        false => examination.ok("garbage", &what),
    }
}
