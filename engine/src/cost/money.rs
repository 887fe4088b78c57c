//! Amounts and rates as integers.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// An amount, in millionths of the currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u64);

impl Money {
    /// The millionths.
    pub fn millionths(self) -> u64 {
        self.0
    }

    /// So many millionths.
    pub fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Money {
    /// All six places, so that what is shown adds up: `1.234500`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A price, in billionths of the currency for a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// The billionths.
    pub fn billionths(self) -> u64 {
        self.0
    }

    /// So many billionths.
    pub fn from_billionths(billionths: u64) -> Self {
        Self(billionths)
    }

    /// Reads a decimal number that is not negative, with at most nine places: `0.023`.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let are_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !are_digits(whole) || !are_digits(places) || places.len() > 9 {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        let places: u64 = format!("{places:0<9}").parse().ok()?;
        whole.checked_mul(1_000_000_000)?.checked_add(places).map(Self)
    }
}

/// Gives out amounts that are not whole so that they add up: each gets what the sum so far, rounded down, grew by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ledger {
    exact: u128,
    given: u64,
}

impl Ledger {
    /// The next amount: `exact / per` millionths. All calls of one ledger have the same `per`, which is not 0.
    pub fn take(&mut self, exact: u128, per: u128) -> Money {
        self.exact = self.exact.saturating_add(exact);
        let sum = u64::try_from(self.exact / per.max(1)).unwrap_or(u64::MAX);
        let amount = sum - self.given;
        self.given = sum;
        Money(amount)
    }
}
