//! Reading every record of a store, to find damage before something needs the record.
//!
//! The engine verifies the whole file when it is opened, which takes too long for a large one. Such a store is verified
//! while it is used: one table after the other, each in a read transaction, every record against its checksum.

use redb::{AccessGuard, Database, Key, ReadableDatabase, ReadableTable, TableDefinition, Value};

use super::StoreError;
use super::blocks::{ENDS, ENTRIES};
use super::codec::body;
use super::embedded::{
    ANSWERS, ASSIGNMENTS, BULLETINS, DEAD_LETTERS, JOBS, META, PENALTIES, QUEUE, SCHEDULES, SNAPSHOTS, STARS,
    engine,
};

/// Reads all tables. Returns the number of records that were read; fewer than there are if `goes_on` said no.
pub(super) fn verify_all(database: &Database, goes_on: &dyn Fn() -> bool) -> Result<u64, StoreError> {
    let mut count = 0;
    count += sealed(database, JOBS, "jobs", goes_on)?;
    count += sealed(database, ENTRIES, "entries", goes_on)?;
    count += sealed(database, ENDS, "ends", goes_on)?;
    count += sealed(database, PENALTIES, "penalties", goes_on)?;
    count += sealed(database, DEAD_LETTERS, "dead_letters", goes_on)?;
    count += sealed(database, ASSIGNMENTS, "assignments", goes_on)?;
    count += sealed(database, STARS, "stars", goes_on)?;
    count += sealed(database, BULLETINS, "bulletins", goes_on)?;
    count += sealed(database, SNAPSHOTS, "snapshots", goes_on)?;
    count += sealed(database, SCHEDULES, "schedules", goes_on)?;
    count += sealed(database, ANSWERS, "answers", goes_on)?;
    count += sealed(database, META, "meta", goes_on)?;
    // A row of the queue is only a key and the number of the entry that it leads to.
    count += walk(database, QUEUE, |_| Ok(()), goes_on)?;
    Ok(count)
}

/// Reads a table whose records have checksums.
fn sealed<K: Key + 'static>(
    database: &Database,
    table: TableDefinition<'_, K, &'static [u8]>,
    name: &'static str,
    goes_on: &dyn Fn() -> bool,
) -> Result<u64, StoreError> {
    walk(database, table, |record| body(name, record.value()).map(|_| ()), goes_on)
}

/// Reads every row of a table, as of one moment.
fn walk<K: Key + 'static, V: Value + 'static>(
    database: &Database,
    table: TableDefinition<'_, K, V>,
    check: impl Fn(AccessGuard<'_, V>) -> Result<(), StoreError>,
    goes_on: &dyn Fn() -> bool,
) -> Result<u64, StoreError> {
    let doing = engine("was verified");
    let read = database.begin_read().map_err(redb::Error::from).map_err(&doing)?;
    let rows = read.open_table(table).map_err(redb::Error::from).map_err(&doing)?;
    let mut count = 0;
    for row in rows.iter().map_err(redb::Error::from).map_err(&doing)? {
        if !goes_on() {
            break;
        }
        check(row.map_err(redb::Error::from).map_err(&doing)?.1)?;
        count += 1;
    }
    Ok(count)
}
