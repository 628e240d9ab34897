//! What a drill is going to do, said before it is done.

use super::Drill;

/// About how many tokens the question has, with what every API puts around it.
const QUESTION_TOKENS: u64 = 20;

impl Drill {
    /// What is going to happen, and what it may cost.
    #[must_use]
    pub fn announcement(&self) -> String {
        let settings = self.settings();
        let provider = self.primary.provider().map_or("nobody", |provider| provider.name());
        let mut text = format!(
            "Drill on the route {:?}: the provider {provider:?} is taken away ({}) between this process and it.\n",
            self.route, settings.fault,
        );
        let at_a_time = settings.concurrency.unwrap_or(1);
        let bound = match (settings.requests, settings.duration) {
            (Some(requests), None) => format!("of {requests} requests"),
            (None, Some(duration)) => format!("of {}", humantime::format_duration(duration)),
            (Some(requests), Some(duration)) => {
                format!("of {requests} requests or {}", humantime::format_duration(duration))
            }
            (None, None) => String::new(),
        };
        text += &format!("Before, during and after it, a phase {bound}, {at_a_time} at a time.\n");
        if self.is_simulated() {
            text += "Both providers are simulated: nothing leaves this machine.\n";
            return text;
        }
        text += "REAL PROVIDERS ARE ASKED, and will want to be paid: ";
        text += &match settings.requests {
            Some(requests) => {
                let all = 3 * requests;
                let (input, output) = (all * QUESTION_TOKENS, all * u64::from(settings.max_tokens));
                format!(
                    "about {all} requests, {input} tokens in and at most {output} out.\n\
                     Retries, and waiting for the primary's circuit, may add some.\n"
                )
            }
            None => format!(
                "as many requests as {at_a_time} at a time can be answered, each of about {QUESTION_TOKENS} tokens in and \
                 at most {} out.\n",
                settings.max_tokens,
            ),
        };
        text
    }
}
