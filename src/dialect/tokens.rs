//! How many tokens a text probably has, by what it is written in: see the [module](crate::dialect#token-estimate).

/// What weighs as much as a token.
const PER_TOKEN: u64 = 100;

/// What each byte of a text weighs; of a character of several bytes, the first one weighs for all.
static WEIGHTS: [u8; 256] = weights();

const LETTER: u8 = 23;
const CAPITAL: u8 = 40;
const DIGIT: u8 = 55;
const SIGN: u8 = 62;
const ACCENTED: u8 = 118;
const GREEK_OR_CYRILLIC: u8 = 32;
const HEBREW_OR_ARABIC: u8 = 44;
const INDIC: u8 = 38;
const TYPOGRAPHIC: u8 = 80;
const EAST_ASIAN: u8 = 75;
const PICTURE: u8 = 160;

const fn weights() -> [u8; 256] {
    let mut weights = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        weights[byte] = match byte as u8 {
            b'a'..=b'z' => LETTER,
            b'A'..=b'Z' => CAPITAL,
            b'0'..=b'9' => DIGIT,
            // A space goes with the word behind it; indentation is a token for many.
            b' ' => 1,
            // Half of what `\n` weighs; the letter is the other half.
            b'\\' => 20,
            0x21..=0x7e => SIGN,
            0xc3..=0xcd => ACCENTED,
            0xce..=0xd4 => GREEK_OR_CYRILLIC,
            0xd5..=0xdf => HEBREW_OR_ARABIC,
            0xe0..=0xe1 => INDIC,
            0xe2 | 0xef => TYPOGRAPHIC,
            0xe3..=0xed => EAST_ASIAN,
            0xf0..=0xf4 => PICTURE,
            _ => 0,
        };
        byte += 1;
    }
    weights
}

/// What the character of an escape `\uXXXX` weighs: as much as it would unescaped.
fn weight_of_escape(digits: &[u8]) -> u64 {
    let code = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let weight = match code {
        0..0x80 => SIGN,
        0x80..0x370 => ACCENTED,
        0x370..0x530 => GREEK_OR_CYRILLIC,
        0x530..0x800 => HEBREW_OR_ARABIC,
        0x800..0x2000 => INDIC,
        0x2000..0x3000 => TYPOGRAPHIC,
        // Two of them are one character.
        0xd800..0xe000 => PICTURE / 2,
        _ => EAST_ASIAN,
    };
    u64::from(weight)
}

/// What a piece of JSON weighs: what stands in its strings, and around them.
pub(super) fn weight(json: &[u8]) -> u64 {
    let plain = |text: &[u8]| text.iter().map(|byte| u64::from(WEIGHTS[usize::from(*byte)])).sum::<u64>();
    let (mut weight, mut rest) = (0, json);
    // Only escapes of characters need a look at more than one byte.
    while let Some(at) = memchr::memmem::find(rest, b"\\u") {
        weight += plain(&rest[..at]);
        let end = rest.len().min(at + 6);
        weight += weight_of_escape(&rest[at + 2..end]);
        rest = &rest[end..];
    }
    weight + plain(rest)
}

/// How many tokens weigh so much.
pub(super) fn tokens(weight: u64) -> u64 {
    weight / PER_TOKEN
}

