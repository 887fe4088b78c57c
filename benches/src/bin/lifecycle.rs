//! Two years of daily backups under several lifecycles: bytes by tier, money, what was repacked and deleted early, and that every kept snapshot restores.
//!
//! ```sh
//! cargo run --release -p icecore-benches --bin lifecycle -- --prices docs/examples/prices/s3-archive.toml [--days N] [--only WORDS] [--json]
//! ```
//!
//! `--only` runs those lifecycles whose names have these words. The file must price three tiers: the warm one, a cold one and an archive. What it prints is said by what it prints last.

use icecore::cost::{MONTH_DAYS, Money, Prices, Rate, TierPrices};
use icecore::runtime::{Clock, SystemClock};
use icecore_benches::lifecycle::{Costs, Lifecycle, Outcome, TIMES, Workload, magnified, reading, run};
use serde_json::json;
use toml::{Table, Value};

const NOTES: &str = "\
MB are 10^6 bytes as they were stored; `at the end` and `MB-months` are of the warm place, the cold tier and the archive. Money is that of TIMES times the \
bytes for all of the time: a folder and a database of some MB stand for as many TB. `repacked` is what gc wrote again, `unneeded` what lies in tiers because others of \
its pack are needed, `deleted early` packs that left a tier before its minimum days. `newest` and `oldest` is what is paid for reading the packs back that one restore of \
the newest, or of the oldest, snapshot of both series needs, without egress, which is the same for all. `foretold` is what `icecore cost --forecast` said half way of the \
bytes at the end, in percent of what they are.\n\
Rows that begin with `model` are not run. They say what a repository with a hot and a cold part holds, as rustic keeps it: lists and trees are in both parts, all packs of \
data in the cold one from the beginning, and what prune repacks has to be read from there. It has the packs, the deduplication and the gc of the row above it, since \
that program was not run. restic has no tiers: all of what it stores is in one class, as in `all warm`.";

struct Row {
    name: String,
    snapshots: Option<u64>,
    bytes: Vec<u64>,
    byte_days: Vec<u128>,
    repacked: u64,
    unneeded: u64,
    early_packs: u64,
    costs: Costs,
    newest: Money,
    oldest: Money,
    foretold_percent: Option<u64>,
}

impl Row {
    fn of(life: &Lifecycle, outcome: &Outcome, prices: &Prices) -> Self {
        let places = &outcome.places;
        let all: u64 = places.iter().map(|place| place.bytes()).sum();
        Self {
            name: life.name.to_owned(),
            snapshots: Some(outcome.snapshots),
            bytes: places.iter().map(|place| place.bytes()).collect(),
            byte_days: places.iter().map(|place| place.data_days + place.others_days).collect(),
            repacked: outcome.repacked,
            unneeded: outcome.cold_unneeded,
            early_packs: places.iter().map(|place| place.early.packs).sum(),
            costs: Costs::of(outcome, prices),
            newest: reading(&outcome.newest, prices),
            oldest: reading(&outcome.oldest, prices),
            foretold_percent: outcome.foretold.map(|foretold| foretold * 100 / all.max(1)),
        }
    }

    /// Of a run that kept all of it warm.
    fn of_model(life: &Lifecycle, outcome: &Outcome, prices: &Prices) -> Option<Self> {
        let warm = outcome.places.first()?;
        let of_cold = |bytes: &[u64]| reading(&[0, bytes.iter().sum()], prices);
        Some(Self {
            name: format!("model: hot and cold{}", life.name.trim_start_matches("all warm")),
            snapshots: None,
            bytes: vec![warm.others, warm.bytes()],
            byte_days: vec![warm.others_days, warm.data_days + warm.others_days],
            repacked: outcome.repacked,
            unneeded: 0,
            early_packs: warm.early_if_cold.packs,
            costs: Costs::of_hot_and_cold(outcome, prices),
            newest: of_cold(&outcome.newest),
            oldest: of_cold(&outcome.oldest),
            foretold_percent: None,
        })
    }

    fn print(&self) {
        let months: Vec<_> = self.byte_days.iter().map(|byte_days| (byte_days / u128::from(MONTH_DAYS)) as u64).collect();
        let or_none = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let costs = &self.costs;
        let money = [costs.storage, costs.requests, costs.retrieval, costs.early, costs.total(), self.newest, self.oldest].map(whole);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.name,
            or_none(self.snapshots),
            megabytes(&self.bytes),
            megabytes(&months),
            megabytes(&[self.repacked]),
            megabytes(&[self.unneeded]),
            self.early_packs,
            money.join(" | "),
            or_none(self.foretold_percent),
        );
    }

    fn print_json(&self) {
        let months: Vec<_> = self.byte_days.iter().map(|byte_days| (byte_days / u128::from(MONTH_DAYS)) as u64).collect();
        let costs = &self.costs;
        let line = json!({
            "lifecycle": self.name,
            "is_model": self.snapshots.is_none(),
            "snapshots_restored": self.snapshots,
            "bytes": self.bytes,
            "byte_months": months,
            "repacked_bytes": self.repacked,
            "unneeded_bytes": self.unneeded,
            "early_packs": self.early_packs,
            "storage_millionths": costs.storage.millionths(),
            "requests_millionths": costs.requests.millionths(),
            "retrieval_millionths": costs.retrieval.millionths(),
            "early_millionths": costs.early.millionths(),
            "total_millionths": costs.total().millionths(),
            "newest_millionths": self.newest.millionths(),
            "oldest_millionths": self.oldest.millionths(),
            "foretold_percent": self.foretold_percent,
        });
        println!("{line}");
    }
}

