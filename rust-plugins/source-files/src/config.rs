//! The configuration: which files are which stream, and how they are written.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Failure;

const MAX_STREAMS: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub streams: Vec<Stream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    pub name: String,
    /// An absolute pattern.
    pub path: String,
    pub format: Format,
    #[serde(default)]
    pub key: Vec<String>,
    /// Schemas of columns by name, over those that are inferred.
    #[serde(default)]
    pub schema: Option<Box<RawValue>>,
    #[serde(default)]
    pub csv: Option<CsvConfig>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Csv,
    Jsonl,
    Parquet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CsvConfig {
    delimiter: String,
    quote: Option<String>,
    header: bool,
    columns: Option<Vec<String>>,
    null_values: Vec<String>,
}

impl Default for CsvConfig {
    fn default() -> CsvConfig {
        CsvConfig {
            delimiter: ",".to_owned(),
            quote: Some("\"".to_owned()),
            header: true,
            columns: None,
            null_values: vec![String::new()],
        }
    }
}

/// How records of a CSV file are written.
#[derive(Clone, Debug)]
pub struct Csv {
    pub delimiter: u8,
    /// Doubled inside quotes.
    pub quote: Option<u8>,
    pub header: bool,
    /// Names for files without a header; none: `column_1` and so on.
    pub columns: Option<Vec<String>>,
    /// What stands for null where it is not quoted.
    pub nulls: Vec<Vec<u8>>,
}

impl Config {
    /// Read and check a configuration.
    pub fn parse(text: &[u8]) -> Result<Config, Failure> {
        let config: Config = serde_json::from_slice(text)
            .map_err(|error| Failure::config(format!("the configuration: {error}")))?;
        if config.streams.is_empty() || config.streams.len() > MAX_STREAMS {
            return Err(Failure::config(format!(
                "streams: from 1 to {MAX_STREAMS} are needed"
            )));
        }
        let mut names = HashSet::new();
        for stream in &config.streams {
            if stream.name.is_empty() || !names.insert(&stream.name) {
                return Err(stream.wrong("every stream needs a name of its own"));
            }
            stream.check()?;
        }
        Ok(config)
    }

    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}

impl Stream {
    pub fn wrong(&self, message: impl std::fmt::Display) -> Failure {
        Failure::config(format!("stream {}: {message}", self.name))
    }

    fn check(&self) -> Result<(), Failure> {
        if !self.path.starts_with('/') || self.path.split('/').any(|part| part == "..") {
            return Err(self.wrong(format_args!(
                "path must be absolute and without `..`, not {:?}; in a job ${{JOB_DIR}} is its folder",
                self.path
            )));
        }
        glob::Pattern::new(&self.path)
            .map_err(|error| self.wrong(format_args!("path: {error}")))?;
        if self.csv.is_some() && self.format != Format::Csv {
            return Err(self.wrong("`csv` goes with format csv"));
        }
        if let Some(schema) = &self.schema
            && !schema.get().starts_with('{')
        {
            return Err(self.wrong("schema must be an object: JSON Schemas by column"));
        }
        if self.format == Format::Csv {
            self.csv()?;
        }
        Ok(())
    }

    /// How its CSV files are written.
    pub fn csv(&self) -> Result<Csv, Failure> {
        let default = CsvConfig::default();
        let said = self.csv.as_ref().unwrap_or(&default);
        let one = |name: &str, text: &str| match text.as_bytes() {
            &[byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(byte),
            _ => Err(self.wrong(format_args!("csv.{name} must be one ASCII character"))),
        };
        let delimiter = one("delimiter", &said.delimiter)?;
        let quote = said
            .quote
            .as_deref()
            .map(|text| one("quote", text))
            .transpose()?;
        if quote == Some(delimiter) {
            return Err(self.wrong("csv.quote and csv.delimiter must differ"));
        }
        if said.header && said.columns.is_some() {
            return Err(self.wrong("csv.columns names columns of files without a header"));
        }
        if let Some(names) = &said.columns {
            check_names(names)
                .map_err(|message| self.wrong(format_args!("csv.columns: {message}")))?;
        }
        Ok(Csv {
            delimiter,
            quote,
            header: said.header,
            columns: said.columns.clone(),
            nulls: said
                .null_values
                .iter()
                .map(|text| text.clone().into_bytes())
                .collect(),
        })
    }
}

/// Column names are distinct and not empty.
pub fn check_names(names: &[String]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err("a column has no name".to_owned());
        }
        if !seen.insert(name) {
            return Err(format!("two columns are called {name:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        match Config::parse(text.as_bytes()) {
            Ok(_) => String::new(),
            Err(failure) => failure.message,
        }
    }

    #[test]
    fn a_configuration_is_held_against_its_rules() {
        for (text, message) in [
            ("{}", "missing field `streams`"),
            (r#"{"streams":[]}"#, "from 1 to 1000"),
            (
                r#"{"streams":[{"name":"a","path":"a.csv","format":"csv"}]}"#,
                "absolute",
            ),
            (
                r#"{"streams":[{"name":"a","path":"/d/../a.csv","format":"csv"}]}"#,
                "without `..`",
            ),
            (
                r#"{"streams":[{"name":"a","path":"/a","format":"xls"}]}"#,
                "unknown variant `xls`",
            ),
            (
                r#"{"streams":[{"name":"a","path":"/a","format":"csv","csv":{"delimter":";"}}]}"#,
                "unknown field `delimter`",
            ),
            (
                r#"{"streams":[{"name":"a","path":"/a","format":"csv","csv":{"quote":","}}]}"#,
                "must differ",
            ),
            (
                r#"{"streams":[{"name":"a","path":"/a","format":"jsonl","csv":{}}]}"#,
                "goes with format csv",
            ),
            (
                r#"{"streams":[{"name":"a","path":"/a","format":"csv"},{"name":"a","path":"/b","format":"csv"}]}"#,
                "a name of its own",
            ),
        ] {
            assert!(refused(text).contains(message), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn csv_has_defaults() {
        let text = r#"{"streams":[{"name":"a","path":"/a/*.csv","format":"csv"}]}"#;
        let config = Config::parse(text.as_bytes()).expect("it is right");
        let csv = config.streams[0].csv().expect("it is right");
        assert_eq!(
            (csv.delimiter, csv.quote, csv.header),
            (b',', Some(b'"'), true)
        );
        assert_eq!(csv.nulls, [Vec::<u8>::new()]);
    }
}
