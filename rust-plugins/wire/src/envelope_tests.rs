use super::*;

const DEPTH: usize = 16;

fn airbyte(line: &str) -> Result<Message<'_>, Bad> {
    read(
        Dialect::Airbyte,
        line.as_bytes(),
        DEPTH,
        &mut OddSet::default(),
    )
}

fn singer(line: &str) -> Result<Message<'_>, Bad> {
    read(
        Dialect::Singer,
        line.as_bytes(),
        DEPTH,
        &mut OddSet::default(),
    )
}

/// Read a record to its end: its namespace, stream and data.
fn record(message: Result<Message<'_>, Bad>) -> Result<(Option<String>, String, String), Bad> {
    let Message::Record(mut record) = message? else {
        panic!("not a record")
    };
    let mut scanner = record.data();
    let data = std::str::from_utf8(scanner.value()?)
        .expect("UTF-8")
        .to_owned();
    let late = record.finish(scanner, &mut OddSet::default())?;
    assert!(!record.is_open());
    let namespace = late.or(record.stream.namespace).map(Cow::into_owned);
    Ok((namespace, record.stream.name.into_owned(), data))
}

fn refused<T>(result: Result<T, Bad>) -> &'static str {
    result.err().map_or("taken", |bad| bad.code)
}

fn notice(message: Result<Message<'_>, Bad>) -> (NoticeKind, Option<String>, String) {
    let Ok(Message::Notice(notice)) = message else {
        panic!("not a notice")
    };
    (
        notice.kind,
        notice.level.map(Cow::into_owned),
        String::from_utf8_lossy(&notice.text).into_owned(),
    )
}

