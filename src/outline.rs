//! What of a request's body every layer may ask for, found in one scan.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;

use crate::{
    Abilities, Ability, Requirements,
    dialect::json_scan::{self, Malformed, root_members},
};

/// What a request's JSON body says at its top: where its model stands, and whether it asks for a stream.
#[derive(Clone)]
pub struct RequestOutline {
    body: Bytes,
    model: Option<Range<usize>>,
    /// The model, in a dialect that names it in the path.
    named: Option<Box<str>>,
    /// A repeated key is legal JSON. Most parsers take the last one; all of them are replaced.
    earlier_models: Vec<Range<usize>>,
    streaming: bool,
    /// How many answers the client asks for at once.
    choices: u64,
    metering: Metering,
    /// What it may need, by the names at its top.
    mentioned: Abilities,
    /// The most tokens that it says it wants to have answered.
    max_output: Option<u64>,
    reading: &'static Reading,
}

/// How the bodies of a dialect say what they need.
pub(crate) struct Reading {
    /// Adds what a body says to what the request needs.
    pub(crate) add_requirements: fn(&[u8], &mut Requirements),
    /// Whether a body may need an ability, of those of which its top says nothing. It may say so where the body does not, but not
    /// the other way round, and is fast: it looks for words.
    pub(crate) may_need: fn(&[u8], Ability) -> bool,
}

/// Whether the word stands in a body: as a name or as a text of its own, for within a text its quotes would be escaped.
pub(crate) fn says(body: &[u8], quoted: &str) -> bool {
    memchr::memmem::find(body, quoted.as_bytes()).is_some()
}

/// What a request may need that has a member of that name at its top. No two dialects mean different things by one.
fn mentioned_by(name: &[u8]) -> &'static [Ability] {
    match name {
        b"tools" | b"functions" => &[Ability::Tools],
        b"parallel_tool_calls" | b"tool_choice" => &[Ability::ParallelTools],
        b"response_format" | b"output_format" | b"text" => &[Ability::StructuredOutput],
        b"output_config" | b"generationConfig" => &[Ability::StructuredOutput, Ability::Reasoning],
        b"reasoning_effort" | b"reasoning" | b"thinking" => &[Ability::Reasoning],
        _ => &[],
    }
}

/// How a stream is made to tell what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Metering {
    /// The client asked for it.
    Asked,
    /// The request says nothing of it yet: this goes in at its beginning, behind the brace.
    Missing { text: &'static str },
    /// This goes in there.
    Splice { place: Range<usize>, text: &'static str },
}

/// Without the body, which is what a user wrote.
impl fmt::Debug for RequestOutline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestOutline")
            .field("bytes", &self.body.len())
            .field("streaming", &self.streaming)
            .finish_non_exhaustive()
    }
}

impl RequestOutline {
    pub(crate) fn new(body: Bytes, reading: &'static Reading) -> Self {
        let metering = Metering::Missing { text: r#""stream_options":{"include_usage":true},"# };
        RequestOutline {
            body,
            model: None,
            named: None,
            earlier_models: Vec::new(),
            streaming: false,
            choices: 1,
            metering,
            mentioned: Abilities::NONE,
            max_output: None,
            reading,
        }
    }

    /// Of a dialect that names the model and whether to stream in the body, and whose streams tell their usage unasked.
    pub(crate) fn telling_usage(body: &Bytes, reading: &'static Reading) -> Result<Self, Malformed> {
        let mut outline = RequestOutline::new(body.clone(), reading);
        outline.set_metering(Metering::Asked);
        for member in root_members(body)? {
            let (key, value) = member?;
            match &*key {
                "model" if value.is_string() => outline.add_model(value.range()),
                "stream" => outline.set_streaming(value.is_true()),
                "max_tokens" | "max_output_tokens" => outline.add_max_output(value.as_u64()),
                name => outline.mention(name.as_bytes()),
            }
        }
        Ok(outline)
    }

    pub(crate) fn set_metering(&mut self, metering: Metering) {
        self.metering = metering;
    }

    /// Whether it asks for a stream that tells its usage.
    pub(crate) fn wants_usage(&self) -> bool {
        self.metering == Metering::Asked
    }

    /// Whether it asks for a stream, and not for its usage.
    pub(crate) fn needs_metering(&self) -> bool {
        self.streaming && !self.wants_usage()
    }

    /// Counts the tokens of its input.
    #[cfg(feature = "tokenizer")]
    pub(crate) fn count(&self, dialect: crate::Dialect) -> Option<crate::dialect::Counted> {
        crate::dialect::Counted::of(dialect, &self.body)
    }

    /// Adds what the body says to what the request needs. Unlike the rest of the outline this takes a second look at it.
    pub(crate) fn add_requirements(&self, needs: &mut Requirements) {
        (self.reading.add_requirements)(&self.body, needs);
        // Gemini's requests say so in their path.
        if self.streaming {
            needs.abilities.insert(Ability::Streaming);
        }
        // A quarter less: the estimate's error, where it says too much.
        needs.least_input_tokens = Some(needs.input_tokens / 4 * 3);
    }

    /// Takes in that there is a member of that name at its top.
    pub(crate) fn mention(&mut self, name: &[u8]) {
        mentioned_by(name).iter().for_each(|ability| self.mentioned.insert(*ability));
    }

    /// Takes in how long its answer may be.
    pub(crate) fn add_max_output(&mut self, tokens: Option<u64>) {
        self.max_output = self.max_output.max(tokens);
    }

    /// Whether the request may need the ability. It surely does not where this says no, but for a word that is spelled with
    /// escapes: such a request is refused by its target.
    pub(crate) fn may_need(&self, ability: Ability) -> bool {
        match ability {
            Ability::Streaming => self.streaming,
            Ability::Tools | Ability::ParallelTools | Ability::StructuredOutput | Ability::Reasoning => {
                self.mentioned.contains(ability)
            }
            deeper => (self.reading.may_need)(&self.body, deeper),
        }
    }

    /// Whether a window of so many tokens surely holds its input.
    pub(crate) fn surely_fits(&self, window: u64) -> bool {
        /// An image counts for fewer tokens a byte that it takes at the least to tell of it.
        const IN_IMAGES: u64 = 20;
        // No text has more tokens than bytes.
        let bytes = self.body.len() as u64;
        bytes < window && (bytes * IN_IMAGES < window || !self.may_need(Ability::ImageInput))
    }

    /// The most tokens that it says it wants to have answered.
    pub(crate) fn max_output(&self) -> Option<u64> {
        self.max_output
    }

    /// Adds a place where the value of `model` stands, quotes included.
    pub(crate) fn add_model(&mut self, range: Range<usize>) {
        self.earlier_models.extend(self.model.replace(range));
    }

    pub(crate) fn set_streaming(&mut self, streaming: bool) {
        self.streaming = streaming;
    }

    pub(crate) fn set_choices(&mut self, choices: u64) {
        self.choices = choices;
    }

    /// How many answers the client asks for at once.
    #[must_use]
    pub fn choices(&self) -> u64 {
        self.choices
    }

    /// Whether the client asks for a stream.
    #[must_use]
    pub fn streaming(&self) -> bool {
        self.streaming
    }

    /// Says the model that the path names.
    pub(crate) fn set_named(&mut self, model: &str) {
        self.named = Some(model.into());
    }

    /// The model that the client asks for, be it in the body or in the path.
    #[must_use]
    pub fn model(&self) -> Option<Cow<'_, str>> {
        match &self.named {
            Some(named) => Some(Cow::Borrowed(named)),
            None => json_scan::unquote(self.model_json()?),
        }
    }

