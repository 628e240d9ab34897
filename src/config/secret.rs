//! Where keys come from: `{ env }`, `{ file }`, `{ command }`, `{ value }`, or a list of these.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::value::Value;
use crate::{
    Credentials, KeyHeader,
    credentials::{CredentialSource, FetchedKey, NewKey},
};

/// How often a key file is looked at.
const FILE_CHECK: Duration = Duration::from_secs(2);
/// A file that has changed must be the same for so long before it is believed: whoever writes it may be in the middle.
const SETTLED: Duration = Duration::from_millis(100);
/// How often a command is run that does not say so.
const COMMAND_REFRESH: Duration = Duration::from_secs(5 * 60);
/// How long a command may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);
/// No key is longer; what is, is another file or another command's output.
const LONGEST_KEY: u64 = 64 << 10;

/// What a provider's `api_key` says: one key, or a list of them that is used in turn.
pub(super) fn read_credentials(value: Value<'_>, place: KeyHeader) -> Option<Credentials> {
    let spot = value.spot().clone();
    if !value.is_array() {
        let key = read_key(value)?;
        return Credentials::from_keys(place, vec![key]).map_err(|error| spot.report(error)).ok();
    }
    let entries = value.array()?;
    if entries.is_empty() {
        return spot.fail("a list of keys needs at least one");
    }
    let count = entries.len();
    let mut keys = Vec::<NewKey>::with_capacity(count);
    for entry in entries {
        let spot = entry.spot().clone();
        let Some(key) = read_key(entry) else { continue };
        if let Err(error) = Credentials::in_header(place, key.key.clone()) {
            spot.report(error);
        } else if keys.iter().any(|other| other.key.expose_secret() == key.key.expose_secret()) {
            // Each would rest for itself, and be tried again for the other.
            spot.report("the same key stands in this list before");
        } else {
            keys.push(key);
        }
    }
    (keys.len() == count).then(|| Credentials::from_keys(place, keys).ok()).flatten()
}

/// One key, and where new ones come from in its place.
pub(super) fn read_key(value: Value<'_>) -> Option<NewKey> {
    if !value.is_table() {
        return value.fail_type("where the key comes from: { env = \"…\" }, { file = \"…\" } or { command = [\"…\"] }");
    }
    let mut table = value.table()?;
    let spot = table.spot().clone();
    let is_empty = table.is_empty();
    let (variable, file, text) = (table.take("env"), table.take("file"), table.take("value"));
    let (command, refresh) = (table.take("command"), table.take("refresh"));
    let refresh_spot = refresh.as_ref().map(|value| value.spot().clone());
    let every = refresh.and_then(|value| value.duration());
    table.finish();
    if let (Some(spot), None) = (refresh_spot, &command) {
        spot.report("goes with `command`; a file is read again when it changes");
    }
    match (variable, file, text, command) {
        (Some(variable), None, None, None) => from_variable(&variable),
        (None, Some(file), None, None) => from_file(&file),
        (None, None, Some(text), None) => from_text(&text),
        (None, None, None, Some(command)) => from_command(command, every.unwrap_or(COMMAND_REFRESH)),
        (None, None, None, None) if !is_empty => None, // What it has instead has been reported.
        _ => spot.fail("needs exactly one of `env`, `file`, `command` and `value`"),
    }
}

pub(super) fn from_variable(value: &Value<'_>) -> Option<NewKey> {
    let name = value.string()?;
    // Whoever puts the key itself here must not find it in a log.
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return value.spot().fail("is not the name of an environment variable");
    }
    if let Some(key) = value.spot().reader().stand_in() {
        return Some(key.into());
    }
    match value.spot().reader().variable(name).map(SecretString::from) {
        None => value.spot().fail(format_args!("the environment variable {name} is not set")),
        Some(key) if key.expose_secret().is_empty() => {
            value.spot().fail(format_args!("the environment variable {name} is empty"))
        }
        Some(key) => Some(NewKey { key, source: None, origin: format!("the environment variable {name}").into() }),
    }
}

pub(super) fn from_file(value: &Value<'_>) -> Option<NewKey> {
    let named = value.string()?;
    if let Some(key) = value.spot().reader().stand_in() {
        return Some(key.into());
    }
    let path = value.spot().reader().path(named);
    match read_key_file(&path) {
        Ok(key) => {
            let origin = format!("the file {}", path.display()).into();
            let source = Arc::new(KeyFile { path, named: named.into(), last: Mutex::new(key.clone()) });
            Some(NewKey { key, source: Some(source), origin })
        }
        Err(why) => value.spot().fail(format_args!("the file {named:?} {why}")),
    }
}

pub(super) fn from_text(value: &Value<'_>) -> Option<NewKey> {
    let key = value.string()?;
    value.spot().warn("the key itself stands in the file; outside tests, use { env = \"…\" } or { file = \"…\" }");
    Some(NewKey { key: key.into(), source: None, origin: "the configuration".into() })
}