#[test]
fn airbyte_records_with_keys_in_any_order() {
    let none = (None, "s".to_owned(), r#"{"a":1}"#.to_owned());
    for line in [
        r#"{"type":"RECORD","record":{"stream":"s","data":{"a":1},"emitted_at":1}}"#,
        r#" { "type" : "RECORD" , "record" : { "stream" : "s" , "data" : {"a":1} , "emitted_at" : 1 } } "#,
        r#"{"type":"RECORD","record":{"namespace":null,"stream":"s","data":{"a":1}}}"#,
        r#"{"type":"RECORD","record":{"namespace":"","stream":"s","data":{"a":1}}}"#,
        r#"{"type":"RECORD","record":{"stream":"s","data":{"a":1},"namespace":null}}"#,
        r#"{"type":"RECORD","record":{"data":{"a":1},"stream":"s"}}"#,
        r#"{"record":{"stream":"s","data":{"a":1}},"type":"RECORD"}"#,
        r#"{"x":[{}],"type":"RECORD","record":{"meta":{"changes":[]},"stream":"s","data":{"a":1},"x":NaN},"y":1}"#,
        r#"{"ty\u0070e":"RECORD","record":{"stream":"\u0073","d\u0061ta":{"a":1}}}"#,
    ] {
        assert_eq!(record(airbyte(line)), Ok(none.clone()), "{line}");
    }
    for line in [
        r#"{"type":"RECORD","record":{"namespace":"n","stream":"s","data":{}}}"#,
        r#"{"type":"RECORD","record":{"stream":"s","data":{},"namespace":"n"}}"#,
        r#"{"type":"RECORD","record":{"data":{},"namespace":"n","stream":"s"}}"#,
    ] {
        assert_eq!(
            record(airbyte(line)),
            Ok((Some("n".into()), "s".into(), "{}".into())),
            "{line}"
        );
    }
}

#[test]
fn singer_records_with_keys_in_any_order() {
    for line in [
        r#"{"type":"RECORD","stream":"s","record":{"a":1},"time_extracted":"x"}"#,
        r#"{"type":"Record","stream":"s","record":{"a":1}}"#,
        r#"{"stream":"s","type":"RECORD","record":{"a":1}}"#,
        r#"{"type":"RECORD","record":{"a":1},"stream":"s"}"#,
        r#"{"record":{"a":1},"stream":"s","type":"record","version":7}"#,
    ] {
        assert_eq!(
            record(singer(line)),
            Ok((None, "s".into(), r#"{"a":1}"#.into())),
            "{line}"
        );
    }
}

#[test]
fn lines_that_are_no_messages() {
    for (line, code) in [
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{}}"#,
            "json.invalid",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{}}}}"#,
            "json.invalid",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{}}} x"#,
            "json.invalid",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{}},}"#,
            "json.invalid",
        ),
        (r#"{"type":"RECORD","record":{"stream":"s""#, "json.invalid"),
        (r#"{"type":"#, "json.invalid"),
        ("{", "json.invalid"),
        (
            r#"{"type":"RECORD","type":"RECORD","record":{"stream":"s","data":{}}}"#,
            "json.duplicate_key",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{}},"type":"RECORD"}"#,
            "json.duplicate_key",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{}},"record":{}}"#,
            "json.duplicate_key",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","stream":"t","data":{}}}"#,
            "json.duplicate_key",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{},"stream":"t"}}"#,
            "json.duplicate_key",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{},"d\u0061ta":{}}}"#,
            "json.duplicate_key",
        ),
        (
            r#"{"type":"RECORD","record":{"namespace":"a","stream":"s","data":{},"namespace":"b"}}"#,
            "json.duplicate_key",
        ),
        (
            r#"{"type":"RECORD","record":{"data":{},"data":{},"stream":"s"}}"#,
            "json.duplicate_key",
        ),
        ("{}", "message.invalid"),
        (r#"{"fish":"tuna"}"#, "message.invalid"),
        (r#"{"type":7}"#, "message.invalid"),
        (r#"{"type":null}"#, "message.invalid"),
        (r#"{"type":"RECORD"}"#, "message.invalid"),
        (r#"{"type":"RECORD","record":{}}"#, "message.invalid"),
        (
            r#"{"type":"RECORD","record":{"stream":"s"}}"#,
            "message.invalid",
        ),
        (
            r#"{"type":"RECORD","record":{"data":{}}}"#,
            "message.invalid",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":7,"data":{}}}"#,
            "message.invalid",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"\ud800","data":{}}}"#,
            "message.invalid",
        ),
        (
            r#"{"type":"RECORD","record":{"stream":"s","data":{},"namespace":7}}"#,
            "message.invalid",
        ),
        (
            r#"{"type":"record","record":{"stream":"s","data":{}}}"#,
            "message.invalid",
        ),
        (r#"{"type":"State","state":{}}"#, "message.invalid"),
        (r#"{"type":"LOG"}"#, "message.invalid"),
        (r#"{"type":"TRACE"}"#, "message.invalid"),
        (r#"{"type":"CONTROL"}"#, "message.invalid"),
    ] {
        let result = match airbyte(line) {
            Ok(Message::Record(_)) => record(airbyte(line)).map(|_| ()),
            other => other.map(|_| ()),
        };
        assert_eq!(refused(result), code, "{line}");
    }
    for (line, code) in [
        (r#"{"type":"RECORD","stream":"s"}"#, "message.invalid"),
        (r#"{"type":"RECORD","record":{}}"#, "message.invalid"),
        (
            r#"{"type":"RECORD","stream":null,"record":{}}"#,
            "message.invalid",
        ),
        (
            r#"{"type":"RECORD","stream":"s","record":{},"stream":"t"}"#,
            "json.duplicate_key",
        ),
        (
            r#"{"type":"RECORD","stream":"s","record":{}"#,
            "json.invalid",
        ),
        (
            r#"{"type":"SCHEMA","stream":"s","key_properties":[]}"#,
            "schema.invalid",
        ),
        (
            r#"{"type":"SCHEMA","stream":"s","schema":{},"key_properties":["a",1]}"#,
            "schema.invalid",
        ),
        (
            r#"{"type":"SCHEMA","stream":"s","schema":{},"key_properties":"a"}"#,
            "schema.invalid",
        ),
        (r#"{"type":"SCHEMA","schema":{}}"#, "message.invalid"),
    ] {
        let result = match singer(line) {
            Ok(Message::Record(_)) => record(singer(line)).map(|_| ()),
            other => other.map(|_| ()),
        };
        assert_eq!(refused(result), code, "{line}");
    }
    let deep = format!(
        r#"{{"type":"LOG","x":{}{}}}"#,
        "[".repeat(16),
        "]".repeat(16)
    );
    assert_eq!(refused(airbyte(&deep)), "json.too_deep");
}

#[test]
fn states_keep_their_text() {
    let state = |message: Result<Message<'static>, Bad>| match message {
        Ok(Message::State(State { kind, text })) => {
            (kind, std::str::from_utf8(text).expect("UTF-8"))
        }
        other => panic!("not a state: {other:?}"),
    };
    let stream = |namespace: Option<&'static str>| {
        StateKind::Stream(StreamRef {
            namespace: namespace.map(Cow::Borrowed),
            name: "s".into(),
        })
    };
    let text = r#"{"type":"STREAM" , "stream":{"stream_descriptor":{"name":"s","namespace":""},"stream_state":{"n":1.50,"big":12345678901234567890123}},"sourceStats":{"recordCount":2.0}}"#;
    let line = format!(r#"{{"type":"STATE","state":{text} }}"#).leak();
    assert_eq!(state(airbyte(line)), (stream(None), text));
    let line = r#"{"state":{"type":"STREAM","stream":{"stream_descriptor":{"namespace":"n","name":"s"},"stream_state":null}},"type":"STATE"}"#;
    assert_eq!(state(airbyte(line)).0, stream(Some("n")));
    assert_eq!(
        state(airbyte(
            r#"{"type":"STATE","state":{"type":"GLOBAL","global":{}}}"#
        ))
        .0,
        StateKind::Global
    );
    assert_eq!(
        state(airbyte(
            r#"{"type":"STATE","state":{"type":null,"data":{"a":1}}}"#
        ))
        .0,
        StateKind::Legacy
    );
    assert_eq!(
        state(singer(r#"{"type":"state","value":{"a": 1e2}}"#)),
        (StateKind::Singer, r#"{"a": 1e2}"#)
    );
    assert_eq!(
        state(singer(r#"{"type":"STATE","value":{}}"#)),
        (StateKind::Singer, "{}")
    );
}

#[test]
fn states_that_are_none() {
    for (line, code) in [
        (r#"{"type":"STATE"}"#, "state.empty"),
        (r#"{"type":"STATE","state":null}"#, "state.empty"),
        (r#"{"type":"STATE","state":{}}"#, "state.empty"),
        (
            r#"{"type":"STATE","state":{"type":"STREAM"}}"#,
            "state.empty",
        ),
        (
            r#"{"type":"STATE","state":{"type":"GLOBAL","global":null}}"#,
            "state.empty",
        ),
        (
            r#"{"type":"STATE","state":{"type":"STREAM","stream":{}}}"#,
            "state.invalid",
        ),
        (
            r#"{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{}}}}"#,
            "state.invalid",
        ),
        (
            r#"{"type":"STATE","state":{"type":"OTHER"}}"#,
            "state.invalid",
        ),
        (
            r#"{"type":"STATE","state":{"type":"GLOBAL","global":{"a":NaN}}}"#,
            "state.invalid",
        ),
    ] {
        assert_eq!(refused(airbyte(line)), code, "{line}");
    }
    for line in [r#"{"type":"STATE"}"#, r#"{"type":"STATE","value":null}"#] {
        assert_eq!(refused(singer(line)), "state.empty", "{line}");
    }
}

#[test]
fn schemas_of_singer() {
    let line = r#"{"type":"SCHEMA","stream":"s","schema":{"properties":{}},"key_properties":["a","b"],"bookmark_properties":"c"}"#;
    let Ok(Message::Schema {
        stream,
        schema,
        keys,
    }) = singer(line)
    else {
        panic!("not a schema")
    };
    assert_eq!(
        (stream.name.as_ref(), schema, keys),
        (
            "s",
            &br#"{"properties":{}}"#[..],
            vec!["a".to_owned(), "b".to_owned()]
        )
    );
    for keys in ["", r#","key_properties":null"#, r#","key_properties":[]"#] {
        let line = format!(r#"{{"type":"schema","stream":"s","schema":{{}}{keys}}}"#);
        assert!(matches!(singer(&line), Ok(Message::Schema { keys, .. }) if keys.is_empty()));
    }
}

#[test]
fn what_else_a_source_says() {
    for (line, kind, level, text) in [
        (
            r#"{"type":"LOG","log":{"level":"INFO","message":"a\nb"}}"#,
            NoticeKind::Log,
            Some("INFO"),
            "a\nb",
        ),
        (
            r#"{"type":"LOG","log":{"level":7}}"#,
            NoticeKind::Log,
            None,
            r#"{"level":7}"#,
        ),
        (
            r#"{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1.5,"error":{"message":"m","internal_message":"i"}}}"#,
            NoticeKind::TraceError,
            Some("ERROR"),
            "m",
        ),
        (
            r#"{"type":"TRACE","trace":{"type":"ERROR","error":{"internal_message":"i"}}}"#,
            NoticeKind::TraceError,
            Some("ERROR"),
            "i",
        ),
        (
            r#"{"type":"TRACE","trace":{"type":"ERROR"}}"#,
            NoticeKind::TraceOther,
            None,
            r#"{"type":"ERROR"}"#,
        ),
        (
            r#"{"type":"TRACE","trace":{"type":"STREAM_STATUS","stream_status":{"status":"STARTED"}}}"#,
            NoticeKind::TraceStatus,
            None,
            r#"{"status":"STARTED"}"#,
        ),
        (
            r#"{"type":"TRACE","trace":{"type":"ESTIMATE","estimate":{"a":1}}}"#,
            NoticeKind::TraceEstimate,
            None,
            r#"{"a":1}"#,
        ),
        (
            r#"{"type":"TRACE","trace":{"type":"ANALYTICS"}}"#,
            NoticeKind::TraceOther,
            None,
            r#"{"type":"ANALYTICS"}"#,
        ),
        (
            r#"{"type":"CONTROL","control":{"type":"CONNECTOR_CONFIG"}}"#,
            NoticeKind::Control,
            None,
            r#"{"type":"CONNECTOR_CONFIG"}"#,
        ),
        (
            r#"{"type":"DEBUG","x":1}"#,
            NoticeKind::Unknown,
            None,
            r#"{"type":"DEBUG","x":1}"#,
        ),
        (
            r#"{"type":"SPEC","spec":{}}"#,
            NoticeKind::Unknown,
            None,
            r#"{"type":"SPEC","spec":{}}"#,
        ),
    ] {
        assert_eq!(
            notice(airbyte(line)),
            (kind, level.map(str::to_owned), text.to_owned()),
            "{line}"
        );
    }
    let line = r#"{"type":"LOG"}"#;
    assert_eq!(notice(singer(line)).0, NoticeKind::Unknown);
}

/// What a record carries besides its data, once it is read to its end.
fn extras(dialect: Dialect, line: &str) -> Extras<'_> {
    let mut odd = OddSet::default();
    let Ok(Message::Record(mut record)) = read(dialect, line.as_bytes(), DEPTH, &mut odd) else {
        panic!("not a record: {line}")
    };
    let mut end = record.data();
    end.value().expect("data");
    record.finish(end, &mut odd).expect("the rest");
    record.extras
}

#[test]
fn what_a_record_carries_besides_its_data_is_found_on_both_sides_of_it() {
    for line in [
        r#"{"type":"RECORD","stream":"s","record":{},"version":7,"time_extracted":"x"}"#,
        r#"{"version":7,"type":"RECORD","time_extracted":"x","stream":"s","record":{"version":8}}"#,
        r#"{"record":{},"version":7,"stream":"s","time_extracted":"x","type":"RECORD"}"#,
    ] {
        let found = extras(Dialect::Singer, line);
        assert_eq!(found.version(), Ok(Some(7)), "{line}");
        assert_eq!(found.extracted, Some(&b"\"x\""[..]), "{line}");
    }
    for line in [
        r#"{"type":"RECORD","record":{"stream":"s","data":{"meta":1},"emitted_at":1.0,"meta":{ },"file_reference":[]}}"#,
        r#"{"type":"RECORD","record":{"file_reference":[],"meta":{ },"emitted_at":1.0,"stream":"s","data":{}}}"#,
        r#"{"record":{"data":{},"meta":{ },"emitted_at":1.0,"stream":"s","file_reference":[]},"type":"RECORD"}"#,
    ] {
        let found = extras(Dialect::Airbyte, line);
        assert_eq!(found.extracted, Some(&b"1.0"[..]), "{line}");
        assert_eq!(found.meta, Some(&b"{ }"[..]), "{line}");
        assert_eq!(found.file_reference, Some(&b"[]"[..]), "{line}");
    }
    let none = r#"{"type":"RECORD","stream":"s","version":null,"record":{},"time_extracted":null}"#;
    assert_eq!(extras(Dialect::Singer, none), Extras::default());
    for version in ["1.5", "\"1\"", "[]", "99999999999999999999"] {
        let line = format!(r#"{{"type":"RECORD","stream":"s","record":{{}},"version":{version}}}"#);
        let found = extras(Dialect::Singer, &line).version();
        assert_eq!(refused(found), "message.invalid", "{version}");
    }
    let twice = r#"{"type":"RECORD","stream":"s","version":1,"record":{},"version":1}"#;
    assert_eq!(refused(record(singer(twice))), "json.duplicate_key");
}

#[test]
fn versions_are_activated_and_batches_named() {
    let message = singer(r#"{"version":-3,"type":"Activate_Version","stream":"s"}"#);
    assert!(matches!(
        message,
        Ok(Message::ActivateVersion { stream, version: -3 }) if stream.name == "s"
    ));
    for (line, code) in [
        (
            r#"{"type":"ACTIVATE_VERSION","stream":"s"}"#,
            "message.invalid",
        ),
        (
            r#"{"type":"ACTIVATE_VERSION","version":1}"#,
            "message.invalid",
        ),
        (
            r#"{"type":"ACTIVATE_VERSION","stream":"s","version":"1"}"#,
            "message.invalid",
        ),
        (r#"{"type":"BATCH","manifest":[]}"#, "message.invalid"),
    ] {
        assert_eq!(refused(singer(line)), code, "{line}");
    }
    let batch = singer(r#"{"type":"batch","stream":"s","manifest":["file:///x"]}"#);
    assert!(matches!(batch, Ok(Message::Batch(stream)) if stream.name == "s"));
}

#[test]
fn oddities_are_seen_wherever_they_stand() {
    use Oddity::{LoneSurrogate, Nan, Nul, TypeCase, UnknownType};
    for (line, expected) in [
        (
            r#"{"type":"RECORD","stream":"s","record":{"a":"\ud83c\udf89"}}"#,
            None,
        ),
        (
            r#"{"type":"RECORD","stream":"s","record":{"a":NaN}}"#,
            Some(Nan),
        ),
        (
            r#"{"type":"RECORD","stream":"s","record":{},"x":-Infinity}"#,
            Some(Nan),
        ),
        (
            r#"{"type":"RECORD","x":"\u0000","stream":"s","record":{}}"#,
            Some(Nul),
        ),
        (
            r#"{"type":"RECORD","record":{"\ud800":1},"stream":"s"}"#,
            Some(LoneSurrogate),
        ),
        (
            r#"{"type":"RECORD","stream":"s","record":{"a":"\udf89\ud83c"}}"#,
            Some(LoneSurrogate),
        ),
        (
            r#"{"type":"record","stream":"s","record":{}}"#,
            Some(TypeCase),
        ),
        (r#"{"type":"FISH"}"#, Some(UnknownType)),
    ] {
        let mut odd = OddSet::default();
        let message = read(Dialect::Singer, line.as_bytes(), DEPTH, &mut odd).expect("taken");
        if let Message::Record(mut record) = message {
            let mut end = record.data();
            end.value().expect("data");
            record.finish(end, &mut odd).expect("the rest");
        }
        let expected = expected.map_or_else(OddSet::default, OddSet::from);
        assert_eq!(odd, expected, "{line}");
    }
}

/// What a record is: stream, data, extras, or the code of what is wrong with it.
fn whole_record(mut record: Record<'_>) -> Result<String, &'static str> {
    let mut odd = OddSet::default();
    let start = record.data();
    let mut end = start;
    end.value().map_err(|bad| bad.code)?;
    let namespace = record.finish(end, &mut odd).map_err(|bad| bad.code)?;
    let data = String::from_utf8_lossy(&start.bytes()[start.pos()..end.pos()]).into_owned();
    Ok(format!(
        "{:?} {namespace:?} {data} {:?} {odd:?}",
        record.stream, record.extras
    ))
}

#[test]
fn a_line_that_begins_like_the_last_one_is_read_the_same_from_there() {
    let lines = [
        (
            Dialect::Airbyte,
            r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":5}}"#,
        ),
        (
            Dialect::Airbyte,
            r#"{"type":"RECORD","record":{"namespace":"n","stream":"a","data": {"x":[1]},"emitted_at":5},"k":1}"#,
        ),
        (
            Dialect::Airbyte,
            r#"{"type":"RECORD","record":{"stream":"a","data":{},"namespace":"late"}}"#,
        ),
        (
            Dialect::Singer,
            r#"{"type":"RECORD","stream":"a","record":{"x":1},"version":3}"#,
        ),
        (
            Dialect::Singer,
            r#"{"type": "RECORD", "stream": "a", "record":   {"x": "y"}}"#,
        ),
    ];
    let ends = [
        "",
        "}",
        "}}",
        "\"}",
        ",\"stream\":\"b\"}}",
        ",\"type\":1}",
        " {\"x\":2}}}",
        "{\"x\":2}}",
    ];
    for (dialect, first) in lines {
        let mut odd = OddSet::default();
        let Ok(Message::Record(record)) = read(dialect, first.as_bytes(), 8, &mut odd) else {
            panic!("{first}");
        };
        let mut head = Head::default();
        assert!(head.resume(first.as_bytes(), 8).is_none());
        record.remember(&mut head);
        let begin = record.data().pos();
        let others =
            (begin..=first.len()).flat_map(|cut| ends.map(|end| format!("{}{end}", &first[..cut])));
        for line in others {
            let mut odd = OddSet::default();
            let resumed = head.resume(line.as_bytes(), 8).map(whole_record);
            let expected = match read(dialect, line.as_bytes(), 8, &mut odd) {
                Ok(Message::Record(record)) => whole_record(record),
                Ok(other) => panic!("{line}: {other:?}"),
                Err(bad) => Err(bad.code),
            };
            assert_eq!(resumed, Some(expected), "{line}");
        }
    }
}

#[test]
fn a_beginning_that_says_more_than_the_stream_is_not_remembered() {
    for (dialect, line) in [
        (
            Dialect::Singer,
            r#"{"type":"RECORD","version":3,"stream":"a","record":{}}"#,
        ),
        (
            Dialect::Airbyte,
            r#"{"type":"RECORD","record":{"emitted_at":5,"stream":"a","data":{}}}"#,
        ),
        (
            Dialect::Airbyte,
            r#"{"record":{"data":{},"stream":"a"},"type":"RECORD"}"#,
        ),
    ] {
        let mut odd = OddSet::default();
        let Ok(Message::Record(record)) = read(dialect, line.as_bytes(), 8, &mut odd) else {
            panic!("{line}");
        };
        let mut head = Head::default();
        record.remember(&mut head);
        assert!(head.resume(line.as_bytes(), 8).is_none(), "{line}");
    }
}
