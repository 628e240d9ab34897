//! Reads tables by name, and collects what is wrong instead of stopping at it.
//!
//! Each key is taken by its name; what is left over when a table is [finished](Table::finish) is unknown. A value
//! that cannot be used is reported and then treated as absent, so that reading goes on and finds the next mistake.

#[cfg(test)]
use std::collections::{BTreeMap, BTreeSet};
use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    fmt::Display,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    error::{ConfigError, ConfigErrors, position},
    mask::masked,
    value::Value,
};
use crate::Credentials;

/// The text, what may be looked up beside it, and what has been found wrong with it so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    origin: Arc<Path>,
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// How many secrets something else has stood in for; `None` where secrets are looked up.
    stand_ins: Option<Cell<u32>>,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<String>>,
    /// The text without its secrets, to be shown.
    masked: RefCell<String>,
    /// Which keys each table was asked for.
    #[cfg(test)]
    known: RefCell<BTreeMap<String, BTreeSet<&'static str>>>,
    /// The configuration that is to be replaced, if there is one.
    previous: Option<&'a Config>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, origin: &Path, environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let (errors, warnings, masked) = Default::default();
        Reader {
            text,
            origin: origin.into(),
            environment,
            stand_ins: None,
            errors,
            warnings,
            masked,
            previous: None,
            #[cfg(test)]
            known: RefCell::default(),
        }
    }

    /// Says which configuration this one is to replace.
    pub(super) fn after(self, previous: Option<&'a Config>) -> Self {
        Reader { previous, ..self }
    }

    /// Looks up no secret: whatever the file says where one is, something else stands in for it.
    #[cfg(feature = "gateway")]
    pub(super) fn without_secrets(self) -> Self {
        Reader { stand_ins: Some(Cell::new(0)), ..self }
    }

    /// The keys that the provider of that name has so far.
    pub(super) fn known_credentials(&self, provider: &str) -> Option<&Credentials> {
        Some(self.previous?.providers.get(provider)?.credentials())
    }

    /// The file's outermost table. Where the text is not TOML, its first mistake is reported: those that follow are
    /// mostly its consequences.
    pub(super) fn root(&'a self) -> Option<Table<'a>> {
        let root = Spot { reader: self, key: String::new(), at: 0..0 };
        let (table, mistakes) = DeTable::parse_recoverable(self.text);
        let end = self.text.len();
        let place = |mistake: &toml::de::Error| mistake.span().unwrap_or(end..end);
        // Of several at one place, the last is the most precise. Only its message is told: its `Display` quotes the
        // line, which may hold a key.
        match mistakes.iter().rev().min_by_key(|mistake| place(mistake).start) {
            None => {
                self.masked.replace(masked(self.text, Some(table.get_ref())));
                Some(Table::new(root, table.into_inner()))
            }
            Some(first) => {
                self.masked.replace(masked(self.text, None));
                root.at(place(first)).fail(first.message())
            }
        }
    }

    /// The variable of that name.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    /// Whether secrets, and the files that they are in, are looked up.
    pub(super) fn looks_up_secrets(&self) -> bool {
        self.stand_ins.is_none()
    }

    /// What stands in for a secret that is not looked up: each time something else, as keys are that go together.
    pub(super) fn stand_in(&self) -> Option<SecretString> {
        let count = self.stand_ins.as_ref()?;
        count.set(count.get() + 1);
        Some(format!("a-key-that-is-not-there-{}", count.get()).into())
    }

    /// Which keys each table was asked for, by the table's own.
    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeMap<String, BTreeSet<&'static str>> {
        self.known.borrow().clone()
    }

    /// Where a file is that the configuration names; a relative path starts where the configuration stands.
    pub(super) fn path(&self, named: &str) -> PathBuf {
        self.origin.parent().unwrap_or(Path::new("")).join(named)
    }

    /// What was wrong, and what was doubtful.
    pub(super) fn into_findings(self) -> (Option<ConfigErrors>, Vec<String>) {
        let errors = ConfigErrors::new(self.errors.into_inner(), self.masked.into_inner());
        (errors, self.warnings.into_inner())
    }
}

