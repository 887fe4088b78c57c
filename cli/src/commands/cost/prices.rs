//! The file with prices.

use crate::exit::{Usage, usage};
use crate::nearest::advice;
use icecore::cost::{Prices, Rate, TierPrices};
use std::path::Path;
use toml::{Table, Value};

const OF_FILE: [&str; 3] = ["currency", "gigabyte", "tier"];
const OF_TIER: [&str; 7] = ["name", "storage", "put", "get", "retrieval", "egress", "minimum-days"];

/// Reads it; what it does not know is refused, and what is not priced costs nothing.
pub(super) fn read(path: &Path) -> anyhow::Result<Prices> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Usage(format!("prices {shown}: {error}")))?;
    parse(&text).map_err(|what| usage(format!("prices {shown}: {what}")))
}

fn parse(text: &str) -> Result<Prices, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    known(&table, &OF_FILE)?;
    let currency = table.get("currency").map_or(Some(""), Value::as_str).ok_or("`currency` must be a text")?.to_owned();
    let gigabyte = match table.get("gigabyte") {
        None => 1_000_000_000,
        Some(value) => value
            .as_integer()
            .and_then(|bytes| u64::try_from(bytes).ok())
            .filter(|bytes| *bytes > 0)
            .ok_or("`gigabyte` must be a number of bytes")?,
    };
    let tiers = table.get("tier").and_then(Value::as_array).filter(|tiers| !tiers.is_empty()).ok_or("there must be a [[tier]] at least")?;
    let tiers = tiers.iter().map(|tier| tier_of(tier.as_table().ok_or("each [[tier]] must be a table")?)).collect::<Result<_, _>>()?;
    Ok(Prices { currency, gigabyte, tiers })
}

fn tier_of(table: &Table) -> Result<(String, TierPrices), String> {
    known(table, &OF_TIER)?;
    let name = table.get("name").and_then(Value::as_str).ok_or("each [[tier]] must have a `name`")?.to_owned();
    let rate = |key: &str| match table.get(key) {
        None => Ok(Rate::default()),
        Some(value) => rate_of(value).ok_or_else(|| format!("tier `{name}`: `{key}` must be a price with at most nine places, like 0.023")),
    };
    let (storage, put, get) = (rate("storage")?, rate("put")?, rate("get")?);
    let (retrieval, egress) = (rate("retrieval")?, rate("egress")?);
    let minimum_days = match table.get("minimum-days") {
        None => 0,
        Some(days) => days.as_integer().and_then(|days| u32::try_from(days).ok()).ok_or("`minimum-days` must be a number of days")?,
    };
    Ok((name, TierPrices { storage, put, get, retrieval, egress, minimum_days }))
}

/// As it was typed: the shortest text of a number is read again.
fn rate_of(value: &Value) -> Option<Rate> {
    match value {
        Value::String(text) => Rate::parse(text),
        Value::Integer(number) => Rate::parse(&number.to_string()),
        Value::Float(number) => Rate::parse(&number.to_string()),
        _ => None,
    }
}

fn known(table: &Table, keys: &[&str]) -> Result<(), String> {
    match table.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(format!("there is no key `{key}`{}", advice(key, keys.iter().copied()))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_as_they_are_written() {
        let prices = parse("currency = 'EUR'\n[[tier]]\nname = 'warm'\nstorage = 0.023\nput = \"0.000000001\"\nget = 2\n[[tier]]\nname = 'cold'\nminimum-days = 90").unwrap();
        assert_eq!((prices.currency.as_str(), prices.gigabyte, prices.tiers.len()), ("EUR", 1_000_000_000, 2));
        let (_, warm) = &prices.tiers[0];
        assert_eq!([warm.storage, warm.put, warm.get].map(Rate::billionths), [23_000_000, 1, 2_000_000_000]);
        assert_eq!((warm.egress, prices.tiers[1].1.minimum_days), (Rate::default(), 90));
    }

    #[test]
    fn what_means_nothing_is_refused_and_named() {
        for (text, named) in [
            ("", "[[tier]]"),
            ("tier = []", "[[tier]]"),
            ("[[tier]]\nstorage = 1", "name"),
            ("[[tier]]\nname = 'a'\nstorage = -1", "storage"),
            ("[[tier]]\nname = 'a'\nput = 'x'", "put"),
            ("[[tier]]\nname = 'a'\nstorrage = 1", "storrage"),
            ("[[tier]]\nname = 'a'\nminimum-days = -1", "minimum-days"),
            ("gigabyte = 0\n[[tier]]\nname = 'a'", "gigabyte"),
            ("x", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn the_examples_can_be_read() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/prices"));
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 4);
        for file in files {
            assert!(!read(&file).unwrap().currency.is_empty(), "{}", file.display());
        }
    }
}
