//! How a file is laid out: the partition that it is said to be of, and the order of its rows, for each leaf that has a part in it.

use serde_json::Value as Json;

use crate::flaw::{Flaw, Result, ensure};
use crate::hybrid;
use crate::order::{self, MAX_GROUP_ROWS, Order};
use crate::partition::Partition;
use crate::plan::{Plan, Planned};
use crate::range::Value;
use crate::schema::Leaf;
use crate::seen::Seen;
use crate::transform::OfValues;

/// What the values of one leaf are held against.
#[derive(Debug, Default)]
pub struct Watch {
    partition: Vec<Partition>,
    /// Its place in the sort order.
    order: Option<(usize, Order)>,
}

/// A page of a leaf that is watched: the values without nulls are handed out one after the other, each with how often it comes.
pub struct Page<'a> {
    /// Definition levels, for so many rows.
    pub def: &'a [u8],
    pub rows: usize,
}

impl Watch {
    /// Take a page in.
    pub fn page<'a>(
        &mut self,
        leaf: &Leaf<'_>,
        page: &Page<'_>,
        each: impl Fn(&mut dyn FnMut(Value<'a>, usize)) -> Result<()>,
    ) -> Result<()> {
        for partition in &self.partition {
            if partition.wants_values() {
                let mut found = Ok(());
                each(&mut |value, _| {
                    if found.is_ok() {
                        found = partition.check_value(value);
                    }
                })?;
                found?;
            }
        }
        let Some((_, order)) = &mut self.order else {
            return Ok(());
        };
        let valid = match leaf.max_def {
            0 => vec![true; page.rows],
            _ => hybrid::flags(page.def, page.rows)?,
        };
        order.page(&valid, each)
    }

    /// Take the end of a chunk in.
    pub fn chunk(&self, seen: &Seen) -> Result<()> {
        self.partition
            .iter()
            .try_for_each(|partition| partition.check_chunk(seen))
    }
}

/// For each leaf what it is held against, if anything.
pub fn watches(
    plan: &Plan,
    said: Option<&[Json]>,
    leaves: &[Leaf<'_>],
) -> Result<Vec<Option<Watch>>> {
    let said = said.unwrap_or_default();
    ensure(said.len() == plan.partition.len(), || {
        format!(
            "is said to be of a partition of {} values, its table has {}",
            said.len(),
            plan.partition.len()
        )
    })?;
    let mut watches: Vec<Option<Watch>> = leaves.iter().map(|_| None).collect();
    for (field, said) in plan.partition.iter().zip(said) {
        let Some((at, leaf)) = source(plan, field.field_id, leaves)? else {
            ensure(said.is_null(), || {
                "is said to be of a partition by a column that it does not have".into()
            })?;
            continue;
        };
        ensure(field.transform.takes(leaf.primitive), || {
            format!(
                "has a plan that partitions {} by {:?}",
                leaf.primitive, field.transform
            )
        })?;
        let partition = Partition::new(field.transform, leaf.primitive, said);
        let partition = partition.map_err(|flaw| flaw.of(&leaf.name()))?;
        let watch = watches[at].get_or_insert_default();
        watch.partition.push(partition);
    }
    for (place, field) in plan.sort.iter().enumerate() {
        if let Some((at, _)) = source(plan, field.field_id, leaves)? {
            let watch = watches[at].get_or_insert_default();
            let order = Order::new(field.descending, field.nulls_first);
            // The same column once more changes nothing.
            watch.order.get_or_insert((place, order));
        }
    }
    Ok(watches)
}

/// The leaf of a column; none where the plan has no such column.
fn source<'a, 'b>(
    plan: &Plan,
    field_id: i32,
    leaves: &'a [Leaf<'b>],
) -> Result<Option<(usize, &'a Leaf<'b>)>> {
    let mut columns = plan.columns.iter();
    match columns.find(|column| column.field_id == field_id) {
        Some(column) if matches!(column.kind, Planned::Nested(_)) => Err(Flaw::new(format!(
            "has a plan that lays it out by the nested column {}",
            column.name
        ))),
        Some(_) => Ok(leaves
            .iter()
            .enumerate()
            .find(|(_, leaf)| leaf.field_id == field_id)),
        None => {
            let inside = leaves.iter().any(|leaf| leaf.field_id == field_id);
            ensure(!inside, || {
                format!("has a plan that lays it out by field {field_id}, inside a nested column")
            })?;
            Ok(None)
        }
    }
}

/// Whether a row group of `rows` rows may be looked at.
pub fn begin_group(plan: &Plan, rows: u64) -> Result<()> {
    ensure(plan.sort.is_empty() || rows <= MAX_GROUP_ROWS, || {
        format!("has {rows} sorted rows in a group, the most is {MAX_GROUP_ROWS}")
    })
}

/// All columns of a row group are read.
pub fn end_group(watches: &mut [Option<Watch>]) -> Result<()> {
    let orders = watches
        .iter_mut()
        .flatten()
        .filter_map(|watch| watch.order.as_mut());
    let mut orders: Vec<_> = orders.collect();
    orders.sort_by_key(|(place, _)| *place);
    let mut orders: Vec<_> = orders.into_iter().map(|(_, order)| order).collect();
    order::check_group(&mut orders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_sorted_rows_is_bounded() {
        let sorted =
            r#"{"columns":[],"sort":[{"field_id":1,"descending":false,"nulls_first":true}]}"#;
        let sorted: Plan = serde_json::from_str(sorted).unwrap();
        assert!(begin_group(&sorted, MAX_GROUP_ROWS).is_ok());
        assert!(begin_group(&sorted, MAX_GROUP_ROWS + 1).is_err());
        assert!(begin_group(&Plan::default(), u64::MAX).is_ok());
    }
}
