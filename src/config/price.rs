//! What a target charges: `price = { input = 3.0, output = 15.0, cached_input = 0.3 }`, in US dollars per million tokens.

use super::{reader::Table, value::Value};
use crate::Price;

/// Takes a target's `price`.
pub(super) fn read(target: &mut Table<'_>) -> Option<Price> {
    let mut table = target.take_table("price")?;
    let input = table.take_required("input").and_then(|value| usd(&value));
    let output = table.take_required("output").and_then(|value| usd(&value));
    let mut rest = |name| table.take(name).map(|value| usd(&value));
    let (cached_input, cache_write_input) = (rest("cached_input"), rest("cache_write_input"));
    table.finish();
    let mut price = Price::new(input?, output?).ok()?;
    if let Some(cached_input) = cached_input {
        price = price.with_cached_input(cached_input?).ok()?;
    }
    if let Some(cache_write_input) = cache_write_input {
        price = price.with_cache_write_input(cache_write_input?).ok()?;
    }
    Some(price)
}

fn usd(value: &Value<'_>) -> Option<f64> {
    match value.number()? {
        usd if usd.is_finite() && usd >= 0.0 => Some(usd),
        _ => value.spot().fail("must be a number of US dollars that is not negative"),
    }
}
