//! Values on the command line that are more than a word or a number.

pub(crate) mod ids;
pub(crate) mod location;
pub(crate) mod paths;
pub(crate) mod quantity;
pub(crate) mod window;
