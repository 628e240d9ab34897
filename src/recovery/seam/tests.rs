use super::*;

const STORY: &str = "The harbour was quiet that morning. The fishermen mended their nets in silence, and the gulls, \
    who had nothing better to do, watched them from the wall. At noon the bell of the old church rang twice.";

/// Pushes the text in pieces of so many bytes; gives back what the client has in the end, or why it ends with an error.
fn join(asked: Asked, delivered: &str, text: &str, size: usize) -> Result<String, &'static str> {
    let mut seam = Seam::new(asked, delivered.to_owned());
    let mut client = delivered.to_owned();
    let mut take = |joined| match joined {
        Joined::Hold => Ok(()),
        Joined::Release(text) => {
            client.push_str(&text);
            Ok(())
        }
        Joined::Mismatch(why) => Err(why),
    };
    let mut rest = text;
    while !rest.is_empty() {
        let end = (size..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        take(seam.push(&rest[..end]))?;
        rest = &rest[end..];
    }
    take(seam.finish())?;
    assert_eq!(seam.delivered(), client);
    Ok(client)
}

fn cuts(text: &str) -> impl Iterator<Item = usize> {
    (1..text.len()).filter(|at| text.is_char_boundary(*at))
}

const TEXTS: &[&str] = &[
    STORY,
    "Certainly! 1. Wash the cup.\n2. Dry the cup.\n3. Put the cup away.\n\nThat is all there is to it, really.",
    "fn main() {\n    let total: u32 = (1..=10).sum();\n    println!(\"{total}\");\n}\n// prints 55",
    "谢谢你的问题。海港那天早上很安静。渔民们默默地补着渔网，海鸥在墙上看着他们。",
    "Zoë says: cafe\u{301} 👩‍👩‍👧‍👦 and 🇩🇪🇫🇷 — done. Fertig! ¿Qué tal? Ça va très bien, merci.",
    "word0 word1 word2 word3 word4 word5 word6 word7 word8 word9 word10 word11 word12 word13 word14",
    "banana bandana ban and an anagram of a can canned in Canberra",
];

#[test]
fn the_rest_is_joined_wherever_the_cut_is() {
    for text in TEXTS {
        for cut in cuts(text) {
            for size in [1, 7, 1_000] {
                let delivered = &text[..cut];
                // As a target sees it that gets no white space at the end.
                let rest = &text[delivered.trim_end().len()..].to_owned()[..];
                let joined = join(Asked::Prefill, delivered, rest, size);
                // "a can" and " canned": nobody can tell, and so it is an error.
                let is_plain = has_words(delivered) && !delivered.ends_with(" can");
                if is_plain || joined.is_ok() {
                    assert_eq!(joined.as_deref(), Ok(*text), "{delivered:?}");
                }
            }
        }
    }
}

#[test]
fn a_new_beginning_is_recognized_and_trimmed() {
    for text in TEXTS {
        for cut in cuts(text) {
            for asked in [Asked::Prefill, Asked::Instruction, Asked::Again] {
                let joined = join(asked, &text[..cut], text, 5);
                if asked != Asked::Again && (repeats_itself(&text[..cut]) || !has_words(&text[..cut])) {
                    continue; // nobody can tell
                }
                assert_eq!(joined.as_deref(), Ok(*text), "{asked:?} {:?}", &text[..cut]);
            }
        }
    }
}

#[test]
fn last_words_that_come_again_are_trimmed() {
    for cut in cuts(STORY).filter(|cut| *cut > 40) {
        let delivered = &STORY[..cut];
        let words = delivered.char_indices().filter(|(at, _)| *at > 0 && delivered[..*at].ends_with(' '));
        for (from, _) in words.filter(|(from, _)| (10..60).contains(&(cut - from))) {
            let joined = join(Asked::Instruction, delivered, &STORY[from..], 3);
            assert_eq!(joined.as_deref(), Ok(STORY), "{:?}", &STORY[from..cut]);
        }
    }
}

