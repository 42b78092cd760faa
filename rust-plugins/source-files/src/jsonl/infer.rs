//! The schema of JSON values from a sample of them: types merged, nothing concluded from texts.

use std::fmt::{self, Write};
use std::fs::File;

use dativo_wire::render;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::Lines;

/// Deeper values are JSON text.
const MAX_DEPTH: usize = 16;
/// Keys of one object; one with more is a map, kept as JSON text.
const MAX_KEYS: usize = 2000;

/// All values that were seen at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    boolean: bool,
    integer: bool,
    big: bool,
    number: bool,
    text: bool,
    array: Option<Box<Seen>>,
    object: Option<Vec<(String, Seen)>>,
    too_many: bool,
}

impl Seen {
    fn merge(&mut self, other: Seen) {
        self.boolean |= other.boolean;
        self.integer |= other.integer;
        self.big |= other.big;
        self.number |= other.number;
        self.text |= other.text;
        self.too_many |= other.too_many;
        if let Some(element) = other.array {
            self.array.get_or_insert_default().merge(*element);
        }
        if let Some(members) = other.object {
            let known = self.object.get_or_insert_default();
            for (name, seen) in members {
                match known.iter().position(|(key, _)| *key == name) {
                    Some(at) => known[at].1.merge(seen),
                    None if known.len() < MAX_KEYS => known.push((name, seen)),
                    None => self.too_many = true,
                }
            }
        }
    }

    /// The names and schemas of an object's members.
    pub fn properties(&self) -> Vec<(String, String)> {
        let members = self.object.as_deref().unwrap_or_default();
        let schema = |(name, seen): &(String, Seen)| (name.clone(), seen.schema(1));
        members.iter().map(schema).collect()
    }

    fn schema(&self, depth: usize) -> String {
        let mut types = String::from("\"null\"");
        for (seen, name) in [
            (self.boolean, "boolean"),
            (self.integer && !self.number, "integer"),
            (self.number, "number"),
            (self.text, "string"),
            (self.array.is_some(), "array"),
            (self.object.is_some(), "object"),
        ] {
            if seen {
                let _ = write!(types, ",\"{name}\"");
            }
        }
        if depth > MAX_DEPTH || self.too_many || types == "\"null\"" {
            return "{}".to_owned();
        }
        let mut text = format!("{{\"type\":[{types}]");
        if self.big && self.integer && !self.number {
            text += r#","airbyte_type":"big_integer""#;
        }
        if let Some(element) = &self.array {
            let _ = write!(text, ",\"items\":{}", element.schema(depth + 1));
        }
        if let Some(members) = self.object.as_deref().filter(|members| !members.is_empty()) {
            text += ",\"properties\":";
            text += &object(
                members
                    .iter()
                    .map(|(name, seen)| (name, seen.schema(depth + 1))),
            );
        }
        text + "}"
    }
}

/// An object of names and JSON texts.
pub fn object(members: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let mut key = Vec::new();
        render::string(name.as_ref().as_bytes(), &mut key);
        text += &String::from_utf8_lossy(&key);
        text.push(':');
        text += value.as_ref();
    }
    text + "}"
}

/// Look at the lines that begin in the first `sample_bytes` of a file.
pub fn sample(file: &File, size: u64, sample_bytes: u64, seen: &mut Seen) -> Result<(), String> {
    let mut lines = Lines::new(file, 0, 0, size);
    while lines.offset() < sample_bytes {
        let Some(line) = lines.next()? else {
            return Ok(());
        };
        let found: Seen = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        seen.merge(found);
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Seen;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen {
            boolean: true,
            ..Seen::default()
        })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen {
            integer: true,
            ..Seen::default()
        })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Seen, E> {
        Ok(Seen {
            integer: true,
            big: i64::try_from(value).is_err(),
            ..Seen::default()
        })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen {
            number: true,
            ..Seen::default()
        })
    }

    fn visit_str<E>(self, _: &str) -> Result<Seen, E> {
        Ok(Seen {
            text: true,
            ..Seen::default()
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Seen, A::Error> {
        let mut element = Box::<Seen>::default();
        while let Some(value) = values.next_element()? {
            element.merge(value);
        }
        Ok(Seen {
            array: Some(element),
            ..Seen::default()
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Seen, A::Error> {
        let mut seen = Seen {
            object: Some(Vec::new()),
            ..Seen::default()
        };
        while let Some(member) = members.next_entry::<String, Seen>()? {
            seen.merge(Seen {
                object: Some(vec![member]),
                ..Seen::default()
            });
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(lines: &[&str]) -> String {
        let mut seen = Seen::default();
        for line in lines {
            seen.merge(serde_json::from_str(line).expect("JSON"));
        }
        object(seen.properties())
    }

    #[test]
    fn types_are_merged_in_the_order_in_which_they_came() {
        let lines = [
            r#"{"b":1,"a":null,"n":1,"x":18446744073709551615}"#,
            r#"{"c":{"d":[1,2.5]},"a":"t","n":1.5,"x":-1}"#,
            r#"{"c":{"e":true},"b":"mixed"}"#,
        ];
        assert_eq!(
            schema(&lines),
            concat!(
                r#"{"b":{"type":["null","integer","string"]},"a":{"type":["null","string"]},"#,
                r#""n":{"type":["null","number"]},"#,
                r#""x":{"type":["null","integer"],"airbyte_type":"big_integer"},"#,
                r#""c":{"type":["null","object"],"properties":{"#,
                r#""d":{"type":["null","array"],"items":{"type":["null","number"]}},"#,
                r#""e":{"type":["null","boolean"]}}}}"#
            )
        );
        assert_eq!(
            schema(&[r#"{"a":null,"b":[]}"#]),
            r#"{"a":{},"b":{"type":["null","array"],"items":{}}}"#
        );
    }

    #[test]
    fn what_is_too_deep_or_too_wide_is_any_value() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
        assert!(schema(&[&deep]).matches("items").count() <= MAX_DEPTH);
        let wide: Vec<String> = (0..3000).map(|key| format!("\"{key}\":1")).collect();
        let wide = format!("{{\"a\":{{{}}}}}", wide.join(","));
        assert_eq!(schema(&[&wide]), r#"{"a":{}}"#);
    }
}
