//! One value: what it must be, and what is said when it is not.

use std::{
    num::{IntErrorKind, ParseIntError},
    time::Duration,
};

use toml::de::DeValue;

use super::reader::{Spot, Table};

/// Far more than any timeout needs, and little enough to be added to any point in time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A value and its place. What it is not is reported there, and read as `None`.
pub(super) struct Value<'r> {
    spot: Spot<'r>,
    value: DeValue<'r>,
}

impl<'r> Value<'r> {
    pub(super) fn new(spot: Spot<'r>, value: DeValue<'r>) -> Self {
        Value { spot, value }
    }

    pub(super) fn spot(&self) -> &Spot<'r> {
        &self.spot
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    /// A string that is not empty.
    pub(super) fn string(&self) -> Option<&str> {
        match self.value.as_str() {
            Some("") => self.spot.fail("is empty"),
            Some(text) => Some(text),
            None => self.fail_type("a string"),
        }
    }

    pub(super) fn string_or_empty(&self) -> Option<&str> {
        self.value.as_str().or_else(|| self.fail_type("a string"))
    }

    pub(super) fn bool(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.fail_type("true or false"))
    }

    /// A number of at least one.
    pub(super) fn u64(&self) -> Option<u64> {
        let Some(number) = self.integer() else { return self.fail_type("a whole number") };
        match number {
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => self.spot.fail("is too large"),
            Ok(0) | Err(_) => self.spot.fail("must be at least 1"),
            Ok(number) => Some(number),
        }
    }

    /// A number of at least one.
    pub(super) fn u32(&self) -> Option<u32> {
        let number = self.u64()?;
        u32::try_from(number).ok().or_else(|| self.spot.fail(format_args!("must be at most {}", u32::MAX)))
    }

    pub(super) fn u32_or_zero(&self) -> Option<u32> {
        let Some(number) = self.integer() else { return self.fail_type("a whole number") };
        let number = number.ok().and_then(|number| u32::try_from(number).ok());
        number.or_else(|| self.spot.fail(format_args!("must be from 0 to {}", u32::MAX)))
    }

    /// Whether it is that string.
    pub(super) fn is_string(&self, text: &str) -> bool {
        self.value.as_str() == Some(text)
    }

    /// Any number.
    pub(super) fn number(&self) -> Option<f64> {
        match &self.value {
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|it| it as f64)
            }
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => self.fail_type("a number"),
        }
    }

    /// A share: 0 to 1.
    pub(super) fn ratio(&self) -> Option<f64> {
        let share = match &self.value {
            DeValue::Integer(_) => self.integer().and_then(Result::ok).map(|number| number as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => return self.fail_type("a number from 0 to 1"),
        };
        match share {
            Some(share) if (0.0..=1.0).contains(&share) => Some(share),
            _ => self.spot.fail("must be from 0 to 1"),
        }
    }

    /// A share above 0: at 0, every call would be too many.
    pub(super) fn positive_ratio(&self) -> Option<f64> {
        match self.ratio()? {
            share if share > 0.0 => Some(share),
            _ => self.spot.fail("must be above 0, and at most 1"),
        }
    }

    /// A span of time that is longer than none.
    pub(super) fn duration(&self) -> Option<Duration> {
        match self.duration_or_zero()? {
            Duration::ZERO => self.spot.fail("must be longer than 0s"),
            duration => Some(duration),
        }
    }

    pub(super) fn duration_or_zero(&self) -> Option<Duration> {
        const EXPECTED: &str = "a duration such as \"250ms\", \"2s\" or \"5m\"";
        let Some(text) = self.value.as_str() else { return self.fail_type(EXPECTED) };
        match humantime::parse_duration(text) {
            Ok(duration) if duration > LONGEST => self.spot.fail("must be at most a year"),
            Ok(duration) => Some(duration),
            Err(_) => self.spot.fail(format_args!("is not {EXPECTED}")),
        }
    }

    /// A number of bytes: `"32MiB"`, or a plain number.
    pub(super) fn size(&self) -> Option<usize> {
        const EXPECTED: &str = "a size such as \"32MiB\" or a number of bytes";
        let bytes = match &self.value {
            DeValue::Integer(_) => self.integer().and_then(Result::ok),
            DeValue::String(text) => parse_size(text),
            _ => return self.fail_type(EXPECTED),
        };
        match bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            None => self.spot.fail(format_args!("is not {EXPECTED}")),
            Some(0) => self.spot.fail("must be at least one byte"),
            Some(bytes) => Some(bytes),
        }
    }

    /// One of `known` names.
    pub(super) fn choice(&self, known: &[&'static str]) -> Option<&'static str> {
        let text = self.string()?;
        let found = known.iter().copied().find(|name| *name == text);
        found.or_else(|| {
            let expected: Vec<_> = known.iter().map(|name| format!("{name:?}")).collect();
            let message = format!("unknown value; expected {}", expected.join(" or "));
            self.spot.report_unknown(message, text, known.iter().copied());
            None
        })
    }

    pub(super) fn table(self) -> Option<Table<'r>> {
        match self.value {
            DeValue::Table(table) => Some(Table::new(self.spot, table)),
            _ => self.fail_type("a table"),
        }
    }

    pub(super) fn array(self) -> Option<Vec<Value<'r>>> {
        let DeValue::Array(array) = self.value else { return self.fail_type("a list") };
        let elements = array
            .into_iter()
            .enumerate()
            .map(|(index, element)| Value::new(self.spot.element(index, element.span()), element.into_inner()));
        Some(elements.collect())
    }

    /// The integer; `Err` where it is negative or too large.
    fn integer(&self) -> Option<Result<u64, ParseIntError>> {
        let integer = self.value.as_integer()?;
        Some(u64::from_str_radix(integer.as_str(), integer.radix()))
    }

    /// Reports that it should be something else. It does not show what it is: that may be a key in the wrong place.
    pub(super) fn fail_type<T>(&self, expected: &str) -> Option<T> {
        let article = if matches!(self.value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.spot.fail(format_args!("expected {expected}, found {article} {}", self.value.type_str()))
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_or_decimal() {
        for (text, bytes) in [
            ("32MiB", Some(32 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("5KB", Some(5_000)),
            ("12", Some(12)),
            ("7B", Some(7)),
            ("", None),
            ("MiB", None),
            ("-1MiB", None),
            ("1.5MiB", None),
            ("32mib", None),
            ("1\u{b5}B", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
