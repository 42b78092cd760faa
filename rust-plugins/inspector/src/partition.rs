//! The partition that a file is said to be of, held against its rows.

use dativo_channel::layout::Transform;
use dativo_wire::base64;
use serde_json::Value as Json;

use crate::flaw::{Flaw, Result, ensure};
use crate::plan::Primitive;
use crate::range::Value;
use crate::seen::Seen;
use crate::transform::{OfValues, Transformed};

/// One field of a partition, over a leaf.
#[derive(Debug)]
pub struct Partition {
    transform: Transform,
    of: Primitive,
    said: Said,
}

#[derive(Debug, PartialEq)]
enum Said {
    Null,
    Number(i128),
    Text(Vec<u8>),
}

impl Partition {
    /// The field whose rows are said to have the value `said`.
    pub fn new(transform: Transform, of: Primitive, said: &Json) -> Result<Partition> {
        let is_text = matches!(of, Primitive::String | Primitive::Binary)
            && matches!(transform, Transform::Identity | Transform::Truncate(_));
        let said = match said {
            Json::Null => Some(Said::Null),
            Json::Bool(flag) if of == Primitive::Boolean => Some(Said::Number((*flag).into())),
            Json::Number(number) if is_number(transform, of) => {
                number.as_i64().map(|number| Said::Number(number.into()))
            }
            Json::String(text) if is_text && of == Primitive::String => {
                Some(Said::Text(text.clone().into_bytes()))
            }
            Json::String(text) if is_text => {
                let mut bytes = Vec::new();
                base64::decode(text.as_bytes(), &mut bytes).then_some(Said::Text(bytes))
            }
            Json::String(digits) if is_unscaled(transform, of) => {
                digits.parse().ok().map(Said::Number)
            }
            _ => None,
        };
        let said = said.ok_or_else(|| Flaw::new("is said to be of a partition of another type"))?;
        Ok(Partition {
            transform,
            of,
            said,
        })
    }

    /// Whether each value has to be looked at: those in between are not known by the least and the greatest.
    pub fn wants_values(&self) -> bool {
        self.said != Said::Null && !self.transform.keeps_order(self.of)
    }

    pub fn check_value(&self, value: Value<'_>) -> Result<()> {
        let holds = match (&self.said, self.transform.apply(self.of, value)?) {
            (Said::Number(said), Transformed::Number(found)) => *said == found,
            (Said::Text(said), Transformed::Text(found)) => said == found,
            _ => false,
        };
        ensure(holds, other)
    }

    /// Hold the values of a chunk against it: their number, and as far as it tells of all their range.
    pub fn check_chunk(&self, seen: &Seen) -> Result<()> {
        let nulls = if self.said == Said::Null {
            seen.values
        } else {
            0
        };
        ensure(seen.nulls == nulls, other)?;
        if self.said == Said::Null || self.wants_values() {
            return Ok(());
        }
        match seen.range.ends() {
            Some((least, greatest)) => {
                self.check_value(least)?;
                self.check_value(greatest)
            }
            None => Ok(()),
        }
    }
}

fn other() -> String {
    "has rows of another partition than it is said to be of".into()
}

fn is_number(transform: Transform, of: Primitive) -> bool {
    let is_number = matches!(
        of,
        Primitive::Int
            | Primitive::Long
            | Primitive::Date
            | Primitive::Time
            | Primitive::Timestamp
            | Primitive::Timestamptz
    );
    is_number || matches!(transform, Transform::Bucket(_))
}

/// Decimals are told as their digits.
fn is_unscaled(transform: Transform, of: Primitive) -> bool {
    matches!(of, Primitive::Decimal { .. }) && !matches!(transform, Transform::Bucket(_))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_of_the_type_of_their_field() {
        let decimal = Primitive::Decimal {
            precision: 9,
            scale: 2,
        };
        let new = |transform, of, said: Json| Partition::new(transform, of, &said);
        let identity = Transform::Identity;
        let said = |partition: Result<Partition>| partition.unwrap().said;
        assert_eq!(said(new(identity, decimal, json!("-5"))), Said::Number(-5));
        assert_eq!(
            said(new(identity, Primitive::Binary, json!("AQI="))),
            Said::Text(vec![1, 2])
        );
        assert_eq!(
            said(new(identity, Primitive::Boolean, json!(true))),
            Said::Number(1)
        );
        assert_eq!(
            said(new(Transform::Bucket(3), Primitive::String, json!(2))),
            Said::Number(2)
        );
        assert_eq!(
            said(new(Transform::Day, Primitive::Date, Json::Null)),
            Said::Null
        );
        for (transform, of, bad) in [
            (identity, decimal, json!(5)),
            (identity, Primitive::String, json!(5)),
            (identity, Primitive::Binary, json!("?")),
            (identity, Primitive::Long, json!("5")),
            (identity, Primitive::Long, json!(true)),
            (identity, Primitive::Long, json!(1.5)),
            (identity, Primitive::Boolean, json!(1)),
            (Transform::Bucket(3), Primitive::String, json!("2")),
            (Transform::Bucket(3), decimal, json!("2")),
            (Transform::Day, Primitive::Date, json!([1])),
        ] {
            assert!(new(transform, of, bad.clone()).is_err(), "{of:?} {bad}");
        }
    }
}
