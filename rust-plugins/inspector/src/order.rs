//! The order of rows, held against the values of the columns that they are sorted by.
//!
//! Columns are read one after the other, so each tells how its values compare to those of the row before; what that means for the
//! rows is known when all columns of a row group are read.

use std::cmp::Ordering;

use crate::flaw::{Result, ensure};
use crate::range::Value;

/// Rows of a row group in a file that is sorted: a byte for each and each column is kept.
pub const MAX_GROUP_ROWS: u64 = 1 << 22;

/// One column of a sort order.
#[derive(Debug)]
pub struct Order {
    descending: bool,
    nulls_first: bool,
    /// How each row of the group compares to the one before, in the sense of the order.
    steps: Vec<Ordering>,
    /// The last row so far, if there was one.
    last: Option<Owned>,
}

impl Order {
    pub fn new(descending: bool, nulls_first: bool) -> Order {
        Order {
            descending,
            nulls_first,
            steps: Vec::new(),
            last: None,
        }
    }

    /// Take the rows of a page: for each whether it has a value, and what hands the values out, each with how often it comes.
    pub fn page<'a>(
        &mut self,
        valid: &[bool],
        each: impl FnOnce(&mut dyn FnMut(Value<'a>, usize)) -> Result<()>,
    ) -> Result<()> {
        let mut walk = Walk {
            descending: self.descending,
            nulls_first: self.nulls_first,
            before: self.last.as_ref().map(Owned::value),
            steps: &mut self.steps,
        };
        let mut rows = valid.iter();
        each(&mut |value, count| {
            for _ in 0..count {
                while rows.next() == Some(&false) {
                    walk.step(None);
                }
                walk.step(Some(value));
            }
        })?;
        rows.for_each(|_| walk.step(None));
        let last = walk.before.map(Owned::of);
        self.last = last;
        Ok(())
    }
}

/// The rows of a page, one after the other.
struct Walk<'v> {
    descending: bool,
    nulls_first: bool,
    before: Option<Option<Value<'v>>>,
    steps: &'v mut Vec<Ordering>,
}

impl<'v> Walk<'v> {
    #[inline]
    fn step(&mut self, row: Option<Value<'v>>) {
        let step = match (self.before, row) {
            // The first row of a file is behind nothing.
            (None, _) => Ordering::Less,
            (Some(Some(before)), Some(row)) if self.descending => row.cmp(&before),
            (Some(Some(before)), Some(row)) => before.cmp(&row),
            (Some(before), row) => match before.is_none().cmp(&row.is_none()) {
                order if self.nulls_first => order.reverse(),
                order => order,
            },
        };
        self.steps.push(step);
        self.before = Some(row);
    }
}

/// A value that is kept, or null.
#[derive(Debug)]
enum Owned {
    Null,
    Integer(i64),
    Wide(i128),
    Text(Vec<u8>),
}

impl Owned {
    fn of(row: Option<Value<'_>>) -> Owned {
        match row {
            None => Owned::Null,
            Some(Value::Integer(number)) => Owned::Integer(number),
            Some(Value::Wide(number)) => Owned::Wide(number),
            Some(Value::Text(text)) => Owned::Text(text.to_vec()),
        }
    }

    fn value(&self) -> Option<Value<'_>> {
        Some(match self {
            Owned::Null => return None,
            Owned::Integer(number) => Value::Integer(*number),
            Owned::Wide(number) => Value::Wide(*number),
            Owned::Text(text) => Value::Text(text),
        })
    }
}

/// Hold the rows of a group, all of whose columns are read, against the order: `orders` are its columns, the first one first.
pub fn check_group(orders: &mut [&mut Order]) -> Result<()> {
    let rows = orders.first().map_or(0, |order| order.steps.len());
    for row in 0..rows {
        let steps = orders.iter().map(|order| order.steps.get(row));
        let first = steps.flatten().find(|step| step.is_ne());
        ensure(first != Some(&Ordering::Greater), || {
            "has rows that are not sorted as its table is".into()
        })?;
    }
    orders.iter_mut().for_each(|order| order.steps.clear());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether rows of two columns are in order, in pages of `page` rows, two pages to a group.
    fn holds<'v>(
        rows: &[(Option<i64>, Option<&'v str>)],
        page: usize,
        mut orders: [Order; 2],
    ) -> bool {
        let [first, second] = &mut orders;
        rows.chunks(2 * page).all(|group| {
            for rows in group.chunks(page) {
                let valid: Vec<bool> = rows.iter().map(|row| row.0.is_some()).collect();
                let each = |take: &mut dyn FnMut(Value<'static>, usize)| {
                    let numbers = rows.iter().filter_map(|row| row.0);
                    numbers.for_each(|number| take(Value::Integer(number), 1));
                    Ok(())
                };
                first.page(&valid, each).unwrap();
                let valid: Vec<bool> = rows.iter().map(|row| row.1.is_some()).collect();
                let texts = rows.iter().filter_map(|row| row.1);
                let each = |take: &mut dyn FnMut(Value<'v>, usize)| {
                    texts.for_each(|text| take(Value::Text(text.as_bytes()), 1));
                    Ok(())
                };
                second.page(&valid, each).unwrap();
            }
            check_group(&mut [&mut *first, &mut *second]).is_ok()
        })
    }

    fn both(rows: &[(Option<i64>, Option<&str>)], orders: impl Fn() -> [Order; 2]) -> bool {
        let found: Vec<bool> = (1..=rows.len())
            .map(|page| holds(rows, page, orders()))
            .collect();
        assert!(found.iter().all(|&holds| holds == found[0]), "{found:?}");
        found[0]
    }

    #[test]
    fn the_first_column_that_differs_decides_wherever_pages_and_groups_end() {
        let usual = || [Order::new(false, true), Order::new(true, false)];
        let rows = [
            (None, Some("b")),
            (None, Some("a")),
            (Some(-1), Some("z")),
            (Some(-1), Some("a")),
            (Some(-1), None),
            (Some(2), Some("b")),
            (Some(2), Some("b")),
        ];
        assert!(both(&rows, usual));
        for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 6)] {
            let mut wrong = rows;
            wrong.swap(a, b);
            assert!(!both(&wrong, usual), "{a} {b}");
        }
    }

    #[test]
    fn nulls_come_where_the_order_has_them() {
        let rows = [(Some(1), None), (Some(2), None), (None, None), (None, None)];
        let second = || Order::new(false, false);
        assert!(both(&rows, || [Order::new(false, false), second()]));
        assert!(!both(&rows, || [Order::new(false, true), second()]));
        let mut back = rows;
        back.reverse();
        assert!(!both(&back, || [Order::new(true, false), second()]));
        assert!(both(&back, || [Order::new(true, true), second()]));
    }
}
