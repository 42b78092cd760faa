//! `dativo-source-files`: CSV, JSON lines and Parquet in folders that it was granted, as an Airbyte source.
//!
//! It gets no more trust than any other connector: its output is read as hostile. Where its reader takes batches, which the kernel
//! says by the variable `DATIVO_BATCHES` (docs/spec/batch.md), rows of flat columns go out as Arrow IPC, otherwise as RECORD lines.

mod columns;
mod config;
mod csv;
mod discover;
mod json;
mod jsonl;
mod listing;
mod output;
mod parquet;
mod read;
mod state;

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;

use config::Config;
use output::{Output, now_ms, quoted};

const PROGRAM: &str = "dativo-source-files";
const SPEC: &str = include_str!("spec.json");
/// Set by the kernel when the reader of stdout takes batches, and the one value that it has.
const BATCHES: (&str, &str) = ("DATIVO_BATCHES", "arrow-ipc");

/// Why a verb ended, in a sentence.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    /// Whoever wrote the configuration can mend it.
    is_config: bool,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            is_config: false,
        }
    }

    pub fn config(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            is_config: true,
        }
    }

    /// The same at a place.
    #[must_use]
    pub fn below(mut self, place: &str) -> Failure {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

/// What the command line says.
struct Arguments {
    verb: String,
    files: HashMap<String, String>,
}

/// The process: 0 when it is done, 1 when it failed, 2 for a wrong command line.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--version"] {
        println!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let Some(arguments) = parse(arguments) else {
        eprintln!(
            "usage: {PROGRAM} spec|check|discover|read [--config F] [--catalog F] [--state F]"
        );
        return ExitCode::from(2);
    };
    let batches = std::env::var(BATCHES.0).is_ok_and(|value| value == BATCHES.1);
    let mut out = Output::new(io::stdout().lock(), batches);
    match carry_out(&arguments, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{PROGRAM}: {}", failure.message);
            // A reader that is gone cannot be told; the status says it too.
            let _ = tell(&failure, &mut out);
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: Vec<String>) -> Option<Arguments> {
    let mut arguments = arguments.into_iter();
    let verb = arguments.next()?;
    let mut files = HashMap::new();
    while let Some(option) = arguments.next() {
        let name = option.strip_prefix("--")?;
        if !matches!(name, "config" | "catalog" | "state") {
            return None;
        }
        files.insert(name.to_owned(), arguments.next()?);
    }
    Some(Arguments { verb, files })
}

fn carry_out<W: Write>(arguments: &Arguments, out: &mut Output<W>) -> Result<(), Failure> {
    match arguments.verb.as_str() {
        "spec" => {
            let spec: String = SPEC.lines().map(str::trim_start).collect();
            out.message(&format!(r#"{{"type":"SPEC","spec":{spec}}}"#))?;
        }
        "check" => {
            let status = match arguments
                .config()
                .and_then(|config| discover::catalog(&config))
            {
                Ok(_) => r#"{"status":"SUCCEEDED"}"#.to_owned(),
                Err(failure) => {
                    let message = quoted(&failure.message);
                    format!(r#"{{"status":"FAILED","message":{message}}}"#)
                }
            };
            out.message(&format!(
                r#"{{"type":"CONNECTION_STATUS","connectionStatus":{status}}}"#
            ))?;
        }
        "discover" => {
            let catalog = discover::catalog(&arguments.config()?)?;
            out.message(&format!(r#"{{"type":"CATALOG","catalog":{catalog}}}"#))?;
        }
        "read" => {
            let config = arguments.config()?;
            let positions = match arguments.files.get("state") {
                Some(_) => read::positions(&arguments.load("state")?)?,
                None => HashMap::new(),
            };
            read::read(&config, &arguments.load("catalog")?, positions, out)?;
        }
        other => return Err(Failure::config(format!("there is no verb {other}"))),
    }
    out.flush()
}

impl Arguments {
    fn load(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self
            .files
            .get(name)
            .ok_or_else(|| Failure::config(format!("{} needs --{name}", self.verb)))?;
        std::fs::read(path).map_err(|error| Failure::config(format!("{path}: {error}")))
    }

    fn config(&self) -> Result<Config, Failure> {
        Config::parse(&self.load("config")?)
    }
}

/// The error as a message.
fn tell<W: Write>(failure: &Failure, out: &mut Output<W>) -> Result<(), Failure> {
    let (message, now) = (quoted(&failure.message), now_ms());
    let kind = if failure.is_config {
        "config_error"
    } else {
        "system_error"
    };
    out.message(&format!(
        r#"{{"type":"TRACE","trace":{{"type":"ERROR","emitted_at":{now},"error":{{"message":{message},"failure_type":"{kind}"}}}}}}"#
    ))?;
    out.flush()
}
