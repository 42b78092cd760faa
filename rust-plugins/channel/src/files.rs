//! Messages that name files: Singer's BATCH and Airbyte's `file_reference`.
//!
//! They pass where a run has an exchange folder, and with plain paths below it alone: what else the target can see is none of
//! the source's business.

use dativo_wire::scan::{Bad, members};

/// Files of one BATCH.
const MAX_FILES: usize = 10_000;
const SCHEME: &str = "file://";

/// The parts of a BATCH that go on, as they are written.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    pub encoding: &'a [u8],
    pub manifest: &'a [u8],
    pub version: Option<&'a [u8]>,
}

/// Read a BATCH whose files lie below `root`.
pub fn batch<'a>(line: &'a [u8], max_depth: usize, root: &str) -> Result<Batch<'a>, Bad> {
    let names = ["encoding", "manifest", "version"];
    let [encoding, manifest, version] = members(line, max_depth, names)?;
    let encoding = encoding.filter(|text| text.starts_with(b"{"));
    let encoding = encoding.ok_or(refused("a BATCH needs an encoding, an object"))?;
    let manifest = manifest.ok_or(refused("a BATCH needs a manifest"))?;
    let files: Vec<String> = serde_json::from_slice(manifest)
        .map_err(|_| refused("the manifest of a BATCH is a list of texts"))?;
    if files.len() > MAX_FILES {
        return Err(refused("a BATCH of more than 10000 files"));
    }
    if !files.iter().all(|url| is_url_below(url, root)) {
        return Err(refused(
            "a BATCH of a file that is no plain file:// path below the exchange folder",
        ));
    }
    let version = version.filter(|version| *version != b"null");
    if version.is_some_and(|text| serde_json::from_slice::<i64>(text).is_err()) {
        return Err(refused("the version of a BATCH is a whole number"));
    }
    Ok(Batch {
        encoding,
        manifest,
        version,
    })
}

/// Check a `file_reference`: the file that it names lies below `root`, and the name that it is to have elsewhere leads nowhere up.
pub fn check_reference(text: &[u8], max_depth: usize, root: &str) -> Result<(), Bad> {
    let refused = |message| Bad {
        code: "message.file_reference",
        message,
        at: 0,
    };
    let names = ["staging_file_url", "source_file_relative_path"];
    let [url, name] = members(text, max_depth, names)?;
    let url: Option<String> = url.and_then(|url| serde_json::from_slice(url).ok());
    // The CDK writes a path.
    if !url.is_some_and(|url| is_path_below(&url, root) || is_url_below(&url, root)) {
        return Err(refused(
            "a file_reference to what is no plain path below the exchange folder",
        ));
    }
    let Some(name) = name.filter(|name| *name != b"null") else {
        return Ok(());
    };
    let name: Option<String> = serde_json::from_slice(name).ok();
    let leads_up = |name: String| name.split(['/', '\\']).any(|part| part == "..");
    if name.is_none_or(leads_up) {
        return Err(refused("the name of a file_reference leads upwards"));
    }
    Ok(())
}

/// Whether a `file://` URL means a path below `root` to everybody, whether or not he takes URLs and patterns apart.
fn is_url_below(url: &str, root: &str) -> bool {
    url.strip_prefix(SCHEME)
        .is_some_and(|path| is_path_below(path, root))
        && !url.contains(['%', '?', '#', '*', '[', ';'])
}

/// Whether `path` is `root`, a slash, and plain names.
fn is_path_below(path: &str, root: &str) -> bool {
    let Some(rest) = path
        .strip_prefix(root)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return false;
    };
    !rest.contains(|character: char| character.is_control() || character == '\\')
        && rest.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

