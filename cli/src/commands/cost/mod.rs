//! `cost`: what the repository costs, where its prices are known, and what it will cost.

mod prices;

use super::rules::Rules;
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::names::shown;
use crate::output::Output;
use crate::size::{bytes, count, counted};
use crate::table::{Column, Table, terminal_width};
use crate::time;
use icecore::check::{SeriesShare, Shares};
use icecore::cost::{Bill, Forecast, Lifecycle, Money, Prices, TierBill, bill, forecast};
use icecore::id::to_hex;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Says what storing the repository costs, for each series, and what it will cost
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore cost --prices docs/examples/prices/s3-standard.toml\n  \
    icecore cost --prices s3.toml --forecast 12\n  \
    icecore cost --prices s3.toml --what-if --keep-daily 7 --keep-weekly 5 --keep-monthly 12\n  \
    icecore cost --prices s3.toml --what-if --keep-within 1y --cold-after 30d\n\n\
    Bytes that several series share are split evenly among them, so that all lines add up to what is stored. Prices stand in a file; \
    examples are in docs/examples/prices. A forecast is a simple model, which it prints.")]
pub(crate) struct Args {
    /// File with the prices of the store
    #[arg(long, value_name = "FILE")]
    prices: PathBuf,
    /// Says what so many months ahead will cost, if backups go on as they did and nothing is forgotten
    #[arg(long, value_name = "MONTHS", num_args = 0..=1, default_missing_value = "12", value_parser = clap::value_parser!(u64).range(1..=120))]
    forecast: Option<u64>,
    /// Says what it would cost under these rules, and with --cold-after
    #[arg(long)]
    what_if: bool,
    #[command(flatten)]
    rules: Rules,
    /// With --what-if: what only snapshots need that are older than this lies in a colder tier
    #[arg(long, value_name = "DURATION", value_parser = time::parse_duration, requires = "what_if")]
    cold_after: Option<Duration>,
    /// Which one, of the tiers of the repository and of the prices; without it the first one after the warm place
    #[arg(long, value_name = "NAME", requires = "cold_after")]
    cold_tier: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let prices = prices::read(&args.prices)?;
    let policy = args.rules.policy();
    match (args.what_if, policy.is_empty()) {
        (false, false) => return Err(usage("rules say what would be kept; add --what-if")),
        (true, true) if args.cold_after.is_none() => {
            return Err(usage("say what would be otherwise: rules like --keep-daily 7, or --cold-after 30d"));
        }
        _ => {}
    }
    let repository = context.open()?;
    let map = repository.tier_map()?;
    let of_repository: Vec<_> = map.tiers.iter().map(|(tier, _)| &**tier).collect();
    let prices = prices.for_tiers(&of_repository);
    if args.cold_after.is_some() && prices.tiers.len() < 2 {
        return Err(usage("the prices have one tier only, so nothing can be colder; add a second [[tier]]"));
    }
    let cold_tier = match &args.cold_tier {
        None => 1,
        Some(name) => prices.tiers.iter().skip(1).position(|(known, _)| known == name).map(|at| at + 1).ok_or_else(|| {
            let known: Vec<_> = prices.tiers.iter().skip(1).map(|(name, _)| name.as_str()).collect();
            usage(format!("there is no tier `{name}`{}", crate::nearest::advice(name, known)))
        })?,
    };
    let progress = context.progress()?;
    let shares = repository.shares(&|name| map.of(name), &progress)?;
    drop(progress);
    let now = context.runtime().clock.now();
    let output = &context.output;
    let bill = bill(&shares, &prices, u64::from(repository.config().pack_size), now);
    print_bill(&shares, &bill, &prices, output)?;
    if args.forecast.is_some() || args.what_if {
        let mut lifecycle = Lifecycle::default();
        lifecycle.policy = policy;
        (lifecycle.cold_after, lifecycle.cold_tier) = (args.cold_after, cold_tier);
        let months = args.forecast.unwrap_or(12);
        let ahead = forecast(&shares, &prices, &lifecycle, months, now, &time::civil);
        print_forecast(&ahead, &prices, output)?;
        if args.what_if {
            let as_now = forecast(&shares, &prices, &Lifecycle::default(), months, now, &time::civil);
            print_difference(&ahead, &as_now, &prices, output)?;
        }
    }
    output.json("summary", summary(&bill, &prices))?;
    Ok(Outcome::Done)
}

fn name_of(series: &SeriesShare) -> String {
    match &series.name {
        Some(name) => shown(name.as_bytes()),
        None => format!("series {}", to_hex(&series.token)),
    }
}