/// A place in the file: where a finding is reported.
#[derive(Clone)]
pub(super) struct Spot<'r> {
    reader: &'r Reader<'r>,
    key: String,
    at: Range<usize>,
}

impl<'r> Spot<'r> {
    pub(super) fn reader(&self) -> &'r Reader<'r> {
        self.reader
    }

    /// Reports a mistake.
    pub(super) fn report(&self, message: impl Display) {
        self.push(message, None);
    }

    /// Reports a mistake, and is the `None` that is read for it.
    pub(super) fn fail<T>(&self, message: impl Display) -> Option<T> {
        self.push(message, None);
        None
    }

    /// Reports a name that is not one of those known, with the one that it resembles.
    pub(super) fn report_unknown<'n>(
        &self,
        message: impl Display,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        self.push(message, closest(name, known).map(str::to_owned));
    }

    fn push(&self, message: impl Display, suggestion: Option<String>) {
        self.reader.errors.borrow_mut().push(ConfigError {
            file: self.reader.origin.clone(),
            position: Some(position(self.reader.text.as_bytes(), self.at.start)),
            span: Some(self.at.clone()),
            key: self.key.clone(),
            message: message.to_string(),
            suggestion,
        });
    }

    /// Notes something that works and should not stay.
    pub(super) fn warn(&self, message: impl Display) {
        let (line, column) = position(self.reader.text.as_bytes(), self.at.start);
        let warning = format!("{}:{line}:{column}: {}: {message}", self.reader.origin.display(), self.key);
        self.reader.warnings.borrow_mut().push(warning);
    }

    fn is_reported(&self) -> bool {
        self.reader.errors.borrow().iter().any(|error| error.key == self.key)
    }

    /// The spot of a key of this table.
    fn member(&self, name: &str, at: Range<usize>) -> Spot<'r> {
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
        Spot { reader: self.reader, key, at }
    }

    /// The spot of an element of this array.
    pub(super) fn element(&self, index: usize, at: Range<usize>) -> Spot<'r> {
        Spot { reader: self.reader, key: format!("{}[{index}]", self.key), at }
    }

    /// The same key, at another place in the file.
    fn at(self, at: Range<usize>) -> Spot<'r> {
        Spot { at, ..self }
    }
}

/// A table whose keys are taken one by one.
pub(super) struct Table<'r> {
    spot: Spot<'r>,
    /// In the order of the file.
    fields: Vec<Field<'r>>,
    /// The names asked for, and where those that the file has stand.
    taken: Vec<(&'static str, Option<Spot<'r>>)>,
}

struct Field<'r> {
    name: Cow<'r, str>,
    spot: Spot<'r>,
    value: Spanned<DeValue<'r>>,
}

impl<'r> Field<'r> {
    fn into_value(self) -> Value<'r> {
        // A table may be spread over the file; its key is where to look for it.
        let spot = match self.value.get_ref() {
            DeValue::Table(_) => self.spot,
            _ => self.spot.at(self.value.span()),
        };
        Value::new(spot, self.value.into_inner())
    }
}

impl<'r> Table<'r> {
    pub(super) fn new(spot: Spot<'r>, table: DeTable<'r>) -> Self {
        let mut fields: Vec<_> = table
            .into_iter()
            .map(|(name, value)| {
                // With the quotes that it is written with, so that one finds it.
                let written = spot.reader.text.get(name.span()).unwrap_or(name.get_ref());
                let spot = spot.member(written, name.span());
                Field { name: name.into_inner(), spot, value }
            })
            .collect();
        fields.sort_by_key(|field| field.spot.at.start);
        Table { spot, fields, taken: Vec::new() }
    }

    pub(super) fn spot(&self) -> &Spot<'r> {
        &self.spot
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The name of its only field, if that is a table.
    pub(super) fn only_table(&self) -> Option<&str> {
        match &*self.fields {
            [only] if matches!(only.value.get_ref(), DeValue::Table(_)) => Some(&only.name),
            _ => None,
        }
    }

