//! Two years of daily backups under several lifecycles: bytes by tier, money, what was repacked and deleted early, and that every kept snapshot restores.
//!
//! ```sh
//! cargo run --release -p icecore-benches --bin lifecycle -- --prices docs/examples/prices/s3-standard.toml
//! ```
//!
//! `--days N` runs N days. Prints a table in Markdown. Money is for 10^6 times the bytes, and for as many more requests as packs of the default size
//! would make of that. Rows that begin with `model` are not run: they say what a repository with a hot and a cold part holds, as restic and rustic can
//! keep them. There all packs of data go to the cold part at once, lists and trees are in both, snapshots are kept by the same rules, and packs come
//! and go as they do where icecore keeps all of it warm; what is repacked is read from the cold part.

use icecore::cost::{Money, Prices, Rate, TierPrices};
use icecore_benches::lifecycle::{Life, SHRUNK, Workload, run, storage};
use std::time::Instant;
use toml::{Table, Value};

/// So many times the bytes.
const TIMES: u64 = 1_000_000;

fn read(path: &str) -> Result<Prices, Box<dyn std::error::Error>> {
    let table: Table = std::fs::read_to_string(path)?.parse()?;
    let rate = |tier: &Value, key: &str| tier.get(key).and_then(|value| Rate::parse(&value.to_string())).unwrap_or_default();
    let number = |value: Option<&Value>| value.and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok());
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let tier = |tier: &Value| {
        let prices = TierPrices {
            storage: rate(tier, "storage"),
            put: rate(tier, "put"),
            get: rate(tier, "get"),
            retrieval: rate(tier, "retrieval"),
            egress: rate(tier, "egress"),
            minimum_days: number(tier.get("minimum-days")).and_then(|days| u32::try_from(days).ok()).unwrap_or(0),
        };
        (text(tier.get("name")), prices)
    };
    let tiers: Vec<_> = table.get("tier").and_then(Value::as_array).into_iter().flatten().map(tier).collect();
    match tiers.len() {
        0 | 1 => Err(format!("{path}: there must be two tiers").into()),
        _ => Ok(Prices { currency: text(table.get("currency")), gigabyte: number(table.get("gigabyte")).unwrap_or(1_000_000_000), tiers }),
    }
}

fn requests(count: u64, rate: Rate) -> Money {
    Prices::of_requests(count.saturating_mul(TIMES) / SHRUNK, rate)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn shown(money: Money) -> String {
    format!("{:.0}", money.millionths() as f64 / 1e6)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let prices = read(value("--prices").ok_or("--prices FILE")?)?;
    let days = value("--days").map_or(Ok(730), |days| days.parse())?;
    let workload = Workload { days, files: 60, database: 2 << 20, pages: 24 };
    let life = |name, cold_after, kept, calendar| Life { name, cold_after, kept, calendar };
    let lives = [
        life("all warm, kept 365 days", None, Some(365), (0, 0, 0)),
        life("cold after 30, kept 365 days", Some(30), Some(365), (0, 0, 0)),
        life("cold after 90, kept 365 days", Some(90), Some(365), (0, 0, 0)),
        life("all warm, 7 daily, 5 weekly, 24 monthly", None, None, (7, 5, 24)),
        life("cold after 30, 7 daily, 5 weekly, 24 monthly", Some(30), None, (7, 5, 24)),
        life("all warm, nothing forgotten", None, None, (0, 0, 0)),
        life("cold after 30, nothing forgotten", Some(30), None, (0, 0, 0)),
    ];
    println!(
        "| lifecycle | snapshots that came back | warm MB | cold MB | moved MB | repacked MB | deleted early | storage {0} | requests {0} | early deletion {0} | thawing {0} | all {0} | newest: MB to thaw |",
        prices.currency
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let [warm, cold] = [0, 1].map(|tier| prices.tier(tier).map(|(_, tier)| *tier).unwrap_or_default());
    let times = u128::from(TIMES);
    for life in lives {
        let began = Instant::now();
        let (outcome, model) = run(workload, &life, &prices);
        let stored = storage(outcome.byte_days[0] * times, &prices, 0) + storage(outcome.byte_days[1] * times, &prices, 1);
        let [of_warm, of_cold] = outcome.requests;
        let asked = requests(of_warm[0], warm.put)
            + requests(of_warm[1], warm.get)
            + requests(of_cold[0], cold.put)
            + requests(of_cold[1], cold.get);
        let early = storage(outcome.early.1 * times, &prices, 1);
        let row = |name: &str, snapshots: &str, bytes: [u64; 2], moved: u64, repacked: u64, packs: u64, money: [Money; 4], thaw: u64| {
            let all = money.iter().copied().sum();
            let [stored, asked, early, thawed] = money.map(shown);
            let [hot, cold, moved, repacked, thaw] = [bytes[0], bytes[1], moved, repacked, thaw].map(megabytes);
            println!(
                "| {name} | {snapshots} | {hot} | {cold} | {moved} | {repacked} | {packs} | {stored} | {asked} | {early} | {thawed} | {} | {thaw} |",
                shown(all)
            );
        };
        let money = [stored, asked, early, Money::default()];
        let snapshots = outcome.snapshots.to_string();
        row(life.name, &snapshots, outcome.bytes, outcome.moved, outcome.repacked, outcome.early.0, money, outcome.newest_cold[0]);
        if life.cold_after.is_none() {
            let stored = storage(model.byte_days[0] * times, &prices, 0) + storage(model.byte_days[1] * times, &prices, 1);
            // Everything but packs of data goes to the hot part, and is read there, as in the run; the packs are written to the cold one.
            let asked = requests(of_warm[0], warm.put) + requests(of_warm[1], warm.get) + requests(model.cold_puts, cold.put);
            let early = storage(model.early.1 * times, &prices, 1);
            let thawed = prices.of_bytes(model.repacked.saturating_mul(TIMES), cold.retrieval);
            let name = format!("model: hot and cold, {}", life.name.trim_start_matches("all warm, "));
            let money = [stored, asked, early, thawed];
            row(&name, "", model.bytes, 0, model.repacked, model.early.0, money, model.newest_cold);
        }
        eprintln!("{}: {} s", life.name, began.elapsed().as_secs());
    }
    Ok(())
}