fn print_bill(shares: &Shares, bill: &Bill, prices: &Prices, output: &Output) -> anyhow::Result<()> {
    let currency = &prices.currency;
    for (number, tier) in &bill.tiers {
        let Some((name, _)) = prices.tier(*number) else { continue };
        let name = shown(name.as_bytes());
        output.line(format_args!(
            "{name}: {} in {}, {} {currency} a month",
            bytes(tier.share.total()),
            counted(tier.share.objects, "object"),
            tier.total
        ))?;
        if tier.read_back > Money::default() {
            output.line(format_args!("  reading all of its packs back once costs {} {currency}", tier.read_back))?;
        }
        let columns =
            [("  stored", Column::Right), (currency.as_str(), Column::Right), ("restore", Column::Right), ("", Column::Shortened)];
        let mut table = Table::new(columns);
        for (at, series) in shares.series.iter().enumerate() {
            // Of all tiers together, so it is said once.
            let restore = if *number == 0 { bill.restore[at].to_string() } else { String::new() };
            table.push([bytes(tier.share.series[at]), tier.series[at].to_string(), restore, name_of(series)]);
        }
        table.push([bytes(tier.share.rest), tier.rest.to_string(), String::new(), "(not needed, or tables of packs: see gc)".into()]);
        table.push([bytes(tier.share.others), tier.others.to_string(), String::new(), "(all other objects)".into()]);
        table.lines(terminal_width()).into_iter().try_for_each(|line| output.line(line))?;
        if tier.early_deletion > Money::default() {
            let at_most = if tier.early_deletion_is_exact { "" } else { "at most " };
            output.line(format_args!(
                "  deleting {} that nobody needs costs {at_most}{} {currency} now, for the least time",
                counted(tier.share.unneeded.len() as u64, "pack"),
                tier.early_deletion
            ))?;
        }
        output.json("tier", tier_as_json(&name, tier))?;
        for (at, series) in shares.series.iter().enumerate() {
            let line = json!({
                "tier": name,
                "series": series.name,
                "series_token": to_hex(&series.token),
                "snapshots": series.snapshots.len(),
                "bytes": tier.share.series[at],
                "storage_millionths": tier.series[at].millionths(),
                "restore_millionths": bill.restore[at].millionths(),
            });
            output.json("series", line)?;
        }
    }
    output.report(format_args!("storage   {} {currency} a month", bill.storage))?;
    output.report(format_args!("requests  {} {currency} for at least {} of the last 30 days' backups", bill.requests, count(bill.puts)))?;
    output.report("A month has 30 days. `restore` is what the newest snapshot costs to read back, all of it, once.")?;
    Ok(())
}

fn tier_as_json(name: &str, tier: &TierBill) -> Value {
    json!({
        "tier": name,
        "bytes": tier.share.total(),
        "objects": tier.share.objects,
        "bytes_rest": tier.share.rest,
        "bytes_others": tier.share.others,
        "rest_millionths": tier.rest.millionths(),
        "others_millionths": tier.others.millionths(),
        "storage_millionths": tier.total.millionths(),
        "early_deletion_millionths": tier.early_deletion.millionths(),
        "early_deletion_is_exact": tier.early_deletion_is_exact,
        "read_back_millionths": tier.read_back.millionths(),
    })
}

fn print_forecast(ahead: &Forecast, prices: &Prices, output: &Output) -> anyhow::Result<()> {
    let currency = &prices.currency;
    let columns = [
        ("month", Column::Right),
        ("snapshots", Column::Right),
        ("stored", Column::Right),
        ("cold", Column::Right),
        (currency.as_str(), Column::Right),
        ("early deletion", Column::Right),
    ];
    let mut table = Table::new(columns);
    for month in &ahead.months {
        let is_cold = month.bytes.len() > 1;
        let cold_bytes: u64 = month.bytes.iter().skip(1).sum();
        let cold = if is_cold { bytes(cold_bytes) } else { String::new() };
        let stored = bytes(month.bytes.iter().sum());
        table.push([
            month.number.to_string(),
            count(month.snapshots),
            stored,
            cold,
            month.storage.to_string(),
            month.early_deletion.to_string(),
        ]);
        let line = json!({
            "month": month.number,
            "snapshots": month.snapshots,
            "bytes": month.bytes.iter().sum::<u64>(),
            "bytes_cold": is_cold.then_some(cold_bytes),
            "bytes_by_tier": month.bytes,
            "storage_millionths": month.storage.millionths(),
            "early_deletion_millionths": month.early_deletion.millionths(),
        });
        output.json("month", line)?;
    }
    table.lines(terminal_width()).into_iter().try_for_each(|line| output.line(line))?;
    output.report(
        "Assumed: each series goes on at the average distance of its snapshots, and each adds what those after its first added on the average; \
         an older snapshot that is kept takes what was added since, but no more than the newest one needs; garbage is collected at once.",
    )?;
    if ahead.series_at_rest > 0 {
        output.report(format_args!(
            "{} assumed to add nothing: too few snapshots, or none of late",
            counted(ahead.series_at_rest, "series")
        ))?;
    }
    Ok(())
}

fn print_difference(ahead: &Forecast, as_now: &Forecast, prices: &Prices, output: &Output) -> anyhow::Result<()> {
    // Today counts as the first month.
    let sum = |forecast: &Forecast| {
        let months = forecast.months.iter().skip(1);
        months.map(|month| month.storage + month.early_deletion).sum::<Money>()
    };
    let (would, is) = (sum(ahead), sum(as_now));
    let currency = &prices.currency;
    output.report(format_args!(
        "{would} {currency} in all, instead of {is} {currency} if nothing is forgotten and all stays where it lies"
    ))?;
    output.json("difference", json!({"what_if_millionths": would.millionths(), "as_now_millionths": is.millionths()}))?;
    Ok(())
}

fn summary(bill: &Bill, prices: &Prices) -> Value {
    json!({
        "currency": prices.currency,
        "bytes": bill.tiers.values().map(|tier| tier.share.total()).sum::<u64>(),
        "storage_millionths": bill.storage.millionths(),
        "puts": bill.puts,
        "requests_millionths": bill.requests.millionths(),
    })
}
