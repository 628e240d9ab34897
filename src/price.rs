//! What tokens are charged at, and what an answer so cost.

use std::{fmt, iter::Sum, ops::Add};

use crate::Usage;

/// What a target charges, in US dollars per million tokens.
///
/// ```
/// use tower_failover::{Price, Usage};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let price = Price::new(3.0, 15.0)?.with_cached_input(0.3)?;
/// let mut usage = Usage::default();
/// (usage.input, usage.cached_input, usage.output) = (1_000_000, 500_000, 100_000);
/// assert_eq!(price.cost(&usage).usd(), 1.5 + 0.15 + 1.5);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    input: f64,
    output: f64,
    cached_input: Option<f64>,
    cache_write_input: Option<f64>,
}

impl Price {
    /// What a million tokens of input and of output (reasoning included) cost.
    ///
    /// # Errors
    ///
    /// When one of them is negative or not finite.
    pub fn new(input: f64, output: f64) -> Result<Self, InvalidPrice> {
        Ok(Price { input: checked(input)?, output: checked(output)?, cached_input: None, cache_write_input: None })
    }

    /// What a million tokens of input cost that come from the provider's cache. Default: what all input costs.
    ///
    /// # Errors
    ///
    /// When it is negative or not finite.
    pub fn with_cached_input(mut self, cached_input: f64) -> Result<Self, InvalidPrice> {
        self.cached_input = Some(checked(cached_input)?);
        Ok(self)
    }

    /// What a million tokens of input cost that are put into the provider's cache. Default: what all input costs.
    ///
    /// # Errors
    ///
    /// When it is negative or not finite.
    pub fn with_cache_write_input(mut self, cache_write_input: f64) -> Result<Self, InvalidPrice> {
        self.cache_write_input = Some(checked(cache_write_input)?);
        Ok(self)
    }

    /// A million tokens of input, in US dollars.
    #[must_use]
    pub fn input(&self) -> f64 {
        self.input
    }

    /// A million tokens of output, in US dollars.
    #[must_use]
    pub fn output(&self) -> f64 {
        self.output
    }

    /// A million tokens of input out of the provider's cache, in US dollars.
    #[must_use]
    pub fn cached_input(&self) -> f64 {
        self.cached_input.unwrap_or(self.input)
    }

    /// A million tokens of input put into the provider's cache, in US dollars.
    #[must_use]
    pub fn cache_write_input(&self) -> f64 {
        self.cache_write_input.unwrap_or(self.input)
    }

    /// What an answer cost.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Cost {
        let fresh = usage.input.saturating_sub(usage.cached_input.saturating_add(usage.cache_write_input));
        let of = |tokens: u64, per_million: f64| tokens as f64 * per_million / 1e6;
        let usd = of(fresh, self.input)
            + of(usage.cached_input, self.cached_input())
            + of(usage.cache_write_input, self.cache_write_input())
            + of(usage.output, self.output);
        Cost { usd, estimated: usage.estimated }
    }
}

fn checked(usd: f64) -> Result<f64, InvalidPrice> {
    if usd.is_finite() && usd >= 0.0 { Ok(usd) } else { Err(InvalidPrice(())) }
}

/// A price that is negative or not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPrice(());

impl fmt::Display for InvalidPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a price must be a number of US dollars that is not negative")
    }
}

impl std::error::Error for InvalidPrice {}

/// What something cost. Sums of costs are estimates as soon as one of them is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    usd: f64,
    estimated: bool,
}

impl Cost {
    pub(crate) const fn new(usd: f64, estimated: bool) -> Self {
        Cost { usd, estimated }
    }

    /// In US dollars.
    #[must_use]
    pub fn usd(self) -> f64 {
        self.usd
    }

    /// Whether the [`Usage`] that it comes from is an estimate.
    #[must_use]
    pub fn is_estimated(self) -> bool {
        self.estimated
    }
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost { usd: self.usd + other.usd, estimated: self.estimated || other.estimated }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Add::add)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.estimated { "about " } else { "" };
        write!(f, "{about}${:.6}", self.usd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, cached_input: u64, cache_write_input: u64, output: u64) -> Usage {
        Usage { input, cached_input, cache_write_input, output, ..Usage::default() }
    }

    #[test]
    fn each_kind_of_token_has_its_price_and_counts_once() {
        let price = Price::new(3.0, 15.0).unwrap();
        let cost = |price: Price, usage: Usage| (price.cost(&usage).usd() * 1e6).round();
        assert_eq!(cost(price, usage(100, 40, 20, 10)), 300.0 + 150.0, "without prices of its own, the cache is input");
        let price = price.with_cached_input(0.3).unwrap().with_cache_write_input(3.75).unwrap();
        assert_eq!(cost(price, usage(100, 40, 20, 10)), 120.0 + 12.0 + 75.0 + 150.0);
        assert_eq!(cost(price, usage(10, 40, 0, 0)), 12.0, "a provider that counts its cache beside its input");
    }

    #[test]
    fn an_estimate_stays_one_in_a_sum() {
        let price = Price::new(1.0, 1.0).unwrap();
        let told = price.cost(&usage(1_000_000, 0, 0, 0));
        let guessed = price.cost(&Usage { estimated: true, ..usage(500_000, 0, 0, 0) });
        assert!(!told.is_estimated() && (told + told).usd() == 2.0);
        let sum: Cost = [told, guessed].into_iter().sum();
        assert!(sum.is_estimated());
        assert_eq!((sum.to_string(), told.to_string()), ("about $1.500000".into(), "$1.000000".into()));
    }

    #[test]
    fn a_price_that_is_none_is_refused() {
        for wrong in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(Price::new(wrong, 1.0).is_err() && Price::new(1.0, wrong).is_err());
            let price = Price::new(0.0, 0.0).unwrap();
            assert!(price.with_cached_input(wrong).is_err() && price.with_cache_write_input(wrong).is_err());
        }
    }
}
