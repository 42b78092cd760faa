//! The loop: plans are kept, files are inspected as they are told of.

use std::collections::HashMap;
use std::panic;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use dativo_channel::events::StreamId;
use dativo_channel::{Stop, unexpected};
use dativo_wire::fault::{Blame, Fault};

use crate::Control;
use crate::events::{Command, File, Inspect, Inspected, Open, StreamPlan};
use crate::flaw::Flaw;
use crate::inspect::inspect;
use crate::plan::{Plan, leaves};

/// Columns in all plans that are kept at once.
const MAX_PLANNED: usize = 1_000_000;
/// Columns of an epoch that are told of; the bounds of more are dropped.
const MAX_TOLD: usize = 100_000;

/// The file at hand, for whoever has to say where a panic came from.
static AT_HAND: Mutex<String> = Mutex::new(String::new());

/// From `open` to `close`.
pub fn run(control: &mut Control) -> Result<(), Stop> {
    let Command::Open(Open { input, staging }) = control.wait()? else {
        return Err(unexpected("the first command is not open"));
    };
    name_the_file_of_a_panic();
    let staging = PathBuf::from(staging);
    let mut plans = Plans::default();
    loop {
        match control.wait()? {
            Command::StreamPlan(plan) => plans.add(plan)?,
            Command::Inspect(order) => epoch(control, &input, &staging, &mut plans, &order)?,
            Command::Close => return Ok(()),
            Command::Open(_) => return Err(unexpected("a second open")),
        }
    }
}

fn epoch(
    control: &mut Control,
    input: &str,
    staging: &Path,
    plans: &mut Plans,
    order: &Inspect,
) -> Result<(), Stop> {
    let mut told = 0;
    for file in &order.files {
        AT_HAND
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&file.path);
        let plan = plans.of(file)?;
        check_name(file)?;
        let path = staging.join(&file.path);
        let partition = file.partition.as_deref();
        let found = inspect(&path, file.rows, file.bytes, &plan, partition)
            .map_err(|flaw| refused(file, flaw))?;
        if found.sha256 != file.sha256 {
            let why = format!(
                "hashes to {}, the manifest says {}",
                found.sha256, file.sha256
            );
            return Err(refused(file, Flaw::new(why)).into());
        }
        let mut inspected = Inspected::new(input, order.sequence, file, &found);
        told += inspected.columns.len();
        if told > MAX_TOLD {
            inspected.columns.clear();
        }
        control.send(&inspected)?;
    }
    plans.forget(&order.files);
    Ok(())
}

fn check_name(file: &File) -> Result<(), Box<Fault>> {
    let stem = file.path.strip_suffix(".parquet").unwrap_or_default();
    let is_plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-');
    if (1..=100).contains(&stem.len()) && stem.bytes().all(is_plain) {
        return Ok(());
    }
    Err(refused(file, Flaw::new("has no name of a staged file")))
}

/// Nothing of the epoch is committed, because of `flaw`.
fn refused(file: &File, flaw: Flaw) -> Box<Fault> {
    let (code, blame) = if flaw.unreadable {
        ("target.io", Blame::Machine)
    } else {
        ("protocol.staged_file", Blame::Dativo)
    };
    let message = format!("the writer's staged file {} {}", file.path, flaw.message);
    let mut fault = Fault::new(code, blame, message)
        .stream(file.stream.clone().into_name())
        .value(file.path.as_bytes())
        .hint("The writer and the staging folder disagree; the epoch was not committed.");
    if let Some(column) = flaw.column {
        fault = fault.field(column);
    }
    fault
}

/// Let a panic tell of which file it is. It ends the process, and the kernel looks for no other reason.
fn name_the_file_of_a_panic() {
    panic::set_hook(Box::new(|info| {
        let file = AT_HAND
            .try_lock()
            .map(|name| name.clone())
            .unwrap_or_default();
        eprintln!("dativo-inspector: {info}, with the staged file {file}");
    }));
}

/// The plan of a revision.
type Planned = (u32, Rc<Plan>);

/// What each stream's files are to hold, by revision.
#[derive(Default)]
struct Plans {
    of_stream: HashMap<StreamId, Vec<Planned>>,
    leaves: usize,
}

impl Plans {
    fn add(&mut self, plan: StreamPlan) -> Result<(), Stop> {
        let known = self.of_stream.entry(plan.stream).or_default();
        let planned = match known.last() {
            // A schema that comes again is the same plan.
            Some((_, before)) if **before == plan.plan => {
                self.leaves += 1;
                before.clone()
            }
            _ => {
                self.leaves += leaves(&plan.plan.columns);
                Rc::new(plan.plan)
            }
        };
        known.push((plan.revision, planned));
        if self.leaves > MAX_PLANNED {
            let message =
                format!("more than {MAX_PLANNED} columns in plans whose files have not come");
            return Err(Fault::plugin("limit.plans", message).into());
        }
        Ok(())
    }

    fn of(&self, file: &File) -> Result<Rc<Plan>, Box<Fault>> {
        let known = self
            .of_stream
            .get(&file.stream)
            .map_or(&[][..], Vec::as_slice);
        let plan = known
            .iter()
            .rev()
            .find(|(revision, _)| *revision == file.revision);
        let Some((_, plan)) = plan else {
            let mut fault = refused(file, Flaw::new("was written by a schema that has no plan"));
            fault.code = "protocol.unplanned";
            return Err(fault);
        };
        Ok(plan.clone())
    }

    /// The files of an epoch are the last of all older revisions of their streams.
    fn forget(&mut self, files: &[File]) {
        for file in files {
            if let Some(known) = self.of_stream.get_mut(&file.stream) {
                known.retain(|(revision, _)| *revision >= file.revision);
            }
        }
        let plans = self.of_stream.values().flatten();
        self.leaves = plans.map(|(_, plan)| leaves(&plan.columns)).sum();
    }
}
