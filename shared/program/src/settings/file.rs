//! The file layer: TOML whose keys are long flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use toml::{Table, Value};

use super::{Setting, SettingsError};

/// The values of a file by key, each as its flag would be given on the command line.
pub(super) fn values(
    path: &Path,
    read_file: impl Fn(&Path) -> io::Result<String>,
    settings: &[Setting],
) -> Result<BTreeMap<String, Vec<OsString>>, SettingsError> {
    let text = read_file(path).map_err(|error| SettingsError::Read { path: path.to_owned(), error })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Syntax {
        path: path.to_owned(),
        problem: error.to_string().trim_end().to_owned(),
    })?;
    let mut values = BTreeMap::new();
    for (given, value) in table {
        let key = given.replace('_', "-");
        let Some(setting) = settings.iter().find(|setting| setting.key == key) else {
            return Err(unknown(path, given, settings));
        };
        let texts = texts(path, setting, value)?;
        if values.insert(key.clone(), texts).is_some() {
            return Err(SettingsError::Twice { path: path.to_owned(), key });
        }
    }
    Ok(values)
}

fn texts(path: &Path, setting: &Setting, value: Value) -> Result<Vec<OsString>, SettingsError> {
    let wrong = |expected, value: &Value| SettingsError::WrongType {
        path: path.to_owned(),
        key: setting.key.clone(),
        expected,
        found: described(value),
    };
    match value {
        Value::Boolean(_) if setting.is_switch() => Ok(vec![value.to_string().into()]),
        other if setting.is_switch() => Err(wrong("true or false", &other)),
        Value::Array(values) if setting.is_repeatable => {
            let scalars = values.into_iter().map(|value| {
                scalar(&value).ok_or_else(|| wrong("an array of strings, numbers or booleans", &value))
            });
            scalars.collect()
        }
        other => match scalar(&other) {
            Some(text) => Ok(vec![text]),
            None if setting.is_repeatable => Err(wrong("an array", &other)),
            None => Err(wrong("a string, a number or a boolean", &other)),
        },
    }
}

fn scalar(value: &Value) -> Option<OsString> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Some(value.to_string().into()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

fn described(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}

fn unknown(path: &Path, key: String, settings: &[Setting]) -> SettingsError {
    let nearest = settings
        .iter()
        .map(|setting| setting.key.as_str())
        .min_by_key(|known| edit_distance(&key.replace('_', "-"), known))
        .unwrap_or("none: this program has no settings");
    SettingsError::UnknownKey { path: path.to_owned(), nearest: nearest.to_owned(), key }
}

/// Levenshtein's distance, by the two-row method of Wagner and Fischer.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::edit_distance;

    #[test]
    fn the_edit_distance_counts_insertions_deletions_and_substitutions() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
