//! What a request for embeddings says. It goes to whoever speaks one of OpenAI's APIs, and is translated for nobody.

use bytes::Bytes;

use crate::{
    Feature, RequestOutline, Requirements,
    dialect::json_scan::{Malformed, root_members},
    outline::Reading,
};

static READING: Reading = Reading { add_requirements, may_need: |_, _| false };

pub(crate) fn outline(body: &Bytes) -> Result<RequestOutline, Malformed> {
    let mut outline = RequestOutline::new(body.clone(), &READING);
    for member in root_members(body)? {
        let (key, value) = member?;
        if key == "model" && value.is_string() {
            outline.add_model(value.range());
        }
    }
    Ok(outline)
}

/// Its input may be many texts of which each must fit for itself, so that nothing is said of its length.
fn add_requirements(_body: &[u8], needs: &mut Requirements) {
    needs.features.insert(Feature::Embeddings);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_and_that_vectors_are_wanted() {
        let body = Bytes::from_static(br#"{"input":["a","b"],"model":"text-embedding-3-small"}"#);
        let outline = outline(&body).unwrap();
        assert_eq!(outline.model().unwrap(), "text-embedding-3-small");
        let mut needs = Requirements::default();
        outline.add_requirements(&mut needs);
        assert!(needs.features.contains(Feature::Embeddings) && !outline.streaming());
        assert!(super::outline(&Bytes::from_static(b"[]")).is_err());
    }
}
