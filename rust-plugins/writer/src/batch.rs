//! How batches become rows of a stream's table.

use arrow_array::{Array, ArrayRef, make_array};
use arrow_data::transform::MutableArrayData;
use arrow_schema::ArrowError;
use dativo_wire::batch;
use dativo_wire::decode::{Field, Kind};
use dativo_wire::fault::{Blame, Fault};
use dativo_wire::types::Column;

/// The columns of a stream's batches and those of its table.
pub struct Intake {
    /// In the order of the schema; none if no batch can carry its rows.
    fields: Option<Vec<batch::Field>>,
    /// Which of them the plan has, in that order too.
    kept: Vec<bool>,
}

impl Intake {
    /// For `columns`, of which the plan keeps `planned`; both in the same order.
    pub fn new(columns: &[Column], planned: &[Field]) -> Intake {
        let mut planned = planned.iter().peekable();
        let (mut fields, mut kept) = (Some(Vec::new()), Vec::new());
        for column in columns {
            let plan = planned.next_if(|field| field.property == column.property);
            kept.push(plan.is_some());
            let field = batch::Field::of(column).map(|field| match plan {
                Some(Field {
                    kind: Kind::Value { kind, .. },
                    required,
                    ..
                }) => field.widened(*kind).required(*required),
                Some(plan) => field.required(plan.required),
                None => field,
            });
            fields = fields.zip(field).map(|(mut fields, field)| {
                fields.push(field);
                fields
            });
        }
        Intake { fields, kept }
    }

    /// The table's columns of a batch.
    pub fn read(
        &self,
        body: Vec<u8>,
        rows: usize,
        max_depth: usize,
    ) -> Result<Vec<ArrayRef>, Box<Fault>> {
        let fields = self.fields.as_ref().ok_or_else(|| {
            Fault::plugin(
                "message.batch",
                "rows with objects or arrays go as RECORDs, not in batches",
            )
        })?;
        let bytes = body.len();
        let columns = batch::read(body, rows, fields, max_depth)?;
        let kept = columns.into_iter().zip(&self.kept);
        let kept = kept.filter_map(|(column, kept)| kept.then_some(column));
        let kept = compacted(kept.collect(), bytes);
        kept.map_err(|error| Fault::new("internal.batch", Blame::Dativo, error.to_string()))
    }
}

/// `columns`, which point into a batch of `bytes` bytes and keep all of it; copied where they are less than half of it, so that no
/// batch keeps more memory than twice what its rows are counted for.
fn compacted(columns: Vec<ArrayRef>, bytes: usize) -> Result<Vec<ArrayRef>, ArrowError> {
    let data: Vec<_> = columns.iter().map(Array::to_data).collect();
    let used = data
        .iter()
        .map(|data| data.get_slice_memory_size().unwrap_or(0));
    if used.sum::<usize>() >= bytes / 2 {
        return Ok(columns);
    }
    let copies = data.iter().map(|data| {
        let mut copy = MutableArrayData::new(vec![data], false, data.len());
        copy.try_extend(0, 0, data.len())?;
        Ok(make_array(copy.freeze()))
    });
    copies.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::StringArray;
    use std::sync::Arc;

    #[test]
    fn a_batch_of_which_little_is_used_is_not_kept() {
        let whole: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("bc")]));
        let size = whole.to_data().get_slice_memory_size().expect("known");
        let same = compacted(vec![whole.clone()], size * 2).expect("whole");
        let start = |array: &ArrayRef| array.to_data().buffers()[1].as_ptr();
        assert_eq!(start(&same[0]), start(&whole));
        let copied = compacted(vec![whole.clone()], size * 4).expect("copied");
        assert_ne!(start(&copied[0]), start(&whole));
        assert_eq!(copied[0].to_data(), whole.to_data());
    }
}
