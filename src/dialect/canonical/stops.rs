//! Stop sequences for targets that know none, or not so many.

use super::{Answer, Block, Event, Finish, Part, Text};
use crate::{Usage, usage::Written};

/// Ends an answer at the first of its stop sequences, as a provider would. Of a stream no more is held than may be the
/// beginning of one.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    stops: Vec<String>,
    held: String,
    in_text: bool,
    /// One was found: nothing behind it is told.
    found: bool,
    /// What the stream said last of what it costs.
    usage: Option<Usage>,
    written: Written,
}

impl Stops {
    pub(crate) fn new<'s>(stops: impl IntoIterator<Item = &'s Text<'s>>) -> Self {
        let stops = stops.into_iter().map(|stop| stop.decoded().into_owned()).filter(|stop| !stop.is_empty());
        Stops { stops: stops.collect(), ..Stops::default() }
    }

    /// Whether the answer has come to its end.
    pub(crate) fn found(&self) -> bool {
        self.found
    }

    /// What an answer that was ended probably cost, for a request of so many tokens: who would have counted them is asked no
    /// more.
    pub(crate) fn usage(&self, input: u64) -> Usage {
        let estimate = self.written.estimate(input);
        match &self.usage {
            Some(told) => Usage { output: told.output.max(estimate.output), ..*told },
            None => estimate,
        }
    }

    /// Passes an event on, or what is left of it.
    pub(crate) fn event(&mut self, event: Event<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.found {
            return;
        }
        match &event {
            Event::Delta(text) => self.written.all += text.as_escaped().len() as u64,
            Event::Usage(usage) => self.usage = Some(*usage),
            _ => {}
        }
        match event {
            Event::Delta(text) if self.in_text => self.text(&text, sink),
            Event::Begin(block) => {
                self.in_text = block == Block::Text;
                sink(Event::Begin(block));
            }
            Event::End => {
                self.tell(self.held.len(), sink);
                self.in_text = false;
                sink(Event::End);
            }
            event => sink(event),
        }
    }

    fn text(&mut self, text: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.held.push_str(&text.decoded());
        if let Some((at, stop)) = first_of(&self.stops, &self.held) {
            let stop = Text::plain(stop);
            self.tell(at, sink);
            self.found = true;
            sink(Event::End);
            sink(Event::Finish(Finish::StopSequence(stop)));
            return;
        }
        let may_begin = |rest: &str| self.stops.iter().any(|stop| stop.starts_with(rest));
        let starts = self.held.char_indices().map(|(at, _)| at);
        let kept = starts.into_iter().find(|at| may_begin(&self.held[*at..])).unwrap_or(self.held.len());
        self.tell(kept, sink);
    }

    /// Tells as much of what is held.
    fn tell(&mut self, length: usize, sink: &mut dyn FnMut(Event<'_>)) {
        if length > 0 {
            sink(Event::Delta(Text::plain(&self.held[..length])));
            self.held.drain(..length);
        }
    }

    /// Ends an answer in one piece.
    pub(crate) fn cut(&self, answer: &mut Answer<'_>) {
        for index in 0..answer.parts.len() {
            let Part::Text { text, .. } = &mut answer.parts[index] else { continue };
            let whole = text.decoded().into_owned();
            if let Some((at, stop)) = first_of(&self.stops, &whole) {
                *text = Text::plain(&whole[..at]);
                answer.finish = Finish::StopSequence(Text::plain(stop));
                answer.parts.truncate(index + 1);
                return;
            }
        }
    }
}

/// Where the first of them stands, and which one that is.
fn first_of<'s>(stops: &'s [String], text: &str) -> Option<(usize, &'s str)> {
    stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop.as_str()))).min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    fn told(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let stops: Vec<_> = stops.iter().map(|stop| Text::plain(stop)).collect();
        let (mut stops, mut text, mut finish) = (Stops::new(&stops), String::new(), None);
        let mut sink = |event: Event<'_>| match event {
            Event::Delta(piece) => text.push_str(&piece.decoded()),
            Event::Finish(Finish::StopSequence(stop)) => finish = Some(stop.decoded().into_owned()),
            _ => {}
        };
        stops.event(Event::Begin(Block::Text), &mut sink);
        for piece in pieces {
            stops.event(Event::Delta(Text::plain(piece)), &mut sink);
        }
        stops.event(Event::End, &mut sink);
        (text, finish)
    }

    #[test]
    fn an_answer_ends_at_its_stop_sequence_wherever_it_is_cut() {
        let whole = "one\ntwo é STOP three";
        for cut in (0..=whole.len()).filter(|cut| whole.is_char_boundary(*cut)) {
            let pieces = [&whole[..cut], &whole[cut..]];
            assert_eq!(told(&["STOP", "never"], &pieces), ("one\ntwo é ".to_owned(), Some("STOP".to_owned())), "{cut}");
            assert_eq!(told(&["STOPS", "three!"], &pieces), (whole.to_owned(), None), "{cut}");
        }
        assert_eq!(told(&["b", "a"], &["xab"]), ("x".to_owned(), Some("a".to_owned())));
    }

    #[test]
    fn an_answer_that_was_ended_tells_what_it_cost_all_the_same() {
        let mut stops = Stops::new(&[Text::plain("STOP")]);
        stops.event(Event::Begin(Block::Text), &mut |_| {});
        stops.event(Event::Delta(Text::plain("one two STOP three")), &mut |_| {});
        assert!(stops.found());
        let estimate = Usage { input: 7, output: 5, estimated: true, ..Usage::default() };
        assert_eq!(stops.usage(7), estimate);
        // What was told so far is better, but for an output that is only begun to be counted.
        let mut stops = Stops::new(&[Text::plain("STOP")]);
        stops.event(Event::Usage(Usage { input: 9, output: 1, ..Usage::default() }), &mut |_| {});
        stops.event(Event::Begin(Block::Text), &mut |_| {});
        stops.event(Event::Delta(Text::plain("one two STOP three")), &mut |_| {});
        assert_eq!(stops.usage(7), Usage { input: 9, output: 5, ..Usage::default() });
    }

    #[test]
    fn an_answer_in_one_piece_ends_there_too() {
        let mut answer = Answer::new(Dialect::OpenAiResponses);
        answer.parts = ["no", "a STOP b", "c"].map(|text| Part::text(Text::plain(text))).into();
        Stops::new(&[Text::plain("STOP")]).cut(&mut answer);
        assert_eq!(answer.parts, ["no", "a "].map(|text| Part::text(Text::plain(text))));
        assert_eq!(answer.finish, Finish::StopSequence(Text::plain("STOP")));
    }
}