    /// The value of that key, if the table has it. Each `take_…` makes the key a known one.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value<'r>> {
        let index = self.fields.iter().position(|field| field.name == name);
        let field = index.map(|index| self.fields.remove(index));
        self.taken.push((name, field.as_ref().map(|field| field.spot.clone())));
        field.map(Field::into_value)
    }

    /// Like [`take`](Table::take) for a key that must be there.
    pub(super) fn take_required(&mut self, name: &'static str) -> Option<Value<'r>> {
        let value = self.take(name);
        if value.is_none() {
            self.spot.member(name, self.spot.at.clone()).report("is missing");
        }
        value
    }

    pub(super) fn take_duration(&mut self, name: &'static str) -> Option<Duration> {
        self.take(name)?.duration()
    }

    pub(super) fn take_duration_or_zero(&mut self, name: &'static str) -> Option<Duration> {
        self.take(name)?.duration_or_zero()
    }

    /// A number of at least one.
    pub(super) fn take_u64(&mut self, name: &'static str) -> Option<u64> {
        self.take(name)?.u64()
    }

    /// A number of at least one.
    pub(super) fn take_u32(&mut self, name: &'static str) -> Option<u32> {
        self.take(name)?.u32()
    }

    pub(super) fn take_bool(&mut self, name: &'static str) -> Option<bool> {
        self.take(name)?.bool()
    }

    pub(super) fn take_table(&mut self, name: &'static str) -> Option<Table<'r>> {
        self.take(name)?.table()
    }

    pub(super) fn take_array(&mut self, name: &'static str) -> Option<Vec<Value<'r>>> {
        self.take(name)?.array()
    }

    /// A list of strings that are not empty.
    pub(super) fn take_strings(&mut self, name: &'static str) -> Option<Vec<Box<str>>> {
        Some(self.take_array(name)?.iter().filter_map(|value| Some(value.string()?.into())).collect())
    }

    /// Refuses a key that many expect here, and says why it is not.
    pub(super) fn refuse(&mut self, name: &str, why: &str) {
        if let Some(index) = self.fields.iter().position(|field| field.name == name) {
            self.fields.remove(index).spot.report(why);
        }
    }

    /// Checks that keys go together, and reports at the first of them that the table has. Where it has none, all are
    /// inherited and were checked where they stand.
    pub(super) fn check(&self, names: &[&str], holds: bool, message: impl FnOnce() -> String) {
        let mut present =
            self.taken.iter().filter(|(name, _)| names.contains(name)).filter_map(|(_, spot)| spot.as_ref());
        let Some(first) = present.next() else { return };
        if !holds && !first.is_reported() && !present.any(Spot::is_reported) {
            first.report(message());
        }
    }

    /// All keys, whatever their names, in the order of the file.
    pub(super) fn into_entries(self) -> impl Iterator<Item = (Cow<'r, str>, Value<'r>)> {
        self.fields.into_iter().map(|field| (field.name.clone(), field.into_value()))
    }

    /// Reports every key that nobody has taken.
    pub(super) fn finish(self) {
        #[cfg(test)]
        {
            let names = self.taken.iter().map(|(name, _)| *name);
            self.spot.reader.known.borrow_mut().entry(self.spot.key.clone()).or_default().extend(names);
        }
        for field in &self.fields {
            field.spot.report_unknown("unknown key", &field.name, self.taken.iter().map(|(name, _)| *name));
        }
    }
}

/// The known name that differs from `name` by the fewest slips of the hand, if they are few.
fn closest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let few = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= few)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_close_is_suggested() {
        let known = ["failures", "failure_rate", "open", "max_open"];
        assert_eq!(closest("failurs", known), Some("failures"));
        assert_eq!(closest("opne", known), Some("open"));
        assert_eq!(closest("max-open", known), Some("max_open"));
        assert_eq!(closest("colour", known), None);
        assert_eq!(closest("", known), None);
    }
}
