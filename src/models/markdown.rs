//! The table for people: `docs/models.md`.

use super::{KnownModel, known_models};
use crate::Ability;

const BEGIN: &str = "<!-- the table is made from src/models/table.rs: UPDATE_DOCS=1 cargo test writes it -->\n";
const END: &str = "<!-- end of the table -->\n";

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn row(model: &KnownModel) -> String {
    let mut name = format!("`{}`", model.name());
    if let Some(host) = model.host() {
        name += &format!(" at {host}");
    }
    let abilities = Ability::ALL.iter().map(|ability| match model.offers(*ability) {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "?",
    });
    let price = model.price().map_or("?".to_owned(), |price| {
        let dearer = model.dearer_above().map(|tokens| format!(", dearer above {}", thousands(tokens)));
        format!("{} / {} / {}{}", price.input(), price.output(), price.cached_input(), dearer.unwrap_or_default())
    });
    let cells = [name, thousands(model.context_window()), thousands(model.max_output_tokens())];
    let cells = cells.into_iter().chain(abilities.map(str::to_owned));
    let cells: Vec<_> = cells.chain([price, model.retires().unwrap_or_default().to_owned()]).collect();
    format!("| {} |\n", cells.join(" | ").trim_end())
}

fn table() -> String {
    let abilities: Vec<_> = Ability::ALL.iter().map(|ability| ability.name().replace('_', " ")).collect();
    let mut text = format!("{BEGIN}\nAs of {}.\n\n", KnownModel::as_of());
    text += &format!(
        "| model | window | longest answer | {} | USD per million tokens: input / output / cached input | retires |\n",
        abilities.join(" | ")
    );
    text += &format!("|---|---:|---:|{}---|---|\n", "---|".repeat(abilities.len()));
    known_models().for_each(|model| text += &row(model));
    text + "\n" + END
}

#[test]
fn the_guide_shows_the_table_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/models.md");
    let found = std::fs::read_to_string(path).unwrap();
    let (before, rest) = found.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let right = format!("{before}{}{after}", table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(path, right).unwrap();
    }
    assert!(found == right, "docs/models.md is not what the table says: UPDATE_DOCS=1 cargo test writes it");
}