fn from_command(value: Value<'_>, refresh: Duration) -> Option<NewKey> {
    let spot = value.spot().clone();
    let words = value.array()?;
    let count = words.len();
    let words: Vec<Box<str>> = words.iter().filter_map(|word| word.string_or_empty().map(Into::into)).collect();
    if words.len() < count {
        return None; // reported
    }
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return spot.fail("names no program: the first word is the program, the others are what it is given");
    };
    if let Some(key) = spot.reader().stand_in() {
        return Some(key.into());
    }
    // Looked up as a shell does it; a path that is relative starts where the configuration stands, as that of a key file.
    let program = if program.contains('/') { spot.reader().path(program) } else { PathBuf::from(&**program) };
    let command = KeyCommand(Arc::new(Invocation { program, words, refresh }));
    match command.0.run() {
        Ok(key) => {
            let origin = format!("the command {:?}", command.0.words).into();
            Some(NewKey { key, source: Some(Arc::new(command)), origin })
        }
        Err(why) => spot.fail(format_args!("the command {why}")),
    }
}

/// A file that holds a key, and is read again when it changes.
struct KeyFile {
    path: PathBuf,
    named: Box<str>,
    /// What was in it last.
    last: Mutex<SecretString>,
}

/// The key in a file; why there is none, as the end of a sentence.
fn read_key_file(path: &Path) -> Result<SecretString, String> {
    let mut text = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(LONGEST_KEY + 1).read_to_end(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    let key = std::str::from_utf8(&text).map_err(|_| "cannot be read: it is not UTF-8".to_owned())?;
    match key.trim_end_matches(['\r', '\n']) {
        _ if text.len() as u64 > LONGEST_KEY => Err("is too long for a key".into()),
        "" => Err("is empty".into()),
        key => Ok(key.into()),
    }
}

impl CredentialSource for KeyFile {
    fn fetch(&self) -> FetchedKey<'_> {
        Box::pin(async {
            let read = || {
                let path = self.path.clone();
                aside(move || read_key_file(&path))
            };
            let named = |why: String| format!("the file {:?} {why}", self.named);
            let mut before = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut key = read().await.map_err(named)?;
            // Most files are replaced, but some are written in place.
            while key.expose_secret() != before.expose_secret() {
                before = key;
                sleep(SETTLED).await;
                key = read().await.map_err(named)?;
            }
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = key.clone();
            Ok(key)
        })
    }

    fn refresh(&self) -> Duration {
        FILE_CHECK
    }

    fn describe(&self) -> String {
        format!("the file {:?}", self.named)
    }
}

/// A command that prints a key, and is run again and again.
struct KeyCommand(Arc<Invocation>);

struct Invocation {
    program: PathBuf,
    words: Vec<Box<str>>,
    refresh: Duration,
}

impl Invocation {
    /// The key that it prints; why it prints none, as the end of a sentence. What else it says is not repeated: it may be
    /// the key.
    fn run(&self) -> Result<SecretString, String> {
        let mut command = Command::new(&self.program);
        command.args(self.words[1..].iter().map(|word| &**word));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
        let until = Instant::now() + COMMAND_PATIENCE;
        let (tell, told) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut text = Zeroizing::new(Vec::new());
                let read = output.take(LONGEST_KEY + 1).read_to_end(&mut text).map(|_| text);
                let _ = tell.send(read);
            });
        }
        let told = told.recv_timeout(COMMAND_PATIENCE);
        // Its output is at its end, or it is late: it should be gone by now, and is made to be.
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if told.is_ok() && Instant::now() < until => {
                    std::thread::park_timeout(Duration::from_millis(2));
                }
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
            }
        };
        let text = match (status, told) {
            // It may have been ended by that nobody read on.
            (_, Ok(Ok(text))) if text.len() as u64 > LONGEST_KEY => return Err("printed more than a key".into()),
            (Some(status), Ok(Ok(text))) if status.success() => text,
            (Some(status), _) if !status.success() => return Err(format!("failed: {status}")),
            (Some(_), Ok(Err(error))) => return Err(format!("cannot be read: {error}")),
            _ => return Err(format!("did not end within {COMMAND_PATIENCE:?}")),
        };
        let key = std::str::from_utf8(&text).map_err(|_| "printed what is not UTF-8".to_owned())?;
        match key.trim() {
            "" => Err("printed no key".into()),
            key => Ok(key.into()),
        }
    }
}

impl CredentialSource for KeyCommand {
    fn fetch(&self) -> FetchedKey<'_> {
        let invocation = self.0.clone();
        Box::pin(async move {
            let key = aside(move || invocation.run()).await;
            Ok(key.map_err(|why| format!("the command {why}"))?)
        })
    }

    fn refresh(&self) -> Duration {
        self.0.refresh
    }

    fn describe(&self) -> String {
        // The words that it is given may be secrets too.
        format!("the command {:?}", self.0.words.first().map_or("", |program| program))
    }
}

/// Runs something that blocks on a thread of its own: it is short and rare, and needs no runtime.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    let (tell, told) = oneshot::channel();
    let spawned = std::thread::Builder::new().spawn(move || _ = tell.send(work()));
    spawned.map_err(|error| format!("cannot be asked: {error}"))?;
    told.await.map_err(|_| "cannot be asked".to_owned())?
}
