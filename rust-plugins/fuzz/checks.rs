//! What holds for any input, for the fuzz targets and for the replay of their corpus (relay/tests/corpus.rs).

use dativo_wire::envelope::{self, Dialect, Message, StateKind, StreamRef};
use dativo_wire::fault::Fault;
use dativo_wire::framing::{Framer, Line, READ_BYTES};
use dativo_wire::oddity::OddSet;
use dativo_wire::scan::{Bad, Scanner, each_member};

const MAX_LINE_BYTES: usize = 4096;
const MAX_DEPTH: usize = 16;

/// Lines are the same however the bytes arrive; the first byte says how many come at once.
pub fn framing(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else {
        return;
    };
    let mut expected = Vec::new();
    let mut byte = 0;
    let mut whole = true;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let Some(bytes) = line.strip_suffix(b"\n") else {
            break;
        };
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.len() > MAX_LINE_BYTES {
            whole = false;
            break;
        }
        let bom = byte == 0 && bytes.starts_with(b"\xef\xbb\xbf");
        expected.push((byte as u64, &bytes[if bom { 3 } else { 0 }..]));
        byte += line.len();
    }
    let mut found = 0;
    let outcome = feed(text, first as usize + 1, &mut |line| {
        let (byte, bytes) = expected[found];
        assert_eq!(
            (line.number, line.byte, line.bytes),
            (found as u64 + 1, byte, bytes)
        );
        found += 1;
    });
    match outcome {
        Ok(rest) => {
            assert_eq!((found, rest), (expected.len(), text.len() - byte));
            assert!(whole && rest <= MAX_LINE_BYTES + 1);
        }
        Err(fault) => {
            assert_eq!(
                (fault.code, found),
                ("framing.line_too_long", expected.len())
            );
        }
    }
}

/// Hand each line of `text` to `each`; the bytes after the last one are counted.
fn feed(text: &[u8], chunk: usize, each: &mut dyn FnMut(Line<'_>)) -> Result<usize, Box<Fault>> {
    let mut framer = Framer::new(MAX_LINE_BYTES);
    let mut at = 0;
    loop {
        while let Some(line) = framer.line()? {
            each(line);
        }
        let read = |room: &mut [u8]| {
            assert!(room.len() <= READ_BYTES);
            let count = chunk.min(room.len()).min(text.len() - at);
            room[..count].copy_from_slice(&text[at..at + count]);
            at += count;
            Ok(count)
        };
        if framer.fill(read).is_ok_and(|count| count == 0) {
            return Ok(framer.partial().map_or(0, |rest| rest.bytes.len()));
        }
    }
}

/// Every message is taken or refused, and every part of one that is taken is a part of its line.
pub fn envelope(data: &[u8]) {
    for dialect in [Dialect::Airbyte, Dialect::Singer] {
        for line in data.split(|&byte| byte == b'\n') {
            if std::str::from_utf8(line).is_ok() {
                message(dialect, line);
            }
        }
    }
}

/// Read one message to its end; whether it is taken.
fn message(dialect: Dialect, line: &[u8]) -> bool {
    let mut odd = OddSet::default();
    let Ok(message) = envelope::read(dialect, line, MAX_DEPTH, &mut odd) else {
        return false;
    };
    match message {
        Message::Record(mut record) => {
            let start = record.data();
            let mut end = start;
            let Ok(data) = end.value() else {
                return false;
            };
            part_of(line, data);
            value(data);
            if record.finish(end, &mut odd).is_err() {
                return false;
            }
            named(&record.stream);
            let extras = record.extras;
            let parts = [
                extras.version,
                extras.extracted,
                extras.meta,
                extras.file_reference,
            ];
            for part in parts.into_iter().flatten() {
                part_of(line, part);
                value(part);
            }
        }
        Message::State(state) => {
            part_of(line, state.text);
            value(state.text);
            if let StateKind::Stream(stream) = state.kind {
                named(&stream);
            }
        }
        Message::Schema { schema, .. } => {
            part_of(line, schema);
            value(schema);
        }
        Message::ActivateVersion { .. } | Message::Batch(_) | Message::Notice(_) => {}
    }
    true
}

fn named(stream: &StreamRef<'_>) {
    assert!(stream.namespace.as_deref() != Some(""));
}

fn part_of(line: &[u8], part: &[u8]) {
    let (line, part) = (line.as_ptr_range(), part.as_ptr_range());
    assert!(line.start <= part.start && part.end <= line.end);
}

/// A part is one whole JSON value.
fn value(part: &[u8]) {
    let mut scanner = Scanner::new(part, MAX_DEPTH);
    scanner.value().expect("a value");
    assert!(scanner.end().is_ok());
}

/// Whatever the relay passes on is whole lines, each one message of the other dialect; what it refuses is never
/// completed.
pub fn relay(data: &[u8]) {
    for (from, to) in [
        ("airbyte", "singer"),
        ("airbyte", "airbyte"),
        ("singer", "singer"),
        ("singer", "airbyte"),
    ] {
        let open = open(from, to);
        let Ok(output) = dativo_relay::memory::pass(&open, data) else {
            continue;
        };
        let dialect = match to {
            "airbyte" => Dialect::Airbyte,
            _ => Dialect::Singer,
        };
        let text = std::str::from_utf8(&output).expect("UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'));
        for line in text.split_terminator('\n') {
            assert!(!line.contains('\r') && line.starts_with("{\"type\":\""));
            assert!(message(dialect, line.as_bytes()), "{line}");
            assert!(!has_dropped(dialect, line.as_bytes()), "{line}");
        }
        if from == to {
            // What it has written is nothing new to it.
            let keeping = open.replace("[\"dropped\"]", "[]");
            let again = dativo_relay::memory::pass(&keeping, &output);
            assert_eq!(again.as_deref(), Ok(output.as_slice()));
        }
    }
}

/// Whether the line is a record with a field that is to be left out.
fn has_dropped(dialect: Dialect, line: &[u8]) -> bool {
    let message = envelope::read(dialect, line, MAX_DEPTH, &mut OddSet::default());
    let Ok(Message::Record(record)) = message else {
        return false;
    };
    let mut end = record.data();
    let data = end.value().expect("a value");
    let mut found = false;
    let read = each_member::<Bad>(data, MAX_DEPTH, |key, _| {
        found |= *key == *b"dropped";
        Ok(())
    });
    read.expect("an object");
    found
}

/// An `open` with the streams `s`, `n.s` and `t`.
fn open(from: &str, to: &str) -> String {
    let stream = |namespace: &str, name: &str, out: &str| {
        format!(
            r#"{{"stream":{{"namespace":{namespace},"name":"{name}"}},"name":"{out}","key":["id"],"schema":"{{\"properties\":{{}}}}","drop":["dropped"]}}"#
        )
    };
    let streams = [
        stream("null", "s", "s"),
        stream("\"n\"", "s", "n__s"),
        stream("null", "t", "t"),
    ]
    .join(",");
    let limits = r#"{"max_line_bytes":65536,"max_depth":12,"max_columns":50,"max_streams":10,"max_state_bytes":4096,"max_text_lines":100,"max_withheld_bytes":65536}"#;
    format!(
        r#"{{"type":"open","input":"0","role":"pass","dialect":"{from}","as":"{to}","strict":false,"undeclared":"refuse","streams":[{streams}],"states":"pass","report_states":true,"statuses":false,"max_records":null,"limits":{limits}}}"#
    )
}
