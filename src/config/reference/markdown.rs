//! The table for people.

use std::fmt::Write;

use super::{Presence, sections};

const HEAD: &str = "\
# The configuration file

Every key that a file may have, table by table. What is wrong with a file is said all at once, with its line and key: unknown
keys, unknown providers, a secret that is not there.

Durations are texts such as `\"250ms\"`, `\"2s\"` or `\"5m\"`; sizes are `\"32MiB\"`, `\"64KiB\"`, `\"1GB\"` or a number of bytes. The
names of files are relative to the folder of the configuration.

Editors that use Taplo, such as Even Better TOML, complete and check a file whose first line names
[`config.schema.json`](config.schema.json), by a URL or by a path from where the file is:

```toml
#:schema docs/config.schema.json
```

A whole file with remarks is [`examples/gateway.toml`](../examples/gateway.toml). The gateway reads its file again when that
changes, and at SIGHUP: requests that come from then on follow it, those that are being answered are not disturbed, and a file
with mistakes is refused while the old one serves on. So is one without `[auth]`, where the old one has keys and the gateway
listens where others than this machine can reach it. `listen`, `[tls]`, `[log]`, and of `[limits]` all but `max_body`,
`max_requests`, `body_timeout` and `shutdown_timeout` take a restart: that they have changed is logged.
";

pub(super) fn written() -> String {
    let mut text = String::from(HEAD);
    for section in sections() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n## `{}`\n\n{}\n", section.path, section.about);
        if !section.one_of.is_empty() {
            let names: Vec<_> = section.one_of.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(text, "Exactly one of {} stands there.\n", names.join(", "));
        }
        let _ = writeln!(text, "| key | what it is | default | what it does |\n|---|---|---|---|");
        for key in section.keys() {
            let default = match key.presence {
                Presence::Required => "must be there".to_owned(),
                Presence::Default(value) => format!("`{value}`"),
                Presence::Optional(otherwise) => otherwise.to_owned(),
            };
            let _ = writeln!(text, "| `{}` | {} | {default} | {} |", key.name, key.kind.describe(), key.about);
        }
    }
    text
}
