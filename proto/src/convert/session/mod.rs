//! What a Star and the coordinator say to each other.

mod coordinator;
mod star;

use bytes::Bytes;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::words::{AssignmentId, StarId};
use uuid::Uuid;

use super::{ConvertError, unknown_enum};
use crate::v1;

/// A lifecycle state for the wire.
pub fn lifecycle_to_wire(state: LifecycleState) -> v1::StarState {
    match state {
        LifecycleState::Registered => v1::StarState::Registered,
        LifecycleState::Scheduled => v1::StarState::Scheduled,
        LifecycleState::Draining => v1::StarState::Draining,
        LifecycleState::Shutdown => v1::StarState::Shutdown,
    }
}

/// A lifecycle state from the wire; `field` names it in the error.
///
/// # Errors
/// The value is unspecified or unknown.
pub fn lifecycle_from_wire(field: &str, value: i32) -> Result<LifecycleState, ConvertError> {
    match v1::StarState::try_from(value) {
        Ok(v1::StarState::Registered) => Ok(LifecycleState::Registered),
        Ok(v1::StarState::Scheduled) => Ok(LifecycleState::Scheduled),
        Ok(v1::StarState::Draining) => Ok(LifecycleState::Draining),
        Ok(v1::StarState::Shutdown) => Ok(LifecycleState::Shutdown),
        Ok(v1::StarState::Unspecified) | Err(_) => Err(unknown_enum(field, value)),
    }
}

fn lifecycle_message(state: LifecycleState, reason: String) -> v1::SessionLifecycle {
    v1::SessionLifecycle { state: lifecycle_to_wire(state).into(), reason }
}

fn uuid_from_wire(field: &str, bytes: &Bytes) -> Result<Uuid, ConvertError> {
    Uuid::from_slice(bytes)
        .map_err(|_| ConvertError::new(field, format!("has {} bytes, a UUID has 16", bytes.len())))
}

/// A grid's name; empty on the wire where none is said.
fn grid_to_wire(grid: Option<Uuid>) -> Bytes {
    grid.map_or_else(Bytes::new, |grid| grid.into_bytes().to_vec().into())
}

fn grid_from_wire(field: &str, bytes: &Bytes) -> Result<Option<Uuid>, ConvertError> {
    (!bytes.is_empty()).then(|| uuid_from_wire(field, bytes)).transpose()
}

fn star_id_from_wire(field: &str, text: String) -> Result<StarId, ConvertError> {
    StarId::new(text).map_err(|error| ConvertError::new(field, error.to_string()))
}

fn assignment_ids_to_wire(ids: Vec<AssignmentId>) -> Vec<u64> {
    ids.into_iter().map(|id| id.0).collect()
}

/// A number that counts from 1.
fn counted(field: &str, number: u64) -> Result<u64, ConvertError> {
    if number == 0 { Err(ConvertError::new(field, "counts from 1")) } else { Ok(number) }
}
