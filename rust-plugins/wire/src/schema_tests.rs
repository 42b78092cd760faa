use super::*;

fn columns(schema: &str) -> Result<Vec<Column>, Box<Fault>> {
    let options = Options {
        max_columns: 100,
        max_depth: 64,
        numbers: Numbers::Double,
    };
    compile(schema.as_bytes(), options)
}

/// The type of a property with the schema `node`, `quoted` marked.
fn kind(node: &str) -> String {
    let definitions = r##""definitions":{"money":{"type":["null","number"],"multipleOf":0.01},"a/b":{"type":"boolean"},
        "hop":{"$ref":"#/definitions/money"},"loop":{"$ref":"#/definitions/loop"}}"##;
    match columns(&format!(r#"{{"properties":{{"p":{node}}},{definitions}}}"#)) {
        Ok(columns) => match &columns[0].shape {
            Shape::Value { kind, quoted: true } => format!("{kind} quoted"),
            shape => shape.to_string(),
        },
        Err(fault) => fault.code.to_owned(),
    }
}

#[test]
fn every_kind_of_node() {
    for (node, expected) in [
        (r#"{"type":"boolean"}"#, "boolean"),
        (r#"{"type":["null","boolean"]}"#, "boolean"),
        (r#"{"type":"integer"}"#, "long"),
        (
            r#"{"type":["integer","null"],"maximum":9223372036854775807}"#,
            "long",
        ),
        (
            r#"{"type":["integer","null"],"maximum":18446744073709551615}"#,
            "decimal(38,0)",
        ),
        (
            r#"{"type":"integer","minimum":-9223372036854775809}"#,
            "decimal(38,0)",
        ),
        (
            r#"{"type":"integer","airbyte_type":"big_integer"}"#,
            "decimal(38,0)",
        ),
        (
            r#"{"type":"string","airbyte_type":"big_integer"}"#,
            "decimal(38,0)",
        ),
        (r#"{"type":"number","airbyte_type":"integer"}"#, "long"),
        (r#"{"type":"number"}"#, "double"),
        (r#"{"type":["integer","number"]}"#, "double"),
        (r#"{"type":"number","multipleOf":0.01}"#, "decimal(38,2)"),
        (r#"{"type":"number","multipleOf":1e-09}"#, "decimal(38,9)"),
        (r#"{"type":"number","multipleOf":0.05}"#, "double"),
        (
            r#"{"type":"number","airbyte_type":"big_number"}"#,
            "decimal(38,9)",
        ),
        (
            r#"{"type":["string","null"],"format":"singer.decimal"}"#,
            "decimal(38,9)",
        ),
        (
            r#"{"type":"string","format":"x-singer.decimal","precision":12,"scale":3}"#,
            "decimal(12,3)",
        ),
        (
            r#"{"type":"string","format":"x-singer.decimal","precision":99,"scale":3}"#,
            "decimal(38,9)",
        ),
        (r#"{"type":"string"}"#, "string"),
        (r#"{"type":"string","format":"uuid"}"#, "string"),
        (r#"{"type":"string","format":"date"}"#, "date"),
        (r#"{"type":"string","format":"date-time"}"#, "timestamptz"),
        (
            r#"{"type":"string","format":"date-time","airbyte_type":"timestamp_with_timezone"}"#,
            "timestamptz",
        ),
        (
            r#"{"type":"string","format":"date-time","airbyte_type":"timestamp_without_timezone"}"#,
            "timestamp",
        ),
        (r#"{"type":"string","format":"time"}"#, "time"),
        (
            r#"{"type":"string","airbyte_type":"time_without_timezone"}"#,
            "time",
        ),
        (
            r#"{"type":"string","format":"time","airbyte_type":"time_with_timezone"}"#,
            "string",
        ),
        (r#"{"type":"string","contentEncoding":"base64"}"#, "binary"),
        (r#"{"type":"string","contentEncoding":"base16"}"#, "string"),
        (r#"{"type":"object"}"#, "json"),
        (
            r#"{"type":["null","array"],"items":{"type":"integer"}}"#,
            "list<long>",
        ),
        (r#"{"type":["string","integer"]}"#, "json"),
        (r#"{"type":"null"}"#, "json"),
        (r#"{"type":[]}"#, "json"),
        ("{}", "json"),
        ("true", "json"),
        (r#"{"format":"date"}"#, "json"),
        (
            r#"{"anyOf":[{"type":"null"},{"type":"string","format":"date"}]}"#,
            "date",
        ),
        (r#"{"oneOf":[{"type":"integer"},{"type":"null"}]}"#, "long"),
        (
            r#"{"anyOf":[{"type":"integer"},{"type":["number","null"]}]}"#,
            "double",
        ),
        (
            r#"{"oneOf":[{"type":"number","multipleOf":0.01},{"type":"integer"}]}"#,
            "decimal(38,2)",
        ),
        (
            r#"{"anyOf":[{"type":"integer"},{"type":"string","format":"singer.decimal","precision":20,"scale":2}]}"#,
            "json",
        ),
        (
            r#"{"anyOf":[{"type":"number"},{"type":"number","multipleOf":0.01}]}"#,
            "json",
        ),
        (
            r#"{"anyOf":[{"type":"integer"},{"type":"string"}]}"#,
            "json",
        ),
        (
            r#"{"anyOf":[{"type":"string","format":"date-time"},{"type":["string","null"]}]}"#,
            "string",
        ),
        (
            r#"{"oneOf":[{"type":"string","format":"date-time"},{"type":"string","format":"date"}]}"#,
            "string",
        ),
        (
            r#"{"anyOf":[{"type":"string","format":"date"},{"type":"object"}]}"#,
            "json",
        ),
        (r#"{"anyOf":[{"type":"null"}]}"#, "json"),
        (
            r##"{"allOf":[{"$ref":"#/definitions/money"}]}"##,
            "decimal(38,2)",
        ),
        (r#"{"allOf":[{"type":"string"},{"maxLength":3}]}"#, "json"),
        (r#"{"enum":["a","b",null]}"#, "string"),
        (r#"{"enum":[1,2]}"#, "long"),
        (r#"{"enum":[1,2.5]}"#, "double"),
        (r#"{"enum":["a",1]}"#, "json"),
        (r#"{"const":true}"#, "boolean"),
        (r##"{"$ref":"#/definitions/money"}"##, "decimal(38,2)"),
        (r##"{"$ref":"#/definitions/hop"}"##, "decimal(38,2)"),
        (r##"{"$ref":"#/definitions/a~1b"}"##, "boolean"),
        (
            r##"{"oneOf":[{"type":"null"},{"$ref":"#/definitions/hop"}]}"##,
            "decimal(38,2)",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/String"}"#,
            "string",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/BinaryData"}"#,
            "binary",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/Date"}"#,
            "date",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/TimestampWithTimezone"}"#,
            "timestamptz",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/TimestampWithoutTimezone"}"#,
            "timestamp",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/TimeWithTimezone"}"#,
            "string",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/TimeWithoutTimezone"}"#,
            "time",
        ),
        (
            r#"{"$ref":"https://x.example/v1/WellKnownTypes.json#/definitions/Number"}"#,
            "double quoted",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/Integer"}"#,
            "long quoted",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/Boolean"}"#,
            "boolean",
        ),
        (
            r#"{"$ref":"WellKnownTypes.json#/definitions/Nothing"}"#,
            "schema.invalid",
        ),
        (
            r#"{"$ref":"https://x.example/other.json"}"#,
            "schema.invalid",
        ),
        (r##"{"$ref":"#/definitions/none"}"##, "schema.invalid"),
        (r##"{"$ref":"#/definitions/loop"}"##, "schema.invalid"),
        (
            r##"{"$ref":"#/definitions/money/type/0"}"##,
            "schema.invalid",
        ),
        (r#"{"type":"text"}"#, "schema.invalid"),
        (r#"{"type":7}"#, "schema.invalid"),
        (r#"{"type":"string","type":"integer"}"#, "schema.invalid"),
        (r#"{"anyOf":{}}"#, "schema.invalid"),
        ("7", "schema.invalid"),
    ] {
        assert_eq!(kind(node), expected, "{node}");
    }
}

#[test]
fn columns_keep_their_order_and_names() {
    let found = columns(r#"{"type":"object","properties":{"b":{"type":"integer"},"na\u00efve col":{},"":{"type":"string"}}}"#)
        .expect("valid");
    assert_eq!(
        found
            .iter()
            .map(|column| column.property.as_str())
            .collect::<Vec<_>>(),
        ["b", "naïve col", ""]
    );
}

#[test]
fn broken_and_huge_schemas_are_refused() {
    for (schema, code) in [
        ("".to_owned(), "schema.invalid"),
        ("[]".to_owned(), "schema.invalid"),
        ("{}".to_owned(), "schema.invalid"),
        (r#"{"type":"object"}"#.to_owned(), "schema.invalid"),
        (r#"{"properties":{}}"#.to_owned(), "schema.invalid"),
        (r#"{"properties":[]}"#.to_owned(), "schema.invalid"),
        (
            r#"{"properties":{"a":{},"\u0061":{}}}"#.to_owned(),
            "schema.invalid",
        ),
        (r#"{"properties":{"a":{}"#.to_owned(), "schema.invalid"),
        (
            format!(r#"{{"properties":{{"{}":{{}}}}}}"#, "x".repeat(1025)),
            "schema.invalid",
        ),
        (
            format!(
                r#"{{"properties":{{"a":{}1{}}}}}"#,
                "[".repeat(99),
                "]".repeat(99)
            ),
            "schema.invalid",
        ),
        (
            format!(
                r#"{{"properties":{{"a":{{}}}},"x":"{}"}}"#,
                "x".repeat(MAX_SCHEMA_BYTES)
            ),
            "limit.schema_bytes",
        ),
        (
            format!(
                r#"{{"properties":{{{}"z":{{}}}}}}"#,
                (0..100)
                    .map(|n| format!("\"p{n}\":{{}},"))
                    .collect::<String>()
            ),
            "limit.columns",
        ),
    ] {
        assert_eq!(
            columns(&schema)
                .expect_err(&schema[..schema.len().min(80)])
                .code,
            code
        );
    }
}

#[test]
fn alternatives_that_multiply_are_stopped() {
    let definitions: String = (0..15)
        .map(|n| {
            format!(
                r##""d{n}":{{"anyOf":[{0},{0},{0},{0}]}},"##,
                format_args!(r##"{{"$ref":"#/definitions/d{}"}}"##, n + 1)
            )
        })
        .collect();
    let schema = format!(
        r##"{{"definitions":{{{definitions}"d15":{{"type":"string"}}}},"properties":{{"a":{{"$ref":"#/definitions/d0"}}}}}}"##
    );
    let fault = columns(&schema).expect_err("must be stopped");
    assert_eq!(
        (fault.code, fault.field.as_deref()),
        ("schema.invalid", Some("a"))
    );
}

#[test]
fn types_have_names() {
    for name in [
        "boolean",
        "long",
        "double",
        "decimal(12,3)",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "string",
        "binary",
    ] {
        assert_eq!(
            name.parse::<Primitive>()
                .map(|kind| kind.to_string())
                .as_deref(),
            Ok(name)
        );
    }
    assert_eq!(
        "decimal(12, 3)".parse(),
        Ok(Primitive::Decimal {
            precision: 12,
            scale: 3
        })
    );
    for name in [
        "",
        "Long",
        "int",
        "float",
        "uuid",
        "decimal",
        "decimal(39,0)",
        "decimal(0,0)",
        "decimal(3,4)",
        "decimal(3)",
        "list<int>",
    ] {
        assert_eq!(name.parse::<Primitive>(), Err(()), "{name}");
    }
}

#[test]
fn columns_grow_as_iceberg_lets_them() {
    let decimal = |precision, scale| Primitive::Decimal { precision, scale };
    assert!(Primitive::Long.widens_to(Primitive::Long));
    assert!(decimal(10, 2).widens_to(decimal(38, 2)));
    assert!(!decimal(38, 2).widens_to(decimal(10, 2)));
    assert!(!decimal(10, 2).widens_to(decimal(12, 3)));
    assert!(!Primitive::Long.widens_to(Primitive::Double));
    assert!(!Primitive::Long.widens_to(Primitive::String));
}

#[test]
fn objects_and_arrays() {
    for (node, expected) in [
        (
            r#"{"type":["null","object"],"properties":{"a":{"type":"integer"},"b":{"type":"string","format":"date"}}}"#,
            "struct<a: long, b: date>",
        ),
        (
            r#"{"type":"object","additionalProperties":true,"properties":{"a":{"type":"object","properties":{"x":{}}}}}"#,
            "struct<a: struct<x: json>>",
        ),
        (r#"{"type":"object","properties":{}}"#, "json"),
        (
            r#"{"type":"object","additionalProperties":{"type":"number"}}"#,
            "map<double>",
        ),
        (
            r#"{"type":"object","additionalProperties":{"type":"array","items":{"type":"boolean"}}}"#,
            "map<list<boolean>>",
        ),
        (r#"{"type":"object","additionalProperties":{}}"#, "json"),
        (
            r#"{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"integer"}}"#,
            "json",
        ),
        (
            r#"{"type":"object","patternProperties":{"^a":{"type":"integer"}}}"#,
            "json",
        ),
        (
            r##"{"type":"array","items":{"type":["object","null"],"properties":{"a":{"$ref":"#/definitions/money"}}}}"##,
            "list<struct<a: decimal(38,2)>>",
        ),
        (
            r#"{"type":"array","items":{"type":"array","items":{"type":"string"}}}"#,
            "list<list<string>>",
        ),
        (r#"{"type":"array"}"#, "json"),
        (r#"{"type":"array","items":{}}"#, "json"),
        (r#"{"type":"array","items":true}"#, "json"),
        (r#"{"type":"array","items":[{"type":"integer"}]}"#, "json"),
        (
            r#"{"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"integer"}}"#,
            "json",
        ),
        (
            r#"{"type":["array","object"],"items":{"type":"integer"}}"#,
            "json",
        ),
        (
            r#"{"anyOf":[{"type":"null"},{"type":"object","properties":{"a":{"type":"integer"}}}]}"#,
            "struct<a: long>",
        ),
        (
            r#"{"oneOf":[{"type":"object","properties":{"a":{"type":"integer"}}},{"type":"object","properties":{"b":{"type":"integer"}}}]}"#,
            "json",
        ),
        (
            r##"{"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#/properties/p"}}}"##,
            "struct<v: long, next: struct<v: long, next: json>>",
        ),
    ] {
        assert_eq!(kind(node), expected, "{node}");
    }
}

#[test]
fn what_is_nested_too_deep_is_text() {
    let mut node = r#"{"type":"integer"}"#.to_owned();
    for _ in 0..MAX_NESTING {
        node = format!(r#"{{"type":"array","items":{node}}}"#);
    }
    assert_eq!(kind(&node).matches("list<").count(), MAX_NESTING as usize);
    let deeper = format!(r#"{{"type":"array","items":{node}}}"#);
    assert_eq!(kind(&deeper), "json");
}

#[test]
fn columns_are_counted_inside_of_objects_too() {
    let fields = |count: usize| {
        let all: Vec<_> = (0..count)
            .map(|n| format!(r#""f{n}":{{"type":"integer"}}"#))
            .collect();
        format!(r#"{{"type":"object","properties":{{{}}}}}"#, all.join(","))
    };
    assert!(columns(&format!(r#"{{"properties":{{"p":{}}}}}"#, fields(100))).is_ok());
    let fault = columns(&format!(
        r#"{{"properties":{{"a":{{}},"p":{}}}}}"#,
        fields(100)
    ))
    .expect_err("too many");
    assert_eq!(
        (fault.code, fault.field.as_deref()),
        ("limit.columns", Some("p"))
    );
    // Alternatives that come to nothing do not count, and definitions that double at each step come to an end.
    let both = format!(r#"{{"anyOf":[{},{}]}}"#, fields(90), fields(89));
    assert!(columns(&format!(r#"{{"properties":{{"a":{both},"b":{both}}}}}"#)).is_ok());
    let doubled: Vec<_> = (0..16)
        .map(|n| format!(r##""d{n}":{{"type":"object","properties":{{"x":{{"$ref":"#/definitions/d{0}"}},"y":{{"$ref":"#/definitions/d{0}"}}}}}}"##, n + 1))
        .collect();
    let schema = format!(
        r##"{{"properties":{{"p":{{"$ref":"#/definitions/d0"}}}},"definitions":{{{},"d16":{{"type":"integer"}}}}}}"##,
        doubled.join(",")
    );
    assert_eq!(
        columns(&schema).expect_err("too many").code,
        "limit.columns"
    );
}

#[test]
fn a_fault_inside_names_the_way_to_it() {
    let schema = r#"{"properties":{"p":{"type":"object","properties":{"a":{"type":"array","items":{"type":"money"}}}}}}"#;
    let fault = columns(schema).expect_err("no such type");
    assert_eq!(
        (fault.code, fault.field.as_deref()),
        ("schema.invalid", Some("p.a"))
    );
}

#[test]
fn plain_numbers_become_what_is_asked_for() {
    for (numbers, expected) in [
        (Numbers::Double, "double"),
        (Numbers::Decimal, "decimal(38,9)"),
        (Numbers::Text, "json"),
    ] {
        let options = Options {
            max_columns: 9,
            max_depth: 9,
            numbers,
        };
        let schema = br#"{"properties":{"n":{"type":["number","null"]},"i":{"type":"integer"},"d":{"type":"number","multipleOf":0.1}}}"#;
        let shapes: Vec<_> = compile(schema, options)
            .expect("a schema")
            .iter()
            .map(|column| column.shape.to_string())
            .collect();
        assert_eq!(shapes, [expected, "long", "decimal(38,1)"]);
    }
}
