//! `tag`: gives snapshots other tags.

use super::snapshots::short_id;
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::names::shown;
use icecore::retention::TagChange;
use serde_json::json;

/// Gives snapshots other tags
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore tag latest --add before-upgrade\n  \
    icecore tag 3f2a9c1d 77b0e2aa --remove daily --add release\n  \
    icecore tag 3f2a9c1d --set ''          takes all tags away\n\n\
    Snapshots are never changed: a new one with the same content and time takes the place of the old one, under a new id. This needs a \
    credential that backs up and restores, and maintains where another credential made the snapshot; retention rules count the new one among \
    the snapshots of the credential that tagged it.")]
pub(crate) struct Args {
    /// `latest`, or ids or the first digits of them
    #[arg(value_name = "SNAPSHOT|latest", required = true)]
    snapshots: Vec<String>,
    /// Adds a tag (can be repeated)
    #[arg(long, value_name = "TAG")]
    add: Vec<String>,
    /// Takes a tag away (can be repeated)
    #[arg(long, value_name = "TAG")]
    remove: Vec<String>,
    /// Takes away all tags but this one (can be repeated; '' for none)
    #[arg(long, value_name = "TAG")]
    set: Vec<String>,
    /// Takes `latest` to mean the newest snapshot of this series
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    if args.add.is_empty() && args.remove.is_empty() && args.set.is_empty() {
        return Err(usage("say what to change: --add TAG, --remove TAG or --set TAG"));
    }
    let repository = context.open()?;
    let find = |name: &String| repository.find_snapshot(name, args.series.as_deref(), None).map(|snapshot| snapshot.id);
    let ids = args.snapshots.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let mut change = TagChange::default();
    change.add.clone_from(&args.add);
    change.remove.clone_from(&args.remove);
    change.set = (!args.set.is_empty()).then(|| args.set.iter().filter(|tag| !tag.is_empty()).cloned().collect());
    let progress = context.progress()?;
    let done = repository.retag(&ids, &change, &progress)?;
    drop(progress);
    let output = &context.output;
    for retagged in &done {
        let tags = match retagged.tags.is_empty() {
            true => "no tags".to_owned(),
            false => shown(retagged.tags.join(", ").as_bytes()),
        };
        match retagged.before == retagged.after {
            true => output.line(format_args!("{}  as it was: {tags}", short_id(&retagged.before)))?,
            false => output.line(format_args!("{} is now {}: {tags}", short_id(&retagged.before), short_id(&retagged.after)))?,
        }
        let line = json!({
            "id_before": retagged.before.to_string(),
            "id": retagged.after.to_string(),
            "changed": retagged.before != retagged.after,
            "tags": retagged.tags,
        });
        output.json("snapshot", line)?;
    }
    let changed = done.iter().filter(|retagged| retagged.before != retagged.after).count();
    output.json("summary", json!({"snapshots": done.len(), "changed": changed}))?;
    Ok(Outcome::Done)
}
