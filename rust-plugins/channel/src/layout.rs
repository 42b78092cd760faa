//! How rows are laid out in files, as `stream_plan` says it (docs/spec/events.md, Layout).

use serde::Deserialize;

/// What all rows of a file have in common.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct PartitionField {
    pub field_id: i32,
    pub transform: Transform,
}

/// A column that the rows of a file are sorted by.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct SortField {
    pub field_id: i32,
    pub descending: bool,
    pub nulls_first: bool,
}

/// A partition transform. What it makes of values writer and inspector compute each for itself: one holds the other's against its own.
///
/// Source: Iceberg table specification, Partition Transforms. Numbers are greater than 0.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum Transform {
    Identity,
    Year,
    Month,
    Day,
    Hour,
    Bucket(i32),
    Truncate(i32),
}

impl TryFrom<String> for Transform {
    type Error = String;

    fn try_from(name: String) -> Result<Transform, String> {
        let numbered = |function: &str| {
            let number = name.strip_prefix(function)?;
            let number = number.strip_prefix('[')?.strip_suffix(']')?;
            number.parse().ok().filter(|&number: &i32| number > 0)
        };
        let known = match name.as_str() {
            "identity" => Some(Transform::Identity),
            "year" => Some(Transform::Year),
            "month" => Some(Transform::Month),
            "day" => Some(Transform::Day),
            "hour" => Some(Transform::Hour),
            _ => None,
        };
        known
            .or_else(|| numbered("bucket").map(Transform::Bucket))
            .or_else(|| numbered("truncate").map(Transform::Truncate))
            .ok_or_else(|| format!("no partition transform: {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_have_iceberg_s_names() {
        let read = |name: &str| Transform::try_from(name.to_owned());
        assert_eq!(read("hour"), Ok(Transform::Hour));
        assert_eq!(read("bucket[16]"), Ok(Transform::Bucket(16)));
        let most = Transform::Truncate(i32::MAX);
        assert_eq!(read("truncate[2147483647]"), Ok(most));
        for bad in [
            "void",
            "bucket",
            "bucket[0]",
            "truncate[-1]",
            "truncate[]",
            "bucket[2147483648]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