#[cfg(all(test, feature = "tokenizer"))]
pub(super) use tests::SAMPLES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Dialect, RequestContext, Usage,
        dialect::{StreamReader, recorded},
    };
    use bytes::Bytes;
    use serde_json::Value as Json;

    fn estimate(text: &str) -> u64 {
        tokens(weight(text.as_bytes()))
    }

    /// Counted with OpenAI's `o200k_base`, the most frugal of the well-known tokenizers.
    #[test]
    fn a_text_has_about_as_many_tokens_as_were_counted_in_whatever_script() {
        for (text, counted) in SAMPLES {
            let right = *counted as f64;
            let ratio = estimate(text) as f64 / right;
            assert!((0.6..1.4).contains(&ratio), "{ratio:.2} of {counted}: {text}");
        }
    }

    #[test]
    fn an_escaped_character_weighs_as_much_as_the_same_unescaped() {
        for text in ["Все люди рождаются свободными", "すべての人間は", "مرحبا بالعالم", "😀🎉🚀"]
        {
            let escaped: String = text
                .encode_utf16()
                .map(|unit| if unit == 32 { " ".to_owned() } else { format!("\\u{unit:04x}") })
                .collect();
            assert_eq!(weight(text.as_bytes()), weight(escaped.as_bytes()), "{text}");
        }
        // What is cut off or wrong is no reason to fail.
        for odd in ["\\u", "\\u12", "\\uzzzz", "\\", "\u{1}"] {
            weight(odd.as_bytes());
        }
    }

    fn reported(dialect: Dialect, exchange: &recorded::Exchange) -> Option<Usage> {
        if let Some(stream) = &exchange.stream {
            let mut reader = StreamReader::new(dialect, 1);
            let events = stream.lines().filter_map(|line| line.strip_prefix("data:"));
            events.for_each(|data| _ = reader.event(data.trim().as_bytes()));
            return reader.usage();
        }
        let answer = exchange.answer.as_ref()?.to_string();
        match crate::dialect::answer(dialect, answer.as_bytes()) {
            crate::dialect::Answer::Whole(usage) => usage,
            _ => None,
        }
    }

    /// Whether nothing but text was asked: what pictures and documents cost is anybody's guess, and a provider's own tools
    /// bring their own instructions.
    fn is_text(request: &Json) -> bool {
        let text = request.to_string();
        let media = [
            "image",
            "audio",
            "file",
            "document",
            "inlineData",
            "fileData",
            "cachedContent",
            "previous_response_id",
            "schema",
            "responseSchema",
            "mcp_servers",
            "encrypted_content",
        ];
        !media.iter().any(|name| text.contains(&format!("\"{name}"))) && request.get("tools").is_none()
    }

    #[test]
    fn what_providers_counted_is_not_far_from_the_estimate() {
        let mut all = Vec::new();
        for dialect in Dialect::ALL {
            let folder = if *dialect == Dialect::Gemini { "gemini-generate" } else { dialect.name() };
            let mut ratios = Vec::new();
            for exchange in recorded::exchanges(folder) {
                let (Some(request), Some(usage)) = (&exchange.request, reported(*dialect, &exchange)) else { continue };
                if usage.input < 20 || exchange.is_cut || !is_text(request) {
                    continue;
                }
                let body = Bytes::from(request.to_string());
                let Some(Ok(outline)) = crate::dialect::outline(*dialect, &exchange.path, &body) else { continue };
                let context = RequestContext::new().with_dialect(*dialect).with_outline(outline);
                let needs = context.requirements().unwrap();
                // Where little is said, what providers put around it is most of what they count.
                if needs.input_tokens < 40 {
                    continue;
                }
                // In a short request the tokens around each message are many.
                let around = 4 * request.to_string().matches("\"role\"").count() as u64 + 3;
                ratios.push((needs.input_tokens + around) as f64 / usage.input as f64);
            }
            ratios.sort_by(f64::total_cmp);
            if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
                let median = ratios[ratios.len() / 2];
                eprintln!("{dialect}: {} requests, {least:.2} to {most:.2}, median {median:.2}", ratios.len());
            }
            all.extend(ratios);
        }
        all.sort_by(f64::total_cmp);
        if !all.is_empty() {
            let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
            eprintln!("all {}: p5 {:.2}, p50 {:.2}, p95 {:.2}", all.len(), at(0.05), at(0.5), at(0.95));
            assert!((0.6..1.4).contains(&at(0.5)), "{}", at(0.5));
        }
    }

    #[rustfmt::skip]
    pub(in crate::dialect) const SAMPLES: &[(&str, u64)] = &[
        ("All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and should act towards one another in a spirit of brotherhood. The meeting was interrupted yesterday afternoon, and the committee will continue next Thursday.", 48),
        ("for (index, need) in self.0.iter().enumerate() { write!(f, \"{}{need}\", if index == 0 { \"\" } else { \", \" })?; }", 40),
        ("{\"id\": \"gpt-5.4\", \"context_window\": 1050000, \"max_output_tokens\": 128000, \"tools\": true, \"usd_per_mtok_in\": 2.5}", 46),
        ("Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen einander im Geiste der Brüderlichkeit begegnen. Die Sitzung wurde gestern Nachmittag wegen technischer Schwierigkeiten unterbrochen, und der Ausschuss wird die Beratungen voraussichtlich am kommenden Donnerstag fortsetzen.", 69),
        ("Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y conciencia, deben comportarse fraternalmente los unos con los otros. La reunión de ayer por la tarde se interrumpió por dificultades técnicas y la comisión continuará el próximo jueves.", 60),
        ("Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства. Вчерашнее заседание было прервано из-за технических трудностей.", 59),
        ("يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا بروح الإخاء. وقد توقفت الجلسة أمس بسبب صعوبات تقنية.", 55),
        ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।", 54),
        ("人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。昨天下午的会议因技术困难而中断，委员会预计下周四继续讨论。", 55),
        ("すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。昨日の会議は技術的な問題で中断された。", 87),
        ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다. 어제 회의는 기술적인 문제로 중단되었다.", 65),
        ("มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ", 63),
        ("Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.", 71),
    ];
}