fn refused(message: &'static str) -> Bad {
    Bad {
        code: "message.batch",
        message,
        at: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/exchange";

    fn of(manifest: &str) -> String {
        format!(r#"{{"type":"BATCH","stream":"s","encoding":{{}},"manifest":{manifest}}}"#)
    }

    #[test]
    fn plain_paths_below_the_folder_pass_as_they_are_written() {
        for manifest in [
            r#"["file:///exchange/a"]"#,
            r#"[ "file:///exchange/a b/tap--s-1.json.gz" , "file:///exchange\/\u00e9" ]"#,
            "[]",
        ] {
            let line = of(manifest);
            let found = batch(line.as_bytes(), 8, ROOT).expect("plain");
            assert_eq!(
                (found.manifest, found.encoding, found.version),
                (manifest.as_bytes(), &b"{}"[..], None)
            );
        }
        let line = r#"{"version":7,"manifest":[],"encoding":{"format":"jsonl"}}"#;
        let found = batch(line.as_bytes(), 8, ROOT).expect("plain");
        assert_eq!(found.version, Some(&b"7"[..]));
    }

    #[test]
    fn everything_else_is_refused() {
        for url in [
            "/exchange/a",
            "file:///etc/passwd",
            "file:///exchange",
            "file:///exchange/",
            "file:///exchange//a",
            "file:///exchangeable/a",
            "file:///exchange/../tmp/dativo/config.json",
            "file:///exchange/a/..",
            "file:///exchange/./a",
            "file:///exchange/%2e%2e/a",
            "file:///exchange/a?b",
            "file:///exchange/a#b",
            r"file:///exchange/a\\b",
            r"file:///exchange/a\u0000b",
            r"file:///exchange/\ud800",
            "file:///exchange/*",
            "file://host/exchange/a",
            "FILE:///exchange/a",
            "s3://bucket/a",
            "",
        ] {
            let line = of(&format!(r#"["file:///exchange/a","{url}"]"#));
            let bad = batch(line.as_bytes(), 8, ROOT).expect_err(url);
            assert_eq!(bad.code, "message.batch", "{url}");
        }
        for manifest in ["null", "{}", "[1]", r#""file:///exchange/a""#, "[null]"] {
            let line = of(manifest);
            assert!(batch(line.as_bytes(), 8, ROOT).is_err(), "{manifest}");
        }
        for line in [
            r#"{"manifest":[]}"#,
            r#"{"encoding":{}}"#,
            r#"{"encoding":"x","manifest":[]}"#,
            r#"{"encoding":{},"manifest":[],"version":"1"}"#,
            r#"{"encoding":{},"manifest":[],"manifest":["file:///etc/passwd"]}"#,
        ] {
            assert!(batch(line.as_bytes(), 8, ROOT).is_err(), "{line}");
        }
        let many = format!("[{}]", vec![r#""file:///exchange/a""#; 10_001].join(","));
        assert!(batch(of(&many).as_bytes(), 8, ROOT).is_err());
    }

    #[test]
    fn a_reference_is_a_path_or_a_url_below_the_folder() {
        for (text, holds) in [
            (r#"{"staging_file_url":"/exchange/f/a.pdf"}"#, true),
            (r#"{"staging_file_url":"file:///exchange/a.pdf"}"#, true),
            (
                r#"{"staging_file_url":"/exchange/~a [1] 50%;#?.pdf"}"#,
                true,
            ),
            (
                r#"{"staging_file_url":"/exchange/a","source_file_relative_path":"/f/a..b"}"#,
                true,
            ),
            (
                r#"{"staging_file_url":"/exchange/a","source_file_relative_path":null}"#,
                true,
            ),
            (
                r#"{"staging_file_url":"/exchange/a","source_file_relative_path":"f/../../a"}"#,
                false,
            ),
            (
                r#"{"staging_file_url":"/exchange/a","source_file_relative_path":[]}"#,
                false,
            ),
            (r#"{"staging_file_url":"file:///exchange/50%"}"#, false),
            (r#"{"staging_file_url":"/exchange/../etc/passwd"}"#, false),
            (r#"{"staging_file_url":"/tmp/dativo/config.json"}"#, false),
            (r#"{"staging_file_url":7}"#, false),
            ("{}", false),
            ("[]", false),
        ] {
            let found = check_reference(text.as_bytes(), 8, ROOT);
            assert_eq!(found.is_ok(), holds, "{text}");
        }
    }
}