fn megabytes(bytes: &[u64]) -> String {
    bytes.iter().map(|bytes| format!("{:.1}", *bytes as f64 / 1e6)).collect::<Vec<_>>().join(" / ")
}

fn whole(money: Money) -> String {
    format!("{:.0}", money.millionths() as f64 / 1e6)
}

fn prices_of(path: &str) -> Result<Prices, Box<dyn std::error::Error>> {
    let table: Table = std::fs::read_to_string(path)?.parse()?;
    let rate = |tier: &Value, key: &str| {
        let price = match tier.get(key) {
            None => return Ok(Rate::default()),
            Some(Value::Integer(number)) => Rate::parse(&number.to_string()),
            Some(Value::Float(number)) => Rate::parse(&number.to_string()),
            Some(_) => None,
        };
        price.ok_or_else(|| format!("{path}: {key} is no price"))
    };
    let whole = |value: Option<&Value>| value.and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok());
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let tier = |tier: &Value| {
        let prices = TierPrices {
            storage: rate(tier, "storage")?,
            put: rate(tier, "put")?,
            get: rate(tier, "get")?,
            retrieval: rate(tier, "retrieval")?,
            egress: rate(tier, "egress")?,
            minimum_days: whole(tier.get("minimum-days")).and_then(|days| u32::try_from(days).ok()).unwrap_or(0),
        };
        Ok::<_, String>((text(tier.get("name")), prices))
    };
    let tiers: Vec<_> = table.get("tier").and_then(Value::as_array).into_iter().flatten().map(tier).collect::<Result<_, _>>()?;
    if tiers.len() < 3 {
        return Err(format!("{path}: there must be three tiers").into());
    }
    Ok(Prices { currency: text(table.get("currency")), gigabyte: whole(table.get("gigabyte")).unwrap_or(1_000_000_000), tiers })
}

fn lifecycles() -> Vec<Lifecycle> {
    let year = |name, cold_after: &[u32]| Lifecycle { name, cold_after: cold_after.into(), kept_days: 365, calendar: None };
    // The newest of a month is gone after eleven months, when that month comes again.
    let calendar = |name, cold_after: &[u32]| Lifecycle { name, cold_after: cold_after.into(), kept_days: 330, calendar: Some((7, 4, 12)) };
    vec![
        year("all warm, kept a year", &[]),
        year("cold after 30, kept a year", &[30]),
        year("cold after 7, archive after 97, kept a year", &[7, 97]),
        calendar("all warm, 7 daily 4 weekly 12 monthly", &[]),
        calendar("cold after 30, 7 daily 4 weekly 12 monthly", &[30]),
        calendar("cold after 7, 7 daily 4 weekly 12 monthly", &[7]),
    ]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let is_json = arguments.iter().any(|argument| argument == "--json");
    let prices = magnified(&prices_of(value("--prices").ok_or("--prices FILE")?)?);
    let days = value("--days").map_or(Ok(730), |days| days.parse())?;
    let workload = Workload { days, files: 60, pages: 512, pages_changed: 16 };
    if !is_json {
        println!(
            "| lifecycle | snapshots restored | MB at the end | MB-months | MB repacked | MB unneeded | deleted early | storage {0} | requests {0} | retrieval {0} | early deletion {0} | all {0} | newest {0} | oldest {0} | foretold % |",
            prices.currency
        );
        println!("|{}", "---|".repeat(15));
    }
    let only = value("--only").map_or("", String::as_str);
    for life in lifecycles().into_iter().filter(|life| life.name.contains(only)) {
        let began_ns = SystemClock.monotonic_ns();
        let outcome = run(workload, &life, &prices);
        let model = if life.cold_after.is_empty() { Row::of_model(&life, &outcome, &prices) } else { None };
        for row in [Some(Row::of(&life, &outcome, &prices)), model].into_iter().flatten() {
            if is_json { row.print_json() } else { row.print() }
        }
        eprintln!("{}: {} s", life.name, (SystemClock.monotonic_ns() - began_ns) / 1_000_000_000);
    }
    if !is_json {
        println!("\n{}", NOTES.replace("TIMES", &TIMES.to_string()));
    }
    Ok(())
}