    /// The JSON text of the model that the client asks for, quotes included.
    #[must_use]
    pub fn model_json(&self) -> Option<&[u8]> {
        self.model.clone().map(|range| &self.body[range])
    }

    /// Whether this is the outline of that very body: a layer in between may have put another in its place.
    #[must_use]
    pub fn is_of(&self, body: &Bytes) -> bool {
        // The body held here keeps its memory from being used again.
        std::ptr::eq(self.body.as_ptr(), body.as_ptr()) && self.body.len() == body.len()
    }

    /// The body with the model replaced and, for a stream that is to be metered, asked for its usage; every other byte is
    /// as it was.
    pub(crate) fn rewritten(&self, model_json: Option<&[u8]>, metered: bool) -> Bytes {
        let same_model = self.earlier_models.is_empty() && self.model_json() == model_json;
        let metering = if metered && self.needs_metering() { self.metering_splice() } else { None };
        if metering.is_none() && (model_json.is_none() || same_model) {
            return self.body.clone();
        }
        let models = self.earlier_models.iter().chain(&self.model).cloned();
        let models = model_json.into_iter().flat_map(|json| models.clone().map(move |range| (range, json)));
        let mut splices: Vec<_> = models.chain(metering).collect();
        splices.sort_by_key(|(place, _)| place.start);
        let added: usize = splices.iter().map(|(_, text)| text.len()).sum();
        let mut spliced = Vec::with_capacity(self.body.len() + added);
        let mut copied = 0;
        for (place, text) in splices {
            spliced.extend_from_slice(&self.body[copied..place.start]);
            spliced.extend_from_slice(text);
            copied = place.end;
        }
        spliced.extend_from_slice(&self.body[copied..]);
        spliced.into()
    }

    fn metering_splice(&self) -> Option<(Range<usize>, &'static [u8])> {
        match &self.metering {
            Metering::Asked => None,
            Metering::Splice { place, text } => Some((place.clone(), text.as_bytes())),
            Metering::Missing { text } => {
                let inside = memchr::memchr(b'{', &self.body)? + 1;
                Some((inside..inside, text.as_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Reading = Reading { add_requirements: |_, _| {}, may_need: |_, _| false };

    fn outline(body: &'static str) -> RequestOutline {
        let mut outline = RequestOutline::new(Bytes::from_static(body.as_bytes()), &NONE);
        let mut from = 0;
        while let Some(at) = body[from..].find("\"old\"") {
            outline.add_model(from + at..from + at + 5);
            from += at + 5;
        }
        outline
    }

    #[test]
    fn only_the_model_changes() {
        let outline = outline(r#"{ "model" :"old","n":1.0e0,"x":"old"#);
        assert_eq!(outline.rewritten(Some(b"\"newer\""), false), &br#"{ "model" :"newer","n":1.0e0,"x":"old"#[..]);
    }

    #[test]
    fn a_repeated_model_is_replaced_everywhere() {
        let outline = outline(r#"{"model":"old","model":"old"}"#);
        assert_eq!(outline.rewritten(Some(b"\"n\""), false), &br#"{"model":"n","model":"n"}"#[..]);
        assert_eq!(outline.model_json(), Some(&b"\"old\""[..]));
    }

    #[test]
    fn the_same_model_costs_no_copy() {
        let outline = outline(r#"{"model":"old"}"#);
        assert!(outline.is_of(&outline.rewritten(Some(b"\"old\""), false)));
        assert!(!outline.is_of(&Bytes::copy_from_slice(br#"{"model":"old"}"#)));
    }
}
