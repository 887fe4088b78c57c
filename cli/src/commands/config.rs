//! `config`: what everyone who uses the repository agrees on; changing how much parity there is.

use crate::context::Context;
use crate::exit::Outcome;
use crate::size::{bytes, count};
use crate::time;
use icecore::format::config::{Config, CutMethod};
use icecore::repository::{Protected, Repository};
use serde_json::{Value, json};

/// Shows the settings of the repository, or changes how much parity there is
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore config\n  \
    icecore config --parity 3    every object gets what heals it; of large packs up to 3 % may be lost\n  \
    icecore config --parity 0    takes that away again\n\n\
    Changing needs an admin key with all roles. Objects that are there get their parity at once; if that is interrupted, run it again. Backups \
    that are at work stop and have to be run again; what they stored is found again.")]
pub(crate) struct Args {
    /// How much of a large pack can be restored where it is lost, in percent; 0: no parity
    #[arg(long, value_name = "PERCENT", value_parser = super::init::parity_percent())]
    parity: Option<u8>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let mut repository = context.open()?;
    let mut protected = None;
    if let Some(percent) = args.parity {
        if repository.config().parity_percent() != percent {
            repository.set_parity(percent)?;
            repository = context.open()?;
        }
        protected = Some(repository.protect(&context.progress()?)?);
    }
    show(&repository, protected.as_ref(), context)?;
    match protected.is_some_and(|protected| !protected.damaged.is_empty()) {
        true => Ok(Outcome::DamageFound),
        false => Ok(Outcome::Done),
    }
}

fn show(repository: &Repository, protected: Option<&Protected>, context: &Context) -> anyhow::Result<()> {
    let (config, output) = (repository.config(), &context.output);
    output.line(format_args!("repository   {}", repository.id()))?;
    output.line(format_args!("generation   {} of {}", repository.generation(), time::local(config.created)))?;
    output.line(format_args!("pack size    {}", bytes(u64::from(config.pack_size))))?;
    let (data, meta) = (bytes(u64::from(config.data_frame_size)), bytes(u64::from(config.meta_frame_size)));
    output.line(format_args!("frame size   {data}, of trees {meta}"))?;
    for cutter in &config.cutters {
        let how = match cutter.method {
            CutMethod::Content { min, average, max } => {
                let [min, average, max] = [min, average, max].map(|size| bytes(u64::from(size)));
                format!("by content, {min} to {max}, {average} on average")
            }
            CutMethod::Fixed(size) => format!("every {}", bytes(u64::from(size))),
        };
        output.line(format_args!("cutter {:<6}{how}", cutter.id))?;
    }
    match config.parity_percent() {
        0 => output.line("parity       none")?,
        percent => output.line(format_args!("parity       {percent} %"))?,
    }
    if let Some(protected) = protected {
        let (written, removed) = (count(protected.sidecars_written), count(protected.sidecars_removed));
        output.report(format_args!("{written} sidecars written, {removed} removed"))?;
        for (_, message) in &protected.damaged {
            output.warn(format_args!("{message}; it got no sidecar. Run `icecore scrub`"));
        }
    }
    output.json("summary", as_json(repository, config, protected))?;
    Ok(())
}

fn as_json(repository: &Repository, config: &Config, protected: Option<&Protected>) -> Value {
    let cutter = |cutter: &icecore::format::config::CutterConfig| match cutter.method {
        CutMethod::Content { min, average, max } => json!({"id": cutter.id, "min": min, "average": average, "max": max}),
        CutMethod::Fixed(size) => json!({"id": cutter.id, "min": size, "average": size, "max": size}),
    };
    json!({
        "repository_id": repository.id().to_string(),
        "generation": repository.generation(),
        "created": time::rfc3339(config.created),
        "pack_size": config.pack_size,
        "data_frame_size": config.data_frame_size,
        "meta_frame_size": config.meta_frame_size,
        "cutters": config.cutters.iter().map(cutter).collect::<Vec<_>>(),
        "parity_percent": config.parity_percent(),
        "sidecars_written": protected.map(|protected| protected.sidecars_written),
        "sidecars_removed": protected.map(|protected| protected.sidecars_removed),
        "damaged": protected.map(|protected| protected.damaged.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()),
    })
}
