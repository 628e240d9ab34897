//! Which API a request is for: one provider answers them all, side by side.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};

use super::builder::Settings;
use super::exchange::Outcome;
use super::script::Steps;
use super::server::Server;
use super::{SimulatedFault, anthropic_messages, gemini, openai, openai_chat, openai_responses};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    OpenAiChat,
    OpenAiResponses,
    AnthropicMessages,
    Gemini,
}

impl Api {
    /// By its path; where two have the same, by the header that one of them wants.
    pub(super) fn of(parts: &Parts) -> Self {
        let path = parts.uri.path();
        let is_shared = path.starts_with("/v1/models");
        if path.starts_with("/v1/messages") || is_shared && parts.headers.contains_key("anthropic-version") {
            Self::AnthropicMessages
        } else if gemini::is_known(path) {
            Self::Gemini
        } else if path == openai_responses::PATH {
            Self::OpenAiResponses
        } else {
            Self::OpenAiChat
        }
    }

    /// What one request is told while the provider is healthy.
    pub(super) fn outcome(self, server: &Server, parts: &Parts, body: &Bytes) -> Outcome {
        match self {
            Self::OpenAiChat => openai_chat::outcome(server, parts, body),
            Self::OpenAiResponses => openai_responses::outcome(server, parts, body),
            Self::AnthropicMessages => anthropic_messages::outcome(server, parts, body),
            Self::Gemini => gemini::outcome(server, parts, body),
        }
    }

    /// The answer to a fault that is an answer of its own, whatever was asked.
    pub(super) fn fault(
        self,
        fault: &SimulatedFault,
        parts: &Parts,
        body: &Bytes,
        settings: &Settings,
    ) -> Option<Response<Steps>> {
        match self {
            Self::OpenAiChat => openai_chat::fault(fault, parts, body, settings),
            Self::OpenAiResponses => openai_responses::fault(fault, parts, body, settings),
            Self::AnthropicMessages => anthropic_messages::fault(fault, body, settings),
            Self::Gemini => gemini::fault(fault, parts),
        }
    }

    /// Adds the headers that come with every answer that does not bring its own.
    pub(super) fn decorate(self, headers: &mut HeaderMap, server: &Server) {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses => openai::decorate(headers, server),
            Self::AnthropicMessages => anthropic_messages::decorate(headers, server),
            Self::Gemini => gemini::decorate(headers),
        }
    }
}
