//! How batches become rows of a stream's table.

use arrow_array::ArrayRef;
use dativo_wire::batch;
use dativo_wire::decode::{Field, Kind};
use dativo_wire::fault::Fault;
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
        let columns = batch::read(body, rows, fields, max_depth)?;
        let kept = columns.into_iter().zip(&self.kept);
        Ok(kept
            .filter_map(|(column, kept)| kept.then_some(column))
            .collect())
    }
}
