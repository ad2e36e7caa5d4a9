//! Copying a whole store as one read transaction sees it.

use redb::{Database, Key, ReadTransaction, ReadableTable, TableDefinition, Value, WriteTransaction};

use super::StoreError;
use super::blocks::{ENDS, ENTRIES};
use super::embedded::{
    ANSWERS, ASSIGNMENTS, BULLETINS, DEAD_LETTERS, JOBS, META, PENALTIES, QUEUE, SCHEDULES, SNAPSHOTS, STARS,
    engine,
};

/// Copies everything that a read transaction sees into an empty database, durably.
pub(super) fn copy_all(from: &ReadTransaction, to: &Database) -> Result<(), StoreError> {
    let doing = "was copied";
    let write = to.begin_write().map_err(redb::Error::from).map_err(engine(doing))?;
    let copied = (|| {
        copy(from, &write, JOBS)?;
        copy(from, &write, ENTRIES)?;
        copy(from, &write, QUEUE)?;
        copy(from, &write, ENDS)?;
        copy(from, &write, PENALTIES)?;
        copy(from, &write, DEAD_LETTERS)?;
        copy(from, &write, ASSIGNMENTS)?;
        copy(from, &write, STARS)?;
        copy(from, &write, BULLETINS)?;
        copy(from, &write, SNAPSHOTS)?;
        copy(from, &write, SCHEDULES)?;
        copy(from, &write, ANSWERS)?;
        copy(from, &write, META)
    })();
    copied.map_err(engine(doing))?;
    write.commit().map_err(redb::Error::from).map_err(engine(doing))
}

fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let rows = from.open_table(table)?;
    let mut copy = to.open_table(table)?;
    for row in rows.iter()? {
        let (key, value) = row?;
        copy.insert(key.value(), value.value())?;
    }
    Ok(())
}
