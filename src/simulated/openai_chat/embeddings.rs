//! `POST /v1/embeddings`: vectors that say nothing, but are the same for the same text.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use super::ApiError;
use crate::simulated::answer::tokens;

/// How long a vector is.
const DIMENSIONS: u64 = 8;

pub(super) fn answer(body: &[u8]) -> Result<Value, ApiError> {
    let request: Value = serde_json::from_slice(body).map_err(|_| ApiError::not_json())?;
    let model = request["model"].as_str().ok_or_else(|| ApiError::invalid("you must provide a model parameter"))?;
    let texts: Vec<&str> = match &request["input"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Err(ApiError::invalid("Missing required parameter: 'input'.").param("input")),
    };
    let vectors = texts.iter().enumerate();
    let data: Vec<_> = vectors
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)}))
        .collect();
    let read: usize = texts.iter().map(|text| tokens(text)).sum();
    let usage = json!({"prompt_tokens": read, "total_tokens": read});
    Ok(json!({"object": "list", "model": model, "data": data, "usage": usage}))
}

fn vector(text: &str) -> Vec<f64> {
    let component = |place: u64| {
        let mut hasher = DefaultHasher::new();
        (place, text).hash(&mut hasher);
        f64::from(u16::try_from(hasher.finish() >> 48).unwrap_or_default()) / 65_536.0
    };
    (0..DIMENSIONS).map(component).collect()
}
