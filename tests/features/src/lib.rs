//! Has no code. A build of the workspace chooses features for all members together, but leaves out what only tests use if it
//! builds no tests. This member uses the same, so `cargo build --workspace` and `cargo test --workspace` choose the same
//! features, and no crate is compiled twice. A test of `documents` compares them.
