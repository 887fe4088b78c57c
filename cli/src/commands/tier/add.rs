//! `tier add`: makes a tier.

use super::as_json;
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::money;
use icecore::backend::{Address, ArchiveClass};
use icecore::tiers::{Prices, ThawClass, TierBody};
use std::ffi::{OsStr, OsString};

/// Makes a tier: a colder and cheaper place for what only old snapshots need
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore tier add archive /mnt/archive --minimum-days 30 --storage-price 4\n  \
    icecore tier add safe /media/disk7 --rank 2 --removable --label 'disk 7, in the safe'\n  \
    icecore tier add glacier s3://bucket/cold --storage-class GLACIER --thaw-class bulk:12:0:25 --thaw-class standard:5:10:50\n\n\
    Prices are numbers in the unit that you pay in. What a removable tier holds can be read while its medium is there; otherwise icecore says which one it needs. \
    Whoever moves or restores packs must be able to reach the tier; where it is mounted elsewhere on a machine, say so with --tier-at.")]
pub(crate) struct Args {
    /// What to call it: small letters, digits and hyphens
    #[arg(value_name = "NAME")]
    name: String,
    /// An empty place: a folder, or s3://, az://, gs:// or sftp://, as for a repository
    #[arg(value_name = "PLACE")]
    address: OsString,
    /// The storage class of an S3 bucket that packs are put into, as GLACIER; of archive classes icecore knows that they are frozen
    #[arg(long, value_name = "CLASS", default_value = "", hide_default_value = true)]
    storage_class: String,
    /// How cold it is, 1 to 255: packs move to tiers of higher ranks only
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rank: u8,
    /// It is on a medium that is not always there
    #[arg(long)]
    removable: bool,
    /// What is in it must thaw before it can be read
    #[arg(long, requires = "thaw_class")]
    frozen: bool,
    /// Which medium it is, for people who have to find it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
    /// Days for which the store takes payment in any case; without it 0, of archive classes what Amazon says
    #[arg(long, value_name = "DAYS")]
    minimum_days: Option<u32>,
    /// Seconds until the first byte comes
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    latency: u32,
    /// Price of 1 TB (10^12 bytes) for 30 days
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = money::parse)]
    storage_price: u64,
    /// Price of 1 TB that is read
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = money::parse)]
    retrieval_price: u64,
    /// Price of a million requests that write
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = money::parse)]
    write_price: u64,
    /// Price of a million requests that read
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = money::parse)]
    read_price: u64,
    /// A way to thaw (can be repeated): NAME:HOURS:PRICE of 1 TB:PRICE of a million requests, as bulk:48:2.5:25
    #[arg(long, value_name = "WAY", value_parser = parse_class)]
    thaw_class: Vec<ThawClass>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let mut tier = TierBody::new(&args.name, address(&args.address)?);
    let archive = ArchiveClass::of(&args.storage_class);
    (tier.rank, tier.is_frozen, tier.is_removable) = (args.rank, args.frozen || archive.is_some(), args.removable);
    tier.label.clone_from(&args.label);
    tier.storage_class.clone_from(&args.storage_class);
    tier.minimum_days = args.minimum_days.or(archive.map(|archive| archive.minimum_days)).unwrap_or_default();
    tier.latency_s = args.latency;
    tier.prices = Prices { storage: args.storage_price, retrieval: args.retrieval_price, writes: args.write_price, reads: args.read_price };
    tier.classes.clone_from(&args.thaw_class);
    match archive {
        Some(archive) if args.thaw_class.is_empty() => {
            let way = |(name, seconds): &(&str, u32)| ThawClass {
                name: (*name).to_owned(),
                seconds: *seconds,
                bytes_price: 0,
                requests_price: 0,
            };
            tier.classes = archive.ways.iter().map(way).collect();
        }
        Some(archive) => {
            let known: Vec<_> = archive.ways.iter().map(|(name, _)| *name).collect();
            if let Some(unknown) = args.thaw_class.iter().find(|class| !known.contains(&class.name.as_str())) {
                return Err(usage(format!("{} does not thaw by `{}`; it knows {}", args.storage_class, unknown.name, known.join(", "))));
            }
        }
        None if !args.frozen && !args.thaw_class.is_empty() => {
            return Err(usage("what is not frozen need not thaw: leave --thaw-class out, or add --frozen or an archive class"));
        }
        None => {}
    }
    tier.classes.sort_by(|one, other| one.name.cmp(&other.name));
    tier.tier = context.open()?.add_tier(&tier)?;
    let output = &context.output;
    output.report(format_args!("made tier {} at {}", tier.name, tier.address))?;
    output.note(format_args!("move old data there with `icecore tier apply {}`", tier.name));
    let mut line = as_json(&tier);
    line["address"] = tier.address.clone().into();
    output.json("summary", line)?;
    Ok(Outcome::Done)
}

/// The address; of a folder from the root on, since whoever uses it later may stand elsewhere.
fn address(named: &OsStr) -> anyhow::Result<String> {
    match Address::parse(named)? {
        Address::Folder(folder) => {
            let path = std::path::absolute(folder)?;
            path.to_str().map(str::to_owned).ok_or_else(|| usage(format!("{}: the path of a tier must be UTF-8", path.display())))
        }
        address => Ok(address.to_string()),
    }
}

fn parse_class(text: &str) -> Result<ThawClass, String> {
    let [name, hours, bytes_price, requests_price] = text.split(':').collect::<Vec<_>>()[..] else {
        return Err("write it as NAME:HOURS:PRICE:PRICE, for example bulk:48:2.5:25".into());
    };
    let hours: u32 = hours.parse().map_err(|_| format!("`{hours}` is no number of hours"))?;
    let seconds = hours.checked_mul(3600).ok_or_else(|| format!("{hours} hours are too many"))?;
    Ok(ThawClass { name: name.into(), seconds, bytes_price: money::parse(bytes_price)?, requests_price: money::parse(requests_price)? })
}
