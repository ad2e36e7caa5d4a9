//! `star-1:/data/photos`: a place on a Star.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::builder::{OsStringValueParser, TypedValueParser};
use orbit_proto::v1::Location;
use orbit_shared::entry::display_path;
use orbit_shared::words::{StarId, StarIdError};

/// Why a text is not a location.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LocationError {
    #[error("write STAR:/absolute/path, for example star-1:/data/photos")]
    NoStar,
    #[error("{0}; write STAR:/absolute/path, for example star-1:/data/photos")]
    BadStar(#[from] StarIdError),
    #[error("the path {path:?} is not absolute; write STAR:/absolute/path, for example star-1:/data/photos")]
    NotAbsolute { path: String },
}

/// Parses a location. A Star's name has no colon, so the first one ends it.
pub(crate) fn parse(text: &OsStr) -> Result<Location, LocationError> {
    let bytes = text.as_bytes();
    let colon = bytes.iter().position(|&byte| byte == b':').ok_or(LocationError::NoStar)?;
    let (star, path) = (&bytes[..colon], &bytes[colon + 1..]);
    let star_id = StarId::new(display_path(star))?;
    // A packed destination has no path: its vault is the place. The coordinator knows whether one is needed.
    if !path.is_empty() && !path.starts_with(b"/") {
        return Err(LocationError::NotAbsolute { path: display_path(path) });
    }
    Ok(location(star_id.into(), path))
}

/// A location from its parts. A path that is not UTF-8 travels as bytes.
pub(crate) fn location(star_id: String, path: &[u8]) -> Location {
    match std::str::from_utf8(path) {
        Ok(text) => Location { star_id, path: text.to_owned(), ..Location::default() },
        Err(_) => Location { star_id, raw_path: path.to_vec().into(), ..Location::default() },
    }
}

/// The location as it is written.
pub(crate) fn display(location: &Location) -> String {
    let path =
        if location.raw_path.is_empty() { location.path.clone() } else { display_path(&location.raw_path) };
    format!("{}:{path}", location.star_id)
}

/// For clap.
pub(crate) fn parser() -> impl TypedValueParser<Value = Location> {
    OsStringValueParser::new().try_map(|text: OsString| parse(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Location, LocationError> {
        parse(OsStr::new(text))
    }

    #[test]
    fn the_first_colon_ends_the_name_of_the_star() {
        let location = parse_text("star-1:/data/a:b").unwrap();
        assert_eq!((location.star_id.as_str(), location.path.as_str()), ("star-1", "/data/a:b"));
        assert_eq!(display(&location), "star-1:/data/a:b");
        assert_eq!(parse_text("vault:").unwrap().path, "");
    }

    #[test]
    fn a_path_that_is_not_text_travels_as_bytes() {
        let location = parse(OsStr::from_bytes(b"s:/a\xff")).unwrap();
        assert_eq!((location.path.as_str(), &location.raw_path[..]), ("", &b"/a\xff"[..]));
        assert_eq!(display(&location), "s:/a\\xff");
    }

    #[test]
    fn what_is_no_location_is_refused_with_an_example() {
        for text in ["", "/data", "star-1", ":/data", "st ar:/data", "star-1:data", "star/1:/data"] {
            let error = parse_text(text).unwrap_err();
            assert!(error.to_string().contains("star-1:/data/photos"), "{text:?}: {error}");
        }
    }
}
