//! Which key is which: in any order, unknown, twice, with escapes.

use super::*;
use crate::decode::record::MAX_IGNORED_KEYS;
use crate::oddity::Oddity;

#[test]
fn keys_in_any_order_missing_ignored_and_escaped() {
    let mut decoder = decoder(&[("a", "long"), ("b", "string"), ("c", "boolean")]);
    for record in [
        r#"{"a":1,"b":"x","c":true}"#,
        r#"{"c":false,"b":"y","a":2}"#,
        r#"{}"#,
        r#"{ "b" : "z" }"#,
        r#"{"d":{"a":9},"a":3,"e":[{}],"\u0062":"w"}"#,
        r#"{"d":{"a":9},"a":4,"e":[NaN],"\u0062":"v"}"#,
        r#"{"":1,"A":2}"#,
    ] {
        push(&mut decoder, record).unwrap_or_else(|reject| panic!("{record}: {reject:?}"));
    }
    let [a, b, c] = &decoder.finish()[..] else {
        panic!("three columns")
    };
    assert_eq!(
        a.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
        [Some(1), Some(2), None, None, Some(3), Some(4), None]
    );
    assert_eq!(
        b.as_string::<i32>().iter().collect::<Vec<_>>(),
        [
            Some("x"),
            Some("y"),
            None,
            Some("z"),
            Some("w"),
            Some("v"),
            None
        ]
    );
    assert_eq!(
        c.as_boolean().iter().collect::<Vec<_>>(),
        [Some(true), Some(false), None, None, None, None, None]
    );
    assert_eq!(decoder.rows(), 0);
}

#[test]
fn of_a_field_that_stands_twice_the_last_counts() {
    let mut decoder = decoder(&[("a", "long"), ("b", "string")]);
    for (record, odd) in [
        (r#"{"a":1,"b":"xyz","\u0061":2}"#, true),
        (r#"{"b":"long","b":"","a":1,"a":null,"c":1,"c":2}"#, true),
        (r#"{"b":"y","a":3,"c":1,"c":2}"#, false),
    ] {
        let end = decoder.push(Scanner::new(record.as_bytes(), 8));
        let end = end.expect("taken");
        assert_eq!(end.odd.contains(Oddity::DuplicateKey), odd, "{record}");
    }
    push(&mut decoder, r#"{"a":1,"a":"x"}"#).expect_err("the last is none");
    push(&mut decoder, r#"{"a":"x","b":5,"b":"z","a":4}"#).expect("the last ones are");
    let arrays = decoder.finish();
    assert_eq!(
        arrays[0]
            .as_primitive::<Int64Type>()
            .iter()
            .collect::<Vec<_>>(),
        [Some(2), None, Some(3), Some(4)]
    );
    assert_eq!(
        arrays[1].as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("xyz"), Some(""), Some("y"), Some("z")]
    );
}

#[test]
fn a_key_that_is_odd_is_so_each_time() {
    let mut decoder = decoder(&[("a\0", "long")]);
    let record = r#"{"a\u0000":1,"\ud800":2}"#;
    for _ in 0..3 {
        let end = decoder.push(Scanner::new(record.as_bytes(), 8));
        let odd = end.expect("taken").odd;
        assert!(odd.contains(Oddity::Nul) && odd.contains(Oddity::LoneSurrogate));
    }
    assert_eq!(printed(&decoder.finish()), ["1", "1", "1"]);
}

#[test]
fn the_last_counts_inside_objects_too() {
    let mut decoder = compiled(
        r#"{"properties":{"o":{"type":"object","properties":{"x":{"type":"integer"}}},
            "l":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"}}}}}}"#,
    );
    push(
        &mut decoder,
        r#"{"o":{"x":"no","x":1},"l":[{"x":[],"x":2},{"x":{},"x":null}]}"#,
    )
    .expect("taken");
    push(
        &mut decoder,
        r#"{"o":{"x":"no"},"o":{},"l":[{"x":""}],"l":[null]}"#,
    )
    .expect("taken");
    let reject =
        push(&mut decoder, r#"{"l":[{"x":1,"x":"no"}],"o":{"x":"no"}}"#).expect_err("misfits");
    assert_eq!(reject.fault(b"").field.as_deref(), Some("l.0.x"));
    push(&mut decoder, r#"{"o":{"x":"no","x":01}}"#).expect_err("no JSON");
    assert_eq!(
        printed(&decoder.finish()),
        ["{x: 1} | [{x: 2}, {x: -}]", "{x: -} | [-]"]
    );
}

#[test]
fn more_unknown_keys_than_are_learnt() {
    let mut decoder = decoder(&[("a", "long")]);
    for round in 0..3 {
        let unknown: String = (0..MAX_IGNORED_KEYS * 2)
            .map(|n| format!("\"k{n}\":{round},"))
            .collect();
        push(&mut decoder, &format!("{{{unknown}\"a\":{round}}}")).expect("taken");
    }
    assert_eq!(decoder.record.known_keys(), 1 + MAX_IGNORED_KEYS);
    assert_eq!(
        decoder.finish()[0].as_primitive::<Int64Type>().values(),
        &[0, 1, 2]
    );
}
