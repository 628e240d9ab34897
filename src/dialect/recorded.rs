//! Real exchanges to test against, where they lie beside the repository. They are not part of it.

use std::{fs, path::Path};

use serde_json::Value as Json;

/// One recorded exchange.
pub(crate) struct Exchange {
    pub(crate) file: String,
    pub(crate) path: String,
    pub(crate) request: Option<Json>,
    pub(crate) status: u16,
    /// Whether texts of the request were shortened: its tokens are not those that were counted.
    pub(crate) is_cut: bool,
    /// The answer, if it is JSON.
    pub(crate) answer: Option<Json>,
    /// The answer, if it is a stream.
    pub(crate) stream: Option<String>,
}

/// The exchanges in that folder, those of which only the answer was kept among them; none, with a word, where they are absent.
pub(crate) fn exchanges(dialect: &str) -> Vec<Exchange> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/recordings");
    let folders = [root.join(dialect), root.join("response-only").join(dialect)];
    let mut found = Vec::new();
    for folder in folders {
        let Ok(files) = fs::read_dir(&folder) else { continue };
        for file in files.filter_map(Result::ok) {
            let Ok(text) = fs::read_to_string(file.path()) else { continue };
            let Ok(json) = serde_json::from_str::<Json>(&text) else { continue };
            let body = json["response"]["body_text"].as_str();
            let parsed = body.and_then(|body| serde_json::from_str(body).ok());
            found.push(Exchange {
                file: file.file_name().to_string_lossy().into_owned(),
                path: json["request"]["path"].as_str().unwrap_or_default().to_owned(),
                request: Some(json["request"]["body"].clone()).filter(Json::is_object),
                is_cut: json["edited"].to_string().contains("cut"),
                status: json["response"]["status"].as_u64().unwrap_or(200) as u16,
                answer: Some(json["response"]["body"].clone()).filter(|body| !body.is_null()).or(parsed),
                stream: body.filter(|body| body.contains("data:")).map(str::to_owned),
            });
        }
    }
    if found.is_empty() {
        eprintln!("SKIPPED: there are no recordings of {dialect} beside the repository");
    }
    found.sort_by(|one, other| one.file.cmp(&other.file));
    found
}

/// Without members that are null, and lists that are empty, which ask for nothing.
pub(crate) fn without_nothing(json: &Json) -> Json {
    match json {
        Json::Object(members) => {
            let kept = members.iter().filter(|(_, value)| !value.is_null() && **value != Json::Array(Vec::new()));
            kept.map(|(key, value)| (key.clone(), without_nothing(value))).collect()
        }
        Json::Array(elements) => elements.iter().map(without_nothing).collect(),
        other => other.clone(),
    }
}
