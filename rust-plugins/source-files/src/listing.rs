//! The files of a stream, in one order wherever they lie.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Failure;
use crate::config::Stream;

/// More files than this are no one stream's.
const MAX_FILES: usize = 100_000;

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: String,
    pub size: u64,
    pub mtime_ns: i64,
}

impl Found {
    pub fn new(path: String, metadata: &Metadata) -> Found {
        Found {
            path,
            size: metadata.len(),
            mtime_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        }
    }
}

/// All files that the stream's pattern fits, by path. What cannot be looked at is an error, not a file less.
pub fn files(stream: &Stream) -> Result<Vec<Found>, Failure> {
    let unreadable = |path: &Path, error: &std::io::Error| {
        Failure::new(format!(
            "stream {}: {}: {error}; the job's source.grants.read must hold it",
            stream.name,
            path.display()
        ))
    };
    let base = fixed_folder(&stream.path);
    if let Err(error) = std::fs::metadata(base) {
        return Err(unreadable(Path::new(base), &error));
    }
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        ..glob::MatchOptions::new()
    };
    let matches = glob::glob_with(&stream.path, options)
        .map_err(|error| stream.wrong(format_args!("path: {error}")))?;
    let mut found = Vec::new();
    for entry in matches {
        let path = entry.map_err(|error| unreadable(error.path(), error.error()))?;
        let metadata = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if !metadata.is_file() {
            continue;
        }
        if found.len() == MAX_FILES {
            return Err(stream.wrong(format_args!("more than {MAX_FILES} files")));
        }
        let Some(text) = path.to_str() else {
            return Err(stream.wrong(format_args!("{path:?} is not a name in UTF-8")));
        };
        found.push(Found::new(text.to_owned(), &metadata));
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The longest folder of a pattern that holds no wildcard.
fn fixed_folder(pattern: &str) -> &str {
    let fixed = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    match pattern[..fixed].rfind('/') {
        None | Some(0) => "/",
        Some(end) => &pattern[..end],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_before_the_first_wildcard() {
        for (pattern, folder) in [
            ("/data/in/*.csv", "/data/in"),
            ("/data/in/a.csv", "/data/in"),
            ("/data/2*/a.csv", "/data"),
            ("/data/**/a.csv", "/data"),
            ("/a.csv", "/"),
            ("/*", "/"),
        ] {
            assert_eq!(fixed_folder(pattern), folder, "{pattern}");
        }
    }
}