#[test]
fn half_a_word_and_more_that_come_again_are_never_told_twice() {
    let text = "\"quoted\"48 Zoë85 Zoë122 Zoë159";
    for asked in [Asked::Prefill, Asked::Instruction] {
        for cut in cuts(text).filter(|cut| *cut > 14) {
            for from in (4..cut).filter(|from| text.is_char_boundary(*from) && has_words(&text[*from..cut])) {
                let joined = join(asked, &text[..cut], &text[from..], 2);
                assert!(joined.is_err() || joined.as_deref() == Ok(text), "{asked:?} {:?}", &text[from..cut]);
            }
        }
    }
}

#[test]
fn a_new_beginning_that_goes_another_way_is_no_rest() {
    let other = STORY.replace("in silence", "while they sang");
    for cut in cuts(STORY).filter(|cut| *cut > 80) {
        for asked in [Asked::Prefill, Asked::Instruction, Asked::Again] {
            assert!(join(asked, &STORY[..cut], &other, 4).is_err(), "{asked:?} {cut}");
        }
    }
}

#[test]
fn other_letters_other_words_and_prefaces_are_no_rest() {
    let retold = "That morning it was quiet in the harbour. In silence the fishermen mended all their nets, and gulls \
        watched them from the wall.";
    for cut in [60, 90, 120, 150] {
        for asked in [Asked::Prefill, Asked::Instruction] {
            let (delivered, rest) = STORY.split_at(cut);
            assert!(join(asked, delivered, &STORY.to_uppercase(), 9).is_err(), "upper case {cut}");
            assert!(join(asked, delivered, retold, 9).is_err(), "retold {cut}");
            for preface in ["Sure, continuing: ", "Here is the rest of the answer:\n\n", "I'm sorry, "] {
                assert!(join(asked, delivered, &format!("{preface}{rest}"), 9).is_err(), "{preface} {cut}");
                assert!(join(asked, delivered, &format!("{preface}{STORY}"), 9).is_err(), "{preface} anew {cut}");
            }
            assert!(join(asked, delivered, &format!("No problem! {STORY}"), 9).is_err(), "an unknown preface {cut}");
        }
    }
}

#[test]
fn an_answer_that_ends_before_what_the_client_has_contradicts_it() {
    assert!(join(Asked::Instruction, STORY, "The harbour was quiet that morning.", 9).is_err());
    assert!(join(Asked::Again, STORY, "The harbour was quiet that morning.", 9).is_err());
    assert!(join(Asked::Again, STORY, "", 9).is_err());
    // Nothing more to say is an answer.
    assert_eq!(join(Asked::Prefill, STORY, "", 9).as_deref(), Ok(STORY));
}

#[test]
fn in_a_text_in_circles_only_a_prefill_can_be_trusted() {
    assert_eq!(join(Asked::Prefill, "la la la ", "la la la!", 2).as_deref(), Ok("la la la la la la!"));
    assert!(join(Asked::Instruction, "la la la ", "la la la la la la!", 2).is_err());
}

#[test]
fn another_answer_is_not_the_same_one_again() {
    assert!(join(Asked::Again, r#"{"city":"Par"#, r#"{"city":"Lyon"}"#, 3).is_err());
    assert_eq!(join(Asked::Again, r#"{"city":"Par"#, r#"{"city":"Paris"}"#, 3).as_deref(), Ok(r#"{"city":"Paris"}"#));
}

#[test]
fn the_first_words_again_or_in_other_letters_are_no_rest_however_little_was_delivered() {
    for asked in [Asked::Prefill, Asked::Instruction] {
        for (delivered, rest) in [
            ("Am Morgen war der Hafen still. Die Fischer", "Am Morgen lag der Hafen ruhig da. Die Fischer sangen."),
            ("Am Morgen war der Hafen still.", "Am Morgen lag der Hafen ruhig da."),
            ("Am", "AM MORGEN WAR DER HAFEN STILL."),
            ("Am Morgen", "AM MORGEN WAR DER HAFEN STILL."),
        ] {
            assert!(join(asked, delivered, rest, 4).is_err(), "{asked:?} {delivered:?} {rest:?}");
        }
    }
    // A list, and a sentence that begins like the first one.
    for (delivered, rest) in [
        ("- Wash the red cup, then dry it.\n", "- Wash the blue cup."),
        ("The bell rang. The gulls left.", " The bell was silent from then on."),
    ] {
        assert_eq!(join(Asked::Prefill, delivered, rest, 4), Ok(format!("{delivered}{rest}")));
    }
}
